"""From float32 to integers: the numbers with which `reference.py` computes.

A value r of an output is stored as a byte q, r = scale (q - zero) (Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).  scale is one for a whole output.  zero is 0
where no value is negative, so that behind a ReLU all 256 bytes are used and the rectifier is the clamp of the byte at
0; elsewhere it is 128.  With no third zero, the border of a convolution reads from one of two constants.

    scale = largest / 255                      zero 0, over the images to calibrate with
    scale = max(largest, -least) / 127         zero 128

Pooling and resizing keep the scale of what they read.  A convolution that reads a skip and an up-convolution adds up
both in one sum, so those two have one scale, the larger; their zeros may differ.

A weight is an int8 from -127 to 127 times a scale of its output channel, s_w = largest |weight| / 127.  So

    sum over the window of weight * r  +  bias  =  s_in s_w (sum of w q  -  sum of w zero  +  bias / (s_in s_w))

where the last two are one int32, and the sum's step becomes the output's by  s_in s_w / scale = m / 2^(32 + shift),
2^30 <= m < 2^31.  The last convolution's sums stay int32: a logit is s_in s_w times the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minunet.errors import UsageError
from minunet.export.c.network import CONV, POOL, READ, RESIZING, UP, Layer, Network

LARGEST_WEIGHT = 127  # -128 would make the scale lopsided
LARGEST_BIAS = 2**30  # so that half of the accumulator is left for the sum
LARGEST_SUM = 2**31 - 1
FINEST = 4  # steps of a sum in one of the output, at least: m needs it, and a finer output would say nothing more
LARGEST_SHIFT = 22  # keeps (2 zero + 1) 2^(31 + shift) + sum m within 64 bits; m is smaller where this holds
TINY = 1e-30  # the least scale, where all is 0
ROUNDS = 100  # in which scales that depend on each other settle


_NOTHING = (np.zeros(0, np.int8), np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint8),
            np.zeros(0, np.float32))  # fmt: skip


@dataclass(frozen=True)
class Numbers:
    """A layer in integers.

    scale, zero: of its output.  The others are of CONV and UP alone.  weight: int8, shaped as the layer's.
    bias, multiplier: (channels,) int32, shift: (channels,) uint8.  step: (channels,) float32, that of the sums.
    """

    scale: float
    zero: int
    weight: np.ndarray
    bias: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray
    step: np.ndarray


def quantize(network: Network, ranges: Sequence[tuple[float, float]]) -> list[Numbers]:
    """Each layer's integers; ranges: (least, largest) value of each layer's output.

    UsageError where a sum could leave 32 bits, or where no scales fit.
    """
    zeros = _zeros(network, ranges)
    scales = _scales(network, ranges, zeros)
    return [_numbers(network, layer, scales, zeros, i) for i, layer in enumerate(network)]


def _zeros(network: Network, ranges: Sequence[tuple[float, float]]) -> list[int]:
    zeros: list[int] = []
    for layer, (least, _) in zip(network, ranges, strict=True):
        if layer.kind in (POOL, *RESIZING):
            zeros.append(zeros[layer.sources[0]])
        else:
            zeros.append(0 if layer.relu or (layer.kind == READ and least >= 0) else 128)
    return zeros


def _scales(network: Network, ranges: Sequence[tuple[float, float]], zeros: Sequence[int]) -> list[float]:
    """Of each output: no smaller than its range needs, than FINEST allows, and than others that it is tied to."""
    tied = _tied(network)
    scales = [
        max(largest / 255 if zero == 0 else max(largest, -least) / 127, TINY)
        for (least, largest), zero in zip(ranges, zeros, strict=True)
    ]
    for _ in range(ROUNDS):
        before = list(scales)
        for i, layer in enumerate(network):
            if layer.kind in (CONV, UP):
                scales[i] = max(scales[i], FINEST * float(_steps(layer, scales[layer.sources[0]]).max()))
            together = max(scales[j] for j in tied[i])
            for j in tied[i]:
                scales[j] = together
        if scales == before:
            return scales
    raise UsageError("the images to calibrate with leave layers without values: calibrate with others")


def _tied(network: Network) -> list[set[int]]:
    """For each layer all those whose output has the same scale, itself among them."""
    tied = [{i} for i in range(len(network))]
    for i, layer in enumerate(network):
        pair = (i, *layer.sources) if layer.kind in (POOL, *RESIZING) else layer.sources
        together = set().union(*(tied[j] for j in pair))
        for j in together:
            tied[j] = together
    return tied


def _steps(layer: Layer, scale: float) -> np.ndarray:
    """s_in s_w of each output channel, float64: as the weights have it, or coarser where the bias would not fit."""
    of_weights = scale * np.abs(_rows(layer)).max(axis=1).astype(np.float64) / LARGEST_WEIGHT
    return np.maximum(np.maximum(of_weights, np.abs(layer.bias, dtype=np.float64) / LARGEST_BIAS), TINY)


def _rows(layer: Layer) -> np.ndarray:
    """The weights as (channels, ...): an up-convolution's second axis is its output channels."""
    weight = layer.weight if layer.kind == CONV else layer.weight.swapaxes(0, 1)
    return weight.reshape(layer.channels, -1)


def _numbers(network: Network, layer: Layer, scales: Sequence[float], zeros: Sequence[int], i: int) -> Numbers:
    if layer.kind not in (CONV, UP):
        return Numbers(scales[i], zeros[i], *_NOTHING)
    step = _steps(layer, scales[layer.sources[0]])
    per_weight = step / scales[layer.sources[0]]
    axes = (1, 2, 3) if layer.kind == CONV else (0, 2, 3)
    weight = np.rint(layer.weight / np.expand_dims(per_weight, axes)).astype(np.int8)
    bias = np.rint(layer.bias / step).astype(np.int64)
    if layer.kind == CONV:  # what an up-convolution reads comes out of a ReLU: its zero is 0
        ends = np.cumsum(network.inputs(layer))[:-1]
        for part, source in zip(np.split(weight.astype(np.int64), ends, axis=1), layer.sources, strict=True):
            bias -= zeros[source] * part.sum(axis=(1, 2, 3))
    _check_sums(layer, weight, bias)
    multiplier, shift = multipliers(step / scales[i])
    return Numbers(scales[i], zeros[i], weight, bias.astype(np.int32), multiplier, shift, step.astype(np.float32))


def multipliers(factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """factor (n,), at most 1 / FINEST -> m int32, shift uint8, with factor = m / 2^(32 + shift) to one part in 2^31."""
    exponent = np.frexp(factor)[1]  # factor = f 2^exponent, 1/2 <= f < 1; at most -1
    shift = np.minimum(-1 - exponent, LARGEST_SHIFT)
    multiplier = np.rint(np.ldexp(factor, 32 + shift))
    return np.minimum(multiplier, 2**31 - 1).astype(np.int32), shift.astype(np.uint8)


def _check_sums(layer: Layer, weight: np.ndarray, bias: np.ndarray) -> None:
    """UsageError where a sum, or a part of it in any order from the bias on, may leave int32: each byte is 0 to 255."""
    wide = weight.astype(np.int64)
    if layer.kind == CONV:
        above, below = (part.sum(axis=(1, 2, 3)) for part in (wide.clip(min=0), wide.clip(max=0)))
    else:  # one sum for each of the 2 x 2 pixels
        above, below = (part.sum(axis=0).transpose(1, 2, 0) for part in (wide.clip(min=0), wide.clip(max=0)))
    largest = int(max((bias + 255 * above).max(), -(bias + 255 * below).min(), np.abs(bias).max()))
    if largest > LARGEST_SUM:
        window = weight[0].size if layer.kind == CONV else len(weight)
        raise UsageError(
            f"a layer of {layer.channels} x {window} weights can sum up to {largest:,} in int8, and 32 bits hold "
            f"{LARGEST_SUM:,}: export it in float32"
        )
