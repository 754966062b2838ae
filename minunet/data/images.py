"""Reading and writing image files. NPY needs NumPy alone, all else Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minunet.data.errors import DataError
from minunet.extras import require
from minunet.files import atomic_write

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy")
TIFF_SUFFIXES = (".tif", ".tiff")
PLAIN_MODES = ("L", "RGB", "I;16", "F")  # Pillow modes that are arrays of their own dtype


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file: (H, W) or (H, W, C) in its own dtype.

    PNG, TIFF, JPEG, BMP of 8 or 16 bits, and NPY (as it is stored). Palette colours become RGB,
    alpha is dropped, one bit becomes 0 and 255; Pillow gives colours of 16 bits as 8 bits.
    DataError where the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; check the path")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path}: unknown kind of file; known are {', '.join(IMAGE_SUFFIXES)}")
    image = _read_npy(path) if path.suffix.lower() == ".npy" else _read_picture(path)
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise DataError(f"{path}: holds NaN or infinite values; replace them by numbers")
    return image


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask: (H, W), or (H, W, 3) where colours differ between channels.

    As `read_image`; colours whose channels are equal everywhere become one channel, so a palette
    of greys is grey.
    """
    mask = read_image(path)
    if mask.ndim == 3 and mask.shape[2] == 1:
        return mask[..., 0]
    if mask.ndim == 3 and mask.shape[2] == 3 and (mask == mask[..., :1]).all():
        return np.ascontiguousarray(mask[..., 0])
    return mask


def write_image(
    path: str | Path, array: np.ndarray, palette: Sequence[Sequence[int]] | None = None
) -> None:
    """Write uint8 or uint16 (H, W), or uint8 (H, W, 3), as PNG; any array where `path` is .npy.

    `palette` (up to 256 RGB colours) makes uint8 (H, W) an indexed picture. The file appears
    whole or not at all. ValueError for other arrays and suffixes.
    """
    path, array = Path(path), np.asarray(array)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        atomic_write(path, lambda file: np.save(file, array, allow_pickle=False))
        return
    if suffix != ".png":
        raise ValueError(f"{path}: images are written as .png or .npy")
    picture = _picture(array)
    if palette is not None:
        picture.putpalette([part for color in palette for part in color])

    def write(file: BinaryIO) -> None:
        picture.save(file, format="PNG")

    atomic_write(path, write)


def _picture(array: np.ndarray) -> Any:
    """A Pillow image of an array."""
    grey = array.ndim == 2 and array.dtype in (np.uint8, np.uint16)
    color = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not (grey or color):
        raise ValueError(f"{array.dtype} of shape {array.shape} cannot be written as PNG")
    return require("PIL.Image", extra="train").fromarray(np.ascontiguousarray(array))


def _read_npy(path: Path) -> np.ndarray:
    try:
        image = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"{path}: not a readable NPY file ({error}); save it again") from error
    if not isinstance(image, np.ndarray) or image.dtype.kind not in "biuf":
        raise DataError(f"{path}: does not hold an array of real numbers; save one with np.save")
    if image.ndim not in (2, 3) or image.size == 0:
        raise DataError(f"{path}: shape {image.shape} is not an image; save (H, W) or (H, W, C)")
    return image


def _read_picture(path: Path) -> np.ndarray:
    pillow = require("PIL.Image", extra="train")
    try:
        with pillow.open(path) as picture:
            pages = getattr(picture, "n_frames", 1) if path.suffix.lower() in TIFF_SUFFIXES else 1
            image = _pixels(picture) if pages == 1 else None
    except Exception as error:  # Pillow raises a dozen kinds of errors for broken files
        image, pages = _read_with_tifffile(path, error), 1
    if image is None:
        raise DataError(f"{path}: {pages} pages in one file; save every page as a file of its own")
    return image


def _pixels(picture: Any) -> np.ndarray:
    """The pixels of a Pillow image, without palette and alpha."""
    if picture.mode == "1":
        picture = picture.convert("L")
    elif picture.mode in ("LA", "La"):
        picture = picture.getchannel("L")
    elif picture.mode == "I" or picture.mode.startswith("I;16"):
        return _integers(np.array(picture))
    elif picture.mode not in PLAIN_MODES:
        picture = picture.convert("RGB")
    return np.array(picture)


def _integers(image: np.ndarray) -> np.ndarray:
    """16-bit files in the machine's byte order; Pillow gives some of them as 32-bit integers."""
    fits = image.size > 0 and image.min() >= 0 and image.max() <= 65535
    return image.astype(np.uint16 if fits else np.int32)


def _read_with_tifffile(path: Path, error: Exception) -> np.ndarray:
    """A TIFF that Pillow cannot read, read by tifffile."""
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise DataError(f"{path}: cannot be read as an image ({error}); save it again") from error
    tifffile = require("tifffile", extra="train")
    try:
        image = np.asarray(tifffile.imread(path))
    except Exception as second:  # tifffile, too, raises many kinds
        raise DataError(f"{path}: cannot be read as a TIFF ({second}); save it again") from second
    if image.ndim == 3 and image.shape[2] == 4 and image.dtype.itemsize <= 2:
        image = image[..., :3]
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise DataError(f"{path}: shape {image.shape} is not one image; save every page as a file")
    return image
