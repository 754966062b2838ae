"""relu, a block of memory at a time, on all threads, with NumPy alone."""

import numpy as np

from ..arrays import flat, memory_order, nhwc, writable_flat, writable_nhwc
from ..sharing import BLOCK, blocks, channel_blocks, keep, rectify, sum_of_pixels, total


def forward(x, out):
    """As reference.forward."""
    order = memory_order(out)
    line = flat(x, order)
    with writable_flat(out, order) as y:
        blocks(lambda part: rectify(line[part], y[part]), line.size, BLOCK)


def backward(grad, y, out):
    """As reference.backward."""
    order = memory_order(out)
    g, values = flat(grad, order), flat(y, order)
    with writable_flat(out, order) as gx:
        blocks(lambda part: keep(g[part], passes(values[part]), gx[part]), g.size, BLOCK)


def backward_sums(grad, y, out, sums):
    """As reference.backward_sums: the sums are taken of each block while it is in the cache."""
    c = y.shape[1]

    def block(g, values, gx):
        keep(g, passes(values), gx)
        return sum_of_pixels(gx, c)

    with writable_nhwc(out) as gx:
        pixels = [a.reshape(-1, c) for a in (nhwc(grad), nhwc(y), gx)]
        sums[...] = total(channel_blocks(block, pixels), c, grad.dtype)


def passes(y):
    """Where relu lets a gradient pass: unless y <= 0, so also where y is NaN."""
    return np.logical_not(y <= 0)
