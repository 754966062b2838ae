"""Whether a run was of any use; if not, a sentence with what was seen and its likely cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.data import Dataset
from minunet.scores import metrics
from minunet.training.history import History, is_constant

if TYPE_CHECKING:
    from minunet.training.train import Trainer

EARLY = 50  # steps after which a network may be judged; before, batch norm's estimates are still on their way
FEW_STEPS = 200
FEW_EPOCHS = 4.0  # times that each image was seen
FELL = 0.9  # a loss that is still above this share of what it was at first has not fallen
MOSTLY = 0.9  # share of the images
RARE = 0.02  # share of the pixels below which a class drowns in a loss that counts pixels


class UselessModel(UserWarning):
    """Training warns of what it has made."""


def on_the_way(history: History, trainer: Trainer) -> str | None:
    """Halfway, once: where every look so far found one class everywhere."""
    looks = history.looks
    if not looks or looks[-1] is not history.records[-1] or looks[-1]["step"] < EARLY:
        return None
    half = history.steps / 2
    first_of_second_half = looks[-1]["step"] >= half and (len(looks) == 1 or looks[-2]["step"] < half)
    if not first_of_second_half or not all(is_constant(look["predicted"]) for look in looks):
        return None
    return f"halfway, {_everywhere(looks[-1])}: {likely_cause(history, trainer)}"


def at_the_end(history: History, trainer: Trainer) -> str | None:
    """Where the best model predicts one class everywhere, or scores no better than what needs no learning."""
    best = history.best
    if best is None or not trainer.baselines:
        return None
    name, floor = max(trainer.baselines.items(), key=lambda item: item[1])
    if is_constant(best["predicted"]) and best["score"] <= floor:
        return f"this model is of no use: {_everywhere(best)}. {likely_cause(history, trainer)}"
    if best["score"] <= floor and _finds_foreground(best, trainer):
        return (
            f"this model finds foreground, a mean IoU of {best['mean_iou']:.3f}, but tells cells apart no better than "
            f"'{name}': its {trainer.score_name} is {best['score']:.3f}, that of '{name}' {floor:.3f}. Train longer "
            "(--minutes), with the weight map or on borders (--target borders)"
        )
    if best["score"] <= floor:
        return (
            f"this model is of little use: its score of {best['score']:.3f} is no better than {floor:.3f} for "
            f"'{name}', which needs no learning. {likely_cause(history, trainer)}"
        )
    return None


def _finds_foreground(look: dict[str, Any], trainer: Trainer) -> bool:
    """Whether a model that is judged by its cells would be of use where only the area counts."""
    if "mean_iou" not in look or trainer.validation is None:
        return False
    return look["mean_iou"] > max(metrics.baselines(trainer.validation).values())


def _everywhere(look: dict[str, Any]) -> str:
    kind = int(np.argmax(look["predicted"]))
    name = "background" if kind == 0 else "foreground" if len(look["predicted"]) == 2 else f"class {kind}"
    return f"every pixel of the validation images is predicted as {name}"


def likely_cause(history: History, trainer: Trainer) -> str:
    """The first cause that the evidence speaks for, with the evidence and what to do."""
    recipe = trainer.recipe
    shares = class_shares(trainer.dataset)
    epochs = history.records[-1]["step"] * recipe.batch_size / len(trainer.dataset)
    losses = [record["loss"] for record in history.records if "loss" in record]
    quarter = max(1, len(losses) // 4)
    first, last = float(np.mean(losses[:quarter])), float(np.mean(losses[-quarter:]))
    done = history.records[-1]["step"]
    present = np.flatnonzero(shares)
    flat = sum(map(is_flat, trainer.dataset.images))
    if flat >= MOSTLY * len(trainer.dataset):
        return (
            f"{flat} of the {len(trainer.dataset)} images that it learned from hold one value everywhere, so there is "
            "nothing in them to learn from: look at the images, and at what minunet doctor says of them"
        )
    if len(present) == 1:
        return f"The masks that it learned from hold nothing but class {present[0]}: look at them, and at --target"
    if trainer.validation is not None and np.count_nonzero(class_shares(trainer.validation)) == 1:
        return "The masks of the validation images are all of one class, so scores there say little: try another --seed"
    rarest = int(present[np.argmin(shares[present])])
    if shares[rarest] < RARE and "dice" not in trainer.loss_name:
        return (
            f"Only {100 * shares[rarest]:.2g} % of the pixels are of class {rarest}: try --loss ce+dice, which does "
            "not count pixels alone"
        )
    if done < FEW_STEPS or epochs < FEW_EPOCHS:
        seen = f" and saw each image {epochs:.1f} times" if epochs < FEW_EPOCHS else ""
        return f"It had {done} step{'s' * (done != 1)}{seen}, which is little: train longer (--steps, --minutes)"
    if last > FELL * first:
        return (
            f"The loss did not fall ({first:.3f} at first, {last:.3f} at last) with the learning rate {recipe.lr:g}: "
            f"try --lr {recipe.lr / 10:g}, and see by --overfit whether one image can be learned"
        )
    return (
        f"The loss of training fell from {first:.3f} to {last:.3f}, so what was learned does not hold for other "
        "images: do masks belong to their images, and are the validation images of the same kind? minunet doctor "
        "looks at that"
    )


def is_flat(image: np.ndarray) -> bool:
    """Whether each plane of an image (C, H, W) holds one value everywhere."""
    return bool((image == image[:, :1, :1]).all())


def class_shares(dataset: Dataset) -> np.ndarray:
    """Share of the pixels of each class, (K,) float64, in the targets of training."""
    classes = dataset.coding.classes
    counts = np.sum([np.bincount(target.ravel(), minlength=classes) for target in dataset.targets], axis=0)
    return counts / counts.sum()
