"""Connected components and growth, against loops over pixels and against SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.instances.components import components
from minunet.instances.growth import grow

SIZES = st.tuples(st.integers(0, 9), st.integers(0, 9))
MASKS = arrays(bool, SIZES)


def flooded(mask, corners):
    """Components by flooding from each pixel in reading order."""
    labels, count = np.zeros(mask.shape, np.int32), 0
    near = [(0, 1), (1, 0), (0, -1), (-1, 0)] + [(1, 1), (1, -1), (-1, 1), (-1, -1)] * corners
    for start in zip(*np.nonzero(mask), strict=True):
        if labels[start]:
            continue
        count += 1
        stack = [start]
        while stack:
            y, x = stack.pop()
            if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not labels[y, x]:
                labels[y, x] = count
                stack += [(y + dy, x + dx) for dy, dx in near]
    return labels


@given(MASKS, st.booleans())
def test_any_mask(mask, corners):
    labels = components(mask, corners)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, flooded(mask, corners))


@pytest.mark.parametrize("corners", [False, True])
def test_a_large_mask_as_scipy_has_it(corners):
    ndimage = pytest.importorskip("scipy.ndimage", reason="SciPy is not installed")
    mask = np.random.default_rng(0).random((300, 401)) < 0.55
    expected, _ = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    np.testing.assert_array_equal(components(mask, corners), expected)


def test_a_comb_is_one_piece():
    """Teeth that meet in the last row only: every run but one has to be renamed."""
    comb = np.zeros((65, 129), np.uint8)
    comb[:, ::2] = comb[-1] = 255
    assert components(comb).max() == 1
    assert components(comb[:-1]).max() == 65


def test_components_of_planes_only():
    with pytest.raises(ValueError, match=r"\(H, W\), not of shape \(1, 2, 3\)"):
        components(np.zeros((1, 2, 3)))


def rings(labels, into, steps):
    """Growth pixel by pixel: in each ring a pixel takes the smallest label at its sides."""
    labels = labels.copy()
    while steps != 0:
        padded, ring = np.pad(labels, 1), {}
        for y, x in zip(*np.nonzero(into & (labels == 0)), strict=True):
            near = [v for v in (padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]) if v]
            if near:
                ring[y, x] = min(near)
        if not ring:
            break
        for place, label in ring.items():
            labels[place] = label
        steps = None if steps is None else steps - 1
    return labels


@given(arrays(np.uint16, (7, 8), elements=st.sampled_from([0, 0, 0, 0, 1, 2, 900])), st.data())
def test_growth(labels, data):
    into = data.draw(arrays(bool, (7, 8)))
    before = labels.copy()
    for steps in (0, 1, 2, None):
        grown = grow(labels, into, steps)
        assert grown.dtype == np.uint16
        np.testing.assert_array_equal(grown, rings(labels, into, steps))
    np.testing.assert_array_equal(labels, before)


def test_growth_is_stopped_by_what_it_may_not_enter():
    labels = np.array([[1, 0, 0, 0, 2]])
    into = np.array([[1, 1, 0, 1, 1]])
    assert grow(labels, into).tolist() == [[1, 1, 0, 2, 2]]
    assert grow(labels, np.ones_like(into)).tolist() == [[1, 1, 1, 2, 2]]  # the middle is as near to both


def test_dams_between_labels():
    everywhere = np.ones((3, 7), bool)
    odd = np.zeros((3, 7), int)
    odd[:, 0], odd[:, 6] = 1, 2
    assert grow(odd, everywhere, dams=True).tolist() == [[1, 1, 1, 0, 2, 2, 2]] * 3
    even = np.zeros((3, 6), int)
    even[:, 0], even[:, 5] = 1, 2  # the two middle columns are reached at once: that of the larger label gives way
    assert grow(even, everywhere[:, :6], dams=True).tolist() == [[1, 1, 1, 0, 2, 2]] * 3


def test_nothing_grows_through_a_dam():
    """Labels 1 and 2 meet above a shaft, from whose bottom label 3 comes later, and has all of it."""
    shaft = np.zeros((7, 5), int)
    shaft[0], shaft[:, 2] = 1, 1
    labels = np.zeros((7, 5), int)
    labels[0, 0], labels[0, 4], labels[6, 2] = 1, 2, 3
    grown = grow(labels, shaft, dams=True)
    assert grown[0].tolist() == [1, 1, 0, 2, 2]
    assert grown[1:, 2].tolist() == [3] * 6


@given(MASKS)
def test_dams_part_all_labels(mask):
    labels = components(mask)
    grown = grow(labels, labels == 0, dams=True)
    assert (grown[mask] == labels[mask]).all()
    for here, there in ((grown[:-1], grown[1:]), (grown[:, :-1], grown[:, 1:])):
        assert not ((here != there) & (here > 0) & (there > 0)).any()
    if labels.any():  # a dam is where labels meet, so each lies beside two of them or beside another dam
        padded = np.pad(grown, 1)
        for y, x in zip(*np.nonzero(grown == 0), strict=True):
            near = [padded[y, x + 1], padded[y + 2, x + 1], padded[y + 1, x], padded[y + 1, x + 2]]
            assert len({v for v in near if v}) > 1 or 0 in near


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\) cannot grow in a mask of shape \(3, 2\)"):
        grow(np.zeros((2, 3), int), np.ones((3, 2)))
