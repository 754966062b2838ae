"""relu in one pass over memory (Numba), in whatever order the axes lie."""

import numpy as np

from .. import lines, workers
from ..arrays import flat, memory_order, pixels, writable_flat, writable_pixels
from ..jit import serial
from ..rows import blocks_of, folded, groups, numbers, pixels_of_group, place, rows_of_block


def forward(x, out):
    """As reference.forward."""
    order = memory_order(out)
    with writable_flat(out, order) as y:
        workers.share(_forward, lines.stretches(y.size), flat(x, order), y, numbers=y.size)


def backward(grad, y, out):
    """As reference.backward."""
    order = memory_order(out)
    with writable_flat(out, order) as gx:
        workers.share(_backward, lines.stretches(gx.size), flat(grad, order), flat(y, order), gx, numbers=gx.size)


def backward_sums(grad, y, out, sums):
    """As reference.backward_sums."""
    (g, g_strides), (memory, strides) = pixels(grad), pixels(y)
    with writable_pixels(out) as (target, to):
        group, block = pixels_of_group(y.shape, g_strides, strides, to), rows_of_block(y.shape)
        partial = np.empty((blocks_of(y.shape), y.shape[1]), grad.dtype)
        workers.share(
            _backward_sums, len(partial), g, g_strides, memory, strides, target, to, y.shape, group, block, partial,
            numbers=y.size,
        )  # fmt: skip
    sums[...] = partial.sum(axis=0)


@serial
def _forward(first, last, x, y):
    zero = x.dtype.type(0)
    for k in lines.numbers(first, last, x.size):
        y[k] = zero if x[k] <= zero else x[k]


@serial
def _backward(first, last, grad, y, gx):
    zero, nothing = y.dtype.type(0), gx.dtype.type(0)
    for k in lines.numbers(first, last, y.size):
        gx[k] = nothing if y[k] <= zero else grad[k]


@serial
def _backward_sums(first, last, grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, rows_of_block, sums):
    rows = shape[0] * shape[2]
    for block in range(first, last):
        start, stop = block * rows_of_block, min(rows, (block + 1) * rows_of_block)
        backward_of_rows(grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, start, stop, sums[block])


@serial
def backward_of_rows(grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, first, last, out):
    """The gradient of the rows first ... last - 1, and out (C,) = its sum."""
    sums = np.zeros(group * shape[1], gx.dtype)
    zero, nothing = y.dtype.type(0), gx.dtype.type(0)
    for row in range(first, last):
        for w in groups(shape, group):
            upstream, source = place(row, w, shape, grad_strides), place(row, w, shape, y_strides)
            target = place(row, w, shape, gx_strides)
            for k in numbers(w, shape, group):
                g = nothing if y[source + k] <= zero else grad[upstream + k]
                gx[target + k] = g
                sums[k] += g
    folded(sums, group, out)
