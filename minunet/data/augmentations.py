"""Augmentation: one sample as it might also have been taken. Small functions, and a recipe that draws from them.

Where things are (shift, rotation, scale, flips, elastic deformation) is one map of coordinates, so that image, labels
and weight move together and are interpolated once. How things look (grey values, blur, noise) changes the image alone.
Nothing here knows which step or which worker it runs in: the same generator gives the same sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from minunet.data.deform import ORDERS, displacements, pixel_grid, resample

STIFFNESS = 12.0  # the grid's spacing is at least this many standard deviations of the elastic displacements


def affine_places(
    shape: tuple[int, ...],
    size: tuple[int, int],
    angle: float = 0.0,
    scale: float = 1.0,
    flips: tuple[bool, bool] = (False, False),
    shift: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Where a crop of `size` (H, W) takes its pixels from in a window of `shape` (h, w): (2, H, W) float32, in pixels.

    The crop's centre lies `shift` pixels (down, right) from that of the window's middle `size` pixels. The crop shows
    the window enlarged by `scale`, turned by `angle` degrees anticlockwise, then flipped (up-down, left-right).
    """
    cosine, sine = _turned(angle)
    down, right = pixel_grid(size)
    down, right = down - (size[0] - 1) / 2, right - (size[1] - 1) / 2
    down, right = -down if flips[0] else down, -right if flips[1] else right
    rows = (cosine * down + sine * right) / scale
    columns = (cosine * right - sine * down) / scale
    # Whole pixels are cut off at the top and the left, so that a crop that is moved by nothing is not interpolated.
    tops = [(whole - part) // 2 + (part - 1) / 2 for whole, part in zip(shape, size, strict=True)]
    return np.stack([rows + (tops[0] + shift[0]), columns + (tops[1] + shift[1])]).astype(np.float32)


def _turned(angle: float) -> tuple[float, float]:
    """Cosine and sine of an angle in degrees; exact for quarter turns, which then move whole pixels."""
    quarters = angle / 90
    if quarters == round(quarters):
        return [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)][round(quarters) % 4]
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Differences from the image's mean, times `factor`."""
    mean = image.mean(dtype=np.float64)
    return ((image - mean) * factor + mean).astype(image.dtype)


def gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    """Values t between the image's smallest, 0, and its largest, 1, become t ** exponent; the two stay."""
    low, high = image.min(), image.max()
    if not low < high:
        return image.copy()
    return (((image - low) / (high - low)) ** image.dtype.type(exponent)) * (high - low) + low


def brightness(image: np.ndarray, amount: float) -> np.ndarray:
    """`amount` added to every value."""
    return image + image.dtype.type(amount)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """The image (C, H, W) out of focus: a Gaussian of standard deviation `sigma` pixels, mirrored at the border."""
    radius = math.ceil(3 * sigma)
    if radius == 0:
        return image.copy()
    counts = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    counts = (counts / counts.sum()).astype(image.dtype)
    for axis in (1, 2):
        around = [(0, 0), (0, 0), (0, 0)]
        around[axis] = (radius, radius)
        # The axis to be blurred first: its shifted copies are then slices.
        wide = np.moveaxis(np.pad(image, around, mode="reflect"), axis, 0)
        blurred = sum(count * wide[k : k + image.shape[axis]] for k, count in enumerate(counts))
        image = np.moveaxis(blurred, 0, axis)
    return image


def noise(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of standard deviation `sigma` added, a value of its own to every pixel and channel."""
    return image + image.dtype.type(sigma) * rng.standard_normal(image.shape, np.float32)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a sample, and how strongly; 0 (or False) switches an effect off.

    flips       up-down and left-right, each with probability 1/2
    rotation    largest angle, degrees to either side
    scale       largest enlargement or reduction less 1: 0.25 is between 1/1.25 and 1.25 times
    shift       largest shift along each axis, pixels; small by default, because a crop's place is drawn anyway
    elastic     standard deviation of the displacements, pixels, on a grid of `grid` x `grid` points over the crop (see
                `elastic_deform`). At most a twelfth of the grid's spacing is taken: 10 pixels tear the cells of a crop
                of 128 pixels out of shape, as they do not in one of 256 or of the paper's size
    contrast    as scale, for the differences from the mean
    gamma       as scale, for the exponent
    brightness  largest value added or subtracted, in units of the grey values' spread
    blur        largest standard deviation of the Gaussian, pixels
    noise       largest standard deviation of the noise, in units of the grey values' spread
    order       of the image's interpolation: 1 linear, 3 cubic, sharper and slower

    Angles, shifts and amounts are drawn uniformly, factors uniformly in their logarithm. Every effect draws its numbers
    whether it is on or off, so switching one off leaves the others' draws as they were.
    """

    flips: bool = True
    rotation: float = 180.0
    scale: float = 0.25
    shift: float = 0.5
    elastic: float = 10.0
    grid: int = 3
    contrast: float = 0.25
    gamma: float = 0.25
    brightness: float = 0.25
    blur: float = 1.0
    noise: float = 0.1
    order: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field.name} must be a number from 0 up, not {value!r}")
        if self.grid < 2:
            raise ValueError(f"grid must be at least 2 points a side, not {self.grid}")
        if self.order not in ORDERS:
            raise ValueError(f"order must be 1 or 3, not {self.order}")

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the window from which a crop of `size` (H, W) hardly ever reaches out.

        Turned and scaled crops lie in it whole; of the elastic displacements two standard deviations do.
        """
        height, width = size
        steepest = math.radians(min(self.rotation, 90.0))
        angles = [steepest, *(a for a in (math.atan2(width, height), math.atan2(height, width)) if a < steepest), 0.0]
        room = 2 * (self.shift + 2 * self._elastic(size) + (self.order > 1))
        tall = max(height * math.cos(a) + width * math.sin(a) for a in angles)
        wide = max(width * math.cos(a) + height * math.sin(a) for a in angles)
        # An even number more, so that the crop lies in the middle.
        more = (side * (1 + self.scale) + room - whole for side, whole in ((tall, height), (wide, width)))
        down, across = (2 * math.ceil(pixels / 2) for pixels in more)
        return height + down, width + across

    def apply(
        self,
        image: np.ndarray,
        labels: np.ndarray | None,
        weight: np.ndarray | None,
        rng: np.random.Generator,
        size: tuple[int, int],
        spread: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """One sample: a crop of `size` (H, W) from the middle of a window.

        image (C, h, w) float32, labels (h, w) of any dtype, weight (h, w) float32 -> (C, H, W), (H, W), (H, W), the
        same dtypes; labels and weight may be None. Labels keep to values that they have. What is taken from beyond the
        window is mirrored, so the window should be as large as `window(size)` where the image goes on.

        `spread` is the standard deviation of the grey values: 1 for standardized images. The result depends on the
        arrays and on `rng` alone.
        """
        window = image.shape[-2:]
        if image.ndim != 3 or any(a is not None and a.shape != window for a in (labels, weight)):
            shapes = [None if a is None else a.shape for a in (image, labels, weight)]
            raise ValueError(f"image (C, h, w), labels (h, w) and weight (h, w) do not fit each other: {shapes}")
        places = self.places(window, size, rng)
        image, labels, weight = resample(image, labels, weight, places, self.order)
        return self.look(image, rng, spread), labels, weight

    def places(self, shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """The map of coordinates that `apply` draws, (2, H, W): see `affine_places`."""
        flips = rng.random(2) < 0.5
        draws = rng.uniform(-1, 1, 4)
        affine = affine_places(
            shape,
            size,
            angle=self.rotation * draws[0],
            scale=(1 + self.scale) ** draws[1],
            flips=(self.flips and bool(flips[0]), self.flips and bool(flips[1])),
            shift=(self.shift * draws[2], self.shift * draws[3]),
        )
        return affine + displacements(size, self._elastic(size), self.grid, rng)

    def look(self, image: np.ndarray, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        """The image (C, H, W) with the grey values, the blur and the noise that `apply` draws."""
        for_contrast, for_gamma, for_brightness = rng.uniform(-1, 1, 3)
        for_blur, for_noise = rng.random(2)
        if self.gamma:
            image = gamma(image, (1 + self.gamma) ** for_gamma)
        if self.contrast:
            image = contrast(image, (1 + self.contrast) ** for_contrast)
        if self.brightness:
            image = brightness(image, self.brightness * spread * for_brightness)
        if self.blur:
            image = blur(image, self.blur * for_blur)
        if self.noise:
            image = noise(image, self.noise * spread * for_noise, rng)
        return image

    def _elastic(self, size: tuple[int, int]) -> float:
        spacing = (min(size) - 1) / (self.grid - 1)
        return min(self.elastic, spacing / STIFFNESS)
