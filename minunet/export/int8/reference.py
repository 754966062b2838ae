"""The network in integers, in NumPy: the definition.  Exported C gives the same bits, on every target.

Outputs are (N, channels, height, width) uint8, and of the last convolution int32.  Three roundings, each half up:

    input    byte = floor((t + (2 zero + 1) 2^15) / 2^16),  t = trunc(float32(x * fine)),  fine = float32(2^16 / scale)
    sums     byte = floor((sum * m + (2 zero + 1) 2^(31 + shift)) / 2^(32 + shift)), in 64 bits
    resize   byte = floor((sum of four bytes, weights that sum up to 2^16  +  2^15) / 2^16)

all then clamped to 0 ... 255.  The clamp at 0 is the rectifier, and comes before any shift: none is of a negative
number.  At the input there is one product in float32 and no sum, so that nothing can be fused into another rounding.

Convolutions are matrix products of whole numbers, by BLAS in floating point: exact in any order, since no partial sum
leaves the integers that it holds, 2^24 in float32 (looked at for each layer) and 2^53 in float64 (`quantize` proves
2^31).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minunet.export.c.network import CONV, DOUBLE, POOL, READ, RESIZING, UP, Layer, Network
from minunet.export.int8.quantization import Numbers

INPUT_BITS = 16  # of a fraction that is rounded
RESIZE_BITS = 8  # of the weights along one axis


def outputs(network: Network, integers: Sequence[Numbers], x: np.ndarray) -> Iterator[np.ndarray]:
    """Of each layer in turn, for prepared images x (N, C, H, W) float32; of the last one, WRITE, the float32 logits."""
    found: list[np.ndarray] = []
    for layer, numbers in zip(network, integers, strict=True):
        sources = [(found[i], integers[i].zero) for i in layer.sources]
        if layer.kind == READ:
            y = quantized(x, numbers)
        elif layer.kind == CONV:
            sums = convolved(layer, numbers, sources)
            y = sums if network[-1].sources == (len(found),) else narrowed(sums, numbers)
        elif layer.kind == UP:
            y = narrowed(up_convolved(numbers, sources[0][0]), numbers)
        elif layer.kind == POOL:
            y = pooled(layer, sources[0][0])
        elif layer.kind in RESIZING:
            y = resized(layer, sources[0][0])
        else:  # WRITE
            y = sources[0][0].astype(np.float32) * integers[layer.sources[0]].step[:, None, None]
        found.append(y)
        yield y


def logits(network: Network, integers: Sequence[Numbers], x: np.ndarray) -> np.ndarray:
    """x (N, C, H, W) float32, prepared -> (N, K, H', W') float32."""
    *_, last = outputs(network, integers, x)
    return last


def fine(numbers: Numbers) -> np.float32:
    """What an input is multiplied with, to become a number of 2^-16 steps."""
    return np.float32(2**INPUT_BITS / numbers.scale)


def quantized(x: np.ndarray, numbers: Numbers) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.asarray(x, np.float32) * fine(numbers)
    limit = np.float32(2 ** (INPUT_BITS + 8))
    t = np.where(product > -limit, np.minimum(product, limit), -limit).astype(np.int64)  # truncated; NaN is -limit
    return clamped((t + ((2 * numbers.zero + 1) << (INPUT_BITS - 1))) >> INPUT_BITS)


def convolved(layer: Layer, numbers: Numbers, sources: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """The sums of a convolution, int32."""
    kernel = numbers.weight.shape[-1]
    size = (layer.height + kernel - 1, layer.width + kernel - 1)
    x = np.concatenate([centred(source, zero, size) for source, zero in sources], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    number = exact_type(numbers)
    sums = np.tensordot(numbers.weight.astype(number), windows.astype(number), ((1, 2, 3), (1, 4, 5)))
    return sums.swapaxes(0, 1).astype(np.int32) + numbers.bias[:, None, None]


def centred(x: np.ndarray, zero: int, size: tuple[int, int]) -> np.ndarray:
    """The middle of x, or x in the middle of a border of the value 0, which is the byte `zero`.

    An odd border has its extra pixel at the end: there a map lacks a row or column that is padded to its skip.
    """
    for axis, wanted in zip((2, 3), size, strict=True):
        margin = x.shape[axis] - wanted
        if margin > 0:
            x = np.take(x, range(margin // 2, margin // 2 + wanted), axis)
        else:
            border = [(0, 0)] * 4
            border[axis] = (-margin // 2, -margin - -margin // 2)
            x = np.pad(x, border, constant_values=zero)
    return x


def up_convolved(numbers: Numbers, x: np.ndarray) -> np.ndarray:
    """The sums of an up-convolution: each pixel becomes 2 x 2, int32."""
    number = exact_type(numbers)
    parts = np.tensordot(numbers.weight.astype(number), x.astype(number), ((0,), (1,)))  # (channels, 2, 2, N, h, w)
    channels, _, _, count, height, width = parts.shape
    sums = parts.transpose(3, 0, 4, 1, 5, 2).reshape(count, channels, 2 * height, 2 * width)
    return sums.astype(np.int32) + numbers.bias[:, None, None]


def exact_type(numbers: Numbers) -> type:
    """The floating type in which every partial sum of bytes times these weights is a whole number that it holds."""
    weight = np.abs(numbers.weight.astype(np.int64))
    of_sums = weight.sum(axis=(1, 2, 3)).max() if weight.shape[-1] != 2 else weight.sum(axis=0).max()
    return np.float32 if 255 * of_sums <= 2**24 else np.float64


def narrowed(sums: np.ndarray, numbers: Numbers) -> np.ndarray:
    """Sums (N, channels, h, w) to bytes of the output's scale."""
    shift = numbers.shift.astype(np.int64)[:, None, None]
    wide = sums * numbers.multiplier.astype(np.int64)[:, None, None]
    return clamped((wide + ((2 * numbers.zero + 1) << (31 + shift))) >> (32 + shift))


def clamped(values: np.ndarray) -> np.ndarray:
    return values.clip(0, 255).astype(np.uint8)


def pooled(layer: Layer, x: np.ndarray) -> np.ndarray:
    """The largest of 2 x 2; an odd row or column at the end is dropped."""
    x = x[:, :, : 2 * layer.height, : 2 * layer.width]
    return x.reshape(*x.shape[:2], layer.height, 2, layer.width, 2).max(axis=(3, 5))


def resized(layer: Layer, x: np.ndarray) -> np.ndarray:
    """Bilinear: output i lies at (i + 1/2) in / out - 1/2, at the border at the last pixel; see also `between`."""
    one = 1 << RESIZE_BITS
    top, bottom, down = between(x.shape[2], layer.height, layer.kind == DOUBLE)
    left, right, aside = between(x.shape[3], layer.width, layer.kind == DOUBLE)
    rows = (one - down)[:, None] * x[:, :, top].astype(np.int64) + down[:, None] * x[:, :, bottom]
    values = (one - aside) * rows[..., left] + aside * rows[..., right]
    return clamped((values + (1 << (2 * RESIZE_BITS - 1))) >> (2 * RESIZE_BITS))


def between(size: int, wanted: int, corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output the two positions beside it, and the weight of the second in 2^8, rounded half up.

    corners: the outer positions lie on each other, output i at i (in - 1) / (out - 1).
    """
    if corners:
        place, parts = np.arange(wanted) * (size - 1), wanted - 1  # so many parts a pixel
    else:
        place, parts = np.maximum((2 * np.arange(wanted) + 1) * size - wanted, 0), 2 * wanted
    low, rest = np.divmod(place, parts)
    low = np.minimum(low, size - 1)
    return low, np.minimum(low + 1, size - 1), ((rest << (RESIZE_BITS + 1)) + parts) // (2 * parts)
