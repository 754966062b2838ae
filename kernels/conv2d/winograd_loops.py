"""The schedules of Winograd's convolutions (Numba): which task transforms and multiplies which tiles, and when.

The transforms, from pixels to points and back, are in winograd_tiles.py.  For a block of tiles

    values V (points, tiles, C)           B^T x B of every tile
    sums   M (points, panels, tiles, O)   for each point one matrix product V[point] U[point] over the channels
    output                                A^T M A, plus bias, rectified if asked for

where U are the weights' values.  A block is just a few register tiles high, so that V and M stay in the L2 cache from
one step to the next: that is what makes the whole faster than its parts.

Two schedules, chosen by shape:
- many tiles, few weights: U once for all, then every block of tiles is a task.
- many weights (U of 1024 x 1024 channels takes 151 MB): V once for all tiles, then a group of output channels is a
  task, which makes its own part of U and uses it for all tiles, block by block.  Where the tiles are so few that all
  their sums stay in the cache, U is made for some input channels at a time, and never leaves the cache either.

The derivative with respect to the weights, dU[point] = V[point]^T D[point] with D = A g A^T, has the same two: a task
sums a fixed share of the tiles, or all tiles for one point.

`form` and `panel` are as in winograd_tiles.py; `task` numbers come from a counter that all threads share, and what a
task writes depends on its number alone.
"""

import numpy as np

from .. import workers
from ..arrays import POOL, picture, writable_picture
from ..counters import next_task
from ..jit import serial
from ..simd import lanes_for, outer_product_tile, register_tile, static, vector_bytes
from . import direct
from .winograd_tiles import (
    CHANNELS,
    transform_gradient,
    transform_output,
    transform_picture,
    transform_weights,
    untransform_weights,
    whole_tiles,
)

BLOCK = 24  # tiles that are worked on together, at least
GROUP = 64  # channels that are worked on together, at most
FEW_TILES = 64  # tiles up to which the second schedule keeps all sums of a group of outputs in the cache
FEW_WEIGHTS = 1 << 16  # pairs of channels up to which the weights' values (9.4 MB for m = 4) are kept for all tiles
FEW_PAIRS = 1 << 12  # the same for so few tiles that they are too few tasks
VALUES = 1 << 23  # numbers that the values of many tiles may take together: 32 MB of float32
FEW_SUMS = 1 << 13  # pairs of channels up to which a share of the tiles has sums of its own for the weights' gradient
WEIGHT_VALUES = 1 << 23  # as VALUES, for pictures and gradients together in the weights' gradient
TASKS = 8  # pieces that work is cut into, at least, where it can be


def sums_tile(columns, bits):
    """The register tile of the matrix products over channels."""
    return register_tile({1: 14, 2: 8, 4: 6} if vector_bytes() == 64 else {1: 8, 2: 6}, columns, bits)


def weight_sums_tile(columns, bits):
    """The register tile of the matrix products over tiles."""
    return register_tile({1: 8, 2: 8} if vector_bytes() == 64 else {1: 8, 2: 4}, columns, bits)


# ------------------------------------------------------------------------------------- forward (and backward_input)


def correlate(m, x, weight, strides, bias, pads, floor, y):
    """The 3 x 3 correlation of a picture with weights that are given by their memory.

    x = (memory, strides, (N, H, W, C)), y likewise with (N, H', W', O); weight: contiguous memory, `strides` = (start,
    of O, of C, of rows, of columns), which may be negative; bias (O,) or None; pads: zeros above and to the left;
    floor: 0 to rectify, -inf else.
    """
    dtype, (n, height, length, o), c = x[0].dtype, y[2], x[2][3]
    tile, width = sums_tile(o, dtype.itemsize * 8), static(lanes_for(c, dtype.itemsize * 8))
    rows, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    panels = -(-o // columns)
    group = min(panels, max(1, GROUP // columns))
    down, across = -(-height // m), -(-length // m)
    block, row, points = -(-BLOCK // rows) * rows, row_length(c, width.ndim), (m + 2) ** 2
    shift = np.zeros(panels * columns, dtype)
    if bias is not None:
        shift[:o] = bias
    tiles, chunk = n * down * across, c
    count = workers.count(tiles * points * c * o)
    few = o * c <= (FEW_WEIGHTS if tiles > FEW_TILES else FEW_PAIRS)
    if not few and tiles <= FEW_TILES:
        block, chunk = -(-tiles // rows) * rows, GROUP
    together = block if few else max(block, min(tiles, VALUES // (points * row)) // rows * rows)
    held = count if few else 1
    v = points_of(held, points, (together + rows) * row, dtype)
    u_owners, weights = (1, panels * c * columns) if few else (count, group * chunk * columns)
    u = points_of(u_owners, points, weights, dtype)
    sums = points_of(count, points, block * group * columns, dtype)
    patches = POOL.array((count, points * row + 9 * CHANNELS * columns), dtype)
    arguments = (static(m), width, tile, x, pads, (down, across), weight, strides, (panels, group, columns, chunk),
                 shift, dtype.type(floor), y, tiles, together, block, row, v, u, sums, patches)  # fmt: skip
    if few:
        workers.run(all_weights, workers.count(workers.MOVED * u.size), *arguments)
        workers.run(blocks_of_tiles, count, *arguments)
        return
    for start in range(0, tiles, together):
        workers.run(all_values, count, start, *arguments)
        workers.run(groups_of_outputs, count, start, *arguments)


def row_length(channels, lanes):
    """Numbers from one tile to the next in V: an odd number of cache lines, so that rows fall into different sets."""
    padded = -(-channels // lanes) * lanes
    return padded if padded < 32 or padded // 16 % 2 else padded + 16


def points_of(number, points, size, dtype):
    """(number, points, step): room for `size` numbers a point, a step being an odd number of cache lines.

    Steps of a power of two would put all points of a tile into the same few sets of the caches.
    """
    line = 64 // dtype.itemsize
    return POOL.array((number, points, (-(-size // line) | 1) * line), dtype)


@serial
def all_weights(worker, counter, form, width, tile, x, pads, grid, w, strides, panels, bias, floor, y, tiles, together,
                block, row, v, u, sums, patches):  # fmt: skip
    """A task is a panel of outputs."""
    number, _, columns, _ = panels
    c, o = x[2][3], y[2][3]
    while True:
        task = next_task(counter)
        if task >= number:
            break
        transform_weights(form, tile[2], w, strides[0], strides[1:], (o, c), columns, task, task + 1,
                          u.reshape(-1)[task * c * columns :], u.shape[2], patches[worker])  # fmt: skip


@serial
def blocks_of_tiles(worker, counter, form, width, tile, x, pads, grid, w, strides, panels, bias, floor, y, tiles,
                    together, block, row, v, u, sums, patches):  # fmt: skip
    """A task is a block of tiles."""
    number, group, columns, _ = panels
    points, v_step, u_step, step = u.shape[1], v.shape[2], u.shape[2], sums.shape[2]
    weights, values, total, patch = u.reshape(-1), v[worker].reshape(-1), sums[worker].reshape(-1), patches[worker]
    while True:
        first = next_task(counter) * block
        if first >= tiles:
            break
        last = min(tiles, first + block)
        transform_picture(form, width, x, pads, grid, first, last, values, v_step, row, patch)
        for panel in range(0, number, group):
            count = min(group, number - panel)
            multiply(tile, points, last - first, values, 0, v_step, row, x[2][3], weights, u_step, panel, count, False,
                     total, step)  # fmt: skip
            transform_output(form, tile, total, step, (count, columns), panel * columns, bias, floor, y, grid,
                             first, last, patch)  # fmt: skip


@serial
def all_values(worker, counter, start, form, width, tile, x, pads, grid, w, strides, panels, bias, floor, y, tiles,
               together, block, row, v, u, sums, patches):  # fmt: skip
    """A task is a block of tiles."""
    values, end = v.reshape(-1), min(tiles, start + together)
    while True:
        first = start + next_task(counter) * block
        if first >= end:
            break
        transform_picture(form, width, x, pads, grid, first, min(end, first + block),
                          values[(first - start) * row :], v.shape[2], row, patches[worker])  # fmt: skip


@serial
def groups_of_outputs(worker, counter, start, form, width, tile, x, pads, grid, w, strides, panels, bias, floor, y,
                      tiles, together, block, row, v, u, sums, patches):  # fmt: skip
    """A task is a group of output channels, or of some of the tiles where the groups are few."""
    number, group, columns, chunk = panels
    c, o, end = x[2][3], y[2][3], min(tiles, start + together)
    groups = (number + group - 1) // group
    parts = min((TASKS + groups - 1) // groups, (end - start + 2 * block - 1) // (2 * block))
    points, v_step, u_step, step = u.shape[1], v.shape[2], u.shape[2], sums.shape[2]
    values, weights, total, patch = v.reshape(-1), u[worker].reshape(-1), sums[worker].reshape(-1), patches[worker]
    while True:
        task = next_task(counter)
        if task >= groups * parts:
            break
        panel, part = task // parts * group, task % parts
        count = min(group, number - panel)
        first, last = start + part * (end - start) // parts, start + (part + 1) * (end - start) // parts
        for c0 in range(0, c, chunk):
            c1 = min(c, c0 + chunk)
            transform_weights(form, tile[2], w, strides[0] + c0 * strides[2], strides[1:], (o, c1 - c0), columns, panel,
                              panel + count, weights, u_step, patch)  # fmt: skip
            for low in range(first, last, block):
                high = min(last, low + block)
                multiply(tile, points, high - low, values, (low - start) * row + c0, v_step, row, c1 - c0, weights,
                         u_step, 0, count, c0 > 0, total, step)  # fmt: skip
                if c1 == c:
                    transform_output(form, tile, total, step, (count, columns), panel * columns, bias, floor, y, grid,
                                     low, high, patch)  # fmt: skip


@serial
def multiply(tile, points, tiles, v, start, v_step, v_row, channels, u, u_step, first, panels, keep, sums,
             step):  # fmt: skip
    """M = V U (added to M, if `keep`): for each point and panel the sums over the channels; V begins at v[start]."""
    rows, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    room = whole_tiles(tiles, tile)
    for point in range(points):
        for panel in range(panels):
            weights = point * u_step + (first + panel) * channels * columns
            for t in range(0, tiles, rows):
                outer_product_tile(
                    tile, keep, sums, point * step + (panel * room + t) * columns,
                    v, start + point * v_step + t * v_row, v_row, 1, 0, u, weights, columns, 0, channels, 1,
                )  # fmt: skip


# ------------------------------------------------------------------------------------------------ backward_weight


def correlate_weight(m, x, g, pads, dw):
    """dw (O, C, 3, 3), contiguous, from x = (memory, strides, (N, H, W, C)) and g likewise with (N, H', W', O)."""
    dtype, (n, height, length, o), c = x[0].dtype, g[2], x[2][3]
    tile, width = weight_sums_tile(o, dtype.itemsize * 8), static(lanes_for(c, dtype.itemsize * 8))
    rows, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    panels, padded = -(-o // columns), -(-c // rows) * rows
    down, across = -(-height // m), -(-length // m)
    row, points, tiles = row_length(c, width.ndim), (m + 2) ** 2, n * down * across
    count = workers.count(tiles * points * c * o)
    few = o * c <= FEW_SUMS
    weights = panels * padded * columns
    block = BLOCK if o * c <= FEW_SUMS // 2 else 2 * BLOCK
    shares = max(1, min(TASKS, -(-tiles // block))) if few else 1
    together = block if few else max(block, min(tiles, WEIGHT_VALUES // (points * (row + panels * columns))))
    held = count if few else 1
    v = points_of(held, points, together * row + rows, dtype)
    d = points_of(held, points, together * panels * columns, dtype)
    chunk, group = -(-GROUP // rows) * rows, max(1, GROUP // columns)
    owners, weights = (shares, weights) if few else (count, group * chunk * columns)
    du = points_of(owners, points, weights, dtype)
    patches = POOL.array((count, points * row + 9 * CHANNELS * columns + points * columns), dtype)
    arguments = (static(m), width, tile, x, g, pads, (down, across), (panels, group, columns), (padded, chunk), tiles,
                 together, block, row, v, d, du, dw.reshape(-1), patches)  # fmt: skip
    if few:
        workers.run(shares_of_tiles, count, *arguments)
        workers.run(sums_of_shares, count, *arguments)
        return
    for start in range(0, tiles, together):
        workers.run(all_values_and_gradients, count, start, *arguments)
        workers.run(pairs_of_channels, count, start, *arguments)


@serial
def shares_of_tiles(worker, counter, form, width, tile, x, g, pads, grid, panels, channels, tiles, together, block, row,
                    v, d, du, dw, patches):  # fmt: skip
    """A task is a share of the tiles."""
    number, columns = panels[0], panels[2]
    shares, points, step = du.shape
    blocks = (tiles + block - 1) // block
    values, gradients, patch = v[worker].reshape(-1), d[worker].reshape(-1), patches[worker]
    while True:
        share = next_task(counter)
        if share >= shares:
            break
        begin = share * blocks // shares
        for k in range(begin, (share + 1) * blocks // shares):
            first, last = k * block, min(tiles, k * block + block)
            transform_picture(form, width, x, pads, grid, first, last, values, v.shape[2], row, patch)
            transform_gradient(form, tile[2], g, grid, (number, columns), first, last, gradients, d.shape[2], patch,
                               first, last)  # fmt: skip
            multiply_weights(tile, points, last - first, values, v.shape[2], row, 0, x[2][3], gradients, d.shape[2], 0,
                             number, k > begin, du[share].reshape(-1), step, channels[0])  # fmt: skip


@serial
def sums_of_shares(worker, counter, form, width, tile, x, g, pads, grid, panels, channels, tiles, together, block, row,
                   v, d, du, dw, patches):  # fmt: skip
    """A task is a panel of outputs by GROUP inputs."""
    number, _, columns = panels
    c, o = x[2][3], g[2][3]
    shares, points, step = du.shape
    parts = (c + GROUP - 1) // GROUP
    while True:
        task = next_task(counter)
        if task >= number * parts:
            break
        panel, c0 = task // parts, task % parts * GROUP
        untransform_weights(form, tile[2], du.reshape(-1)[(panel * channels[0] + c0) * columns :], step, shares,
                            points * step, panel * columns, c0, min(GROUP, c - c0), (o, c), columns, False, dw,
                            patches[worker])  # fmt: skip


@serial
def all_values_and_gradients(worker, counter, start, form, width, tile, x, g, pads, grid, panels, channels, tiles,
                             together, block, row, v, d, du, dw, patches):  # fmt: skip
    """A task is a block of tiles."""
    end, values = min(tiles, start + together), v.reshape(-1)
    while True:
        first = start + next_task(counter) * block
        if first >= end:
            break
        last = min(end, first + block)
        transform_picture(form, width, x, pads, grid, first, last, values[(first - start) * row :], v.shape[2], row,
                          patches[worker])  # fmt: skip
        transform_gradient(form, tile[2], g, grid, (panels[0], panels[2]), first, last, d.reshape(-1), d.shape[2],
                           patches[worker], start, end)  # fmt: skip


@serial
def pairs_of_channels(worker, counter, start, form, width, tile, x, g, pads, grid, panels, channels, tiles, together,
                      block, row, v, d, du, dw, patches):  # fmt: skip
    """A task is a group of outputs by a chunk of inputs, for all tiles that there are values of."""
    number, group, columns = panels
    chunk = channels[1]
    c, o, end = x[2][3], g[2][3], min(tiles, start + together)
    groups, parts = (number + group - 1) // group, (c + chunk - 1) // chunk
    points, step = du.shape[1:]
    values, gradients, sums = v.reshape(-1), d.reshape(-1), du[worker].reshape(-1)
    while True:
        task = next_task(counter)
        if task >= groups * parts:
            break
        panel, c0 = task // parts * group, task % parts * chunk
        count, inputs = min(group, number - panel), min(chunk, c - c0)
        multiply_weights(tile, points, end - start, values, v.shape[2], row, c0, inputs, gradients, d.shape[2], panel,
                         count, False, sums, step, chunk)  # fmt: skip
        for k in range(count):
            untransform_weights(form, tile[2], sums[k * chunk * columns :], step, 1, 0, (panel + k) * columns, c0,
                                inputs, (o, c), columns, start > 0, dw, patches[worker])  # fmt: skip


@serial
def multiply_weights(tile, points, tiles, v, v_step, v_row, c0, channels, d, d_step, first, count, keep, du, step,
                     padded):  # fmt: skip
    """dU = V^T D over `tiles` tiles, for `count` of the panels from `first` on and `channels` inputs from c0 on."""
    rows, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    for point in range(points):
        for panel in range(count):
            gradients = point * d_step + (first + panel) * tiles * columns
            for c in range(0, channels, rows):
                outer_product_tile(
                    tile, keep, du, point * step + (panel * padded + c) * columns,
                    v, point * v_step + c0 + c, 1, v_row, 0, d, gradients, columns, 0, tiles, 1,
                )  # fmt: skip


# --------------------------------------------------------------------------------------------- the room's functions


def functions(m):
    """(forward, backward_input, backward_weight) of F(m x m, 3 x 3), as in reference.py."""

    def forward(x, weight, bias, padding, relu, out):
        if weight.shape[2:] != (3, 3):
            direct.forward(x, weight, bias, padding, relu, out)
            return
        c = weight.shape[1]
        strides = (0, 9 * c, 9, 3, 1)
        with writable_picture(out) as y:
            correlate(m, picture(x), np.ascontiguousarray(weight).reshape(-1), strides, bias, (padding, padding),
                      0 if relu else -np.inf, y)  # fmt: skip

    def backward_input(grad, weight, padding, out):
        if weight.shape[2:] != (3, 3):
            direct.backward_input(grad, weight, padding, out)
            return
        c = weight.shape[1]
        strides = (8, 9, 9 * c, -3, -1)  # turned by 180 degrees, inputs and outputs exchanged
        with writable_picture(out) as gx:
            correlate(m, picture(grad), np.ascontiguousarray(weight).reshape(-1), strides, None,
                      (2 - padding, 2 - padding), -np.inf, gx)  # fmt: skip

    def backward_weight(grad, x, padding, out):
        if out.shape[2:] != (3, 3):
            direct.backward_weight(grad, x, padding, out)
            return
        dw = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        correlate_weight(m, picture(x), picture(grad), (padding, padding), dw)
        if dw is not out:
            out[...] = dw

    return forward, backward_input, backward_weight
