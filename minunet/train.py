"""The training loop: batches in, steps of SGD, a look at the validation images now and then.

`fit` is the loop of the command line and of Python alike. All of its defaults are in `Recipe`.
The same seed, data, number of steps and kernels give the same weights to the last bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from minunet import budget, metrics, optim
from minunet import functional as F
from minunet.autograd import Tensor, no_grad
from minunet.data import Dataset, batch
from minunet.errors import UsageError, WorkFailed
from minunet.predict import predict_logits, probabilities
from minunet.unet import UNet, legal_sides

VALIDATION_IMAGES = 64  # at most so many are looked at, evenly spaced over the set
REPORTS = 120  # records a run, at most
DEFAULT_CROP = 128  # side of the largest crop that is chosen unasked
LOSSES = ("ce", "ce+dice", "dice", "bce")
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
    loss: str | None = None  # one of LOSSES; None: "bce" for a single logit, else "ce+dice"
    schedule: str = "cosine"
    warmup: int | None = None  # steps in which the rate grows to lr; None: a twentieth of all
    clip: float | None = 1.0  # largest norm of the gradient; None: no limit
    augment: bool = True  # random flips and quarter turns
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:  # a negative clip would turn the gradient round
                raise UsageError(f"{name} must be above 0, not {value}")
        if self.loss is not None and self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}, not {self.loss!r}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")


@dataclass
class History:
    """What happened in a run; `records` are the lines of log.jsonl.

    A record has step, steps, loss (mean since the record before), lr, images_per_second and
    seconds; where the validation images were looked at also score, validation_loss and best.
    Record 0 is the network before its first step.
    """

    steps: int
    records: list[dict[str, Any]] = field(default_factory=list)
    best_step: int | None = None
    best_score: float | None = None
    stopped_at: int | None = None  # the step at which the time was up, if it came to that

    def is_best(self, record: dict[str, Any]) -> bool:
        """Whether a record has the best score so far; notes it here and in the record."""
        if "score" not in record:
            return False
        record["best"] = self.best_score is None or record["score"] > self.best_score
        if record["best"]:
            self.best_step, self.best_score = record["step"], record["score"]
        return record["best"]

    def add(self, record: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
        self.records.append(record)
        report(record)


def fit(
    model: UNet,
    dataset: Dataset,
    validation: Dataset | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[int, float], None] | None = None,
    **recipe: Any,
) -> History:
    """Train a model in place.

    dataset, validation: from `minunet.data.load_folder` or `minunet.data.from_arrays`.
    steps, minutes: how long. Of minutes a number of steps is made once, at the start, by timing
        a few, and stands in `History.steps`: `steps=` with that number repeats the run. With both
        it is that number of steps, unless the time is up before.
    report: called with every record of the history. Where the record says best, the model holds
        the best weights so far at that moment, so that the caller can save them.
    progress: called after every step with (steps done, loss).
    recipe: the fields of `Recipe`, e.g. lr=0.02, batch_size=4, crop=256, loss="ce".

    With validation images the model ends with the weights that scored best on them, without with
    the last ones. It takes over the preprocessing and the coding of the data set.

    Raises UsageError (a ValueError) where data, model and recipe do not fit each other, and
    WorkFailed where the loss is no longer finite.
    """
    trainer = Trainer(model, dataset, validation, Recipe(**recipe))
    return trainer.fit(steps, minutes, report or _ignore, progress or _ignore)


class Trainer:
    """A model with its data and its recipe: `step` and `validate`, and the loop over them."""

    def __init__(self, model: UNet, dataset: Dataset, validation: Dataset | None, recipe: Recipe) -> None:
        _check_fit(model, dataset)
        if validation is not None:
            _check_alike(dataset, validation)
        self.model, self.dataset, self.recipe = model, dataset, recipe
        self.validation = None if validation is None else evenly(validation, VALIDATION_IMAGES)
        self.crop = checked_crop(model, default_crop(model, dataset) if recipe.crop is None else recipe.crop)
        self.loss_name = recipe.loss or ("bce" if model.out_channels == 1 else "ce+dice")
        self.loss = loss_function(self.loss_name, model.out_channels)
        self.optimizer = _optimizer(model, recipe)
        model.preprocessing, model.coding = dataset.preprocessing, dataset.coding

    def fit(
        self,
        steps: int | None,
        minutes: float | None,
        report: Callable[[dict[str, Any]], None],
        progress: Callable[[int, float], None],
    ) -> History:
        """`fit`, with steps, minutes or both."""
        if steps is None and minutes is None:
            raise UsageError("training needs steps, minutes or both")
        if (steps is not None and steps < 1) or (minutes is not None and not 0 < minutes < math.inf):
            raise UsageError("steps and minutes must be above 0, and minutes finite")
        if minutes is None:
            return self.run(steps or 1, math.inf, {}, report, progress)
        now, seconds = time.monotonic(), 60 * minutes
        if steps is not None:
            return self.run(steps, now + seconds, {}, report, progress)
        plan = self.on_a_copy().estimate(seconds)
        return self.run(plan.steps, now + budget.LIMIT * seconds, asdict(plan), report, progress)

    def on_a_copy(self) -> Trainer:
        """The same with a model of its own, to be timed without a trace in this one."""
        twin = UNet(**self.model.architecture)
        return Trainer(twin, self.dataset, self.validation, self.recipe)

    def warm_up(self) -> None:
        """A step and a look on a copy, so that the kernels are compiled before time counts."""
        twin = self.on_a_copy()
        twin.step(0, self.recipe.lr)
        twin.validate()

    def estimate(self, seconds: float) -> budget.Estimate:
        return budget.estimate(seconds, lambda: self.step(0, self.recipe.lr), self.validate)

    def step(self, step: int, lr: float) -> float:
        """One batch, forwards, backwards, one step of SGD; the loss before the step."""
        x, target = self.batch(step)
        self.optimizer.zero_grad()  # before the way forward, which then has their memory
        loss = self.loss(self.model(x), target)
        value = float(loss.item())
        loss.backward()
        norm = 0.0
        if self.recipe.clip is not None:
            norm = optim.clip_grad_norm(self.model.parameters(), self.recipe.clip)
        if not (math.isfinite(value) and math.isfinite(norm)):
            what = "loss" if not math.isfinite(value) else "gradient"
            raise WorkFailed(
                f"the {what} is no longer finite at step {step + 1} (learning rate {lr:.3g}): "
                f"try a lower --lr than {self.recipe.lr:g}, and look for odd values in the images"
            )
        self.optimizer.lr = lr
        self.optimizer.step()
        return value

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        x, target = batch(
            self.dataset,
            step,
            seed=self.recipe.seed,
            batch_size=self.recipe.batch_size,
            crop=self.crop,
            augment=self.recipe.augment,
            output_margin=(self.crop[0] - self.model.output_size(self.crop)[0]) // 2,
        )
        return x.astype(self.model.dtype, copy=False), target

    def validate(self) -> dict[str, float]:
        """Score and loss on the validation images; nothing where there are none."""
        if self.validation is None:
            return {}
        predicted, losses = [], []
        for x, target in zip(self.validation.images, self.validation.targets, strict=True):
            logits = predict_logits(self.model, x.astype(self.model.dtype, copy=False))
            predicted.append(probabilities(logits).argmax(axis=0))
            with no_grad():
                losses.append(self.loss(logits[None], target[None]).item())
        score = metrics.score(predicted, self.validation.truth, self.validation.coding.classes)
        return {"score": float(score), "validation_loss": float(np.mean(losses))}

    def run(
        self,
        steps: int,
        deadline: float,
        timing: dict[str, float],
        report: Callable[[dict[str, Any]], None],
        progress: Callable[[int, float], None],
    ) -> History:
        """All the steps, with a record for `report` every few of them."""
        history = History(steps)
        best: dict[str, np.ndarray] = {}
        watch = _Watch()
        history.add({"step": 0, "steps": steps, **self.validate(), **timing}, report)
        watch.restart()
        self.model.train()
        for done in range(1, steps + 1):
            lr = learning_rate(self.recipe, done - 1, steps)
            watch.add(self.step(done - 1, lr), self.recipe.batch_size)
            progress(done, watch.losses[-1])
            if done < steps and time.monotonic() > deadline:
                history.stopped_at = done
            last = done == steps or history.stopped_at is not None
            look = last or budget.falls_due(done, steps, budget.VALIDATIONS)
            if not (look or budget.falls_due(done, steps, REPORTS)):
                continue
            record = {"step": done, "steps": steps, "lr": lr, **watch.summary()}
            if look:
                record |= self.validate()
            if history.is_best(record):
                best = {name: value.copy() for name, value in self.model.state_dict().items()}
            history.add(record, report)
            watch.restart()
            if last:
                break
        if best:
            self.model.load_state_dict(best)
        return history


class _Watch:
    """Mean loss and images a second between two records, validation not counted."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.restart()

    def restart(self) -> None:
        self.since = time.monotonic()
        self.losses: list[float] = []
        self.images = 0

    def add(self, loss: float, images: int) -> None:
        self.losses.append(loss)
        self.images += images

    def summary(self) -> dict[str, float]:
        now = time.monotonic()
        return {
            "loss": float(np.mean(self.losses)),
            "images_per_second": self.images / max(now - self.since, 1e-9),
            "seconds": now - self.begin,
        }


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


def _optimizer(model: UNet, recipe: Recipe) -> optim.SGD:
    try:
        return optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The rate of step 0 .. steps - 1: a linear warm-up, then the schedule."""
    warmup = steps // 20 if recipe.warmup is None else min(recipe.warmup, steps)
    if recipe.schedule == "cosine":
        return optim.cosine(step, steps, recipe.lr, warmup)
    if recipe.schedule == "step":  # a tenth after each third of the run
        return optim.step_decay(step, recipe.lr, max(1, -(-steps // 3)), 0.1, warmup)
    return recipe.lr * optim.warm_up(step, warmup)


def default_crop(model: UNet, dataset: Dataset) -> tuple[int, int]:
    """Whole images where all are of one fitting size of at most DEFAULT_CROP, else squares.

    The side is the largest the network takes as it is (a multiple of 2^levels) up to DEFAULT_CROP and up to
    the usual (median) short side of the images; smaller images are continued by reflection.
    A valid network gets the input size whose output is at least that large.
    """
    sizes = {image.shape[1:] for image in dataset.images}
    block = 2**model.levels
    usual = int(np.median([min(image.shape[1:]) for image in dataset.images]))
    side = max(2 * block, min(usual, DEFAULT_CROP) // block * block)
    if model.padding == "valid":
        side = legal_sides(side + 12 * block - 8, model.levels)[-1]
        return side, side
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        if height % block == width % block == 0 and max(height, width) <= DEFAULT_CROP:
            return height, width
    return side, side


def checked_crop(model: UNet, crop: int | tuple[int, int]) -> tuple[int, int]:
    """The crop as (height, width), if the network can train on it."""
    sides = np.ravel(crop)
    if sides.dtype.kind not in "iu" or len(sides) not in (1, 2):
        raise UsageError(f"crop must be a whole number or (height, width), not {crop!r}")
    height, width = int(sides[0]), int(sides[-1])
    try:
        model.output_size((height, width))
    except ValueError as error:
        raise UsageError(f"the crop does not fit: {error}") from None
    return height, width


def evenly(dataset: Dataset, count: int) -> Dataset:
    """At most `count` images of the data set, evenly spaced over it."""
    if len(dataset) <= count:
        return dataset
    return dataset.subset([i * len(dataset) // count for i in range(count)])


def _check_fit(model: UNet, dataset: Dataset) -> None:
    if not isinstance(dataset, Dataset):
        raise UsageError("training needs a Dataset: minunet.data.from_arrays(images, masks) makes one, or load_folder")
    channels = dataset.channels
    needed = model.in_channels
    if channels != needed:
        raise UsageError(f"the images have {channels} channels, the model takes {needed}")
    classes, outputs = dataset.coding.classes, model.out_channels
    if classes != (2 if outputs == 1 else outputs):
        raise UsageError(f"the masks have {classes} classes, the model has {outputs} output channels")


def _check_alike(dataset: Dataset, validation: Dataset) -> None:
    """Sets that were read apart may disagree on what class 1 is; their scores would mean nothing."""
    if not isinstance(validation, Dataset):
        raise UsageError("validation must be a Dataset, as the training data is")
    one, other = dataset.coding, validation.coding
    # Two classes are background and foreground, whatever stands for them in the masks.
    same_classes = one == other or one.classes == other.classes == 2
    if not same_classes or dataset.preprocessing != validation.preprocessing:
        raise UsageError(
            f"training and validation images differ in kind ({one.describe()}, {dataset.preprocessing}; "
            f"{other.describe()}, {validation.preprocessing}): give the second set the first one's, "
            "target=training.coding and preprocessing=training.preprocessing, or use Dataset.split"
        )


def _ignore(*_: Any) -> None:
    pass
