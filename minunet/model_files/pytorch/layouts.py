"""The names that well-known networks give to their layers, and minunet's names of the same layers.

A layout is what the names of a state_dict are recognised by, a translation of names, and what its network does
otherwise than the names say. Every name that is translated is checked later, against the network that results: here
nothing can be missing or be too much.

article   the network that minunet has its own names from: padding "same", batch norm, resized skips. Without batch norm
          these are the names of minunet itself, and the padding has to be told
starred   the most-starred U-Net for PyTorch: skips padded; in old files the convolutions before batch norm have biases.
          Its bilinear variant has no weights in up1.up
hub       the one of PyTorch's hub, for MRI of brains: what comes from below is first in every concatenation, and its
          output has been through a sigmoid, so minunet's one logit stands for the same probability
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Translate = Callable[[str], str | None]


@dataclass(frozen=True)
class Layout:
    """name: of the layout.  translate: from its names to minunet's, None for what is left out.

    options: of the UNet, beside what the shapes tell.  up_first: whether what comes from below is first in every
    concatenation.
    """

    name: str
    translate: Translate
    options: dict[str, Any] = field(default_factory=lambda: {"padding": "same"})
    up_first: bool = False


def recognise(names: set[str]) -> Layout | None:
    """The layout of a state_dict of these names, or None."""
    if "inc.double_conv.0.weight" in names:
        options = {"padding": "same", "skip_fit": "pad"}
        if "up1.conv.double_conv.0.weight" in names and "up1.up.weight" not in names:
            options["up"] = "bilinear"
        return Layout("starred", _starred(_count(r"down(\d+)\.", names)), options)
    if "encoder1.enc1conv1.weight" in names:
        return Layout("hub", _hub(_count(r"encoder(\d+)\.", names)), up_first=True)
    if "downs.0.conv.0.weight" in names:
        normed = "downs.0.conv.1.running_mean" in names
        return Layout("article", lambda name: name, {"padding": "same"} if normed else {})
    return None


def _count(pattern: str, names: set[str]) -> int:
    """How many of 1, 2, ... stand in the names without a gap."""
    found = {int(match[1]) for match in (re.match(pattern, name) for name in names) if match and len(match[1]) < 4}
    return next(number for number in range(1, 1001) if number not in found) - 1


def _by_rules(*rules: tuple[str, Callable[[re.Match[str]], str]]) -> Translate:
    """The first pattern that a whole name fits tells minunet's name of it; a name that fits none stays as it is."""

    def translate(name: str) -> str | None:
        for pattern, ours in rules:
            if match := re.fullmatch(pattern, name):
                return ours(match)
        return name

    return translate


def _starred(levels: int) -> Translate:
    """inc, down1 ... downL (the last is the bottleneck), up1 ... upL from the bottom, outc."""

    def contracting(level: int) -> str:
        return f"downs.{level}" if level < levels else "bottleneck"

    return _by_rules(
        (r"inc\.double_conv\.(.+)", lambda m: f"downs.0.conv.{m[1]}"),
        (r"down(\d{1,3})\.maxpool_conv\.1\.double_conv\.(.+)", lambda m: f"{contracting(int(m[1]))}.conv.{m[2]}"),
        (r"up(\d{1,3})\.up\.(.+)", lambda m: f"ups.{2 * int(m[1]) - 2}.{m[2]}"),
        (r"up(\d{1,3})\.conv\.double_conv\.(.+)", lambda m: f"ups.{2 * int(m[1]) - 1}.conv.{m[2]}"),
        (r"outc\.conv\.(.+)", lambda m: f"final_conv.{m[1]}"),
    )


_POSITIONS = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}
_LAYER = f"({'|'.join(_POSITIONS)})"


def _hub(levels: int) -> Translate:
    """encoder1 ... encoderL from the top, bottleneck, upconvL and decoderL ... upconv1 and decoder1, conv."""

    def up(number: str) -> int:
        return 2 * (levels - int(number))

    return _by_rules(
        (
            rf"encoder(\d{{1,3}})\.enc\1{_LAYER}\.(.+)",
            lambda m: f"downs.{int(m[1]) - 1}.conv.{_POSITIONS[m[2]]}.{m[3]}",
        ),
        (rf"bottleneck\.bottleneck{_LAYER}\.(.+)", lambda m: f"bottleneck.conv.{_POSITIONS[m[1]]}.{m[2]}"),
        (r"upconv(\d{1,3})\.(.+)", lambda m: f"ups.{up(m[1])}.{m[2]}"),
        (rf"decoder(\d{{1,3}})\.dec\1{_LAYER}\.(.+)", lambda m: f"ups.{up(m[1]) + 1}.conv.{_POSITIONS[m[2]]}.{m[3]}"),
        (r"conv\.(.+)", lambda m: f"final_conv.{m[1]}"),
    )
