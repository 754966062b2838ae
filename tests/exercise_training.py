"""A tiny training in which a fault can show: what the mark "the loss will not tell you" is measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import minunet as mn
from minunet import functional as F
from minunet import kernels, optim
from minunet.autograd import no_grad
from minunet.kernels.blas import one_blas_thread

STEPS, SIDE = 50, 15
FALLEN = 0.75  # of the first loss, mean over the last five: the loss falls


@dataclass(frozen=True)
class Setup:
    """A training; what is not asked for is left out."""

    loss: str = "ce"
    norm: str | None = "batch"
    skip_fit: str = "resize"
    dropout: float = 0.0
    momentum: float = 0.9
    lr: float = 0.02
    nesterov: bool = False
    class_weight: bool = False
    ignore: bool = False
    clip: float = np.inf
    batches: int = 1  # of which the gradients add up in a step


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Four noisy pictures (4, 1, SIDE, SIDE) of a disc each, and their masks (4, SIDE, SIDE)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    masks = np.stack([(y - a) ** 2 + (x - b) ** 2 < 16 for a, b in ((5, 5), (8, 9), (6, 10), (9, 5))]).astype(np.int64)
    return (masks[:, None] + 0.5 * rng.standard_normal((4, 1, SIDE, SIDE))).astype(np.float32), masks


def train(setup: Setup, reference: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every step, and the trained network's logits in evaluation.

    reference: the kernel of which the reference is to run, the others run as is usual with NumPy alone.
    """
    images, masks = pictures()
    target = np.where(np.arange(SIDE) < 3, 255, masks) if setup.ignore else masks
    used = {reference: "reference"} if reference else {}
    with kernels.use_backend("numpy"), kernels.use(**used), one_blas_thread():
        outputs = 1 if setup.loss == "bce" else 2
        model = mn.UNet(1, outputs, features=(4,), padding="same", norm=setup.norm, dropout=setup.dropout,
                        skip_fit=setup.skip_fit, seed=0)  # fmt: skip
        optimizer = optim.SGD(model.parameters(), setup.lr, setup.momentum, nesterov=setup.nesterov)
        losses = []
        for _ in range(STEPS):
            optimizer.zero_grad()
            total = 0.0
            for some in np.split(np.arange(4), setup.batches):
                loss = loss_of(setup, model(images[some]), target[some])
                loss.backward()
                total += loss.item() / setup.batches
            losses.append(total)
            optim.clip_grad_norm(model.parameters(), setup.clip)
            optimizer.step()
        model.eval()
        with no_grad():
            return np.array(losses), model(images).data.copy()


def loss_of(setup: Setup, logits: mn.Tensor, target: np.ndarray) -> mn.Tensor:
    if setup.loss == "bce":
        return F.binary_cross_entropy_with_logits(logits, target[:, None].astype(np.float32))
    per_class = np.array([1.0, 3.0]) if setup.class_weight else None
    return F.cross_entropy(logits, target, class_weight=per_class, ignore_index=255 if setup.ignore else None)


def falls(losses: np.ndarray) -> bool:
    return bool(losses[-5:].mean() < FALLEN * losses[0])
