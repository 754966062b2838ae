"""How good a model is: its scores on images with known masks, beside those of what needs no learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.data import Coding, DataError, Dataset, class_map, from_arrays
from minunet.display.pictures import class_names
from minunet.display.tables import Table
from minunet.errors import UsageError, WorkFailed
from minunet.prediction.predict import predict, preprocessing_of
from minunet.scores import metrics

if TYPE_CHECKING:
    from minunet.unet import UNet

MEASURES = ("iou", "dice", "precision", "recall")
MANY = 8  # classes; for more, the tables are shortened


@dataclass(frozen=True, eq=False)
class Scores:
    """The numbers of one set of predictions for K classes.

    confusion    (K, K) int64 pixel counts: row = true class, column = predicted class
    image_scores (n,) the score of each image: IoU of the foreground for two classes (1 where truth and prediction
                 are both empty), mean IoU of the classes in it for more
    """

    confusion: np.ndarray
    image_scores: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """(K,) intersection over union, pooled over all images; NaN for a class that occurs nowhere."""
        return metrics.iou_per_class(self.confusion)

    @property
    def dice(self) -> np.ndarray:
        """(K,) Dice, pooled over all images; NaN for a class that occurs nowhere."""
        return metrics.dice_per_class(self.confusion)

    @property
    def precision(self) -> np.ndarray:
        """(K,) share of the pixels predicted as a class that are of it; NaN for one that is never predicted."""
        return metrics.precision_per_class(self.confusion)

    @property
    def recall(self) -> np.ndarray:
        """(K,) share of a class's true pixels that are found; NaN for one without true pixels."""
        return metrics.recall_per_class(self.confusion)

    @property
    def mean_iou_classes(self) -> float:
        """Mean of `iou` over the classes that occur."""
        return metrics.mean_iou_classes(self.confusion)

    @property
    def mean_iou_cells(self) -> float | None:
        """For two classes the IoU of the foreground in each image, averaged over the images; else None."""
        return float(np.mean(self.image_scores)) if len(self.confusion) == 2 else None

    @property
    def pixel_error(self) -> float:
        """Share of wrong pixels."""
        return metrics.pixel_error(self.confusion)

    def to_json(self) -> dict[str, Any]:
        """mean_iou_cells, mean_iou_classes, pixel_error; iou, dice, precision, recall as lists of K. NaN is None."""
        return {
            "mean_iou_cells": self.mean_iou_cells,
            "mean_iou_classes": self.mean_iou_classes,
            "pixel_error": self.pixel_error,
            **{name: [_number(value) for value in getattr(self, name)] for name in MEASURES},
        }


@dataclass(frozen=True)
class ImageScore:
    """One image: its place in the data set, name, score (see `Scores`) and share of wrong pixels."""

    index: int
    name: str
    score: float
    pixel_error: float


@dataclass(frozen=True, eq=False)
class Evaluation(Scores):
    """What `evaluate` returns: the model's `Scores`, those of the baselines, and every image's."""

    class_names: list[str]
    images: list[ImageScore]
    baselines: dict[str, Scores]
    coding: Coding

    def worst(self, count: int) -> list[ImageScore]:
        """The `count` images with the lowest scores, the worst first."""
        return sorted(self.images, key=lambda image: (image.score, -image.pixel_error))[:count]

    def to_json(self) -> dict[str, Any]:
        """A form for `json.dumps` without NaN: None stands where a number has no meaning.

        count                number of images
        masks                what the values of the masks mean, in words
        classes              names of the classes, in the order of all lists
        mean_iou_cells       None for more than two classes
        mean_iou_classes, pixel_error
        iou, dice, precision, recall    a list each, one number a class
        confusion            pixel counts, one list a true class, in it one number a predicted class
        baselines            {name: mean_iou_cells, mean_iou_classes, pixel_error, iou, dice, precision, recall}
        images               [{name, score, pixel_error}], the worst first
        """
        return {
            "count": len(self.images),
            "masks": self.coding.describe(),
            "classes": self.class_names,
            **super().to_json(),
            "confusion": self.confusion.tolist(),
            "baselines": {name: scores.to_json() for name, scores in self.baselines.items()},
            "images": [
                {"name": image.name, "score": image.score, "pixel_error": image.pixel_error}
                for image in self.worst(len(self.images))
            ],
        }

    def tables(self, worst: int = 5) -> list[Table]:
        """What is shown: scores with baselines, the confusion of classes, the worst images."""
        return [_summary(self), _classes(self), _confusion(self), _worst(self, worst)]

    def __repr__(self) -> str:
        return "\n\n".join(table.text() for table in self.tables())

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())


def evaluate(
    model: UNet,
    images: Dataset | Sequence[np.ndarray],
    masks: Sequence[np.ndarray] | None = None,
    *,
    names: Sequence[str] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Predict every image and hold it against its mask.

    images: a Dataset, or arrays (H, W), (H, W, C) or (C, H, W) as they come from files; then
    masks: one array (H, W), or (H, W, 3) for colours, an image, read as the model's training masks were.
    names: of the images, for messages and the list of the worst.
    progress: called after each image with the number done.

    Scores refer to the masks as they are given: touching cells are not parted.
    Raises UsageError or DataError (ValueErrors) where images, masks and model do not fit each other.
    """
    dataset = _as_dataset(model, images, masks, names)
    _check_classes(model, dataset)
    predicted = []
    for i in range(len(dataset)):
        predicted.append(_predicted_classes(model, dataset, i))
        if progress is not None:
            progress(i + 1)
    scores, errors = _scores(predicted, dataset)
    found = zip(dataset.names, scores.image_scores, errors, strict=True)
    return Evaluation(
        confusion=scores.confusion,
        image_scores=scores.image_scores,
        class_names=_all_class_names(dataset.coding),
        images=[ImageScore(i, name, float(score), error) for i, (name, score, error) in enumerate(found)],
        baselines={name: _scores(found, dataset)[0] for name, found in metrics.baseline_predictions(dataset).items()},
        coding=dataset.coding,
    )


def _as_dataset(model: UNet, images: Any, masks: Any, names: Sequence[str] | None) -> Dataset:
    if isinstance(images, Dataset):
        if masks is not None:
            raise UsageError("a Dataset holds its masks: give a Dataset alone, or images and masks")
        return images
    if masks is None:
        raise UsageError("give the masks too: evaluate(model, images, masks), or a Dataset")
    if isinstance(masks, np.ndarray) and masks.ndim == 2:  # one image with its mask
        images, masks = [images], [masks]
    return from_arrays(images, masks, model.coding or "auto", preprocessing_of(model), names)


def _check_classes(model: UNet, dataset: Dataset) -> None:
    """Two classes are background and foreground, whatever stands for them; of more, the order counts."""
    if not len(dataset):
        raise UsageError("there is no image to evaluate on")
    classes = dataset.coding.scored_classes
    known = max(model.out_channels, 2) if model.coding is None else model.coding.scored_classes
    if classes != known:
        raise UsageError(
            f"the model tells {known} classes apart, the masks have {classes} "
            f"({dataset.coding.describe()}): these masks are not of the kind that it was trained on"
        )
    if classes > 2 and model.coding not in (None, dataset.coding):
        raise UsageError(
            f"the masks were read as {dataset.coding.describe()}, the model was trained on "
            f"{model.coding.describe()}: read them with target=model.coding"
        )


def _predicted_classes(model: UNet, dataset: Dataset, i: int) -> np.ndarray:
    """Class indices (H, W) of image i; a byte a pixel, since those of all images are held in memory."""
    try:
        p = predict(model, dataset.raw[i], dataset.channels_last(i))
        return class_map(p, model.coding).astype(np.uint8)
    except MemoryError as error:
        raise WorkFailed(f"{dataset.names[i]}: {error}") from None
    except ValueError as error:
        raise DataError(f"{dataset.names[i]}: {error}") from error


def _scores(predicted: Sequence[np.ndarray], dataset: Dataset) -> tuple[Scores, list[float]]:
    """Scores of predictions, and the share of wrong pixels of each image."""
    classes = dataset.coding.scored_classes
    pairs = list(zip(predicted, dataset.truth, strict=True))
    counts = [metrics.confusion(prediction, truth, classes) for prediction, truth in pairs]
    each = [metrics.score([prediction], [truth], classes) for prediction, truth in pairs]
    return Scores(np.sum(counts, axis=0), np.array(each)), [metrics.pixel_error(count) for count in counts]


def _all_class_names(coding: Coding) -> list[str]:
    """Names of all classes, class 0 first, by what stands for them in the masks."""
    if coding.scored_classes > 2 or coding.kind == "colors":
        first = f"{'colour' if coding.kind == 'colors' else 'value'} {coding.values[0]}"
        return [first, *class_names(coding)]
    values = [f" ({value})" for value in coding.values] or ["", ""]
    return [f"background{values[0]}", f"foreground{values[1]}"]


def _summary(found: Evaluation) -> Table:
    """One row a measure of the whole set, a column for the model and for each baseline."""
    columns: list[Scores] = [found, *found.baselines.values()]
    rows: dict[str, list[float | None]] = {
        "mean IoU of cells": [scores.mean_iou_cells for scores in columns],
        "mean IoU of classes": [scores.mean_iou_classes for scores in columns],
        "pixel error": [scores.pixel_error for scores in columns],
    }
    shown = [(name, *map(_text, values)) for name, values in rows.items() if None not in values]
    return Table((_images(len(found.images)), "model", *found.baselines), [shown])


def _classes(found: Evaluation) -> Table:
    """Four measures of each class, under the model's those of the baselines."""
    truth = found.confusion.sum(axis=1)
    sections = []
    for k, name in enumerate(found.class_names):
        measures = [_text(getattr(found, measure)[k]) for measure in MEASURES]
        section = [(name, *measures, f"{truth[k] / truth.sum():.1%}")]
        if len(found.class_names) <= MANY:
            for baseline, scores in found.baselines.items():
                section.append((f"  {baseline}", *(_text(getattr(scores, m)[k]) for m in MEASURES), ""))
        sections.append(section)
    if len(sections) > MANY:
        sections = [[row for section in sections for row in section]]
    return Table(("class", "IoU", "Dice", "precision", "recall", "of all pixels"), sections)


def _confusion(found: Evaluation) -> Table:
    """Where the pixels of each true class go; of many classes the most frequent mistakes."""
    names, counts = found.class_names, found.confusion
    if len(names) > MANY:
        return _frequent_mistakes(names, counts)
    rows = [
        (name, *(f"{count / row.sum():.1%}" if row.sum() else "-" for count in row))
        for name, row in zip(names, counts, strict=True)
    ]
    return Table(("true class, predicted as", *names), [rows])


def _frequent_mistakes(names: list[str], counts: np.ndarray) -> Table:
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MANY]
    places = [np.unravel_index(place, wrong.shape) for place in order if wrong.flat[place]]
    rows = [(names[i], names[j], f"{wrong[i, j] / counts[i].sum():.1%}") for i, j in places]
    return Table(("true class", "most often mistaken for", "of its pixels"), [rows], left=2)


def _worst(found: Evaluation, count: int) -> Table:
    score = "IoU" if len(found.confusion) == 2 else "mean IoU"
    rows = [(image.name, _text(image.score), _text(image.pixel_error)) for image in found.worst(count)]
    return Table(("worst images", score, "pixel error"), [rows])


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _text(value: float | None) -> str:
    """Three digits; a dash where there is no number: an absent class, say."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
