"""Boundary F1 against counts by hand and against distances between all pairs of pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.scores.boundaries import boundary, boundary_f1, within


def square(top, left, side, shape=(12, 12)):
    mask = np.zeros(shape, np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


def test_boundary():
    outline = np.zeros((6, 6), bool)
    outline[1:5, 1:5] = True
    outline[2:4, 2:4] = False
    np.testing.assert_array_equal(boundary(square(1, 1, 4, (6, 6))), outline)
    # Where a cell ends with the image it has no boundary; touching cells have one each.
    assert boundary(np.array([[3, 3, 3, 5, 5, 5]])).tolist() == [[False, False, True, True, False, False]]
    assert boundary(np.array([[1, 1, 1, 0, 0]])).tolist() == [[False, False, True, False, False]]
    assert not boundary(np.ones((3, 3))).any()


def test_a_shift_by_one():
    a, b = square(2, 2, 5), square(2, 3, 5)
    # 16 pixels each. Upper and lower row share 4 of 5 pixels, and of b's left column only its corners lie in a's rows.
    assert boundary_f1(b, a, 0) == pytest.approx(8 / 16)
    assert boundary_f1(b, a, 1) == 1
    assert boundary_f1(a, a, 0) == 1


def test_precision_and_recall():
    a = square(1, 1, 4)
    both = a + square(7, 7, 4)
    # Half of the predicted boundary is right, all of the true one is found.
    assert boundary_f1(both, a, 0) == boundary_f1(a, both, 0) == pytest.approx(2 * 0.5 / 1.5)
    assert boundary_f1(square(1, 1, 3), square(8, 8, 3), 2) == 0


def test_the_tolerance_is_a_euclidean_distance():
    dot = np.zeros((7, 7), bool)
    dot[3, 3] = True
    for distance, count in ((0, 1), (0.99, 1), (1, 5), (1.4, 5), (1.5, 9), (2, 13), (2.5, 21), (100, 49), (np.inf, 49)):
        assert np.count_nonzero(within(dot, distance)) == count


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))), st.floats(0, 9))
def test_distances_of_all_pairs(mask, distance):
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    near = np.zeros_like(mask)
    for v, u in zip(*np.nonzero(mask), strict=True):
        near |= (y - v) ** 2 + (x - u) ** 2 <= distance**2
    np.testing.assert_array_equal(within(mask, distance), near)


def test_distances_as_scipy_has_them():
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    mask = np.random.default_rng(0).random((90, 130)) < 0.004
    far = ndimage.distance_transform_edt(~mask)
    for distance in (1, 3, 7.3, 25):
        np.testing.assert_array_equal(within(mask, distance), far <= distance)


def test_no_boundary():
    nothing, cell = np.zeros((12, 12)), square(3, 3, 4)
    assert boundary_f1(nothing, nothing) == 1
    assert boundary_f1(nothing, cell) == boundary_f1(cell, nothing) == 0
    assert boundary_f1(nothing + 1, nothing) == 1  # all is cell, or none: neither has a boundary
    assert boundary_f1(nothing[:0], nothing[:0]) == 1


def test_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for a truth of \(3, 2\)"):
        boundary_f1(np.zeros((2, 3)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        boundary(np.zeros((1, 2, 3)))
    for tolerance in (-1, float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            boundary_f1(np.zeros((2, 3)), np.zeros((2, 3)), tolerance)
