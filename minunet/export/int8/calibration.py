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
    """Least and largest value of each layer's output over all batches; (0, 0) for what computes no values of its own.

    DataError where a value is not finite.
    """
    found = [(np.inf, -np.inf)] * len(network)
    for batch in batches:
        for i, y in enumerate(outputs(network, batch)):
            least, largest = float(y.min()), float(y.max())
            if not np.isfinite(least + largest):
                raise DataError("the network gives NaN or infinite values for the images to calibrate with")
            found[i] = min(found[i][0], least), max(found[i][1], largest)
    own = (READ, CONV, UP)
    return [pair if layer.kind in own else (0.0, 0.0) for pair, layer in zip(found, network, strict=True)]


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
