"""Every layer's output in float32: what the integers are to come near to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minunet import functional as F
from minunet.autograd import Tensor, no_grad
from minunet.device import to_host
from minunet.export.c.network import CONV, DOUBLE, POOL, READ, RESIZING, UP, Layer, Network


def outputs(network: Network, x: np.ndarray) -> Iterator[np.ndarray]:
    """Of each layer in turn (N, channels, height, width) float32, for prepared images x (N, C, H, W)."""
    found: list[Tensor] = []
    with no_grad():
        for layer in network:
            found.append(_output(layer, [found[i] for i in layer.sources], x))
            yield to_host(found[-1].data)


def _output(layer: Layer, sources: list[Tensor], x: np.ndarray) -> Tensor:
    size = (layer.height, layer.width)
    if layer.kind == READ:
        return Tensor(np.asarray(x, np.float32))
    if layer.kind == CONV:
        # With padding a source has the size of the output, else of two the up-convolution counts.
        inner = size if any(source.shape[2:] == size for source in sources) else sources[-1].shape[2:]
        padding = (size[0] - inner[0] + layer.weight.shape[-1] - 1) // 2
        y = F.conv2d(F.concat([_fitted(source, inner) for source in sources]), layer.weight, layer.bias, padding)
        return F.relu(y) if layer.relu else y
    if layer.kind == UP:
        return F.conv_transpose2d(sources[0], layer.weight, layer.bias)
    if layer.kind == POOL:
        return F.max_pool2d(sources[0])
    if layer.kind in RESIZING:
        return F.resize(sources[0], size, align_corners=layer.kind == DOUBLE)
    return sources[0]  # WRITE


def _fitted(source: Tensor, size: tuple[int, ...]) -> Tensor:
    """A skip that is larger is cropped; what lacks a row or column is padded."""
    height, width = (max(pair) for pair in zip(source.shape[2:], size, strict=True))
    padded = source if source.shape[2:] == (height, width) else F.center_pad(source, (height, width))
    return F.center_crop(padded, size)
