"""conv2d as im2col + matrix product (GEMM), in tiles, with NumPy alone.

Every output pixel is the product of its patch (the kh kw C numbers it looks at) with the weight matrix.  Writing
the patches of all pixels down at once would take 743 MB for a layer of 64 channels at 570 x 570.  So it is done
for a few rows of the picture at a time, in one buffer that stays in the cache, and only along the rows: the buffer has
for each pixel the kw C numbers to its right.  A patch is kh such lines one below the other, so the product is a sum of
kh products, each with the same buffer, one row of the picture further down.

Where the lines are very short, as for a picture of one channel, whole patches are written down: one product of a
longer sum is faster than several of short ones.
"""

import functools

import numpy as np

from ..arrays import Scratch, nhwc, pad, writable_nhwc
from ..blas import share_out
from ..sharing import rectify

BUFFER = 1 << 18  # numbers in the column buffer: 1 MB of float32
PARTIAL = 1 << 24  # numbers that all partial sums of a weight gradient may have together
SHORT = 32  # numbers in a line that are too few for a product of their own


def lines_joined(kh, kw, c):
    """How many lines of a patch stand in one row of the buffer: 1, or kh where lines are short."""
    return kh if kw * c < SHORT else 1


def tiles(n, h, row):
    """Rows of pictures to be worked on together, as (image, first row, last row); `row` numbers in a row of columns."""
    rows = max(1, min(h, BUFFER // row))
    rows = -(-h // -(-h // rows))  # all tiles about equally high
    return [(image, top, min(h, top + rows)) for image in range(n) for top in range(0, h, rows)]


def columns(padded, image, top, bottom, kh, kw, w, scratch):
    """im2col of kh x kw patches that start in the picture's rows top ... bottom: (rows, w, kh kw C)."""
    c = padded.shape[3]
    if kh == kw == 1:
        return padded[image, top:bottom]
    matrix = scratch.array("columns", (bottom - top, w, kh, kw, c), padded.dtype)
    for i in range(kh):
        for j in range(kw):
            matrix[:, :, i, j] = padded[image, top + i : bottom + i, j : j + w]
    return matrix.reshape(bottom - top, w, kh * kw * c)


def correlate(padded, weight, bias, relu, y):
    """padded (N, H + kh - 1, W + kw - 1, C), weight (O, C, kh, kw), bias (O,) or None -> y (N, H, W, O)."""
    o, c, kh, kw = weight.shape
    n, h, w, _ = y.shape
    joined = lines_joined(kh, kw, c)
    size = joined * kw * c
    matrices = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(kh // joined, size, o))

    scratch = Scratch()

    def tile(place):
        image, top, bottom = place
        lines = columns(padded, image, top, bottom + kh - joined, joined, kw, w, scratch)
        target = y[image, top:bottom].reshape(-1, o)
        np.matmul(lines[: bottom - top].reshape(-1, size), matrices[0], out=target)
        for i in range(1, len(matrices)):
            more = scratch.array("product", target.shape, target.dtype)
            target += np.matmul(lines[i : i + bottom - top].reshape(-1, size), matrices[i], out=more)
        if bias is not None:
            target += bias
        if relu:
            rectify(target, target)

    share_out(tile, tiles(n, h, w * size))


def padded_nhwc(x, amount):
    """x (N, C, H, W) with zeros around it (negative amounts crop), as a contiguous (N, H, W, C)."""
    return nhwc(pad(x, amount) if any(amount) else x)


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    with writable_nhwc(out) as y:
        correlate(padded_nhwc(x, (padding, padding)), weight, bias, relu, y)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    kh, kw = weight.shape[2:]
    turned = np.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    with writable_nhwc(out) as gx:
        correlate(padded_nhwc(grad, (kh - 1 - padding, kw - 1 - padding)), turned, None, False, gx)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight: the same columns, transposed, times the gradient.

    Tiles are summed in a few shares, and these in their order.
    """
    o, c, kh, kw = out.shape
    g = nhwc(grad)
    n, h, w, _ = g.shape
    padded = padded_nhwc(x, (padding, padding))
    joined = lines_joined(kh, kw, c)
    size = joined * kw * c
    work = tiles(n, h, w * size)
    shares = min(len(work), max(2, min(8, PARTIAL // out.size)))

    scratch = Scratch()

    def share(k):
        total = np.zeros((kh // joined, size, o), out.dtype)
        for image, top, bottom in work[k * len(work) // shares : (k + 1) * len(work) // shares]:
            lines = columns(padded, image, top, bottom + kh - joined, joined, kw, w, scratch)
            upstream = g[image, top:bottom].reshape(-1, o)
            for i in range(len(total)):
                total[i] += lines[i : i + bottom - top].reshape(-1, size).T @ upstream
        return total

    total = functools.reduce(np.add, share_out(share, range(shares)))
    out[...] = total.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
