"""Rand error, V_rand, variation of information and V_info: numbers by hand, loops over pairs, and two libraries."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.scores.membranes import THRESHOLDS, membrane_scores, segments
from minunet.scores.partitions import adapted_rand_error, rand_error, v_info, v_rand, variation_of_information

# Four pixels, two true segments of two; the prediction cuts one and joins nothing.
TRUTH = np.array([1, 1, 2, 2])
SPLIT = np.array([1, 1, 2, 3])
MERGED = np.array([5, 5, 5, 5])
LABELS = arrays(np.uint8, (4, 5), elements=st.integers(0, 4))


def test_a_split_by_hand():
    # Pairs: 6, one of them wrongly parted.
    assert rand_error(SPLIT, TRUTH) == pytest.approx(1 / 6)
    # Squares of pixels: shared 4 + 1 + 1, predicted the same, true 4 + 4.
    assert v_rand(SPLIT, TRUTH) == pytest.approx(2 * 6 / (6 + 8))
    # Half of the pixels lie in a segment that is cut in two halves: 1 bit there.
    assert variation_of_information(SPLIT, TRUTH) == pytest.approx((0.5, 0))
    # H(S) = 1/2 * 1 + 2 * 1/4 * 2 = 1.5, H(T) = 1, I = H(T) - H(T|S) = 1.
    assert v_info(SPLIT, TRUTH) == pytest.approx(2 * 1 / 2.5)
    # Pairs within segments: shared 1, predicted 1, true 2.
    assert adapted_rand_error(SPLIT, TRUTH) == pytest.approx(1 - 2 * 1 / 3)


def test_a_merger_by_hand():
    assert rand_error(MERGED, TRUTH) == pytest.approx(4 / 6)
    assert v_rand(MERGED, TRUTH) == pytest.approx(2 * 8 / (16 + 8))
    assert variation_of_information(MERGED, TRUTH) == pytest.approx((0, 1))
    assert v_info(MERGED, TRUTH) == 0  # one segment tells nothing
    assert adapted_rand_error(MERGED, TRUTH) == pytest.approx(1 - 2 * 2 / (6 + 2))


def test_the_background_of_the_truth_does_not_count():
    truth, anything = np.append(TRUTH, [0, 0]), np.append(SPLIT, [3, 0])
    for measure in (v_rand, v_info, adapted_rand_error):
        assert measure(anything, truth) == pytest.approx(measure(SPLIT, TRUTH))
    assert variation_of_information(anything, truth, foreground=True) == variation_of_information(SPLIT, TRUTH)
    # Elsewhere it is a segment: of 15 pairs (4, 5), (4, 6), (5, 6) and (4, 3), counted from 1, are judged otherwise.
    truth, found = np.array([1, 1, 2, 2, 0, 0]), np.array([1, 1, 2, 3, 3, 0])
    assert rand_error(found, truth) == pytest.approx(3 / 15)


def test_predicted_background_is_a_segment_a_pixel():
    holes = np.array([1, 1, 0, 0])  # shared 4 + 1 + 1: as SPLIT
    for measure in (v_rand, v_info):
        assert measure(holes, TRUTH) == pytest.approx(measure(SPLIT, TRUTH))
    assert variation_of_information(holes, TRUTH, foreground=True) == pytest.approx((0.5, 0))
    assert adapted_rand_error(holes, TRUTH) == 0  # there it is one segment
    assert v_rand(np.zeros(4, int), TRUTH) == pytest.approx(2 * 4 / (4 + 8))


def test_the_rand_error_of_the_foreground():
    """Without the membrane two cells of two pixels, merged: 4 of 6 pairs are wrong. A pixel of membrane parts 3."""
    truth = np.array([[1, 1, 0, 2, 2]])
    assert rand_error(np.array([[7, 7, 7, 7, 7]]), truth, foreground=True) == pytest.approx(4 / 6)
    assert rand_error(np.array([[7, 7, 0, 8, 0]]), truth, foreground=True) == pytest.approx(1 / 6)


def test_names_of_segments_do_not_matter():
    renamed = np.array([70000, 70000, 3, 3])
    assert v_rand(renamed, TRUTH) == v_info(renamed, TRUTH) == 1
    assert rand_error(renamed, TRUTH) == adapted_rand_error(renamed, TRUTH) == 0
    assert variation_of_information(renamed, TRUTH) == (0, 0)


def test_nothing_to_judge():
    nothing = np.zeros((2, 3), int)
    for prediction, truth in ((nothing, nothing), (nothing + 1, nothing), (nothing[:0], nothing[:0])):
        assert v_rand(prediction, truth) == v_info(prediction, truth) == 1
        assert adapted_rand_error(prediction, truth) == rand_error(prediction, truth) == 0
        assert variation_of_information(prediction, truth, foreground=True) == (0, 0)
    whole = nothing + 1
    assert v_rand(whole, whole) == v_info(whole, whole) == 1
    assert v_info(nothing, whole) == 0 and v_rand(nothing, whole) == pytest.approx(2 * 6 / (6 + 36))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for a truth of \(3, 2\)"):
        v_rand(nothing, nothing.T)


@given(LABELS, LABELS)
def test_loops_over_pairs(prediction, truth):
    pixels = list(zip(prediction.flat, truth.flat, strict=True))
    different = [(p == q) != (t == u) for (p, t), (q, u) in combinations(pixels, 2)]
    assert rand_error(prediction, truth) == pytest.approx(sum(different) / len(different))
    # V_rand from ordered pairs, a pixel with itself included, each pixel of predicted background named by its place.
    inside = [(p or -i, t) for i, (p, t) in enumerate(pixels, start=1) if t]
    both = sum(p == q and t == u for p, t in inside for q, u in inside)
    found_and_true = sum(int(p == q) + int(t == u) for p, t in inside for q, u in inside)
    assert v_rand(prediction, truth) == pytest.approx(2 * both / found_and_true if inside else 1)


def entropy(values):
    return -sum(np.mean(values == v) * log2(np.mean(values == v)) for v in set(values.tolist()))


@given(LABELS, LABELS)
def test_information_by_definition(prediction, truth):
    names = np.where(prediction == 0, np.arange(10, 30).reshape(4, 5), prediction)
    s, t = names[truth > 0], truth[truth > 0]
    joint = {(a, b): np.mean((s == a) & (t == b)) for a, b in zip(s.tolist(), t.tolist(), strict=True)}
    split = -sum(p * log2(p / np.mean(t == b)) for (_, b), p in joint.items())
    merged = -sum(p * log2(p / np.mean(s == a)) for (a, _), p in joint.items())
    assert variation_of_information(prediction, truth, foreground=True) == pytest.approx((split, merged), abs=1e-9)
    whole = entropy(s) + entropy(t)
    expected = 2 * (entropy(t) - merged) / whole if whole else 1
    assert v_info(prediction, truth) == pytest.approx(expected, abs=1e-9)
    assert 0 <= v_info(prediction, truth) <= 1


def pairs_of_images():
    rng = np.random.default_rng(0)
    for labels in (1, 2, 7, 400):
        truth = rng.integers(0, labels + 1, (40, 50))
        yield np.where(rng.random(truth.shape) < 0.7, truth * 3 % 11, rng.integers(0, labels + 1, truth.shape)), truth


def test_scikit_image():
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    for prediction, truth in pairs_of_images():
        # Its second number is H(truth | prediction): mergers. It returns (H(S|T), H(T|S)) in this order.
        expected = skimage.variation_of_information(truth, prediction)
        assert variation_of_information(prediction, truth) == pytest.approx(tuple(expected))
        error, _, _ = skimage.adapted_rand_error(truth, prediction)
        assert adapted_rand_error(prediction, truth) == pytest.approx(error)
        # With a number for each pixel of predicted background it has V_info's restriction and segments, too.
        named = np.where(prediction == 0, 1000 + np.arange(truth.size).reshape(truth.shape), prediction)
        inside = truth > 0
        expected = skimage.variation_of_information(truth[inside], named[inside])
        assert variation_of_information(prediction, truth, foreground=True) == pytest.approx(tuple(expected))


def test_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    for prediction, truth in pairs_of_images():
        assert 1 - rand_error(prediction, truth) == pytest.approx(sklearn.rand_score(truth.ravel(), prediction.ravel()))
        named = np.where(prediction == 0, 1000 + np.arange(truth.size).reshape(truth.shape), prediction)
        expected = sklearn.v_measure_score(truth[truth > 0], named[truth > 0])
        assert v_info(prediction, truth) == pytest.approx(expected)


# Two cells of 4 x 4 in a frame of membrane, with two columns of it between them.
MASK = np.zeros((6, 12), np.uint8)
MASK[1:5, 1:5] = MASK[1:5, 7:11] = 255


def test_thinned_membranes():
    thin = segments(MASK)
    # Columns 5 and 6 are reached at once, and that of the second cell gives way.
    assert thin.tolist() == [[1] * 6 + [0] + [2] * 5] * 6
    assert segments(MASK, thin=False).max() == 2 and np.count_nonzero(segments(MASK, thin=False)) == 32
    assert (segments(np.zeros((3, 4))) == 1).all() and (segments(np.ones((3, 4))) == 1).all()


def test_thinning_is_a_watershed():
    """As scikit-image floods it, but for where lines run that several fronts reach at once."""
    watershed = pytest.importorskip("skimage.segmentation", reason="scikit-image is not installed").watershed
    dots = np.random.default_rng(0).random((120, 150)) < 0.005
    thin = segments(dots)
    flooded = watershed(np.zeros(dots.shape), segments(dots, thin=False), connectivity=1, watershed_line=True)
    assert np.mean((thin != flooded) & (thin > 0) & (flooded > 0)) < 0.05
    assert abs(np.mean(thin == 0) - np.mean(flooded == 0)) < 0.02
    assert v_rand(thin, flooded) > 0.9


def test_a_broad_membrane_is_no_mistake_but_a_gap_is():
    narrow = np.zeros(MASK.shape)
    narrow[2:4, 2:4] = narrow[2:4, 8:10] = 1
    scores = membrane_scores([narrow], [MASK], (0.5,))
    assert scores.v_rand == scores.v_info == 1
    # Not thinned: 12 pixels in each cell are segments of their own. 2 (2 * 16 + 24) / (2 * 16 + 24 + 2 * 256).
    broad = membrane_scores([narrow], [MASK], (0.5,), thin=False)
    assert broad.v_rand == pytest.approx(2 * 56 / (56 + 512))
    open_membrane = np.where(MASK, 1.0, 0)
    open_membrane[2, 5:7] = 1
    assert membrane_scores([open_membrane], [MASK], (0.5,)).v_rand == pytest.approx(2 * 512 / (1024 + 512))


def test_the_best_threshold_of_the_average_counts():
    p = np.where(MASK, 0.9, 0.1)
    p[2, 5:7] = 0.5  # a gap up to 0.5
    q = np.where(MASK, 0.45, 0.1)  # all membrane from 0.45 on
    scores = membrane_scores([p, q], [MASK, MASK])
    merged, whole = 2 * 512 / (1024 + 512), 1.0
    # Lower than 0.1 all is one segment; up to 0.4 the first is merged; then the second is one segment.
    assert scores.at[0.0][0] == pytest.approx(merged)
    assert scores.at[0.1][0] == scores.at[0.4][0] == pytest.approx((merged + whole) / 2)
    assert scores.at[0.5][0] == pytest.approx((whole + merged) / 2)
    assert scores.at[0.9][0] == pytest.approx(merged)
    assert scores.v_rand == pytest.approx((merged + whole) / 2) and scores.v_rand_threshold == 0.1
    assert membrane_scores([p], [MASK]).v_rand_threshold == 0.5
    assert scores.at[0.5] == pytest.approx(((whole + merged) / 2, (1 + 0) / 2))
    assert tuple(scores.at) == THRESHOLDS == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def test_refused():
    for images, thresholds in (([], (0.5,)), ([MASK], ())):
        with pytest.raises(ValueError, match="at least one image and one threshold"):
            membrane_scores(images, images, thresholds)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        membrane_scores([MASK], [MASK, MASK])
    with pytest.raises(ValueError, match=r"for a truth of \(12, 6\)"):
        membrane_scores([MASK], [MASK.T])
