"""conv2d as an implicit GEMM on a GPU's tensor cores, in TF32; its kernels are in cuda_tensor.cu.

Fast and less accurate, so no rule picks it: kernels.use(conv2d="cuda_tensor") does.  It needs a GPU of compute
capability 8.0 or newer.  float64 is computed by cuda_implicit.py, for tensor cores that take it are few.

How large the error is.  Tensor cores read 10 bits of a number's mantissa, so every input is first rounded to the
nearest such number, by at most 2^-11 of its size (below 2^-126, where mantissas are shorter, by more).  A product of
two is then off by at most 2^-10 + 2^-22 of its size; the product itself is not rounded, for 2 x 11 bits fit into the 24
of a float32.  Sums are accumulated in float32.  An addition that rounds loses at most 2^-24 of its result.  How tensor
cores add is not documented; by published measurements they truncate, and a loss of 2^-22 of the largest number for
every term leaves room for that.  So with n terms and S the sum of their magnitudes |x w| (and of the bias),

    |error| <= (2^-10 + 2^-22 + (n + 2) 2^-22 (1 + 2^-9)) S,

which `error_bound(n)` gives for S = 1: 0.1% of S, mostly.  Integers up to 2^11 are not rounded at all: while sums stay
below 2^24 they are exact to the last bit.
"""

from ..cuda import Source, channels_last, cupy, picture, writable_picture
from ..cuda.arrays import empty
from . import cuda_implicit

SOURCE = Source(__file__)
OLDEST = 80  # compute capability of the first devices with TF32
THREADS, MOVERS = 128, 256  # threads of a block that multiplies, and of one that moves or adds numbers
TALL, WIDE, STEP, STAGES = 128, 64, 16, 3  # as in the kernels
BUFFER = STAGES * STEP * (TALL + WIDE) * 4  # bytes of shared memory of correlate
ROW_BUFFER = STAGES * STEP * (TALL + WIDE + 16) * 4  # and for the gradient of the weights, where rows are longer by 8
BLOCKS = 512  # that the gradient of the weights is shared out to, if there are pixels enough
SHARE = 1024  # pixels that are the least for a share


def error_bound(terms):
    """Error of a sum of so many products, at most, divided by the sum of their magnitudes."""
    return 2**-10 + 2**-22 + (terms + 2) * 2**-22 * (1 + 2**-9)


def blocks(count, each):
    """How many blocks of `each` it takes."""
    return -(-count // each)


def require_tensor_cores():
    """RuntimeError on a device whose tensor cores do not know TF32."""
    found = int(cupy().cuda.Device().compute_capability)
    if found < OLDEST:
        needed, has = (f"{number // 10}.{number % 10}" for number in (OLDEST, found))
        raise RuntimeError(f"conv2d: cuda_tensor needs a GPU of compute capability {needed} or newer, this one has "
                           f"{has}: use cuda_implicit")  # fmt: skip


def by_packs(x, channels, *strides):
    """Whether pixels of so many channels can be copied 16 bytes at a time: all of them begin at a multiple of that."""
    return x.data.ptr % 16 == 0 and all(number % 4 == 0 for number in (channels, *strides))


def kernel(name, packs):
    """The one of the two kernels, for packs of 16 bytes or for single numbers."""
    return f"{name}_{'packs' if packs else 'numbers'}"


def packed_weight(weight, size, strides, start=0):
    """The weights as blocks copy them, step by step; size = (outputs, channels, kh, kw), strides for each of these."""
    o, c, kh, kw = size
    rows = blocks(o, WIDE) * WIDE
    packed = empty((blocks(kh * kw * c, STEP), rows, STEP), weight.dtype)
    SOURCE.launch("pack_weight", weight.dtype, blocks(packed.size, MOVERS), MOVERS, cupy().ascontiguousarray(weight),
                  start, strides, size, rows, packed)  # fmt: skip
    return packed


def correlate(x, packed, bias, size, padding, relu, out):
    """x (N, C, H, W), packed weights of size = (O, C, kh, kw), bias (O,) or None -> out (N, O, H', W')."""
    o, c, kh, kw = size
    n, _, h, w = out.shape
    source = picture(x)
    bias = None if bias is None else cupy().ascontiguousarray(bias)
    with writable_picture(out) as y:
        SOURCE.launch(
            kernel("correlate", by_packs(source[0], c, *source[1:])), x.dtype,
            blocks(n * h * w, TALL) * blocks(o, WIDE), THREADS, source, *x.shape[2:], c, kh, kw, padding, packed, bias,
            relu, y, n * h * w, h, w, o, by_packs(y[0], o, *y[1:]), shared=BUFFER,
        )  # fmt: skip


def forward(x, weight, bias, padding, relu, out):
    """As reference.forward."""
    if x.dtype != "float32":
        cuda_implicit.forward(x, weight, bias, padding, relu, out)
        return
    require_tensor_cores()
    _, c, kh, kw = weight.shape
    packed = packed_weight(weight, weight.shape, (c * kh * kw, kh * kw, kw, 1))
    correlate(x, packed, bias, weight.shape, (padding, padding), relu, out)


def backward_input(grad, weight, padding, out):
    """As reference.backward_input: correlate with the weight turned by 180 degrees, inputs and outputs exchanged."""
    if grad.dtype != "float32":
        cuda_implicit.backward_input(grad, weight, padding, out)
        return
    require_tensor_cores()
    o, c, kh, kw = weight.shape
    turned = packed_weight(weight, (c, o, kh, kw), (kh * kw, c * kh * kw, -kw, -1), start=kh * kw - 1)
    correlate(grad, turned, None, (c, o, kh, kw), (kh - 1 - padding, kw - 1 - padding), False, out)


def backward_weight(grad, x, padding, out):
    """As reference.backward_weight: sums over shares of the pixels, which depend on shapes alone, added in order."""
    if grad.dtype != "float32":
        cuda_implicit.backward_weight(grad, x, padding, out)
        return
    require_tensor_cores()
    o, c, kh, kw = out.shape
    n, _, h, w = grad.shape
    size, pixels = kh * kw * c, n * h * w
    tiles = blocks(o, WIDE), blocks(size, TALL)
    each = blocks(max(SHARE, blocks(pixels, max(1, BLOCKS // (tiles[0] * tiles[1])))), STEP) * STEP
    g, source = channels_last(grad), picture(x)
    shares = empty((blocks(pixels, each), size, o), out.dtype)
    packs = by_packs(source[0], c, *source[1:]) and by_packs(g, o)
    SOURCE.launch(kernel("weight", packs), x.dtype, (*tiles, len(shares)), THREADS, source, *x.shape[2:], c, kh, kw,
                  padding, padding, g, pixels, h, w, o, each, shares, shared=ROW_BUFFER)  # fmt: skip
    total = empty((size, o), out.dtype)
    SOURCE.launch("add_shares", x.dtype, blocks(total.size, MOVERS), MOVERS, shares, len(shares), total.size,
                  total)  # fmt: skip
    out[...] = total.reshape(kh, kw, c, o).transpose(3, 2, 0, 1)
