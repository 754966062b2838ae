"""Softmax cross entropy, a stretch of pixels at a time (Numba).

Each step is a loop over the pixels of the stretch, instead of one loop with all steps: then the exponentials of several
pixels are computed at the same time, while within a pixel each step waits for the one before.
"""

import math

import numpy as np

from .. import workers
from ..arrays import nhwc, writable_nhwc
from ..jit import serial

STRETCH = 256  # pixels


def forward(logits, target, out):
    """As reference.forward."""
    flat = np.empty(target.size, logits.dtype)
    z, classes = nhwc(logits).reshape(-1, logits.shape[1]), np.ascontiguousarray(target).reshape(-1)
    workers.share(_forward, stretches(target.size), z, classes, flat, numbers=logits.size)
    out[...] = flat.reshape(target.shape)


def backward(grad, logits, target, out):
    """As reference.backward."""
    k = logits.shape[1]
    z, classes = nhwc(logits).reshape(-1, k), np.ascontiguousarray(target).reshape(-1)
    with writable_nhwc(out) as gz:
        upstream = np.ascontiguousarray(grad).reshape(-1)
        workers.share(
            _backward, stretches(target.size), upstream, z, classes, gz.reshape(-1, k), numbers=logits.size
        )  # fmt: skip


def stretches(pixels):
    """How many stretches there are; the last one may be shorter."""
    return -(-pixels // STRETCH)


@serial
def largest(z):
    """The largest logit of each pixel; NaN where there is one, so that the loss shows it."""
    top = z[:, 0].copy()
    for k in range(1, z.shape[1]):
        for pixel in range(len(z)):
            value = z[pixel, k]
            top[pixel] = value if (value > top[pixel]) | (value != value) else top[pixel]
    return top


@serial
def exponentials(z, top, out):
    """out = exp(z - top), (pixels, K); returns the sum of each pixel."""
    total = np.zeros_like(top)
    for k in range(z.shape[1]):
        for pixel in range(len(z)):
            out[pixel, k] = math.exp(z[pixel, k] - top[pixel])
            total[pixel] += out[pixel, k]
    return total


@serial
def _forward(first, last, logits, target, loss):
    zero = logits.dtype.type(0)
    for stretch in range(first, last):
        part = slice(stretch * STRETCH, (stretch + 1) * STRETCH)
        z, y, out = logits[part], target[part], loss[part]
        top = largest(z)
        total = exponentials(z, top, np.empty_like(z))
        for pixel in range(len(z)):
            value = math.log(total[pixel]) + (top[pixel] - z[pixel, max(y[pixel], 0)])
            out[pixel] = value if y[pixel] >= 0 else zero


@serial
def _backward(first, last, grad, logits, target, gz):
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for stretch in range(first, last):
        part = slice(stretch * STRETCH, (stretch + 1) * STRETCH)
        g, z, y, out = grad[part], logits[part], target[part], gz[part]
        total = exponentials(z, largest(z), out)
        for k in range(z.shape[1]):
            for pixel in range(len(z)):
                share = out[pixel, k] / total[pixel] - (one if y[pixel] == k else zero)
                out[pixel, k] = g[pixel] * share if y[pixel] >= 0 else zero
