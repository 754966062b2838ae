"""Images and masks find each other by their names, or every problem is told at once."""

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
    message = r"2 images without a mask: a\.png, b\.png.*--mask-suffix"
    with pytest.raises(DataError, match=message):
        pair(images, masks)


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
    assert "images of the same stem: b.png and b.tif" in message
    assert "1 images without a mask: lonely.png" in message
    assert "2 masks without an image: extra.png, other.png" in message


def test_masks_without_the_suffix_are_told(folders):
    images, masks = folders(["a.png"], ["a_mask.png", "a.png"])
    with pytest.raises(DataError, match=r"1 masks without an image: a\.png"):
        pair(images, masks, "_mask")


def test_many_files_without_a_partner_are_counted(folders):
    images, masks = folders([f"{i:02}.png" for i in range(50)], ["a.png"])
    with pytest.raises(DataError, match=r"50 images without a mask: 00\.png, .*\.\.\., 49\.png; 1 masks") as caught:
        pair(images, masks)
    assert "25.png" not in str(caught.value)
