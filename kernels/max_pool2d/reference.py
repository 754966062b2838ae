"""max_pool2d with stride = kernel size k, the definition.

    y[n, c, h, w] = max over i, j < k of  x[n, c, k h + i, k w + j]

Odd rows and columns at the end are dropped.  The place i k + j of the maximum goes into one byte; of equal
values the first in reading order wins, and NaN wins over every number (the first NaN).
"""

import numpy as np


def windows(x, k):
    """x (N, C, H, W) -> (N, C, H // k, W // k, k * k): each window's values in reading order."""
    n, c, h, w = x.shape
    h, w = h // k, w // k
    tiles = x[:, :, : h * k, : w * k].reshape(n, c, h, k, w, k)
    return tiles.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h, w, k * k)


def forward(x, kernel_size, out, argmax):
    """x (N, C, H, W) -> out (N, C, H // k, W // k) and argmax of that shape, uint8."""
    values = windows(x, kernel_size)
    argmax[...] = values.argmax(axis=-1)  # NumPy's argmax: the first maximum, and the first NaN before any number
    out[...] = np.take_along_axis(values, argmax[..., None].astype(np.intp), axis=-1)[..., 0]


def backward(grad, argmax, kernel_size, out):
    """grad and argmax (N, C, H', W') -> out (N, C, H, W): the gradient goes to the maximum, zero elsewhere."""
    k = kernel_size
    h, w = grad.shape[2:]
    out[...] = 0
    for place in range(k * k):
        i, j = divmod(place, k)
        out[:, :, i : h * k : k, j : w * k : k] = np.where(argmax == place, grad, 0)
