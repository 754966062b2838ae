"""batch_norm over rows of channels (Numba).

Sums over pixels are taken in blocks of ROWS pixels, and the blocks are added in their order: the result
does not depend on the number of threads, and long float32 sums stay accurate.
"""

import numba
import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..jit import parallel

ROWS = 512


def pixels(x):
    """x (N, C, H, W) as (N H W, C), channels-last."""
    return nhwc(x).reshape(-1, x.shape[1])


def statistics(x, mean, variance):
    """As reference.statistics: the mean first, then squares of what is left, since E[x^2] - E[x]^2 cancels."""
    rows = pixels(x)
    mean[...] = _sums(rows).sum(axis=0) / len(rows)
    variance[...] = _squares(rows, mean).sum(axis=0) / len(rows)


def normalize(x, mean, inv_std, weight, bias, out):
    """As reference.normalize."""
    with writable_nhwc(out) as y:
        _normalize(pixels(x), mean, inv_std, weight, bias, y.reshape(-1, x.shape[1]))


def backward_parameters(grad, x, mean, inv_std, grad_weight, grad_bias):
    """As reference.backward_parameters."""
    with_xhat, plain = _products(pixels(grad), pixels(x), mean, inv_std)
    grad_weight[...] = with_xhat.sum(axis=0)
    grad_bias[...] = plain.sum(axis=0)


def backward_input(grad, x, mean, inv_std, weight, mean_grad, mean_grad_xhat, out):
    """As reference.backward_input."""
    with writable_nhwc(out) as gx:
        target = gx.reshape(-1, x.shape[1])
        _backward_input(pixels(grad), pixels(x), mean, inv_std, weight, mean_grad, mean_grad_xhat, target)


@parallel
def _sums(x):
    rows, channels = x.shape
    blocks = np.zeros((-(-rows // ROWS), channels), x.dtype)
    for block in numba.prange(len(blocks)):
        total = blocks[block]
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            for c in range(channels):
                total[c] += x[row, c]
    return blocks


@parallel
def _squares(x, mean):
    rows, channels = x.shape
    blocks = np.zeros((-(-rows // ROWS), channels), x.dtype)
    for block in numba.prange(len(blocks)):
        total = blocks[block]
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            for c in range(channels):
                centred = x[row, c] - mean[c]
                total[c] += centred * centred
    return blocks


@parallel
def _normalize(x, mean, inv_std, weight, bias, y):
    rows, channels = x.shape
    for row in numba.prange(rows):
        for c in range(channels):
            y[row, c] = weight[c] * ((x[row, c] - mean[c]) * inv_std[c]) + bias[c]


@parallel
def _products(grad, x, mean, inv_std):
    rows, channels = x.shape
    with_xhat = np.zeros((-(-rows // ROWS), channels), x.dtype)
    plain = np.zeros_like(with_xhat)
    for block in numba.prange(len(plain)):
        first, second = with_xhat[block], plain[block]
        for row in range(block * ROWS, min(rows, (block + 1) * ROWS)):
            for c in range(channels):
                g = grad[row, c]
                first[c] += g * ((x[row, c] - mean[c]) * inv_std[c])
                second[c] += g
    return with_xhat, plain


@parallel
def _backward_input(grad, x, mean, inv_std, weight, mean_grad, mean_grad_xhat, gx):
    rows, channels = x.shape
    scale = weight * inv_std
    for row in numba.prange(rows):
        for c in range(channels):
            xhat = (x[row, c] - mean[c]) * inv_std[c]
            gx[row, c] = scale[c] * (grad[row, c] - mean_grad[c] - xhat * mean_grad_xhat[c])
