"""Average precision of instances: how many cells are found, each as one cell, at a demanded overlap.

A predicted instance matches a true one where their intersection over union is larger than a threshold. Thresholds are
0.5 or more, and there nothing has to be assigned: instances of one image do not overlap, so a predicted instance that
covers more than half of the union with a true one leaves less than half to every other.

    AP(t) = TP / (TP + FP + FN)

counted over all images together, as in the Data Science Bowl 2018 (Caicedo et al., Nature Methods 16, 2019), which
then averages over the images, and as in StarDist (Schmidt et al., MICCAI 2018). It is no area under a curve.
Instances are labels (H, W) of any integers: 0 is background, every other value one instance, connected or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minunet.scores.overlaps import Overlaps, overlaps

THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))  # 0.5, 0.55 ... 0.95


@dataclass(frozen=True, eq=False)
class Matches:
    """Counts of instances at each threshold; those of several images add up.

    thresholds      (T,) of the intersection over union
    true_positives  (T,) int64: pairs of a predicted and a true instance that match
    predicted, true numbers of all instances
    """

    thresholds: tuple[float, ...]
    true_positives: np.ndarray
    predicted: int
    true: int

    @property
    def false_positives(self) -> np.ndarray:
        """(T,) int64: predicted instances that match no true one."""
        return self.predicted - self.true_positives

    @property
    def false_negatives(self) -> np.ndarray:
        """(T,) int64: true instances that match no predicted one."""
        return self.true - self.true_positives

    @property
    def average_precision(self) -> np.ndarray:
        """(T,) TP / (TP + FP + FN); 1 where there is no instance at all, neither predicted nor true."""
        instances = self.predicted + self.true - self.true_positives
        return self.true_positives / instances if self.predicted + self.true else np.ones(len(self.thresholds))

    @property
    def mean_average_precision(self) -> float:
        """Mean of `average_precision` over the thresholds."""
        return float(np.mean(self.average_precision))

    def __add__(self, other: Matches) -> Matches:
        if self.thresholds != other.thresholds:
            raise ValueError(f"matches at {self.thresholds} and at {other.thresholds} do not add up")
        found = self.true_positives + other.true_positives
        return Matches(self.thresholds, found, self.predicted + other.predicted, self.true + other.true)


def match(prediction: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> Matches:
    """Match the instances of one image: labels (H, W) of integers, 0 = background.

    ValueError where the shapes differ or a threshold is not in 0.5 <= t < 1.
    """
    thresholds = tuple(float(t) for t in thresholds)
    if not all(0.5 <= t < 1 for t in thresholds):
        raise ValueError(f"thresholds must be at least 0.5 and below 1, not {thresholds}")
    shared = overlaps(prediction, truth)
    _, _, iou = _overlapping(shared)
    found = np.array([np.count_nonzero(iou > t) for t in thresholds], np.int64)
    predicted = int(np.count_nonzero(shared.predicted_labels))
    return Matches(thresholds, found, predicted, int(np.count_nonzero(shared.true_labels)))


def matched(prediction: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) of the predicted instances that match a true one, and of the true ones that they match."""
    shared = overlaps(prediction, truth)
    row, column, iou = _overlapping(shared)
    return shared.predicted_labels[row[iou > threshold]], shared.true_labels[column[iou > threshold]]


def _overlapping(shared: Overlaps) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the predicted and of the true instance of each pair that overlaps, and its IoU."""
    both = (shared.predicted_labels[shared.row] != 0) & (shared.true_labels[shared.column] != 0)
    row, column, pixels = shared.row[both], shared.column[both], shared.pixels[both]
    return row, column, pixels / (shared.predicted[row] + shared.true[column] - pixels)


def average_precision(
    predictions: Iterable[np.ndarray], truths: Iterable[np.ndarray], thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float]:
    """AP at each threshold, pooled over the images: labels (H, W) each. ValueError where there is no image."""
    each = [match(p, t, thresholds) for p, t in zip(predictions, truths, strict=True)]
    if not each:
        raise ValueError("there is no image")
    pooled = sum(each[1:], start=each[0])
    return dict(zip(pooled.thresholds, pooled.average_precision.tolist(), strict=True))
