"""Softmax cross entropy, pixel by pixel over rows of logits (Numba)."""

import math

import numba
import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..jit import parallel, serial


def forward(logits, target, out):
    """As reference.forward."""
    flat = np.empty(target.size, logits.dtype)
    _forward(nhwc(logits).reshape(-1, logits.shape[1]), np.ascontiguousarray(target).reshape(-1), flat)
    out[...] = flat.reshape(target.shape)


def backward(grad, logits, target, out):
    """As reference.backward."""
    k = logits.shape[1]
    with writable_nhwc(out) as gz:
        upstream, classes = np.ascontiguousarray(grad).reshape(-1), np.ascontiguousarray(target).reshape(-1)
        _backward(upstream, nhwc(logits).reshape(-1, k), classes, gz.reshape(-1, k))


@serial
def largest(z):
    """The largest logit; NaN where there is one, so that the loss shows it."""
    top = z[0]
    for k in range(1, len(z)):
        top = z[k] if z[k] > top or z[k] != z[k] else top
    return top


@parallel
def _forward(logits, target, loss):
    for pixel in numba.prange(len(target)):
        z, y = logits[pixel], target[pixel]
        if y < 0:
            loss[pixel] = 0
            continue
        top = largest(z)
        total = math.exp(z[0] - top)
        for k in range(1, len(z)):
            total += math.exp(z[k] - top)
        loss[pixel] = math.log(total) + (top - z[y])


@parallel
def _backward(grad, logits, target, gz):
    for pixel in numba.prange(len(target)):
        z, y, g = logits[pixel], target[pixel], grad[pixel]
        out = gz[pixel]
        if y < 0:
            out[:] = 0
            continue
        top = largest(z)
        out[0] = total = math.exp(z[0] - top)
        for k in range(1, len(z)):
            out[k] = math.exp(z[k] - top)
            total += out[k]
        for k in range(len(z)):
            out[k] = g * (out[k] / total - (1 if k == y else 0))
