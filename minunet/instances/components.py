"""Connected components of a mask, with NumPy alone and in time that grows with the image, whatever the shapes.

A row of the mask is a few runs of set pixels. Runs of neighbouring rows that overlap are the edges of a graph, and its
components are those of the mask: no pixel is visited twice. What follows works on whole arrays of runs and edges.
"""

from __future__ import annotations

import numpy as np


def components(mask: np.ndarray, corners: bool = False) -> np.ndarray:
    """Number the connected pieces of a mask: (H, W), set where non-zero -> (H, W) int32, 0 where not set.

    Pieces are 1..n in reading order: of their first pixels, the topmost and there the leftmost. Pixels hang together by
    their sides, with `corners` also by their corners. ValueError where the mask is not (H, W).
    """
    mask = np.asarray(mask) != 0
    if mask.ndim != 2:
        raise ValueError(f"a mask must be (H, W), not of shape {mask.shape}")
    starts, ends = _runs(mask)
    root = _roots(len(starts), *_overlaps(starts, ends, mask.shape[1] + 1, int(corners)))
    # The root of a piece is its first run, and runs are in reading order: so are the roots.
    is_root = root == np.arange(len(root))
    number = np.cumsum(is_root, dtype=np.int32)[root]
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(number, ends - starts)
    return labels


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First place of each run of set pixels, and the place behind its last, in rows that are one pixel longer.

    The pixel that is added to each row is not set, so no run goes on in the next row.
    """
    rows = np.pad(mask, ((0, 0), (0, 1))).ravel()
    changes = np.flatnonzero(np.diff(rows, prepend=False))
    return changes[::2], changes[1::2]


def _overlaps(starts: np.ndarray, ends: np.ndarray, width: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of runs that touch, the upper and the lower one: indices (E,) each. `reach` 1 counts corners too."""
    first = np.searchsorted(ends, starts + (width - reach), side="right")
    behind = np.searchsorted(starts, ends + (width + reach), side="left")
    count = np.maximum(behind - first, 0)
    upper = np.repeat(np.arange(len(starts)), count)
    place_in_row = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count, count)
    return upper, np.repeat(first, count) + place_in_row


def _roots(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest node of each node's component, in a graph of `count` nodes with the edges a[i] - b[i].

    In every round each root that has an edge to a smaller root is hung below it, and all trees are flattened; of two
    roots that are joined at least one is gone, so there are few rounds.
    """
    root = np.arange(count)
    while len(a):
        a, b = root[a], root[b]
        apart = a != b
        a, b = a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root[root] != root).any():
            root = root[root]
    return root
