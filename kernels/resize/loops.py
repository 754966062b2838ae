"""Bilinear resize over rows of channels (Numba)."""

import numba
import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..jit import parallel
from .reference import axis_weights


def forward(x, out):
    """As reference.forward."""
    rows = axis_weights(x.shape[2], out.shape[2], x.dtype)
    columns = axis_weights(x.shape[3], out.shape[3], x.dtype)
    with writable_nhwc(out) as y:
        _forward(nhwc(x), rows, columns, y)


def adjoint(grad, out):
    """As reference.adjoint: every source pixel collects from the output pixels that looked at it."""
    rows = axis_weights(out.shape[2], grad.shape[2], grad.dtype)
    columns = axis_weights(out.shape[3], grad.shape[3], grad.dtype)
    with writable_nhwc(out) as gx:
        _adjoint(nhwc(grad), rows, columns, readers(rows, out.shape[2]), readers(columns, out.shape[3]), gx)


def readers(weights, size_in):
    """For each source position the range [first, last) of output positions that read it, as (size_in, 2)."""
    low, high, _ = weights
    positions = np.arange(size_in)
    first = np.searchsorted(high, positions, side="left")
    last = np.searchsorted(low, positions, side="right")
    return np.stack([first, last], axis=1)


@parallel
def _forward(x, rows, columns, y):
    n, height, width, channels = y.shape
    row_low, row_high, row_t = rows
    low, high, t = columns
    for line in numba.prange(n * height):
        image, h = line // height, line % height
        top, bottom, v = x[image, row_low[h]], x[image, row_high[h]], row_t[h]
        for w in range(width):
            a, b, u = low[w], high[w], t[w]
            for c in range(channels):
                above = (1 - u) * top[a, c] + u * top[b, c]
                below = (1 - u) * bottom[a, c] + u * bottom[b, c]
                y[image, h, w, c] = (1 - v) * above + v * below


@parallel
def _adjoint(grad, rows, columns, row_readers, column_readers, gx):
    n, height, width, channels = gx.shape
    row_low, row_high, row_t = rows
    low, high, t = columns
    for line in numba.prange(n * height):
        image, h = line // height, line % height
        for w in range(width):
            target = gx[image, h, w]
            target[:] = 0
            for p in range(row_readers[h, 0], row_readers[h, 1]):
                v = (1 - row_t[p]) * (row_low[p] == h) + row_t[p] * (row_high[p] == h)
                for q in range(column_readers[w, 0], column_readers[w, 1]):
                    u = (1 - t[q]) * (low[q] == w) + t[q] * (high[q] == w)
                    for c in range(channels):
                        target[c] += v * u * grad[image, p, q, c]
