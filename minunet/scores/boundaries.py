"""Boundary F1: how much of the outlines lies where it should, a few pixels to either side allowed.

    precision  share of the predicted boundary pixels with a true one within the tolerance
    recall     share of the true boundary pixels with a predicted one within the tolerance
    F1         2 precision recall / (precision + recall)

as in Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013. Distances
are Euclidean, in pixels, from centre to centre.
"""

from __future__ import annotations

import numpy as np


def boundary_f1(prediction: np.ndarray, truth: np.ndarray, tolerance: float = 2.0) -> float:
    """Boundary F1 of one image: masks, classes or numbered cells (H, W); see `boundary` for what their boundaries are.

    1 where neither has a boundary, 0 where only one has. `tolerance` 0 demands the same pixels. Of one class k of
    several: boundary_f1(prediction == k, truth == k). ValueError where the shapes differ or are not (H, W), or where
    the tolerance is negative.
    """
    found, wanted = boundary(prediction), boundary(truth)
    if found.shape != wanted.shape:
        raise ValueError(f"prediction of shape {found.shape} for a truth of {wanted.shape}")
    if not tolerance >= 0:
        raise ValueError(f"the tolerance must be a number of pixels, 0 or more, not {tolerance}")
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision = np.count_nonzero(found & within(wanted, tolerance)) / np.count_nonzero(found)
    recall = np.count_nonzero(wanted & within(found, tolerance)) / np.count_nonzero(wanted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary(labels: np.ndarray) -> np.ndarray:
    """Boundary pixels (H, W) bool: those that are not 0 and have another value, 0 or not, at one of their sides.

    So a boundary is a line on the inside, of two cells that touch one in each; the image's border is none.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), not of shape {labels.shape}")
    edge = np.zeros(labels.shape, bool)
    for here, there in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differs = labels[here] != labels[there]
        edge[here] |= differs
        edge[there] |= differs
    return edge & (labels != 0)


def within(mask: np.ndarray, distance: float) -> np.ndarray:
    """Pixels (H, W) bool whose centre is at most `distance` from that of a pixel where the mask (H, W) is non-zero.

    A disk is a stack of rows, so a mask that is widened along its rows by half the length of each, and moved up or down
    to its place, makes the disk around every pixel: time grows with the distance, not with its square.
    """
    mask = np.asarray(mask) != 0
    height, width = mask.shape
    before = np.pad(np.cumsum(mask, axis=1, dtype=np.int32), ((0, 0), (1, 0)))  # set pixels left of each place
    near = np.zeros_like(mask)
    column = np.arange(width)
    reach = min(distance, height + width)  # farther is no pixel
    for dy in range(min(int(reach), height - 1) + 1):
        half = int(np.sqrt(reach**2 - dy**2))
        wide = before[:, np.minimum(column + half + 1, width)] > before[:, np.maximum(column - half, 0)]
        near[dy:] |= wide[: height - dy]
        near[: height - dy] |= wide[dy:]
    return near
