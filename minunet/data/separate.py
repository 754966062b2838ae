"""Parting cells that touch, so that a foreground of two classes keeps them apart."""

from __future__ import annotations

import numpy as np


def separate_touching(labels: np.ndarray) -> np.ndarray:
    """Part touching cells: labels (H, W) -> labels of the same dtype, a copy.

    A pixel that has an 8-neighbour of a smaller non-zero id becomes 0, all others are unchanged;
    afterwards no two different ids are 8-neighbours.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), not of shape {labels.shape}")
    parted = labels.copy()
    full, head, tail = slice(None), slice(None, -1), slice(1, None)
    # Four directions; each pair of neighbours is seen once and the larger id of the two goes.
    for a, b in (
        ((full, head), (full, tail)),
        ((head, full), (tail, full)),
        ((head, head), (tail, tail)),
        ((head, tail), (tail, head)),
    ):
        one, other = labels[a], labels[b]
        both = (one != 0) & (other != 0)
        parted[a][both & (one > other)] = 0
        parted[b][both & (other > one)] = 0
    return parted
