"""Loops that do nothing but what is to be measured (Numba): multiply-adds in registers, and traffic with memory."""

import numba
import numpy as np

from minunet.kernels.correlation import tile_columns
from minunet.kernels.jit import parallel
from minunet.kernels.simd import forward_tile, outer_product_tile

STEPS = 64  # of the register tile; both operands together have a few kB and stay in the L1 cache
TASKS = 16  # equal pieces, for up to so many threads


def multiply_adds(repeats: int, dtype: np.dtype) -> int:
    """Run the register tile over the same small operands; returns the floating-point operations done."""
    tile = forward_tile(1 << 20, dtype.itemsize * 8)
    rows, columns = tile[0].ndim, tile_columns(tile)
    a, b = np.full(rows * STEPS, 0.5, dtype), np.full(STEPS * columns, 0.5, dtype)
    sums = np.zeros((TASKS, rows * columns), dtype)
    _multiply_adds(tile, sums, a, b, columns, repeats)
    expected = 0.25 * STEPS * repeats
    if not np.allclose(sums, expected, rtol=1e-2):
        raise AssertionError(f"the register tile gives {sums.ravel()[0]}, not {expected}")
    return 2 * rows * columns * STEPS * repeats * TASKS


@parallel
def _multiply_adds(tile, sums, a, b, columns, repeats):
    for task in numba.prange(len(sums)):
        # `repeats` sums over the same operands: the tile never leaves the registers.
        outer_product_tile(tile, False, sums[task], 0, a, 0, STEPS, 1, 0, b, 0, columns, 0, STEPS, repeats)


@parallel
def copy(x, y):
    """y = x."""
    for i in numba.prange(len(x)):
        y[i] = x[i]


@parallel
def triad(x, y, z):
    """z = x + 3 y."""
    for i in numba.prange(len(x)):
        z[i] = x[i] + 3 * y[i]
