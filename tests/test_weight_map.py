"""The weight map against the formula computed cell by cell, on label images made to break every shortcut."""

import time
import tracemalloc

import numpy as np
import pytest

from minunet.data import cells, separate_touching
from minunet.data.weight_map import weight_map

W0, SIGMA = 10.0, 5.0


def direct(labels, w0=W0, sigma=SIGMA, classes=(1, 1)):
    """The formula as it stands: the distance from every pixel to every cell, nothing cut off."""
    labels = np.asarray(labels)
    weights = np.where(labels == 0, *np.float32(classes))
    ids = np.unique(labels[labels != 0])
    if len(ids) < 2:
        return weights
    grid = np.indices(labels.shape).reshape(2, -1)
    nearest = [
        ((grid[:, :, None] - np.argwhere(labels == i).T[:, None]) ** 2).sum(0).min(1).reshape(labels.shape) for i in ids
    ]
    d1, d2 = np.sqrt(np.sort(nearest, axis=0)[:2])
    term = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    return weights + np.where(labels == 0, term, 0).astype(np.float32)


def specks(rng, shape):
    """Single pixels of many ids, most of them of disconnected cells."""
    return rng.integers(1, 12, shape) * (rng.random(shape) < rng.uniform(0, 0.2))


def boxes(rng, shape):
    """Boxes one over the other: nested, touching, cut into pieces, over the border, ids with gaps."""
    labels = np.zeros(shape, np.int64)
    for _ in range(rng.integers(1, 12)):
        top, left = (int(rng.integers(-4, side)) for side in shape)
        height, width = rng.integers(1, 12, 2)
        labels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = rng.integers(0, 40)
    return labels


def threads(rng, shape):
    """Long cells one pixel wide, straight and slanting."""
    labels = np.zeros(shape, np.int64)
    for i in range(1, rng.integers(2, 9)):
        start, end = rng.integers(0, shape), rng.integers(0, shape)
        steps = np.linspace(0, 1, 1 + int(abs(end - start).max()))[:, None]
        labels[tuple(np.rint(start + steps * (end - start)).astype(int).T)] = i
    return labels


def rings(rng, shape):
    """Cells around cells around cells."""
    distance = np.linalg.norm(np.indices(shape).T - rng.uniform(0, shape), axis=-1).T
    ring = (distance / rng.uniform(1, 4)).astype(int)
    return np.where(ring % 2 == rng.integers(2), 1 + ring % rng.integers(2, 9), 0)


def corners(rng, shape):
    """Few pixels, at the border or far apart."""
    labels = np.zeros(shape, np.int64)
    for _ in range(rng.integers(0, 5)):
        labels[rng.choice([0, shape[0] - 1]), rng.integers(shape[1])] = rng.integers(1, 4)
    return labels


KINDS = (specks, boxes, threads, rings, corners)
DTYPES = (np.uint8, np.int16, np.uint16, np.int64)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_formula_to_the_last_bit(kind):
    counted = 0
    for seed in range(120):
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        shape = tuple(rng.integers(1, 40, 2))
        labels = kind(rng, shape).astype(DTYPES[seed % len(DTYPES)])
        sigma = float(rng.choice([0.3, 1.0, 2.5, 5.0, 20.0]))
        w0, classes = float(rng.choice([0.5, 10.0, 1e4])), ((1, 1), (0, 1), (0.7, 3.3))[seed % 3]
        given = None if classes == (1, 1) else np.array(classes)
        weights = weight_map(labels, w0, sigma, given)
        assert weights.dtype == np.float32 and weights.shape == shape
        np.testing.assert_array_equal(weights, direct(labels, w0, sigma, classes), err_msg=f"seed {seed}")
        counted += len(np.unique(weights)) > 2
    assert counted > 40  # else the comparison was one of empty maps


def test_equals_the_formula_on_cells():
    for labels in cells(3, size=64, seed=1)[1]:
        parted = separate_touching(labels)
        np.testing.assert_array_equal(weight_map(parted), direct(parted))


def test_equals_the_distance_transform_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    labels = separate_touching(cells(1, size=200, seed=2)[1][0])[:, :150]
    every = [ndimage.distance_transform_edt(labels != i) for i in np.unique(labels)[1:]]
    d1, d2 = np.sort(every, axis=0)[:2]
    term = np.where(labels == 0, W0 * np.exp(-((d1 + d2) ** 2) / (2 * SIGMA**2)), 0)
    np.testing.assert_allclose(weight_map(labels), 1 + term, rtol=1e-6)


def test_the_cut_where_the_term_no_longer_counts():
    """Two cells ever further apart: the sum changes until exactly the distance at which the formula's does."""
    for classes in ((1, 1), (0, 1), (1e-3, 1), (300, 1)):
        for sigma in (1.0, 5.0):
            differing = 0
            for gap in range(1, 100):
                labels = np.zeros((3, gap + 2), np.uint8)
                labels[1, 0], labels[1, -1] = 1, 2
                weights = weight_map(labels, sigma=sigma, class_weight=classes)
                np.testing.assert_array_equal(weights, direct(labels, sigma=sigma, classes=classes))
                differing += (weights[labels == 0] != np.float32(classes[0])).any()
            assert 0 < differing < 99


def test_values_of_the_paper():
    labels = np.array([[1, 0, 2]])
    assert weight_map(labels)[0] == pytest.approx([1, 1 + 9.231, 1], abs=1e-3)
    labels = np.array([[1] + 9 * [0] + [2]])  # d1 + d2 = 10 all the way
    assert weight_map(labels)[0, 1:-1] == pytest.approx(1 + 1.353, abs=1e-3)
    assert weight_map(labels, w0=2, sigma=1e3)[0, 4] == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("labels", [np.zeros((4, 5), int), np.ones((4, 5), bool), np.eye(6, dtype=np.uint8)])
def test_fewer_than_two_cells_have_no_border(labels):
    assert (weight_map(labels) == 1).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)])
def test_images_of_hardly_a_pixel(shape):
    for balance in (None, "balanced"):
        weights = weight_map(np.zeros(shape, np.uint8), class_weight=balance)
        assert weights.shape == shape and weights.dtype == np.float32 and (weights == 1).all()


def test_ids_are_only_names():
    small = boxes(np.random.default_rng(3), (30, 31))
    names = np.arange(41, dtype=np.uint64) * np.uint64(2**58 + 7)  # they differ in the last bits of a float64
    assert len(np.unique(names)) == 41 and names[0] == 0
    np.testing.assert_array_equal(weight_map(names[small]), weight_map(small))
    np.testing.assert_array_equal(weight_map(-small), weight_map(small))


def test_views_and_orders_and_the_argument_unchanged():
    labels = boxes(np.random.default_rng(4), (40, 50))
    before = labels.copy()
    for view in (labels.T, labels[::2, ::-1], np.asfortranarray(labels)):
        np.testing.assert_array_equal(weight_map(view), direct(view))
    np.testing.assert_array_equal(labels, before)


def test_many_rows_and_many_columns():
    """Wider and higher than what is worked on at once."""
    rng = np.random.default_rng(5)
    labels = rng.integers(1, 1000, (700, 300)) * (rng.random((700, 300)) < 0.01)
    whole = weight_map(labels)
    np.testing.assert_array_equal(weight_map(labels.T).T, whole)
    inner = np.s_[100:120, 100:120]  # nothing further than 32 pixels counts
    np.testing.assert_array_equal(whole[inner], direct(labels[60:160, 60:160])[40:60, 40:60])


def test_class_weights():
    labels = np.array([[0, 0, 0, 5], [0, 0, 0, 5]])
    given = weight_map(labels, class_weight=(0.25, 4))
    np.testing.assert_array_equal(given, np.where(labels == 0, 0.25, 4))
    balanced = weight_map(labels, class_weight="balanced")
    np.testing.assert_allclose(balanced, np.where(labels == 0, 8 / (2 * 6), 8 / (2 * 2)), rtol=1e-6)
    for one_class in (labels[:, :3], labels[:, 3:]):
        assert (weight_map(one_class, class_weight="balanced") == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": np.zeros((1, 2, 3), int)}, r"must be \(H, W\), not of shape \(1, 2, 3\)"),
        ({"labels": np.zeros((2, 3))}, "must be integers, not float64"),
        ({"w0": -1.0}, "w0 must be a number from 0 up, not -1.0"),
        ({"sigma": 0.0}, "sigma must be a positive number of pixels, not 0.0"),
        ({"sigma": np.nan}, "sigma must be a positive"),
        ({"class_weight": "frequency"}, "None, \"balanced\" or two numbers, not 'frequency'"),
        ({"class_weight": [1, 2, 3]}, "two finite numbers"),
        ({"class_weight": [1, -2]}, "two finite numbers"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        weight_map(**({"labels": np.zeros((2, 3), int)} | arguments))


def test_a_thousand_cells_in_seconds_and_in_little_memory():
    side, pitch = 1024, 32
    y, x = np.indices((side, side)) % pitch - pitch // 2
    ids = np.arange((side // pitch) ** 2).reshape(side // pitch, -1).repeat(pitch, 0).repeat(pitch, 1) + 1
    labels = separate_touching(ids * (np.hypot(y, x) < 17)).astype(np.uint16)
    assert len(np.unique(labels)) == 1025
    start = time.process_time()
    weight_map(labels)
    assert time.process_time() - start < 4  # it takes about 0.3
    few = np.where(labels < 3, labels, 0)
    peaks = []
    for image in (labels, few):
        tracemalloc.start()
        weight_map(image)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 24 * side**2  # bytes; a distance image for every cell would be 4,000 a pixel
