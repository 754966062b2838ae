"""The networks whose checkpoints `mn.load_torch` recognises, in minunet's operations, under their own names.

Each function runs its network once on an image and notes the parameters that it makes up on the way: a state_dict, and
what the network gives with it. So the layouts are tested where PyTorch is not installed, too.
"""

from itertools import pairwise

import numpy as np

import minunet.functional as F


class Parameters:
    """Made up when they are first asked for; `state` holds all of them by name."""

    def __init__(self, dtype=np.float64, seed=0):
        self.state, self.dtype, self.rng = {}, dtype, np.random.default_rng(seed)

    def get(self, name, shape, around=0.0, spread=0.3):
        numbers = around + spread * self.rng.uniform(-1, 1, shape)
        return self.state.setdefault(name, numbers.astype(self.dtype))

    def conv(self, name, x, outputs, kernel=3, bias=False):
        inputs = x.shape[1]
        weight = self.get(f"{name}.weight", (outputs, inputs, kernel, kernel), spread=2 / (kernel * inputs**0.5))
        return F.conv2d(x, weight, self.get(f"{name}.bias", (outputs,)) if bias else None, padding=kernel // 2)

    def up(self, name, x, outputs):
        weight = self.get(f"{name}.weight", (x.shape[1], outputs, 2, 2), spread=2 / x.shape[1] ** 0.5)
        return F.conv_transpose2d(x, weight, self.get(f"{name}.bias", (outputs,)))

    def norm(self, name, x):
        channels = (x.shape[1],)
        self.state.setdefault(f"{name}.num_batches_tracked", np.array(7))
        weight, bias = self.get(f"{name}.weight", channels, 1), self.get(f"{name}.bias", channels)
        mean, var = self.get(f"{name}.running_mean", channels), self.get(f"{name}.running_var", channels, 1)
        return F.relu(F.batch_norm(x, weight, bias, mean, var, training=False))

    def double(self, name, x, outputs, bias=False, names=("{}.0", "{}.1", "{}.3", "{}.4"), middle=None):
        first, first_norm, second, second_norm = (part.format(name) for part in names)
        x = self.norm(first_norm, self.conv(first, x, middle or outputs, bias=bias))
        return self.norm(second_norm, self.conv(second, x, outputs, bias=bias))


def article(p, x, outputs, features):
    skips = []
    for i, feature in enumerate(features):
        skips.append(p.double(f"downs.{i}.conv", x, feature))
        x = F.max_pool2d(skips[-1])
    x = p.double("bottleneck.conv", x, 2 * features[-1])
    for i, feature in enumerate(reversed(features)):
        x, skip = p.up(f"ups.{2 * i}", x, feature), skips.pop()
        x = x if x.shape == skip.shape else F.resize(x, skip.shape[2:])
        x = p.double(f"ups.{2 * i + 1}.conv", F.concat([skip, x]), feature)
    return p.conv("final_conv", x, outputs, 1, bias=True)


def starred(p, x, outputs, features, bias=False, bilinear=False):
    widths = [*features, features[-1] if bilinear else 2 * features[-1]]
    above = [features[0], *features[:-1]] if bilinear else features
    skips = [p.double("inc.double_conv", x, features[0], bias)]
    for i, (_, below) in enumerate(pairwise(widths), 1):
        skips.append(p.double(f"down{i}.maxpool_conv.1.double_conv", F.max_pool2d(skips[-1]), below, bias))
    x = skips.pop()
    for i, (feature, out) in enumerate(zip(reversed(features), reversed(above), strict=True), 1):
        skip, doubled = skips.pop(), (2 * x.shape[2], 2 * x.shape[3])
        x = F.resize(x, doubled, align_corners=True) if bilinear else p.up(f"up{i}.up", x, feature)
        down, across = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
        rows, columns = (down // 2, down - down // 2), (across // 2, across - across // 2)
        x = np.pad(x.data, ((0, 0), (0, 0), rows, columns))
        x = p.double(f"up{i}.conv.double_conv", F.concat([skip, x]), out, bias, middle=feature)
    return p.conv("outc.conv", x, outputs, 1, bias=True)


def hub(p, x, outputs, features):
    def block(path, name, x, feature):
        parts = [f"{{}}.{name}{part}" for part in ("conv1", "norm1", "conv2", "norm2")]
        return p.double(path, x, feature, names=parts)

    skips = []
    for i, feature in enumerate(features, 1):
        skips.append(block(f"encoder{i}", f"enc{i}", x, feature))
        x = F.max_pool2d(skips[-1])
    x = block("bottleneck", "bottleneck", x, 2 * features[-1])
    for i, feature in reversed(list(enumerate(features, 1))):
        x = F.concat([p.up(f"upconv{i}", x, feature), skips.pop()])
        x = block(f"decoder{i}", f"dec{i}", x, feature)
    return p.conv("conv", x, outputs, 1, bias=True)
