"""The text of the C file in integers: as that in float32, with other code where numbers are computed with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minunet.export.c import source as floats
from minunet.export.c.network import CONV, UP, WRITE, Network
from minunet.export.c.plan import Plan
from minunet.export.int8 import reference
from minunet.export.int8.quantization import Numbers
from minunet.export.int8.weights import LANES, Weights, block, padded

if TYPE_CHECKING:
    from minunet.unet import UNet

HERE = Path(__file__).parent
OF_LOGIT = 4  # bytes


def c_source(
    model: UNet, network: Network, integers: Sequence[Numbers], plan: Plan, weights: Weights, name: str, apart: bool
) -> str:
    """The file; apart: without the weights, which the caller hands over."""
    sizes = floats.sizes(model, network, plan.numbers, weights.numbers.nbytes)
    sizes["UNET_FINE"] = f"{floats.literal(float(reference.fine(integers[0])))} /* 2^16 steps of an input's byte */"
    parts = [floats.head(network, sizes), _weights(weights, apart), _layers(network, integers, plan, weights)]
    parts += [_constants(network, integers), _code("rows.c")]
    if floats.resizes(network):
        parts.append(_code("resize.c"))
    parts += [_code("convolve.c"), floats.code("compute.c"), floats.order(plan), floats.code("interface.c")]
    parts.append(floats.selftest(_expected(network, integers), tolerance=0))
    return floats.joined(parts, name)


def _code(file: str) -> str:
    return (HERE / file).read_text(encoding="utf-8")


def _weights(weights: Weights, apart: bool) -> str:
    if apart:
        return _code("weights_apart.c")
    return f"static const int8_t unet_weights[] = {{\n{_integers(weights.numbers)}\n}};\n"


def _layers(network: Network, integers: Sequence[Numbers], plan: Plan, weights: Weights) -> str:
    last = network[-1].sources[0]
    rows = []
    for i, (layer, numbers, place) in enumerate(zip(network, integers, plan.places, strict=True)):
        kernel = {CONV: layer.weight.shape[-1], UP: 1}.get(layer.kind, 0)
        size = block(layer, sum(network.inputs(layer))) if kernel else 0
        odd = 2 * size * (padded(layer.channels) // LANES) if layer.kind == UP else 0
        sizes = (place.rows, layer.height, layer.width, layer.channels)
        of_weights = (weights.starts[i], size, odd, weights.channels[i])
        small = (layer.kind, *(*layer.sources, 0, 0)[:2], kernel, numbers.zero, OF_LOGIT if i == last else 1)
        fields = (place.start, place.stride, *of_weights, *sizes, *small)
        rows.append(f"    {{{', '.join(map(str, fields))}}},")
    return "\n".join([_code("layers.c").strip(), *rows, "};"])


def _constants(network: Network, integers: Sequence[Numbers]) -> str:
    """What becomes of each channel's sums, a value of 0 for the border of each kind of output, steps of the logits."""
    channels = []
    for layer, numbers in zip(network, integers, strict=True):
        rows = list(zip(numbers.bias.tolist(), numbers.multiplier.tolist(), numbers.shift.tolist(), strict=True))
        rows += [(0, 0, 0)] * (padded(layer.channels) - layer.channels if rows else 0)
        channels += [f"    {{{bias}, {multiplier}, {shift}}}," for bias, multiplier, shift in rows]
    most = max(layer.channels for layer in network if layer.kind != WRITE)
    border = f"{{0}}, {{\n{_integers([128] * most)}\n}}"
    return "\n".join([
        "static const unet_channel unet_channels[] = {", *channels, "};", "",
        f"static const uint8_t unet_border[2][{most}] = {{{border}}};", "",
        f"static const float unet_steps[] = {{\n{floats.literals(integers[network[-1].sources[0]].step)}\n}};",
    ])  # fmt: skip


def _expected(network: Network, integers: Sequence[Numbers]) -> np.ndarray:
    """The self-test's logits, (K, H', W')."""
    read = network[0]
    image = floats.pseudo_random(read.channels * read.height * read.width)
    return reference.logits(network, integers, image.reshape(1, read.channels, read.height, read.width))[0]


def _integers(values: Iterable[int]) -> str:
    """Sixteen in a line."""
    texts = [str(int(value)) for value in values]
    return ",\n".join(", ".join(texts[i : i + 16]) for i in range(0, len(texts), 16))
