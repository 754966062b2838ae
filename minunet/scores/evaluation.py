"""How good a model is: its scores on images with known masks, beside those of what needs no learning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from minunet.data import Coding, DataError, Dataset, class_map, from_arrays
from minunet.display.pictures import class_names
from minunet.display.tables import Table
from minunet.errors import UsageError, WorkFailed
from minunet.prediction.predict import predict, preprocessing_of
from minunet.scores import choice, metrics, single, tables
from minunet.scores.matching import Matches
from minunet.scores.membranes import MembraneErrors, MembraneScores, best_of, mean_errors
from minunet.scores.single import Single, Truth
from minunet.scores.tables import MEASURES

if TYPE_CHECKING:
    from minunet.unet import UNet

TOLERANCE = 2.0  # pixels that a boundary may lie off


@dataclass(frozen=True, eq=False)
class Scores:
    """The numbers of one set of predictions for K classes; None where a score has no meaning, or was not asked for.

    confusion        (K, K) int64 pixel counts: row = true class, column = predicted class
    image_scores     (n,) the score of each image: IoU of the foreground for two classes (1 where truth and prediction
                     are both empty), mean IoU of the classes in it for more
    boundary_f1      of the foreground of two classes, averaged over the images
    matches          of the cells in all images, where the masks number them
    membranes        V_rand and V_info, at the best of their thresholds
    membrane_errors  at the threshold 0.5
    """

    confusion: np.ndarray
    image_scores: np.ndarray
    boundary_f1: float | None
    matches: Matches | None
    membranes: MembraneScores | None
    membrane_errors: MembraneErrors | None

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

    @property
    def average_precision(self) -> dict[float, float] | None:
        """AP of the cells at an IoU of 0.5, 0.55 ... 0.95, pooled over all images."""
        if self.matches is None:
            return None
        return dict(zip(self.matches.thresholds, self.matches.average_precision.tolist(), strict=True))

    @property
    def mean_average_precision(self) -> float | None:
        """Mean of `average_precision` over its thresholds."""
        return None if self.matches is None else self.matches.mean_average_precision

    @property
    def headline(self) -> float:
        """The one number: mean AP of the cells where masks number them, else the mean IoU that training reports."""
        if self.mean_average_precision is not None:
            return self.mean_average_precision
        return self.mean_iou_classes if self.mean_iou_cells is None else self.mean_iou_cells

    @property
    def headline_name(self) -> str:
        """What `headline` is called."""
        return choice.name("iou" if self.matches is None else "ap", len(self.confusion))

    def to_json(self) -> dict[str, Any]:
        """Numbers and lists, see `Evaluation.to_json`. NaN is None."""
        return {
            "mean_iou_cells": self.mean_iou_cells,
            "mean_iou_classes": self.mean_iou_classes,
            "pixel_error": self.pixel_error,
            **{name: [_number(value) for value in getattr(self, name)] for name in MEASURES},
            "boundary_f1": self.boundary_f1,
            "instances": self._instances_to_json(),
            "membranes": self._membranes_to_json(),
        }

    def _instances_to_json(self) -> dict[str, Any] | None:
        if self.matches is None:
            return None
        counts = zip(self.matches.thresholds, self.matches.true_positives.tolist(), strict=True)
        return {
            "true": self.matches.true,
            "predicted": self.matches.predicted,
            "mean_average_precision": self.mean_average_precision,
            "average_precision": {f"{t:g}": ap for t, ap in (self.average_precision or {}).items()},
            "matched": {f"{t:g}": count for t, count in counts},
        }

    def _membranes_to_json(self) -> dict[str, Any] | None:
        if self.membranes is None or self.membrane_errors is None:
            return None
        best, errors = self.membranes, asdict(self.membrane_errors)
        return {
            "v_rand": best.v_rand,
            "v_rand_threshold": best.v_rand_threshold,
            "v_info": best.v_info,
            "v_info_threshold": best.v_info_threshold,
            "at": {f"{t:g}": list(v) for t, v in best.at.items()},
            **errors,
            "variation_of_information": errors["split"] + errors["merged"],
            "pixel_error": self.pixel_error,
            "membrane_dice": _number(self.dice[0]),
        }


@dataclass(frozen=True)
class ImageScore:
    """One image: its place in the data set, name, score (see `Scores`), share of wrong pixels and what else there is.

    average_precision is that of its cells at an IoU of 0.5, v_rand at the threshold that is best for the whole set.
    """

    index: int
    name: str
    score: float
    pixel_error: float
    boundary_f1: float | None = None
    average_precision: float | None = None
    v_rand: float | None = None

    @property
    def rank(self) -> tuple[float, float, float]:
        """What images are ordered by, the worst first: AP of the cells or V_rand where there is one, then the score."""
        first = self.v_rand if self.average_precision is None else self.average_precision
        return (self.score if first is None else first, self.score, -self.pixel_error)


@dataclass(frozen=True, eq=False)
class Evaluation(Scores):
    """What `evaluate` returns: the model's `Scores`, those of the baselines, and every image's."""

    class_names: list[str]
    images: list[ImageScore]
    baselines: dict[str, Scores]
    coding: Coding
    tolerance: float  # of the boundaries, in pixels

    def worst(self, count: int) -> list[ImageScore]:
        """The `count` worst images, the worst first: by the AP of their cells at an IoU of 0.5 where there are cells,
        by V_rand where membranes are scored, else by their score."""
        return sorted(self.images, key=lambda image: image.rank)[:count]

    def to_json(self) -> dict[str, Any]:
        """A form for `json.dumps` without NaN: None stands where a number has no meaning.

        count                number of images
        masks                what the values of the masks mean, in words
        classes              names of the classes, in the order of all lists
        mean_iou_cells       None for more than two classes
        mean_iou_classes, pixel_error
        iou, dice, precision, recall    a list each, one number a class
        boundary_f1          of the foreground, averaged over the images; None for more than two classes
        boundary_tolerance   in pixels
        instances            None where the masks number no cells; else true, predicted (numbers of cells),
                             mean_average_precision, average_precision and matched: {"0.5": AP, ... "0.95": AP}, and
                             how many predicted cells match a true one
        membranes            None unless asked for; else v_rand, v_rand_threshold, v_info, v_info_threshold,
                             at {threshold: [V_rand, V_info]}, and at the threshold 0.5 rand_error,
                             adapted_rand_error, split, merged (bits), variation_of_information (their sum),
                             warping_error, splits, mergers (an image), pixel_error, membrane_dice
        confusion            pixel counts, one list a true class, in it one number a predicted class
        baselines            {name: mean_iou_cells ... membranes, as above}
        images               [{name, score, pixel_error, boundary_f1, average_precision, v_rand}], the worst first
        """
        return {
            "count": len(self.images),
            "masks": self.coding.describe(),
            "classes": self.class_names,
            **super().to_json(),
            "boundary_tolerance": self.tolerance,
            "confusion": self.confusion.tolist(),
            "baselines": {name: scores.to_json() for name, scores in self.baselines.items()},
            "images": [_without_index(image) for image in self.worst(len(self.images))],
        }

    def tables(self, worst: int = 5) -> list[Table]:
        """What is shown: scores with baselines, the confusion of classes, the worst images."""
        return tables.of(self, worst)

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
    tile: int | tuple[int, int] | None = None,
    tta: bool = False,
    tolerance: float = TOLERANCE,
    membranes: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Predict every image and hold it against its mask.

    images: a Dataset, or arrays (H, W), (H, W, C) or (C, H, W) as they come from files; then
    masks: one array (H, W), or (H, W, 3) for colours, an image, read as the model's training masks were.
    names: of the images, for messages and the list of the worst.
    tile, tta: as in `predict`.
    tolerance: of the boundary F1 of two classes, in pixels.
    membranes: score V_rand, V_info and what else the ISBI 2012 challenge asks of a map of cells and membranes, too: of
        two classes the background is the membrane.
    progress: called after each image with the number done.

    Where masks number the cells, the cells of `label_instances` are matched with them, and those of the baselines,
    which are the connected pieces of their foreground. All scores refer to the masks as they are given: touching cells
    are not parted.
    Raises UsageError or DataError (ValueErrors) where images, masks and model do not fit each other.
    """
    dataset = _as_dataset(model, images, masks, names)
    _check_classes(model, dataset)
    truths = _truths(dataset, tolerance, membranes)
    found = []
    for i, truth in enumerate(truths):
        p = _predicted(model, dataset, i, tile, tta)
        found.append(single.of_probabilities(p, class_map(p, model.coding), truth))
        if progress is not None:
            progress(i + 1)
    scores = pooled(found)
    return Evaluation(
        **vars(scores),
        class_names=_all_class_names(dataset.coding),
        images=[_image_score(i, dataset.names[i], one, scores) for i, one in enumerate(found)],
        baselines={
            name: pooled([single.of_mask(mask, truth) for mask, truth in zip(predicted, truths, strict=True)])
            for name, predicted in metrics.baseline_predictions(dataset).items()
        },
        coding=dataset.coding,
        tolerance=tolerance,
    )


def pooled(images: Sequence[Single]) -> Scores:
    """The scores of a set from those of its images."""
    first = images[0]
    each = [image.boundary_f1 for image in images if image.boundary_f1 is not None]
    v = [image.v for image in images if image.v is not None]
    errors = [image.errors for image in images if image.errors is not None]
    matches = [image.matches for image in images if image.matches is not None]
    return Scores(
        confusion=np.sum([image.confusion for image in images], axis=0),
        image_scores=np.array([image.score for image in images]),
        boundary_f1=None if first.boundary_f1 is None else float(np.mean(each)),
        matches=None if first.matches is None else sum(matches[1:], start=matches[0]),
        membranes=best_of(v) if v else None,
        membrane_errors=mean_errors(errors) if errors else None,
    )


def _truths(dataset: Dataset, tolerance: float, membranes: bool) -> list[Truth]:
    """What the predictions are held against. UsageError where a score was asked for that the masks do not allow."""
    classes = dataset.coding.scored_classes
    if membranes and classes != 2:
        raise UsageError(
            f"membranes are scored where masks hold two classes, membrane and cell, and these have {classes} "
            f"({dataset.coding.describe()})"
        )
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"the tolerance is a number of pixels, 0 or more, not {tolerance}")
    ids = itertools.repeat(None, len(dataset)) if dataset.ids is None else dataset.ids
    return [Truth(truth, classes, each, tolerance, membranes) for truth, each in zip(dataset.truth, ids, strict=True)]


def _image_score(index: int, name: str, one: Single, scores: Scores) -> ImageScore:
    return ImageScore(
        index,
        name,
        float(one.score),
        metrics.pixel_error(one.confusion),
        one.boundary_f1,
        None if one.matches is None else float(one.matches.average_precision[0]),
        None if one.v is None or scores.membranes is None else one.v[scores.membranes.v_rand_threshold][0],
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


def _predicted(model: UNet, dataset: Dataset, i: int, tile: int | tuple[int, int] | None, tta: bool) -> np.ndarray:
    """Probabilities (K, H, W) of image i."""
    try:
        return predict(model, dataset.raw[i], tile, tta, dataset.channels_last(i))
    except MemoryError as error:
        raise WorkFailed(f"{dataset.names[i]}: {error}") from None
    except ValueError as error:
        raise DataError(f"{dataset.names[i]}: {error}") from error


def _all_class_names(coding: Coding) -> list[str]:
    """Names of all classes, class 0 first, by what stands for them in the masks."""
    if coding.scored_classes > 2 or coding.kind == "colors":
        first = f"{'colour' if coding.kind == 'colors' else 'value'} {coding.values[0]}"
        return [first, *class_names(coding)]
    values = [f" ({value})" for value in coding.values] or ["", ""]
    return [f"background{values[0]}", f"foreground{values[1]}"]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _without_index(image: ImageScore) -> dict[str, Any]:
    return {name: value for name, value in vars(image).items() if name != "index"}
