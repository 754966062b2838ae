"""Which part of a tensor an element of another one is made of, or hands its gradient from: for recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet.glassbox.reference import Node

Index = tuple[int, ...]
Region = tuple[slice, slice, slice]  # channels, rows, columns: those outside the tensor are padding
EVERY = slice(0, None)
JOINING = ("conv2d", "conv_transpose2d")  # whose results are made of all channels
RESIZING = {"resize": False, "resize_corners": True}  # whether the outer positions lie on each other


@dataclass(frozen=True)
class Regions:
    """shapes: of all tensors, parameters too; same: whether the network pads."""

    shapes: dict[str, tuple[int, ...]]
    same: bool

    def reads(self, node: Node, k: int, index: Index) -> Region | None:
        """Where in input k the terms of a value lie; None: nowhere."""
        _, c, h, w = index
        shape, own = self.shapes[node.inputs[k]], slice(c, c + 1)
        sides = (shape[2], shape[3])
        size = self.shapes[node.name][2:]
        if node.op == "conv2d":
            kernel, padding = self._kernel(node.name)
            return EVERY, slice(h - padding, h - padding + kernel), slice(w - padding, w - padding + kernel)
        if node.op == "conv_transpose2d":
            return EVERY, slice(h // 2, h // 2 + 1), slice(w // 2, w // 2 + 1)
        if node.op == "max_pool2d":
            return own, slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2)
        if node.op in ("center_crop", "center_pad"):
            a, b = h - (size[0] - sides[0]) // 2, w - (size[1] - sides[1]) // 2
            if node.op == "center_crop":
                a, b = h + (sides[0] - size[0]) // 2, w + (sides[1] - size[1]) // 2
            return own, slice(a, a + 1), slice(b, b + 1)
        if node.op in RESIZING:
            corners = RESIZING[node.op]
            return own, _mixed(h, sides[0], size[0], corners), _mixed(w, sides[1], size[1], corners)
        if node.op == "concat":
            first = self.shapes[node.inputs[0]][1]
            if (c < first) != (k == 0):
                return None
            own = slice(c - first * k, c - first * k + 1)
        return own, slice(h, h + 1), slice(w, w + 1)

    def spreads(self, node: Node, k: int, index: Index) -> Region:
        """Where in the result the gradients lie that an element of input k gets its own from."""
        _, c, h, w = index
        sides, size = self.shapes[node.inputs[k]][2:], self.shapes[node.name][2:]
        own = slice(c, c + 1)
        if node.op == "conv2d":
            kernel, padding = self._kernel(node.name)
            a, b = h + padding, w + padding
            return EVERY, slice(a - kernel + 1, a + 1), slice(b - kernel + 1, b + 1)
        if node.op == "conv_transpose2d":
            return EVERY, slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2)
        if node.op == "max_pool2d":
            return own, slice(h // 2, h // 2 + 1), slice(w // 2, w // 2 + 1)
        if node.op in ("center_crop", "center_pad"):
            inner, outer = (size, sides) if node.op == "center_crop" else (sides, size)
            sign = -1 if node.op == "center_crop" else 1
            a, b = (p + sign * ((outer[k] - inner[k]) // 2) for k, p in enumerate((h, w)))
            return own, slice(a, a + 1), slice(b, b + 1)
        if node.op in RESIZING:
            corners = RESIZING[node.op]
            return own, _touched(h, sides[0], size[0], corners), _touched(w, sides[1], size[1], corners)
        if node.op == "concat":
            start = c + (self.shapes[node.inputs[0]][1] if k else 0)
            own = slice(start, start + 1)
        return own, slice(h, h + 1), slice(w, w + 1)

    def _kernel(self, name: str) -> tuple[int, int]:
        """Side and padding of a convolution."""
        kernel = self.shapes[f"{name}.weight"][2]
        return kernel, kernel // 2 if self.same else 0


def places(shape: tuple[int, ...], region: Region) -> np.ndarray:
    """Places in the flat array (N, C, H, W) of the region in the first image, but for padding."""
    channels, rows, columns = (
        np.arange(max(0, part.start), side if part.stop is None else min(part.stop, side))
        for part, side in zip(region, shape[1:], strict=True)
    )
    return ((channels[:, None, None] * shape[2] + rows[:, None]) * shape[3] + columns).ravel()


def _mixed(position: int, size_in: int, size_out: int, corners: bool) -> slice:
    """The two positions that one of a resized axis is mixed of."""
    if corners:
        source = position * ((size_in - 1) / max(size_out - 1, 1))
    else:
        source = max((position + 0.5) * (size_in / size_out) - 0.5, 0)
    low = min(int(source), size_in - 1)
    return slice(low, low + 2)


def _touched(position: int, size_in: int, size_out: int, corners: bool) -> slice:
    """At least all positions of the resized axis that this one is mixed into."""
    if size_in == 1:
        return slice(0, size_out)
    ratio = (size_out - 1) / (size_in - 1) if corners else size_out / size_in
    return slice(int((position - 1) * ratio) - 1, int((position + 2) * ratio) + 2)
