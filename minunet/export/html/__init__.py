"""A page: the network as WebAssembly in one HTML file, which segments images in the browser and asks no network.

module.py makes the WebAssembly from the exported C.  js/ is the page's arithmetic, which is that of minunet/prediction
and runs in a worker, page/ what is drawn.

The C is made for images of one size, the largest that the page computes at a time: a tile with all that it must see.
Its sizes can be set to smaller ones, so tiles at the border of an image end there, and small images are computed whole.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minunet.display.one_page import filled, in_script, joined
from minunet.errors import UsageError
from minunet.export.html.module import module
from minunet.extras import require
from minunet.files import atomic_write
from minunet.prediction.predict import preprocessing_of
from minunet.prediction.tiling import input_size, step

if TYPE_CHECKING:
    from minunet.unet import UNet

SUFFIX = ".html"
FOLDER = Path(__file__).parent
ARITHMETIC, DRAWING = FOLDER / "js", FOLDER / "page"
PICTURES = (1, 3)  # channels that a browser gives images: all equal, or colours
MOST_WEIGHTS = 256_000_000  # bytes: as base64 they are one string, of which browsers hold half a gigabyte
TILE = 256  # px a side, at least
ENDLESS = 2**30  # px: of an image that no tile is larger than


def write(model: UNet, path: str | os.PathLike[str], size: Sequence[int] | None = None) -> list[str]:
    """Write a page that computes the network in evaluation mode, in float32; a summary in lines.

    size: (height, width) of a tile in pixels of the result, rounded down to what the network can compute, as `tile` of
    `minunet.predict`; the network sees more around it. Images of any size are computed in such tiles, with the result
    of the whole image. Default: 256 x 256, more for networks of more than four levels.

    Raises UsageError for a model of other channels than 1 or 3, for one whose up path is bilinear, for a tile below
    1 px or too large for the C code, for more than 256 MB of weights, and where a weight is not finite; MissingExtra
    without ziglang.
    """
    require("ziglang", extra="wasm")
    channels = preprocessing_of(model).channels
    if channels not in PICTURES:
        raise UsageError(f"a browser gives images of 1 or 3 channels; the model takes {channels}")
    if model.up == "bilinear":
        raise UsageError(
            "the page computes images in tiles, and there a network with a bilinear up path gives other numbers than "
            "in the whole image: export it to C or ONNX"
        )
    weights_bytes = 4 * sum(parameter.data.size for parameter in model.parameters())
    if weights_bytes > MOST_WEIGHTS:
        raise UsageError(f"the weights have {weights_bytes:,} bytes, a page can hold {MOST_WEIGHTS:,}")
    tile = tuple(size) if size is not None else (max(TILE, 16 * 2**model.levels),) * 2
    if len(tile) != 2 or min(tile) < 1:
        raise UsageError(f"size is {size!r}, expected (height, width) of a tile in px")
    most = input_size(model, (ENDLESS, ENDLESS), (tile[0], tile[1]))
    wasm, weights = module(model, most)
    raw = weights.numbers.astype("<f4").tobytes()
    text = page(model, (tile[0], tile[1]), most, wasm, raw).encode()
    atomic_write(path, lambda file: file.write(text))
    shown = " x ".join(str(step(model, side)) for side in tile)
    return [
        f"{os.fspath(path)}: {len(text):,} bytes, opens in a browser from disk",
        f"weights {len(raw):,} bytes, WebAssembly {len(wasm):,} bytes, tiles of {shown} px",
    ]


def page(model: UNet, tile: tuple[int, int], most: tuple[int, int], wasm: bytes, weights: bytes) -> str:
    """The HTML file. most: (height, width) of the largest input of the network."""
    parts = {
        "summary": escape(repr(model).replace("  # ", ", ")),
        "tile": " x ".join(str(step(model, side)) for side in tile),
        "style": (DRAWING / "page.css").read_text(encoding="utf-8"),
        "facts": in_script(facts(model, tile, most)),
        "module": base64.b64encode(wasm).decode(),
        "weights": base64.b64encode(weights).decode(),
        "arithmetic": joined([ARITHMETIC]),
        "drawing": joined([DRAWING], tuple(file.stem for file in ARITHMETIC.glob("*.js"))),
    }
    return filled(DRAWING / "page.html", parts)


def facts(model: UNet, tile: tuple[int, int], most: tuple[int, int]) -> dict[str, Any]:
    """What the page has to know of the model."""
    borders = model.coding is not None and model.coding.kind == "borders"
    return {
        "channels": model.in_channels,
        "outputs": model.out_channels,
        "block": 2**model.levels,
        "padding": model.padding,
        "normalize": preprocessing_of(model).normalize,
        "borders": borders,
        "step": [step(model, side) for side in tile],
        "most": list(most),
        "classes": _names(model, 2 if borders else max(model.out_channels, 2)),
    }


def _names(model: UNet, count: int) -> list[str]:
    """Words for the classes, with what stands for them in the training masks."""
    named = ["background", "foreground"] if count == 2 else [f"class {number}" for number in range(count)]
    if model.coding is None or not model.coding.values:
        return named
    values = model.coding.values
    return [f"{name} ({value} in the training masks)" for name, value in zip(named, values, strict=True)]
