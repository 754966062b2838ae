"""conv_transpose2d as one matrix product for all taps, with NumPy alone.

Row by row of pixels (N H W, C) times the weight (C, s s O) gives every pixel's patch; what is left is to put the
patches in their places.  Both are done for some rows of a picture at a time, while they are in the cache.
"""

import functools

import numpy as np

from ..arrays import Scratch, nhwc, writable_nhwc
from ..blas import share_out

BUFFER = 1 << 18  # numbers in the patches of a piece of work
PIXELS = 256  # but so many pixels at least: fewer would not be worth reading all weights
SHARES = 8  # parts of a weight gradient, which are added in their order


def pieces(shape, patch):
    """Pixel rows to be worked on together, as (image, first row, last row), for patches of so many numbers."""
    n, h, w, _ = shape
    rows = min(h, -(-max(PIXELS, BUFFER // patch) // w))
    return [(image, top, min(h, top + rows)) for image in range(n) for top in range(0, h, rows)]


def patches(picture, place, s):
    """The patches of some rows in a picture (N, s H, s W, O), as they lie there: (rows, s, W, s, O)."""
    image, top, bottom = place
    _, _, width, o = picture.shape
    return picture[image, s * top : s * bottom].reshape(bottom - top, s, width // s, s, o)


def gathered(picture, place, s, scratch):
    """A copy of these patches, one a pixel: (rows W, s s O)."""
    view = patches(picture, place, s).transpose(0, 2, 1, 3, 4)
    rows, w, _, _, o = view.shape
    copy = scratch.array("patches", (rows * w, s * s * o), picture.dtype)
    copy.reshape(view.shape)[...] = view
    return copy


def forward(x, weight, bias, out):
    """As reference.forward."""
    c, o, s, _ = weight.shape
    rows, y = nhwc(x), out.transpose(0, 2, 3, 1)
    matrix = np.ascontiguousarray(weight.transpose(0, 2, 3, 1).reshape(c, s * s * o))
    shift = None if bias is None else np.tile(bias, s * s)

    scratch = Scratch()

    def piece(place):
        image, top, bottom = place
        pixels = rows[image, top:bottom].reshape(-1, c)
        painted = scratch.array("patches", (len(pixels), s * s * o), out.dtype)
        np.matmul(pixels, matrix, out=painted)
        if shift is not None:
            painted += shift
        patches(y, place, s)[...] = painted.reshape(bottom - top, -1, s, s, o).transpose(0, 2, 1, 3, 4)

    share_out(piece, pieces(rows.shape, s * s * o))


def backward_input(grad, weight, out):
    """As reference.backward_input."""
    c, o, s, _ = weight.shape
    g = nhwc(grad)
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(s * s * o, c))
    scratch = Scratch()
    with writable_nhwc(out) as gx:

        def piece(place):
            image, top, bottom = place
            np.matmul(gathered(g, place, s, scratch), matrix, out=gx[image, top:bottom].reshape(-1, c))

        share_out(piece, pieces(gx.shape, s * s * o))


def backward_weight(grad, x, out):
    """As reference.backward_weight."""
    c, o, s, _ = out.shape
    rows, g = nhwc(x), nhwc(grad)
    work = pieces(rows.shape, s * s * o)
    shares = min(len(work), SHARES)

    scratch = Scratch()

    def share(k):
        total = np.zeros((c, s * s * o), out.dtype)
        for image, top, bottom in work[k * len(work) // shares : (k + 1) * len(work) // shares]:
            total += rows[image, top:bottom].reshape(-1, c).T @ gathered(g, (image, top, bottom), s, scratch)
        return total

    total = functools.reduce(np.add, share_out(share, range(shares)))
    out[...] = total.reshape(c, s, s, o).transpose(0, 3, 1, 2)
