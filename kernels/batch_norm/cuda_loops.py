"""batch_norm over the channels of every pixel (CUDA): each step reads its arrays once, as they lie."""

import math

from ..cuda import Source, cupy, loops, picture, writable_picture
from ..cuda.sums import add_blocks, first_stage, pixels_of_block, second_stage

SOURCE = Source(__file__)


def statistics(x, mean, variance):
    """As reference.statistics: of each block the mean and the squares around it, then those of all."""
    n, c, h, w = x.shape
    if n * h * w == 0:  # the kernels read the first pixel, and there is none
        mean[...] = variance[...] = math.nan
        return
    source, (grid, block) = picture(x), first_stage(x.shape, x.dtype)
    means, squares = sums_of_blocks(x, grid)
    SOURCE.launch(
        "statistics", x.dtype, grid, block, source, loops.sides(x.shape, source), n * h * w, c,
        pixels_of_block(x.shape, grid), means, squares,
    )  # fmt: skip
    with loops.writable_contiguous(mean) as out_mean, loops.writable_contiguous(variance) as out_variance:
        SOURCE.launch(
            "combined", x.dtype, *second_stage(c, x.dtype), source[0], means, squares, grid[0], n * h * w, c,
            pixels_of_block(x.shape, grid), out_mean, out_variance,
        )  # fmt: skip


def normalize(x, mean, inv_std, weight, bias, relu, out):
    """As reference.normalize."""
    n, c, h, w = x.shape
    source, vectors = picture(x), contiguous(mean, inv_std, weight, bias)
    with writable_picture(out) as y:
        SOURCE.launch(
            "normalize", x.dtype, *loops.pixel_grid(n * h * w, c, x.dtype), source, y,
            loops.sides(x.shape, source, y), n * h * w, c, vectors, floor(relu),
        )  # fmt: skip


def backward_parameters(grad, x, mean, inv_std, weight, bias, relu, grad_weight, grad_bias):
    """As reference.backward_parameters."""
    n, c, h, w = x.shape
    upstream, source, (grid, block) = picture(grad), picture(x), first_stage(x.shape, x.dtype)
    products, sums = sums_of_blocks(x, grid)
    SOURCE.launch(
        "backward_parameters", x.dtype, grid, block, upstream, source, loops.sides(x.shape, upstream, source),
        n * h * w, c, pixels_of_block(x.shape, grid), contiguous(mean, inv_std, weight, bias), floor(relu), products,
        sums,
    )  # fmt: skip
    add_blocks(products, grad_weight)
    add_blocks(sums, grad_bias)


def backward_input(grad, x, mean, inv_std, weight, bias, relu, mean_grad, mean_grad_xhat, out):
    """As reference.backward_input."""
    n, c, h, w = x.shape
    upstream, source = picture(grad), picture(x)
    with writable_picture(out) as gx:
        SOURCE.launch(
            "backward_input", x.dtype, *loops.pixel_grid(n * h * w, c, x.dtype), upstream, source, gx,
            loops.sides(x.shape, upstream, source, gx), n * h * w, c, contiguous(mean, inv_std, weight, bias),
            floor(relu), contiguous(mean_grad, mean_grad_xhat),
        )  # fmt: skip


def floor(relu):
    """Where numbers end: 0 with a rectifier; without one NaN, since no number is "<=" that."""
    return 0.0 if relu else math.nan


def contiguous(*vectors):
    """Values of the channels, each (C,), as kernels read them."""
    return tuple(loops.contiguous(vector) for vector in vectors)


def sums_of_blocks(x, grid):
    """Room for two sums of every block of pixels, each (blocks, C)."""
    return tuple(cupy().empty((grid[0], x.shape[1]), x.dtype) for _ in range(2))
