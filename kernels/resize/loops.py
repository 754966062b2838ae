"""Bilinear resize (Numba): of each row first the rows it is mixed from, as one long loop, then its columns."""

import numpy as np

from .. import workers
from ..arrays import pixels, writable_pixels
from ..jit import serial
from ..rows import groups, numbers, pixels_of_group, place
from .reference import weights_of


def forward(x, align_corners, out):
    """As reference.forward."""
    axis_weights = weights_of(align_corners)
    rows = axis_weights(x.shape[2], out.shape[2], x.dtype)
    columns = axis_weights(x.shape[3], out.shape[3], x.dtype)
    memory, strides = pixels(x)
    with writable_pixels(out) as (y, y_strides):
        workers.share(
            _forward, out.shape[0] * out.shape[2], memory, strides, x.shape, pixels_of_group(x.shape, strides), rows,
            columns, y, y_strides, out.shape, numbers=out.size,
        )  # fmt: skip


def adjoint(grad, align_corners, out):
    """As reference.adjoint: every source pixel collects from the output pixels that looked at it."""
    axis_weights = weights_of(align_corners)
    rows = axis_weights(out.shape[2], grad.shape[2], grad.dtype)
    columns = axis_weights(out.shape[3], grad.shape[3], grad.dtype)
    by_row, by_column = readers(rows, out.shape[2]), readers(columns, out.shape[3])
    memory, strides = pixels(grad)
    with writable_pixels(out) as (gx, gx_strides):
        workers.share(
            _adjoint, out.shape[0] * out.shape[2], memory, strides, grad.shape, pixels_of_group(grad.shape, strides),
            rows, columns, by_row, by_column, gx, gx_strides, out.shape, numbers=grad.size,
        )  # fmt: skip


def readers(weights, size_in):
    """For each source position the range [first, last) of output positions that read it, as (size_in, 2)."""
    low, high, _ = weights
    positions = np.arange(size_in)
    first = np.searchsorted(high, positions, side="left")
    last = np.searchsorted(low, positions, side="right")
    return np.stack([first, last], axis=1)


@serial
def _forward(first, last, x, x_strides, shape, group, rows, columns, y, y_strides, y_shape):
    _, channels, height, width = y_shape
    row_low, row_high, row_t = rows
    low, high, t = columns
    one = x.dtype.type(1)
    for line in range(first, last):
        image, h = line // height, line % height
        mixed, v = np.empty(shape[3] * channels, x.dtype), row_t[h]
        for w in groups(shape, group):
            top = place(image * shape[2] + row_low[h], w, shape, x_strides)
            bottom = place(image * shape[2] + row_high[h], w, shape, x_strides)
            to = w * np.uint64(channels)
            for k in numbers(w, shape, group):
                mixed[to + k] = (one - v) * x[top + k] + v * x[bottom + k]
        for w in range(np.uint64(width)):
            left, right, u = np.uint64(low[w] * channels), np.uint64(high[w] * channels), t[w]
            to = place(line, w, y_shape, y_strides)
            for c in range(np.uint64(channels)):
                y[to + c] = (one - u) * mixed[left + c] + u * mixed[right + c]


@serial
def _adjoint(
    first, last, grad, strides, shape, group, rows, columns, row_readers, column_readers, gx, gx_strides, gx_shape
):
    _, channels, height, width = gx_shape
    row_low, row_high, row_t = rows
    low, high, t = columns
    zero, one = grad.dtype.type(0), grad.dtype.type(1)
    for line in range(first, last):
        image, h = line // height, line % height
        mixed = np.zeros(shape[3] * channels, grad.dtype)
        for p in range(row_readers[h, 0], row_readers[h, 1]):
            v = (one - row_t[p] if row_low[p] == h else zero) + (row_t[p] if row_high[p] == h else zero)
            for w in groups(shape, group):
                source, to = place(image * shape[2] + p, w, shape, strides), w * np.uint64(channels)
                for k in numbers(w, shape, group):
                    mixed[to + k] += v * grad[source + k]
        for w in range(np.uint64(width)):
            target = place(line, w, gx_shape, gx_strides)
            for c in range(np.uint64(channels)):
                gx[target + c] = zero
            for q in range(column_readers[w, 0], column_readers[w, 1]):
                u = (one - t[q] if low[q] == w else zero) + (t[q] if high[q] == w else zero)
                source = np.uint64(q * channels)
                for c in range(np.uint64(channels)):
                    gx[target + c] += u * mixed[source + c]
