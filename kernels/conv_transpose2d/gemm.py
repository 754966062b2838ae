"""conv_transpose2d as one matrix product for all taps, with NumPy alone.

Row by row of pixels (N H W, C) times the weight (C, s s O) gives every pixel's patch; what is left is to put the
patches in their places.
"""

import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..blas import product, product_over_rows


def patches(y, s):
    """y (N, s H, s W, O) seen as (N, H, s, W, s, O)."""
    n, height, width, o = y.shape
    return y.reshape(n, height // s, s, width // s, s, o)


def gathered(grad, s):
    """grad (N, O, s H, s W) -> (N H W, s s O): the patch of every pixel as a row."""
    by_pixel = patches(nhwc(grad), s).transpose(0, 1, 3, 2, 4, 5)
    return by_pixel.reshape(-1, s * s * grad.shape[1])


def forward(x, weight, bias, out):
    """As reference.forward."""
    c, o, s, _ = weight.shape
    n, _, h, w = x.shape
    matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(c, s * s * o))
    painted = np.empty((n * h * w, s * s * o), out.dtype)
    product(nhwc(x).reshape(-1, c), matrix, painted)
    with writable_nhwc(out) as y:
        patches(y, s)[...] = painted.reshape(n, h, w, s, s, o).transpose(0, 1, 3, 2, 4, 5)
        if bias is not None:
            y += bias


def backward_input(grad, weight, out):
    """As reference.backward_input."""
    c, o, s, _ = weight.shape
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(s * s * o, c))
    with writable_nhwc(out) as gx:
        product(gathered(grad, s), matrix, gx.reshape(-1, c))


def backward_weight(grad, x, out):
    """As reference.backward_weight."""
    c, o, s, _ = out.shape
    total = product_over_rows(nhwc(x).reshape(-1, c), gathered(grad, s))
    out[...] = total.reshape(c, s, s, o).transpose(0, 3, 1, 2)
