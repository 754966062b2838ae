"""The paper's weight map: what the loss counts more, so that cells are kept apart.

How the two nearest cells of every pixel are found, exactly and with NumPy alone. A pixel's state is three numbers: the
distance to its nearest cell, that cell's id, and the distance to the nearest pixel of any other cell. The states of two
sets of cell pixels merge into the state of both together (`_merge`), so the plane can be taken apart: first each
column by itself (`_within_columns`), then, for every pixel, the columns beside it, nearer ones first
(`_across_columns`). Squares of distances between pixel centres are whole numbers, so nothing is rounded, and a column
k pixels away adds k² to all that it holds without changing its order: what is not among its two nearest there cannot
be among the two nearest of the plane. No step knows how many cells there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 16  # pixels that are worked on at once: their arrays stay in the processor's cache


class _Nearest(NamedTuple):
    """The two nearest cells at each pixel; distances are in pixels, or squares of these."""

    near: np.ndarray  # to the nearest cell
    ids: np.ndarray  # that cell's id, 0 where there is none
    other: np.ndarray  # to the nearest pixel of any other cell


def weight_map(
    labels: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    class_weight: np.ndarray | str | None = None,
) -> np.ndarray:
    """The weight of each pixel in the loss: labels (H, W) integers, 0 = background -> (H, W) float32.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))² / (2 sigma²)), formula (2) of Ronneberger, Fischer and Brox (2015). d1 and
    d2 are the Euclidean distances in pixels, between pixel centres, from a background pixel to the nearest pixel of
    the nearest cell and of the second nearest; a pixel beside a cell is at distance 1. A cell is all pixels of one
    id, connected or not. The second term is 0 inside cells, and everywhere with fewer than two cells. Labels are taken
    as they are: cells that touch have no background between them, so call `separate_touching` first.

    class_weight gives w_c: None is 1 everywhere, an array (2,) holds the weights of background and cells, and
    "balanced" is N / (K n_k) for a class of n_k of the N pixels, where K counts the classes that this image has. To
    balance over a whole data set, compute the two weights there and give them as the array.

    The term is left out where it is too small to change the float32 sum. That is at d1 + d2 of more than about
    6.3 sigma with w_c = 1, and the result is the same to the last bit; time is proportional to this reach and to H W,
    memory to H W, whatever the number of cells. ValueError for anything that does not fit the above.
    """
    labels = _checked(labels, w0, sigma)
    classes = _class_weights(labels, class_weight)
    weights = classes.take(labels != 0)
    # The smallest term that changes the sum is half a unit in its last place; half of that is on the safe side.
    least = float(np.spacing(classes[0])) / 4
    reach = sigma * math.sqrt(2 * (math.log(w0) - math.log(least))) if w0 > least else 0.0
    if reach < 2:  # no pixel is nearer than 1 to either cell
        return weights
    # Distances are cut off at `limit`, which is beyond the reach or beyond every distance in the image.
    limit = min(math.floor(reach) + 1, sum(labels.shape))
    columns = _within_columns(labels, limit)
    for rows, state in _across_columns(columns, labels, limit, reach):
        found = (labels[rows] == 0) & (state.other < limit**2)
        distance = np.sqrt(state.near[found].astype(np.float64)) + np.sqrt(state.other[found].astype(np.float64))
        term = w0 * np.exp(-(distance**2) / (2 * sigma**2))
        weights[rows][found] += term.astype(np.float32)
    return weights


def _checked(labels: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), not of shape {labels.shape}")
    if labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    if not 0 <= w0 < math.inf:
        raise ValueError(f"w0 must be a number from 0 up, not {w0}")
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a positive number of pixels, not {sigma}")
    return labels


def _class_weights(labels: np.ndarray, class_weight: np.ndarray | str | None) -> np.ndarray:
    """The weights of background and cells, (2,) float32."""
    if class_weight is None:
        return np.ones(2, np.float32)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be None, "balanced" or two numbers, not {class_weight!r}')
        cells = np.count_nonzero(labels)
        counts = np.array([labels.size - cells, cells])
        present = max(1, np.count_nonzero(counts))
        # The weight of an absent class is used nowhere.
        return (labels.size / (present * counts.clip(1))).astype(np.float32)
    weights = np.asarray(class_weight, np.float32)
    if weights.shape != (2,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError(f"class_weight must hold two finite numbers from 0 up, not {class_weight!r}")
    return weights


def _merge(a: _Nearest, b: _Nearest) -> _Nearest:
    """The two nearest cells of what `a` and `b` have seen together.

    If both have the same nearest cell, the other one is the nearer of their others. If not, the one that loses is a
    candidate itself, and what it had behind it, being further, is none.
    """
    first = a.near <= b.near
    return _Nearest(
        np.minimum(a.near, b.near),
        np.where(first, a.ids, b.ids),
        np.where(
            a.ids == b.ids,
            np.minimum(a.other, b.other),
            np.minimum(np.maximum(a.near, b.near), np.where(first, a.other, b.other)),
        ),
    )


def _within_columns(labels: np.ndarray, limit: int) -> _Nearest:
    """The two nearest cells of every pixel within its own column; squares of distances, at most limit²."""
    kind = np.min_scalar_type(2 * limit**2)  # a small type is the faster one
    result = _Nearest(np.empty(labels.shape, kind), np.empty_like(labels), np.empty(labels.shape, kind))
    step = max(1, BLOCK // max(1, len(labels)))
    for start in range(0, labels.shape[1], step):
        block = np.s_[:, start : start + step]
        above = _looking_back(labels[block], limit)
        below = _Nearest(*(part[::-1] for part in _looking_back(labels[block][::-1], limit)))
        near, ids, other = _merge(above, below)
        result.near[block] = near**2
        result.ids[block] = ids
        result.other[block] = other**2
    return result


def _looking_back(labels: np.ndarray, limit: int) -> _Nearest:
    """The two nearest cells in each column among the pixels up to and with one's own row; distances, at most limit."""
    rows = np.arange(len(labels))[:, None]
    inside = labels != 0
    last = np.maximum.accumulate(np.where(inside, rows, -limit), axis=0)  # the last row with a cell
    ids = np.take_along_axis(labels, last.clip(0), axis=0) * (last >= 0)
    # Where a row's cell differs from that of the last row with a cell before it, another cell ends there.
    change = inside[1:] & (ids[:-1] != 0) & (ids[:-1] != labels[1:])
    ends = np.full(labels.shape, -limit)
    ends[1:] = np.where(change, last[:-1], -limit)
    other = np.maximum.accumulate(ends, axis=0)
    return _Nearest(np.minimum(rows - last, limit), ids, np.minimum(rows - other, limit))


def _across_columns(
    columns: _Nearest, labels: np.ndarray, limit: int, reach: float
) -> Iterator[tuple[slice, _Nearest]]:
    """Blocks of rows, and in these the two nearest cells of all background pixels; squares of distances.

    A distance of `limit` or more stands for "none". Where d1 + d2 is more than `reach` they may be too large.
    """
    height, width = labels.shape
    step = max(1, BLOCK // max(1, width))
    for start in range(0, height, step):
        rows = slice(start, start + step)
        there = _Nearest(*(part[rows] for part in columns))
        # Cells need no distances: as if all were found.
        here = _Nearest(there.near.copy(), there.ids.copy(), np.where(labels[rows] == 0, there.other, 0))
        for k in range(1, min(limit, width)):
            if not _open(here, k, reach):
                break
            for mine, theirs in ((np.s_[:, k:], np.s_[:, :-k]), (np.s_[:, :-k], np.s_[:, k:])):
                near, ids, other = (part[theirs] for part in there)
                part_here = _Nearest(*(part[mine] for part in here))
                merged = _merge(part_here, _Nearest(near + k * k, ids, other + k * k))
                for old, new in zip(part_here, merged, strict=True):
                    old[...] = new
        yield rows, here


def _open(state: _Nearest, k: int, reach: float) -> bool:
    """Whether columns at k pixels or more can still change a weight."""
    unfound = state.other > k * k
    if 2 * k > reach:  # two distances of k are too far: one of them must be known by now
        unfound &= state.near <= max(0, math.floor(reach) + 1 - k) ** 2
    return bool(unfound.any())
