"""Probabilities for one image of any size.

The network only takes some sizes: a valid one needs a side of -4 modulo 2^L and loses
6 * 2^L - 4 pixels a side, a same-padded one is at its best at multiples of 2^L, where no skip is
resized. So the image is first continued by reflection, and the result cut back to its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from minunet import device
from minunet import functional as F
from minunet.autograd import Array, Tensor, no_grad

if TYPE_CHECKING:
    from minunet.data import Preprocessing
    from minunet.unet import UNet

ONE_AT_A_TIME = "predict takes one image at a time"
ALPHA = (2, 4)  # channels, the last of which is transparency in picture files


def predict(
    model: UNet,
    image: np.ndarray | Tensor,
    tile: int | tuple[int, int] | None = None,
    tta: bool = False,
    channels_last: bool = False,
) -> np.ndarray:
    """Class probabilities of one image, at the image's own size.

    image: (H, W), (H, W, C) or (C, H, W), raw integers or floats, as it comes from the file; the
    model's own preprocessing is applied. Every size from 1 x 1 works.
    channels_last: says that an image of three dimensions is (H, W, C), as picture files are, where its sides leave
        that open: (1, W, 3) may be one row of colours, or W x 3 grey pixels.

    Returns (K, H, W) in the model's dtype, summing to 1 over K. A model with one output channel
    gives K = 2: [1 - p, p]. The model runs in evaluation mode and is then put back as it was.
    On a GPU the image goes there in one copy, and the probabilities come back in one.

    Raises ValueError for several images, where the image's channels do not fit the model (an alpha channel, which is
    dropped, can be last only), where a value is NaN or infinite and for a tile below 1 px; MemoryError where image,
    result and the smallest tiles are too large for the memory (`predict_large` then goes from file to file).
    """
    from minunet.prediction.tiling import predict_tiles, tile_for_memory  # late, since they need what is in this file

    _refuse_several(image)
    image = np.asarray(device.to_host(image.data if isinstance(image, Tensor) else image))
    size = _checked_size(model, image, channels_last)
    with _memory_in_words(model, size):
        given = tile_for_memory(model, size) if tile is None else sides(tile)
        x = prepare(model, image, channels_last)
        if given is None and not tta:
            return device.to_host(probabilities(predict_logits(model, x)))
        return predict_tiles(model, x, given or size, tta)


def sides(tile: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a tile that may be given as one side. ValueError where it is neither."""
    pair = (tile, tile) if isinstance(tile, (int, np.integer)) else tuple(tile)
    if len(pair) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in pair):
        raise ValueError(f"tile must be a number of pixels above 0, or (height, width), found {tile!r}")
    return int(pair[0]), int(pair[1])


def _refuse_several(image: object) -> None:
    """NumPy would make one array of them."""
    if isinstance(image, (list, tuple)):
        raise ValueError(f"a {type(image).__name__} of {len(image)}, not an image: {ONE_AT_A_TIME}")


def _checked_size(model: UNet, image: np.ndarray, channels_last: bool) -> tuple[int, int]:
    """(H, W); stacks of images, which would be taken for channels, and values that are no numbers are refused."""
    from minunet.data import DataError
    from minunet.data.images import LARGEST
    from minunet.data.preprocessing import channels_first

    try:
        planes = channels_first(image, preprocessing_of(model).channels, channels_last)
    except DataError as error:
        raise DataError(f"{error}; {ONE_AT_A_TIME}" if image.ndim > 2 and image.size else str(error)) from None
    # Its own axes in their order: the first axis was taken for the channels.
    if image.ndim == 3 and planes is image and len(image) in ALPHA and len(image) != preprocessing_of(model).channels:
        raise DataError(
            f"shape {image.shape} has {len(image)} channels for a model of {model.in_channels}. If these are "
            f"images: {ONE_AT_A_TIME}; if the last of them is alpha: leave it out, image[:-1]"
        )
    if image.dtype.kind == "f" and not (image.min() >= -LARGEST and image.max() <= LARGEST):  # false for NaN
        raise DataError("the image holds NaN, infinite or too large values: replace them by numbers that float32 holds")
    return planes.shape[1:]


@contextmanager
def _memory_in_words(model: UNet, size: tuple[int, int]) -> Iterator[None]:
    from minunet.prediction.tiling import least_memory
    from minunet.training.estimate import in_words

    try:
        yield
    except MemoryError:
        raise MemoryError(
            f"not enough memory for {size[0]} x {size[1]} px, which take about {in_words(least_memory(model, size))} "
            "even in small tiles: predict it from file to file (mn.predict_large), or cut it into smaller images"
        ) from None


def prepare(model: UNet, image: np.ndarray, channels_last: bool = False) -> np.ndarray:
    """The raw image as the network wants it: (C, H, W) in the model's dtype."""
    return preprocessing_of(model)(image, model.dtype, channels_last)


def preprocessing_of(model: UNet) -> Preprocessing:
    """The model's preprocessing; a model that was never trained at least knows its channels."""
    from minunet.data import Preprocessing  # late, since `import minunet` imports this file

    known = model.preprocessing or Preprocessing()
    return Preprocessing(known.channels or model.in_channels, known.normalize)


def predict_logits(model: UNet, x: np.ndarray) -> Array:
    """Logits (out_channels, H, W), where the model lies, of one prepared image x (C, H, W)."""
    return logits_of_padded(model, padded(model, x), x.shape[1:])


def padded(model: UNet, x: np.ndarray) -> np.ndarray:
    """The prepared image x (C, H, W), continued by reflection, as a batch of one."""
    height, width = x.shape[1:]
    return np.pad(x, ((0, 0), *reflection(model, (height, width))), mode="reflect")[None]


def logits_of_padded(model: UNet, batch: Array, size: tuple[int, ...]) -> Array:
    """Logits (out_channels, *size) of a `padded` image that was of this size."""
    height, width = size
    with evaluating(model):
        logits = model(batch)
    return logits.data[0, :, :height, :width]


def probabilities(logits: Array) -> Array:
    """(K, ...) logits to probabilities over the first axis; one logit gives [1 - p, p]."""
    if len(logits) == 1:
        logits = np.concatenate([np.zeros_like(logits), logits])  # softmax of (0, z) = sigmoid of z
    with no_grad():
        return F.softmax(logits[None]).data[0]


def reflection(model: UNet, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Pixels to add: ((top, bottom), (left, right)), so that the network takes the image and
    the first `size` pixels of its output are the image's own."""
    return _added(model, size[0]), _added(model, size[1])


def padded_size(model: UNet, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of what the network is given for an image of `size`."""
    (top, bottom), (left, right) = reflection(model, size)
    return top + size[0] + bottom, left + size[1] + right


def _added(model: UNet, side: int) -> tuple[int, int]:
    block = 2**model.levels
    if model.padding == "same":
        return 0, -side % block
    margin = 6 * block - 4
    return margin, margin + (4 - side) % block


@contextmanager
def evaluating(model: UNet) -> Iterator[None]:
    """Evaluation mode without a graph; afterwards the model is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        if was_training:
            model.train()
