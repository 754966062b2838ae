"""Pictures on a device: shapes are (N, C, H, W), and kernels are given pointers and strides in numbers.

CuPy hands a kernel nothing but the address of an array's first number.  So each array is brought into the one form
that the kernels read: the channels of a pixel are neighbours, pixels, rows and images lie at any distance.  Crops and
slices of channels of a channels-last array are taken as they lie, everything else is copied.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .driver import cupy

Picture = tuple[Any, int, int, int]  # the array; numbers from an image, a row, a pixel to the next


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """A fresh array on the device; channels-last where it has the four axes (N, C, H, W)."""
    if len(shape) == 4:
        n, c, h, w = shape
        return cupy().empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)
    return cupy().empty(shape, dtype)


def lies_by_pixels(x: Any) -> bool:
    """Whether the channels of each pixel of `x` (N, C, H, W) are neighbours, and nothing runs backwards."""
    return (x.shape[1] == 1 or x.strides[1] == x.itemsize) and min(x.strides) >= 0


def channels_last(x: Any) -> Any:
    """`x` (N, C, H, W), copied if its pixels are not one contiguous (N, H, W, C)."""
    if x.transpose(0, 2, 3, 1).flags.c_contiguous:
        return x
    copy = empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def picture(x: Any) -> Picture:
    """(array, image, row, pixel) of `x` (N, C, H, W): what a kernel is given of a picture that it reads."""
    return _strided(x if lies_by_pixels(x) else channels_last(x))


@contextmanager
def writable_picture(out: Any) -> Iterator[Picture]:
    """As `picture`, to be written; what is written ends up in `out`."""
    if lies_by_pixels(out):
        yield _strided(out)
    else:
        copy = empty(out.shape, out.dtype)
        yield _strided(copy)
        out[...] = copy


def _strided(x: Any) -> Picture:
    image, _, row, pixel = (stride // x.itemsize for stride in x.strides)
    return x, image, row, pixel
