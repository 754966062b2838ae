"""Grids for loops over lines of numbers and over pictures (loops.cuh), and arrays as these loops read them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .arrays import Picture
from .driver import cupy

THREADS = 256  # of a block
ACROSS = 32  # packs of channels that a block has side by side, at most: a warp then reads 512 bytes of a pixel
MOST_BLOCKS = 1 << 12  # several times what a large device has at work at once; a thread takes several packs then


def pack(dtype: Any) -> int:
    """Numbers that a thread takes at a time: 16 bytes."""
    return 16 // np.dtype(dtype).itemsize


def share(amount: int, each: int, most: int) -> int:
    """How many blocks to take for an amount of work, `each` of it a block, at least one."""
    return max(1, min(most, -(-amount // each)))


def line_grid(size: int, dtype: Any) -> tuple[int, int]:
    """(grid, block) for a line of numbers."""
    return share(size, THREADS * pack(dtype), MOST_BLOCKS), THREADS


def pixel_block(channels: int, dtype: Any) -> tuple[int, int]:
    """(packs of channels, pixels) that a block has at a time."""
    packs = max(1, -(-channels // pack(dtype)))
    across = -(-packs // -(-packs // ACROSS))
    return across, THREADS // across


def pixel_grid(pixels: int, channels: int, dtype: Any, each: int = 1, most: int | None = None) -> tuple:
    """(grid, block) for so many pixels: a thread has at least `each` of them, if there are as many, and there are at
    most `most` blocks for the same channels."""
    across, down = pixel_block(channels, dtype)
    blocks = share(pixels, down * each, MOST_BLOCKS if most is None else most)
    return (blocks, -(-channels // (across * pack(dtype)))), (across, down)


def sides(shape: Sequence[int], *pictures: Picture) -> tuple[int, int]:
    """(H, W) of pictures of a shape (N, C, H, W); (1, N H W) where in all of them all pixels lie at one distance."""
    n, _, h, w = shape
    for _, image, row, pixel in pictures:
        if (h > 1 and row != w * pixel) or (n > 1 and image != h * w * pixel):
            return h, w
    return 1, n * h * w


def contiguous(x: Any) -> Any:
    """`x` in C order; copied only if it does not lie so."""
    if x.flags.c_contiguous:
        return x
    copy = cupy().empty(x.shape, x.dtype)
    copy[...] = x
    return copy


@contextmanager
def writable_contiguous(out: Any) -> Iterator[Any]:
    """An array in C order to be written; what is written ends up in `out`."""
    if out.flags.c_contiguous:
        yield out
    else:
        copy = cupy().empty(out.shape, out.dtype)
        yield copy
        out[...] = copy
