"""Labels that grow into the pixels around them, one ring of neighbours after the other: the nearest label wins.

The distance is the number of steps from pixel to pixel by their sides. Each ring looks at the pixels next to the last
one only, so the time grows with the pixels that are reached.
"""

from __future__ import annotations

import numpy as np

DAM = -1  # while growing: a pixel that belongs to none, and that nothing grows through


def grow(labels: np.ndarray, into: np.ndarray, steps: int | None = None, dams: bool = False) -> np.ndarray:
    """Grow labels (H, W), 0 = none, into the pixels (H, W) where `into` is non-zero, by at most `steps` rings.

    Returns labels of the same dtype, a copy; labelled pixels stay as they are. `steps` None: until nothing is left to
    reach. A pixel that several labels reach in the same ring goes to the smallest of them.

    With `dams` it stays 0 instead, and where two labels would come to lie side by side, the pixel of the larger one
    stays 0 too: labels that were no neighbours before stay parted by a line of zeros, one pixel wide or, where fronts
    meet aslant, little more. This is the watershed of a flat valley with the labels as markers.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.shape != np.shape(into):
        raise ValueError(f"labels of shape {labels.shape} cannot grow in a mask of shape {np.shape(into)}")
    # A frame that nothing may grow into spares every look across the border.
    grown = np.pad(labels.astype(np.int64), 1)
    free = np.pad(np.asarray(into) != 0, 1) & (grown == 0)
    sides = np.array([-grown.shape[1], -1, 1, grown.shape[1]])
    flat, free = grown.ravel(), free.ravel()
    ring = _beside_labels(grown, free)
    while len(ring) and (steps is None or steps > 0):
        _label_ring(flat, ring, sides, dams)
        free[ring] = False
        around = (ring[flat[ring] > 0, None] + sides).ravel()
        ring = _distinct(around[free[around]], free)
        steps = None if steps is None else steps - 1
    grown[grown == DAM] = 0
    return grown[1:-1, 1:-1].astype(labels.dtype)


def _beside_labels(grown: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Places of the free pixels that have a labelled one at a side."""
    labelled = grown > 0
    beside = np.zeros_like(labelled)
    beside[1:] |= labelled[:-1]
    beside[:-1] |= labelled[1:]
    beside[:, 1:] |= labelled[:, :-1]
    beside[:, :-1] |= labelled[:, 1:]
    return np.flatnonzero(beside.ravel() & free)


def _label_ring(flat: np.ndarray, ring: np.ndarray, sides: np.ndarray, dams: bool) -> None:
    """Give the pixels of a ring the smallest label at their sides, or make dams of them where labels meet."""
    near = flat[ring[:, None] + sides]
    none = np.iinfo(near.dtype).max
    smallest = np.where(near > 0, near, none).min(axis=1)
    if not dams:
        flat[ring] = smallest
        return
    flat[ring] = np.where(near.max(axis=1) == smallest, smallest, DAM)
    near = flat[ring[:, None] + sides]
    smaller = (near > 0) & (near < flat[ring, None])
    flat[ring[smaller.any(axis=1)]] = DAM


def _distinct(places: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Each of the places once, in order: sorted where there are few, else read from the mask."""
    if len(places) * 8 < len(free):
        return np.unique(places)
    seen = np.zeros(len(free), bool)
    seen[places] = True
    return np.flatnonzero(seen)
