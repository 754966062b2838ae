"""Cells from probabilities: on pictures small enough to be drawn here, and on generated cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minunet as mn
from minunet.data import cells, separate_touching
from minunet.instances.label import in_reading_order, label_instances
from minunet.scores.matching import average_precision

LEVELS = {" ": 0.0, ".": 0.2, "o": 0.6, "#": 1.0}


def drawn(*rows):
    """Probabilities (H, W): blank 0, . 0.2, o 0.6, # 1."""
    return np.array([[LEVELS[c] for c in row] for row in rows])


def numbers(*rows):
    return [[int(c.replace(" ", "0")) for c in row] for row in rows]


def test_pieces_of_the_foreground():
    p = drawn("## ##", "##o  ", "  .##")
    found = label_instances(p, min_size=1, markers=0)
    assert found.dtype == np.int32
    assert found.tolist() == numbers("11 22", "111  ", "   33")
    assert label_instances(p, 0.1, min_size=1, markers=0).tolist() == numbers("11 22", "111  ", "  111")
    assert label_instances(p, 0.7, min_size=1, markers=0, gap=1).tolist() == numbers("11 22", "11   ", "   33")


def test_markers_part_what_a_bridge_joins_and_grow_back():
    p = drawn("oooooooo", "o##oo##o", "o##oo##o", "oooooooo", "        ", " oo     ")
    joined = numbers("11111111", "11111111", "11111111", "11111111", "        ", " 22     ")
    parted = numbers("11112222", "11112222", "11112222", "11112222", "        ", " 33     ")
    assert label_instances(p, min_size=2, markers=0.5).tolist() == joined
    # Markers: the pieces above a number, or those into which the map falls apart. The piece without one is kept.
    assert label_instances(p, min_size=2, markers=0.9).tolist() == parted
    assert label_instances(p, min_size=2, smoothing=0).tolist() == parted
    assert label_instances(p, min_size=3, smoothing=0).tolist() == [[v % 3 for v in row] for row in parted]
    # Markers of fewer pixels than min_size part nothing.
    assert label_instances(p, min_size=5, smoothing=0).tolist() == [[v % 2 for v in row] for row in joined]


def test_the_line_between_touching_cells_goes_to_the_nearest():
    p = drawn("##o##", "##.##", "##o##", "## ##", "     ")
    # The line lies between two cells, at as many steps: the first cell has it. Probabilities up to `gap` stay out.
    assert label_instances(p, 0.7, min_size=1).tolist() == numbers("11122", "11 22", "11122", "11 22", "     ")
    assert label_instances(p, 0.7, min_size=1, gap=0.1).tolist() == numbers("11122", "11122", "11122", "11 22", "     ")
    assert label_instances(p, 0.7, min_size=1, gap=1).tolist() == numbers("11 22", "11 22", "11 22", "11 22", "     ")
    # The pixel below the line lies at corners of both only.
    assert label_instances(drawn("#o#", "ooo"), 0.7, min_size=1).tolist() == numbers("112", "   ")
    # Nothing grows where there is one cell only.
    assert label_instances(drawn("##o", "##o"), 0.7, min_size=1).tolist() == numbers("11 ", "11 ")


def test_holes():
    p = drawn(
        "##### ####",
        "#   # #  #",
        "# # # #  #",
        "#   # ### ",
        "#####     ",
    )
    # The hole of the second cell is open at a corner, and background hangs together by its corners.
    filled = label_instances(p, min_size=2, gap=1, smoothing=0)
    assert filled.tolist() == numbers("11111 2222", "11111 2  2", "11111 2  2", "11111 222 ", "11111     ")
    left = label_instances(p, min_size=2, gap=1, fill_holes=False, smoothing=0)
    assert left.tolist() == numbers("11111 2222", "1   1 2  2", "1   1 2  2", "1   1 222 ", "11111     ")
    # With the speck in it a cell of its own, the hole lies at two cells and is none.
    assert label_instances(p, min_size=1, gap=1, smoothing=0)[2].tolist() == numbers("1 3 1 2  2")[0]


def test_a_bay_at_the_image_border_is_no_hole():
    p = drawn("# #", "# #", "###")
    for turns in range(4):
        assert label_instances(np.rot90(p, turns), min_size=1).tolist() == np.rot90(p, turns).tolist()


def test_a_hole_between_two_cells_stays():
    p = drawn("ooooooo", "o#o o#o", "ooooooo")
    p[1, 3] = 0.0
    found = label_instances(p, min_size=1, markers=0.9)
    assert found.tolist() == numbers("1111222", "111 222", "1111222")


def test_small_cells():
    p = drawn("#### ##", "####   ", "     # ")
    for size, count in ((1, 3), (2, 2), (3, 1), (8, 1), (9, 0)):
        assert label_instances(p, min_size=size).max() == count


def test_three_classes():
    """Two cells side by side, each with a rim of its own, and one that is rim only."""
    kinds = np.array([list(row) for row in ("bbbbbbb ", "bcbbbcb ", "bcbbbcb ", "bbbbbbb ", "        ", "     bb ")])
    p = np.stack([kinds == kind for kind in " cb"]).astype(np.float32)
    found = label_instances(p, min_size=2)
    # The middle column is 2 steps from both.
    rows = ("1111222 ", "1111222 ", "1111222 ", "1111222 ", "        ", "     33 ")
    assert found.tolist() == numbers(*rows)
    assert label_instances(p, min_size=3).max() == 2
    assert label_instances(p, min_size=2, markers=0).tolist() == found.tolist()


def test_cells_of_which_the_network_is_less_sure():
    p = np.zeros((12, 30))
    p[1:5, 1:5], p[1:5, 7:11], p[7:11, 1:5] = 0.9, 0.9, 0.8
    p[7:11, 20:24] = 0.6
    assert label_instances(p, certainty=0).max() == 4
    assert label_instances(p, certainty=0.75).max() == 3 and label_instances(p).max() == 3  # of the median, 0.85
    assert label_instances(p, certainty=1).max() == 2
    assert label_instances(p * 0.85).max() == 3  # all are less sure: only how they compare counts
    assert label_instances(p > 0.5).max() == 4  # a mask is sure of all


def test_reading_order():
    labels = np.array([[0, 7, 7], [2, 0, 0], [2, 0, 5]], np.uint16)
    ordered = in_reading_order(labels)
    assert ordered.tolist() == [[0, 1, 1], [2, 0, 0], [2, 0, 3]] and ordered.dtype == np.int32
    assert in_reading_order(np.zeros((0, 4), int)).shape == (0, 4)


@given(arrays(np.float32, st.tuples(st.integers(0, 8), st.integers(0, 8)), elements=st.sampled_from([0, 0.2, 0.6, 1])))
def test_any_probabilities(p):
    before = p.copy()
    found = label_instances(p, min_size=2)
    np.testing.assert_array_equal(p, before)
    np.testing.assert_array_equal(found, label_instances(p, min_size=2))
    ids, first, sizes = np.unique(found[found > 0], return_index=True, return_counts=True)
    assert ids.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(first) > 0).all() and (sizes >= 2).all()
    # Without the options every cell is a piece of the foreground, and all pieces that are large enough are there.
    plain = label_instances(p, min_size=1, markers=0, gap=1, fill_holes=False, certainty=0)
    np.testing.assert_array_equal(plain > 0, p > 0.5)


def test_nothing_anywhere():
    assert not label_instances(np.zeros((4, 4))).any()
    assert not label_instances(np.full((4, 4), np.nan)).any()
    assert (label_instances(np.ones((4, 4))) == 1).all()
    assert not label_instances(np.ones((3, 3))).any()  # 9 pixels, min_size 10


def test_cells_that_training_has_parted_are_found_again():
    _, truths = cells(4)
    # What a network would give that has learned its targets: little in the line, nothing elsewhere outside.
    parted = [separate_touching(truth) > 0 for truth in truths]
    p = [np.where(inside, 0.95, 0.4 * (truth > 0)) for inside, truth in zip(parted, truths, strict=True)]
    found = [label_instances(one) for one in p]
    without = [label_instances(one, gap=1) for one in p]
    assert average_precision(found, truths)[0.5] >= 0.97
    assert average_precision(found, truths)[0.8] >= average_precision(without, truths)[0.8]


def test_other_shapes():
    for shape in ((4,), (2, 4, 4), (4, 4, 3), (1, 3, 4, 4)):
        with pytest.raises(ValueError, match=r"\(H, W\), or \(3, H, W\)"):
            label_instances(np.zeros(shape))


def test_names():
    assert label_instances is mn.label_instances
