"""The weights in the order in which the C code reads them.

Output channels go in blocks of 16 lanes, or of 8 where the channels fill no whole number of 16; what is missing in the
last block is zeros.  A block is its bias, then for each source, place of the window and input channel the weights of
its lanes.  An up-convolution is four such layers one after the other, for the upper left, upper right, lower left and
lower right of the 2 x 2 pixels that it makes of one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .network import CONV, UP, Layer, Network


@dataclass(frozen=True)
class Weights:
    """All weights in one array (n,) float32, and where those of each layer begin (0 for a layer without)."""

    numbers: np.ndarray
    starts: tuple[int, ...]


def lanes(layer: Layer) -> int:
    """Output channels of a block."""
    return 16 if -(-layer.channels // 8) % 2 == 0 else 8


def block(layer: Layer, inputs: int) -> int:
    """Numbers of a block: bias and weights of its lanes; inputs: channels of all sources."""
    window = layer.weight.shape[-1] ** 2 if layer.kind == CONV else 1
    return lanes(layer) * (1 + window * inputs)


def laid_out(network: Network) -> Weights:
    """The weights of all layers."""
    starts, pieces, count = [], [], 0
    for layer in network:
        starts.append(count)
        for piece in _pieces(network, layer):
            pieces.append(piece)
            count += piece.size
    return Weights(np.concatenate(pieces), tuple(starts))


def _pieces(network: Network, layer: Layer) -> list[np.ndarray]:
    if layer.kind == UP:
        parts = [layer.weight[:, :, i, j].T for i in range(2) for j in range(2)]  # (outputs, inputs)
        return [piece for part in parts for piece in _blocks(layer, part)]
    if layer.kind == CONV:
        parts = network.weights_by_source(layer)
        rows = [part.transpose(0, 2, 3, 1).reshape(layer.channels, -1) for part in parts]  # window, then channels
        return _blocks(layer, np.concatenate(rows, axis=1))
    return []


def _blocks(layer: Layer, matrix: np.ndarray) -> list[np.ndarray]:
    """(outputs, numbers for each) -> blocks, bias first."""
    width = lanes(layer)
    table = np.concatenate([layer.bias[:, None], matrix], axis=1)
    table = np.pad(table, ((0, -len(table) % width), (0, 0)))
    return [np.ascontiguousarray(rows.T).ravel() for rows in np.split(table, len(table) // width)]
