"""The loops around the register tile, shared by conv2d and conv_transpose2d.

Both operations and their derivatives are two sums over a picture x (N, H, W, C), with stride s:

    correlate:          y[n, h, w, o]    = sum over i, j, c of  x[n, s h + i - p, s w + j - q, c] * weight[o, c, i, j]
    correlate_weight:   dw[o, c, i, j]   = sum over n, h, w of  x[n, s h + i - p, s w + j - q, c] * g[n, h, w, o]

The output is cut into blocks of rows and columns.  A block's patch of x is copied, with its zero border, into a
buffer that stays in the L2 cache ("packing"), and every register tile then works on that buffer.  Blocks depend
on shapes alone, and each output belongs to one block (or is summed over blocks in a fixed order), so the
result has the same bits with any number of threads.
"""

import numpy as np

from . import workers
from .arrays import POOL
from .counters import next_task
from .jit import serial
from .simd import forward_tile, outer_product_tile, weight_tile

CACHE_VALUES = 1 << 16  # numbers that a packed patch may have: 256 kB of float32, a quarter of an L2 cache
L1_VALUES = 1 << 13  # 32 kB of float32
CHUNK = 256  # input channels that are worked on at a time


def block_rows_columns(height: int, width: int, row_multiple: int, channels: int, values: int) -> tuple[int, int]:
    """Size of a block of about `values` numbers at `channels` a pixel; columns a multiple of `row_multiple`."""
    pixels = max(row_multiple, values // max(1, min(channels, CHUNK)))
    parts = -(-width // max(row_multiple, min(width, 96)))
    columns = -(-width // (parts * row_multiple)) * row_multiple
    rows = max(1, min(height, pixels // columns))
    return -(-height // -(-height // rows)), columns


def tile_columns(tile) -> int:
    """Output channels of a register tile."""
    return tile[1].ndim * tile[2].ndim


def correlate(x, weight, bias, pads, stride, relu, y):
    """The first sum: weight (O, C, kh, kw), bias (O,) or None; relu: of this.

    x = (memory, strides, (N, H, W, C)), as `arrays.picture` gives it, and y likewise with (N, H', W', O).
    pads: zeros above and to the left.
    """
    o, c, kh, kw = weight.shape
    tile = forward_tile(o, weight.itemsize * 8)
    starts = np.arange(0, o, tile_columns(tile))  # of each tile, in outputs and in y
    packed = pack_weight(weight, starts, np.minimum(o - starts, tile_columns(tile)), (kh, kw, c), tile_columns(tile))
    memory, strides, (_, height, width, _) = y
    run_correlate(tile, x, packed, bias, o, starts, pads, stride, relu, memory, strides, height, width)


def scatter(x, weight, bias, y):
    """The adjoint of the first sum: x as above, weight (C, O, s, s), bias (O,) or None -> y (N, s H, s W, O).

    Each of the s x s taps is a 1 x 1 correlation whose results land on every s-th pixel, so a tile's results
    start `starts[tile]` numbers further on.
    """
    c, o, s, _ = weight.shape
    height, width = x[2][1:3]
    tile = forward_tile(o, weight.itemsize * 8)
    columns = tile_columns(tile)
    memory, strides, _ = y
    first = np.tile(np.arange(0, o, columns), s * s)
    i, j = (np.repeat(tap, len(first) // (s * s)) for tap in np.divmod(np.arange(s * s), s))
    packed = pack_weight(
        weight.transpose(1, 0, 2, 3), first, np.minimum(o - first, columns), (1, 1, c), columns, (i, j)
    )
    starts = i * strides[1] + j * strides[2] + first
    strides = (strides[0], s * strides[1], s * strides[2])
    run_correlate(tile, x, packed, bias, o, starts, (0, 0), 1, False, memory, strides, height, width)


def pack_weight(weight, first, used, size, columns, tap=(0, 0)):
    """weight (O, C, kh, kw), of any strides -> (tiles, *size, columns), size = (kh, kw, C): as register tiles read it.

    Tile t has the outputs first[t] ... first[t] + used[t] side by side, from row tap[0][t] and column tap[1][t] of the
    kernel on, and zeros up to `columns`.
    """
    base = weight if weight.base is None else weight.base  # the weight as it lies, if it was turned or transposed
    if not isinstance(base, np.ndarray) or base.dtype != weight.dtype or not base.flags.carray:
        base = weight = np.array(weight, order="C")
    begin = (weight.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // weight.itemsize
    strides = tuple(stride // weight.itemsize for stride in weight.strides)
    starts = begin + first * strides[0] + tap[0] * strides[2] + tap[1] * strides[3]
    packed = POOL.array((len(first), *size, columns), weight.dtype)
    workers.run(pack_tiles, workers.count(workers.MOVED * packed.size), base.reshape(-1), starts, used, strides, packed)
    return packed


@serial
def pack_tiles(worker, counter, weight, starts, used, strides, packed):
    """A task is a tile."""
    tiles, kh, kw, channels, columns = packed.shape
    target = packed.reshape(-1)
    while True:
        tile = next_task(counter)
        if tile >= tiles:
            break
        # A few channels at a time: what is read is then near each other, and so is what is written.
        for low in range(0, channels, 8):
            count = np.uint64(min(channels - low, 8))
            for i in range(kh):
                for j in range(kw):
                    source = starts[tile] + low * strides[1] + i * strides[2] + j * strides[3]
                    to = np.uint64((((tile * kh + i) * kw + j) * channels + low) * columns)
                    for o in range(used[tile]):
                        first = source + o * strides[0]
                        for c in range(count):
                            at = np.uint64(first + np.int64(c) * strides[1])
                            target[to + c * np.uint64(columns) + np.uint64(o)] = weight[at]
                    for o in range(used[tile], columns):
                        for c in range(count):
                            target[to + c * np.uint64(columns) + np.uint64(o)] = 0


def run_correlate(tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides, height, width):
    """Cut the work into blocks, independent of the number of threads, and run them."""
    n, c = x[2][0], x[2][3]
    tiles, kh, kw, _, lanes = packed.shape
    rows, columns = block_rows_columns(height, width, tile[0].ndim, max(c, min(outputs, 64)), CACHE_VALUES)
    down, across = -(-height // rows), -(-width // columns)
    # Too few blocks to share out: give each block's output channels to several workers.
    groups = min(tiles, max(1, -(-8 // (n * down * across))))
    group = -(-tiles // groups)
    # `columns` is a multiple of the tile's rows, so a tile that reaches past the block's edge stays in the buffer.
    patch = ((rows - 1) * stride + kh) * ((columns - 1) * stride + kw) * min(c, CHUNK)
    count = workers.count(n * height * width * kh * kw * c * outputs)
    patches = POOL.array((count, patch), packed.dtype)
    sums = POOL.array((count, group * rows * columns * lanes), packed.dtype)
    bias = np.zeros(outputs, packed.dtype) if bias is None else np.ascontiguousarray(bias)
    workers.run(
        correlate_blocks, count, tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides,
        (height, width), (rows, columns), (down, across), (groups, group), patches, sums,
    )  # fmt: skip


@serial
def correlate_blocks(worker, counter, tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides, size,
                     block, grid, grouping, patches, sums):  # fmt: skip
    """A task is a block of pixels for a group of output channels."""
    n, c = x[2][0], x[2][3]
    tiles, kh, kw, _, width = packed.shape
    rows, columns = block
    down, across = grid
    groups, group = grouping
    chunk = min(c, CHUNK)
    patch_columns = (columns - 1) * stride + kw
    patch, total, flat_weight = patches[worker], sums[worker], packed.reshape(-1)
    # All rows of the kernel in one go where their weights fit the L1 cache, else each row over the whole block.
    at_once = kh if chunk == c and kh * kw * c * width <= L1_VALUES else 1
    while True:
        task = next_task(counter)
        if task >= n * down * across * groups:
            break
        place, part = task // groups, task % groups
        image, place = place // (down * across), place % (down * across)
        h0, w0 = place // across * rows, place % across * columns
        bh, bw = min(rows, size[0] - h0), min(columns, size[1] - w0)
        first, last = part * group, min(tiles, part * group + group)
        for c0 in range(0, c, chunk):
            channels = min(chunk, c - c0)
            top, left = h0 * stride - pads[0], w0 * stride - pads[1]
            pack_patch(x, image, top, left, c0, channels, (bh - 1) * stride + kh, patch_columns, patch)
            if channels == c:  # the taps of a row lie one behind the other: one long sum, of one or of all rows
                steps, outer, patch_outer, weight_outer = kw * c, at_once, patch_columns * c, kw * c * width
            else:
                steps, outer, patch_outer, weight_outer = channels, kw, channels, c * width
            for t in range(first, last):
                for i in range(0, kh, at_once):
                    weight0 = (((t * kh + i) * kw) * c + c0) * width
                    for h in range(bh):
                        for w in range(0, bw, tile[0].ndim):
                            at = ((h * stride + i) * patch_columns + w * stride) * channels
                            to = (((t - first) * rows + h) * columns + w) * width
                            outer_product_tile(
                                tile, c0 + i > 0, total, to, patch, at, stride * channels, 1, patch_outer,
                                flat_weight, weight0, width, weight_outer, steps, outer,
                            )  # fmt: skip
        for t in range(first, last):
            start = image * strides[0] + h0 * strides[1] + w0 * strides[2] + starts[t]
            first_output = t % (-(-outputs // width)) * width
            write_back(total, (t - first) * rows * columns * width, bias, first_output, outputs, width, columns, bh, bw,
                       relu, y, start, strides)  # fmt: skip


@serial
def pack_patch(x, image, top, left, c0, channels, rows, columns, patch):
    """Copy `channels` channels from c0 on of rows x columns pixels of a picture; zeros outside of it.

    (top, left) is the first pixel, and may be negative.
    """
    memory, strides, (_, height, width, _) = x
    low, high = min(max(0, -left), columns), max(0, min(columns, width - left))
    high = max(high, low)
    # Pixels without a gap between them are copied in one go.
    run = (high - low) * channels if channels == strides[2] else channels
    # Unsigned indices: a signed one could be negative, and the test for that would keep a loop from being vectorised.
    for h in range(rows):
        to, source = h * columns * channels, image * strides[0] + (top + h) * strides[1] + left * strides[2] + c0
        inside = 0 <= top + h < height
        for k in range(np.uint64(to), np.uint64(to + (low if inside else columns) * channels)):
            patch[k] = 0
        if inside:
            for start in range(low * channels, high * channels, max(1, run)):
                target, origin = np.uint64(to + start), np.uint64(source + start // channels * strides[2])
                for k in range(np.uint64(run)):
                    patch[target + k] = memory[origin + k]
            for k in range(np.uint64(to + high * channels), np.uint64(to + columns * channels)):
                patch[k] = 0


@serial
def write_back(total, begin, bias, first, outputs, width, columns, rows, used, relu, y, start, strides):
    """Add the bias, cut off what is negative (relu; NaN stays), and store a block of sums where they belong."""
    count, first = np.uint64(min(width, outputs - first)), np.uint64(first)
    zero = y.dtype.type(0)
    for h in range(rows):
        for w in range(used):
            source = np.uint64(begin + (h * columns + w) * width)
            target = np.uint64(start + h * strides[1] + w * strides[2])
            for o in range(count):
                value = total[source + o] + bias[first + o]
                y[target + o] = zero if relu and value <= zero else value


def correlate_weight(x, g, pads, stride, dw):
    """x as above, g likewise with (N, H', W', O) -> dw (O, C, kh, kw)."""
    o, c, kh, kw = dw.shape
    tile = weight_tile(o, dw.itemsize * 8)
    n, height, width, _ = g[2]
    rows, columns = block_rows_columns(height, width, 8, max(min(c, 64) * stride * stride, min(o, 64)), CACHE_VALUES)
    down, across = -(-height // rows), -(-width // columns)
    blocks = n * down * across
    lanes = tile_columns(tile)
    tiles = -(-o // lanes)
    # Every task sums its own share of the blocks for its own output channels.  Partial sums of large
    # weights would not fit the memory, so those are shared out by output channels instead.
    shares = max(1, min(blocks, 8, (1 << 22) // max(1, dw.size)))
    groups = min(tiles, max(1, 8 // shares))
    group = -(-tiles // groups)
    # The last tile of a row of channels reads past it; what it sums there is not used.
    patch = ((rows - 1) * stride + kh) * ((columns - 1) * stride + kw) * min(c, 64) + tile[0].ndim
    count = workers.count(n * height * width * kh * kw * c * o)
    patches = POOL.array((count, patch), dw.dtype)
    panels = POOL.array((count, group * rows * columns * lanes), dw.dtype)
    sums = POOL.array((count, tile[0].ndim * lanes), dw.dtype)
    partial = POOL.array((shares, tiles, kh, kw, c, lanes), dw.dtype)
    workers.run(
        weight_blocks, count, tile, x, g, pads, stride, (rows, columns), (down, across), (groups, group),
        patches, panels, sums, partial,
    )  # fmt: skip
    # (shares, tiles, chunks of C as rows (i, j, c), lanes) -> (O, C, kh, kw), shares summed in their order
    total = partial[0]
    for share in partial[1:]:
        total += share
    dw[...] = total.transpose(0, 4, 3, 1, 2).reshape(-1, c, kh, kw)[:o]


@serial
def weight_blocks(worker, counter, tile, x, g, pads, stride, block, grid, grouping, patches, panels, sums, partial):
    """A task sums a share of the blocks for a group of output channels."""
    n, height, columns_total, _ = g[2]
    shares, tiles, kh, kw, c, width = partial.shape
    rows, columns = block
    down, across = grid
    groups, group = grouping
    tile_rows = tile[0].ndim
    blocks = n * down * across
    chunk = min(c, 64)
    patch_columns = (columns - 1) * stride + kw
    patch, panel, total = patches[worker], panels[worker], sums[worker]
    while True:
        task = next_task(counter)
        if task >= shares * groups:
            break
        share, part = task // groups, task % groups
        first, last = part * group, min(tiles, part * group + group)
        partial[share, first:last] = 0
        for block_index in range(share * blocks // shares, (share + 1) * blocks // shares):
            image, place = block_index // (down * across), block_index % (down * across)
            h0, w0 = place // across * rows, place % across * columns
            bh, bw = min(rows, height - h0), min(columns, columns_total - w0)
            for t in range(first, last):
                pack_panel(g, image, h0, w0, bh, bw, t * width, width, panel, (t - first) * rows * columns * width)
            for c0 in range(0, c, chunk):
                channels = min(chunk, c - c0)
                top, left = h0 * stride - pads[0], w0 * stride - pads[1]
                pack_patch(x, image, top, left, c0, channels, (bh - 1) * stride + kh, patch_columns, patch)
                for t in range(first, last):
                    for i in range(kh):
                        for r in range(0, kw * channels, tile_rows):
                            outer_product_tile(
                                tile, False, total, 0, patch, i * patch_columns * channels + r,
                                1, stride * channels, stride * patch_columns * channels,
                                panel, (t - first) * rows * columns * width, width, bw * width, bw, bh,
                            )  # fmt: skip
                            for k in range(min(tile_rows, kw * channels - r)):
                                j, at = (r + k) // channels, c0 + (r + k) % channels
                                target, source = partial[share, t, i, j, at], np.uint64(k * width)
                                for v in range(np.uint64(width)):
                                    target[v] += total[source + v]


@serial
def pack_panel(g, image, h0, w0, rows, columns, first, width, panel, start):
    """Copy channels first ... first + width of a block of a picture, zero-filled, pixel after pixel."""
    memory, strides, (_, _, _, channels) = g
    count, rest = np.uint64(min(width, channels - first)), np.uint64(max(0, width - channels + first))
    for h in range(rows):
        for w in range(columns):
            to = np.uint64(start + (h * columns + w) * width)
            source = np.uint64(image * strides[0] + (h0 + h) * strides[1] + (w0 + w) * strides[2] + first)
            for v in range(count):
                panel[to + v] = memory[source + v]
            for v in range(rest):
                panel[to + count + v] = 0
