"""Rows of pixels, for loops in which what is done to a number depends on its channel alone (Numba).

In a channels-last array a row of a picture is W C neighbouring numbers.  A loop over the C numbers of a pixel would be
too short for the vectors of the CPU where C is small.  So the loops run over the numbers of a *group* of pixels, and
the values that belong to the channels are repeated for each pixel of the group.  Where pixels are no neighbours in
memory (a slice of channels of a larger array) a group is one pixel.

Sums over pixels are taken in *blocks* of rows, which depend on the shape alone, and the blocks are added in their
order: the result does not depend on the number of threads, and long float32 sums stay accurate.

Indices are unsigned: a signed one might be negative and count from the end, which keeps loops from being vectorised.
"""

import numpy as np

from .jit import serial

GROUP = 256  # numbers of a group, about
BLOCK = 1 << 14  # numbers of a block, about, but at least one row: they stay in the cache for a second pass


def pixels_of_group(shape: tuple[int, ...], *strides: tuple[int, int, int]) -> int:
    """Pixels that the loops take together in arrays (N, C, H, W) with these strides (as `arrays.pixels` gives them)."""
    _, channels, _, width = shape
    neighbours = all(stride[2] == channels for stride in strides)
    return max(1, min(width, GROUP // max(1, channels))) if neighbours else 1


def rows_of_block(shape: tuple[int, ...]) -> int:
    """Rows (N H of them in all) that are summed up together."""
    return max(1, BLOCK // max(1, shape[1] * shape[3]))


def blocks_of(shape: tuple[int, ...]) -> int:
    """How many blocks there are; the last one may have fewer rows."""
    return -(-shape[0] * shape[2] // rows_of_block(shape))


@serial
def place(row, w, shape, strides):
    """Where in an array's memory pixel `w` of row number `row` of all images lies."""
    height = shape[2]
    return np.uint64(row // height * strides[0] + row % height * strides[1]) + w * np.uint64(strides[2])


@serial
def groups(shape, group):
    """The first pixel of every group of a row."""
    return range(np.uint64(0), np.uint64(shape[3]), np.uint64(group))


@serial
def numbers(w, shape, group):
    """The numbers of the group that starts at pixel `w`: the last group of a row may have less."""
    return range(min(np.uint64(group), np.uint64(shape[3]) - w) * np.uint64(shape[1]))


@serial
def repeated(values, group):
    """Values of the channels, (C,), for a group of pixels, (group C,)."""
    channels = len(values)
    out = np.empty(group * channels, values.dtype)
    for pixel in range(group):
        for c in range(channels):
            out[pixel * channels + c] = values[c]
    return out


@serial
def folded(sums, group, out):
    """out (C,) = the sum over a group's pixels of sums (group C,)."""
    channels = len(out)
    for c in range(channels):
        out[c] = 0
    for pixel in range(group):
        for c in range(channels):
            out[c] += sums[pixel * channels + c]
