"""Markers of cells: the tree of the pieces of a map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.instances.components import components
from minunet.instances.label import label_instances
from minunet.instances.markers import tree_markers


def bumps(*centres, shape=(24, 40), radius=6.0, height=1.0):
    """A map with a round bump at each (row, column): `height` in its middle, falling to 0 at twice the radius."""
    rows, columns = np.indices(shape)
    each = [height * (1 - np.hypot(rows - r, columns - c) / (2 * radius)) for r, c in centres]
    return np.clip(np.max(each, axis=0), 0, 1)


def test_two_bumps_are_two_markers_and_one_is_one():
    assert tree_markers(bumps((12, 20))).max() == 1
    two = tree_markers(bumps((12, 12), (12, 26)), levels=(0.0, 0.5, 0.7))
    assert len(np.unique(two)) == 3
    assert two[12, 12] != two[12, 26] and two[12, 12] > 0 < two[12, 26]


def test_a_piece_falls_apart_only_into_pieces_of_some_size():
    p = np.full((9, 40), 0.6)
    p[2:7, 2:20] = 0.95
    p[3:5, 30:32] = 0.95  # 4 pixels of 360
    for share, size, count in ((0.01, 4, 2), (0.1, 4, 1), (0.01, 5, 1)):
        found = tree_markers(p, (0.0, 0.5, 0.9), share, size)
        assert len(np.unique(found)) == count + (found == 0).any(), (share, size)


def test_pieces_fall_apart_again():
    p = np.full((8, 60), 0.4)
    p[:, 2:28], p[:, 32:58] = 0.6, 0.6
    p[:, 3:13], p[:, 16:27] = 0.95, 0.95
    found = tree_markers(p, (0.0, 0.5, 0.9), 0.1, 5)
    assert found[4, 5] != found[4, 20] and found[4, 40] not in (found[4, 5], found[4, 20])
    assert len(np.unique(found)) == 4  # three markers and none
    # The piece on the right does not fall apart and is a marker as a whole.
    assert (found == found[4, 40]).sum() == 8 * 26


def by_the_tree(core, levels, share, size):
    """The same, piece by piece."""

    def leaves(piece, rest):
        for k, level in enumerate(rest):
            inside = components(piece & (core > level))
            large = [inside == i for i in range(1, inside.max(initial=0) + 1)]
            large = [one for one in large if one.sum() >= max(size, share * piece.sum())]
            if len(large) >= 2:
                return [leaf for one in large for leaf in leaves(one, rest[k + 1 :])]
        return [piece]

    pieces = components(core > levels[0])
    return [leaf for i in range(1, pieces.max(initial=0) + 1) for leaf in leaves(pieces == i, levels[1:])]


@given(
    arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(0, 9)), elements=st.sampled_from([0, 0.4, 0.6, 0.8])),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.integers(1, 4),
)
def test_against_plain_loops(core, share, size):
    levels = (0.0, 0.5, 0.7, 0.9)
    found = tree_markers(core, levels, share, size)
    expected = by_the_tree(core, levels, share, size)
    assert len(np.unique(found[found > 0])) == len(expected)
    for leaf in expected:
        label = found[leaf]
        assert (label == label[0]).all() and label[0] > 0
        assert (found == label[0]).sum() == leaf.sum()


def test_cells_behind_a_faint_bridge():
    p = bumps((12, 12), (12, 27), radius=7.0) ** 0.5
    assert label_instances(p, markers=0.0).max() == 1
    found = label_instances(p)
    assert found.max() == 2 and found[12, 12] != found[12, 27]
    assert (found > 0)[p > 0.5].all()


def test_masks_are_taken_as_they_are():
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    for mask in (ring, ring.astype(np.uint8)):
        assert label_instances(mask, min_size=1, fill_holes=False).max() == 1


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing(shape):
    assert tree_markers(np.zeros(shape)).shape == shape
