"""Touching cells are parted by background, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.data import separate_touching


def pairs_of_different_ids(labels):
    """Number of 8-neighbouring pixels with different non-zero ids, counted in plain loops."""
    height, width = labels.shape
    count = 0
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
                v, u = y + dy, x + dx
                if v < height and 0 <= u < width:
                    a, b = labels[y, x], labels[v, u]
                    count += a != b and a != 0 and b != 0
    return count


def test_the_larger_id_gives_way():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 3], [0, 0, 0, 3]], np.uint16)
    expected = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 0], [0, 0, 0, 3]], np.uint16)
    parted = separate_touching(labels)
    np.testing.assert_array_equal(parted, expected)
    assert parted.dtype == np.uint16


def test_cells_that_do_not_touch_are_unchanged():
    labels = np.array([[1, 0, 2], [1, 0, 2]], np.int32)
    parted = separate_touching(labels)
    np.testing.assert_array_equal(parted, labels)
    assert parted is not labels and not np.shares_memory(parted, labels)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(arrays(np.uint8, SIZES, elements=st.integers(0, 4)))
def test_any_labels(labels):
    before = labels.copy()
    parted = separate_touching(labels)
    np.testing.assert_array_equal(labels, before)
    assert pairs_of_different_ids(parted) == 0
    changed = parted != labels
    assert (parted[changed] == 0).all()
    # A pixel is erased exactly where an 8-neighbour has a smaller non-zero id.
    padded = np.pad(labels, 1).astype(int)
    for y, x in np.ndindex(labels.shape):
        near = padded[y : y + 3, x : x + 3]
        smaller = (near > 0) & (near < labels[y, x])
        assert changed[y, x] == smaller.any()


def test_only_planes():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        separate_touching(np.zeros((1, 2, 3), int))
