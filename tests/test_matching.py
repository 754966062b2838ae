"""Average precision of instances against counts by hand and against loops over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.scores.matching import THRESHOLDS, average_precision, match, matched
from minunet.scores.overlaps import overlaps

NOTHING = np.zeros((2, 10), int)


def row(*runs):
    """A label image of one row: pairs of a label and the number of its pixels."""
    return np.concatenate([np.full(count, label) for label, count in runs])[None]


def test_thresholds_are_exact():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_counts_by_hand():
    truth = row((1, 10), (0, 2), (2, 4), (3, 4))
    found = row((5, 8), (0, 4), (6, 4), (0, 3), (9, 1))
    # IoU: 5 with 1 8/10, 6 with 2 4/4, 9 with 3 1/4.
    counts = match(found, truth, (0.5, 0.75, 0.8, 0.95))
    assert counts.true_positives.tolist() == [2, 2, 1, 1]  # 0.8 is not larger than 0.8
    assert counts.false_positives.tolist() == counts.false_negatives.tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(counts.average_precision, [2 / 4, 2 / 4, 1 / 5, 1 / 5])


def test_a_merged_pair_matches_neither_of_two_halves():
    truth, merged = row((1, 5), (2, 5)), row((1, 10))
    counts = match(merged, truth, (0.5,))
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == ([0], [1], [2])
    # With one pixel more on one side the larger half matches: IoU 6/11 > 1/2.
    assert match(row((1, 11)), row((1, 6), (2, 5)), (0.5,)).true_positives == [1]


def test_pooled_over_images_not_averaged():
    one, many = row((1, 4), (0, 6)), row((1, 2), (2, 2), (3, 2), (0, 4))
    pooled = average_precision([one, np.zeros_like(many)], [one, many], (0.5, 0.9))
    assert pooled == {0.5: 1 / 4, 0.9: 1 / 4}
    total = match(one, one, (0.5,)) + match(np.zeros_like(many), many, (0.5,))
    assert (total.predicted, total.true) == (1, 4) and total.average_precision == [1 / 4]


def test_no_instances():
    assert average_precision([NOTHING], [NOTHING], (0.5,)) == {0.5: 1.0}
    assert average_precision([NOTHING], [NOTHING + 1], (0.5,)) == {0.5: 0.0}
    assert average_precision([NOTHING + 1], [NOTHING], (0.5,)) == {0.5: 0.0}
    # An image without instances changes nothing in the others.
    assert average_precision([NOTHING, NOTHING + 1], [NOTHING, NOTHING + 1], (0.5,)) == {0.5: 1.0}


def iou_of_all_pairs(prediction, truth):
    return [
        np.count_nonzero((prediction == i) & (truth == j)) / np.count_nonzero((prediction == i) | (truth == j))
        for i in set(prediction.flat) - {0}
        for j in set(truth.flat) - {0}
    ]


LABELS = arrays(np.int32, (5, 6), elements=st.sampled_from([0, 1, 2, 7, 2**31 - 1]))


@given(LABELS, LABELS)
def test_any_labels(prediction, truth):
    counts = match(prediction, truth)
    pairs = iou_of_all_pairs(prediction, truth)
    assert counts.true_positives.tolist() == [sum(iou > t for iou in pairs) for t in THRESHOLDS]
    assert counts.predicted == len(set(prediction.flat) - {0})
    swapped = match(truth, prediction)
    np.testing.assert_array_equal(swapped.average_precision, counts.average_precision)


@given(LABELS, LABELS)
def test_overlaps(prediction, truth):
    """However large the values are, and whichever way they are counted."""
    for p, t in ((prediction, truth), (prediction % 8, truth % 8), (prediction - 9, truth.astype(np.int64) * 2**30)):
        counts = overlaps(p, t)
        pairs = {
            (int(counts.predicted_labels[i]), int(counts.true_labels[j])): int(n)
            for i, j, n in zip(counts.row, counts.column, counts.pixels, strict=True)
        }
        values, expected = np.unique(np.stack([p.ravel().astype(np.int64), t.ravel()]), axis=1, return_counts=True)
        assert pairs == {(int(a), int(b)): int(n) for (a, b), n in zip(values.T, expected, strict=True)}
        assert counts.predicted.tolist() == [np.count_nonzero(p == v) for v in counts.predicted_labels]
        assert counts.true.tolist() == [np.count_nonzero(t == v) for v in counts.true_labels]


def test_overlaps_of_no_pixels():
    counts = overlaps(np.zeros((0, 3), int), np.zeros((0, 3), np.uint8))
    assert not any(len(a) for a in (counts.predicted_labels, counts.true_labels, counts.row, counts.pixels))
    assert match(np.zeros((0, 3), int), np.zeros((0, 3), int), (0.5,)).average_precision == [1.0]


def test_refused():
    with pytest.raises(ValueError, match=r"at least 0\.5 and below 1"):
        match(NOTHING, NOTHING, (0.4,))
    with pytest.raises(ValueError, match=r"shape \(2, 10\) for a truth of \(10, 2\)"):
        match(NOTHING, NOTHING.T)
    with pytest.raises(ValueError, match="integers, not float64"):
        match(NOTHING * 0.5, NOTHING)
    with pytest.raises(ValueError, match="do not add up"):
        match(NOTHING, NOTHING, (0.5,)) + match(NOTHING, NOTHING, (0.6,))
    with pytest.raises(ValueError, match="no image"):
        average_precision([], [])
    with pytest.raises(ValueError, match="shorter"):
        average_precision([NOTHING, NOTHING], [NOTHING])


def test_labels_that_match():
    truth, found = row((1, 10), (0, 2), (2, 4), (3, 4)), row((5, 8), (0, 4), (6, 4), (0, 3), (9, 1))
    assert [labels.tolist() for labels in matched(found, truth)] == [[5, 6], [1, 2]]
    assert [labels.tolist() for labels in matched(found, truth, 0.8)] == [[6], [2]]
    assert matched(NOTHING, NOTHING)[0].size == 0


def test_the_mean_over_the_thresholds():
    truth, found = row((1, 10)), row((1, 8), (0, 2))  # an IoU of 0.8
    assert match(found, truth).mean_average_precision == pytest.approx(6 / 10)
