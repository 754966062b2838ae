"""The text of the C file: tables for this network, then the code from the *.c files of this folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minunet.errors import UsageError
from minunet.export.c.network import CONV, RESIZING, UP, Network
from minunet.export.c.plan import Plan
from minunet.export.c.weights import Weights, block, lanes
from minunet.prediction.predict import evaluating, preprocessing_of

if TYPE_CHECKING:
    from minunet.unet import UNet

HERE = Path(__file__).parent
NAME = re.compile(r"[a-z][a-z0-9_]*")
KINDS = ("READ", "CONV", "UP", "POOL", "RESIZE", "WRITE", "DOUBLE")  # in the order of network.py
LONGEST = 2**15 - 1  # a side, or channels
LARGEST = (2**31 - 1) // 255  # bytes of an image, whose sum is taken
CLASSES = 256  # that a byte tells apart
STORED = 1000  # logits in the self-test, at most
TOLERANCE = 1e-4  # of the largest logit: what another order of sums, or a fused multiply-add, may change


def check_sizes(network: Network) -> None:
    """UsageError where a size does not fit the types of the C code."""
    read, write = network[0], network[-1]
    longest = max(max(layer.height, layer.width, layer.channels) for layer in network)
    if longest > LONGEST:
        raise UsageError(f"the C code takes sides and channels up to {LONGEST:,}, found {longest:,}")
    if read.height * read.width * read.channels > LARGEST:
        raise UsageError(
            f"an image of {read.height} x {read.width} x {read.channels} bytes is too large: the C code, which sums "
            f"them up, takes {LARGEST:,}; export a tile"
        )
    if write.channels > CLASSES:
        raise UsageError(f"the model has {write.channels} classes; the C code has a byte for one, {CLASSES} at most")


def check_weights(network: Network) -> None:
    """UsageError where a weight is not finite: C has no literal for it."""
    if not all(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all() for layer in network):
        raise UsageError("the model has weights that are NaN or infinite (with batch norm folded into them)")


def check_arena(arena: int) -> None:
    """UsageError where the arena, of so many bytes, is larger than the C code can address."""
    if arena >= 2**31:
        raise UsageError(f"the arena takes {arena:,} bytes, the C code can use 2 GB; export a tile")


def c_source(
    model: UNet, network: Network, plan: Plan, weights: Weights, name: str, apart: bool, tested: bool = True
) -> str:
    """The file; apart: without the weights, which the caller hands over; tested: with the vector for its test."""
    parts = [head(network, sizes(model, network, 4 * plan.numbers, weights.numbers.nbytes))]
    parts += [code("weights_apart.c") if apart else _weights(weights), _layers(network, plan, weights), code("rows.c")]
    if resizes(network):
        parts.append(code("resize.c"))
    parts += [code(file) for file in ("sums.c", "convolve.c", "compute.c")]
    parts += [order(plan), code("interface.c"), *([_selftest(model, network)] if tested else [])]
    return joined(parts, name)


def joined(parts: Iterable[str], name: str) -> str:
    """The parts as one file, in which all names begin with `name`."""
    text = "\n".join(part.strip("\n") + "\n" for part in parts)
    return re.sub(r"\bunet_", f"{name}_", re.sub(r"\bUNET_", f"{name.upper()}_", text))


def code(file: str) -> str:
    """The text of a file of this folder."""
    return (HERE / file).read_text(encoding="utf-8")


def resizes(network: Network) -> bool:
    """Whether resize.c is needed."""
    return any(layer.kind in RESIZING for layer in network)


def sizes(model: UNet, network: Network, arena: int, weights: int) -> dict[str, int | str]:
    """The constants that the file begins with; arena, weights: bytes."""
    read, write = network[0], network[-1]
    return {
        "UNET_ARENA_BYTES": arena,
        "UNET_WEIGHTS_BYTES": weights,
        "UNET_IN_C": read.channels,
        "UNET_IN_H": read.height,
        "UNET_IN_W": read.width,
        "UNET_OUT_C": write.channels,
        "UNET_OUT_H": write.height,
        "UNET_OUT_W": write.width,
        "UNET_STANDARDIZE": int(preprocessing_of(model).normalize == "standardize"),
        "UNET_LAYERS": len(network),
    }


def head(network: Network, constants: dict[str, int | str]) -> str:
    """The beginning of the file, with these constants and the kinds of layers."""
    known = {UP, *(RESIZING if resizes(network) else ())}  # to convolve.c and resize.c
    kinds = {f"UNET_{KINDS[kind]}": kind for kind in sorted(known | {layer.kind for layer in network})}
    defines = [f"#define {key} {value}" for key, value in {**constants, **kinds}.items()]
    return "\n".join([code("head.c"), *defines])


def _weights(weights: Weights) -> str:
    return f"static const float unet_weights[] = {{\n{literals(weights.numbers)}\n}};\n"


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
    return "\n".join([code("layers.c").strip(), *rows, "};", "", zeros])


def order(plan: Plan) -> str:
    """The code that computes the layers in the order of the plan."""
    if len(plan.ends) == len(plan.places):
        return code("in_order.c")
    return code("by_rows.c").replace("UNET_ENDS", ", ".join(map(str, plan.ends)))


def _selftest(model: UNet, network: Network) -> str:
    """The test with minunet's own logits. UsageError where they are not finite."""
    read = network[0]
    image = pseudo_random(read.channels * read.height * read.width).reshape(1, read.channels, read.height, read.width)
    with evaluating(model):
        logits = np.asarray(model(image).data, np.float32)
    if not np.isfinite(logits).all():
        raise UsageError("the model gives NaN or infinite logits for the self-test: its weights are too large")
    return selftest(logits, max(TOLERANCE * float(np.abs(logits).max()), 1e-30))


def selftest(logits: np.ndarray, tolerance: float) -> str:
    """The test; logits: all of its image of pseudo-random numbers, of which some are stored."""
    step = -(-logits.size // STORED) | 1
    text = code("selftest.c").replace("UNET_EXPECTED_STEP", str(step)).replace("UNET_TOLERANCE", f"{tolerance:.3e}f")
    return text.replace("UNET_EXPECTED", literals(logits.ravel()[::step]))


def pseudo_random(count: int) -> np.ndarray:
    """What the self-test makes for itself: float32 in [-1, 1) from a linear congruential generator of 32 bits."""
    values = np.empty(count, np.float32)
    state = 1
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = np.float32(state >> 16) / 32768 - 1
    return values


def literals(values: Iterable[float]) -> str:
    """Literals that give the same float32 again, eight in a line."""
    texts = [literal(value) for value in np.asarray(values, np.float32).tolist()]
    return ",\n".join(", ".join(texts[i : i + 8]) for i in range(0, len(texts), 8))


def literal(value: float) -> str:
    """One that gives the same float32 again."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
