"""Batches: targets move with their images, and (seed, step) says everything."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from minunet.data import DataError, batch, from_arrays
from minunet.data.augment import reflect
from minunet.data.coding import Coding
from minunet.data.dataset import Dataset
from minunet.data.preprocessing import Preprocessing


def coordinate_set(*sizes):
    """Images whose value at a pixel is the target there: whatever moves, they must agree.

    The value also codes image and place: image * 10000 + row * 100 + column.
    """
    planes = [
        10000 * i + 100 * np.arange(h)[:, None] + np.arange(w) for i, (h, w) in enumerate(sizes)
    ]
    return Dataset(
        names=[f"image{i}" for i in range(len(sizes))],
        images=[p[None].astype(np.float32) for p in planes],
        targets=planes,
        truth=planes,
        raw=planes,
        coding=Coding("foreground"),
        preprocessing=Preprocessing(),
    )


def images_of(dataset, step, **options):
    """Which images are in the batch of a step."""
    _, target = batch(dataset, step, **options)
    return [int(t.flat[0]) // 10000 for t in target]


@pytest.mark.parametrize("crop", [(8, 8), (6, 10), (40, 40), (13, 12), None], ids=str)
@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("margin", [0, 2])
def test_targets_move_with_images(crop, augment, margin):
    dataset = coordinate_set((12, 12), (12, 12), (12, 12))
    for step in range(30):
        x, target = batch(
            dataset,
            step,
            seed=1,
            batch_size=2,
            crop=crop,
            augment=augment,
            output_margin=margin,
        )
        height, width = crop or (12, 12)
        assert x.shape == (2, 1, height, width) and x.dtype == np.float32
        assert target.shape == (2, height - 2 * margin, width - 2 * margin)
        assert target.dtype == np.int64
        assert x.flags.c_contiguous and target.flags.c_contiguous
        centre = x[:, 0, margin : height - margin, margin : width - margin]
        np.testing.assert_array_equal(centre, target)


def test_pure_function_of_seed_and_step():
    dataset = coordinate_set(*[(16, 16)] * 5)
    options = {"batch_size": 3, "crop": (8, 8)}
    forward = [batch(dataset, step, seed=4, **options) for step in range(6)]
    for step in reversed(range(6)):
        for one, other in zip(batch(dataset, step, seed=4, **options), forward[step], strict=True):
            np.testing.assert_array_equal(one, other)
    assert (batch(dataset, 0, seed=5, **options)[0] != forward[0][0]).any()
    assert (forward[1][0] != forward[0][0]).any()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 16])
def test_every_image_once_an_epoch(batch_size):
    dataset = coordinate_set(*[(6, 6)] * 7)
    order = []
    for step in range(-(-21 // batch_size)):
        order += images_of(dataset, step, seed=0, batch_size=batch_size, crop=(4, 4))
    epochs = [order[0:7], order[7:14], order[14:21]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_all_eight_symmetries_of_a_square():
    dataset = coordinate_set((5, 5))
    seen = {
        batch(dataset, step, seed=0, batch_size=1, crop=None)[0].tobytes() for step in range(200)
    }
    assert len(seen) == 8


def test_four_symmetries_of_an_oblong():
    dataset = coordinate_set((5, 6))
    seen = Counter(
        batch(dataset, step, seed=0, batch_size=1, crop=None)[0].tobytes() for step in range(200)
    )
    assert len(seen) == 4 and min(seen.values()) > 25


def test_crops_reach_every_place_alike():
    dataset = coordinate_set((10, 10))
    corners = Counter()
    for step in range(600):
        _, target = batch(dataset, step, seed=0, batch_size=1, crop=(8, 8), augment=False)
        corners[int(target[0, 0, 0])] += 1
    assert sorted(corners) == [0, 1, 2, 100, 101, 102, 200, 201, 202]
    assert min(corners.values()) > 40


def test_margin_lets_targets_reach_the_border():
    dataset = coordinate_set((12, 12))
    seen = np.zeros((12, 12), bool)
    for step in range(300):
        x, target = batch(
            dataset, step, seed=0, batch_size=1, crop=(10, 10), augment=False, output_margin=3
        )
        seen[np.divmod(target[0], 100)] = True
        top, left = divmod(int(target[0, 0, 0]), 100)
        padded = np.pad(dataset.targets[0], 3, mode="reflect")
        np.testing.assert_array_equal(x[0, 0], padded[top : top + 10, left : left + 10])
    assert seen.all()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_small_images_continue_by_reflection(size):
    dataset = coordinate_set((size, size))
    x, target = batch(dataset, 0, seed=0, batch_size=1, crop=(21, 21), augment=False)
    before = -((size - 21) // 2)
    expected = np.pad(dataset.targets[0], (before, 21 - size - before), mode="reflect")
    np.testing.assert_array_equal(target[0], expected)
    np.testing.assert_array_equal(x[0, 0], expected)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_reflect_is_numpys(size):
    np.testing.assert_array_equal(
        reflect(np.arange(-20, size + 20), size), np.pad(np.arange(size), 20, mode="reflect")
    )


def test_one_side_shorter_than_the_crop():
    dataset = coordinate_set((4, 30))
    x, target = batch(dataset, 3, seed=0, batch_size=2, crop=(8, 8))
    np.testing.assert_array_equal(x[:, 0], target)


def test_whole_images_of_different_sizes():
    dataset = coordinate_set((6, 6), (6, 8))
    with pytest.raises(DataError, match=r"image1 \(6, 8\), image0 \(6, 6\).*give --crop"):
        batch(dataset, 0, seed=0, batch_size=2, crop=None)
    assert batch(dataset, 0, seed=0, batch_size=1, crop=None)[0].shape[0] == 1
    assert batch(dataset, 0, seed=0, batch_size=2, crop=(4, 4))[0].shape == (2, 1, 4, 4)


def test_crop_smaller_than_the_margin():
    with pytest.raises(DataError, match=r"8x8 leaves nothing.*larger --crop"):
        batch(coordinate_set((20, 20)), 0, seed=0, batch_size=1, crop=(8, 8), output_margin=4)


def test_batches_are_copies():
    image = np.zeros((8, 8), np.uint8)
    image[2:4, 2:4] = 1
    dataset = from_arrays([image], [image])
    before = dataset.images[0].copy()
    for crop in (None, (8, 8)):
        x, target = batch(dataset, 0, seed=0, batch_size=1, crop=crop, augment=False)
        x += 1
        target += 1
    np.testing.assert_array_equal(dataset.images[0], before)
    assert dataset.targets[0].max() == 1


def test_flips_are_what_they_always_were():
    """The digest is that of batches before there were deformation and weights."""
    dataset, digest = coordinate_set((40, 40), (40, 40), (40, 40)), hashlib.sha256()
    for crop in ((24, 24), (16, 40), None):
        for margin in (0, 2):
            for augment in (True, False):
                for step in range(4):
                    x, target = batch(
                        dataset, step, seed=7, batch_size=2, crop=crop, augment=augment, output_margin=margin
                    )
                    digest.update(x.tobytes() + target.tobytes())
    assert digest.hexdigest() == "02030b49f5714c22a545bab802789db2efc46cef92cb73de66e93d8ddb522f87"
