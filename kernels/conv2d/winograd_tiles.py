"""Tiles of Winograd's convolutions, between pixels and points (Numba); the arithmetic is in ../winograd.py.

The output is cut into tiles of m x m pixels, numbered row by row through all pictures.  Here are the transforms of
such tiles; what is done with them, and in what order, is in winograd_loops.py.

    transform_picture      values V (points, tiles, C)               B^T x B of every tile
    transform_weights      values U (points, panels, C, columns)     G w G^T of all weights
    transform_output       output                                    A^T M A of the sums M over the channels, plus bias,
                                                                     rectified if asked for
    transform_gradient     values D (points, panels, tiles, columns) A g A^T of every tile of the upstream gradient
    untransform_weights    the weights' gradient                     G^T dU G of the sums dU over the tiles

each for one vector of channels at a time.  Channels are padded to whole vectors in V and M, never in the picture: a
tile that reaches over its border, and channels past the last whole vector, are first copied into a small buffer, with
zeros around them.

Below `form` is `static(m)`; a `panel` is the output channels of one register tile, as many as it has `columns`.
"""

from itertools import chain

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from ..jit import serial
from ..simd import emitted, rounded
from ..winograd import F2, F4, both_axes

ALGORITHMS = {2: F2, 4: F4}
CHANNELS = 8  # input channels whose weights are transformed together

N = types.int64


# ------------------------------------------------------------------------------------------------------- one tile


def transform(algorithm_function, tile):
    """Both axes; a product at the end of a line is rounded there, so that the next line cannot fuse it."""
    return both_axes(lambda line: [rounded(number) for number in algorithm_function(line)], tile)


def to_points(name, which):
    """An intrinsic that takes a square of pixels to the points: which(algorithm) = its transform, pixels a side.

    v[to + k * step + lane] = value k of `width` neighbouring channels; pixel (i, j) is at x[start + i row + j pixel].
    """

    @intrinsic
    def values(typingctx, form, width, x, start, row, pixel, v, to, step):
        function, size = which(ALGORITHMS[form.ndim])

        def body(e, x, start, row, pixel, v, to, step):
            tile = [[e.load(x, e.index(start, (row, i), (pixel, j))) for j in range(size)] for i in range(size)]
            for k, value in enumerate(chain(*transform(function, tile))):
                e.store(value, v, e.index(to, (step, k)))

        code = emitted(f"{name}_values_{form.ndim}", x.dtype.bitwidth, width.ndim, body)
        return types.void(form, width, x, N, N, N, v, N, N), code

    return values


picture_values = to_points("picture", lambda a: (a.picture, a.p))
gradient_values = to_points("gradient", lambda a: (a.gradient, a.m))
weight_values = to_points("weight", lambda a: (a.weight, 3))


@intrinsic
def output_tile(typingctx, form, width, v, start, step, bias, channel, floor, y, to, row, pixel):
    """m x m pixels of `width` channels: at y[to + i row + j pixel] the larger of A^T v A + bias and `floor`."""
    algorithm = ALGORITHMS[form.ndim]

    def body(e, v, start, step, bias, channel, floor, y, to, row, pixel):
        tile = points_tile(e, v, start, step, algorithm.p)
        offset, least = e.load(bias, channel), e.splat(floor)
        for i, line in enumerate(transform(algorithm.output, tile)):
            for j, value in enumerate(line):
                e.store((value + offset).at_least(least), y, e.index(to, (row, i), (pixel, j)))

    code = emitted(f"output_tile_{form.ndim}", y.dtype.bitwidth, width.ndim, body)
    return types.void(form, width, v, N, N, bias, N, y.dtype, y, N, N, N), code


@intrinsic
def weight_gradient_tile(typingctx, form, width, v, start, step, w, to):
    """w[to + (3 i + j) width + lane] = (G^T v G)[i, j], for `width` output channels."""
    algorithm = ALGORITHMS[form.ndim]

    def body(e, v, start, step, w, to):
        tile = points_tile(e, v, start, step, algorithm.p)
        for k, value in enumerate(chain(*transform(algorithm.weight_gradient, tile))):
            e.store(value, w, e.index(to, (k, e.count)))

    code = emitted(f"weight_gradient_tile_{form.ndim}", w.dtype.bitwidth, width.ndim, body)
    return types.void(form, width, v, N, N, w, N), code


def points_tile(e, data, start, step, p):
    """Loads the p x p values, `step` numbers apart."""
    return [[e.load(data, e.index(start, (step, i * p + j))) for j in range(p)] for i in range(p)]


# ----------------------------------------------------------------------------------------------------- many tiles


@serial
def transform_picture(form, width, x, pads, grid, first, last, v, step, row, patch):
    """V of the tiles first ... last: value k of tile t and channel c at v[k step + (t - first) row + c].

    x = (memory, strides, (N, H, W, C)); grid: tiles down and across.
    """
    memory, strides, (_, height, length, c) = x
    down, across = grid
    side, lanes = form.ndim + 2, width.ndim
    for tile in range(first, last):
        image, place = tile // (down * across), tile % (down * across)
        top, left = place // across * form.ndim - pads[0], place % across * form.ndim - pads[1]
        start, to = image * strides[0] + top * strides[1] + left * strides[2], (tile - first) * row
        inside = top >= 0 and left >= 0 and top + side <= height and left + side <= length
        whole = c // lanes * lanes if inside else 0
        for k in range(0, whole, lanes):
            picture_values(form, width, memory, start + k, strides[1], strides[2], v, to + k, step)
        if whole < c:
            padded = (c - whole + lanes - 1) // lanes * lanes
            copy_patch(memory, start + whole, strides, top, left, height, length, side, c - whole, padded, patch)
            for k in range(0, padded, lanes):
                picture_values(form, width, patch, k, side * padded, padded, v, to + whole + k, step)


@serial
def copy_patch(x, start, strides, top, left, height, length, side, channels, padded, patch):
    """side x side pixels from (top, left) on, `padded` channels each; zeros where there are none."""
    for i in range(side):
        for j in range(side):
            to = np.uint64((i * side + j) * padded)
            there = 0 <= top + i < height and 0 <= left + j < length
            count = np.uint64(channels if there else 0)
            source = np.uint64(start + i * strides[1] + j * strides[2]) if there else np.uint64(0)
            for k in range(count):
                patch[to + k] = x[source + k]
            for k in range(count, np.uint64(padded)):
                patch[to + k] = 0


@serial
def transform_gradient(form, width, g, grid, panels, first, last, d, step, patch, start, end):
    """D of the tiles first ... last, which are some of start ... end: (points, panels, end - start, columns).

    panels = (number, columns); the values of one point are `step` numbers behind those of the one before.
    """
    memory, strides, (_, height, length, o) = g
    down, across = grid
    m, lanes, columns = form.ndim, width.ndim, panels[1]
    tiles = end - start
    for tile in range(first, last):
        image, place = tile // (down * across), tile % (down * across)
        top, left = place // across * m, place % across * m
        corner = image * strides[0] + top * strides[1] + left * strides[2]
        inside = top + m <= height and left + m <= length
        for k in range(0, panels[0] * columns, lanes):
            to = (k // columns * tiles + tile - start) * columns + k % columns
            if inside and k + lanes <= o:
                gradient_values(form, width, memory, corner + k, strides[1], strides[2], d, to, step)
            else:
                there = max(0, min(lanes, o - k))
                copy_patch(memory, corner + k, strides, top, left, height, length, m, there, lanes, patch)
                gradient_values(form, width, patch, 0, m * lanes, lanes, d, to, step)


@serial
def whole_tiles(tiles, tile):
    """`tiles` rounded up to whole register tiles."""
    return (tiles + tile[0].ndim - 1) // tile[0].ndim * tile[0].ndim


@serial
def transform_output(form, tile_size, sums, step, panels, first_output, bias, floor, y, grid, first, last, patch):
    """Output of the tiles first ... last, for `panels` = (number, columns) panels from channel first_output on.

    sums: (points, panels, tiles, columns), points `step` apart, the tiles rounded up to whole register tiles.
    """
    memory, strides, (_, height, length, o) = y
    down, across = grid
    width, tiles = tile_size[2], whole_tiles(last - first, tile_size)
    m, lanes, columns = form.ndim, width.ndim, panels[1]
    for tile in range(first, last):
        image, place = tile // (down * across), tile % (down * across)
        top, left = place // across * m, place % across * m
        inside = top + m <= height and left + m <= length
        for k in range(0, min(panels[0] * columns, o - first_output), lanes):
            start = (k // columns * tiles + tile - first) * columns + k % columns
            channel = first_output + k
            to = image * strides[0] + top * strides[1] + left * strides[2] + channel
            if inside and channel + lanes <= o:
                output_tile(form, width, sums, start, step, bias, channel, floor, memory, to, strides[1], strides[2])
            else:
                output_tile(form, width, sums, start, step, bias, channel, floor, patch, 0, m * lanes, lanes)
                for i in range(min(m, height - top)):
                    for j in range(min(m, length - left)):
                        target, source = to + i * strides[1] + j * strides[2], (i * m + j) * lanes
                        for lane in range(min(lanes, o - channel)):
                            memory[target + lane] = patch[source + lane]


@serial
def transform_weights(form, width, w, start, strides, size, columns, first, last, u, step, buffer):
    """U of the panels first ... last: (points, panels, C, columns), points `step` apart; size = (O, C).

    Weight of output o, input c and tap (i, j) at w[start + o strides[0] + c strides[1] + i strides[2] + j strides[3]].
    """
    outputs, channels = size
    lanes = width.ndim
    for panel in range(first, last):
        for low in range(0, channels, CHANNELS):
            high = min(channels, low + CHANNELS)
            # Gathered by a plain loop into (c, taps, o), so that the transforms read whole vectors of outputs.
            for o in range(columns):
                output = panel * columns + o
                for c in range(low, high):
                    source = start + output * strides[0] + c * strides[1]
                    to = (c - low) * 9 * columns + o
                    if output < outputs:
                        for i in range(3):
                            for j in range(3):
                                at = np.uint64(source + i * strides[2] + j * strides[3])
                                buffer[np.uint64(to + (3 * i + j) * columns)] = w[at]
                    else:
                        for tap in range(9):
                            buffer[np.uint64(to + tap * columns)] = 0
            for c in range(low, high):
                for k in range(0, columns, lanes):
                    to = ((panel - first) * channels + c) * columns + k
                    weight_values(form, width, buffer, (c - low) * 9 * columns + k, 3 * columns, columns, u, to, step)


@serial
def untransform_weights(form, width, du, step, shares, share, output, c0, channels, size, columns, add, dw, buffer):
    """dw = G^T dU G (added to, if `add`) of the outputs from `output` on, one panel, and `channels` inputs from c0 on.

    du: (shares, points, ..., channels, columns), `share` and `step` numbers from one share and point to the next;
    shares are summed in their order.
    """
    outputs, all_channels = size
    lanes, points = width.ndim, (form.ndim + 2) ** 2
    for k in range(0, min(columns, outputs - output), lanes):
        for low in range(0, channels, CHANNELS):
            high = min(channels, low + CHANNELS)
            for c in range(low, high):
                start = c * columns + k
                for s in range(1, shares):
                    for point in range(points):
                        first, other = np.uint64(start + point * step), np.uint64(start + point * step + s * share)
                        for lane in range(np.uint64(lanes)):
                            du[first + lane] += du[other + lane]
                weight_gradient_tile(form, width, du, start, step, buffer, (c - low) * 9 * lanes)
            for lane in range(min(lanes, outputs - output - k)):
                for c in range(low, high):
                    to = ((output + k + lane) * all_channels + c0 + c) * 9
                    for tap in range(9):
                        value = buffer[((c - low) * 9 + tap) * lanes + lane]
                        dw[to + tap] = dw[to + tap] + value if add else value
