"""conv2d of pictures with few channels, such as a network's first layer (Numba): bound by memory, not by arithmetic.

With one input channel a 3 x 3 kernel has 9 products an output, and 64 outputs a pixel have to be written: all that
matters is to write them once.  So sums start from the bias, stay in registers over all taps (there are only kh kw C),
and are rectified and stored by the same few instructions.  A tap is an offset into the zero-padded picture, which is
small.  The derivative with respect to the weights reads the gradient once for every 9 taps.

Kernels of more taps and channels that do not fill vectors are left to direct.py, and so is the derivative with respect
to the picture, which a first layer has no use for.  direct.py adds the bias last, so its sums are rounded otherwise:
which of the two computes a layer must not depend on the picture's size, or a tile of a picture would differ from the
picture.  One that is narrower than a register tile is computed as the left part of a wider one.
"""

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from .. import workers
from ..arrays import POOL, empty, nhwc, pad, picture, writable_picture
from ..counters import next_task
from ..jit import serial
from ..simd import Vector, emitted, lanes_for, register_tile, static, vector_bytes
from . import direct

TAPS = 64  # products an output, at most
SHARES = 8  # partial sums of the weights' gradient
ROWS = 9  # taps that are summed up together in the weights' gradient


def fits(weight_shape, dtype):
    """Whether this variant computes such a convolution itself."""
    o, c, kh, kw = weight_shape
    tile = taps_tile_of(o, dtype.itemsize * 8)
    return c * kh * kw <= TAPS and o % (tile[1].ndim * tile[2].ndim) == 0


def missing(outputs, width, dtype):
    """Pixels that rows of `width` px are too short by for a register tile; 0 or less where they are not."""
    return taps_tile_of(outputs, dtype.itemsize * 8)[0].ndim - width


def taps_tile_of(outputs, bits):
    """Pixels, vectors of outputs and numbers of a vector in the registers."""
    return register_tile({1: 14, 2: 8, 4: 6} if vector_bytes() == 64 else {1: 8, 2: 6}, outputs, bits)


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    if not fits(weight.shape, x.dtype):
        direct.forward(x, weight, bias, padding, relu, out)
        return
    o, c, kh, kw = weight.shape
    more = missing(o, out.shape[3], x.dtype)
    if more > 0:
        wide = empty((*out.shape[:3], out.shape[3] + more), x.dtype)
        forward(np.pad(x, ((0, 0), (0, 0), (0, 0), (0, more))), weight, bias, padding, relu, wide)
        out[...] = wide[..., : out.shape[3]]
        return
    padded = nhwc(pad(x, (padding, padding)))
    by_tap = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1)
    bias = np.zeros(o, x.dtype) if bias is None else np.ascontiguousarray(bias)
    with writable_picture(out) as y:
        workers.run(
            forward_rows, workers.count(out.size * c * kh * kw), taps_tile_of(o, x.itemsize * 8), padded,
            offsets(padded, kh, kw), by_tap, bias, x.dtype.type(0 if relu else -np.inf), y,
        )  # fmt: skip


def backward_input(grad, weight, padding, out):
    """As reference.backward_input."""
    direct.backward_input(grad, weight, padding, out)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight."""
    if not fits(out.shape, x.dtype) or missing(len(out), grad.shape[3], x.dtype) > 0:
        direct.backward_weight(grad, x, padding, out)
        return
    o, c, kh, kw = out.shape
    padded = nhwc(pad(x, (padding, padding)))
    lanes = lanes_for(o, x.itemsize * 8)
    taps = offsets(padded, kh, kw)
    rows = min(ROWS, len(taps))
    taps = np.concatenate([taps, np.repeat(taps[-1:], -len(taps) % rows)])  # what is summed for these is not used
    tile = static(rows), static(2 if o % (2 * lanes) == 0 else 1), static(lanes)
    partial = POOL.array((SHARES, len(taps), o), x.dtype)
    count = workers.count(grad.size * c * kh * kw)
    workers.run(weight_shares, count, tile, padded, taps, picture(grad), partial)
    total = partial[0]
    for share in partial[1:]:
        total += share
    out[...] = total[: kh * kw * c].reshape(kh, kw, c, o).transpose(3, 2, 0, 1)


def offsets(padded, kh, kw):
    """How far from a pixel's first number those of its taps lie, in the order (row, column, channel)."""
    _, _, width, c = padded.shape
    return np.array([(i * width + j) * c + k for i in range(kh) for j in range(kw) for k in range(c)], np.int64)


@serial
def forward_rows(worker, counter, tile, padded, taps, weight, bias, floor, y):
    """A task is a row of the output."""
    memory, strides, (n, height, width, outputs) = y
    source, c = padded.reshape(-1), padded.shape[3]
    pixels, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    while True:
        row = next_task(counter)
        if row >= n * height:
            break
        image, h = row // height, row % height
        start = (image * padded.shape[1] + h) * padded.shape[2] * c
        to = image * strides[0] + h * strides[1]
        for w in range(0, width, pixels):
            w = min(w, width - pixels)  # the last tile overlaps the one before, and repeats what that computed
            for o in range(0, outputs, columns):
                taps_tile(tile, memory, to + w * strides[2] + o, strides[2], source, start + w * c, c, taps, len(taps),
                          weight, o, outputs, bias, floor)  # fmt: skip


@intrinsic
def taps_tile(typingctx, tile, y, to, y_pixel, x, start, x_pixel, taps, count, weight, o, outputs, bias, floor):
    """y[to + r y_pixel + v] = max(floor, bias[v] + sum over s of  x[start + r x_pixel + taps[s]] weight[s, v])."""
    pixels, vectors, lanes = (part.ndim for part in tile)
    places = [(r, v) for r in range(pixels) for v in range(vectors)]

    def body(e, y, to, y_pixel, x, start, x_pixel, taps, count, weight, o, outputs, bias, floor):
        builder = e.builder
        offset = [e.load(bias, e.index(o, (v, lanes))) for v in range(vectors)]
        sums = {(r, v): cgutils.alloca_once_value(builder, offset[v].value) for r, v in places}
        first = [e.index(start, (x_pixel, r)) for r in range(pixels)]
        with cgutils.for_range(builder, count) as s:
            tap = builder.load(builder.gep(taps, [s.index]))
            row = builder.add(builder.mul(s.index, outputs), o)
            weights = [e.load(weight, e.index(row, (v, lanes))) for v in range(vectors)]
            for r in range(pixels):
                number = e.splat(builder.load(builder.gep(x, [builder.add(first[r], tap)])))
                for v in range(vectors):
                    total = Vector(builder, builder.load(sums[r, v]))
                    builder.store(number.multiply_add(weights[v], total).value, sums[r, v])
        least = e.splat(floor)
        for r, v in places:
            value = Vector(builder, builder.load(sums[r, v])).at_least(least)
            e.store(value, y, e.index(to, (y_pixel, r), (v, lanes)))

    n = types.int64
    signature = types.void(tile, y, n, n, x, n, n, taps, n, weight, n, n, bias, floor)
    return signature, emitted(f"taps_{pixels}x{vectors}", y.dtype.bitwidth, lanes, body)


@serial
def weight_shares(worker, counter, tile, padded, taps, g, partial):
    """A task sums a share of the rows, for all taps and outputs."""
    memory, strides, (n, height, width, outputs) = g
    source, c = padded.reshape(-1), padded.shape[3]
    rows, columns = tile[0].ndim, tile[1].ndim * tile[2].ndim
    shares, target, size = len(partial), partial.reshape(-1), partial[0].size
    while True:
        share = next_task(counter)
        if share >= shares:
            break
        partial[share] = 0
        for row in range(share * n * height // shares, (share + 1) * n * height // shares):
            image, h = row // height, row % height
            start = (image * padded.shape[1] + h) * padded.shape[2] * c
            upstream = image * strides[0] + h * strides[1]
            for tap in range(0, len(taps), rows):
                for o in range(0, outputs, columns):
                    taps_gradient_tile(tile, target, share * size + tap * outputs + o, outputs, source, start, c, taps,
                                       tap, memory, upstream + o, strides[2], width)  # fmt: skip


@intrinsic
def taps_gradient_tile(typingctx, tile, dw, to, dw_row, x, start, x_pixel, taps, tap, g, upstream, g_pixel, width):
    """dw[to + r dw_row + v] += sum over w of  x[start + w x_pixel + taps[tap + r]] g[upstream + w g_pixel + v]."""
    rows, vectors, lanes = (part.ndim for part in tile)
    places = [(r, v) for r in range(rows) for v in range(vectors)]

    def body(e, dw, to, dw_row, x, start, x_pixel, taps, tap, g, upstream, g_pixel, width):
        builder = e.builder
        target = {(r, v): e.index(to, (dw_row, r), (v, lanes)) for r, v in places}
        sums = {place: cgutils.alloca_once_value(builder, e.load(dw, target[place]).value) for place in places}
        first = [builder.add(start, builder.load(builder.gep(taps, [e.index(tap, (1, r))]))) for r in range(rows)]
        with cgutils.for_range(builder, width) as w:
            at = builder.add(upstream, builder.mul(w.index, g_pixel))
            gradients = [e.load(g, e.index(at, (v, lanes))) for v in range(vectors)]
            pixel = builder.mul(w.index, x_pixel)
            for r in range(rows):
                number = e.splat(builder.load(builder.gep(x, [builder.add(first[r], pixel)])))
                for v in range(vectors):
                    total = Vector(builder, builder.load(sums[r, v]))
                    builder.store(number.multiply_add(gradients[v], total).value, sums[r, v])
        for place in places:
            e.store(Vector(builder, builder.load(sums[place])), dw, target[place])

    n = types.int64
    signature = types.void(tile, dw, n, n, x, n, n, taps, n, g, n, n, n)
    return signature, emitted(f"taps_gradient_{rows}x{vectors}", dw.dtype.bitwidth, lanes, body)
