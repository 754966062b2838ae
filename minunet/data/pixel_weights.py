"""What each pixel counts in the loss: by its class, and by how narrow the gap between two cells is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minunet.data.borders import kept_apart
from minunet.data.dataset import Dataset
from minunet.data.weight_map import weight_map
from minunet.instances.components import components


@dataclass(frozen=True)
class PixelWeights:
    """w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 sigma²)), as `weight_map` says.

    classes  w_c, a number for each class
    w0       0: classes alone, and no instances are needed
    sigma    pixels
    """

    classes: tuple[float, ...]
    w0: float = 10.0
    sigma: float = 5.0

    def __call__(self, target: np.ndarray, cells: np.ndarray | None) -> np.ndarray:
        """target (H, W) class indices; cells (H, W) instances as `kept_apart` leaves them -> (H, W) float32.

        Instances are needed where w0 is above 0. There are two classes then, or three with borders; these keep cells
        that touch apart already, so that only gaps that are in the masks count more.
        """
        by_class = np.array(self.classes, np.float32)
        if self.w0 <= 0 or cells is None:
            return by_class.take(target)
        if len(by_class) == 2:
            return weight_map(cells, self.w0, self.sigma, by_class)
        return by_class.take(target) + (weight_map(cells, self.w0, self.sigma) - 1)


def balanced(targets: Sequence[np.ndarray], classes: int) -> tuple[float, ...]:
    """w_c = N / (K n_c) over all targets (H, W), where K counts the classes that occur; 1 for those that do not."""
    counts = np.sum([np.bincount(target.ravel(), minlength=classes) for target in targets], axis=0)
    present = np.count_nonzero(counts)
    return tuple(float(counts.sum() / (present * n)) if n else 1.0 for n in counts)


def instances(dataset: Dataset, i: int) -> np.ndarray:
    """The instances of image i, (H, W), 0 background: those of its mask, or the pieces of the foreground.

    Pieces hang together by their corners too, so that there is nothing to be parted.
    """
    return components(dataset.targets[i], corners=True) if dataset.ids is None else dataset.ids[i]


def weights_of(dataset: Dataset, i: int, weights: PixelWeights) -> np.ndarray:
    """The weight of each pixel of the whole image i, (H, W) float32."""
    cells = kept_apart(instances(dataset, i), dataset.coding)[1] if weights.w0 > 0 else None
    return weights(dataset.targets[i], cells)
