"""Images and masks find each other by their names, or every problem is told at once."""

import os

import pytest

from minunet.data import DataError, find_images, pair


@pytest.fixture
def folders(tmp_path):
    """make(images, masks) -> two folders with empty files of these names."""

    def make(images, masks):
        for folder, names in (("images", images), ("masks", masks)):
            (tmp_path / folder).mkdir()
            for name in names:
                (tmp_path / folder / name).touch()
        return tmp_path / "images", tmp_path / "masks"

    return make


def test_find_images(folders):
    folder, _ = folders(["b.png", "a.TIF", "c.jpeg", ".hidden.png", "notes.txt", "d.npy"], [])
    (folder / "more").mkdir()
    (folder / "more.png").mkdir()
    (folder / ".cache").mkdir()
    assert [path.name for path in find_images(folder)] == ["a.TIF", "b.png", "c.jpeg", "d.npy"]
    assert find_images(folder / "b.png") == [folder / "b.png"]
    assert find_images(str(folder / "b.png")) == [folder / "b.png"]


def test_find_images_errors(folders):
    folder, empty = folders(["notes.txt"], [])
    with pytest.raises(DataError, match="masks: no image file in this folder"):
        find_images(empty)
    with pytest.raises(DataError, match=r"notes\.txt: not an image file; known are \.png"):
        find_images(folder / "notes.txt")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        find_images(folder / "nowhere")


def test_pair_by_stem(folders):
    images, masks = folders(["b.jpg", "a.1.png"], ["a.1.tif", "b.npy"])
    pairs = pair(images, masks)
    assert [entry.stem for entry in pairs] == ["a.1", "b"]
    assert pairs[1].image == images / "b.jpg" and pairs[1].mask == masks / "b.npy"


def test_mask_suffix(folders):
    images, masks = folders(["a.png", "b.png"], ["a_mask.png", "b_mask.png"])
    assert [entry.mask.name for entry in pair(images, masks, "_mask")] == [
        "a_mask.png",
        "b_mask.png",
    ]
    message = r"images/a\.png and b\.png: 2 images without a mask of the same name in .*masks, where all names end in "
    with pytest.raises(DataError, match=message + "_mask; give --mask-suffix _mask$"):
        pair(images, masks)
    with pytest.raises(DataError, match=message + "_mask; give --mask-suffix _mask$"):
        pair(images, masks, "_label")


def test_one_folder_for_both(folders):
    images, _ = folders(["a.png", "a_mask.png", "b.png", "b_mask.png"], [])
    assert [entry.stem for entry in pair(images, images, "_mask")] == ["a", "b"]


def test_every_problem_in_one_error(folders):
    images, masks = folders(
        ["a.png", "b.png", "b.tif", "lonely.png"], ["a.png", "b.png", "extra.png", "other.png"]
    )
    with pytest.raises(DataError) as caught:
        pair(images, masks)
    message = str(caught.value)
    assert message.startswith("3 faults in the data")
    assert "images/b.png and b.tif: images of the same stem; keep one" in message
    assert "images/lonely.png: 1 image without a mask of the same name in" in message
    assert "masks/extra.png and other.png: 2 masks without an image of the same name in" in message


def test_masks_without_the_suffix_are_told(folders):
    images, masks = folders(["a.png"], ["a_mask.png", "a.png"])
    with pytest.raises(DataError, match=r"masks/a\.png: 1 mask without an image"):
        pair(images, masks, "_mask")


def test_an_ending_that_no_mask_has_is_told(folders):
    images, masks = folders(["a.png", "b.png"], ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"where names are those of the images, .*; leave out --mask-suffix$"):
        pair(images, masks, "_mask")
    (masks / "a.png").rename(masks / "a_mask.png")
    with pytest.raises(DataError, match=r"(?s)images/b\.png: 1 image without .*masks/b\.png: 1 mask without an image"):
        pair(images, masks, "_mask")


@pytest.mark.parametrize("side, suffix", [("images", ""), ("masks", "_m")])
def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_told(folders, side, suffix):
    images, masks = folders(["a.png", "b.png", "c.png"], ["a_m.png", "b_m.png", "c_m.png"])
    place, what = (images, "image") if side == "images" else (masks, "mask")
    for name in "bc":
        (place / f"{name}{suffix}.png").unlink()
    (place / f"b{suffix}.png").mkdir()
    os.mkfifo(place / f"c{suffix}.png")
    (place / "more.png").mkdir()  # passed over: nothing is missing
    with pytest.raises(DataError) as caught:
        pair(images, masks, "_m")
    told = {fault.files: fault.found for fault in caught.value.faults}
    other = "_m" if side == "images" else ""
    assert told == {
        (place / f"b{suffix}.png",): f"a folder, where the {what} of b{other}.png should be",
        (place / f"c{suffix}.png",): f"no regular file, where the {what} of c{other}.png should be",
    }


def test_many_files_without_a_partner_are_counted(folders):
    images, masks = folders([f"{i:02}.png" for i in range(50)], ["a.png"])
    message = r"images/00\.png, 01\.png, 02\.png and 47 more: 50 images without a mask of the same name"
    with pytest.raises(DataError, match=message) as caught:
        pair(images, masks)
    assert "25.png" not in str(caught.value)
    assert len(caught.value.faults[0].files) == 50


@pytest.mark.parametrize(
    "images, masks, words",
    [
        (["a", "b"], ["a_seg", "b_seg"], "where all names end in _seg; give --mask-suffix _seg"),
        (["a"], ["a.ome"], "end in .ome; give --mask-suffix .ome"),
        (["a", "b", "c"], ["a m", "b m"], "give --mask-suffix ' m'"),
        (["a", "b"], ["a-m", "b-m"], "give --mask-suffix=-m"),
        (["a", "aa", "aaa"], ["aa", "aaa", "aaaa"], "1 image without a mask"),  # two of them pair: no ending
        (["a_img", "b_img"], ["a", "b"], "names lack the ending _img of the images; rename"),
        (["a", "b"], ["m_a", "m_b"], "names begin with m_ (the images' names lack that beginning); rename"),
        (["image01", "image02"], ["mask01", "mask02"], "names begin with mask (the images' names begin with image)"),
        (["A1", "B1"], ["a1", "b1"], "names differ in upper and lower case; rename"),
        (["x", "caf\u00e9"], ["x", "cafe\u0301"], "another way (Unicode: NFC in the images, NFD in the masks); rename"),
        (["z\u00e41", "z\u00e42"], ["za\u03081", "za\u03082"], "(Unicode: NFC in the images, NFD in the masks); ren"),
        (["za\u03081", "za\u03082"], ["z\u00e41"], "(Unicode: NFD in the images, NFC in the masks); rename"),
        (["z\u00e41"], ["za\u03081", "za\u03082"], "(Unicode: NFC in the images, NFD in the masks); rename"),
        (["z\u00e41", "z\u00e42"], ["za\u03081_x", "za\u03082_y"], "2 masks without an image"),
        (["cat", "dog"], ["tree", "house"], "2 images without a mask"),
        (["cat", "dog"], ["cat", "house", "dog2"], "2 masks without an image"),
    ],
)
def test_the_cause_is_named(folders, images, masks, words):
    images, masks = folders([f"{name}.png" for name in images], [f"{name}.png" for name in masks])
    with pytest.raises(DataError) as caught:
        pair(images, masks)
    assert words in str(caught.value)


def test_the_ending_that_is_proposed_pairs(folders):
    images, masks = folders(["a.png", "b.png", "ab.png"], ["a_m.png", "b_m.png", "ab_m.png"])
    with pytest.raises(DataError) as caught:
        pair(images, masks)
    assert len(pair(images, masks, str(caught.value).rpartition(" ")[2])) == 3


def test_one_folder_without_a_suffix_is_refused(folders):
    both, _ = folders(["a.png", "a_mask.png", "b.png", "b_mask.png"], [])
    with pytest.raises(DataError, match=r"images: the same folder for images and masks; give --mask-suffix _mask$"):
        pair(both, both)
    (both / "a_mask.png").unlink()
    with pytest.raises(DataError, match=r"give --mask-suffix, or a folder of masks$"):
        pair(both, both)


def test_a_broken_link_is_not_passed_over(folders):
    images, _ = folders(["a.png"], [])
    (images / "b.png").symlink_to(images / "gone.png")
    assert [path.name for path in find_images(images)] == ["a.png", "b.png"]


def test_both_missing_folders_are_told(folders):
    images, _ = folders([], [])
    with pytest.raises(DataError, match=r"(?s)2 faults.*nowhere: no such file or folder.*images: no image file"):
        pair(images / "nowhere", images)
