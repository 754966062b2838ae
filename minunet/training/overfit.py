"""`minunet train --overfit`: learn a single image by heart, to see that data and network fit each other.

A network that cannot even learn one image will not learn many: then the mask does not belong to the image, its values
mean something else, or the learning rate is wrong, and no longer training helps.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from minunet.data import Dataset, load_folder
from minunet.data.coding import listed
from minunet.display import pictures
from minunet.display.progress import progress, say
from minunet.errors import UsageError, WorkFailed
from minunet.model_files.weights import load
from minunet.prediction.predict import preprocessing_of
from minunet.training.runs import (
    Reporter,
    RunFolder,
    TrainOptions,
    build_model,
    describe,
    describe_model,
    draw_run,
    minutes_left,
    refuse_data_folders,
)
from minunet.training.train import History, Trainer, checked_crop, default_crop
from minunet.training.verdict import UselessModel, class_shares

MINUTES = 1.0  # of training, unless asked otherwise
REACHED = 0.95  # mean IoU, also where masks number cells: their pixels are what is learned


def window(one: Dataset, size: tuple[int, int]) -> Dataset:
    """What fits into `size` of a single image, cut where its rarest class has most pixels: a minute is soon over.

    The target is the truth as well: of touching cells that were parted, that is what can be learned.
    """
    target = one.targets[0]
    (height, width), (rows, columns) = size, target.shape
    present = np.unique(target)

    def rarest(corner: tuple[int, int]) -> int:
        piece = target[corner[0] : corner[0] + height, corner[1] : corner[1] + width]
        return min(int(np.count_nonzero(piece == kind)) for kind in present)

    tops = range(0, max(1, rows - height + 1), max(1, height // 4))
    lefts = range(0, max(1, columns - width + 1), max(1, width // 4))
    top, left = max(((top, left) for top in tops for left in lefts), key=rarest)
    piece = slice(top, top + height), slice(left, left + width)
    target, raw = target[piece], one.raw[0]
    raw = raw[piece] if raw.shape[:2] == (rows, columns) else raw[(slice(None), *piece)]
    image, ids = one.images[0][(slice(None), *piece)], None if one.ids is None else [one.ids[0][piece]]
    truth = one.coding.scored(target)
    return replace(one, images=[image], targets=[target], truth=[truth], raw=[raw], ids=ids)


class Learned(Exception):
    """Ends the training before its last step."""


def overfit_run(options: TrainOptions, name: str, started: float) -> None:
    """Train on one image, or what a crop holds of it, until it is known by heart; then say what that means.

    There is no augmentation, and all pixels count alike.
    name: of the image, its file name without the suffix; "" for the first whose mask has two classes.
    Raises WorkFailed, with the likely faults, where it is not learned in the time.
    """
    if options.resume:
        raise UsageError("--overfit takes a minute and begins anew each time: leave out --resume")
    refuse_data_folders(options)
    with RunFolder(options.out, options.overwrite) as folder:
        _learn_into(folder, options, name, started)


def _learn_into(folder: RunFolder, options: TrainOptions, name: str, started: float) -> None:
    """`overfit_run`, where nobody else trains."""
    trainer = prepare(options, name)
    minutes = None
    if options.minutes is not None:
        minutes = minutes_left(options.minutes, started)
    elif options.steps is None:
        trainer.warm_up()  # compiles, so that it does not count
        minutes = MINUTES
    folder.start()
    with progress() as display, warnings.catch_warnings():
        warnings.simplefilter("ignore", UselessModel)  # it is judged below
        reporter = OverfitReporter(folder, trainer, display, trainer.baselines, {"overfit": trainer.dataset.names[0]})
        history = reporter.watch_until_learned(options.steps, minutes)
    reporter.save_model()
    if pictures.available():
        draw_run(folder, trainer, history, trainer.baselines)
    conclude(trainer, history, reporter)


def prepare(options: TrainOptions, name: str) -> Trainer:
    """The trainer of one image, which is both what is learned and what is looked at."""
    origin = None if options.init is None else load(options.init)
    dataset = load_folder(
        options.images,
        options.masks,
        mask_suffix=options.mask_suffix,
        target=options.target,
        preprocessing=None if origin is None else preprocessing_of(origin),
    )
    for line in describe(dataset):
        say(line)
    model = build_model(options, dataset, origin)
    plain: dict[str, Any] = {"augment": "none", "foreground": 0.0, "weight_map": False, "class_weight": "none"}
    recipe = replace(options.recipe, **plain, score="iou", patience=None, batch_size=1)
    crop = default_crop(model, dataset, recipe.largest_crop) if recipe.crop is None else recipe.crop
    crop = checked_crop(model, crop)
    one = window(choose(dataset, name), model.output_size(crop))
    height, width = one.targets[0].shape
    shares = ", ".join(f"{100 * share:.2g} %" for share in class_shares(one))
    say(f"image     {height} x {width} px of {one.names[0]}, whose classes cover {shares}")
    say(f"network   {describe_model(model)}")
    return Trainer(model, one, one, replace(recipe, crop=crop))


def choose(dataset: Dataset, name: str) -> Dataset:
    """The image of that name, or the first whose target has two classes."""
    if name:
        found = [i for i, known in enumerate(dataset.names) if known == name]
        if not found:
            raise UsageError(f"--overfit {name}: there is no such image; there are {listed(dataset.names)}")
    else:
        found = [i for i, target in enumerate(dataset.targets) if np.ptp(target) > 0]
        if not found:
            raise UsageError("--overfit needs a mask with two classes, and every mask here has one: look at the masks, "
                             "and at --target")  # fmt: skip
    return dataset.subset(found[:1])


class OverfitReporter(Reporter):
    """Looks out for the moment when the image is known."""

    def watch_until_learned(self, steps: int | None, minutes: float | None) -> History:
        try:
            return self.watch(steps, minutes)
        except Learned:
            return History(self.records[-1]["steps"], self.records)

    def report(self, record: dict[str, Any]) -> None:
        super().report(record)
        if record.get("score", 0.0) >= REACHED and record["step"]:
            raise Learned


def conclude(trainer: Trainer, history: History, reporter: Reporter) -> None:
    score, step = history.best_score or 0.0, history.best_step
    measured = f"{reporter.score_name} {score:.3f} on {trainer.dataset.names[0]} after {step} steps"
    say()
    if score >= REACHED:
        say(f"learned: {measured}")
        say(
            "The data and the network fit each other: values, classes and learning rate are right. A wrong mask can be "
            f"learned by heart too, so look whether this one belongs to its image: {reporter.folder.preview}"
        )
        return
    raise WorkFailed(f"not learned: {measured}, where {REACHED:g} was hoped for. {likely_faults(trainer, history)}")


def likely_faults(trainer: Trainer, history: History) -> str:
    """What to look at, from what was seen."""
    name, floor = max(trainer.baselines.items(), key=lambda item: item[1])
    best = history.best_score or 0.0
    if best <= floor:
        return (
            f"It is no better than '{name}' ({floor:.3f}), which needs no learning: look whether image and mask of "
            f"{trainer.dataset.names[0]} belong together, and try a lower --lr than {trainer.recipe.lr:g}"
        )
    if history.looks and history.looks[-1]["score"] >= best - 0.01:
        return (
            "It was still learning: give it more time (--minutes 3), or more channels (--features); where that does "
            "not help, look whether mask and image belong together, not shifted, not turned"
        )
    return (
        f"It learned and forgot again: try a lower --lr than {trainer.recipe.lr:g}, and look whether mask and image "
        "belong together, not shifted, not turned"
    )
