"""What is particular to TIFF: pages, sample formats beyond Pillow's, orientation.

Pillow knows the compressions and the colour models, tifffile the sample formats. So Pillow reads
what it can hold without loss, and tifffile the rest: colours of 16 bits, 8-bit signed and 32-bit
unsigned integers, floats of 16 and 64 bits, 64-bit integers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from minunet.extras import require

SUFFIXES = (".tif", ".tiff")
BYTE_ORDERS = (b"II", b"MM")  # the first bytes of every TIFF
BITS, FORMAT, KIND, ORIENTATION = 258, 339, 254, 274  # tags
REDUCED, TRANSPARENCY = 1, 4  # bits of KIND: a thumbnail, a transparency mask
SIGNED = 2  # of FORMAT
GREY_OR_RGB = (0, 1, 2)  # PhotometricInterpretation that needs no conversion


def whole_pages(picture: Any) -> Iterator[None]:
    """Put a Pillow image on each of its pages in turn, thumbnails and transparency left out."""
    for page in range(picture.n_frames):
        picture.seek(page)
        if page == 0 or not _is_extra(picture.tag_v2.get(KIND, 0)):
            yield


def is_kept_by_pillow(picture: Any) -> bool:
    """Whether Pillow's pixels of this page are those of the file, without loss."""
    bits = max(picture.tag_v2.get(BITS, (1,)))
    signed = max(np.ravel(picture.tag_v2.get(FORMAT, (1,)))) == SIGNED
    if bits <= 8:
        return not signed
    if picture.mode == "I":
        return signed
    return picture.mode == "F" or (picture.mode.startswith("I;16") and not signed)


def read_with_tifffile(file: BinaryIO, check_size: Callable[[tuple[int, int]], None]) -> list[np.ndarray]:
    """Every page, (H, W) or (H, W, 3), without alpha. `check_size` gets (width, height) first.

    Whatever tifffile reports as an error in the file is raised, as it would go on with fewer pages.
    """
    tifffile = require("tifffile", extra="train")
    images = []
    file.seek(0)
    with complaints() as found, tifffile.TiffFile(file) as pages:
        for number, page in enumerate(pages.pages):
            if number and _is_extra(page.subfiletype):
                continue
            check_size((page.imagewidth, page.imagelength))
            images.append(_page(page))
        if not images:
            raise ValueError("it has no pages")
    if found:
        raise ValueError(found[0])
    return images


def _page(page: Any) -> np.ndarray:
    if page.photometric not in GREY_OR_RGB or page.axes not in ("YX", "YXS", "SYX"):
        raise ValueError(f"{page.photometric.name} of {page.dtype} and axes {page.axes} is not grey or RGB")
    image = page.asarray()
    if page.axes == "SYX":
        image = np.moveaxis(image, 0, 2)
    if image.ndim == 3:
        samples = image.shape[2]
        if samples > 4:
            raise ValueError(f"{samples} channels in a page, where 1 to 4 are known")
        image = image[..., :3] if samples > 2 else image[..., 0]  # the rest is alpha
    orientation = page.tags.valueof(ORIENTATION, default=1)
    return np.ascontiguousarray(_turned(image, orientation))


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """As a viewer shows it: 5 to 8 are 1 to 4 with rows and columns exchanged."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _is_extra(kind: int) -> bool:
    return bool(kind & (REDUCED | TRANSPARENCY))


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What tifffile logs as errors meanwhile; nothing of it goes to stderr."""
    logger, notes = logging.getLogger("tifffile"), _Notes()
    before = logger.propagate
    logger.addHandler(notes)
    logger.propagate = False
    try:
        yield notes.texts
    finally:
        logger.removeHandler(notes)
        logger.propagate = before
