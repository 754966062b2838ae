"""How to train: the numbers, the schedule of the learning rate, the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minunet import functional as F
from minunet import optim
from minunet.autograd import Tensor
from minunet.errors import UsageError

LOSSES = ("ce", "ce+dice", "dice", "bce")
DEFAULT_LOSS, ONE_OUTPUT_LOSS = "ce+dice", "bce"  # the second for a network of a single logit
SCHEDULES = ("cosine", "step", "constant")


@dataclass(frozen=True)
class Recipe:
    """How to train. These defaults are what `minunet train` uses."""

    batch_size: int = 8
    crop: int | tuple[int, int] | None = None  # None: `default_crop`
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    loss: str | None = None  # one of LOSSES; None: DEFAULT_LOSS or ONE_OUTPUT_LOSS
    schedule: str = "cosine"
    warmup: int | None = None  # steps in which the rate grows to lr; None: a twentieth of all
    clip: float | None = 1.0  # largest norm of the gradient; None: no limit
    augment: bool = True  # random flips and quarter turns
    patience: int | None = None  # looks at the validation images without a better one, then the run ends; None: no end
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "lr", "clip", "patience"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # a negative clip would turn the gradient round
                raise UsageError(f"{name} must be above 0, not {value}")
        if self.loss is not None and self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step 0 .. steps - 1: a linear warm-up, then the schedule."""
    warmup = steps // 20 if recipe.warmup is None else min(recipe.warmup, steps)
    if recipe.schedule == "cosine":
        return optim.cosine(step, steps, recipe.lr, warmup)
    if recipe.schedule == "step":  # a tenth after each third of the run
        return optim.step_decay(step, recipe.lr, max(1, -(-steps // 3)), 0.1, warmup)
    return recipe.lr * optim.warm_up(step, warmup)


def loss_function(name: str, out_channels: int) -> Callable[[Any, np.ndarray], Tensor]:
    """(logits (N, K, H, W), class indices (N, H, W)) -> scalar Tensor."""
    if out_channels == 1:
        single = {"bce": F.binary_cross_entropy_with_logits, "dice": F.dice_loss}
        if name not in single:
            raise UsageError(f"one output channel takes the loss bce or dice, not {name}")
        return lambda logits, target: single[name](logits, target[:, None])
    several = {"ce": F.cross_entropy, "dice": F.dice_loss, "ce+dice": _ce_dice}
    if name not in several:
        raise UsageError(f"the loss {name} takes one output channel, not {out_channels}")
    return several[name]


def _ce_dice(logits: Any, target: np.ndarray) -> Tensor:
    return F.cross_entropy(logits, target) + F.dice_loss(logits, target)
