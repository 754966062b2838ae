"""`Preprocessing` of an image that is read by windows: the same numbers as of the whole image.

Mean and standard deviation are those that NumPy finds for the whole array, to the last bit: it adds numbers in pairs of
halves, so the sum of a large array is the sum of NumPy's sums of its pieces, if they are these halves of halves.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from minunet.data.errors import DataError, wrong
from minunet.data.images import LARGEST
from minunet.data.preprocessing import Preprocessing
from minunet.data.windows import Source, Window

PIECE = 1 << 20  # numbers that are read at a time for the statistics


class Prepared:
    """The windows of a source as the network wants them.

    Made in one pass over the image for the statistics' mean and one for their deviation, where they are asked for; one
    more where colours become grey, and for floats, of which NaN and infinite ones are refused: DataError, also where
    the channels do not fit.
    """

    def __init__(self, source: Source, preprocessing: Preprocessing, dtype: np.dtype) -> None:
        self.source, self.preprocessing, self.dtype = source, preprocessing, np.dtype(dtype)
        self.mean = self.std = 0.0
        self.grey: bool | None = None  # whether all colours are equal, where they become grey
        colours = source.channels in (3, 4) and preprocessing.channels == 1
        try:
            channels = len(self.planes(Window(0, 0, 1, 1)))
        except DataError as error:
            raise wrong(source.path, str(error), "give a model of these channels") from None
        if colours or source.dtype.kind == "f":
            equal = self._examined()
            self.grey = equal if colours else None
        if preprocessing.normalize == "standardize":
            values = _Line(self, channels)
            self.mean = pairwise_sum(values.read, 0, values.count) / values.count
            squares = pairwise_sum(lambda a, b: np.square(values.read(a, b) - self.mean), 0, values.count)
            self.std = sqrt(squares / values.count)

    def read(self, window: Window) -> np.ndarray:
        """(C, height, width) of a window inside the image, in `dtype`."""
        planes = self.planes(window)
        if self.preprocessing.normalize == "none":
            return np.ascontiguousarray(planes, self.dtype)
        return self.preprocessing.scaled(planes.astype(np.float64), self.mean, self.std, self.dtype)

    def planes(self, window: Window) -> np.ndarray:
        """As `read`, before normalisation."""
        return self.preprocessing.fit_channels(self.source.planes(window), self.grey)

    def _examined(self) -> bool:
        """Whether all colours are equal; DataError where a number is none."""
        (height, width), equal = self.source.size, True
        rows = max(1, PIECE // width)
        for top in range(0, height, rows):
            planes = self.source.planes(Window(top, 0, min(rows, height - top), width))
            equal = equal and bool((planes[:3] == planes[:1]).all())
            if planes.dtype.kind == "f" and not float(np.abs(planes).max()) <= LARGEST:  # false for NaN
                raise wrong(self.source.path, "holds NaN, infinite or too large values",
                            "replace them by numbers that float32 holds")  # fmt: skip
        return equal


class _Line:
    """All numbers of the image one after the other, as they lie in memory where it is read whole, as float64."""

    def __init__(self, image: Prepared, channels: int) -> None:
        self.image, self.height = image, image.source.size[0]
        self.last = channels > 1 and image.source.channels > 1 and image.source.axis == 2
        self.across = image.source.size[1]
        self.length = self.across * (channels if self.last else 1)  # of a row
        self.rows = self.height * (1 if self.last else channels)
        self.count = self.rows * self.length

    def read(self, start: int, stop: int) -> np.ndarray:
        first, last = start // self.length, -(-stop // self.length)
        parts = []
        while first < last:
            channel, top = divmod(first, self.height)
            rows = min(last - first, self.height - top)
            planes = self.image.planes(Window(top, 0, rows, self.across))
            parts.append((planes.transpose(1, 2, 0) if self.last else planes[channel]).astype(np.float64).ravel())
            first += rows
        begin = start // self.length * self.length
        return np.concatenate(parts)[start - begin : stop - begin]


def pairwise_sum(read: Callable[[int, int], np.ndarray], start: int, count: int) -> float:
    """The sum of the numbers that read(start, start + count) would give, as NumPy sums them, read piece by piece."""
    if count <= PIECE:
        return float(np.add.reduce(read(start, start + count)))
    half = count // 2
    half -= half % 8
    return pairwise_sum(read, start, half) + pairwise_sum(read, start + half, count - half)
