"""Arrays in files that are written by windows: NPY, and TIFF where tifffile is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from minunet.data.windows import Window
from minunet.errors import UsageError
from minunet.extras import require

SUFFIXES = (".npy", ".tif", ".tiff")


class ArrayFile:
    """A file of one array, of which the windows are written in any order; zeros until then.

    shape: (H, W), (H, W, 3) for colours, or (K, H, W) if `planes`.  The file is mapped for each write anew, so that
    what was written does not count as memory of the process.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: Any, planes: bool = False) -> None:
        self.path, self.shape, self.dtype, self.planes = path, shape, np.dtype(dtype), planes
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path}: large results are written as {', '.join(SUFFIXES)}")
        if self._is_tiff and planes:
            raise UsageError(f"{path}: probabilities are written as .npy")
        self._tifffile: Any = require("tifffile", extra="train") if self._is_tiff else None

    @property
    def _is_tiff(self) -> bool:
        return self.path.suffix.lower() != ".npy"

    def create(self) -> None:
        """Make the file, in the place of one that may be there. OSError where the disk is too full for all of it."""
        self.path.unlink(missing_ok=True)
        if self._is_tiff:
            colours = "rgb" if len(self.shape) == 3 else "minisblack"
            self._tifffile.memmap(self.path, shape=self.shape, dtype=self.dtype, photometric=colours, metadata=None)
        else:
            np.lib.format.open_memmap(self.path, mode="w+", dtype=self.dtype, shape=self.shape)
        _take(self.path)

    def is_there(self) -> bool:
        """Whether the file holds an array of this shape and dtype."""
        try:
            found = self._map("r")
        except (OSError, ValueError):
            return False
        return found.shape == self.shape and found.dtype == self.dtype

    def write(self, window: Window, values: np.ndarray) -> None:
        """Store a window: (height, width, ...) or, if `planes`, (K, height, width). It is on the disk on return."""
        mapped = self._map("r+")
        mapped[(slice(None), *window.slices) if self.planes else window.slices] = values
        mapped.flush()

    def _map(self, mode: Any) -> Any:
        if self._is_tiff:
            return self._tifffile.memmap(self.path, mode=mode)
        return np.load(self.path, mmap_mode=mode, allow_pickle=False)


def _take(path: Path) -> None:
    """Have the disk set the file's room aside, where the system can: a full disk would end a write to a mapped file."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
            except OSError as error:
                path.unlink()
                error.filename = os.fspath(path)
                raise
