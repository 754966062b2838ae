"""max_pool2d with stride = kernel size k, the definition.

    y[n, c, h, w] = max over i, j < k of  x[n, c, k h + i, k w + j]

Odd rows and columns at the end are dropped.  The place i k + j of the maximum goes into one byte; of equal
values the first in reading order wins, and NaN wins over every number (the first NaN).
"""

import numpy as np


def places(x, k):
    """(place, x at that place of every window), in reading order: k * k pictures (N, C, H // k, W // k)."""
    h, w = x.shape[2] // k, x.shape[3] // k
    for i in range(k):
        for j in range(k):
            yield i * k + j, x[:, :, i : h * k : k, j : w * k : k]


def forward(x, kernel_size, out, argmax):
    """x (N, C, H, W) -> out (N, C, H // k, W // k) and argmax of that shape, uint8."""
    for place, value in places(x, kernel_size):
        if place == 0:
            out[...], argmax[...] = value, 0
            continue
        # Not "<=" is true for a larger value and for NaN; a NaN that is there already stays.
        wins = ~(value <= out) & (out == out)
        np.maximum(out, value, out=out)  # of a number and NaN, np.maximum returns NaN
        np.maximum(argmax, wins * np.uint8(place), out=argmax)  # places only grow on the way through the window


def backward(grad, argmax, kernel_size, out):
    """grad and argmax (N, C, H', W') -> out (N, C, H, W): the gradient goes to the maximum, zero elsewhere."""
    out[...] = 0
    for place, target in places(out, kernel_size):
        target[...] = np.where(argmax == place, grad, 0)
