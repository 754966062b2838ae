"""Where cells begin: the pieces into which a map of probabilities falls apart as more and more is demanded of it.

Where two cells are bridged, the probability dips between them, but how deep differs from bridge to bridge: no one
threshold parts them all, and a high one loses the dim cells. So the pieces above one level after the other form a tree
(the component tree, or max-tree), and a piece that falls into two or more of some size is as many cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minunet.instances.components import components

LEVELS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)


def tree_markers(
    core: np.ndarray, levels: Sequence[float] = LEVELS, share: float = 0.1, min_size: int = 10
) -> np.ndarray:
    """Number the markers of cells: core (H, W) float -> int32 (H, W), 0 = none, 1..n in no particular order.

    Begins with the pieces above the first of the rising levels. A piece that falls, at a higher one, into two or more
    of at least `min_size` pixels and `share` of its own area is replaced by these, each of which may fall apart again.
    """
    labels = components(core > levels[0])
    area = np.bincount(labels.ravel(), minlength=1)
    for level in levels[1:]:
        pieces = components(core > level)
        size = np.bincount(pieces.ravel(), minlength=1)
        parent = np.zeros(len(size), np.int64)
        parent[pieces.ravel()] = labels.ravel()
        large = size >= np.maximum(min_size, share * area[parent])
        large[0], parent[0] = False, 0
        large &= parent > 0  # a piece that grew out of a small one, which fell away when its parent was replaced
        falls_apart = np.bincount(parent[large], minlength=len(area)) >= 2
        falls_apart[0] = False
        if not falls_apart.any():
            continue
        child = large & falls_apart[parent]
        new_name = np.where(child, len(area) + np.cumsum(child) - 1, 0)
        old_name = np.where(falls_apart, 0, np.arange(len(area)))
        labels = np.maximum(old_name[labels], new_name[pieces]).astype(np.int32)
        area = np.concatenate([area, size[child]])
    return labels
