"""Loops that do nothing but what is to be measured (Numba): multiply-adds in registers, and traffic with memory."""

from itertools import pairwise

import numpy as np

from minunet.kernels import threads
from minunet.kernels.blas import share_out
from minunet.kernels.correlation import tile_columns
from minunet.kernels.jit import serial
from minunet.kernels.simd import forward_tile, outer_product_tile

STEPS = 64  # of the register tile; both operands together have a few kB and stay in the L1 cache
TASKS = 8  # pieces for each thread, so that one which is held up leaves some to the others


def multiply_adds(repeats: int, dtype: np.dtype) -> int:
    """Run the register tile over the same small operands on all threads; returns the floating-point operations done."""
    tile = forward_tile(1 << 20, dtype.itemsize * 8)
    rows, columns = tile[0].ndim, tile_columns(tile)
    a, b = np.full(rows * STEPS, 0.5, dtype), np.full(STEPS * columns, 0.5, dtype)
    sums = np.zeros((TASKS * threads.count(), rows * columns), dtype)
    share_out(lambda out: _multiply_adds(tile, out, a, b, columns, repeats), sums)
    if not np.allclose(sums, 0.25 * STEPS * repeats, rtol=1e-2):
        raise AssertionError(f"the register tile gives {sums.ravel()[0]}, not {0.25 * STEPS * repeats}")
    return 2 * STEPS * repeats * sums.size


@serial
def _multiply_adds(tile, sums, a, b, columns, repeats):
    # `repeats` sums over the same operands: the tile never leaves the registers.
    outer_product_tile(tile, False, sums, 0, a, 0, STEPS, 1, 0, b, 0, columns, 0, STEPS, repeats)


def copy(x: np.ndarray, y: np.ndarray) -> None:
    """y = x, on all threads."""
    share_out(lambda part: _copy(x[part], y[part]), parts(len(x)))


def triad(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    """z = x + 3 y, on all threads."""
    share_out(lambda part: _triad(x[part], y[part], z[part]), parts(len(x)))


def parts(length: int) -> list[slice]:
    """0 ... length in TASKS pieces for each thread."""
    ends = np.linspace(0, length, TASKS * threads.count() + 1).astype(int)
    return [slice(start, stop) for start, stop in pairwise(ends)]


@serial
def _copy(x, y):
    for i in range(len(x)):
        y[i] = x[i]


@serial
def _triad(x, y, z):
    for i in range(len(x)):
        z[i] = x[i] + x.dtype.type(3) * y[i]
