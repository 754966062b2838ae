"""Images that show which values the layers take: read as `minunet predict` reads them, cut to the size of the export.

Each image is prepared whole, by the model's own preprocessing, and then cut into windows that cover it; those at its
right and lower border reach back into the image.  No more than a few windows are held at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from minunet.data import DataError, find_images, is_picture
from minunet.data.images import read_stack
from minunet.errors import UsageError
from minunet.export.c.network import CONV, READ, UP, Network
from minunet.export.int8.floats import outputs
from minunet.prediction.predict import prepare

if TYPE_CHECKING:
    from minunet.unet import UNet

Images: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Sequence[np.ndarray]"

MOST_PIXELS = 2**17  # in a batch: two windows of 256 x 256
BITS_LEFT_OUT = 18  # of a float32: what is left are its exponent and 5 bits, so 32 bins an octave, for any range
BINS = 255 << (23 - BITS_LEFT_OUT)  # of finite numbers
OCTAVES = 6  # that a clamp is tried below the largest value
# The middle of each bin.
VALUES = (np.arange(BINS, dtype=np.uint32) << BITS_LEFT_OUT | 1 << (BITS_LEFT_OUT - 1)).view(np.float32).astype(float)


def batches(model: UNet, images: Images, size: Sequence[int]) -> Iterator[np.ndarray]:
    """Prepared windows (N, C, *size), a few at a time.

    images: a folder or an image file, or several of these, or images as arrays (H, W), (H, W, C) or (C, H, W).
    DataError where a file cannot be read, an image does not fit the model's channels or is smaller than `size`;
    UsageError where there is none.
    """
    most = max(1, MOST_PIXELS // (size[0] * size[1]))
    waiting: list[np.ndarray] = []
    found = False
    for window in _windows(model, images, size):
        found = True
        waiting.append(window)
        if len(waiting) == most:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)
    if not found:
        raise UsageError("there is no image to calibrate with")


def ranges(network: Network, batches: Iterable[np.ndarray]) -> list[tuple[float, float]]:
    """For each layer that computes values of its own, the range that its bytes shall cover; (0, 0) for others.

    (0, largest) where no value is negative, else (-largest, largest).  It is the range with the least squared error
    over all batches: a few values far out are better clamped than paid for with coarser steps for all others.
    DataError where a value is not finite.
    """
    counts = np.zeros((len(network), BINS), np.int64)
    least = np.zeros(len(network))
    own = [i for i, layer in enumerate(network) if layer.kind in (READ, CONV, UP)]
    for batch in batches:
        for i, y in enumerate(outputs(network, batch)):
            if i not in own:
                continue
            if not np.isfinite(y).all():
                raise DataError("the network gives NaN or infinite values for the images to calibrate with")
            counts[i] += np.bincount(np.abs(y).view(np.uint32).ravel() >> BITS_LEFT_OUT, minlength=BINS)
            least[i] = min(least[i], y.min())
    found = [(0.0, 0.0)] * len(network)
    for i in own:
        signed = network[i].kind == UP or least[i] < 0
        largest = best_range(counts[i], 127 if signed else 255)
        found[i] = (-largest if signed else 0.0, largest)
    return found


def best_range(counts: np.ndarray, steps: int) -> float:
    """Where to clamp values of which so many lie in each bin, if the range has so many steps.

    With a step s and a clamp at c = steps * s the squared error is  s^2 / 12  for what lies below c (its place between
    two steps is anywhere), and  (r - c)^2  for a value r beyond.  Clamps are tried from the largest value down, an
    eighth of an octave apart.
    """
    bins = np.flatnonzero(counts)
    values, weights = VALUES[bins], counts[bins].astype(np.float64)
    if not values[-1:].any():
        return 0.0
    clamps = values[-1] * 2.0 ** (-np.arange(OCTAVES * 8) / 8)
    beyond = values > clamps[:, None]
    errors = np.where(beyond, np.square(values - clamps[:, None]), np.square(clamps[:, None] / steps) / 12)
    return float(clamps[(errors * weights).sum(axis=1).argmin()])


def _windows(model: UNet, images: Images, size: Sequence[int]) -> Iterator[np.ndarray]:
    for name, image, channels_last in _read(images):
        try:
            planes = prepare(model, image, channels_last).astype(np.float32, copy=False)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        height, width = planes.shape[1:]
        if len(planes) != model.in_channels:
            raise DataError(f"{name}: found {len(planes)} channels, expected {model.in_channels}, those of the model")
        if height < size[0] or width < size[1]:
            raise DataError(
                f"{name}: an image of {height} x {width} px is smaller than the {size[0]} x {size[1]} px of the "
                "export: calibrate with larger images, or export a smaller size"
            )
        for top in _starts(height, size[0]):
            for left in _starts(width, size[1]):
                yield planes[:, top : top + size[0], left : left + size[1]]


def _starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover a length; the last one ends with it."""
    return [min(start, length - window) for start in range(0, length, window)]


def _read(images: Images) -> Iterator[tuple[str, np.ndarray, bool]]:
    """(name, image, whether it is (H, W, C)) of all images."""
    places = [images] if isinstance(images, (str, os.PathLike)) else images
    for number, place in enumerate(places):
        if isinstance(place, np.ndarray):
            yield f"image {number}", place, False
            continue
        for file in find_images(Path(place)):
            for page in read_stack(file):
                yield str(file), page, is_picture(file)
