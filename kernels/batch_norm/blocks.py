"""batch_norm, a block of pixels at a time, on all threads, with NumPy alone: each step reads its arrays once.

With scale = weight inv_std, and everything a channel,

    y = (x - mean) scale + bias
    grad_weight = inv_std sum g (x - mean)          backward_input = scale (g - mean_grad - (x - mean) slope)

where slope = inv_std mean_grad_xhat.  Forward and backward compute y by the same operations, so that the rectifier
lets a gradient pass exactly where it let the number pass.
"""

import numpy as np

from ..arrays import nhwc, writable_nhwc
from ..sharing import channel_blocks, keep, rectify, sum_of_pixels, total


def statistics(x, mean, variance):
    """As reference.statistics: of each block first the mean, then, while it is in the cache, squares of what is left.

    The squares around the blocks' means, and those of the blocks' means around the mean of all, add up to the
    squares around the mean of all (Chan, Golub and LeVeque, 1979).
    """
    c = x.shape[1]

    def block(x):
        n = x.size // c
        own = sum_of_pixels(x, c) / n
        centred = x - np.tile(own, x.shape[1] // c)
        return n, own, sum_of_pixels(np.square(centred, out=centred), c)

    parts = channel_blocks(block, [pixels(x)])
    n = np.array([n for n, _, _ in parts])[:, None]
    means, squares = (np.array([part[k] for part in parts], np.float64) for k in (1, 2))
    m = n.sum()
    centre = (n * means).sum(axis=0) / m
    mean[...] = centre
    variance[...] = (squares + n * np.square(means - centre)).sum(axis=0) / m


def normalize(x, mean, inv_std, weight, bias, relu, out):
    """As reference.normalize."""

    def block(x, y, mean, scale, bias):
        np.subtract(x, mean, out=y)
        shifted(y, scale, bias, y)
        if relu:
            rectify(y, y)

    with writable_nhwc(out) as y:
        channel_blocks(block, [pixels(x), y.reshape(-1, x.shape[1])], [mean, weight * inv_std, bias])


def backward_parameters(grad, x, mean, inv_std, weight, bias, relu, grad_weight, grad_bias):
    """As reference.backward_parameters."""
    c = x.shape[1]

    def block(g, x, mean, scale, bias):
        centred = x - mean
        if relu:
            g = passed(g, centred, scale, bias)
        plain = sum_of_pixels(g, c)
        centred *= g
        return sum_of_pixels(centred, c), plain

    parts = channel_blocks(block, [pixels(grad), pixels(x)], [mean, weight * inv_std, bias])
    grad_weight[...] = inv_std * total([product for product, _ in parts], c, x.dtype)
    grad_bias[...] = total([plain for _, plain in parts], c, x.dtype)


def backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out):
    """As reference.backward_input."""

    def block(g, x, gx, mean, scale, bias, mean_grad, slope):
        centred = x - mean
        if relu:
            g = passed(g, centred, scale, bias)
        np.subtract(g, mean_grad, out=gx)
        centred *= slope
        gx -= centred
        gx *= scale

    vectors = [mean, weight * inv_std, bias, mean_grad, inv_std * mean_grad_xhat]
    with writable_nhwc(out) as gx:
        channel_blocks(block, [pixels(grad), pixels(x), gx.reshape(-1, x.shape[1])], vectors)


def pixels(x):
    """x (N, C, H, W) as (N H W, C), channels-last."""
    return nhwc(x).reshape(-1, x.shape[1])


def shifted(centred, scale, bias, out):
    """out = y = centred scale + bias."""
    np.multiply(centred, scale, out=out)
    out += bias


def passed(grad, centred, scale, bias):
    """The gradient of y from that of max(y, 0): it passes unless y <= 0."""
    y = np.empty_like(centred)
    shifted(centred, scale, bias, y)
    keep(grad, np.logical_not(y <= 0), y)
    return y
