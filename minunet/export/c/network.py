"""The network as the C code sees it: a list of layers, in the order of computation.

Each layer writes one tensor (height, width, channels).  The numbers of one pixel lie together, so a convolution reads
runs of 3 x channels numbers, and its register tile is some pixels by some output channels.  There is no concatenation:
the convolution after it reads two tensors, and so the skip and the up-convolution stay where they were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.autograd import Tensor
from minunet.device import to_host
from minunet.nn import BatchNorm2d, Conv2d, ReLU

if TYPE_CHECKING:
    from minunet.unet import UNet

READ, CONV, UP, POOL, RESIZE, WRITE, DOUBLE = range(7)  # the kinds of layers, as the C code numbers them
RESIZING = (RESIZE, DOUBLE)  # bilinear: to the size of a skip, and to twice the size
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Layer:
    """A layer, and the size of what it writes.

    sources: places in the list of the layers whose output it reads, two where a skip is joined.
    weight: CONV (channels, inputs of all sources, k, k), UP (inputs, channels, 2, 2); bias (channels,).
    begins: whether a double convolution, with what feeds it, begins here.
    over: a source of the same block, a skip, whose rows are dead when this layer writes its own; None where none is.
    """

    kind: int
    sources: tuple[int, ...]
    height: int
    width: int
    channels: int
    weight: np.ndarray = field(default_factory=lambda: NOTHING)
    bias: np.ndarray = field(default_factory=lambda: NOTHING)
    relu: bool = False
    begins: bool = False
    over: int | None = None


class Network(list[Layer]):
    """The layers of a U-Net for images of `size` = (height, width), batch norm folded, weights in float32."""

    def __init__(self, model: UNet, size: Sequence[int]) -> None:
        super().__init__()
        x = self._add(READ, (), size[0], size[1], model.in_channels, begins=True)
        skips: list[int] = []
        for block in model.downs:
            x = self._double_conv(block, x if not skips else self._pool(x))
            skips.append(x)
        x = self._double_conv(model.bottleneck, self._pool(x))
        for step, skip in enumerate(reversed(skips)):
            x = self._double_conv(model.ups[2 * step + 1], skip, self._up(model, step, x, skip))
        final: dict[str, Any] = {"weight": _array(model.final_conv.weight), "bias": _array(model.final_conv.bias)}
        x = self._add(CONV, (x,), self[x].height, self[x].width, model.out_channels, **final)
        self._add(WRITE, (x,), self[x].height, self[x].width, model.out_channels)

    def _add(self, kind: int, sources: tuple[int, ...], height: int, width: int, channels: int, **rest: Any) -> int:
        self.append(Layer(kind, sources, height, width, channels, **rest))
        return len(self) - 1

    def _pool(self, source: int) -> int:
        x = self[source]
        return self._add(POOL, (source,), x.height // 2, x.width // 2, x.channels, begins=True)

    def _up(self, model: UNet, step: int, source: int, skip: int) -> int:
        """The up-convolution or doubling, and where halving dropped a row or column the resize to the skip's size.

        Where it would be padded instead nothing is to be done: then it lacks one row or column, at the end, and there
        the convolution after it reads the zeros that it finds around every source.
        """
        layer: Any = model.ups[2 * step]  # a ConvTranspose2d, or an Upsample without parameters
        x, wanted = self[source], self[skip]
        size = (2 * x.height, 2 * x.width, wanted.channels)
        if model.up == "bilinear":
            up = self._add(DOUBLE, (source,), *size, begins=True)
        else:
            arrays: dict[str, Any] = {"weight": _array(layer.weight), "bias": _array(layer.bias)}
            up = self._add(UP, (source,), *size, **arrays, begins=True)
        fits = (self[up].height, self[up].width) == (wanted.height, wanted.width)
        if model.padding == "valid" or model.skip_fit == "pad" or fits:
            return up
        return self._add(RESIZE, (up,), wanted.height, wanted.width, wanted.channels)

    def _double_conv(self, block: Any, *sources: int) -> int:
        layers = list(block.conv)  # of a minunet.unet.DoubleConv
        over = sources[0] if len(sources) == 2 else None
        for place, conv in enumerate(layers):
            if not isinstance(conv, Conv2d):
                continue
            norm = layers[place + 1]
            weight, bias = conv.folded(norm) if isinstance(norm, BatchNorm2d) else (conv.weight, conv.bias)
            # Of two the larger where maps are padded to their skips; the up-convolution where skips are cropped.
            x = self[sources[0 if conv.padding else -1]]
            smaller = 2 - 2 * conv.padding
            relu = any(isinstance(layer, ReLU) for layer in layers[place + 1 : place + 3])
            arrays: dict[str, Any] = {"weight": _array(weight), "bias": _array(bias), "relu": relu}
            size = (x.height - smaller, x.width - smaller, weight.shape[0])
            sources = (self._add(CONV, sources, *size, **arrays, over=None if len(sources) == 2 else over),)
        return sources[0]

    def inputs(self, layer: Layer) -> list[int]:
        """Channels of each source."""
        return [self[source].channels for source in layer.sources]

    def weights_by_source(self, layer: Layer) -> list[np.ndarray]:
        """The weight (outputs, inputs, k, k) of a CONV, cut into those that belong to each source."""
        return np.split(layer.weight, list(accumulate(self.inputs(layer)))[:-1], axis=1)


def _array(parameter: Tensor | None) -> np.ndarray:
    assert parameter is not None, "a convolution without batch norm has a bias"
    return np.asarray(to_host(parameter.data), np.float32)
