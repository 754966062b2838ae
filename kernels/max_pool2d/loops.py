"""max_pool2d as loops over channels-last rows (Numba)."""

import numba
import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..jit import parallel


def forward(x, kernel_size, out, argmax):
    """As reference.forward."""
    with writable_nhwc(out) as y, writable_nhwc(argmax) as places:
        _forward(nhwc(x), kernel_size, y, places)


def backward(grad, argmax, kernel_size, out):
    """As reference.backward."""
    with writable_nhwc(out) as gx:
        _backward(nhwc(grad), nhwc(argmax), kernel_size, gx)


@parallel
def _forward(x, k, y, places):
    n, h, w, channels = y.shape
    for row in numba.prange(n * h):
        image, top = row // h, row % h
        for left in range(w):
            best, place = y[image, top, left], places[image, top, left]
            best[:] = x[image, k * top, k * left]
            place[:] = 0
            for index in range(1, k * k):
                pixel = x[image, k * top + index // k, k * left + index % k]
                for c in range(channels):
                    value, top_value = pixel[c], best[c]
                    # A NaN takes the place of a number, and nothing takes the place of a NaN.
                    wins = (value > top_value) | ((value != value) & (top_value == top_value))
                    best[c] = value if wins else top_value
                    place[c] = np.uint8(index) if wins else place[c]


@parallel
def _backward(grad, places, k, gx):
    n, height, width, channels = gx.shape
    h, w = grad.shape[1:3]
    for row in numba.prange(n * height):
        image, y = row // height, row % height
        for x in range(width):
            if y // k >= h or x // k >= w:
                gx[image, y, x] = 0
                continue
            here = np.uint8(y % k * k + x % k)
            g, place, target = grad[image, y // k, x // k], places[image, y // k, x // k], gx[image, y, x]
            for c in range(channels):
                target[c] = g[c] if place[c] == here else 0
