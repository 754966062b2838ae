"""max_pool2d as loops over the channels of every pixel (Numba); arrays are read and written as they lie in memory."""

import numpy as np

from .. import workers
from ..arrays import pixels, writable_pixels
from ..jit import apart, serial
from ..rows import place


def forward(x, kernel_size, out, argmax):
    """As reference.forward; the usual window of 2 x 2 has a loop of its own, whose maxima stay in registers."""
    memory, strides = pixels(x)
    with writable_pixels(out) as (y, y_strides), writable_pixels(argmax) as (places, to):
        rows, arguments = out.shape[0] * out.shape[2], (memory, strides, y, y_strides, places, to, out.shape)
        if kernel_size == 2:
            workers.share(_forward_2, rows, *arguments, numbers=x.size)
        else:
            workers.share(_forward, rows, *arguments, kernel_size, numbers=x.size)


def backward(grad, argmax, kernel_size, out):
    """As reference.backward."""
    (g, g_strides), (places, at) = pixels(grad), pixels(argmax)
    with writable_pixels(out) as (gx, gx_strides):
        workers.share(
            _backward, out.shape[0] * out.shape[2], g, g_strides, places, at, gx, gx_strides, grad.shape, out.shape,
            kernel_size, numbers=out.size,
        )  # fmt: skip


@serial
def wins(value, best):
    """Whether `value` takes the place of `best`: a NaN takes that of a number, and nothing that of a NaN."""
    return (not value <= best) & (best == best)


@serial
def window(row, w, i, j, k, height, strides):
    """Where row i, column j of the window of pooled pixel `w` in pooled row `row` of all images lies."""
    y = row % height * k + i
    return np.uint64(row // height * strides[0] + y * strides[1] + j * strides[2]) + w * np.uint64(k * strides[2])


@apart
def _forward_2(first, last, x, x_strides, y, y_strides, places, places_strides, shape):
    _, channels, height, width = shape
    for row in range(first, last):
        for w in range(np.uint64(width)):
            target, to = place(row, w, shape, y_strides), place(row, w, shape, places_strides)
            source = window(row, w, 0, 0, 2, height, x_strides)
            right, below = np.uint64(x_strides[2]), np.uint64(x_strides[1])
            for c in range(np.uint64(channels)):
                best, index = x[source + c], np.uint8(0)
                for value, other in (
                    (x[source + right + c], np.uint8(1)),
                    (x[source + below + c], np.uint8(2)),
                    (x[source + below + right + c], np.uint8(3)),
                ):
                    better = wins(value, best)
                    best, index = value if better else best, other if better else index
                y[target + c], places[to + c] = best, index


@apart
def _forward(first, last, x, x_strides, y, y_strides, places, places_strides, shape, k):
    _, channels, height, width = shape
    for row in range(first, last):
        for w in range(np.uint64(width)):
            target, to = place(row, w, shape, y_strides), place(row, w, shape, places_strides)
            source = window(row, w, 0, 0, k, height, x_strides)
            for c in range(np.uint64(channels)):
                y[target + c], places[to + c] = x[source + c], 0
            for index in range(1, k * k):
                source = window(row, w, index // k, index % k, k, height, x_strides)
                for c in range(np.uint64(channels)):
                    if wins(x[source + c], y[target + c]):
                        y[target + c], places[to + c] = x[source + c], index


@apart
def _backward(first, last, grad, grad_strides, places, places_strides, gx, gx_strides, shape, large, k):
    """Every row of gx is written by itself, each number once."""
    _, channels, height, width = shape
    rows, columns = large[2], large[3]
    zero = grad.dtype.type(0)
    for line in range(first, last):
        image, y = line // rows, line % rows
        covered = width * k if y < height * k else 0
        row, i = image * height + y // k, y % k
        for w in range(np.uint64(covered // k)):
            upstream, at = place(row, w, shape, grad_strides), place(row, w, shape, places_strides)
            for j in range(k):
                target, here = window(row, w, i, j, k, height, gx_strides), np.uint8(i * k + j)
                for c in range(np.uint64(channels)):
                    gx[target + c] = grad[upstream + c] if places[at + c] == here else zero
        for column in range(np.uint64(covered), np.uint64(columns)):  # what the windows leave over
            target = place(line, column, large, gx_strides)
            for c in range(np.uint64(channels)):
                gx[target + c] = zero
