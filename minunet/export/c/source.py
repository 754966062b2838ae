"""The text of the C file: tables for this network, then the code from the *.c files of this folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minunet.errors import UsageError
from minunet.export.c.network import CONV, DOUBLE, RESIZE, UP, Network
from minunet.export.c.plan import Plan
from minunet.export.c.weights import Weights, block, lanes
from minunet.prediction.predict import evaluating, preprocessing_of

if TYPE_CHECKING:
    from minunet.unet import UNet

HERE = Path(__file__).parent
NAME = re.compile(r"[a-z][a-z0-9_]*")
KINDS = ("READ", "CONV", "UP", "POOL", "RESIZE", "WRITE", "DOUBLE")  # in the order of network.py
RESIZING = {RESIZE, DOUBLE}  # what resize.c does: it knows both
LONGEST = 2**15 - 1  # a side, or channels
LARGEST = (2**31 - 1) // 255  # bytes of an image, whose sum is taken
CLASSES = 256  # that a byte tells apart
STORED = 1000  # logits in the self-test, at most
TOLERANCE = 1e-4  # of the largest logit: what another order of sums, or a fused multiply-add, may change


def check_sizes(network: Network) -> None:
    """UsageError where a size does not fit the types of the C code."""
    read, write = network[0], network[-1]
    if max(max(layer.height, layer.width, layer.channels) for layer in network) > LONGEST:
        raise UsageError(f"the C code takes sides and channels up to {LONGEST:,}")
    if read.height * read.width * read.channels > LARGEST:
        raise UsageError(
            f"an image of {read.height} x {read.width} x {read.channels} bytes is too large: the C code, which sums "
            f"them up, takes {LARGEST:,}; export a tile"
        )
    if write.channels > CLASSES:
        raise UsageError(f"the model has {write.channels} classes; the C code has a byte for one, {CLASSES} at most")


def check_arena(plan: Plan) -> None:
    """UsageError where the arena is larger than the C code can address."""
    if 4 * plan.numbers >= 2**31:
        raise UsageError(f"the arena takes {4 * plan.numbers:,} bytes, the C code can use 2 GB; export a tile")


def c_source(model: UNet, network: Network, plan: Plan, weights: Weights, name: str, apart: bool) -> str:
    """The file; apart: without the weights, which the caller hands over."""
    parts = [_head(model, network, plan, weights, apart), _layers(network, plan, weights), _code("rows.c")]
    if _resizes(network):
        parts.append(_code("resize.c"))
    parts += [_code(file) for file in ("sums.c", "convolve.c", "compute.c")]
    parts += [_order(plan), _code("interface.c"), _selftest(model, network)]
    text = "\n".join(part.strip("\n") + "\n" for part in parts)
    return re.sub(r"\bunet_", f"{name}_", re.sub(r"\bUNET_", f"{name.upper()}_", text))


def _resizes(network: Network) -> bool:
    return any(layer.kind in RESIZING for layer in network)


def _code(file: str) -> str:
    return (HERE / file).read_text(encoding="utf-8")


def _head(model: UNet, network: Network, plan: Plan, weights: Weights, apart: bool) -> str:
    read, write = network[0], network[-1]
    numbers = {
        "UNET_ARENA_BYTES": 4 * plan.numbers,
        "UNET_WEIGHTS_BYTES": weights.numbers.nbytes,
        "UNET_IN_C": read.channels,
        "UNET_IN_H": read.height,
        "UNET_IN_W": read.width,
        "UNET_OUT_C": write.channels,
        "UNET_OUT_H": write.height,
        "UNET_OUT_W": write.width,
        "UNET_STANDARDIZE": int(preprocessing_of(model).normalize == "standardize"),
        "UNET_LAYERS": len(network),
    }
    present = {UP, *(layer.kind for layer in network), *(RESIZING if _resizes(network) else ())}  # convolve.c knows UP
    kinds = {f"UNET_{KINDS[kind]}": kind for kind in sorted(present)}
    defines = [f"#define {key} {value}" for key, value in {**numbers, **kinds}.items()]
    return "\n".join([_code("head.c"), *defines, "", _code("weights_apart.c") if apart else _weights(weights)])


def _weights(weights: Weights) -> str:
    return f"static const float unet_weights[] = {{\n{_floats(weights.numbers)}\n}};\n"


def _layers(network: Network, plan: Plan, weights: Weights) -> str:
    rows = []
    for layer, place, start in zip(network, plan.places, weights.starts, strict=True):
        inputs = sum(network.inputs(layer))
        kernel = {CONV: layer.weight.shape[-1], UP: 1}.get(layer.kind, 0)
        size = block(layer, inputs) if kernel else 0
        odd = 2 * size * -(-layer.channels // lanes(layer)) if layer.kind == UP else 0
        sources = (*layer.sources, 0, 0)[:2]
        sizes = (place.rows, layer.height, layer.width, layer.channels)
        numbers = (place.start, place.stride, start, size, odd, *sizes, layer.kind, *sources, kernel)
        rows.append(f"    {{{', '.join(map(str, (*numbers, lanes(layer), int(layer.relu))))}}},")
    zeros = f"static const float unet_zeros[{max(layer.channels for layer in network)}] = {{0}};"
    return "\n".join([_code("layers.c").strip(), *rows, "};", "", zeros])


def _order(plan: Plan) -> str:
    if len(plan.ends) == len(plan.places):
        return _code("in_order.c")
    return _code("by_rows.c").replace("UNET_ENDS", ", ".join(map(str, plan.ends)))


def _selftest(model: UNet, network: Network) -> str:
    """The test with its stored logits, which are minunet's own of the same numbers."""
    read = network[0]
    image = pseudo_random(read.channels * read.height * read.width).reshape(1, read.channels, read.height, read.width)
    with evaluating(model):
        logits = np.asarray(model(image).data, np.float32).ravel()
    step = -(-logits.size // STORED) | 1
    tolerance = max(TOLERANCE * float(np.abs(logits).max()), 1e-30)
    text = _code("selftest.c").replace("UNET_EXPECTED_STEP", str(step)).replace("UNET_TOLERANCE", f"{tolerance:.3e}f")
    return text.replace("UNET_EXPECTED", _floats(logits[::step]))


def pseudo_random(count: int) -> np.ndarray:
    """What the self-test makes for itself: float32 in [-1, 1) from a linear congruential generator of 32 bits."""
    values = np.empty(count, np.float32)
    state = 1
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = np.float32(state >> 16) / 32768 - 1
    return values


def _floats(values: Iterable[float]) -> str:
    """Literals that give the same float32 again, eight in a line."""
    texts = [_literal(value) for value in np.asarray(values, np.float32).tolist()]
    return ",\n".join(", ".join(texts[i : i + 8]) for i in range(0, len(texts), 8))


def _literal(value: float) -> str:
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
