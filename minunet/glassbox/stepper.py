"""One stepper alone, on a network small enough to follow: a page of some 60 KB, for a frame in a book or a notebook."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from minunet.display.one_page import filled, in_script, joined
from minunet.errors import UsageError
from minunet.glassbox import box
from minunet.glassbox.page import DRAWING, MODULES, styles
from minunet.glassbox.subject import subject
from minunet.training.recipe import Recipe
from minunet.unet import UNet

# Of each kind its module, and the tensor and index that it begins with in the example.
KINDS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "im2col": ("steps_convolution", "bottleneck.conv.0", (0, 0, 1, 1)),
    "col2im": ("steps_convolution", "pools.0", (0, 0, 1, 1)),
    "pool": ("steps_sizes", "pools.0", (0, 0, 1, 1)),
    "scatter": ("steps_sizes", "ups.0", (0, 0, 2, 2)),
    "concat": ("steps_skip", "concats.0", (0, 0, 3, 3)),
    "skip": ("steps_skip", "downs.0.conv.3", (0, 0, 3, 3)),
    "batch_norm": ("steps_norm", "downs.0.conv.1", (0, 0, 3, 3)),
    "cross_entropy": ("steps_loss", "final_conv", (0, 0, 3, 3)),
    "sgd": ("steps_sgd", "bottleneck.conv.0.weight", (0, 0, 1, 1)),
}


def stepper_page(
    kind: str,
    model: UNet | None = None,
    image: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    element: tuple[str, tuple[int, ...]] | None = None,
    recipe: Recipe | None = None,
) -> str:
    """A whole HTML page, which asks no network for anything, with one stepper.

    kind: one of KINDS. model, image, mask: as in `glassbox`; without them a network of one level with two channels, and
    an 8 x 8 px image of a square. element: (name of a tensor, index) that it begins with, needed with a model.
    recipe: whose rate, momentum, weight decay and clipping the kind "sgd" takes; None: those of `minunet train`.

    Raises UsageError for another kind, and for a model without image or element.
    """
    if kind not in KINDS:
        raise UsageError(f"a stepper is one of {', '.join(KINDS)}, found {kind!r}")
    module, name, index = KINDS[kind]
    if model is None:
        model, image, mask = _example(kind)
        element = element or (name, index)
    if image is None or element is None:
        raise UsageError("a stepper of your own model needs image and element, (name of a tensor, index)")
    found = subject(model, image, mask)
    contents: dict[str, Any] = box.contents(model, found, "train") | {
        "checks": {},
        "optimizer": box.optimizer(recipe or Recipe()),
        "module": module,
        "kind": kind,
        "element": {"name": element[0], "index": list(element[1])},
    }
    script = joined([MODULES, DRAWING], wanted=(module, "single"))
    parts = {
        "style": styles("base"),
        "contents": in_script(contents),
        "script": re.sub(r"^\s*//.*\n", "", script, flags=re.MULTILINE),  # without comments, as it is embedded
    }
    return filled(DRAWING / "stepper.html", parts)


def _example(kind: str) -> tuple[UNet, np.ndarray, np.ndarray]:
    """A network of numbers with one decimal, a picture of a bright square, and which pixels are the square."""
    model = UNet(1, 2, (2,), padding="same", norm="batch" if kind == "batch_norm" else None, seed=48)
    for parameter in model.parameters():
        parameter.data[...] = np.round(parameter.data, 1)
    mask = np.zeros((8, 8), np.uint8)
    mask[2:6, 3:7] = 1
    return model, mask + np.random.default_rng(0).integers(-3, 4, mask.shape) / 10, mask
