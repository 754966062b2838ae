"""Training batches: which images, which crops, turned how. A pure function of (seed, step)."""

from __future__ import annotations

import numpy as np

from minunet.data.dataset import Dataset
from minunet.data.errors import DataError

ORDER = 1  # sets the random stream of an epoch's order apart from that of a step


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
    """The batch of one step: x (N, C, h, w) float32 and targets (N, h - 2m, w - 2m) int64.

    The same (seed, step) gives the same batch, whatever was asked before. Every image comes once
    an epoch. `crop` (h, w) cuts at a random place, `None` takes whole images. `augment` flips and
    turns at random, image and target alike: by quarter turns if square, else by half turns.

    `output_margin` m, for a valid network, is how much smaller its output is at each side: the
    target is the centre of the input. So that the network also learns the pixels at an image's
    border, crops then reach m over it; there, and in images smaller than the crop, the image is
    continued by reflection, as `predict` does.
    """
    rng = np.random.default_rng([seed, step])
    indices = _indices(len(dataset), step, batch_size, seed)
    if crop is None:
        _check_equal_sizes(dataset, indices)
    pieces = []
    for i in indices:
        image, target = dataset.images[i], dataset.targets[i]
        if crop is not None:
            rows, columns = (
                _window(size, wanted, output_margin, rng)
                for size, wanted in zip(target.shape, crop, strict=True)
            )
            image, target = image[:, rows[:, None], columns], target[rows[:, None], columns]
        if augment:
            image, target = _turn(image, target, rng)
        pieces.append((image, _inner(target, output_margin)))
    images, targets = zip(*pieces, strict=True)
    # Stacking turned pieces would keep their turned order in memory.
    x = np.ascontiguousarray(np.stack(images))
    return x, np.stack(targets).astype(np.int64, order="C")


def _indices(count: int, step: int, batch_size: int, seed: int) -> list[int]:
    """The images of a step: the epochs' permutations, one behind the other, in batches."""
    chosen = []
    for place in range(step * batch_size, (step + 1) * batch_size):
        epoch, i = divmod(place, count)
        order = np.random.default_rng([seed, epoch, ORDER]).permutation(count)
        chosen.append(int(order[i]))
    return chosen


def _window(size: int, wanted: int, margin: int, rng: np.random.Generator) -> np.ndarray:
    """Indices along one side of a random window of `wanted` pixels, reflected into the image."""
    first, last = -margin, size + margin - wanted
    # A smaller image lies in the middle of the window.
    start = int(rng.integers(first, last + 1)) if last >= first else (size - wanted) // 2
    return reflect(np.arange(start, start + wanted), size)


def reflect(indices: np.ndarray, size: int) -> np.ndarray:
    """Indices of any range -> 0..size-1 by reflection, as np.pad(mode="reflect") continues."""
    if size == 1:
        return np.zeros_like(indices)
    period = 2 * (size - 1)
    indices = indices % period
    return np.minimum(indices, period - indices)


def _turn(
    image: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight (square) or four (oblong) symmetries, the same for both."""
    square = target.shape[0] == target.shape[1]
    quarters = int(rng.integers(4)) if square else 2 * int(rng.integers(2))
    if rng.integers(2):
        image, target = image[..., ::-1], target[..., ::-1]
    return np.rot90(image, quarters, (1, 2)), np.rot90(target, quarters, (0, 1))


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
