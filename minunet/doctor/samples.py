"""What training makes of the images: what each pixel counts in the loss, and how augmentation changes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minunet.data import Dataset, Sampler
from minunet.data.pixel_weights import weights_of
from minunet.display.pictures import samples, target_names
from minunet.doctor.examine import Examination, network
from minunet.errors import UsageError
from minunet.training.recipe import Recipe
from minunet.training.train import augmentation, checked_crop, default_crop, evenly, pixel_weights, with_weight_map

WEIGHTS, AUGMENTED = "weights.png", "augmented.png"
ROWS, VARIANTS = 4, 4


def draw_weights(examination: Examination, recipe: Recipe, path: Path) -> None:
    """Whole images with their targets and weight maps. UsageError where there is no data set or are no two classes."""
    dataset = _dataset(examination)
    weights = pixel_weights(recipe, with_weight_map(recipe, "ce", dataset), dataset)
    assert weights is not None  # a weight map was asked for
    shown = evenly(dataset, ROWS)
    pictures = [[(shown.raw[i], shown.targets[i])] for i in range(len(shown))]
    maps = [weights_of(shown, i, weights) for i in range(len(shown))]
    title = f"weight map: w0 {recipe.w0:g}, sigma {recipe.sigma:g} pixels"
    samples(path, shown.names, pictures, ["image and target"], maps, title, target_names(shown.coding))


def draw_augmented(examination: Examination, recipe: Recipe, path: Path) -> None:
    """Crops as they are and as training sees them, with targets, and the weights of the last one if there are any."""
    dataset = _dataset(examination)
    model, asked = network(examination.question, dataset), examination.question.crop
    crop = checked_crop(model, default_crop(model, dataset) if asked is None else asked)
    weights = pixel_weights(recipe, with_weight_map(recipe, "ce", dataset), dataset)
    shown = evenly(dataset, ROWS)
    pictures, maps = [], []
    for i in range(len(shown)):
        plain = Sampler(shown.subset([i]), recipe.seed, 1, crop, None, weights, foreground=1.0)
        full = Sampler(shown.subset([i]), recipe.seed, 1, crop, augmentation(recipe), weights, foreground=1.0)
        batches = [plain.batch(0), *(full.batch(step) for step in range(VARIANTS))]
        pictures.append([(found.x[0], found.target[0]) for found in batches])
        maps += [] if weights is None else [_weight(batches[-1].weight)]
    columns = ["as it is", *(f"step {step}" for step in range(VARIANTS))]
    title = f"augmentation {recipe.augment}, crops of {crop[0]} x {crop[1]} pixels"
    samples(path, shown.names, pictures, columns, maps, title, target_names(shown.coding))


def _weight(found: np.ndarray | None) -> np.ndarray:
    assert found is not None  # a sampler that has weights gives them
    return found[0]


def _dataset(examination: Examination) -> Dataset:
    if examination.dataset is None:
        raise UsageError("--show and --augment need images and masks that can be understood: see the findings")
    return examination.dataset
