"""Both networks written plainly in PyTorch: the peer that minunet is held against, in tests and benchmarks.

UNET is the common later form in the words in which it is usually written ("the article's"), PaperUNet the network of
Ronneberger, Fischer and Brox (2015).  Their parameters have the names and shapes of `minunet.UNet`, so that state dicts
go from one to the other.
"""

import torch
import torch.nn.functional as TF
from torch import nn


class DoubleConv(nn.Module):
    """The article's: two 3 x 3 convolutions that keep the size, each with batch norm and ReLU."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.conv(x)


class UNET(nn.Module):
    """The article's network."""

    def __init__(self, in_channels=3, out_channels=1, features=(64, 128, 256, 512)):
        super().__init__()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        for feature in features:
            self.downs.append(DoubleConv(in_channels, feature))
            in_channels = feature
        below = features[-1] * 2
        for feature in reversed(features):
            # The article has feature * 2 for `below`, the same as long as features double.
            self.ups.append(nn.ConvTranspose2d(below, feature, kernel_size=2, stride=2))
            self.ups.append(DoubleConv(feature * 2, feature))
            below = feature
        self.bottleneck = DoubleConv(features[-1], features[-1] * 2)
        self.final_conv = nn.Conv2d(features[0], out_channels, kernel_size=1)

    def forward(self, x):
        skip_connections = []
        for down in self.downs:
            x = down(x)
            skip_connections.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        skip_connections = skip_connections[::-1]
        for idx in range(0, len(self.ups), 2):
            x = self.ups[idx](x)
            skip_connection = skip_connections[idx // 2]
            if x.shape != skip_connection.shape:
                size = skip_connection.shape[2:]
                x = TF.interpolate(x, size=size, mode="bilinear", align_corners=False)
            concat_skip = torch.cat((skip_connection, x), dim=1)
            x = self.ups[idx + 1](concat_skip)
        return self.final_conv(x)


class ValidDoubleConv(nn.Module):
    """The paper's: two 3 x 3 convolutions without padding, each with a bias and ReLU."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.conv(x)


class PaperUNet(nn.Module):
    """The paper's network without its dropout, whose random numbers PyTorch and NumPy do not share."""

    def __init__(self, in_channels=1, out_channels=2, features=(64, 128, 256, 512)):
        super().__init__()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for feature in features:
            self.downs.append(ValidDoubleConv(in_channels, feature))
            in_channels = feature
        self.bottleneck = ValidDoubleConv(features[-1], features[-1] * 2)
        below = features[-1] * 2
        for feature in reversed(features):
            self.ups.append(nn.ConvTranspose2d(below, feature, 2, 2))
            self.ups.append(ValidDoubleConv(feature * 2, feature))
            below = feature
        self.final_conv = nn.Conv2d(features[0], out_channels, 1)

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = TF.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for up, conv in zip(self.ups[::2], self.ups[1::2], strict=True):
            x = up(x)
            skip = skips.pop()
            top, left = ((skip.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
            skip = skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]
            x = conv(torch.cat((skip, x), dim=1))
        return self.final_conv(x)


def build(architecture, in_channels, out_channels, features):
    """The network of this `architecture`, "article" or "paper"."""
    network = UNET if architecture == "article" else PaperUNet
    return network(in_channels, out_channels, features)


def load(model, state):
    """Copy `state`, {name: array}, into a PyTorch model, which takes its floating dtype."""
    floating = next(a.dtype for a in state.values() if a.dtype.kind == "f")
    model.to(torch.float64 if floating == "float64" else torch.float32)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    return model
