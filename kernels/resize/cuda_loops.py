"""Bilinear resize (CUDA): four weighted pixels each; the adjoint gathers, so no two threads write one place."""

import numpy as np

from ..cuda import Source, loops, picture, writable_picture

SOURCE = Source(__file__)


def forward(x, align_corners, out):
    """As reference.forward."""
    launch("forward", x, out, *mapping(x.shape[2:], out.shape[2:], x.dtype, align_corners))


def adjoint(grad, align_corners, out):
    """As reference.adjoint: every source pixel collects from the output pixels that looked at it."""
    launch("adjoint", grad, out, *mapping(out.shape[2:], grad.shape[2:], grad.dtype, align_corners))


def launch(kernel, x, out, row_scale, column_scale, shift):
    """Run one of the two kernels: what they have in common."""
    n, c, height, width = out.shape
    with writable_picture(out) as y:
        SOURCE.launch(
            kernel, x.dtype, *loops.pixel_grid(n * height * width, c, x.dtype), picture(x), y, *x.shape[2:],
            row_scale, column_scale, shift, height, width, n * height * width, c,
        )  # fmt: skip


def mapping(sizes_in, sizes_out, dtype, align_corners):
    """(scale of rows, scale of columns, shift): position p looks at (p + shift) scale - shift.

    The scales are input positions from one output position to the next, in the array's own precision.
    """
    if align_corners:
        pairs = [(size_in - 1, max(size_out - 1, 1)) for size_in, size_out in zip(sizes_in, sizes_out, strict=True)]
    else:
        pairs = list(zip(sizes_in, sizes_out, strict=True))
    return *(np.asarray(a, dtype) / np.asarray(b, dtype) for a, b in pairs), dtype.type(0 if align_corners else 0.5)
