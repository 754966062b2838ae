"""conv2d as im2col + matrix product (GEMM), in tiles, with NumPy alone.

Every output pixel is the product of one row of patches (the kh kw C numbers it looks at) with the weight
matrix.  Writing the rows of all pixels down at once would take 743 MB for a layer of 64 channels at 570 x 570; so
that is done for a few rows of the picture at a time, in one buffer that stays in the cache, and BLAS multiplies it.
"""

import numpy as np

from ..arrays import nhwc, pad, writable_nhwc

BUFFER = 1 << 18  # numbers in the column buffer: 1 MB of float32


def tiles(n, h, w, patch):
    """Rows of pictures to be worked on together, as (image, first row, last row); fixed by the shapes."""
    rows = max(1, min(h, BUFFER // (w * patch)))
    return [(image, top, min(h, top + rows)) for image in range(n) for top in range(0, h, rows)]


def columns(padded, image, top, bottom, kernel_size, w, buffer):
    """im2col: patches of output rows top ... bottom as a matrix (pixels, kh kw C)."""
    kh, kw = kernel_size
    c = padded.shape[3]
    matrix = buffer[: (bottom - top) * w * kh * kw * c].reshape(bottom - top, w, kh, kw, c)
    for i in range(kh):
        for j in range(kw):
            matrix[:, :, i, j] = padded[image, top + i : bottom + i, j : j + w]
    return matrix.reshape(-1, kh * kw * c)


def correlate(padded, weight, bias, y):
    """padded (N, H + kh - 1, W + kw - 1, C), weight (O, C, kh, kw), bias or None -> y (N, H, W, O)."""
    o, c, kh, kw = weight.shape
    n, h, w, _ = y.shape
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, o))
    work = tiles(n, h, w, kh * kw * c)
    buffer = np.empty(max((bottom - top) * w * kh * kw * c for _, top, bottom in work), y.dtype)
    for image, top, bottom in work:
        target = y[image, top:bottom].reshape(-1, o)
        np.matmul(columns(padded, image, top, bottom, (kh, kw), w, buffer), matrix, out=target)
        if bias is not None:
            target += bias


def forward(x, weight, bias, padding, out):
    """As reference.forward."""
    with writable_nhwc(out) as y:
        correlate(nhwc(pad(x, (padding, padding))), weight, bias, y)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    kh, kw = weight.shape[2:]
    padded = nhwc(pad(grad, (kh - 1 - padding, kw - 1 - padding)))
    turned = np.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    with writable_nhwc(out) as gx:
        correlate(padded, turned, None, gx)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight: the same columns, transposed, times the gradient; tiles summed in their order."""
    o, c, kh, kw = out.shape
    g = nhwc(grad)
    n, h, w, _ = g.shape
    padded = nhwc(pad(x, (padding, padding)))
    work = tiles(n, h, w, kh * kw * c)
    buffer = np.empty(max((bottom - top) * w * kh * kw * c for _, top, bottom in work), out.dtype)
    total = np.zeros((kh * kw * c, o), out.dtype)
    for image, top, bottom in work:
        matrix = columns(padded, image, top, bottom, (kh, kw), w, buffer)
        total += matrix.T @ g[image, top:bottom].reshape(-1, o)
    out[...] = total.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
