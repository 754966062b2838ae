"""The generated cells: repeatable, touching, and beyond any threshold."""

import time

import numpy as np
import pytest

from minunet.data import cells, from_arrays, separate_touching
from minunet.scores.metrics import baselines


def test_kinds_and_ids():
    images, labels = cells(6)
    assert len(images) == len(labels) == 6
    for image, mask in zip(images, labels, strict=True):
        assert image.shape == mask.shape == (128, 128)
        assert image.dtype == np.uint8 and mask.dtype == np.uint16
        np.testing.assert_array_equal(np.unique(mask), np.arange(mask.max() + 1))
        assert mask.max() >= 5


def test_deterministic_from_the_seed():
    images, labels = cells(3, size=64, seed=5)
    more, more_labels = cells(5, size=64, seed=5)
    for i in range(3):
        np.testing.assert_array_equal(images[i], more[i])
        np.testing.assert_array_equal(labels[i], more_labels[i])
    others, _ = cells(1, size=64, seed=6)
    assert (others[0] != images[0]).any() and (images[0] != images[1]).any()


def test_cells_touch():
    _, labels = cells(10)
    assert all((separate_touching(mask) != mask).any() for mask in labels)


@pytest.mark.parametrize("seed", range(4))
def test_no_threshold_finds_them(seed):
    dataset = from_arrays(*cells(50, seed=seed))
    assert dataset.coding.kind == "instances"
    found = baselines(dataset)
    assert 0.3 < found["Otsu"] < 0.55
    assert found["all background"] == 0


def test_light_is_uneven_by_more_than_the_contrast():
    images, labels = cells(50)
    contrast, light = [], []
    for image, mask in zip(images, labels, strict=True):
        background = np.where(mask == 0, image, np.nan)
        quarters = [background[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
        levels = [np.nanmedian(quarter) for quarter in quarters if np.isfinite(quarter).any()]
        light.append(max(levels) - min(levels))
        contrast.append(abs(np.median(image[mask > 0]) - np.nanmedian(background)))
    assert np.mean(light) > np.mean(contrast)


@pytest.mark.parametrize("size", [16, 33, 200])
def test_other_sizes(size):
    images, labels = cells(2, size=size)
    assert images[0].shape == labels[0].shape == (size, size)
    assert all(mask.max() > 0 for mask in labels)


def test_too_small():
    with pytest.raises(ValueError, match="at least 16 pixels, not 8"):
        cells(1, size=8)


def test_fast_enough():
    start = time.perf_counter()
    cells(16)
    assert time.perf_counter() - start < 5  # a quarter of a second where nothing else runs
