"""How many pixels each label of one image shares with each label of another: a contingency table.

Only pairs that occur are kept, since of a thousand cells each overlaps with a few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DENSE = 4  # a table of all pairs is counted in up to this many cells a pixel


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pixel counts of the labels of a prediction and a truth, and of the pairs that occur.

    predicted_labels, true_labels   (P,), (T,) the values that occur, ascending
    predicted, true                 (P,), (T,) int64 pixels of each of them
    row, column                     (N,) indices into the predicted and the true labels of each pair
    pixels                          (N,) int64 pixels that a pair shares, at least 1
    """

    predicted_labels: np.ndarray
    true_labels: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    row: np.ndarray
    column: np.ndarray
    pixels: np.ndarray


def overlaps(prediction: np.ndarray, truth: np.ndarray) -> Overlaps:
    """Count two arrays of labels of the same shape, integers or bool. ValueError where the shapes differ."""
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction of shape {prediction.shape} for a truth of {truth.shape}")
    predicted_labels, rows = _numbered(prediction.ravel())
    true_labels, columns = _numbered(truth.ravel())
    pair, pixels = _counts(rows * len(true_labels) + columns, len(predicted_labels) * len(true_labels))
    row, column = np.divmod(pair, max(len(true_labels), 1))
    return Overlaps(
        predicted_labels,
        true_labels,
        np.bincount(rows, minlength=len(predicted_labels)),
        np.bincount(columns, minlength=len(true_labels)),
        row,
        column,
        pixels,
    )


def _numbered(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, ascending, and the place of each pixel's among them: a table where labels are small."""
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {values.dtype}")
    if values.size and values.min() >= 0 and values.max() < DENSE * values.size:
        there = np.bincount(values) > 0
        return np.flatnonzero(there), (np.cumsum(there) - 1)[values]
    return np.unique(values, return_inverse=True)


def _counts(values: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers below `end` that occur, ascending, and how often: without sorting where a table is small enough."""
    if end <= DENSE * len(values):
        counts = np.bincount(values, minlength=end)
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(values, return_counts=True)
