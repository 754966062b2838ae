"""Images that are read by windows, so that they need not fit the memory: NPY, TIFF and Zarr.

Files are mapped, or their compressed pieces decoded, for one window at a time, and let go of afterwards: what was read
once does not stay in memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minunet.data.errors import DataError, wrong
from minunet.data.preprocessing import channel_axis

ALPHA = (2, 4)  # channels, the last of which is transparency in picture files
NPY, TIFF, ZARR = ".npy", (".tif", ".tiff"), ".zarr"


class Window(NamedTuple):
    """Rows top ... top + height and columns left ... left + width of an image."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of rows and of columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def cut(x: np.ndarray, window: Window) -> np.ndarray:
    """The window of an array (..., H, W), a view."""
    return x[(..., *window.slices)]


class Source(ABC):
    """An image somewhere, of which windows are read.

    shape: as it is stored, (H, W), (H, W, C) or (C, H, W); axis: that of the channels, None, 2 or 0.
    size: (H, W).  channels: how many `planes` gives.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, axis: int | None) -> None:
        self.path, self.shape, self.dtype, self.axis = path, shape, np.dtype(dtype), axis
        sides = [side for number, side in enumerate(shape) if number != axis]
        self.size = (sides[0], sides[1])
        self.channels = 1 if axis is None else shape[axis]

    def planes(self, window: Window) -> np.ndarray:
        """(C, height, width) of a window inside the image, in the image's own dtype."""
        if self.axis == 0:
            return self._read((slice(None), *window.slices))
        piece = self._read(window.slices)
        return piece[None] if self.axis is None else piece.transpose(2, 0, 1)

    @abstractmethod
    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        """A copy of array[index]."""

    def close(self) -> None:
        """Let go of the file."""
        return  # only some sources hold one


def open_windows(path: str | Path, channels: int | None = None) -> Source:
    """The image in a file, to be read by windows: .npy, .tif or .tiff of one page, or a folder .zarr.

    channels: of the model, which says of an array of three axes which of them the channels are (`Preprocessing`).

    DataError where the file is of another kind, cannot be read or is no image; MissingExtra where TIFF needs tifffile
    or Zarr zarr, and it is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise wrong(path, "no such file", "check the path")
    if suffix == NPY:
        return _NpySource(path, channels)
    if suffix in TIFF:
        from minunet.data.tiff_windows import TiffSource

        return TiffSource(path)
    if suffix == ZARR:
        return _ZarrSource(path, channels)
    raise wrong(path, "cannot be read by windows", "save it as .npy, .tif or .zarr")


class _NpySource(Source):
    def __init__(self, path: Path, channels: int | None) -> None:
        from minunet.data.images import check_npy

        with open(path, "rb") as file:
            shape, dtype = check_npy(path, file)
        super().__init__(path, shape, dtype, _axis(path, shape, dtype, channels))

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r", allow_pickle=False)[index])


class _ZarrSource(Source):
    def __init__(self, path: Path, channels: int | None) -> None:
        from minunet.extras import require

        zarr = require("zarr", extra="zarr")
        try:
            array = zarr.open(str(path), mode="r")
        except Exception as error:  # zarr has many kinds
            raise wrong(path, f"cannot be read as Zarr ({error})", "save it again") from error
        if not hasattr(array, "shape"):
            raise wrong(path, "is a group of Zarr arrays", f"give one of them: {', '.join(sorted(array.keys()))}")
        self.array = array
        super().__init__(path, array.shape, array.dtype, _axis(path, array.shape, array.dtype, channels))

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.array[index])


def _axis(path: Path, shape: tuple[int, ...], dtype: np.dtype, channels: int | None) -> int | None:
    try:
        axis = channel_axis(shape, dtype, channels)
    except DataError as error:
        raise wrong(path, str(error), "save (H, W) or (H, W, C)") from None
    if axis == 0 and channels is not None and shape[0] in ALPHA and shape[0] != channels:
        raise wrong(path, f"shape {shape} has {shape[0]} channels first, for a model of {channels}",
                    "save images one by one, and without alpha")  # fmt: skip
    return axis
