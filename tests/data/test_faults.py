"""Every fault of a data set at once, and the pairs that are good all the same."""

from pathlib import Path

import numpy as np
import pytest

from minunet.data import DataError, Fault, Faults, from_arrays, load_folder, page_names, read_pairs

SCENE = np.random.default_rng(0).integers(0, 200, (12, 10), dtype=np.uint8)
MASK = np.zeros((12, 10), np.uint8)
MASK[3:7, 2:6] = 255


@pytest.fixture
def folders(tmp_path):
    """Six good pairs, a.npy ... f.npy."""
    for folder, array in (("images", SCENE), ("masks", MASK)):
        (tmp_path / folder).mkdir()
        for name in "abcdef":
            np.save(tmp_path / folder / f"{name}.npy", array)
    return tmp_path / "images", tmp_path / "masks"


@pytest.fixture
def spoilt(folders):
    """One fault of each kind; e and f are good."""
    images, masks = folders
    (images / "a.npy").write_bytes(b"no array")
    np.save(images / "b.npy", SCENE[:, :7])
    np.save(images / "c.npy", np.full(SCENE.shape, np.nan))
    np.save(masks / "c.npy", MASK / 2)
    (masks / "d.npy").unlink()
    return folders


def test_every_fault_is_told_at_once(spoilt):
    images, masks = spoilt
    with pytest.raises(DataError) as caught:
        load_folder(images, masks)
    told = {fault.files: fault for fault in caught.value.faults}
    assert set(told) == {
        (images / "a.npy",),
        (images / "b.npy", masks / "b.npy"),
        (images / "c.npy",),
        (images / "d.npy",),
    }
    assert all(fault.found and fault.remedy for fault in told.values())
    heading, *lines = str(caught.value).splitlines()
    assert heading.startswith("4 faults in the data")
    assert lines == [f"  {fault}" for fault in caught.value.faults]


def test_both_files_of_a_pair_are_looked_at(spoilt):
    images, masks = spoilt
    (masks / "a.npy").write_bytes(b"")
    files = [fault.files for fault in read_pairs(images, masks).faults]
    assert (images / "a.npy",) in files and (masks / "a.npy",) in files


def test_the_good_pairs_are_read(spoilt):
    images, masks = spoilt
    reading = read_pairs(images, masks)
    assert reading.names == ["e", "f"]
    assert reading.files == [(images / f"{name}.npy", masks / f"{name}.npy") for name in "ef"]
    assert reading.shown == [(str(image), str(mask)) for image, mask in reading.files]
    assert len(reading.faults) == 4
    for image, mask in zip(reading.images, reading.masks, strict=True):
        np.testing.assert_array_equal(image, SCENE)
        np.testing.assert_array_equal(mask, MASK)


def test_a_sound_set_has_no_faults(folders):
    reading = read_pairs(*folders)
    assert len(reading.names) == 6 and not reading.faults
    reading.faults.raise_any()


def test_folders_that_are_not_there_are_faults(tmp_path):
    reading = read_pairs(tmp_path / "one", tmp_path / "other")
    assert [fault.files for fault in reading.faults] == [(tmp_path / "one",), (tmp_path / "other",)]
    assert reading.names == []


def test_what_is_said_of_an_incomplete_set_is_sure(folders):
    """That all masks which could be read are empty is none of its faults; a mask's own value is."""
    images, masks = folders
    for name in "bcdef":
        np.save(masks / f"{name}.npy", MASK * 0)
    (masks / "a.npy").write_bytes(b"no array")
    with pytest.raises(DataError) as caught:
        load_folder(images, masks)
    assert [fault.files for fault in caught.value.faults] == [(masks / "a.npy",)]
    np.save(masks / "b.npy", MASK // 255)
    for name in "cdef":
        np.save(masks / f"{name}.npy", MASK)
    with pytest.raises(DataError) as caught:
        load_folder(images, masks)
    assert [fault.files for fault in caught.value.faults] == [(masks / "a.npy",), (masks / "b.npy",)]


def test_arrays_too():
    images = [SCENE, SCENE, np.ones((12, 10, 7)), SCENE]
    masks = [MASK, MASK[:5], MASK, MASK / 2]
    with pytest.raises(DataError) as caught:
        from_arrays(images, masks, names=["w", "x", "y", "z"])
    files = [tuple(map(str, fault.files)) for fault in caught.value.faults]
    assert files == [("x", "mask of x"), ("y",), ("mask of z",)]


def test_an_unknown_value_of_every_mask_is_told(folders):
    images, masks = folders
    coding = load_folder(images, masks).coding
    for name in "bd":
        np.save(masks / f"{name}.npy", MASK // 2)
    with pytest.raises(DataError, match=r"(?s)2 faults.*b\.npy: value 127.*d\.npy: value 127"):
        load_folder(images, masks, target=coding)


# -------------------------------------------------------------------------------------- stacks


def write_stack(path, pages):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    tifffile.imwrite(path, np.stack(pages), photometric="minisblack")


def test_stacks_beside_single_files(folders):
    images, masks = folders
    write_stack(images / "cells.tif", [SCENE, SCENE + 1, SCENE + 2])
    write_stack(masks / "cells.tiff", [MASK, MASK[::-1], MASK * 0])
    dataset = load_folder(images, masks)
    assert dataset.names == ["a", "b", "c", "cells_p001", "cells_p002", "cells_p003", "d", "e", "f"]
    np.testing.assert_array_equal(dataset.raw[4], SCENE + 1)
    np.testing.assert_array_equal(dataset.truth[4], MASK[::-1] > 0)
    assert read_pairs(images, masks).shown[4][1] == f"{masks / 'cells.tiff'} page 2"


@pytest.mark.parametrize("pages", [(3, 2), (3, 1), (1, 2)])
def test_stacks_of_different_length(folders, pages):
    images, masks = folders
    write_stack(images / "cells.tif", [SCENE] * pages[0])
    write_stack(masks / "cells.tif", [MASK] * pages[1])
    (fault,) = read_pairs(images, masks).faults
    assert fault.files == (images / "cells.tif", masks / "cells.tif")
    number = ["", "1 page", "2 pages", "3 pages"]
    assert fault.found == f"{number[pages[0]]} of images but {number[pages[1]]} of masks"


def test_pages_have_one_name_everywhere():
    assert page_names("cells", 1) == ("cells",)
    assert page_names("cells", 8)[6] == "cells_p007"
    names = page_names("cells", 1200)
    assert names[6] == "cells_p0007" and list(names) == sorted(names)  # as folders list them


def test_a_page_and_a_file_of_one_name_are_refused(folders):
    images, masks = folders
    write_stack(images / "c.tif", [SCENE, SCENE])
    write_stack(masks / "c.tif", [MASK, MASK])
    for folder, array in ((images, SCENE), (masks, MASK)):
        (folder / "c.npy").unlink()
        np.save(folder / "c_p002.npy", array)
    with pytest.raises(DataError) as caught:
        load_folder(images, masks)
    assert str(caught.value) == (
        f"{images / 'c.tif'} and c_p002.npy: both hold an image called c_p002; rename one of them, and its mask"
    )
    reading = read_pairs(images, masks)
    assert len(set(reading.names)) == len(reading.names) and "c_p002" in reading.names


def test_a_wrong_page_is_named_and_the_others_are_read(folders):
    images, masks = folders
    write_stack(images / "cells.tif", [SCENE] * 3)
    write_stack(masks / "cells.tif", [m.astype(np.float32) for m in (MASK, MASK / 2, MASK)])
    reading = read_pairs(images, masks)
    (fault,) = reading.faults
    assert str(fault.files[0]) == f"{masks / 'cells.tif'} page 2"
    assert [name for name in reading.names if "cells" in name] == ["cells_p001", "cells_p003"]


# ---------------------------------------------------------------------------------- as text


def test_a_fault_as_text():
    one, two = Path("masks/a.png"), Path("masks/b.png")
    assert str(Fault((one,), "holds NaN", "replace it")) == "masks/a.png: holds NaN; replace it"
    assert str(Fault((), "nothing", "")) == "nothing"
    assert str(Fault((one, two), "x", "y")) == "masks/a.png and b.png: x; y"
    assert str(Fault((one, Path("images/a.png")), "x", "y")) == "masks/a.png and images/a.png: x; y"
    many = tuple(Path(f"m/{i}.png") for i in range(9))
    assert str(Fault(many, "x", "y")) == "m/0.png, 1.png, 2.png and 6 more: x; y"


def test_many_faults_are_cut_short():
    faults = [Fault((Path(f"{i}.png"),), "x", "y") for i in range(25)]
    lines = str(DataError(faults)).splitlines()
    assert len(lines) == 22 and lines[0].startswith("25 faults")
    assert lines[20] == "  19.png: x; y" and lines[21] == "  and 5 more"
    assert len(DataError(faults).faults) == 25


def test_catching_names_the_file_where_the_error_does_not():
    faults = Faults()
    with faults.catching("a.png"):
        raise DataError("too small; give a larger one")
    with faults.catching("a.png"):
        raise DataError([Fault((Path("b.png"),), "x", "y")])
    with pytest.raises(ZeroDivisionError), faults.catching("a.png"):
        raise ZeroDivisionError
    assert faults == [Fault((Path("a.png"),), "too small", "give a larger one"), Fault((Path("b.png"),), "x", "y")]
