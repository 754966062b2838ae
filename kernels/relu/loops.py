"""relu in one pass over memory (Numba), in whatever order the axes lie."""

import numba
import numpy as np

from ..arrays import flat, memory_order, pixels, writable_flat, writable_pixels
from ..jit import parallel, serial
from ..rows import folded, groups, numbers, pixels_of_group, place, rows_of_block


def forward(x, out):
    """As reference.forward."""
    order = memory_order(out)
    with writable_flat(out, order) as y:
        _forward(flat(x, order), y)


def backward(grad, y, out):
    """As reference.backward."""
    order = memory_order(out)
    with writable_flat(out, order) as gx:
        _backward(flat(grad, order), flat(y, order), gx)


def backward_sums(grad, y, out, sums):
    """As reference.backward_sums."""
    (g, g_strides), (memory, strides) = pixels(grad), pixels(y)
    with writable_pixels(out) as (target, to):
        group = pixels_of_group(y.shape, g_strides, strides, to)
        blocks = _backward_sums(g, g_strides, memory, strides, target, to, y.shape, group, rows_of_block(y.shape))
    sums[...] = blocks.sum(axis=0)


@parallel
def _forward(x, y):
    zero = x.dtype.type(0)
    for k in numba.prange(x.size):
        y[k] = zero if x[k] <= zero else x[k]


@parallel
def _backward(grad, y, gx):
    zero = y.dtype.type(0)
    for k in numba.prange(y.size):
        gx[k] = zero if y[k] <= zero else grad[k]


@parallel
def _backward_sums(grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, rows_of_block):
    rows = shape[0] * shape[2]
    sums = np.empty((-(-rows // rows_of_block), shape[1]), y.dtype)
    for block in numba.prange(len(sums)):
        first, last = block * rows_of_block, min(rows, (block + 1) * rows_of_block)
        backward_of_rows(grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, first, last, sums[block])
    return sums


@serial
def backward_of_rows(grad, grad_strides, y, y_strides, gx, gx_strides, shape, group, first, last, out):
    """The gradient of the rows first ... last - 1, and out (C,) = its sum."""
    sums, zero = np.zeros(group * shape[1], y.dtype), y.dtype.type(0)
    for row in range(first, last):
        for w in groups(shape, group):
            upstream, source = place(row, w, shape, grad_strides), place(row, w, shape, y_strides)
            target = place(row, w, shape, gx_strides)
            for k in numbers(w, shape, group):
                g = zero if y[source + k] <= zero else grad[upstream + k]
                gx[target + k] = g
                sums[k] += g
    folded(sums, out)
