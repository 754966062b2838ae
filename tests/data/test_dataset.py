"""From folders and arrays to a data set."""

import numpy as np
import pytest

from minunet.data import (
    Coding,
    DataError,
    Preprocessing,
    cells,
    from_arrays,
    load_folder,
    separate_touching,
)


@pytest.fixture
def generated():
    return cells(5, size=48, seed=3)


def write_set(folder, images, masks):
    for name, arrays in (("images", images), ("masks", masks)):
        (folder / name).mkdir()
        for i, array in enumerate(arrays):
            np.save(folder / name / f"cell{i}.npy", array)
    return folder / "images", folder / "masks"


def test_from_arrays(generated):
    images, labels = generated
    dataset = from_arrays(images, labels)
    assert len(dataset) == 5 and dataset.channels == 1
    assert dataset.coding == Coding("instances")
    assert dataset.preprocessing == Preprocessing(1, "standardize")
    for i in range(5):
        assert dataset.images[i].shape == (1, 48, 48) and dataset.images[i].dtype == np.float32
        np.testing.assert_array_equal(dataset.truth[i], labels[i] > 0)
        np.testing.assert_array_equal(dataset.targets[i], separate_touching(labels[i]) > 0)
        np.testing.assert_array_equal(dataset.raw[i], images[i])
    assert any((t != g).any() for t, g in zip(dataset.targets, dataset.truth, strict=True))


def test_load_folder_is_from_arrays(tmp_path, generated):
    dataset = load_folder(*write_set(tmp_path, *generated))
    same = from_arrays(*generated)
    assert dataset.names == [f"cell{i}" for i in range(5)]
    assert dataset.coding == same.coding
    for one, other in zip(dataset.images, same.images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_png_folders(tmp_path, generated):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    from minunet.data import write_image

    for name, arrays in zip(("images", "masks"), generated, strict=True):
        (tmp_path / name).mkdir()
        for i, array in enumerate(arrays):
            write_image(tmp_path / name / f"{i}.png", array)
    dataset = load_folder(tmp_path / "images", tmp_path / "masks")
    np.testing.assert_array_equal(dataset.truth[4], from_arrays(*generated).truth[4])


def test_real_mixed_set_has_three_channels(shared_data):
    folder = shared_data / "dsb2018_mixed"
    dataset = load_folder(folder / "images", folder / "labels")
    assert dataset.channels == 3 and len(dataset) == 50
    assert all(
        image.shape[1:] == target.shape
        for image, target in zip(dataset.images, dataset.targets, strict=True)
    )


def test_binary_targets_are_the_truth():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    dataset = from_arrays([mask], [mask])
    assert dataset.coding == Coding("binary", (0, 255))
    np.testing.assert_array_equal(dataset.targets[0], mask // 255)


def test_a_models_coding_and_preprocessing_are_kept(generated):
    images, labels = generated
    preprocessing = Preprocessing(3, "none")
    empty = [np.zeros_like(mask) for mask in labels]
    dataset = from_arrays(images, empty, Coding("instances"), preprocessing)
    assert dataset.coding == Coding("instances") and dataset.channels == 3
    with pytest.raises(DataError, match="everywhere"):
        from_arrays(images, empty)


def test_split_is_by_seed(generated):
    dataset = from_arrays(*generated)
    train, validation = dataset.split(0.4, seed=7)
    assert len(train) == 3 and len(validation) == 2
    assert sorted(train.names + validation.names) == dataset.names
    again, _ = dataset.split(0.4, seed=7)
    assert again.names == train.names
    assert len({tuple(dataset.split(0.4, seed=s)[1].names) for s in range(20)}) > 5


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 2), (0.99, 4)])
def test_both_sides_of_a_split_hold_an_image(generated, share, expected):
    train, validation = from_arrays(*generated).split(share)
    assert len(validation) == expected and len(train) == 5 - expected


def test_split_errors(generated):
    dataset = from_arrays(*generated)
    with pytest.raises(DataError, match="at least two"):
        dataset.subset([0]).split()
    with pytest.raises(ValueError, match="between 0 and 1"):
        dataset.split(1.0)


def test_subset_keeps_entries_together(generated):
    dataset = from_arrays(*generated)
    part = dataset.subset([3, 1])
    assert part.names == [dataset.names[3], dataset.names[1]]
    assert part.images[0] is dataset.images[3] and part.truth[1] is dataset.truth[1]


def test_errors_name_the_file(tmp_path, generated):
    images, masks = generated
    folders = write_set(tmp_path, images, masks)
    np.save(folders[0] / "cell2.npy", np.zeros((48, 40), np.uint8))
    with pytest.raises(DataError, match=r"images/cell2\.npy and .*masks/cell2\.npy: .* 48x40 but the mask is 48x48"):
        load_folder(*folders)
    np.save(folders[0] / "cell2.npy", np.zeros((48, 48, 7), np.uint8))
    with pytest.raises(DataError, match=r"images/cell2\.npy: shape \(48, 48, 7\)"):
        load_folder(*folders)
    np.save(folders[0] / "cell2.npy", images[2])
    np.save(folders[1] / "cell2.npy", np.full((48, 48), 0.5))
    with pytest.raises(DataError, match=r"masks/cell2\.npy: values between whole numbers"):
        load_folder(*folders)


def test_unequal_numbers():
    with pytest.raises(DataError, match="1 images but 0 masks"):
        from_arrays([np.zeros((4, 4))], [])


def test_one_name_an_image(generated):
    with pytest.raises(DataError, match="5 images but 1 names"):
        from_arrays(*generated, names=["a"])
