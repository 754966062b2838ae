"""The eight flips and rotations of a picture, of sizes and of windows in it."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]
Place = tuple[int, int, int, int]  # top, left, height, width


class Symmetry(NamedTuple):
    """Rows and columns exchanged (if `transposed`), then rows (`down`) and columns (`across`) in reverse."""

    transposed: bool
    down: bool
    across: bool

    def apply(self, x: np.ndarray) -> np.ndarray:
        """The turned picture of x (..., H, W), a view."""
        return self._flip(x.swapaxes(-1, -2) if self.transposed else x)

    def undo(self, x: np.ndarray) -> np.ndarray:
        """x, if it is given its turned picture; a view."""
        x = self._flip(x)
        return x.swapaxes(-1, -2) if self.transposed else x

    def size(self, size: Size) -> Size:
        """(height, width) of the turned picture of one of `size`."""
        return (size[1], size[0]) if self.transposed else size

    def window(self, place: Place, size: Size) -> Place:
        """Where a window of a picture of `size` lies in the turned picture."""
        top, left, height, width = place
        if self.transposed:
            top, left, height, width = left, top, width, height
        return self._flip_place((top, left, height, width), self.size(size))

    def undo_window(self, place: Place, size: Size) -> Place:
        """Where a window of the turned picture lies in the picture of `size`."""
        top, left, height, width = self._flip_place(place, self.size(size))
        return (left, top, width, height) if self.transposed else (top, left, height, width)

    def _flip(self, x: np.ndarray) -> np.ndarray:
        return x[..., :: -1 if self.down else 1, :: -1 if self.across else 1]

    def _flip_place(self, place: Place, size: Size) -> Place:
        top, left, height, width = place
        top = size[0] - top - height if self.down else top
        left = size[1] - left - width if self.across else left
        return top, left, height, width


EIGHT = tuple(Symmetry(*flags) for flags in product((False, True), repeat=3))
