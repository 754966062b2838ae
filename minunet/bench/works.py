"""The networks that are compared, and what goes into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import minunet as mn
from minunet.display import info

MODES = {"infer": "inference", "train": "training step"}
STEP = 3  # a training step has about three times the operations of the forward pass


@dataclass(frozen=True)
class Work:
    """A network and the shape (N, C, H, W) of its inputs; modes: any of "infer" and "train"."""

    name: str
    title: str
    architecture: dict[str, Any]
    shape: tuple[int, int, int, int]
    modes: tuple[str, ...] = ("infer",)

    @property
    def size(self) -> str:
        n, _, h, w = self.shape
        return f"{n} x {h} x {w}"

    def model(self, dtype: Any = np.float32) -> mn.UNet:
        """The network with weights as training leaves them: no bias is 0 and no running mean is 0.

        With the values of a fresh network a bias that is forgotten, or a batch norm folded wrongly, would not show.
        """
        model = mn.UNet(self.shape[1], 2, **self.architecture, dtype=np.float32)
        rng = np.random.default_rng(1)
        state = {name: array.copy() for name, array in model.state_dict().items()}
        for name, array in state.items():
            if name.endswith((".bias", ".running_mean")):
                state[name] = rng.normal(0, 0.1, array.shape).astype(np.float32)
            elif name.endswith(".running_var") or (name.endswith(".weight") and array.ndim == 1):
                state[name] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        floating = {name: a.astype(dtype) if a.dtype.kind == "f" else a for name, a in state.items()}
        model.load_state_dict(floating)
        return model

    def draw(self, round_: int, model: mn.UNet) -> tuple[np.ndarray, np.ndarray]:
        """Input and target of a round, from -2 on, for this model: other numbers in every one."""
        rng = np.random.default_rng([7, round_ + 2])
        target = (self.shape[0], *model.output_size(self.shape[2:]))
        return rng.standard_normal(self.shape, dtype=np.float32), rng.integers(0, model.out_channels, target)

    def flops(self, mode: str, model: mn.UNet) -> float:
        """Floating-point operations of the definition: 2 for every multiply-add of a convolution."""
        macs = sum(layer.macs for layer in info.layers(model, self.shape[2:]))
        return 2.0 * macs * self.shape[0] * (STEP if mode == "train" else 1)


PAPER = {"features": (64, 128, 256, 512)}
COMMON = {"features": (16, 32, 64, 128), "padding": "same", "norm": "batch"}
SMALL = {"features": (8, 16, 32, 64), "padding": "same", "norm": "batch"}


def networks(quick: bool = False) -> dict[str, Work]:
    """The works by name; `quick`: on smaller images."""
    paper, side, small = (252, 128, 64) if quick else (572, 256, 128)
    works = (
        Work("paper", "the paper's U-Net, features 64..512, no padding", PAPER, (1, 1, paper, paper),
             ("infer", "train")),
        Work("same", "same padding, batch norm, features 16..128", COMMON, (4, 1, side, side), ("infer", "train")),
        Work("single", "same padding, batch norm, features 16..128", COMMON, (1, 1, side, side)),
        Work("small", "same padding, batch norm, features 8..64", SMALL, (1, 1, small, small)),
    )  # fmt: skip
    return {work.name: work for work in works}


def scaling(quick: bool = False) -> list[Work]:
    """One network on larger and larger images."""
    sides = (64, 128, 256) if quick else (256, 512, 1024, 2048)
    title = "same padding, batch norm, features 16..128"
    return [Work(f"scaling-{side}", title, COMMON, (1, 1, side, side)) for side in sides]
