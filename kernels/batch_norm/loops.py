"""batch_norm over rows of pixels (Numba): each step reads its arrays once, as they lie.

With scale = weight inv_std, and everything a channel,

    y = (x - mean) scale + bias
    grad_weight = inv_std sum g (x - mean)          backward_input = scale (g - mean_grad - (x - mean) slope)

where slope = inv_std mean_grad_xhat.  Forward and backward compute y by the same expression, so that the rectifier
lets a gradient pass exactly where it let the number pass.
"""

import numpy as np

from .. import workers
from ..arrays import pixels, writable_pixels
from ..jit import serial
from ..rows import blocks_of, folded, groups, numbers, pixels_of_group, place, repeated, rows_of_block


def statistics(x, mean, variance):
    """As reference.statistics: of each block the mean and then, while it is in the cache, squares of what is left."""
    (memory, strides), block = pixels(x), rows_of_block(x.shape)
    means, squares = sums_of_blocks(x)
    workers.share(
        _statistics, len(means), memory, strides, x.shape, pixels_of_group(x.shape, strides), block, means, squares,
        numbers=x.size,
    )  # fmt: skip
    mean[...], variance[...] = combined(means, squares, x.shape[0] * x.shape[2], block, x.shape[3])


def normalize(x, mean, inv_std, weight, bias, relu, out):
    """As reference.normalize."""
    memory, strides = pixels(x)
    with writable_pixels(out) as (target, to):
        group = pixels_of_group(x.shape, strides, to)
        workers.share(
            _normalize, x.shape[0] * x.shape[2], memory, strides, target, to, x.shape, group, mean, weight * inv_std,
            bias, floor(x, relu), numbers=x.size,
        )  # fmt: skip


def backward_parameters(grad, x, mean, inv_std, weight, bias, relu, grad_weight, grad_bias):
    """As reference.backward_parameters."""
    (g, g_strides), (memory, strides) = pixels(grad), pixels(x)
    products, sums = sums_of_blocks(x)
    workers.share(
        _sums, len(sums), g, g_strides, memory, strides, x.shape, pixels_of_group(x.shape, g_strides, strides),
        rows_of_block(x.shape), mean, weight * inv_std, bias, floor(x, relu), products, sums, numbers=x.size,
    )  # fmt: skip
    grad_weight[...] = products.sum(axis=0) * inv_std
    grad_bias[...] = sums.sum(axis=0)


def backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out):
    """As reference.backward_input."""
    (g, g_strides), (memory, strides) = pixels(grad), pixels(x)
    with writable_pixels(out) as (target, to):
        group = pixels_of_group(x.shape, g_strides, strides, to)
        workers.share(
            _backward_input, x.shape[0] * x.shape[2], g, g_strides, memory, strides, target, to, x.shape, group,
            mean, weight * inv_std, bias, floor(x, relu), mean_grad, inv_std * mean_grad_xhat, numbers=x.size,
        )  # fmt: skip


def floor(x, relu):
    """Where numbers end: 0 with a rectifier; without one NaN, since no number is "<=" that."""
    return x.dtype.type(0 if relu else np.nan)


def sums_of_blocks(x):
    """Room for two sums of every block of rows, each (blocks, C)."""
    return np.empty((2, blocks_of(x.shape), x.shape[1]), x.dtype)


@serial
def _statistics(first, last, x, strides, shape, group, rows_of_block, means, squares):
    rows = shape[0] * shape[2]
    for block in range(first, last):
        start, stop = block * rows_of_block, min(rows, (block + 1) * rows_of_block)
        mean_of_rows(x, strides, shape, group, start, stop, means[block])
        squares_of_rows(x, strides, shape, group, start, stop, means[block], squares[block])


@serial
def mean_of_rows(x, strides, shape, group, first, last, out):
    """out (C,) = the mean of the rows first ... last - 1."""
    sums = np.zeros(group * shape[1], x.dtype)
    for row in range(first, last):
        for w in groups(shape, group):
            at = place(row, w, shape, strides)
            for k in numbers(w, shape, group):
                sums[k] += x[at + k]
    folded(sums, group, out)
    for c in range(len(out)):
        out[c] /= (last - first) * shape[3]


@serial
def squares_of_rows(x, strides, shape, group, first, last, mean, out):
    """out (C,) = the sum of (x - mean)^2 over these rows."""
    means, sums = repeated(mean, group), np.zeros(group * shape[1], x.dtype)
    for row in range(first, last):
        for w in groups(shape, group):
            at = place(row, w, shape, strides)
            for k in numbers(w, shape, group):
                centred = x[at + k] - means[k]
                sums[k] += centred * centred
    folded(sums, group, out)


@serial
def combined(means, squares, rows, rows_of_block, width):
    """Mean and variance of all rows from the mean of each block and the sum of squares around it.

    Joining the n numbers of a block to the m before it (Chan, Golub and LeVeque, 1979), with step = the difference of
    the means:  mean += step n / (m + n),  squares += block's squares + step^2 m n / (m + n).
    """
    mean, total = np.zeros(means.shape[1]), np.zeros(means.shape[1])
    m = 0
    for block in range(len(means)):
        n = (min(rows, (block + 1) * rows_of_block) - block * rows_of_block) * width
        for c in range(len(mean)):
            step = means[block, c] - mean[c]
            mean[c] += step * n / (m + n)
            total[c] += squares[block, c] + step * step * m * n / (m + n)
        m += n
    for c in range(len(mean)):
        total[c] /= m
    return mean, total


@serial
def _normalize(first, last, x, x_strides, y, y_strides, shape, group, mean, scale, bias, floor):
    means, scales, biases = repeated(mean, group), repeated(scale, group), repeated(bias, group)
    for row in range(first, last):
        for w in groups(shape, group):
            source, target = place(row, w, shape, x_strides), place(row, w, shape, y_strides)
            for k in numbers(w, shape, group):
                value = (x[source + k] - means[k]) * scales[k] + biases[k]
                y[target + k] = floor if value <= floor else value


@serial
def _sums(
    first, last, grad, grad_strides, x, x_strides, shape, group, rows_of_block, mean, scale, bias, floor, products, sums
):
    rows = shape[0] * shape[2]
    means, scales, biases = repeated(mean, group), repeated(scale, group), repeated(bias, group)
    for block in range(first, last):
        start, stop = block * rows_of_block, min(rows, (block + 1) * rows_of_block)
        sums_of_rows(
            grad, grad_strides, x, x_strides, shape, group, start, stop, means, scales, biases, floor,
            products[block], sums[block],
        )  # fmt: skip


@serial
def sums_of_rows(
    grad, grad_strides, x, x_strides, shape, group, first, last, means, scales, biases, floor, out_products, out_sums
):
    """out_products, out_sums (C,) = the sums of g (x - mean) and of g over the rows first ... last - 1."""
    products, sums, zero = np.zeros_like(means), np.zeros_like(means), x.dtype.type(0)
    for row in range(first, last):
        for w in groups(shape, group):
            upstream, source = place(row, w, shape, grad_strides), place(row, w, shape, x_strides)
            for k in numbers(w, shape, group):
                centred = x[source + k] - means[k]
                g = zero if centred * scales[k] + biases[k] <= floor else grad[upstream + k]
                products[k] += g * centred
                sums[k] += g
    folded(products, group, out_products)
    folded(sums, group, out_sums)


@serial
def _backward_input(
    first, last, grad, grad_strides, x, x_strides, gx, gx_strides, shape, group, mean, scale, bias, floor, mean_grad,
    slope,
):  # fmt: skip
    means, scales, biases = repeated(mean, group), repeated(scale, group), repeated(bias, group)
    mean_grads, slopes = repeated(mean_grad, group), repeated(slope, group)
    zero = x.dtype.type(0)
    for row in range(first, last):
        for w in groups(shape, group):
            upstream, source = place(row, w, shape, grad_strides), place(row, w, shape, x_strides)
            target = place(row, w, shape, gx_strides)
            for k in numbers(w, shape, group):
                centred = x[source + k] - means[k]
                g = zero if centred * scales[k] + biases[k] <= floor else grad[upstream + k]
                gx[target + k] = scales[k] * (g - mean_grads[k] - centred * slopes[k])
