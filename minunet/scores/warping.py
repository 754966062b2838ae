"""Warping error: the mistakes of a mask that remain where its borders may be moved, but nothing cut, joined or holed.

The truth is warped towards the prediction by flipping pixels where the two differ, one after the other, as long as no
flip changes the topology: only simple points are flipped. Cells hang together by their sides, what is around them by
its corners too, and so does what lies outside the image, which counts as background. The pixels that still differ when
no simple point is left are those where the prediction splits, merges, adds, deletes or holes a cell (Jain et al.,
"Boundary learning by optimization with topological constraints", CVPR 2010).

The order of the flips matters a little and the best order is not sought, there as here: the error is that of a warp
that can go no further, an upper bound of the least one. Here all borders move at equal speed, a pixel at a time.

A point is simple where one piece of cell among its eight neighbours lies at its sides: the crossing number of Yokoi
is 1 (Yokoi, Toriwaki, Fukumura, Computer Graphics and Image Processing 4, 1975).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet.instances.components import components

# The eight neighbours in a circle, a side (even places) after a corner: right, upper right, upper ... lower right.
CIRCLE = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _simple_points() -> np.ndarray:
    """(256,) bool: whether a pixel is simple, by which neighbours are set (bit k: the k-th of the circle)."""
    is_set = (np.arange(256)[:, None] >> np.arange(8)) & 1
    crossings = np.zeros(256, int)
    for side in (0, 2, 4, 6):
        here, corner, next_side = (is_set[:, (side + i) % 8] for i in range(3))
        crossings += here - here * corner * next_side
    return crossings == 1


SIMPLE = _simple_points()


@dataclass(frozen=True, eq=False)
class Warping:
    """What `warp` found.

    warped      (H, W) bool: the truth with its borders moved to those of the prediction
    remaining   (H, W) bool: pixels within the mask where that still differs from the prediction
    error       their share of all pixels of the image: the warping error
    The pieces of `remaining`, each a mistake, by kind:
    splits      parts a cell by membrane that is not there
    mergers     joins cells by a gap in their membrane
    deletions   a whole cell that was not found
    additions   a cell where none is
    holes       membrane inside a cell that parts nothing, or a hole in a cell that was closed
    """

    warped: np.ndarray
    remaining: np.ndarray
    error: float
    splits: int
    mergers: int
    deletions: int
    additions: int
    holes: int


def warping_error(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Share of pixels that no warp of the truth explains, see `warp`; 0 is perfect, and 0 where there is no pixel."""
    return warp(prediction, truth, mask).error


def warp(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> Warping:
    """Warp the truth to the prediction: both (H, W), cells where non-zero and background or membrane where 0.

    mask (H, W): pixels where it is non-zero may be flipped, and count in the error; None: all. ValueError where shapes
    differ or are not (H, W).
    """
    predicted, warped = np.asarray(prediction) != 0, np.asarray(truth) != 0
    within = np.ones(warped.shape, bool) if mask is None else np.asarray(mask) != 0
    if warped.ndim != 2 or not predicted.shape == warped.shape == within.shape:
        shapes = f"{predicted.shape}, {warped.shape} and {within.shape}"
        raise ValueError(f"prediction, truth and mask must be (H, W) and of one shape, not {shapes}")
    warped = _warped(predicted, warped, within)
    remaining = (warped != predicted) & within
    error = float(np.count_nonzero(remaining) / max(remaining.size, 1))
    return Warping(warped, remaining, error, **_mistakes(warped, remaining))


def _warped(predicted: np.ndarray, truth: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Flip simple points of the truth where it differs from the prediction, until none is left.

    Each round is four steps, one for each place of a pixel in squares of 2 x 2. Pixels that are flipped in one step are
    no neighbours of each other, so to flip them at once is to flip them one after the other. Only neighbours of what
    was flipped can have become simple, and the next round looks at no others.
    """
    width = truth.shape[1] + 2
    cells = np.pad(truth, 1).ravel()  # outside is background
    differs = np.pad((truth != predicted) & within, 1).ravel()
    circle = np.array([dy * width + dx for dy, dx in CIRCLE])
    active = np.flatnonzero(differs)
    while len(active):
        step_of = active // width % 2 * 2 + active % width % 2
        flipped = [_flip(cells, differs, active[step_of == step], circle) for step in range(4)]
        near = (np.concatenate(flipped)[:, None] + circle).ravel()
        active = np.unique(near[differs[near]])
    return cells.reshape(-1, width)[1:-1, 1:-1]


def _flip(cells: np.ndarray, differs: np.ndarray, places: np.ndarray, circle: np.ndarray) -> np.ndarray:
    """Flip those of the places, no two of which are neighbours, that are simple points; returns them."""
    neighbours = cells[places[:, None] + circle]
    simple = places[SIMPLE[np.packbits(neighbours, axis=1, bitorder="little")[:, 0]]]
    cells[simple] ^= True
    differs[simple] = False
    return simple


def _mistakes(warped: np.ndarray, remaining: np.ndarray) -> dict[str, int]:
    """Count the pieces of what remains by how many pieces of cell each touches.

    Cell that the prediction lacks is looked at as taken away, and what it touches are the pieces that are left: two or
    more are a split. Cell that it has too much touches the pieces that are there: two or more are a merger.
    """
    lacking = _pieces_touched(remaining & warped, warped & ~remaining)
    added = _pieces_touched(remaining & ~warped, warped)
    return {
        "splits": int(np.count_nonzero(lacking > 1)),
        "mergers": int(np.count_nonzero(added > 1)),
        "deletions": int(np.count_nonzero(lacking == 0)),
        "additions": int(np.count_nonzero(added == 0)),
        "holes": int(np.count_nonzero(lacking == 1) + np.count_nonzero(added == 1)),
    }


def _pieces_touched(mistake: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """For each piece of a mask of mistakes (corners count) the number of pieces of cell that lie at its sides."""
    mistakes, cells = components(mistake, corners=True), components(cell)
    pairs = []
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        for here, there in ((a, b), (b, a)):
            touch = (mistakes[here] > 0) & (cells[there] > 0)
            pairs.append(np.stack([mistakes[here][touch], cells[there][touch]]))
    touching = np.unique(np.concatenate(pairs, axis=1), axis=1)[0]
    return np.bincount(touching, minlength=int(mistakes.max(initial=0)) + 1)[1:]
