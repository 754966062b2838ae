"""Windows of a TIFF: mapped where it is stored as it is, else from the strips or tiles that they touch."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from minunet.data.errors import wrong
from minunet.data.tiff import ORIENTATION, complaints
from minunet.data.windows import Source
from minunet.extras import require

CACHE = 1 << 26  # bytes of decoded pieces that are kept: neighbouring windows touch the same ones
LARGEST_PIECE = 1 << 28  # bytes of one strip or tile; a file may be a single compressed one
GREY, RGB = 1, 2  # photometric interpretations


class TiffSource(Source):
    """The one page of a TIFF, (H, W) or (H, W, C) as `read_image` gives it: without alpha.

    DataError for several pages, for palettes and other colours than grey and RGB, for turned pages and for bits that
    are no whole bytes: such images are read whole.
    """

    def __init__(self, path: Path) -> None:
        tifffile = require("tifffile", extra="train")
        self.file: Any = None
        try:
            with complaints() as found:
                self.file = tifffile.TiffFile(path)
                pages = len(self.file.pages)
                self.page: Any = self.file.pages[0]
            if found:
                raise ValueError(found[0])
        except Exception as error:  # tifffile raises many kinds
            self.close()
            raise wrong(path, f"cannot be read as TIFF ({error})", "save it again") from error
        page = self.page
        self.memmap = tifffile.memmap if page.is_memmappable else None
        self.pieces: OrderedDict[int, tuple[np.ndarray, int, int, int]] = OrderedDict()
        self.kept = 0
        fault = self._fault(pages)
        if fault:
            self.close()
            raise wrong(path, f"{fault}, which is not read by windows", "save it as grey or RGB, one page, tiled")
        length, width = page.imagelength, page.imagewidth
        samples = page.samplesperpixel
        self.colours = samples if samples in (1, 3) else samples - 1  # the rest is alpha
        shape = (length, width) if self.colours == 1 else (length, width, self.colours)
        super().__init__(path, shape, page.dtype, None if self.colours == 1 else 2)

    def _fault(self, pages: int) -> str:
        page = self.page
        if pages != 1:
            return f"a file of {pages} pages"
        if page.photometric not in (GREY, RGB) or page.axes not in ("YX", "YXS", "SYX") or page.samplesperpixel > 4:
            return f"{page.photometric.name} of axes {page.axes}"
        if page.bitspersample % 8 or page.dtype is None or page.dtype.kind not in "iuf":
            return f"an image of {page.bitspersample} bits, {page.sampleformat}"
        if page.tags.valueof(ORIENTATION, default=1) != 1:
            return "a turned image"
        if self.memmap is None and self._piece_bytes() > LARGEST_PIECE:
            return f"one compressed piece of {self._piece_bytes() / 1e6:.0f} MB"
        return ""

    def _piece_bytes(self) -> int:
        return int(np.prod(self.page.chunks)) * self.page.dtype.itemsize

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        rows, columns = index
        planar = self.page.axes == "SYX"
        if self.memmap is not None:
            mapped = self.memmap(self.path, page=0, mode="r")
            found = np.array(mapped[:, rows, columns] if planar else mapped[rows, columns])
            if planar:
                found = np.moveaxis(found, 0, 2)
        else:
            found = self._decoded(rows, columns)
        if found.ndim == 3:
            found = found[..., 0] if self.colours == 1 else found[..., : self.colours]
        return np.ascontiguousarray(found)

    def _decoded(self, rows: slice, columns: slice) -> np.ndarray:
        """(rows, columns, samples) from the pieces that the window touches."""
        page = self.page
        found = np.zeros((rows.stop - rows.start, columns.stop - columns.start, page.samplesperpixel), page.dtype)
        tiled = page.is_tiled
        height, width = (page.tilelength, page.tilewidth) if tiled else (page.rowsperstrip, page.imagewidth)
        height = min(height, page.imagelength) if not tiled else height
        down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
        planes = page.samplesperpixel if page.axes == "SYX" else 1
        for plane in range(planes):
            for i in range(rows.start // height, -(-rows.stop // height)):
                for j in range(columns.start // width, -(-columns.stop // width)):
                    self._place(found, rows, columns, (plane * down + i) * across + j)
        return found

    def _place(self, found: np.ndarray, rows: slice, columns: slice, number: int) -> None:
        """Copy what a piece has of the window."""
        piece, sample, top, left = self._piece(number)
        first, last = max(rows.start, top), min(rows.stop, top + piece.shape[0])
        begin, end = max(columns.start, left), min(columns.stop, left + piece.shape[1])
        target = found[first - rows.start : last - rows.start, begin - columns.start : end - columns.start]
        target[..., sample : sample + piece.shape[2]] = piece[first - top : last - top, begin - left : end - left]

    def _piece(self, number: int) -> tuple[np.ndarray, int, int, int]:
        """(rows, columns, samples) of a strip or tile, its first sample, row and column; the last ones are kept."""
        if number in self.pieces:
            self.pieces.move_to_end(number)
            return self.pieces[number]
        page, handle = self.page, self.file.filehandle
        handle.seek(page.dataoffsets[number])
        try:
            data = handle.read(page.databytecounts[number]) or None
            decoded, place, shape = page.decode(data, number, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        except Exception as error:  # of the decoders
            raise wrong(self.path, f"piece {number} cannot be read ({error})", "save it again") from error
        if decoded is None:  # left out: all of it is the fill value
            decoded = np.full(shape, page.nodata, page.dtype)
        piece = decoded[0], int(place[0]), int(place[2]), int(place[3])
        self.pieces[number] = piece
        self.kept += piece[0].nbytes
        while self.kept > CACHE and len(self.pieces) > 1:
            self.kept -= self.pieces.popitem(last=False)[1][0].nbytes
        return piece
