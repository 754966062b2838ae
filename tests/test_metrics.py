"""Scores against cases counted by hand."""

import numpy as np
import pytest

import minunet as mn
from minunet.data import cells, from_arrays, load_folder, separate_touching
from minunet.scores import metrics

A = np.array([[1, 1, 0], [0, 0, 0]], bool)
B = np.array([[0, 1, 1], [0, 0, 0]], bool)
EMPTY = np.zeros((2, 3), bool)


def test_iou_and_dice():
    assert metrics.iou(A, B) == pytest.approx(1 / 3)
    assert metrics.dice(A, B) == pytest.approx(1 / 2)
    assert metrics.iou(A, A) == metrics.dice(A, A) == 1
    assert metrics.iou(A, EMPTY) == metrics.dice(EMPTY, A) == 0
    assert metrics.iou(EMPTY, EMPTY) == metrics.dice(EMPTY, EMPTY) == 1
    assert metrics.iou(A.astype(np.uint8) * 255, A.astype(np.int64)) == 1


def test_mean_iou_of_cells_averages_images():
    assert metrics.mean_iou_cells([A, EMPTY, A], [B, EMPTY, EMPTY]) == pytest.approx(4 / 9)


def test_confusion():
    truth = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 2], [1, 2, 2]])
    counts = metrics.confusion(prediction, truth, 4)
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert counts.dtype == np.int64 and counts.tolist() == expected
    np.testing.assert_allclose(metrics.iou_per_class(counts), [1 / 2, 1 / 2, 2 / 4, np.nan])
    assert metrics.mean_iou_classes(counts) == pytest.approx(1 / 2)


def test_confusion_of_bytes_does_not_overflow():
    high = np.full((2, 2), 200, np.uint8)
    assert metrics.confusion(high, high, 201)[200, 200] == 4


@pytest.mark.parametrize("bad", [-1, 3])
def test_confusion_of_unknown_classes(bad):
    good = np.zeros((2, 2), int)
    for pair in ((good, good + bad), (good + bad, good)):
        with pytest.raises(ValueError, match=r"outside 0\.\.2"):
            metrics.confusion(*pair, 3)


def test_score_of_two_classes_is_per_image_and_of_more_is_pooled():
    a, b = A.astype(int), B.astype(int)
    assert metrics.score([a, a], [a, b], 2) == pytest.approx((1 + 1 / 3) / 2)
    pooled = metrics.confusion(a, a, 3) + metrics.confusion(a, b, 3)
    assert metrics.score([a, a], [a, b], 3) == metrics.mean_iou_classes(pooled)
    # 12 pixels: class 0 is 8 of 10 right, class 1 3 hits of 5.
    assert metrics.mean_iou_classes(pooled) == pytest.approx((7 / 9 + 3 / 5) / 2)


def test_shapes_and_numbers_must_fit():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for a truth of \(3, 2\)"):
        metrics.iou(A, A.T)
    with pytest.raises(ValueError, match="2 predictions for 1 masks"):
        metrics.mean_iou_cells([A, A], [A])
    with pytest.raises(ValueError, match="0 predictions"):
        metrics.score([], [], 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_otsu_parts_two_levels_in_the_middle(dtype):
    image = np.array([[10, 10, 10], [200, 200, 10]], dtype)
    assert metrics.otsu_threshold(image) == pytest.approx(105, abs=1)
    np.testing.assert_array_equal(metrics.otsu_foreground(image), image == 200)


def otsu_by_definition(image):
    """The threshold with the largest variance between the sides, tried value by value."""
    best, threshold = -1.0, 0
    for value in np.unique(image)[:-1]:
        low, high = image[image <= value].astype(float), image[image > value].astype(float)
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best * (1 + 1e-12):
            best, threshold = between, value
    return image > threshold


def test_otsu_is_the_largest_variance_between_the_sides():
    rng = np.random.default_rng(0)
    for _ in range(20):
        # Values 0..255, both ends taken, so that every bin is one value.
        levels = rng.integers(0, 256, 6)
        image = np.append(rng.choice(levels, 300), [0, 255]).astype(np.uint8).reshape(2, -1)
        np.testing.assert_array_equal(metrics.otsu_foreground(image), otsu_by_definition(image))


def test_otsu_of_a_constant_image():
    image = np.full((3, 3), 7, np.uint8)
    assert metrics.otsu_threshold(image) == 7
    assert not metrics.otsu_foreground(image).any()


@pytest.mark.parametrize(
    "low, high",
    [(5e-324, 1e-323), (0, 5e-324), (-1e-320, 3e-320), (0, 1e-200), (1, 1 + 2e-16), (2**53, 2**53 + 2),
     (1e8, 1e8 + 1e-6), (-1.7e308, 1.7e308), (1.6e308, 1.7e308), (-3, -2)],
)  # fmt: skip
def test_otsu_of_numbers_at_the_ends_of_float64(low, high):
    image = np.array([[low, low, high], [high, high, low]], np.float64)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_array_equal(metrics.otsu_foreground(image), image == high)


def test_otsu_of_a_color_image_is_of_its_luminance():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (0, 255, 0)
    assert metrics.otsu_foreground(image).tolist() == [[True, True], [False, False]]


def test_baselines_take_the_better_side():
    mask = np.zeros((8, 8), np.uint8)
    mask[:3] = 255
    image = np.where(mask > 0, 20, 90).astype(np.uint8)
    dataset = from_arrays([image, image], [mask, mask])
    assert metrics.baselines(dataset) == {"all background": 0.0, "Otsu": 1.0}


def test_baselines_of_a_foreground_that_is_the_most():
    mask = np.full((8, 8), 255, np.uint8)
    mask[:2] = 0
    dataset = from_arrays([mask], [mask])
    assert metrics.baselines(dataset)["all foreground"] == pytest.approx(0.75)


def test_baselines_of_three_classes():
    mask = np.repeat([0, 1, 2], 4)[:, None].repeat(6, axis=1).astype(np.uint8)
    image = np.where(mask == 2, 10, 200).astype(np.uint8)  # class 2 is dark, the others bright
    found = metrics.baselines(from_arrays([image], [mask], "indices"))
    assert found["all background"] == pytest.approx(1 / 9)
    assert found["Otsu"] == pytest.approx((1 / 2 + 0 + 1) / 3)


def test_floors_of_the_real_sets(shared_data):
    folder = shared_data / "dsb2018"
    found = metrics.baselines(load_folder(folder / "images", folder / "labels"))
    assert found["Otsu"] == pytest.approx(0.80, abs=0.01)


def test_label_instances():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    probability = np.zeros((12, 20), np.float32)
    probability[1:5, 1:5] = 0.9
    probability[5:9, 5:9] = 0.8  # touches the first at a corner only
    probability[1:3, 10:12] = 1.0  # too small
    probability[6:11, 12:18] = 0.5  # not above the threshold
    labels = mn.label_instances(probability)
    assert labels.dtype == np.int32 and labels.shape == (12, 20)
    assert labels.max() == 2 and labels[2, 2] == 1 and labels[7, 7] == 2
    assert np.count_nonzero(labels) == 32
    assert mn.label_instances(probability, min_size=4).max() == 3
    assert mn.label_instances(probability, 0.4, certainty=0).max() == 3
    assert not mn.label_instances(np.zeros((4, 4))).any()


def test_label_instances_finds_parted_cells():
    pytest.importorskip("scipy", reason="SciPy is not installed")
    _, labels = cells(5)
    for mask in labels:
        parted = separate_touching(mask)
        found = mn.label_instances(parted > 0, min_size=1)
        # No piece spans two cells; a cell that parting cuts in two may give two pieces.
        for piece in range(1, found.max() + 1):
            assert len(np.unique(parted[found == piece])) == 1


def test_label_instances_of_a_stack():
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        mn.label_instances(np.zeros((2, 4, 4)))
