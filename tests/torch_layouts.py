"""The networks whose checkpoints `mn.load_torch` recognises, in PyTorch: same names, shapes and computation.

Written for these tests, for any number of levels; `starred` is the most-starred U-Net for PyTorch, `hub` that of
PyTorch's hub for MRI of brains. The article's is in torch_models.py.
"""

from itertools import pairwise

import torch
import torch.nn.functional as TF
from torch import nn


def _double_conv(inputs, outputs, bias=False, middle=None):
    layers = []
    for before, after in pairwise([inputs, middle or outputs, outputs]):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=bias), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class _Named(nn.Module):
    """Modules by name, for paths such as down1.maxpool_conv.1.double_conv."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Starred(nn.Module):
    """inc, down1 ..., up1 ..., outc; what is smaller than its skip is padded with zeros."""

    def __init__(self, inputs, outputs, features, bias=False, bilinear=False):
        super().__init__()
        widths = [*features, features[-1] if bilinear else 2 * features[-1]]
        given = [features[0], *features[:-1]] if bilinear else features
        self.levels = len(features)
        self.inc = _Named(double_conv=_double_conv(inputs, widths[0], bias))
        for i, (above, below) in enumerate(pairwise(widths), 1):
            double_conv = _Named(double_conv=_double_conv(above, below, bias))
            setattr(self, f"down{i}", _Named(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), double_conv)))
            if bilinear:
                up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            else:
                up = nn.ConvTranspose2d(below, above, 2, stride=2)
            conv = _Named(double_conv=_double_conv(2 * above, given[i - 1], bias, middle=above))
            setattr(self, f"up{self.levels + 1 - i}", _Named(up=up, conv=conv))
        self.outc = _Named(conv=nn.Conv2d(widths[0], outputs, 1))

    def forward(self, x):
        x = self.inc.double_conv(x)
        skips = []
        for i in range(1, self.levels + 1):
            skips.append(x)
            pool, following = getattr(self, f"down{i}").maxpool_conv
            x = following.double_conv(pool(x))
        for i in range(1, self.levels + 1):
            up = getattr(self, f"up{i}")
            x, skip = up.up(x), skips.pop()
            down, across = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
            x = TF.pad(x, [across // 2, across - across // 2, down // 2, down - down // 2])
            x = up.conv.double_conv(torch.cat([skip, x], dim=1))
        return self.outc.conv(x)


class Hub(nn.Module):
    """encoder1 ..., bottleneck, upconv1 ... and decoder1 ..., conv; sigmoid at the end unless logits are asked for."""

    def __init__(self, inputs, outputs, features):
        super().__init__()
        self.levels = len(features)
        widths = [*features, 2 * features[-1]]
        for i, (feature, below) in enumerate(pairwise(widths), 1):
            setattr(self, f"encoder{i}", self._block(inputs, feature, f"enc{i}"))
            setattr(self, f"upconv{i}", nn.ConvTranspose2d(below, feature, 2, stride=2))
            setattr(self, f"decoder{i}", self._block(2 * feature, feature, f"dec{i}"))
            inputs = feature
        self.bottleneck = self._block(inputs, 2 * inputs, "bottleneck")
        self.conv = nn.Conv2d(features[0], outputs, 1)

    @staticmethod
    def _block(inputs, outputs, name):
        block = nn.Sequential()
        for i, channels in enumerate((inputs, outputs), 1):
            block.add_module(f"{name}conv{i}", nn.Conv2d(channels, outputs, 3, padding=1, bias=False))
            block.add_module(f"{name}norm{i}", nn.BatchNorm2d(outputs))
            block.add_module(f"{name}relu{i}", nn.ReLU(inplace=True))
        return block

    def forward(self, x, logits=False):
        skips = []
        for i in range(1, self.levels + 1):
            x = getattr(self, f"encoder{i}")(x)
            skips.append(x)
            x = TF.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for i in range(self.levels, 0, -1):
            x = torch.cat([getattr(self, f"upconv{i}")(x), skips.pop()], dim=1)
            x = getattr(self, f"decoder{i}")(x)
        x = self.conv(x)
        return x if logits else torch.sigmoid(x)


def settled(model, dtype=torch.float32, seed=0):
    """The model in evaluation mode, every parameter and buffer at a value that a mistake would show."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 0:
            tensor.fill_(7)
        elif tensor.ndim == 1:
            around = 1.0 if name.endswith(("weight", "running_var")) else 0.0
            spread = 0.1 if name.endswith("running_var") else 0.3
            tensor.copy_(around + spread * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_()
    return model.to(dtype).eval()
