"""How to train: the numbers, the schedule of the learning rate, the loss. Named sets of these are in recipes.py."""

from __future__ import annotations

import math
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
AUGMENTATIONS = ("none", "flips", "full")
CLASS_WEIGHTS = ("none", "balanced")
SCORES = ("iou", "ap")


@dataclass(frozen=True)
class Recipe:
    """How to train. These defaults are what `minunet train` uses."""

    batch_size: int = 8
    crop: int | tuple[int, int] | None = None  # None: `default_crop`
    largest_crop: int = 128  # that it chooses: side, in pixels, of what the network gives back
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    loss: str | None = None  # one of LOSSES; None: DEFAULT_LOSS or ONE_OUTPUT_LOSS
    schedule: str = "cosine"
    warmup: int | None = None  # steps in which the rate grows to lr; None: a twentieth of all
    clip: float | None = 1.0  # largest norm of the gradient; None: no limit
    augment: str | bool = "flips"  # and quarter turns; "none"; "full": `data.Augmentation`. True is flips, False none
    elastic: float = 10.0  # pixels, of the deformation in "full": see `data.Augmentation`
    foreground: float = 0.0  # share of the crops that are placed where there is foreground
    weight_map: bool | None = None  # gaps between cells count more: `data.weight_map`; None: where masks hold instances
    w0: float = 10.0  # of the weight map: how much more the narrowest gap counts
    sigma: float = 5.0  # of the weight map, pixels: how wide gaps may be
    class_weight: str = "none"  # one of CLASS_WEIGHTS; balanced: rare classes count as much as frequent ones
    score: str | None = None  # one of SCORES, see scores/choice.py: the best model has the highest; None: by the masks
    patience: int | None = None  # looks at the validation images without a better one, then the run ends; None: no end
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.augment, bool):
            object.__setattr__(self, "augment", "flips" if self.augment else "none")
        for name in ("batch_size", "largest_crop", "lr", "clip", "patience", "sigma"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # a negative clip would turn the gradient round
                raise UsageError(f"{name} must be above 0, not {value}")
        for name in ("elastic", "w0"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be a number from 0 up, not {getattr(self, name)}")
        if not 0 <= self.foreground <= 1:
            raise UsageError(f"foreground is a share of the crops, from 0 to 1, not {self.foreground}")
        if self.loss == "dice" and (self.weight_map or self.class_weight != "none"):
            raise UsageError("the loss dice has no weights of pixels: use ce+dice, or leave the weights out")
        for name, known in (
            ("loss", (None, *LOSSES)),
            ("schedule", SCHEDULES),
            ("augment", AUGMENTATIONS),
            ("class_weight", CLASS_WEIGHTS),
            ("score", (None, *SCORES)),
        ):
            if getattr(self, name) not in known:
                listed = ", ".join(word for word in known if word)
                raise UsageError(f"{name} must be one of {listed}, not {getattr(self, name)!r}")


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step 0 .. steps - 1: a linear warm-up, then the schedule."""
    warmup = steps // 20 if recipe.warmup is None else min(recipe.warmup, steps)
    if recipe.schedule == "cosine":
        return optim.cosine(step, steps, recipe.lr, warmup)
    if recipe.schedule == "step":  # a tenth after each third of the run
        return optim.step_decay(step, recipe.lr, max(1, -(-steps // 3)), 0.1, warmup)
    return recipe.lr * optim.warm_up(step, warmup)


def loss_function(name: str, out_channels: int) -> Callable[..., Tensor]:
    """(logits (N, K, H, W), class indices (N, H, W), weight of each pixel (N, H, W) or None) -> scalar Tensor.

    The weights are those of cross entropy; Dice, of which "ce+dice" has as much, counts all pixels alike.
    """
    if out_channels == 1:
        single = {"bce": _bce, "dice": lambda logits, target: F.dice_loss(logits, target[:, None])}
        if name not in single:
            raise UsageError(f"one output channel takes the loss bce or dice, not {name}")
        return single[name]
    several = {"ce": F.cross_entropy, "dice": F.dice_loss, "ce+dice": _ce_dice}
    if name not in several:
        raise UsageError(f"the loss {name} takes one output channel, not {out_channels}")
    return several[name]


def _bce(logits: Any, target: np.ndarray, weight: np.ndarray | None = None) -> Tensor:
    each = None if weight is None else weight[:, None]
    return F.binary_cross_entropy_with_logits(logits, target[:, None], each)


def _ce_dice(logits: Any, target: np.ndarray, weight: np.ndarray | None = None) -> Tensor:
    return F.cross_entropy(logits, target, weight) + F.dice_loss(logits, target)
