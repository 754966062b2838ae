"""relu in one pass over memory (CUDA), in whatever order the axes lie."""

import numpy as np

from ..arrays import memory_order
from ..cuda import Source, cupy, loops, picture, writable_picture
from ..cuda.sums import add_blocks, first_stage, pixels_of_block

SOURCE = Source(__file__)


def forward(x, out):
    """As reference.forward."""
    order = memory_order(out)
    line = loops.contiguous(x.transpose(order))
    with loops.writable_contiguous(out.transpose(order)) as y:
        SOURCE.launch("forward", x.dtype, *loops.line_grid(x.size, x.dtype), line, x.size, y)


def backward(grad, y, out):
    """As reference.backward."""
    order = memory_order(out)
    g, values = loops.contiguous(grad.transpose(order)), loops.contiguous(y.transpose(order))
    kernel = "backward_of_passes" if y.dtype == np.uint8 else "backward"
    with loops.writable_contiguous(out.transpose(order)) as gx:
        SOURCE.launch(kernel, grad.dtype, *loops.line_grid(y.size, grad.dtype), g, values, y.size, gx)


def backward_sums(grad, y, out, sums):
    """As reference.backward_sums."""
    n, c, h, w = y.shape
    upstream, values, (grid, block) = picture(grad), picture(y), first_stage(y.shape, grad.dtype)
    kernel = "backward_sums_of_passes" if y.dtype == np.uint8 else "backward_sums"
    partial = cupy().empty((grid[0], c), grad.dtype)
    with writable_picture(out) as gx:
        SOURCE.launch(
            kernel, grad.dtype, grid, block, upstream, values, gx, loops.sides(y.shape, upstream, values, gx),
            n * h * w, c, pixels_of_block(y.shape, grid), partial,
        )  # fmt: skip
    add_blocks(partial, sums)
