"""Bilinear resize (CUDA): four weighted pixels each; the adjoint gathers, so no two threads write one place."""

import numpy as np

from ..cuda import Source, loops, picture, writable_picture

SOURCE = Source(__file__)


def forward(x, out):
    """As reference.forward."""
    launch("forward", x, out, scale(x.shape[2], out.shape[2], x.dtype), scale(x.shape[3], out.shape[3], x.dtype))


def adjoint(grad, out):
    """As reference.adjoint: every source pixel collects from the output pixels that looked at it."""
    dtype = grad.dtype
    launch("adjoint", grad, out, scale(out.shape[2], grad.shape[2], dtype), scale(out.shape[3], grad.shape[3], dtype))


def launch(kernel, x, out, row_scale, column_scale):
    """Run one of the two kernels: what they have in common."""
    n, c, height, width = out.shape
    with writable_picture(out) as y:
        SOURCE.launch(
            kernel, x.dtype, *loops.pixel_grid(n * height * width, c, x.dtype), picture(x), y, *x.shape[2:],
            row_scale, column_scale, height, width, n * height * width, c,
        )  # fmt: skip


def scale(size_in, size_out, dtype):
    """Input positions from one output position to the next, in the array's own precision."""
    return np.asarray(size_in, dtype) / np.asarray(size_out, dtype)
