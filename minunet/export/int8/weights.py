"""The weights in the order in which the C code reads them: blocks of 8 output channels, what is missing is zeros.

A block holds for each source, place of the window and input channel the weights of its 8 channels.  An up-convolution
is four such layers one after the other, for the upper left, upper right, lower left and lower right of the 2 x 2
pixels that it makes of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minunet.export.c.network import CONV, UP, Layer, Network
from minunet.export.int8.quantization import Numbers

LANES = 8  # output channels of a block; as UNET_LANES in convolve.c


@dataclass(frozen=True)
class Weights:
    """All weights in one array (n,) int8; where those of each layer begin, and which channel is its first."""

    numbers: np.ndarray
    starts: tuple[int, ...]
    channels: tuple[int, ...]


def padded(channels: int) -> int:
    """Channels of whole blocks."""
    return -(-channels // LANES) * LANES


def block(layer: Layer, inputs: int) -> int:
    """Numbers of a block; inputs: channels of all sources."""
    window = layer.weight.shape[-1] ** 2 if layer.kind == CONV else 1
    return LANES * window * inputs


def laid_out(network: Network, integers: Sequence[Numbers]) -> Weights:
    """The weights of all layers."""
    starts, channels, pieces, count, channel = [], [], [], 0, 0
    for layer, numbers in zip(network, integers, strict=True):
        starts.append(count)
        channels.append(channel)
        for piece in _pieces(network, layer, numbers.weight):
            pieces.append(piece)
            count += piece.size
        channel += padded(layer.channels) if layer.kind in (CONV, UP) else 0
    return Weights(np.concatenate(pieces), tuple(starts), tuple(channels))


def _pieces(network: Network, layer: Layer, weight: np.ndarray) -> list[np.ndarray]:
    if layer.kind == UP:
        return [_blocks(weight[:, :, i, j].T) for i in range(2) for j in range(2)]  # (outputs, inputs)
    if layer.kind == CONV:
        parts = np.split(weight, np.cumsum(network.inputs(layer))[:-1], axis=1)
        rows = [part.transpose(0, 2, 3, 1).reshape(layer.channels, -1) for part in parts]  # window, then channels
        return [_blocks(np.concatenate(rows, axis=1))]
    return []


def _blocks(matrix: np.ndarray) -> np.ndarray:
    """(outputs, numbers for each) -> all blocks."""
    table = np.pad(matrix, ((0, padded(len(matrix)) - len(matrix)), (0, 0)))
    return table.reshape(-1, LANES, table.shape[1]).swapaxes(1, 2).ravel()
