"""From an image as it lies in a file to the array that a network is given."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from minunet.data.errors import DataError

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
NORMALIZATIONS = ("none", "standardize")
TINY = 1e-12  # keeps the division of a constant image finite


@dataclass(frozen=True)
class Preprocessing:
    """A function from images to network inputs; it is stored with the model.

    channels: channel count of the network; None leaves the channels as they are.
    normalize: "none" leaves values as they are; "standardize" subtracts each image's mean and
    divides by its standard deviation, both over all channels, computed in float64.
    """

    channels: int | None = None
    normalize: str = "none"

    def __post_init__(self) -> None:
        if self.channels is not None and (type(self.channels) is not int or self.channels < 1):
            raise ValueError(f"channels must be a positive integer or None, not {self.channels!r}")
        if self.normalize not in NORMALIZATIONS:
            raise ValueError(f"normalize must be one of {NORMALIZATIONS}, not {self.normalize!r}")

    def __call__(
        self, image: np.ndarray, dtype: np.dtype | type = np.float32, channels_last: bool = False
    ) -> np.ndarray:
        """Image (H, W), (H, W, C) or (C, H, W) of any numbers -> (C, H, W) of `dtype`.

        The channel axis of a 3-d image is the one whose length is `channels`; where both fit, the
        last. So (1, W, 3) is for a grey model one channel of W x 3 pixels. `channels_last` says
        that it is (H, W, C), as picture files are: then it is one row of colours.

        Grey is repeated into a colour model; colour becomes luminance in a grey model, with a
        warning unless the channels are equal. An alpha channel is dropped. DataError otherwise.
        """
        planes = self.fit_channels(channels_first(image, self.channels, channels_last))
        if self.normalize == "none":
            return np.ascontiguousarray(planes, dtype)
        values = planes.astype(np.float64)
        return self.scaled(values, values.mean(), values.std(), dtype)

    @staticmethod
    def scaled(values: np.ndarray, mean: float, std: float, dtype: np.dtype | type) -> np.ndarray:
        """float64 values of mean 0 and standard deviation 1 over the image that `mean` and `std` are of."""
        return np.ascontiguousarray((values - mean) / (std + TINY), dtype)

    def fit_channels(self, planes: np.ndarray, grey: bool | None = None) -> np.ndarray:
        """(C, H, W) -> (self.channels, H, W).

        grey: whether the colours are equal in the whole image, where these are a part of one.
        """
        wanted, have = self.channels, len(planes)
        if wanted in (None, have):
            return planes
        if have in (2, 4) and wanted in (1, 3):
            planes = planes[:-1]  # alpha
        if wanted == 3 and len(planes) == 1:
            return np.repeat(planes, 3, axis=0)
        if wanted == 1 and len(planes) == 3:
            return _to_grey(planes, grey)
        if len(planes) == wanted:
            return planes
        raise DataError(f"an image of {have} channels does not fit a model of {wanted}")

    def to_json(self) -> dict:
        """A JSON-able form; `from_json` reads it."""
        return {"channels": self.channels, "normalize": self.normalize}

    @classmethod
    def from_json(cls, data: dict) -> Preprocessing:
        """Read `to_json`'s form. ValueError where it is not one."""
        if not isinstance(data, dict) or set(data) != {"channels", "normalize"}:
            raise ValueError(f"preprocessing has the keys channels and normalize, not {data!r:.80}")
        return cls(data["channels"], data["normalize"])


def channels_first(image: np.ndarray, channels: int | None = None, channels_last: bool = False) -> np.ndarray:
    """Image (H, W), (H, W, C) or (C, H, W) -> (C, H, W), a view. DataError where it is neither.

    `channels` and `channels_last` say which it is, see `Preprocessing`.
    """
    image = np.asarray(image)
    axis = channel_axis(image.shape, image.dtype, channels, channels_last)
    if axis is None:
        return image[None]
    return image.transpose(2, 0, 1) if axis == 2 else image


def channel_axis(
    shape: tuple[int, ...], dtype: np.dtype, channels: int | None = None, channels_last: bool = False
) -> int | None:
    """Which axis of an image the channels are: 0, 2, or None where it has two axes. DataError where it is no image."""
    if dtype.kind not in "biuf":
        raise DataError(f"an image of dtype {dtype}; images hold real numbers")
    if 0 in shape or len(shape) not in (2, 3):
        raise DataError(f"shape {shape} is not an image; give (H, W), (H, W, C) or (C, H, W)")
    if len(shape) == 2:
        return None
    if channels_last:
        return 2
    last, first = shape[2], shape[0]
    if channels in (last, first):
        return 2 if last == channels else 0
    if last <= 4:
        return 2
    if first <= 4:
        return 0
    raise DataError(f"shape {shape} has no axis of 1 to 4 channels")


def is_grey(image: np.ndarray) -> bool:
    """Whether an image has one channel, or equal colour channels."""
    planes = channels_first(image)
    return len(planes) <= 2 or (len(planes) in (3, 4) and _equal(planes[:3]))


def luminance(image: np.ndarray) -> np.ndarray:
    """Image of any layout -> (H, W) grey, in its own dtype where it is grey, else float64."""
    planes = channels_first(image)
    if is_grey(image):
        return planes[0]
    return np.tensordot(LUMINANCE, planes[:3].astype(np.float64), axes=1)


def _to_grey(planes: np.ndarray, grey: bool | None) -> np.ndarray:
    if _equal(planes) if grey is None else grey:
        return planes[:1]
    warnings.warn("a colour image in a grey model: its luminance is used", stacklevel=4)
    return np.tensordot(LUMINANCE, planes.astype(np.float64), axes=1)[None]


def _equal(planes: np.ndarray) -> bool:
    return bool((planes == planes[:1]).all())
