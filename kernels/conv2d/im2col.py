"""conv2d as im2col + matrix product (GEMM), in tiles, with NumPy alone.

Every output pixel is the product of its patch (the kh kw C numbers it looks at) with the weight matrix.  Writing
the patches of all pixels down at once would take 743 MB for a layer of 64 channels at 570 x 570.  So it is done
for a few rows of the picture at a time, in one buffer that stays in the cache, and only along the rows: the buffer has
for each pixel the kw C numbers to its right.  A patch is kh such lines one below the other, so the product is a sum of
kh products, each with the same buffer, one row of the picture further down.
"""

import functools

import numpy as np

from ..arrays import nhwc, pad, writable_nhwc
from ..blas import share_out

BUFFER = 1 << 18  # numbers in the column buffer: 1 MB of float32
PARTIAL = 1 << 24  # numbers that all partial sums of a weight gradient may have together


def tiles(n, h, row):
    """Rows of pictures to be worked on together, as (image, first row, last row); `row` numbers in a row of columns."""
    rows = max(1, min(h, BUFFER // row))
    rows = -(-h // -(-h // rows))  # all tiles about equally high
    return [(image, top, min(h, top + rows)) for image in range(n) for top in range(0, h, rows)]


def columns(padded, image, top, bottom, kw, w):
    """The part of im2col along the rows: picture rows top ... bottom as (rows, w, kw C)."""
    c = padded.shape[3]
    matrix = np.empty((bottom - top, w, kw, c), padded.dtype)
    for j in range(kw):
        matrix[:, :, j] = padded[image, top:bottom, j : j + w]
    return matrix.reshape(bottom - top, w, kw * c)


def correlate(padded, weight, bias, relu, y):
    """padded (N, H + kh - 1, W + kw - 1, C), weight (O, C, kh, kw), bias (O,) or None -> y (N, H, W, O)."""
    o, c, kh, kw = weight.shape
    n, h, w, _ = y.shape
    by_row = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(kh, kw * c, o))

    def tile(place):
        image, top, bottom = place
        lines = columns(padded, image, top, bottom + kh - 1, kw, w)
        target = y[image, top:bottom].reshape(-1, o)
        np.matmul(lines[: bottom - top].reshape(-1, kw * c), by_row[0], out=target)
        for i in range(1, kh):
            target += lines[i : i + bottom - top].reshape(-1, kw * c) @ by_row[i]
        if bias is not None:
            target += bias
        if relu:
            np.maximum(target, 0, out=target)

    share_out(tile, tiles(n, h, w * kw * c))


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    with writable_nhwc(out) as y:
        correlate(nhwc(pad(x, (padding, padding))), weight, bias, relu, y)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    kh, kw = weight.shape[2:]
    padded = nhwc(pad(grad, (kh - 1 - padding, kw - 1 - padding)))
    turned = np.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    with writable_nhwc(out) as gx:
        correlate(padded, turned, None, False, gx)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight: the same columns, transposed, times the gradient.

    Tiles are summed in a few shares, and these in their order.
    """
    o, c, kh, kw = out.shape
    g = nhwc(grad)
    n, h, w, _ = g.shape
    padded = nhwc(pad(x, (padding, padding)))
    work = tiles(n, h, w * kw * c)
    shares = min(len(work), max(2, min(8, PARTIAL // out.size)))

    def share(k):
        total = np.zeros((kh, kw * c, o), out.dtype)
        for image, top, bottom in work[k * len(work) // shares : (k + 1) * len(work) // shares]:
            lines = columns(padded, image, top, bottom + kh - 1, kw, w)
            upstream = g[image, top:bottom].reshape(-1, o)
            for i in range(kh):
                total[i] += lines[i : i + bottom - top].reshape(-1, kw * c).T @ upstream
        return total

    total = functools.reduce(np.add, share_out(share, range(shares)))
    out[...] = total.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
