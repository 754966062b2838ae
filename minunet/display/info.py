"""`minunet info`: the layers of a model with their shapes, parameters, work and memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet.errors import UsageError
from minunet.prediction.predict import preprocessing_of
from minunet.unet import MANY, UNet, bottleneck_channels, legal_sides, way_up

DEFAULT_SIDE = 572  # the paper's input; a legal side for valid networks of up to 6 levels


@dataclass(frozen=True)
class Layer:
    """One row of the table, for one image.

    shape: (C, H, W) of the output. macs: multiply-accumulates. kept: arrays of the output's size that
    a training step keeps for the way back (what enters the norm, and what leaves the ReLU).
    """

    name: str
    kind: str
    shape: tuple[int, int, int]
    parameters: int
    macs: int
    kept: float

    @property
    def values(self) -> int:
        return int(np.prod(self.shape))


def layers(model: UNet, size: tuple[int, int]) -> list[Layer]:
    """The layers in the order in which they run on one image of size (height, width).

    Raises UsageError where the network does not take this size.
    """
    try:
        model.output_size(size)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _Walk(model.architecture, size).layers


class _Walk:
    """The network's one loop down and one loop up, on shapes instead of arrays."""

    def __init__(self, architecture: dict, size: tuple[int, int]) -> None:
        self.valid = architecture["padding"] == "valid"
        self.norm = architecture["norm"] is not None
        self.size = size
        self.channels = architecture["in_channels"]
        self.layers: list[Layer] = []
        features = architecture["features"]
        skips = []
        for level, count in enumerate(features):
            self.double_conv(f"downs.{level}", count, cropped=self.valid)
            skips.append(self.size)
            self.pool(f"pool {level}")
        up = architecture.get("up", "transpose")
        self.double_conv("bottleneck", bottleneck_channels(features, up))
        for i, ((count, outputs), skip) in enumerate(zip(way_up(features, up), reversed(skips), strict=True)):
            self.up(f"ups.{2 * i}", count, skip, weighted=up == "transpose")
            if not self.valid:
                self.size = skip  # where it was odd, the result is resized or padded to the skip
            self.channels += count  # the skip, concatenated
            self.double_conv(f"ups.{2 * i + 1}", outputs, middle=count)
        self.conv("final_conv", architecture["out_channels"], kernel=1, bias=True, plain=True)

    def double_conv(self, name: str, count: int, cropped: bool = False, middle: int | None = None) -> None:
        first, second = (0, 3) if self.norm else (0, 2)
        middle = middle or count
        cheap = not self.norm and middle >= MANY * self.channels  # computed once more
        self.conv(f"{name}.conv.{first}", middle, kernel=3, bias=not self.norm, output=0 if cheap else 1)
        byte = 0 if self.norm else 1 / 4  # of a float32
        self.conv(f"{name}.conv.{second}", count, kernel=3, bias=not self.norm, output=byte if cropped else 1)

    def conv(
        self, name: str, count: int, *, kernel: int, bias: bool, plain: bool = False, output: float = 1
    ) -> None:
        """output: the share of what leaves the layer that is kept."""
        if self.valid:
            self.size = (self.size[0] - kernel + 1, self.size[1] - kernel + 1)
        weights = count * self.channels * kernel**2
        kind = f"conv {kernel}x{kernel}"
        parameters = weights + (count if bias else 0)
        if not plain:
            kind += ", norm, ReLU" if self.norm else ", ReLU"
            parameters += 2 * count if self.norm else 0
        kept = 1 if plain else output + self.norm
        self.add(name, kind, count, parameters, weights * self.size[0] * self.size[1], kept)

    def pool(self, name: str) -> None:
        self.size = (self.size[0] // 2, self.size[1] // 2)
        self.add(name, "max-pool 2x2", self.channels, 0, 0, 1)

    def up(self, name: str, count: int, skip: tuple[int, int], weighted: bool) -> None:
        weights = 4 * self.channels * count if weighted else 0
        macs = weights * self.size[0] * self.size[1]
        self.size = (2 * self.size[0], 2 * self.size[1])
        # It is written beside the skip, into an array of the skip's size, or beside a copy of the skip's middle.
        kept = 2 if self.valid else skip[0] * skip[1] / (self.size[0] * self.size[1])
        if weighted:
            self.add(name, "up-conv 2x2", count, weights + count, macs, kept)
        else:
            self.add(name, "bilinear x2", count, 0, 0, kept)

    def add(self, name: str, kind: str, count: int, parameters: int, macs: int, kept: float) -> None:
        self.channels = count
        self.layers.append(Layer(name, kind, (count, *self.size), parameters, macs, kept))


def default_size(model: UNet) -> tuple[int, int]:
    """256 x 256, or for a valid network the paper's 572 x 572 (the next legal size above)."""
    if model.padding == "same":
        return 256, 256
    side = legal_sides(DEFAULT_SIDE, model.levels)[-1]
    return side, side


def info(model: UNet, size: tuple[int, int] | None = None) -> str:
    """The table as text, with totals, preprocessing and class coding."""
    size = size or default_size(model)
    table = layers(model, size)
    lines = [_header(model), f"input {_shape((model.in_channels, *size))}", ""]
    lines += _table(table)
    lines += ["", *_totals(model, table), "", *_data(model)]
    return "\n".join(lines)


def _header(model: UNet) -> str:
    shape = model.architecture
    features = ",".join(str(count) for count in shape["features"])
    parts = [
        f"U-Net, features {features}",
        f"padding {shape['padding']}" + (", skips padded" if model.skip_fit == "pad" else ""),
        *(["bilinear up path"] if model.up == "bilinear" else []),
        f"norm {shape['norm'] or 'none'}",
        f"dropout {shape['dropout']:g}",
        shape["dtype"],
    ]
    return ", ".join(parts)


def _table(table: list[Layer]) -> list[str]:
    head = ("layer", "kind", "output", "parameters", "MMAC")
    rows = [
        (
            layer.name,
            layer.kind,
            _shape(layer.shape),
            f"{layer.parameters:,}" if layer.parameters else "",
            f"{layer.macs / 1e6:,.1f}" if layer.macs else "",
        )
        for layer in table
    ]
    total = ("total", "", "", f"{_sum(table, 'parameters'):,}", f"{_sum(table, 'macs') / 1e6:,.1f}")
    widths = [max(len(row[i]) for row in (head, total, *rows)) for i in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return [_line(row, widths) for row in (head, rule, *rows, rule, total)]


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(left + right).rstrip()


def _totals(model: UNet, table: list[Layer]) -> list[str]:
    item = np.dtype(model.dtype).itemsize
    weights = _sum(table, "parameters") * item
    kept = sum(layer.kept * layer.values for layer in table) * item
    macs = _sum(table, "macs")
    return [
        f"work       {macs / 1e9:,.2f} GMAC an image ({2 * macs / 1e9:,.2f} GFLOP); "
        "a training step takes about three times that",
        f"weights    {_bytes(weights)}; while training three times that (gradients, momentum)",
        f"memory     about {_bytes(kept)} an image for what a training step keeps of each layer",
    ]


def _data(model: UNet) -> list[str]:
    preprocessing, coding = preprocessing_of(model), model.coding
    channels = model.in_channels
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    values = {
        "none": "values as they are",
        "standardize": "each image to mean 0, standard deviation 1",
    }[preprocessing.normalize]
    return [
        f"images     {kind}, {values}",
        f"masks      {'no coding stored' if coding is None else coding.describe()}",
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(side) for side in shape)


def _sum(table: list[Layer], column: str) -> int:
    return sum(getattr(layer, column) for layer in table)


def _bytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"
