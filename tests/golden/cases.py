"""Weights and batches that minunet and PyTorch start from, made by NumPy alone.

Both the tests and make_golden.py import this, so that nothing but the resulting losses has to be stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import minunet as mn
import minunet.functional as F

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "paper": {"padding": "valid", "norm": None},
    "article": {"padding": "same", "norm": "batch"},
}


def network(architecture: str, in_channels: int, out_channels: int, features, dtype, seed=0) -> mn.UNet:
    """A minunet network with the weights of `random_state`."""
    model = mn.UNet(in_channels, out_channels, features, **ARCHITECTURES[architecture], dtype=dtype)
    model.load_state_dict(random_state(model, np.random.default_rng(seed)))
    return model


def random_state(model: mn.UNet, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays for every entry of the state dict, none of them at a special value such as 0 or 1.

    Weights of convolutions are scaled by their incoming nodes, so that deep networks neither fade nor grow.
    """
    state = {}
    for name, array in model.state_dict().items():
        numbers = rng.standard_normal(array.shape)
        if array.dtype.kind == "i":
            state[name] = np.array(3, array.dtype)
            continue
        if array.ndim == 4:
            incoming = array.shape[0] if name.startswith("ups") and "conv" not in name else array[0].size
            numbers *= np.sqrt(2 / incoming)
        elif name.endswith("running_var"):
            numbers = 0.5 + rng.random(array.shape)
        else:
            between = model.norm is not None and name.endswith("weight")  # of batch norm: around 1
            numbers = 0.1 * numbers + (1 if between else 0)
        state[name] = numbers.astype(array.dtype)
    return state


def batch(model: mn.UNet, n: int, size: tuple[int, int], weighted: bool, rng: np.random.Generator):
    """Images, targets and pixel weights (or None) for `model`, in its dtype; targets as its loss takes them."""
    h, w = model.output_size(size)
    images = rng.standard_normal((n, model.in_channels, *size)).astype(model.dtype)
    # What there is to learn: how bright the pixel in the middle of the network's view is.
    top, left = (size[0] - h) // 2, (size[1] - w) // 2
    bright = images[:, 0, top : top + h, left : left + w]
    target = np.digitize(bright, np.linspace(-0.5, 0.5, max(2, model.out_channels) - 1))
    if model.out_channels == 1:
        target = target[:, None].astype(model.dtype)
    weight = (0.5 + 9 * rng.random(target.shape) ** 4).astype(model.dtype) if weighted else None
    return images, target, weight


def loss(logits: mn.Tensor, target: np.ndarray, weight: np.ndarray | None = None) -> mn.Tensor:
    """Binary cross entropy for one logit, else cross entropy."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, target, weight)
    return F.cross_entropy(logits, target, weight)


@dataclass(frozen=True)
class Training:
    """Ten steps of stochastic gradient descent, a fresh batch each."""

    architecture: str
    channels: tuple[int, int]
    features: tuple[int, ...]
    n: int
    size: tuple[int, int]
    weighted: bool
    optimiser: dict[str, Any]
    steps: int = 10

    def model(self, dtype) -> mn.UNet:
        return network(self.architecture, *self.channels, self.features, dtype)

    def batches(self, model: mn.UNet) -> Iterator[tuple]:
        rng = np.random.default_rng(1)
        for _ in range(self.steps):
            yield batch(model, self.n, self.size, self.weighted, rng)

    def losses(self, dtype) -> list[float]:
        """The losses of minunet."""
        model = self.model(dtype)
        optimiser = mn.SGD(model.parameters(), **self.optimiser)
        losses = []
        for images, target, weight in self.batches(model):
            value = loss(model(images), target, weight)
            value.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(value.item())
        return losses


TRAININGS = {
    "paper": Training("paper", (1, 2), (6, 12), 1, (68, 60), True, {"lr": 0.01, "momentum": 0.99}),
    # 39 x 47 px are 19 x 23 one level down: the up path is resized at both levels.
    "article": Training(
        "article", (3, 1), (6, 12), 2, (39, 47), False,
        {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True},
    ),
}  # fmt: skip
