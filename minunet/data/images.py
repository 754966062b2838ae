"""Reading and writing image files. NPY needs NumPy alone, all else Pillow; some TIFFs need tifffile.

Nothing is allocated before a file's header was held against MOST_PIXELS and, for NPY, against
the file's length.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minunet.data import tiff
from minunet.data.errors import DataError, wrong
from minunet.extras import MissingExtra, require
from minunet.files import atomic_write

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".npy")
FORMATS = ("PNG", "TIFF", "JPEG", "BMP")  # no others: some of Pillow's decoders start programs
PLAIN_MODES = ("L", "RGB", "I;16", "F")  # Pillow modes that are arrays of their own dtype
MOST_PIXELS = 2**28  # of one image: 16384 x 16384
Pixels = Callable[[Any, Path], np.ndarray]  # of a Pillow image; the path is for errors
LARGEST = float(np.finfo(np.float32).max)


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file: (H, W) or (H, W, C) in its own dtype.

    PNG, TIFF, JPEG and BMP of 8 or 16 bits, TIFF of signed integers and floats too, and NPY (as
    it is stored). Palettes, CMYK and YCbCr become RGB, alpha is dropped, one bit becomes 0 and
    255. An image that is marked as turned (EXIF, also TIFF's orientation) is turned as viewers
    show it; masks are treated the same.

    16-bit colours are kept in TIFF. Of a PNG with 16-bit colours (or 16-bit grey with alpha)
    Pillow gives the upper 8 bits: a warning says so.

    DataError where the file cannot be read, holds NaN or infinite values, several pages (see
    `read_stack`) or more than MOST_PIXELS pixels.
    """
    return _only(path, read_stack(path))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask: (H, W), or (H, W, 3) where colours differ between channels.

    As `read_image`; colours whose channels are equal everywhere become one channel, so a palette
    of greys is grey. DataError, too, where the drawing is in the alpha channel alone.
    """
    return _only(path, read_mask_stack(path))


def read_stack(path: str | Path) -> list[np.ndarray]:
    """The pages of a multi-page TIFF, as `read_image` gives images; of any other file its one image.

    Thumbnails and other pages that TIFF marks as reduced are left out.
    """
    return _read(Path(path), _pixels)


def read_mask_stack(path: str | Path) -> list[np.ndarray]:
    """As `read_stack`, each page as `read_mask` gives masks."""
    return [_one_channel(mask) for mask in _read(Path(path), _mask_pixels)]


def is_picture(path: str | Path) -> bool:
    """Whether a file of this name is read as (H, W) or (H, W, C). An NPY may also hold (C, H, W)."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES[:-1]


def _only(path: str | Path, pages: list[np.ndarray]) -> np.ndarray:
    if len(pages) != 1:
        raise wrong(path, f"{len(pages)} pages in one file", "save every page as a file of its own")
    return pages[0]


def _one_channel(mask: np.ndarray) -> np.ndarray:
    if mask.ndim == 3 and (mask.shape[2] == 1 or (mask.shape[2] == 3 and (mask == mask[..., :1]).all())):
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


def _read(path: Path, pixels: Pixels) -> list[np.ndarray]:
    """The images in a file."""
    if not os.path.isfile(path):  # a name that is too long for the system is no file either
        raise wrong(path, "no such file", "check the path")
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise wrong(path, "unknown kind of file", f"known are {', '.join(IMAGE_SUFFIXES)}")
    try:
        with open(path, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise wrong(path, "is empty (0 bytes)", "save it again")
            images = [_read_npy(path, file)] if suffix == ".npy" else _read_picture(path, file, pixels)
    except PermissionError as error:
        raise wrong(path, "may not be read by you", "change its permissions") from error
    for image in images:
        if image.dtype.kind == "f" and not float(np.abs(image).max()) <= LARGEST:  # false for NaN
            raise wrong(path, "holds NaN, infinite or too large values", "replace them by numbers that float32 holds")
    return images


def _read_npy(path: Path, file: BinaryIO) -> np.ndarray:
    check_npy(path, file)
    file.seek(0)
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error


def check_npy(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of the image in an NPY file; DataError where it is none, or shorter than it says."""
    try:
        shape, dtype = _npy_header(file)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are never read")
        claimed = math.prod(shape) * dtype.itemsize
        present = path.stat().st_size - file.tell()
        if claimed > present:
            raise ValueError(f"it claims {claimed} bytes of shape {shape} and holds {present}")
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise _unreadable(path, error) from error
    if dtype.kind not in "biuf":
        raise wrong(path, "does not hold an array of real numbers", "save one with np.save")
    if len(shape) not in (2, 3) or 0 in shape:
        raise wrong(path, f"shape {shape} is not an image", "save (H, W) or (H, W, C)")
    return shape, dtype


def _unreadable(path: Path, error: Exception) -> DataError:
    return wrong(path, f"not a readable NPY file ({error})", "save it again")


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(file)
    first = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if any(side < 0 for side in shape):
        raise ValueError(f"the shape {shape} is impossible")
    return shape, dtype


def _read_picture(path: Path, file: BinaryIO, pixels: Pixels) -> list[np.ndarray]:
    """By Pillow; a TIFF that it cannot read, or not without loss, by tifffile."""
    images: list[np.ndarray] | None = None
    reason: Exception | None = None
    try:
        images = _by_pillow(path, file, pixels)
    except (DataError, MissingExtra, MemoryError):
        raise
    except Exception as error:  # Pillow raises a dozen kinds of errors for broken files
        reason = error
    cut_off = isinstance(reason, UserWarning)  # see _opened; tifffile might go on with fewer pages
    if images is None and not cut_off and path.suffix.lower() in tiff.SUFFIXES:
        try:
            return tiff.read_with_tifffile(file, lambda size: _check_size(path, size))
        except (DataError, MissingExtra, MemoryError):
            raise
        except Exception as error:  # tifffile, too, raises many kinds
            reason = error
    if images is None:
        raise wrong(path, f"cannot be read as an image ({_reason(reason)})", "save it again") from reason
    return images


def _by_pillow(path: Path, file: BinaryIO, pixels: Pixels) -> list[np.ndarray] | None:
    """The pages; None where Pillow would lose some of their bits."""
    images = []
    with _opened(file) as picture:
        if picture.format == "TIFF":
            for _ in tiff.whole_pages(picture):
                _check_size(path, picture.size)
                if not tiff.is_kept_by_pillow(picture):
                    return None
                images.append(pixels(picture.copy(), path))
            return images
        _check_size(path, picture.size)
        lost = _loses_bits(picture)
        images.append(pixels(require("PIL.ImageOps", extra="train").exif_transpose(picture), path))
    if lost:
        warnings.warn(
            "PNG colours of 16 bits (and 16-bit grey with alpha) are read as their upper 8 bits; "
            "as TIFF all 16 are kept",
            stacklevel=2,
        )
    return images


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """A Pillow image. Opened by file object, since files that Pillow maps by name are turned wrongly.

    MOST_PIXELS takes the place of Pillow's own limit. Pillow only warns of a TIFF that is cut off,
    and goes on with fewer pages: here that is an error.
    """
    pillow: Any = require("PIL.Image", extra="train")
    limit = pillow.MAX_IMAGE_PIXELS
    start = file.read(2)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if start in tiff.BYTE_ORDERS:
            warnings.filterwarnings("error", "Truncated|Corrupt", UserWarning)
        pillow.MAX_IMAGE_PIXELS = None
        try:
            with pillow.open(file, formats=FORMATS) as picture:
                yield picture
        finally:
            pillow.MAX_IMAGE_PIXELS = limit


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise wrong(
            path,
            f"claims {height}x{width} pixels, more than the {MOST_PIXELS} that are read",
            "cut it into smaller images, or save it again if it is damaged",
        )


def _pixels(picture: Any, path: Path) -> np.ndarray:
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


def _mask_pixels(picture: Any, path: Path) -> np.ndarray:
    """As `_pixels`; where alpha alone holds the drawing, dropping it would leave an empty mask."""
    mask = _pixels(picture, path)
    if picture.has_transparency_data and (mask == mask[:1, :1]).all():
        lowest, highest = picture.convert("RGBA").getchannel("A").getextrema()
        if lowest != highest:
            raise wrong(
                path,
                "one colour everywhere: the drawing is in the alpha channel (transparency), which is not read",
                "save the mask without transparency, white on black",
            )
    return mask


def _integers(image: np.ndarray) -> np.ndarray:
    """16-bit files in the machine's byte order; Pillow gives some of them as 32-bit integers."""
    fits = image.size > 0 and image.min() >= 0 and image.max() <= 65535
    return image.astype(np.uint16 if fits else np.int32)


def _loses_bits(picture: Any) -> bool:
    """Whether Pillow reduces 16 bits to 8, to be asked before the pixels are loaded."""
    return any(tile.args in ("RGB;16B", "RGBA;16B", "LA;16B") for tile in picture.tile)


def _reason(error: Exception | None) -> str:
    """In words; Pillow's own name the file object where it had no file name."""
    if type(error).__name__ == "UnidentifiedImageError":
        return f"it is none of {', '.join(FORMATS)} inside"
    return str(error) or type(error).__name__
