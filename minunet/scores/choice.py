"""The score by which training chooses the best model of a run: what it is called, and what needs no learning has.

"iou": mean IoU, see metrics.py. "ap": average precision of the cells, averaged over an IoU of 0.5, 0.55 ... 0.95, see
matching.py. Where masks number the cells it is "ap", since a network that learns to keep cells apart spends foreground
on the gaps between them, which an IoU of the foreground takes for a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from minunet.errors import UsageError
from minunet.instances.components import components
from minunet.scores import metrics
from minunet.scores.matching import Matches, match

if TYPE_CHECKING:
    from minunet.data.dataset import Dataset


def choose(asked: str | None, dataset: Dataset) -> str:
    """As asked for, else "ap" where the masks number cells and "iou" elsewhere. UsageError for "ap" without cells."""
    if asked == "ap" and dataset.ids is None:
        raise UsageError(
            f"the score ap is of numbered cells, and the masks hold {dataset.coding.describe()}: leave it out"
        )
    return asked or ("iou" if dataset.ids is None else "ap")


def name(kind: str, classes: int) -> str:
    """For people: what "iou" or "ap" is for so many classes."""
    if kind == "ap":
        return "mean AP of cells"
    return "mean IoU of cells" if classes == 2 else "mean IoU of classes"


def matches(cells: list[np.ndarray], dataset: Dataset) -> Matches:
    """Of numbered cells (H, W), an array an image, with those of the masks."""
    assert dataset.ids is not None  # see `choose`
    each = [match(found, true) for found, true in zip(cells, dataset.ids, strict=True)]
    return sum(each[1:], start=each[0])


def baselines(kind: str, dataset: Dataset) -> dict[str, float]:
    """This score of the baselines (see `metrics.baselines`); their cells are the pieces of their foreground."""
    if kind == "iou":
        return metrics.baselines(dataset)
    return {
        known: matches([components(mask) for mask in masks], dataset).mean_average_precision
        for known, masks in metrics.baseline_predictions(dataset).items()
    }
