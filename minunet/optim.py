"""The step: stochastic gradient descent with momentum, the schedule of its learning rate, and gradient clipping."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import device, kernels
from .autograd import Array, Tensor


class SGD:
    """Stochastic gradient descent (momentum: Polyak, 1964; in Nesterov's form: Sutskever et al., 2013).

        g <- dL/dp + weight_decay p
        v <- momentum v + g                          (v starts as the first g)
        p <- p - lr v      or, with Nesterov,      p <- p - lr (g + momentum v)

    At a constant learning rate this equals Caffe's form, in which v already contains lr.  Parameters are changed in
    place; those without a gradient are left alone.  `lr` may be set before any step.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        momentum: float = 0.99,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError("SGD: there are no parameters")
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"SGD: {name} must be finite and at least 0, found {value}")
        if nesterov and momentum == 0:
            raise ValueError("SGD: nesterov needs a momentum above 0")
        self.lr, self.momentum, self.weight_decay, self.nesterov = lr, momentum, weight_decay, nesterov
        self.velocities: list[Array | None] = [None] * len(self.parameters)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for k, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            velocity = self.velocities[k]
            if velocity is None:
                velocity = np.zeros(parameter.data.size, parameter.dtype, like=parameter.data)
            self.velocities[k] = device.beside(velocity, parameter.data)  # where the parameter has been moved to
            self._update(parameter, parameter.grad, self.velocities[k])

    def _update(self, parameter: Tensor, gradient: Array, velocity: Array) -> None:
        data = parameter.data if parameter.data.flags.c_contiguous else parameter.data.copy()
        p, g = data.reshape(-1), gradient.ravel()
        kernels.sgd.update(p, g, velocity, self.lr, self.momentum, self.weight_decay, self.nesterov, p, velocity)
        if data is not parameter.data:  # an array in another memory order was updated as a copy
            parameter.data[...] = data.reshape(parameter.shape)


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> Any:
    """Scale all gradients, in place, so that their common Euclidean norm is at most `max_norm`.

    Returns the norm before, from squares in float64, since those of float32 may overflow.  A norm that is not finite
    leaves the gradients alone: the caller sees it in the result.  Of gradients on a GPU the norm is an array there,
    without axes, so that nobody waits for it.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients and kernels.on_device(gradients[0]):
        return _clip_on_device(gradients, max_norm)
    norm = math.sqrt(sum(float(kernels.sgd.square_sum(g.ravel())) for g in gradients))
    if max_norm < norm < math.inf:
        for g in gradients:
            g *= max_norm / norm
    return norm


def _clip_on_device(gradients: list[Array], max_norm: float) -> Array:
    """The same, on the device: a factor of 1 stands for "leave them alone"."""
    squares = kernels.empty((len(gradients),), np.float64, like=gradients[0])
    for k, g in enumerate(gradients):
        kernels.sgd.square_sum(g.ravel(), out=squares[k, ...])
    norm = np.sqrt(squares.sum())
    if max_norm < math.inf:
        factor = np.where((norm > max_norm) & (norm < math.inf), max_norm / norm, 1)
        for g in gradients:
            g *= factor.astype(g.dtype)
    return norm


def warm_up(step: int, warmup: int) -> float:
    """Factor that rises from 1 / warmup to 1 over the first `warmup` steps."""
    return min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0


def cosine(step: int, total: int, base_lr: float, warmup: int = 0) -> float:
    """Learning rate of `step` (from 0): warm-up, then half a cosine from base_lr to 0 at `total` (Loshchilov, 2017)."""
    if step < warmup:
        return base_lr * warm_up(step, warmup)
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return base_lr * 0.5 * (1 + math.cos(math.pi * progress))


def step_decay(step: int, base_lr: float, every: int, factor: float = 0.1, warmup: int = 0) -> float:
    """Learning rate of `step` (from 0): warm-up, and times `factor` after every `every` steps."""
    if every < 1:
        raise ValueError(f"step_decay: every must be at least 1, found {every}")
    return base_lr * warm_up(step, warmup) * factor ** (step // every)
