"""conv2d, the definition.

    y[n, o, h, w] = bias[o] + sum over c, i, j of  x[n, c, h + i - padding, w + j - padding] * weight[o, c, i, j]

with zeros outside the image; with `relu`, what is negative becomes 0.  Each tap (i, j) of the kernel multiplies one
shifted picture with one (O, C) matrix; the sum over taps is written as a loop.
"""

import numpy as np

from ..arrays import pad


def forward(x, weight, bias, padding, relu, out):
    """x (N, C, H, W), weight (O, C, kh, kw), bias (O,) or None -> out (N, O, H', W')."""
    kh, kw = weight.shape[2:]
    h, w = out.shape[2:]
    padded = pad(x, (padding, padding))
    out[...] = 0 if bias is None else bias[:, None, None]
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, :, i : i + h, j : j + w]
            out += np.einsum("nchw,oc->nohw", shifted, weight[:, :, i, j], optimize=True)
    if relu:
        np.maximum(out, 0, out=out)


def backward_input(grad, weight, padding, out):
    """grad (N, O, H', W') -> out (N, C, H, W): every tap sends its share back to where it was read."""
    kh, kw = weight.shape[2:]
    h, w = grad.shape[2:]
    n, c, rows, columns = out.shape
    padded = np.zeros((n, c, rows + 2 * padding, columns + 2 * padding), out.dtype)
    for i in range(kh):
        for j in range(kw):
            share = np.einsum("nohw,oc->nchw", grad, weight[:, :, i, j], optimize=True)
            padded[:, :, i : i + h, j : j + w] += share
    out[...] = padded[:, :, padding : padding + rows, padding : padding + columns]


def backward_weight(grad, x, padding, out):
    """grad (N, O, H', W'), x (N, C, H, W) -> out (O, C, kh, kw): correlate the two pictures tap by tap."""
    kh, kw = out.shape[2:]
    h, w = grad.shape[2:]
    padded = pad(x, (padding, padding))
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, :, i : i + h, j : j + w]
            out[:, :, i, j] = np.einsum("nohw,nchw->oc", grad, shifted, optimize=True)
