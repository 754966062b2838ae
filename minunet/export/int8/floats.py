"""Every layer's output in float32: what the integers are to come near to."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minunet import functional as F
from minunet.autograd import Tensor, no_grad
from minunet.export.c.network import CONV, POOL, READ, RESIZE, UP, Layer, Network


def outputs(network: Network, x: np.ndarray) -> Iterator[np.ndarray]:
    """Of each layer in turn (N, channels, height, width) float32, for prepared images x (N, C, H, W)."""
    found: list[Tensor] = []
    with no_grad():
        for layer in network:
            found.append(_output(layer, [found[i] for i in layer.sources], x))
            yield found[-1].data


def _output(layer: Layer, sources: list[Tensor], x: np.ndarray) -> Tensor:
    size = (layer.height, layer.width)
    if layer.kind == READ:
        return Tensor(np.asarray(x, np.float32))
    if layer.kind == CONV:
        inner = sources[-1].shape[2:]  # of two the up-convolution: a skip may be larger, and is then cropped
        joined = F.concat([F.center_crop(source, inner) for source in sources])
        padding = (layer.height - inner[0] + layer.weight.shape[-1] - 1) // 2
        y = F.conv2d(joined, layer.weight, layer.bias, padding)
        return F.relu(y) if layer.relu else y
    if layer.kind == UP:
        return F.conv_transpose2d(sources[0], layer.weight, layer.bias)
    if layer.kind == POOL:
        return F.max_pool2d(sources[0])
    if layer.kind == RESIZE:
        return F.resize(sources[0], size)
    return sources[0]  # WRITE
