"""conv_transpose2d (the up-convolution), kernel = stride s, the definition.

    y[n, o, s h + i, s w + j] = bias[o] + sum over c of  x[n, c, h, w] * weight[c, o, i, j]

Every input pixel paints its own s x s patch; patches do not overlap.
"""

import numpy as np


def forward(x, weight, bias, out):
    """x (N, C, H, W), weight (C, O, s, s), bias (O,) or None -> out (N, O, s H, s W)."""
    s = weight.shape[2]
    for i in range(s):
        for j in range(s):
            out[:, :, i::s, j::s] = np.einsum("nchw,co->nohw", x, weight[:, :, i, j], optimize=True)
    if bias is not None:
        out += bias[:, None, None]


def backward_input(grad, weight, out):
    """grad (N, O, s H, s W) -> out (N, C, H, W): gather the patch that each pixel painted."""
    s = weight.shape[2]
    out[...] = 0
    for i in range(s):
        for j in range(s):
            out += np.einsum("nohw,co->nchw", grad[:, :, i::s, j::s], weight[:, :, i, j], optimize=True)


def backward_weight(grad, x, out):
    """grad (N, O, s H, s W), x (N, C, H, W) -> out (C, O, s, s)."""
    s = out.shape[2]
    for i in range(s):
        for j in range(s):
            out[:, :, i, j] = np.einsum("nohw,nchw->co", grad[:, :, i::s, j::s], x, optimize=True)
