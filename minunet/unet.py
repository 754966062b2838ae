"""The U-Net: one loop down, one loop up.

Two networks, one class.  The paper's (Ronneberger, Fischer and Brox, 2015): convolutions without padding, so that the
picture shrinks and the skips are cropped.  The common later form: padding "same" and batch norm, output as large as
the input.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from . import device as devices
from . import functional as F
from . import kernels
from .autograd import Array, Tensor, grad_enabled
from .display import objects as display
from .nn import BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, Module, ModuleList, ReLU, Sequential, Upsample

if TYPE_CHECKING:
    from .data import Coding, Preprocessing


UPS = ("transpose", "bilinear")
SKIP_FITS = {"resize": F.resize, "pad": F.center_pad}
MANY = 16  # times as many channels out as in, and a convolution is computed once more rather than kept


class DoubleConv(Module):
    """Two 3 x 3 convolutions, each followed by batch norm (if any) and relu; at the end dropout (if any).

    middle: channels between the two; default: as many as go out.
    """

    def __init__(self, in_channels, out_channels, padding, norm, dropout, rng, dtype, middle=None) -> None:
        layers: list[Module] = []
        for inputs, outputs in pairwise([in_channels, middle or out_channels, out_channels]):
            layers.append(Conv2d(inputs, outputs, 3, padding, bias=norm is None, rng=rng, dtype=dtype))
            if norm == "batch":
                layers.append(BatchNorm2d(outputs, dtype=dtype))
            layers.append(ReLU())
        if dropout:
            layers.append(Dropout(dropout, rng=rng))
        self.conv = Sequential(*layers)

    def forward(self, x: Tensor, **last: Any) -> Tensor:
        """Layer after layer, but a rectifier, and at inference a batch norm, are done by the layer before them.

        last: `out` and `keep` of `F.conv2d_relu` for the last layer, if it can do that; see the result's `data`.
        Where the first layer makes many channels of few, its output is as large as the computation is cheap: with a
        graph it is not kept, but computed once more.
        """
        layers = list(self.conv)
        while layers:
            layer, following = layers.pop(0), [type(module) for module in layers[:2]]
            if following[:1] == [ReLU]:
                del layers[:1]
                cheap = isinstance(layer, Conv2d) and layer.weight.shape[0] >= MANY * layer.weight.shape[1]
                x = layer(x, relu=True, **({"again": True} if layers and cheap else {} if layers else last))
            elif following == [BatchNorm2d, ReLU] and not self.training and not grad_enabled():
                norm = layers[0]
                del layers[:2]
                x = layer(x, relu=True, norm=norm, **({} if layers else last))
            else:
                x = layer(x)
        return x


class UNet(Module):
    """A U-Net with `len(features)` levels above the bottleneck.

    in_channels, out_channels: of the image and of the logits.
    features: channels of each level from the top; the bottleneck has twice the last.
    padding: "valid" (each double convolution takes 4 px off a side, skips are cropped at the centre) or "same"
        (zero padding, any size from 2^levels px up).
    norm: None, or "batch" for batch norm after every 3 x 3 convolution, which then has no bias.
    skip_fit: what happens with padding "same" to an up path that is smaller than its skip, since halving dropped a row
        or a column: "resize" to the skip's size (bilinear), or "pad" it with zeros, as another common form does.
    up: "transpose", an up-convolution 2 x 2 that halves the channels, or "bilinear", interpolation (align_corners) that
        leaves them; then the convolutions before it do: the bottleneck has as many as the last level, and each double
        convolution on the way up gives as many as the next skip has.
    dropout: probability of dropping after the deepest level and after the bottleneck, in training only.
    seed: of the weights N(0, sqrt(2 / incoming nodes)), biases 0, and of dropout.

    A model lies on the CPU, unless the backend in force is "cuda"; `to` moves it.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512),
        padding: str = "valid",
        norm: str | None = None,
        dropout: float = 0.0,
        dtype: Any = np.float32,
        seed: int = 0,
        skip_fit: str = "resize",
        up: str = "transpose",
    ) -> None:
        features = [_positive("features", f) for f in features]
        in_channels, out_channels = _positive("in_channels", in_channels), _positive("out_channels", out_channels)
        if not features:
            raise ValueError("features must name at least one level")
        if padding not in ("valid", "same"):
            raise ValueError(f"padding must be 'valid' or 'same', found {padding!r}")
        if norm not in (None, "batch"):
            raise ValueError(f"norm must be None or 'batch', found {norm!r}")
        if skip_fit not in SKIP_FITS:
            raise ValueError(f"skip_fit must be 'resize' or 'pad', found {skip_fit!r}")
        if skip_fit != "resize" and padding == "valid":
            raise ValueError(f"skip_fit={skip_fit!r} is for padding 'same': with 'valid' the skips are cropped")
        if up not in UPS:
            raise ValueError(f"up must be 'transpose' or 'bilinear', found {up!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, found {dropout}")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, found {np.dtype(dtype)}")
        self.in_channels, self.out_channels, self.features = in_channels, out_channels, tuple(features)
        self.padding, self.norm, self.dropout = padding, norm, float(dropout)
        self.skip_fit, self.up = skip_fit, up
        self.preprocessing: Preprocessing | None = None
        self.coding: Coding | None = None

        rng = np.random.default_rng(seed)
        common = {"padding": int(padding == "same"), "norm": norm, "rng": rng, "dtype": dtype}
        downs: list[Module] = []
        ups: list[Module] = []
        channels = in_channels
        for f in features:
            downs.append(DoubleConv(channels, f, dropout=dropout * (len(downs) == len(features) - 1), **common))
            channels = f
        self.downs = ModuleList(*downs)
        channels = bottleneck_channels(features, up)
        self.bottleneck = DoubleConv(features[-1], channels, dropout=dropout, **common)
        for f, outputs in way_up(features, up):
            ups.append(Upsample() if up == "bilinear" else ConvTranspose2d(channels, f, 2, rng=rng, dtype=dtype))
            ups.append(DoubleConv(2 * f, outputs, dropout=0, middle=f, **common))
            channels = outputs
        self.ups = ModuleList(*ups)
        self.final_conv = Conv2d(channels, out_channels, 1, rng=rng, dtype=dtype)
        self.to(devices.current())

    def forward(self, x: Tensor) -> Tensor:
        """x (N, in_channels, H, W) -> logits (N, out_channels, H', W'); ValueError for a size that does not fit."""
        x = self._checked(x)
        # What is concatenated on the way up is one array: its first channels for the skip, the rest for the
        # up-convolution.  With padding the skip is written there at once.  Where skips are cropped the array is made
        # on the way up, smaller, and what is left over of the skip need not be kept.
        cropped = self.padding == "valid"
        skips: list[tuple[Tensor, Array]] = []
        for features, down in zip(self.features, self.downs, strict=True):
            first, second = (None, None) if cropped else self._halves(x.data, features, x.shape[2:])
            x = down(x, out=first, keep=not cropped)
            skips.append((x, second))
            x = F.max_pool2d(x, 2)
            del first, second  # as below: so that their memory is free as soon as nothing needs them
        x = self.bottleneck(x)
        fit = SKIP_FITS[self.skip_fit]
        for level, features in enumerate(reversed(self.features)):
            skip, room = skips.pop()
            size = (2 * x.shape[2], 2 * x.shape[3])
            if cropped:
                first, room = self._halves(x.data, features, size)
                skip = F.center_crop(skip, size, out=first)
                del first
            up = self.ups[2 * level]
            x = up(x, out=room) if size == skip.shape[2:] else fit(up(x), skip.shape[2:], out=room)
            x = F.concat([skip, x])
            del skip, room
            x = self.ups[2 * level + 1](x)
        return self.final_conv(x)

    def _halves(self, x: Array, features: int, size: Sequence[int]) -> tuple[Array, Array]:
        """Two arrays (len(x), features, *size) that are the halves of one, where x lies."""
        joint = kernels.empty((len(x), 2 * features, *size), self.dtype, like=x)
        return joint[:, :features], joint[:, features:]

    def __call__(self, x: Any, **options: Any) -> Tensor:
        """Logits of x (N, C, H, W); an array is taken in the model's dtype, a Tensor must have it.

        What lies on the host is brought to a model on a GPU.
        """
        on_gpu = "cuda" in (self.device, devices.current())
        if not isinstance(x, Tensor):
            x = x.astype(self.dtype, copy=False) if kernels.on_device(x) else np.asarray(x, self.dtype)
            x = Tensor(devices.upload(x)[0] if on_gpu and not kernels.on_device(x) else x)
        return self.forward(F.to_device(x) if on_gpu else x, **options)

    def _checked(self, x: Tensor) -> Tensor:
        if x.data.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"the model takes images (N, {self.in_channels}, H, W), found shape {x.shape}")
        if x.dtype != self.dtype:
            raise TypeError(f"the model computes in {self.dtype}, found a Tensor of {x.dtype}")
        self.output_size(x.shape[2:])
        return x

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the logits for an image of `size` = (h, w) px.

        padding "same": the size itself, from 2^levels px a side up.  padding "valid": side - 12 * 2^levels + 8, for
        sides that are -4 modulo 2^levels.  ValueError for any other size; it names the nearest legal ones.
        """
        step = 2**self.levels
        h, w = (int(side) for side in size)
        if self.padding == "same":
            if min(h, w) < step:
                raise ValueError(
                    f"an image of {h} x {w} px is too small: {self.levels} levels need at least {step} px a side"
                )
            return h, w
        for side in (h, w):
            nearest = legal_sides(side, self.levels)
            if side not in nearest:
                raise ValueError(
                    f"an image of {h} x {w} px does not fit a valid-padded network of {self.levels} levels: "
                    f"the legal sides nearest to {side} are {' and '.join(map(str, nearest))}"
                )
        return h - 12 * step + 8, w - 12 * step + 8

    @property
    def levels(self) -> int:
        """How often the picture is halved."""
        return len(self.features)

    @property
    def dtype(self) -> np.dtype:
        """float32 or float64, that of the parameters."""
        return self.final_conv.weight.dtype

    @property
    def architecture(self) -> dict[str, Any]:
        """The constructor's arguments, ready for JSON: UNet(**architecture) has the same layers.

        skip_fit and up are named only where they are not the default: what else there is stays as it was before them.
        """
        unusual = {} if self.skip_fit == "resize" else {"skip_fit": self.skip_fit}
        unusual |= {} if self.up == "transpose" else {"up": self.up}
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "features": list(self.features),
            "padding": self.padding,
            "norm": self.norm,
            "dropout": self.dropout,
            "dtype": str(self.dtype),
            **unusual,
        }

    def __repr__(self) -> str:
        count = sum(p.data.size for p in self.parameters())
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.architecture.items())
        return f"UNet({arguments})  # {count:,} parameters"

    def _repr_html_(self) -> str:
        return display.model_html(self)


def bottleneck_channels(features: Sequence[int], up: str) -> int:
    """How many leave the bottleneck: twice the last level's, or as many where interpolation cannot halve them."""
    return features[-1] * (1 if up == "bilinear" else 2)


def way_up(features: Sequence[int], up: str) -> list[tuple[int, int]]:
    """(channels of the skip, channels that leave the double convolution) of each level, from the bottom.

    Two times the skip's channels go in, and as many as the skip has are between the two convolutions.
    """
    outputs = [features[0], *features[:-1]] if up == "bilinear" else features
    return list(zip(reversed(features), reversed(outputs), strict=True))


def legal_sides(side: int, levels: int) -> list[int]:
    """Legal input sides of a valid-padded network nearest to `side`: itself, or the next below (if any) and above.

    They are -4 modulo 2^levels, and above 12 * 2^levels - 8, so that something is left of the output.
    """
    step = 2**levels
    smallest = 12 * step - 8 + min(step, 4)
    below = (side + 4) // step * step - 4
    if below < smallest:
        return [smallest]
    return [side] if below == side else [below, below + step]


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ValueError(f"{name} must be positive integers, found {value!r}")
    return int(value)
