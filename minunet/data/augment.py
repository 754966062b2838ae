"""Training batches: which images, which crops, turned and deformed how. A pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from minunet.data.augmentations import Augmentation
from minunet.data.borders import kept_apart
from minunet.data.dataset import Dataset
from minunet.data.errors import DataError
from minunet.data.pixel_weights import PixelWeights, instances, weights_of

ORDER = 1  # sets the random stream of an epoch's order apart from that of a step


class Batch(NamedTuple):
    """x (N, C, h, w) float32; target (N, h - 2m, w - 2m) int64; weight as target, float32, or None: all count 1."""

    x: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None


Piece = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # image (C, h, w), target and weight (h, w)


def batch(
    dataset: Dataset,
    step: int,
    *,
    seed: int,
    batch_size: int,
    crop: tuple[int, int] | None,
    augment: bool = True,
    output_margin: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The batch of one step without weights, x and targets: see `Sampler`. `augment`: flips and turns, or nothing."""
    flips = "flips" if augment else None
    found = Sampler(dataset, seed, batch_size, crop, augment=flips, output_margin=output_margin).batch(step)
    return found.x, found.target


@dataclass(frozen=True)
class Sampler:
    """Where batches come from.

    The same (seed, step) gives the same batch, whatever was asked before, and in whatever thread. Every image comes
    once an epoch.

    crop           (h, w), cut at a random place; None takes whole images
    augment        None: as they are. "flips": flips and quarter turns (half turns if oblong) at random. An
                   `Augmentation`: all that this does; needs a crop
    weights        of the pixels, which then come with the batch; None: without
    foreground     the share of crops that are placed so that their target holds a pixel of another class than 0
    output_margin  m, for a valid network: how much smaller its output is at each side; the target is the centre of the
                   input. So that the network also learns the pixels at an image's border, crops then reach m over it;
                   there, and in images smaller than the crop, the image is continued by reflection, as `predict` does.

    Where cells are numbered they are deformed as numbers and then parted (or given borders, by the coding of the data
    set), so that those that were apart stay apart and lines are as wide as ever, and
    the weights are computed of what came out: interpolated ones lose a quarter of their height in a gap of one pixel.
    Without deformation they are computed once an image, and kept.
    """

    dataset: Dataset
    seed: int
    batch_size: int
    crop: tuple[int, int] | None
    augment: Augmentation | str | None = "flips"
    weights: PixelWeights | None = None
    foreground: float = 0.0
    output_margin: int = 0
    _kept: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)  # see `_once`

    def batch(self, step: int) -> Batch:
        """The batch of a step. DataError where crops leave nothing of the output, or whole images differ in size."""
        rng = np.random.default_rng([self.seed, step])
        indices = _indices(len(self.dataset), step, self.batch_size, self.seed)
        if self.crop is None:
            _check_equal_sizes(self.dataset, indices)
        images, targets, weights = zip(*(self._piece(i, rng) for i in indices), strict=True)
        return Batch(
            # Stacking turned pieces would keep their turned order in memory.
            np.ascontiguousarray(np.stack(images)),
            np.stack(targets).astype(np.int64, order="C"),
            None if self.weights is None else np.ascontiguousarray(np.stack(weights), np.float32),
        )

    def _piece(self, i: int, rng: np.random.Generator) -> Piece:
        if isinstance(self.augment, Augmentation):
            image, target, weight = self._deformed(i, self.augment, rng)
        else:
            image, target, weight = self._cut(i, rng)
            if self.augment == "flips":
                image, target, weight = _turn(image, target, weight, rng)
        return image, _inner(target, self.output_margin), None if weight is None else _inner(weight, self.output_margin)

    def _cut(self, i: int, rng: np.random.Generator) -> Piece:
        """A crop of image i as it is."""
        image, target = self.dataset.images[i], self.dataset.targets[i]
        weights = self.weights
        weight = None if weights is None else self._once(i, lambda: weights_of(self.dataset, i, weights))
        if self.crop is None:
            return image, target, weight
        rows, columns = self._window(i, self.crop, (0, 0), rng)
        weight = None if weight is None else weight[rows, columns]
        return image[:, rows, columns], target[rows, columns], weight

    def _deformed(self, i: int, augmentation: Augmentation, rng: np.random.Generator) -> Piece:
        """A crop of image i, taken from a larger window and deformed."""
        if self.crop is None:
            raise ValueError("deformation needs a crop")
        window = augmentation.window(self.crop)
        around = ((window[0] - self.crop[0]) // 2, (window[1] - self.crop[1]) // 2)
        rows, columns = self._window(i, self.crop, around, rng)
        image = self.dataset.images[i][:, rows, columns]
        numbered = self.dataset.ids is not None or (self.weights is not None and self.weights.w0 > 0)
        labels = self.dataset.targets[i]
        if numbered:
            labels = self._once(i, lambda: instances(self.dataset, i))
        labels = labels[rows, columns]
        standardized = self.dataset.preprocessing.normalize == "standardize"
        spread = 1.0 if standardized else float(image.std())
        image, deformed, _ = augmentation.apply(image, labels, None, rng, self.crop, spread)
        assert deformed is not None  # labels were given
        target, cells = kept_apart(deformed, self.dataset.coding) if numbered else (deformed, None)
        return image, target, None if self.weights is None else self.weights(target, cells)

    def _window(
        self, i: int, crop: tuple[int, int], around: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows (h, 1) and columns (w,) of a crop of image i at a random place, with so much more around it."""
        target = self.dataset.targets[i]
        wanted = None
        if self.foreground and rng.random() < self.foreground:
            found = np.flatnonzero(target)
            wanted = divmod(int(found[rng.integers(len(found))]), target.shape[1]) if len(found) else None
        margin, sides = self.output_margin, []
        for k in (0, 1):
            # What is in the inner half of the output stays in it, however it is turned and enlarged.
            inside = margin + ((crop[k] - 2 * margin) // 4 if any(around) else 0)
            sides.append(_window(target.shape[k], crop[k], margin, rng, around[k], wanted and wanted[k], inside))
        return sides[0][:, None], sides[1]

    def _once(self, i: int, make: Callable[[], np.ndarray]) -> np.ndarray:
        """What was made of the whole image i, at the first call. Two threads may both make it: the same numbers."""
        if i not in self._kept:
            self._kept[i] = make()
        return self._kept[i]


def _indices(count: int, step: int, batch_size: int, seed: int) -> list[int]:
    """The images of a step: the epochs' permutations, one behind the other, in batches."""
    chosen = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        epoch, i = divmod(place, count)
        order = np.random.default_rng([seed, epoch, ORDER]).permutation(count)
        chosen.append(int(order[i]))
    return chosen


def _window(
    size: int,
    wanted: int,
    margin: int,
    rng: np.random.Generator,
    around: int = 0,
    pixel: int | None = None,
    inside: int = 0,
) -> np.ndarray:
    """Indices along one side of a random window of `wanted` pixels, and `around` more at its ends; reflected.

    pixel: one that shall lie in the window, at least so many pixels `inside` of its ends.
    """
    first, last = -margin, size + margin - wanted
    if last < first:  # a smaller image lies in the middle of the window
        start = (size - wanted) // 2
    else:
        if pixel is not None:
            low, high = pixel - wanted + 1 + inside, pixel - inside
            over = high if high < first else low  # the border, as little as it can, where it must
            first, last = (over, over) if high < first or low > last else (max(first, low), min(last, high))
        start = int(rng.integers(first, last + 1))
    return reflect(np.arange(start - around, start + wanted + around), size)


def reflect(indices: np.ndarray, size: int) -> np.ndarray:
    """Indices of any range -> 0..size-1 by reflection, as np.pad(mode="reflect") continues."""
    if size == 1:
        return np.zeros_like(indices)
    period = 2 * (size - 1)
    indices = indices % period
    return np.minimum(indices, period - indices)


def _turn(image: np.ndarray, target: np.ndarray, weight: np.ndarray | None, rng: np.random.Generator) -> Piece:
    """One of the eight (square) or four (oblong) symmetries, the same for all."""
    square = target.shape[0] == target.shape[1]
    quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    mirrored = bool(rng.integers(2))

    def turned(array: np.ndarray) -> np.ndarray:
        return np.rot90(array[..., ::-1] if mirrored else array, quarters, (-2, -1))

    return turned(image), turned(target), None if weight is None else turned(weight)


def _inner(target: np.ndarray, margin: int) -> np.ndarray:
    height, width = target.shape
    if margin and min(height, width) <= 2 * margin:
        raise DataError(
            f"a crop of {height}x{width} leaves nothing of the output, which is {margin} pixels "
            "smaller at each side; give a larger --crop"
        )
    return target[margin : height - margin, margin : width - margin]


def _check_equal_sizes(dataset: Dataset, indices: list[int]) -> None:
    first = indices[0]
    for i in indices:
        if dataset.targets[i].shape != dataset.targets[first].shape:
            raise DataError(
                "whole images of different sizes cannot be one batch "
                f"({dataset.names[first]} {dataset.targets[first].shape}, "
                f"{dataset.names[i]} {dataset.targets[i].shape}, height and width); give --crop"
            )
