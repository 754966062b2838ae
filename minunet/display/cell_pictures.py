"""A picture of numbered cells: which of them were found, which were missed, which are none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minunet.display import pictures
from minunet.scores.matching import matched

# By outline, over a darkened grey image: what is wrong in colours that stand apart for every kind of sight.
FOUND = {
    "right": np.array((225, 225, 225), np.uint8),
    "missed": pictures.MISTAKES["missed"],
    "false": pictures.MISTAKES["added"],
}
TINT = 0.3  # of its colour in a cell that is wrong


@dataclass(frozen=True)
class CellRow:
    """One image: raw, with its true and its predicted cells (H, W), numbered, 0 background."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    cells: np.ndarray
    note: str = ""  # stands under the prediction, e.g. its score


def cell_marks(image: np.ndarray, truth: np.ndarray, cells: np.ndarray, largest: int | None = None) -> np.ndarray:
    """The image, grey and darkened, with the outlines of its cells in the colours of `FOUND`; uint8 (H, W, 3).

    right: predicted cells that match a true one, an IoU above 0.5; missed: true cells that none matches; false:
    predicted cells that match none. Cells that are wrong are tinted too. `largest`: `thinned` to so many pixels.
    """
    found, known = matched(cells, truth)
    right = np.where(np.isin(cells, found), cells, 0)
    missed, false = np.where(np.isin(truth, known), 0, truth), np.where(right > 0, 0, cells)
    image, *labels = (pictures.thinned(each, largest or max(each.shape))
                      for each in (pictures.display(image), right, missed, false))  # fmt: skip
    seen = np.repeat(0.5 * image.mean(axis=2, keepdims=True), 3, axis=2)
    for drawn, color in zip(labels[1:], list(FOUND.values())[1:], strict=True):
        seen[drawn > 0] += TINT * (color - seen[drawn > 0])
    for drawn, color in zip(labels, FOUND.values(), strict=True):
        seen[pictures.outline(drawn)] = color
    return (seen + 0.5).astype(np.uint8)


def worst_cells(path: str | Path, rows: Sequence[CellRow], title: str) -> None:
    """A picture with a row an image: image, true cells, predicted cells, and which of them match.

    Needs matplotlib (MissingExtra otherwise).
    """
    columns = ("image", "true cells", "predicted cells", "right, missed and false")
    figure, axes, _ = pictures.sheet(len(rows), title, columns)
    for row, line in zip(rows, axes, strict=True):
        image, truth, cells = (
            pictures.thinned(array, pictures.PIXELS) for array in (pictures.display(row.image), row.truth, row.cells)
        )
        marks = cell_marks(row.image, row.truth, row.cells, pictures.PIXELS)
        shown = (image, pictures.overlay(image, truth), pictures.overlay(image, cells), marks)
        for axis, picture in zip(line, shown, strict=True):
            axis.imshow(picture, interpolation="nearest")
        pictures.label(line[0], row.name)
        pictures.label(line[2], row.note)
    pictures.legend(figure, {name: color / 255 for name, color in FOUND.items()}, side="right")
    pictures.save(figure, path)
