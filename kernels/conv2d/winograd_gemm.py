"""conv2d by Winograd's F(4x4, 3x3) as a few array operations, with NumPy alone; the algorithm is in ../winograd.py.

With tiles written as vectors, a transform is one matrix product for all tiles and channels,

    (tiles, points, channels) = K (tiles, places, channels)          K: the transform's matrix, 36 x 36 for a picture

and what stands between the transforms is one for each of the 36 points, (tiles, C) by (C, O).  BLAS does all of it,
in blocks of tiles that stay in the cache.  The smaller of the two operands is transformed once and kept: the weights
where there are more tiles than output channels; the picture where it is the other way round, as in the depth
of a U-Net.

Fewer multiplications cost roundings (`cases.py` states the bound).  Integers still come out exactly where those of the
weight (in backward_weight: of the upstream gradient) are multiples of 9, the one divisor of the algorithm that is no
power of two.
"""

import functools
import itertools
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..arrays import Scratch, empty, nhwc
from ..blas import share_out
from ..sharing import rectify
from ..winograd import F4, matrix_2d
from . import im2col

TILES = 128  # tiles of a block, at most
CHANNELS = 16  # output channels of a piece of work where the picture is kept
WEIGHT_CHANNELS = 128  # the same for a weight gradient
SHARES = 8  # parts of a weight gradient where there are more tiles than output channels
SMALL = 1_000_000  # multiplications up to which OpenBLAS takes matrices as they lie, without rearranging them first


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward.  There is no such algorithm for kernels that are not 3 x 3: they are left to im2col."""
    if weight.shape[2:] == (3, 3):
        correlate(pictures(x), weight, bias, padding, relu, out.transpose(0, 2, 3, 1))
    else:
        im2col.forward(x, weight, bias, padding, relu, out)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged.

    Kernels that are not 3 x 3 are left to im2col.
    """
    if weight.shape[2:] == (3, 3):
        turned = np.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
        correlate(pictures(grad), turned, None, 2 - padding, False, out.transpose(0, 2, 3, 1))
    else:
        im2col.backward_input(grad, weight, padding, out)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight.  Kernels that are not 3 x 3 are left to im2col."""
    if out.shape[2:] == (3, 3):
        correlate_weight(pictures(grad), pictures(x), padding, out)
    else:
        im2col.backward_weight(grad, x, padding, out)


def correlate(x, weight, bias, padding, relu, y):
    """x (N, H, W, C), weight (O, C, 3, 3), bias (O,) or None -> y (N, H + 2 padding - 2, W + 2 padding - 2, O)."""
    o, c = weight.shape[:2]
    blocks = cut(y.shape, min(TILES, max(1, SMALL // (CHANNELS * c))))
    scratch = Scratch()

    def picture_points(block, out=None):
        return at_points("picture", gathered(x, padding, block, 6, scratch), scratch, out)

    def tiles_with_all_weights(block):
        finish(picture_points(block), weights, bias, relu, y, block, scratch)

    def channels_with_all_tiles(part):
        weights, shift = weight_points(weight[part]), None if bias is None else bias[part]
        for block in blocks:
            finish(picture[block.tiles], weights, shift, relu, y[..., part], block, scratch)

    if o <= count(blocks):
        weights = empty((36, c, o), x.dtype)
        share_out(lambda part: weight_points(weight[:, part], weights[:, part]), parts(c, CHANNELS))
        share_out(tiles_with_all_weights, blocks)
    else:
        picture = empty((count(blocks), 36, c), x.dtype)
        share_out(lambda block: picture_points(block, picture[block.tiles]), blocks)
        share_out(channels_with_all_tiles, parts(o, CHANNELS))


def correlate_weight(g, x, padding, out):
    """g (N, H + 2 padding - 2, W + 2 padding - 2, O), x (N, H, W, C) -> out (O, C, 3, 3)."""
    o, c = out.shape[:2]
    blocks = cut(g.shape, TILES)
    scratch = Scratch()

    def picture_points(block, out=None):
        return at_points("picture", gathered(x, padding, block, 6, scratch), scratch, out)

    def gradient_points(block, out=None):
        return at_points("gradient", gathered(g, 0, block, 4, scratch), scratch, out)

    def sum_of_tiles(part):
        total = zeros((36, o, c), out.dtype)
        for block in blocks[part]:
            total += summed(gradient_points(block), picture_points(block), scratch)
        return weights_of(total)

    def sum_of_all_tiles(part):
        out[part] = weights_of(summed(upstream[..., part], picture, scratch))

    if o <= count(blocks):
        shares = parts(len(blocks), -(-len(blocks) // SHARES))
        out[...] = functools.reduce(np.add, share_out(sum_of_tiles, shares))  # always in this order
    else:
        upstream, picture = empty((count(blocks), 36, o), g.dtype), empty((count(blocks), 36, c), x.dtype)
        share_out(lambda block: gradient_points(block, upstream[block.tiles]), blocks)
        share_out(lambda block: picture_points(block, picture[block.tiles]), blocks)
        share_out(sum_of_all_tiles, parts(o, WEIGHT_CHANNELS))


# --------------------------------------------------------------------------------------------- the arithmetic


@functools.cache
def transform(name, dtype):
    """The matrix of one of F4's transforms, for tiles written as vectors.

    Those of the weights are multiplied by 9: only then are all their numbers binary fractions.  The weights are divided
    by 9 instead, which is exact for multiples of 9.
    """
    size = {"weight": 3, "gradient": 4}.get(name, 6)
    scale = 9 if name in ("weight", "weight_gradient") else 1
    return (scale * matrix_2d(getattr(F4, name), size)).astype(dtype)


def at_points(name, tiles, scratch, out=None):
    """tiles (T, places, C) -> (T, 36, C)."""
    out = scratch.array(f"{name} at points", (len(tiles), 36, tiles.shape[2]), tiles.dtype) if out is None else out
    return np.matmul(transform(name, tiles.dtype), tiles, out=out)


def weight_points(weight, out=None):
    """weight (O, C, 3, 3) -> (36, C, O); its input channels are in the place of tiles."""
    o, c = weight.shape[:2]
    taps = empty((c, 9, o), weight.dtype)
    np.divide(weight.transpose(1, 2, 3, 0), 9, out=taps.reshape(c, 3, 3, o))
    out = empty((36, c, o), weight.dtype) if out is None else out
    np.matmul(transform("weight", weight.dtype), taps, out=out.transpose(1, 0, 2))
    return out


def multiplied(picture, weights, scratch):
    """picture (T, 36, C), weights (36, C, O) -> their product at every point, (T, 36, O), in pieces that are SMALL."""
    (t, _, c), o = picture.shape, weights.shape[2]
    products = scratch.array("products", (t, 36, o), picture.dtype)
    a, out = picture.transpose(1, 0, 2), products.transpose(1, 0, 2)
    for part in parts(o, max(CHANNELS, SMALL // (t * c)), CHANNELS):
        np.matmul(a, weights[:, :, part], out=out[:, :, part])
    return products


def finish(picture, weights, bias, relu, y, block, scratch):
    """picture (T, 36, C), weights (36, C, O), bias (O,) or None -> the block's tiles of y (N, H, W, O)."""
    products = multiplied(picture, weights, scratch)
    if bias is not None:
        products[:, 7] += bias  # the value at the point (1, 1) goes into each of the 16 outputs, once
    tiles = scratch.array("outputs", (len(products), 16, products.shape[2]), y.dtype)
    np.matmul(transform("output", y.dtype), products, out=tiles)
    if relu:
        rectify(tiles, tiles)
    put(tiles, y, block)


def summed(upstream, picture, scratch):
    """upstream (T, 36, O), picture (T, 36, C) -> their products summed over the tiles, (36, O, C)."""
    out = scratch.array("sums", (36, upstream.shape[2], picture.shape[2]), picture.dtype)
    return np.matmul(upstream.transpose(1, 2, 0), picture.transpose(1, 0, 2), out=out)


def weights_of(points):
    """points (36, O, C) -> (O, C, 3, 3)."""
    _, o, c = points.shape
    taps = np.matmul(points.transpose(1, 2, 0), transform("weight_gradient", points.dtype).T)
    taps /= 9
    return taps.reshape(o, c, 3, 3)


# ------------------------------------------------------------------------------------------------ the tiles


class Block(NamedTuple):
    """Tiles that are worked on together: some images, some rows and columns of tiles in them.

    tiles: their numbers, if all blocks are counted through.
    """

    images: slice
    rows: slice
    columns: slice
    tiles: slice


def parts(n, most, unit=1):
    """0 ... n in pieces of at most `most`, all about equally large and, but for the last, multiples of `unit`."""
    units = -(-n // unit)
    pieces = -(-units // (most // unit))
    return [slice(k * units // pieces * unit, min(n, (k + 1) * units // pieces * unit)) for k in range(pieces)]


def length(part):
    """Numbers in a slice."""
    return part.stop - part.start


def cut(shape, most):
    """Blocks of at most `most` tiles of pictures (N, H, W, C): whole images, some rows of one, or a piece of a row."""
    n, rows, columns = shape[0], -(-shape[1] // 4), -(-shape[2] // 4)
    wide = parts(columns, most)
    tall = parts(rows, max(1, most // length(wide[-1])))
    images = parts(n, max(1, most // (rows * columns)))
    blocks: list[Block] = []
    for image, row, column in itertools.product(images, tall, wide):
        first = count(blocks)
        blocks.append(Block(image, row, column, slice(first, first + length(image) * length(row) * length(column))))
    return blocks


def count(blocks):
    """Tiles of all blocks."""
    return blocks[-1].tiles.stop if blocks else 0


def pictures(x):
    """x (N, C, H, W) as (N, H, W, C) whose pixels are stretches of memory, copied only if they are not."""
    view = x.transpose(0, 2, 3, 1)
    return view if view.strides[3] == x.itemsize else nhwc(x)


def gathered(picture, padding, block, size, scratch):
    """size x size pixels from every fourth one in both directions: (T, size size, C); zeros outside the picture."""
    images, rows, columns = length(block.images), length(block.rows), length(block.columns)
    top, left = 4 * block.rows.start - padding, 4 * block.columns.start - padding
    part = window(picture[block.images], top, left, 4 * (rows - 1) + size, 4 * (columns - 1) + size, scratch)
    n, h, w, c = part.strides
    shape = (images, rows, columns, size, size, part.shape[3])
    tiles = scratch.array("gathered", (images * rows * columns, size * size, part.shape[3]), picture.dtype)
    tiles.reshape(shape)[...] = as_strided(part, shape, (n, 4 * h, 4 * w, h, w, c), writeable=False)
    return tiles


def window(picture, top, left, height, width, scratch):
    """height x width pixels of a picture (N, H, W, C) from (top, left), zeros where they are outside of it."""
    inside = picture[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if inside.shape[1:3] == (height, width):
        return inside
    part = scratch.array("window", (len(picture), height, width, picture.shape[3]), picture.dtype)
    part[...] = 0
    part[:, max(-top, 0) :, max(-left, 0) :][:, : inside.shape[1], : inside.shape[2]] = inside
    return part


def zeros(shape, dtype):
    """As np.zeros, in memory that is used again and again: fresh memory costs more than filling it."""
    array = empty((prod(shape),), dtype).reshape(shape)
    array[...] = 0
    return array


def put(tiles, y, block):
    """tiles (T, 16, O) to their places in y (N, H, W, O), without what stands out below and at the right."""
    rows, columns = length(block.rows), length(block.columns)
    target = y[block.images, 4 * block.rows.start : 4 * block.rows.stop,
               4 * block.columns.start : 4 * block.columns.stop]  # fmt: skip
    n, h, w, o = target.shape
    placed = tiles.reshape(n, rows, columns, 4, 4, o).transpose(0, 1, 3, 2, 4, 5)
    if (h, w) == (4 * rows, 4 * columns):
        target.reshape(placed.shape)[...] = placed  # a view: only axes that are cut in two
    else:
        target[...] = placed.reshape(n, 4 * rows, 4 * columns, o)[:, :h, :w]
