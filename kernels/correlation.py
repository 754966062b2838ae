"""The loops around the register tile, shared by conv2d and conv_transpose2d.

Both operations and their derivatives are two sums over a picture x (N, H, W, C), with stride s:

    correlate:          y[n, h, w, o]    = sum over i, j, c of  x[n, s h + i - p, s w + j - q, c] * weight[o, c, i, j]
    correlate_weight:   dw[o, c, i, j]   = sum over n, h, w of  x[n, s h + i - p, s w + j - q, c] * g[n, h, w, o]

The output is cut into blocks of rows and columns.  A block's patch of x is copied, with its zero border, into a
buffer that stays in the L2 cache ("packing"), and every register tile then works on that buffer.  Blocks depend
on shapes alone, and each output belongs to one block (or is summed over blocks in a fixed order), so the
result has the same bits with any number of threads.
"""

import numba
import numpy as np

from .jit import max_threads, parallel, serial
from .simd import forward_tile, lanes, outer_product_tile, weight_tile

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


def tile_columns(tile, x) -> int:
    """Output channels of a register tile."""
    return tile[1].ndim * lanes(x.itemsize * 8)


def pack_weight(weight: np.ndarray, columns: int) -> np.ndarray:
    """weight (O, C, kh, kw) -> (tiles, kh, kw, C, columns): `columns` output channels side by side, zero-filled."""
    o, c, kh, kw = weight.shape
    tiles = -(-o // columns)
    packed = np.zeros((tiles * columns, kh, kw, c), weight.dtype)
    packed[:o] = weight.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(packed.reshape(tiles, columns, kh, kw, c).transpose(0, 2, 3, 4, 1))


def correlate(x, weight, bias, pads, stride, relu, y):
    """The first sum: x (N, H, W, C), weight (O, C, kh, kw), bias (O,) or None -> y (N, H', W', O); relu: of this.

    pads: zeros above and to the left.  x and y are C-contiguous.
    """
    o = weight.shape[0]
    tile = forward_tile(o, x.itemsize * 8)
    packed = pack_weight(weight, tile_columns(tile, x))
    starts = np.arange(len(packed), dtype=np.int64) * tile_columns(tile, x)
    bias = np.zeros(o, x.dtype) if bias is None else np.ascontiguousarray(bias)
    height, width = y.shape[1:3]
    strides = (height * width * o, width * o, o)
    run_correlate(tile, x, packed, bias, o, starts, pads, stride, relu, y.reshape(-1), strides, height, width)


def scatter(x, weight, bias, y):
    """The adjoint of the first sum: x (N, H, W, C), weight (C, O, s, s), bias (O,) or None -> y (N, s H, s W, O).

    Each of the s x s taps is a 1 x 1 correlation whose results land on every s-th pixel, so a tile's results
    start `starts[tile]` numbers further on.
    """
    o, s = weight.shape[1:3]
    height, width = x.shape[1:3]
    tile = forward_tile(o, x.itemsize * 8)
    columns = tile_columns(tile, x)
    taps = [(i, j) for i in range(s) for j in range(s)]
    packed = np.concatenate([pack_weight(weight[:, :, i, j].T[:, :, None, None], columns) for i, j in taps])
    per_tap = -(-o // columns)
    starts = np.array([(i * width * s + j) * o + t * columns for i, j in taps for t in range(per_tap)], np.int64)
    bias = np.zeros(o, x.dtype) if bias is None else np.ascontiguousarray(bias)
    strides = (height * s * width * s * o, s * width * s * o, s * o)
    run_correlate(tile, x, packed, bias, o, starts, (0, 0), 1, False, y.reshape(-1), strides, height, width)


def run_correlate(tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides, height, width):
    """Cut the work into blocks, independent of the number of threads, and run them."""
    n, c = x.shape[0], x.shape[3]
    rows, columns = block_rows_columns(height, width, tile[0].ndim, max(c, min(outputs, 64)), CACHE_VALUES)
    blocks = n * -(-height // rows) * -(-width // columns)
    # Too few blocks to share out: give each block's output channels to several workers.
    groups = min(len(packed), max(1, -(-8 // blocks)))
    correlate_blocks(
        tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides, (height, width), (rows, columns),
        groups, max_threads(),
    )  # fmt: skip


@parallel
def correlate_blocks(
    tile, x, packed, bias, outputs, starts, pads, stride, relu, y, strides, size, block, groups, workers
):
    n, c = x.shape[0], x.shape[3]
    tiles, kh, kw, _, width = packed.shape
    rows, columns = block
    down, across = -(-size[0] // rows), -(-size[1] // columns)
    chunk = min(c, CHUNK)
    group = -(-tiles // groups)
    # `columns` is a multiple of the tile's rows, so a tile that reaches past the block's edge stays in the buffer.
    patch_columns = (columns - 1) * stride + kw
    patch = ((rows - 1) * stride + kh) * patch_columns * chunk
    patches = np.zeros((workers, patch), x.dtype)
    sums = np.empty((workers, group * rows * columns * width), x.dtype)
    flat_weight = packed.reshape(-1)
    # All rows of the kernel in one go where their weights fit the L1 cache, else each row over the whole block.
    at_once = kh if chunk == c and kh * kw * c * width <= L1_VALUES else 1
    for task in numba.prange(n * down * across * groups):
        worker = numba.get_thread_id()
        place, part = task // groups, task % groups
        image, place = place // (down * across), place % (down * across)
        h0, w0 = place // across * rows, place % across * columns
        bh, bw = min(rows, size[0] - h0), min(columns, size[1] - w0)
        first, last = part * group, min(tiles, part * group + group)
        total = sums[worker]
        total[:] = 0
        for c0 in range(0, c, chunk):
            channels = min(chunk, c - c0)
            top, left = h0 * stride - pads[0], w0 * stride - pads[1]
            pack_patch(x[image], top, left, c0, channels, (bh - 1) * stride + kh, patch_columns, patches[worker])
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
                                tile, total, to, patches[worker], at, stride * channels, 1, patch_outer,
                                flat_weight, weight0, width, weight_outer, steps, outer,
                            )  # fmt: skip
        for t in range(first, last):
            start = image * strides[0] + h0 * strides[1] + w0 * strides[2] + starts[t]
            first_output = t % (-(-outputs // width)) * width
            write_back(total[(t - first) * rows * columns * width :], bias, first_output, outputs, width, columns,
                       bh, bw, relu, y, start, strides)  # fmt: skip


@serial
def pack_patch(image, top, left, c0, channels, rows, columns, patch):
    """Copy `channels` channels from c0 on of rows x columns pixels of `image` (H, W, C); zeros outside of it.

    (top, left) is the first pixel, and may be negative.
    """
    height, width, c = image.shape
    low, high = min(max(0, -left), columns), max(0, min(columns, width - left))
    high = max(high, low)
    for h in range(rows):
        row = patch[h * columns * channels : (h + 1) * columns * channels]
        source = top + h
        if source < 0 or source >= height:
            row[:] = 0
            continue
        row[: low * channels] = 0
        row[high * channels :] = 0
        if channels == c:
            row[low * channels : high * channels] = image[source, left + low : left + high].reshape(-1)
        else:
            for w in range(low, high):
                row[w * channels : (w + 1) * channels] = image[source, left + w, c0 : c0 + channels]


@serial
def write_back(total, bias, first, outputs, width, columns, rows, used, relu, y, start, strides):
    """Add the bias, cut off what is negative (relu; NaN stays), and store a block of sums where they belong."""
    # Unsigned indices: a signed one could be negative, and the test for that would keep the loop from being vectorised.
    count, first = np.uint64(min(width, outputs - first)), np.uint64(first)
    for h in range(rows):
        for w in range(used):
            source = np.uint64((h * columns + w) * width)
            target = np.uint64(start + h * strides[1] + w * strides[2])
            for o in range(count):
                value = total[source + o] + bias[first + o]
                y[target + o] = 0 if relu and value <= 0 else value


def correlate_weight(x, g, pads, stride, dw):
    """x (N, H, W, C), g (N, H', W', O) -> dw (O, C, kh, kw)."""
    o, c, kh, kw = dw.shape
    tile = weight_tile(o, x.itemsize * 8)
    n, height, width, _ = g.shape
    rows, columns = block_rows_columns(height, width, 8, max(min(c, 64) * stride * stride, min(o, 64)), CACHE_VALUES)
    blocks = n * -(-height // rows) * -(-width // columns)
    width = tile_columns(tile, x)
    tiles = -(-o // width)
    # Every task sums its own share of the blocks for its own output channels.  Partial sums of large
    # weights would not fit the memory, so those are shared out by output channels instead.
    shares = max(1, min(blocks, 8, (1 << 22) // max(1, dw.size)))
    groups = min(tiles, max(1, 8 // shares))
    partial = weight_blocks(tile, width, x, g, pads, stride, (kh, kw), (rows, columns), shares, groups, max_threads())
    # (shares, tiles, chunks of C as rows (i, j, c), width) -> (O, C, kh, kw), shares summed in their order
    total = partial[0]
    for share in partial[1:]:
        total += share
    dw[...] = total.transpose(0, 4, 3, 1, 2).reshape(-1, c, kh, kw)[:o]


@parallel
def weight_blocks(tile, width, x, g, pads, stride, kernel, block, shares, groups, workers):
    """Sums over each share's blocks: (shares, tiles, kh, kw, C, width)."""
    n, height, columns_total, o = g.shape
    c = x.shape[3]
    kh, kw = kernel
    rows, columns = block
    tile_rows = tile[0].ndim
    tiles = -(-o // width)
    group = -(-tiles // groups)
    down, across = -(-height // rows), -(-columns_total // columns)
    blocks = n * down * across
    chunk = min(c, 64)
    patch_columns = (columns - 1) * stride + kw
    # The last tile of a row of channels reads past it; what it sums there is not used.
    patch = ((rows - 1) * stride + kh) * patch_columns * chunk + tile_rows
    patches = np.zeros((workers, patch), x.dtype)
    panels = np.empty((workers, group * rows * columns * width), x.dtype)
    sums = np.empty((workers, tile_rows * width), x.dtype)
    partial = np.zeros((shares, tiles, kh, kw, c, width), x.dtype)
    for task in numba.prange(shares * groups):
        worker = numba.get_thread_id()
        share, part = task // groups, task % groups
        first, last = part * group, min(tiles, part * group + group)
        for block_index in range(share * blocks // shares, (share + 1) * blocks // shares):
            image, place = block_index // (down * across), block_index % (down * across)
            h0, w0 = place // across * rows, place % across * columns
            bh, bw = min(rows, height - h0), min(columns, columns_total - w0)
            for t in range(first, last):
                pack_panel(g[image], h0, w0, bh, bw, t * width, width, panels[worker],
                           (t - first) * rows * columns * width)  # fmt: skip
            for c0 in range(0, c, chunk):
                channels = min(chunk, c - c0)
                top, left = h0 * stride - pads[0], w0 * stride - pads[1]
                pack_patch(x[image], top, left, c0, channels, (bh - 1) * stride + kh, patch_columns, patches[worker])
                for t in range(first, last):
                    for i in range(kh):
                        for r in range(0, kw * channels, tile_rows):
                            sums[worker, :] = 0
                            outer_product_tile(
                                tile, sums[worker], 0, patches[worker], i * patch_columns * channels + r,
                                1, stride * channels, stride * patch_columns * channels,
                                panels[worker], (t - first) * rows * columns * width, width, bw * width, bw, bh,
                            )  # fmt: skip
                            for k in range(min(tile_rows, kw * channels - r)):
                                j, at = (r + k) // channels, c0 + (r + k) % channels
                                target, source = partial[share, t, i, j, at], sums[worker, k * width :]
                                for v in range(width):
                                    target[v] += source[v]
    return partial


@serial
def pack_panel(g, h0, w0, rows, columns, first, width, panel, start):
    """Copy channels first ... first + width of a block of g (H', W', O), zero-filled, pixel after pixel."""
    total_width, channels = g.shape[1:]
    count, rest = np.uint64(min(width, channels - first)), np.uint64(max(0, width - channels + first))
    flat = g.reshape(-1)
    for h in range(rows):
        for w in range(columns):
            to = np.uint64(start + (h * columns + w) * width)
            source = np.uint64(((h0 + h) * total_width + w0 + w) * channels + first)
            for v in range(count):
                panel[to + v] = flat[source + v]
            for v in range(rest):
                panel[to + count + v] = 0
