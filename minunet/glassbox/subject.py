"""What the network looks at and learns from in the glass box: one image, its target and the weight of each pixel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from minunet.data import Coding, DataError
from minunet.data.augment import reflect
from minunet.data.dataset import from_arrays
from minunet.data.images import is_picture
from minunet.data.pixel_weights import weights_of
from minunet.prediction.predict import predict, prepare, preprocessing_of
from minunet.training.recipe import DEFAULT_LOSS, ONE_OUTPUT_LOSS, Recipe
from minunet.training.train import pixel_weights, with_weight_map
from minunet.unet import UNet, legal_sides


@dataclass(frozen=True)
class Subject:
    """One batch and its loss, as in training.

    x       (N, C, H, W) floating, preprocessed
    target  (N, H', W') int64 class indices, H' and W' those of the logits
    weight  (N, H', W') floating, or None: all pixels count alike
    loss    one of `recipe.LOSSES`
    masks   {name of a dropout: (N, C, h, w) bool, what it keeps}
    note    in words, where the target comes from
    """

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    loss: str
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    note: str = ""


def subject(model: UNet, image: np.ndarray, mask: np.ndarray | None, files: tuple[str, str] | None = None) -> Subject:
    """Image and mask as `minunet train` would give them to this model, without augmentation.

    mask: as its file holds it, in the coding of the model's training masks; None: what the model predicts in evaluation
    mode takes its place. files: the names of both in errors; picture files are (H, W, C).

    A valid network gets the largest window in the middle of the image whose output has a legal size, with its context
    around it, continued by reflection at the image's border, as in training.
    Raises DataError where image or mask do not fit the model or each other.
    """
    loss = ONE_OUTPUT_LOSS if model.out_channels == 1 else DEFAULT_LOSS
    names = files or ("the image", "the mask")
    if mask is None:
        last = is_picture(names[0])
        x, weight = prepare(model, image, last), None
        target = predict(model, image, channels_last=last).argmax(axis=0)
        note = "no mask was given: the target is the model's own prediction, so the loss only shows how sure it is"
    else:
        x, target, weight, coding = _learned(model, image, mask, names, loss)
        note = f"{coding.describe()}; pixel weights: {'all 1' if weight is None else 'the weight map'}"
    rows, columns = (_window(model, side) for side in x.shape[1:])
    inner = np.ix_(rows[1], columns[1])
    return Subject(
        x=np.ascontiguousarray(x[:, rows[0][:, None], columns[0]])[None],
        target=target[inner][None].astype(np.int64),
        weight=None if weight is None else weight[inner][None],
        loss=loss,
        note=note,
    )


def _learned(
    model: UNet, image: np.ndarray, mask: np.ndarray, names: tuple[str, str], loss: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, Coding]:
    """(C, H, W) input, (H, W) classes, (H, W) weights or None, and what the mask's values mean."""
    classes = max(2, model.out_channels)
    coding = model.coding or _coding(mask, classes)
    dataset = from_arrays([image], [mask], coding, preprocessing_of(model), files=[names])
    if dataset.coding.classes > classes:
        raise DataError(f"{names[1]}: {dataset.coding.classes} classes for a model of {classes}: give a mask that fits")
    weights = pixel_weights(Recipe(), with_weight_map(Recipe(), loss, dataset), dataset)
    weight = None if weights is None else weights_of(dataset, 0, weights)
    return dataset.images[0].astype(model.dtype), dataset.targets[0], weight, dataset.coding


def _coding(mask: np.ndarray, classes: int) -> Coding | str:
    """Of a model that does not know its coding: small numbers are classes, as in `cross_entropy`."""
    mask = np.asarray(mask)
    if mask.dtype.kind in "iub" and mask.ndim == 2 and mask.size and mask.min() >= 0 and mask.max() < classes:
        return Coding("indices", tuple(range(classes)))
    return "auto"


def _window(model: UNet, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices along one side of the image: of what the network is given, and of what its logits are for."""
    block = 2**model.levels
    if model.padding == "same":
        if side < block:
            needed = f"a model of {model.levels} levels needs at least {block}"
            raise DataError(f"the image has a side of {side} px: {needed}")
        return np.arange(side), np.arange(side)
    margin = 6 * block - 4
    given = legal_sides(side + 2 * margin, model.levels)[0]
    start = (side - (given - 2 * margin)) // 2
    around = reflect(np.arange(start - margin, start - margin + given), side)
    return around, around[margin : given - margin]
