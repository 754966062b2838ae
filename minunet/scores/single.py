"""Every score of one prediction of one image; those of a set are made from these, so that no prediction is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet.instances.components import components
from minunet.instances.label import cells_of
from minunet.scores import metrics
from minunet.scores.boundaries import boundary_f1
from minunet.scores.matching import Matches, match
from minunet.scores.membranes import THRESHOLDS, MembraneErrors, at_thresholds, membrane_errors

SURE = 0.5  # probability of a cell from which a pixel is taken for one where no best threshold is sought


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of an image, and what of it is to be scored.

    classes      (H, W) class indices
    count        number of classes
    ids          (H, W) numbered cells, 0 background; None where there are none to be told apart
    tolerance    of the boundaries, in pixels
    membranes    whether class 0 is the membrane between cells and is scored as such
    """

    classes: np.ndarray
    count: int
    ids: np.ndarray | None
    tolerance: float
    membranes: bool


@dataclass(frozen=True, eq=False)
class Single:
    """The scores of one prediction; None where a score has no meaning, or was not asked for.

    confusion      (K, K) int64 pixel counts: row = true class, column = predicted class
    score          IoU of the foreground for two classes, mean IoU of the classes in the image for more
    boundary_f1    of the foreground of two classes
    matches        of the numbered cells
    v              threshold: (V_rand, V_info)
    errors         of the membranes, at the threshold `SURE`
    """

    confusion: np.ndarray
    score: float
    boundary_f1: float | None
    matches: Matches | None
    v: dict[float, tuple[float, float]] | None
    errors: MembraneErrors | None


def of_probabilities(probabilities: np.ndarray, classes: np.ndarray, truth: Truth) -> Single:
    """Score what a network says: probabilities (K, H, W), and the class indices (H, W) that follow from them."""
    cells = None if truth.ids is None else cells_of(probabilities)
    return _judged(classes, cells, 1 - probabilities[0], THRESHOLDS, truth)


def of_mask(classes: np.ndarray, truth: Truth) -> Single:
    """Score class indices (H, W) alone: cells are the connected pieces of the foreground."""
    cells = None if truth.ids is None else components(classes)
    return _judged(classes, cells, classes != 0, (SURE,), truth)


def _judged(
    classes: np.ndarray, cells: np.ndarray | None, inside: np.ndarray, thresholds: tuple[float, ...], truth: Truth
) -> Single:
    two, v, errors = truth.count == 2, None, None
    if truth.membranes:
        true_cells = components(truth.classes) if truth.ids is None else truth.ids
        v, errors = at_thresholds(inside, true_cells, thresholds), membrane_errors(inside > SURE, true_cells)
    return Single(
        confusion=metrics.confusion(classes, truth.classes, truth.count),
        score=metrics.score([classes], [truth.classes], truth.count),
        boundary_f1=boundary_f1(classes, truth.classes, truth.tolerance) if two else None,
        matches=None if truth.ids is None or cells is None else match(cells, truth.ids),
        v=v,
        errors=errors,
    )
