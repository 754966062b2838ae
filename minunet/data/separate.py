"""Parting cells that touch, so that a foreground of two classes keeps them apart."""

from __future__ import annotations

import numpy as np

_FULL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
# Four directions, in which each pair of 8-neighbours is seen once: where the one lies, and where the other.
NEIGHBOURS = (
    ((_FULL, _HEAD), (_FULL, _TAIL)),
    ((_HEAD, _FULL), (_TAIL, _FULL)),
    ((_HEAD, _HEAD), (_TAIL, _TAIL)),
    ((_HEAD, _TAIL), (_TAIL, _HEAD)),
)


def separate_touching(labels: np.ndarray) -> np.ndarray:
    """Part touching cells: labels (H, W) -> labels of the same dtype, a copy.

    A pixel that has an 8-neighbour of a smaller non-zero id becomes 0, all others are unchanged;
    afterwards no two different ids are 8-neighbours.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), not of shape {labels.shape}")
    parted = labels.copy()
    for a, b in NEIGHBOURS:  # the larger id of the two goes
        one, other = labels[a], labels[b]
        both = (one != 0) & (other != 0)
        parted[a][both & (one > other)] = 0
        parted[b][both & (other > one)] = 0
    return parted
