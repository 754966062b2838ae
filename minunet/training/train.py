"""The training loop: batches in, steps of SGD, a look at the validation images now and then.

`fit` is the loop of the command line and of Python alike. All of its defaults are in `Recipe` (recipe.py).
The same seed, data, number of steps and kernels give the same weights to the last bit.
"""

from __future__ import annotations

import itertools
import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from minunet import device, kernels, optim
from minunet.autograd import Array, Tensor, no_grad
from minunet.data import Augmentation, Batch, Dataset, PixelWeights, Sampler, class_map
from minunet.data.pixel_weights import balanced, weights_of
from minunet.errors import UsageError, WorkFailed
from minunet.instances.label import cells_of
from minunet.nn import Dropout
from minunet.prediction.predict import logits_of_padded, padded, probabilities
from minunet.scores import choice, metrics
from minunet.training import budget, verdict
from minunet.training.checkpoint import Keeper, read
from minunet.training.finite import first_nonfinite, remedy
from minunet.training.history import History, State
from minunet.training.interrupts import held_back
from minunet.training.prefetch import Prefetcher
from minunet.training.recipe import (
    DEFAULT_LOSS,
    LOSSES,
    ONE_OUTPUT_LOSS,
    SCHEDULES,
    Recipe,
    learning_rate,
    loss_function,
)
from minunet.training.recipes import named_recipe
from minunet.unet import UNet, legal_sides

__all__ = ["LOSSES", "SCHEDULES", "History", "Recipe", "Trainer", "fit"]

VALIDATION_IMAGES = 64  # at most so many are looked at, evenly spaced over the set
REPORTS = 120  # records a run, at most
SHOWN_LOSS = 0.5  # seconds that the loss on the display may be old, where to fetch it is to wait for a device
WORKERS = 1  # threads that make batches
# Of NumPy's warnings in a step: what is not finite in the end is told with its layer, at this step or at the next look.
NOTED: dict[str, Any] = {"over": "ignore", "invalid": "ignore"}


def fit(
    model: UNet,
    dataset: Dataset,
    validation: Dataset | None = None,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    report: Callable[[dict[str, Any]], None] | None = None,
    progress: Callable[[int, float], None] | None = None,
    workers: int = WORKERS,
    recipe: str | None = None,
    **options: Any,
) -> History:
    """Train a model in place.

    dataset, validation: from `minunet.data.load_folder` or `minunet.data.from_arrays`.
    steps, minutes: how long. Of minutes a number of steps is made once, at the start, by timing
        a few, and stands in `History.steps`: `steps=` with that number repeats the run. With both
        it is that number of steps, unless the time is up before.
    checkpoint: a file (.safetensors or .npz) that the run is kept in, to go on from should it be cut short: by
        Ctrl-C, which waits for the end of the step, or in any other way.
    resume: go on from `checkpoint`, bit for bit as if never stopped. Network, data and recipe must be those of the
        run; the weights in `model` are replaced, and steps may be left out.
    report: called with every record of the history. Where the record says best, the model holds
        the best weights so far at that moment, so that the caller can save them.
    progress: called after every step with (steps done, loss).
    A model that lies on a GPU is trained there. Nobody waits for it before the next report: `progress` is told a loss
    that may be half a second old, and a loss or gradient that is not finite is found at the report.
    workers: threads that make batches ahead of the steps; the result is the same for any number. 0: no other thread.
    recipe: a name in `minunet.training.recipes.RECIPES`, e.g. "cells": how to train; network and data are the caller's,
        so for "cells" give `dataset.with_borders()` and a network of three outputs, where masks number the cells.
    options: the fields of `Recipe`, e.g. lr=0.02, batch_size=4, crop=256, loss="ce", augment="full"; they go before
        those of the named recipe.

    With validation images the model ends with the weights that scored best on them, without with
    the last ones. It takes over the preprocessing and the coding of the data set. Warns (UserWarning) where the
    predictions are of no use, with the likely cause.

    Raises UsageError (a ValueError) where data, model and recipe do not fit each other, and
    WorkFailed where the loss, a gradient or a weight is no longer finite: it names the layer.
    """
    numbered = not isinstance(dataset, Dataset) or dataset.ids is not None
    trainer = Trainer(model, dataset, validation, named_recipe(recipe, numbered, **options), workers)
    if resume and checkpoint is None:
        raise UsageError("resume needs the file to go on from: give checkpoint")
    begun = None
    if resume and checkpoint is not None:
        found = read(checkpoint)
        if steps not in (None, found.steps):
            raise UsageError(f"{os.fspath(checkpoint)} is of a run of {found.steps} steps, not of {steps}")
        begun = found.restore(trainer)
    keeper = None if checkpoint is None else Keeper(checkpoint, trainer)
    return trainer.fit(steps, minutes, report or _ignore, progress or _ignore, keeper, begun)


class Trainer:
    """A model with its data and its recipe: `step` and `validate`, and the loop over them."""

    def __init__(
        self,
        model: UNet,
        dataset: Dataset,
        validation: Dataset | None,
        recipe: Recipe,
        workers: int = WORKERS,
    ) -> None:
        _check_fit(model, dataset)
        if workers < 0:
            raise UsageError(f"workers must be a number of threads from 0 up, not {workers}")
        if validation is not None:
            _check_alike(dataset, validation)
        elif recipe.patience is not None:
            raise UsageError("patience counts looks at validation images: there are none")
        self.model, self.dataset, self.recipe = model, dataset, recipe
        self.validation = None if validation is None else evenly(validation, VALIDATION_IMAGES)
        crop = default_crop(model, dataset, recipe.largest_crop) if recipe.crop is None else recipe.crop
        self.crop, self.workers = checked_crop(model, crop), workers
        self.loss_name = recipe.loss or (ONE_OUTPUT_LOSS if model.out_channels == 1 else DEFAULT_LOSS)
        self.loss = loss_function(self.loss_name, model.out_channels)
        self.weight_map = with_weight_map(recipe, self.loss_name, dataset)
        self.score = choice.choose(recipe.score, dataset if validation is None else validation)
        self.score_name = choice.name(self.score, dataset.coding.scored_classes)
        self.weights = pixel_weights(recipe, self.weight_map, dataset)
        self.sampler = Sampler(
            dataset,
            recipe.seed,
            recipe.batch_size,
            self.crop,
            augment=augmentation(recipe),
            weights=self.weights,
            foreground=recipe.foreground,
            output_margin=(self.crop[0] - model.output_size(self.crop)[0]) // 2,
        )
        self.validation_weights: dict[int, Array] = {}  # by image
        self.optimizer = _optimizer(model, recipe)
        self.torn = False  # whether a step was left when only some weights had moved
        self.norms: list[Array] = []  # of the gradients of the last steps on a device, not looked at yet
        model.preprocessing, model.coding = dataset.preprocessing, dataset.coding

    def fit(
        self,
        steps: int | None,
        minutes: float | None,
        report: Callable[[dict[str, Any]], None],
        progress: Callable[[int, float], None],
        keeper: Keeper | None = None,
        begun: State | None = None,
    ) -> History:
        """`fit`, with steps, minutes or both; or from where a checkpoint has brought the trainer, with neither."""
        if steps is None and minutes is None and begun is None:
            raise UsageError("training needs steps, minutes or both")
        if (steps is not None and steps < 1) or (minutes is not None and not 0 < minutes < math.inf):
            raise UsageError("steps and minutes must be above 0, and minutes finite")
        now, seconds = time.monotonic(), math.inf if minutes is None else 60 * minutes
        if begun is not None:
            return self.run(begun, now + seconds, report, progress, keeper)
        if steps is not None:
            return self.run(State(History(steps)), now + seconds, report, progress, keeper)
        plan = self.on_a_copy().estimate(seconds)
        state = State(History(plan.steps))
        return self.run(state, now + budget.LIMIT * seconds, report, progress, keeper, asdict(plan))

    def on_a_copy(self) -> Trainer:
        """The same with a model of its own, to be timed without a trace in this one."""
        twin = UNet(**self.model.architecture)
        twin.to(self.model.device)
        trainer = Trainer(twin, self.dataset, self.validation, self.recipe, self.workers)
        trainer.sampler, trainer.validation_weights = self.sampler, self.validation_weights
        return trainer

    def warm_up(self) -> None:
        """A step and a look on a copy, so that the kernels are compiled before time counts."""
        twin = self.on_a_copy()
        twin.step(0, self.recipe.lr)
        twin.validate()

    def estimate(self, seconds: float) -> budget.Estimate:
        """As timed on this model. The loss of each step is made a number, which waits for a device."""
        with Prefetcher(self.batch, workers=self.workers) as batches:
            steps = itertools.count()

            def one() -> None:
                step = next(steps)
                device.numbers([self.step(step, self.recipe.lr, batches.get(step))])

            return budget.estimate(seconds, one, self.validate)

    def step(self, step: int, lr: float, batch: Batch | None = None) -> Any:
        """One batch, forwards, backwards, one step of SGD; the loss before the step.

        batch: that of this step, where it is made already.

        Where it is interrupted or fails before the weights move, it leaves no trace.  On a device the batch goes there
        in one copy and nothing comes back: the loss is an array there, and not looked at before `settle`.
        """
        batch = batch or self.batch(step)
        rewind = _Rewind(self.model)
        try:
            loss, norm = self._gradients(*self._placed(*(array for array in batch if array is not None)))
            unchecked = kernels.on_device(norm)
            if not unchecked and _not_finite(loss, norm):
                rewind()  # the same numbers again for dropout
                raise self._went_wrong(step, lr, loss, norm)
        except BaseException:
            rewind()
            raise
        self.optimizer.lr = lr
        self.torn = True
        with np.errstate(**NOTED):
            self.optimizer.step()
        self.torn = False
        if unchecked:
            self.norms.append(norm)
        return loss

    def settle(self, state: State) -> None:
        """Make numbers of the losses since the last report, in one transfer, and see whether all was finite.

        Only a device leaves something to do here. The weights have moved on since a step that went wrong.
        """
        if not self.norms:
            return
        count, found = len(self.norms), device.numbers([*state.losses, *self.norms])
        state.losses, norms, self.norms = found[:-count], found[-count:], []
        for step, loss, norm in zip(range(state.done - count, state.done), state.losses[-count:], norms, strict=True):
            if _not_finite(loss, norm):
                lr = learning_rate(self.recipe, step, state.history.steps)
                raise self._went_wrong(step, lr, loss, norm, moved=True)

    def _placed(self, *arrays: np.ndarray) -> Sequence[Array]:
        """A batch where the model lies."""
        return device.upload(*arrays) if self.model.device == "cuda" else arrays

    def _gradients(self, x: Array, target: Array, *weight: Array) -> tuple[Any, Any]:
        """Forwards and backwards; the loss, and the norm of the gradients before they were clipped."""
        with np.errstate(**NOTED):
            self.optimizer.zero_grad()  # before the way forward, which then has their memory
            loss = self.loss(self.model(x), target, *weight)
            loss.backward()
            norm = optim.clip_grad_norm(self.model.parameters(), self.recipe.clip or math.inf)
        return loss.data if kernels.on_device(loss.data) else float(loss.item()), norm

    def _went_wrong(self, step: int, lr: float, loss: float, norm: float, moved: bool = False) -> WorkFailed:
        what = f"the {_not_finite(loss, norm)} is no longer finite at step {step + 1} (learning rate {lr:.3g})"
        return self._not_finite(what, step, moved)

    def _not_finite(self, what: str, step: int, moved: bool = False) -> WorkFailed:
        """The error that names the layer and the remedy; for that the batch of a step is looked at in every layer.

        moved: whether the weights have moved since that step: if it has spoilt them, they no longer tell the layer.
        """
        x, target, *weight = (array for array in self.batch(step) if array is not None)
        fault = first_nonfinite(self.model, lambda logits, target: self.loss(logits, target, *weight), x, target)
        if moved and fault is not None and fault.spoilt is not None:
            fault = None
        found = "" if fault is None else f": {fault}"
        return WorkFailed(f"{what}{found}. {remedy(fault, x, self.dataset, self.recipe.lr, step == 0)}")

    def batch(self, step: int) -> Batch:
        """The batch of a step: of nothing but seed and step. Any thread may ask."""
        found = self.sampler.batch(step)
        dtype = self.model.dtype
        weight = None if found.weight is None else found.weight.astype(dtype, copy=False)
        return Batch(found.x.astype(dtype, copy=False), found.target, weight)

    def validate(self) -> dict[str, Any]:
        """Scores, loss and share of each class on the validation images; nothing where there are none."""
        if self.validation is None:
            return {}
        coding = self.validation.coding
        predicted, cells, losses = [], [], []
        for i, (x, target) in enumerate(zip(self.validation.images, self.validation.targets, strict=True)):
            whole = padded(self.model, x.astype(self.model.dtype, copy=False))
            image, truth, *weight = self._placed(whole, target[None], *self._validation_weight(i))
            logits = logits_of_padded(self.model, image, target.shape)
            p = probabilities(logits)
            if self.score == "ap":
                p = device.to_host(p)
                cells.append(cells_of(p))
            predicted.append(device.to_host(class_map(p, coding)))
            with no_grad():
                losses.append(self.loss(logits[None], truth, *weight).data)
        iou = metrics.score(predicted, self.validation.truth, coding.scored_classes)
        counts = np.sum([np.bincount(p.ravel(), minlength=coding.scored_classes) for p in predicted], axis=0)
        return {
            **({"score": float(iou)} if self.score == "iou" else self._cell_scores(cells) | {"mean_iou": float(iou)}),
            "validation_loss": float(np.mean(device.numbers(losses))),
            "predicted": (counts / counts.sum()).tolist(),
        }

    def _cell_scores(self, cells: list[np.ndarray]) -> dict[str, float]:
        assert self.validation is not None
        found = choice.matches(cells, self.validation)
        return {"score": found.mean_average_precision, "ap50": float(found.average_precision[0])}

    def _validation_weight(self, i: int) -> list[Array]:
        """The weights (1, H, W) of validation image i, which its loss is told with; none where there are none."""
        if self.weights is None or self.validation is None:
            return []
        if i not in self.validation_weights:
            self.validation_weights[i] = weights_of(self.validation, i, self.weights)[None]
        return [self.validation_weights[i]]

    @cached_property
    def baselines(self) -> dict[str, float]:
        """This score on the validation images of what needs no learning."""
        return {} if self.validation is None else choice.baselines(self.score, self.validation)

    def run(
        self,
        state: State,
        deadline: float,
        report: Callable[[dict[str, Any]], None],
        progress: Callable[[int, float], None],
        keeper: Keeper | None = None,
        timing: dict[str, float] | None = None,
    ) -> History:
        """All the steps that are left, with a record for `report` every few of them."""
        history, last_loss = state.history, _LastLoss()
        self.model.train()
        try:
            with Prefetcher(self.batch, state.done, self.workers) as batches:
                clock = _Clock(state.seconds, batches)
                while True:
                    self._pause(state, clock, deadline, report, keeper, timing or {})
                    if state.done == history.steps or history.stopped_at is not None:
                        break
                    with held_back():
                        lr = learning_rate(self.recipe, state.done, history.steps)
                        state.losses.append(self.step(state.done, lr, batches.get(state.done)))
                        state.done += 1
                    clock.images += self.recipe.batch_size
                    progress(state.done, last_loss(state.losses[-1]))
        except KeyboardInterrupt:
            if not self.torn and history.stopped_by != "time":
                self._keep(keeper, state, True)
            raise
        if state.best:
            self.model.load_state_dict(state.best)
        self._warn(verdict.at_the_end(history, self))
        return history

    def _pause(
        self,
        state: State,
        clock: _Clock,
        deadline: float,
        report: Callable[[dict[str, Any]], None],
        keeper: Keeper | None,
        timing: dict[str, float],
    ) -> None:
        """What is done between two steps: look, report, keep, and see whether to stop."""
        history, done = state.history, state.done
        late = 0 < done < history.steps and time.monotonic() > deadline
        look = done == 0 or budget.falls_due(done, history.steps, budget.VALIDATIONS)
        if late:
            history.stopped_at, history.stopped_by = done, "time"
            self._keep(keeper, state, True)  # before the look below, which a run that is in time does not take
        if self._record(state, clock, look or late, timing):
            report(history.records[-1])
            self._warn(verdict.on_the_way(history, self))
            clock.restart()
        if late:
            return
        state.seconds = clock.seconds
        self._keep(keeper, state, look)
        if self.recipe.patience is not None and history.waited >= self.recipe.patience and done < history.steps:
            history.stopped_at, history.stopped_by = done, "patience"

    def _warn(self, text: str | None) -> None:
        if text is not None:
            warnings.warn(text, verdict.UselessModel, stacklevel=5)  # where `fit` was called

    def _record(self, state: State, clock: _Clock, look: bool, timing: dict[str, float]) -> bool:
        """Add the record of this step to the history, if it has one and it is not there yet."""
        history, done = state.history, state.done
        if state.recorded or not (look or budget.falls_due(done, history.steps, REPORTS)):
            return False
        self.settle(state)
        record: dict[str, Any] = {"step": done, "steps": history.steps}
        if done:
            record |= {"lr": learning_rate(self.recipe, done - 1, history.steps), **clock.summary(state.losses)}
        if look:
            self._check_state(done)
            record |= self.validate()
        record |= timing if done == 0 else {}
        best = state.best
        if done and "score" in record:
            record["best"] = history.would_be_best(record["score"], record.get("mean_iou", 0.0))
            if record["best"]:
                best = {name: value.copy() for name, value in self.model.state_dict().items()}
        with held_back():  # the three belong together
            history.records.append(record)
            state.best, state.losses = best, []
        return True

    def _keep(self, keeper: Keeper | None, state: State, always: bool) -> None:
        """A checkpoint, if it is time for one; never of weights that are not finite."""
        if keeper is not None and keeper.is_due(state, always):
            self.settle(state)
            self._check_state(state.done)
            keeper.write(state)

    def _check_state(self, done: int) -> None:
        """WorkFailed where a weight, or an estimate of batch norm, is not finite after so many steps."""
        state = self.model.state_dict()
        finite = device.numbers([np.isfinite(array).all() for array in state.values()])
        for name, right in zip(state, finite, strict=True):
            if not right:
                raise self._not_finite(f"{name} is not finite after {done} steps", done)


class _Rewind:
    """What a step changes before the weights move: estimates of batch norm, and dropout's random numbers."""

    def __init__(self, model: UNet) -> None:
        buffers = (array for _, array in model.named_arrays() if not isinstance(array, Tensor))
        self.buffers = [(array, array.copy()) for array in buffers]
        generators = (module.rng.bit_generator for module in model.modules() if isinstance(module, Dropout))
        self.generators = [(generator, generator.state) for generator in generators]

    def __call__(self) -> None:
        for array, before in self.buffers:
            array[...] = before
        for generator, state in self.generators:
            generator.state = state


class _LastLoss:
    """A step's loss as a number to be shown; one that lies on a device is fetched only now and then."""

    def __init__(self) -> None:
        self.value, self.next_time = math.nan, -math.inf

    def __call__(self, loss: Any) -> float:
        if not kernels.on_device(loss):
            return loss
        if time.monotonic() >= self.next_time:
            (self.value,) = device.numbers([loss])
            self.next_time = time.monotonic() + SHOWN_LOSS
        return self.value


def _not_finite(loss: float, norm: float) -> str | None:
    """What of a step is not finite, if anything."""
    return "loss" if not math.isfinite(loss) else "gradient" if not math.isfinite(norm) else None


class _Clock:
    """Seconds of the whole run, and between two records, validation not counted: images a second, waits for batches."""

    def __init__(self, seconds: float, batches: Prefetcher[Batch]) -> None:
        self.begin, self.batches = time.monotonic() - seconds, batches
        self.restart()

    def restart(self) -> None:
        self.since, self.images, self.waited = time.monotonic(), 0, self.batches.waited

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def summary(self, losses: list[float]) -> dict[str, float]:
        passed = time.monotonic() - self.since
        return {
            "loss": float(np.mean(losses)),
            "images_per_second": self.images / max(passed, 1e-9),
            "waiting": (self.batches.waited - self.waited) / max(passed, 1e-9),
            "seconds": self.seconds,
        }


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


def augmentation(recipe: Recipe) -> Augmentation | str | None:
    """What a `Sampler` is told by this recipe."""
    if recipe.augment == "full":
        return Augmentation(elastic=recipe.elastic)
    return "flips" if recipe.augment == "flips" else None


def with_weight_map(recipe: Recipe, loss: str, dataset: Dataset) -> bool:
    """Whether gaps between cells count more: as asked for, else where masks hold instances and the loss has weights.

    Not with borders, unless asked for: they keep cells apart already.
    """
    if recipe.weight_map is None:
        return dataset.coding.kind == "instances" and loss != "dice"
    if recipe.weight_map and dataset.coding.scored_classes != 2:
        raise UsageError(
            f"the weight map is for cells on a background, and the masks have {dataset.coding.classes} classes "
            f"({dataset.coding.describe()}): leave it out"
        )
    return recipe.weight_map


def pixel_weights(recipe: Recipe, weight_map: bool, dataset: Dataset) -> PixelWeights | None:
    """What pixels count by this recipe; None where all count alike."""
    if not weight_map and recipe.class_weight == "none":
        return None
    count = dataset.coding.classes
    classes = balanced(dataset.targets, count) if recipe.class_weight == "balanced" else (1.0,) * count
    return PixelWeights(classes, recipe.w0 if weight_map else 0.0, recipe.sigma)


def default_crop(model: UNet, dataset: Dataset, largest: int = Recipe.largest_crop) -> tuple[int, int]:
    """Whole images where all are of one fitting size of at most `largest`, else squares.

    The side is the largest the network takes as it is (a multiple of 2^levels) up to `largest` and up to
    the usual (median) short side of the images; smaller images are continued by reflection.
    A valid network gets the input size whose output is at least that large.
    """
    sizes = {image.shape[1:] for image in dataset.images}
    block = 2**model.levels
    usual = int(np.median([min(image.shape[1:]) for image in dataset.images]))
    side = max(2 * block, min(usual, largest) // block * block)
    if model.padding == "valid":
        side = legal_sides(side + 12 * block - 8, model.levels)[-1]
        return side, side
    if len(sizes) == 1:
        height, width = next(iter(sizes))
        if height % block == width % block == 0 and max(height, width) <= largest:
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
    if device.current() == "cuda" and model.device == "cpu":
        raise UsageError('the backend in force is "cuda", and the model lies on the CPU: model.to("cuda") moves it')
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
