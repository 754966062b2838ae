"""Scores of masks, and the baselines that they stand beside.

Mean IoU of cells: the IoU of the foreground in an image, 1 where prediction and truth are both
empty, averaged over the images. Mean IoU of classes: the IoU of each class, pooled over all images
(background included), averaged over the classes. In masks, values are class indices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from minunet.data.preprocessing import luminance

if TYPE_CHECKING:
    from minunet.data.dataset import Dataset

BINS = 256
SQUARES = 1e100  # numbers from 1 / SQUARES to SQUARES have sums of squares that float64 holds


def iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two foregrounds (non-zero pixels); 1 where both are empty."""
    _check_shapes(prediction, truth)
    prediction, truth = prediction != 0, truth != 0
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0


def dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """2 |intersection| / (|prediction| + |truth|) of two foregrounds; 1 where both are empty."""
    overlap = iou(prediction, truth)
    return 2 * overlap / (1 + overlap)


def mean_iou_cells(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """Mean IoU of cells: `iou` of each image, averaged. ValueError where there is no image."""
    return float(np.mean([iou(p, t) for p, t in _paired(predictions, truths)]))


def confusion(prediction: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """Pixel counts, (classes, classes) int64: row = true class, column = predicted class.

    ValueError where a class lies outside 0..classes-1.
    """
    _check_shapes(prediction, truth)
    for array in (prediction, truth):
        if array.size and (array.min() < 0 or array.max() >= classes):
            raise ValueError(f"a class lies outside 0..{classes - 1}")
    cell = truth.astype(np.int64).ravel() * classes + prediction.ravel()
    return np.bincount(cell, minlength=classes * classes).reshape(classes, classes)


def iou_per_class(counts: np.ndarray) -> np.ndarray:
    """IoU of each class (K,) from a `confusion`; NaN for a class that occurs nowhere."""
    hits = np.diagonal(counts)
    return _share(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)


def mean_iou_classes(counts: np.ndarray) -> float:
    """Mean of `iou_per_class` over the classes that occur in truth or prediction."""
    return float(np.nanmean(iou_per_class(counts)))


def dice_per_class(counts: np.ndarray) -> np.ndarray:
    """Dice of each class (K,) from a `confusion`; NaN for a class that occurs nowhere."""
    overlap = iou_per_class(counts)
    return 2 * overlap / (1 + overlap)


def precision_per_class(counts: np.ndarray) -> np.ndarray:
    """Share of the pixels predicted as a class that are of it (K,); NaN for a class that is never predicted."""
    return _share(np.diagonal(counts), counts.sum(axis=0))


def recall_per_class(counts: np.ndarray) -> np.ndarray:
    """Share of a class's true pixels that are predicted as it (K,); NaN for a class without true pixels."""
    return _share(np.diagonal(counts), counts.sum(axis=1))


def pixel_error(counts: np.ndarray) -> float:
    """Share of wrong pixels, from a `confusion`; NaN where there is no pixel."""
    return 1 - float(_share(np.trace(counts)[None], counts.sum()[None])[0])


def score(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: int) -> float:
    """What training reports: mean IoU of cells for two classes, of classes for more."""
    if classes == 2:
        return mean_iou_cells(predictions, truths)
    counts = (confusion(p, t, classes) for p, t in _paired(predictions, truths))
    return mean_iou_classes(np.sum(list(counts), axis=0))


def otsu_threshold(image: np.ndarray) -> float:
    """Otsu's threshold of an image of any real dtype: pixels above it are the brighter side.

    It parts a histogram of 256 bins between minimum and maximum so that the variance between the
    two sides is largest; of equally good bins the middle one is taken. A constant image has its
    value as threshold, so that nothing lies above.
    """
    values = np.asarray(image, np.float64)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return low
    size = max(-low, high)
    if size > SQUARES or high - low < max(BINS * np.spacing(size), 1 / SQUARES):
        return _otsu_of_extremes(values)
    counts, edges = np.histogram(values, BINS, (low, high))
    below = np.cumsum(counts)[:-1]  # pixels on the darker side of each inner edge
    above = values.size - below
    centre = (edges[:-1] + edges[1:]) / 2
    sum_below = np.cumsum(counts * centre)[:-1]
    sum_above = np.sum(counts * centre) - sum_below
    between = below * above * (sum_below / below - sum_above / above) ** 2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(edges[1:-1][best[len(best) // 2]])


def _otsu_of_extremes(values: np.ndarray) -> float:
    """Otsu's threshold where 256 bins do not fit between minimum and maximum, or squares leave the range
    of numbers: of the values' places from 0 to 1, and given as the largest value below it."""
    scaled = values / np.abs(values).max()  # now no difference overflows
    places = (scaled - scaled.min()) / np.ptp(scaled)
    return float(values[places <= otsu_threshold(places)].max())


def otsu_foreground(image: np.ndarray) -> np.ndarray:
    """Raw image of any layout -> bool (H, W): the pixels brighter than its Otsu threshold."""
    grey = luminance(image)
    return grey > otsu_threshold(grey)


def baselines(dataset: Dataset) -> dict[str, float]:
    """What needs no learning, in the score of training (see `score`).

    "all background" is class 0 everywhere. "Otsu" is one threshold an image; which class the
    bright and the dark side are is chosen for the whole set, as the pair that scores best.
    Where the foreground of two classes covers more than half of the set, "all foreground" is
    added: there it is the floor that a model has to beat.
    """
    truths, classes = dataset.truth, dataset.coding.scored_classes
    return {name: score(found, truths, classes) for name, found in baseline_predictions(dataset).items()}


def baseline_predictions(dataset: Dataset) -> dict[str, list[np.ndarray]]:
    """What each of the `baselines` takes the images for: class indices (H, W), one array an image."""
    truths, classes = dataset.truth, dataset.coding.scored_classes
    bright = [otsu_foreground(image) for image in dataset.raw]
    sides = np.array(_best_sides(bright, truths, classes))
    found = {
        "all background": [np.zeros_like(truth) for truth in truths],
        "Otsu": [sides[b.astype(np.int64)] for b in bright],
    }
    if classes == 2 and 2 * sum(map(np.count_nonzero, truths)) > sum(t.size for t in truths):
        found["all foreground"] = [np.ones_like(truth) for truth in truths]
    return found


def _best_sides(bright: list[np.ndarray], truths: list[np.ndarray], classes: int) -> tuple[int, int]:
    """The classes of the dark and of the bright side that score best."""
    if classes == 2:
        upright = mean_iou_cells(bright, truths) >= mean_iou_cells([~b for b in bright], truths)
        return (0, 1) if upright else (1, 0)
    # Rows = true class, columns 0 and 1 = dark and bright side, over all images.
    pairs = zip(bright, truths, strict=True)
    sides = np.sum([confusion(b.astype(np.int64), t, classes)[:, :2] for b, t in pairs], axis=0)

    def score_of(dark_and_bright: tuple[int, int]) -> float:
        counts = np.zeros((classes, classes), np.int64)
        counts[:, dark_and_bright] = sides
        return mean_iou_classes(counts)

    return max(permutations(range(classes), 2), key=score_of)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole in float64, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)


def _paired(
    predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    if len(predictions) != len(truths) or not len(truths):
        raise ValueError(f"{len(predictions)} predictions for {len(truths)} masks")
    return zip(predictions, truths, strict=True)


def _check_shapes(prediction: np.ndarray, truth: np.ndarray) -> None:
    if np.shape(prediction) != np.shape(truth):
        raise ValueError(
            f"prediction of shape {np.shape(prediction)} for a truth of {np.shape(truth)}"
        )
