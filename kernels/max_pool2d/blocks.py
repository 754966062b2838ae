"""max_pool2d, some rows of a picture at a time, on all threads, with NumPy alone."""

from ..sharing import keep, rows_of_block, share_out
from . import reference


def forward(x, kernel_size, out, argmax):
    """As reference.forward: that itself, on one piece after the other, whose intermediate results stay in the cache."""

    def piece(place):
        image, rows, source = place
        reference.forward(x[image, :, source], kernel_size, out[image, :, rows], argmax[image, :, rows])

    share_out(piece, pieces(out.shape, kernel_size))


def backward(grad, argmax, kernel_size, out):
    """As reference.backward."""
    h, w = kernel_size * grad.shape[2], kernel_size * grad.shape[3]
    out[:, :, h:] = 0
    out[:, :, :, w:] = 0

    def piece(place):
        image, rows, target = place
        g, places = grad[image, :, rows], argmax[image, :, rows]
        for k, windows in reference.places(out[image, :, target, :w], kernel_size):
            keep(g, places == k, windows)

    share_out(piece, pieces(grad.shape, kernel_size))


def pieces(shape, k):
    """(image, rows, the k rows that each of these looks at), as slices, for pictures (N, C, H, W) of maxima."""
    n, c, h, w = shape
    size = rows_of_block(k * k * c * w)
    cuts = [(first, min(h, first + size)) for first in range(0, h, size)]
    return [(slice(i, i + 1), slice(a, b), slice(k * a, k * b)) for i in range(n) for a, b in cuts]
