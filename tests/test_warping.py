"""Warping error: what borders may do and what they may not, drawn here."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.instances.components import components
from minunet.scores.warping import CIRCLE, SIMPLE, warp, warping_error


def drawn(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


def mistakes(found):
    return found.splits, found.mergers, found.deletions, found.additions, found.holes


def test_simple_points_by_definition():
    """Flipping the middle of 3 x 3 keeps the pieces of cell (sides) and of background (corners) apart and whole."""
    for bits in product((False, True), repeat=8):
        near = np.zeros((3, 3), bool)
        for bit, (dy, dx) in zip(bits, CIRCLE, strict=True):
            near[1 + dy, 1 + dx] = bit
        pieces, around = components(near), ~near
        around[1, 1] = False
        at_sides = {pieces[0, 1], pieces[1, 0], pieces[1, 2], pieces[2, 1]} - {0}
        simple = len(at_sides) == 1 and components(around, corners=True).max() == 1
        assert SIMPLE[sum(bit << k for k, bit in enumerate(bits))] == simple


CELL = drawn("        ", "  ####  ", "  ####  ", "  ####  ", "        ")


def test_borders_may_move():
    for other in (
        drawn("        ", "        ", "    #   ", "        ", "        "),
        drawn("########", "########", "########", "########", "########"),
        drawn("  #     ", "  ##### ", "####    ", "   #### ", "        "),
        np.roll(CELL, (1, 2), (0, 1)),
    ):
        found = warp(other, CELL)
        assert found.error == 0 and mistakes(found) == (0, 0, 0, 0, 0)
        np.testing.assert_array_equal(found.warped, other)
        assert not found.remaining.any()


def test_deleted_and_added_cells():
    nothing = np.zeros_like(CELL)
    # A cell shrinks to a pixel, and this last one cannot go.
    found = warp(nothing, CELL)
    assert found.error == 1 / 40 and mistakes(found) == (0, 0, 1, 0, 0)
    # All pixels of an added cell remain: none of them is simple in an image without a cell.
    found = warp(CELL, nothing)
    assert found.error == 12 / 40 and mistakes(found) == (0, 0, 0, 1, 0)
    assert warping_error(nothing, nothing) == 0


def test_a_split():
    # The truth is one cell; of the column that parts it in the prediction all but one pixel can go.
    found = warp(drawn("         ", " ### ### ", " ### ### ", " ### ### ", "         "),
                 drawn("         ", " ####### ", " ####### ", " ####### ", "         "))  # fmt: skip
    assert found.error == 1 / 45 and mistakes(found) == (1, 0, 0, 0, 0)
    assert found.remaining[:, 4].sum() == 1


def test_a_merger():
    apart = drawn("        ", " ### ###", " ### ###", " ### ###", "        ")
    joined = drawn("        ", " ### ###", " #######", " ### ###", "        ")
    found = warp(joined, apart)
    assert found.error == 1 / 40 and mistakes(found) == (0, 1, 0, 0, 0)
    # Three pixels that join, one mistake; none of the line can go, since it has cell at either side.
    found = warp(drawn("        ", " #######", " #######", " #######", "        "), apart)
    assert found.error == 3 / 40 and mistakes(found) == (0, 1, 0, 0, 0)


def test_holes():
    ring = drawn("         ", " ####### ", " #     # ", " #     # ", " #     # ", " ####### ", "         ")
    disk = drawn("         ", " ####### ", " ####### ", " ####### ", " ####### ", " ####### ", "         ")
    found = warp(ring, disk)  # all of a new hole remains: no pixel inside a cell is simple
    assert found.error == 15 / 63 and mistakes(found) == (0, 0, 0, 0, 1)
    found = warp(disk, ring)  # a hole shrinks to a pixel
    assert found.error == 1 / 63 and mistakes(found) == (0, 0, 0, 0, 1)


def test_corners_do_not_join_cells():
    """Cells hang together by sides: two that touch at a corner are two, and so they may come to lie."""
    apart = drawn("##    ", "##    ", "    ##", "    ##")
    touching = drawn("##    ", "##    ", "  ##  ", "  ##  ")
    assert warping_error(touching, apart) == 0
    assert warp(drawn("##    ", "##    ", " ###  ", "      "), apart).mergers == 1


def test_outside_is_background():
    full, open_at_border = np.ones((3, 5), bool), drawn("## ##", "## ##", "## ##")
    assert mistakes(warp(open_at_border, full)) == (1, 0, 0, 0, 0)
    assert warping_error(drawn("#####", "#### ", "###  "), full) == 0


def test_the_mask_bounds_the_warp():
    near = np.zeros_like(CELL)
    near[1:4, 1:7] = True
    grown = np.zeros_like(CELL)
    grown[1:4] = True
    found = warp(grown, CELL, near)  # columns 0 and 7 lie outside of the mask and do not count
    assert found.error == 0
    np.testing.assert_array_equal(found.warped, grown & near)
    assert warp(grown, CELL, np.zeros_like(CELL)).error == 0


MASKS = arrays(bool, st.tuples(st.integers(0, 7), st.integers(0, 7)))


@given(MASKS, st.data())
def test_topology_is_kept(truth, data):
    prediction = data.draw(arrays(bool, truth.shape))
    before = truth.copy()
    found = warp(prediction, truth)
    np.testing.assert_array_equal(truth, before)
    np.testing.assert_array_equal(found.remaining, found.warped != prediction)
    assert found.error == (np.count_nonzero(found.remaining) / truth.size if truth.size else 0)
    assert sum(mistakes(found)) == components(found.remaining & prediction, True).max(initial=0) + components(
        found.remaining & ~prediction, True
    ).max(initial=0)
    for mask in (truth, found.warped):
        assert components(mask).max(initial=0) == components(truth).max(initial=0)
    outside = [components(np.pad(~mask, 1, constant_values=True), corners=True).max() for mask in (truth, found.warped)]
    assert outside[0] == outside[1]
    # None of what remains is simple, or the warp would have gone on.
    padded = np.pad(found.warped, 1)
    for y, x in zip(*np.nonzero(found.remaining), strict=True):
        assert not SIMPLE[sum(int(padded[y + 1 + dy, x + 1 + dx]) << k for k, (dy, dx) in enumerate(CIRCLE))]


def test_values_are_cells_where_not_zero():
    assert warping_error(CELL * 255.0, CELL.astype(np.uint8) * 7) == 0


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\(5, 8\), \(8, 5\) and \(8, 5\)"):
        warp(CELL, CELL.T)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        warp(CELL[None], CELL[None])
    with pytest.raises(ValueError, match=r"and \(4, 8\)"):
        warp(CELL, CELL, CELL[1:])
