"""Elastic deformation, and sampling an image where its pixels have moved to. NumPy alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ORDERS = (1, 3)  # of interpolation: linear, cubic
BAND = 1 << 13  # pixels that are sampled at once: large temporary arrays cost more than the sums
Taps = list[tuple[np.ndarray, np.ndarray]]  # indices along an axis, and what each counts


def elastic_deform(
    image: np.ndarray,
    labels: np.ndarray | None,
    weight: np.ndarray | None,
    sigma: float = 10.0,
    grid: int = 3,
    rng: np.random.Generator | int | None = None,
    order: int = 1,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Bend an image, its labels and its weights alike: (image, labels, weight) of the same shapes, as new arrays.

    image   (C, H, W) or (H, W) of any real numbers, interpolated: linear (`order` 1) or cubic (3) -> float32
    labels  (H, W) of any dtype, or None; the nearest pixel's, so no new values -> the same dtype
    weight  (H, W), or None; linear -> float32

    float64 images and weights stay float64. Linear interpolation halves a pixel's noise at worst and never leaves the
    range of the values; cubic keeps more of fine texture and overshoots a little at edges.

    One field for all three (see `displacements`): random displacements on a coarse grid x grid grid whose outer points
    are the image's corners, Gaussian with standard deviation `sigma` pixels, as in Ronneberger, Fischer and Brox
    (2015), section 3.1. A pixel takes the value found at its own place plus the displacement; beyond the border the
    image goes on mirrored, as np.pad(mode="reflect"). sigma=0 is the exact identity.

    `rng` alone decides the field: a generator, which moves on, or a seed; None draws another field at every call.
    Where sigma is more than about a sixth of the grid's spacing, fields that fold the image over itself become common.
    ValueError where the arrays do not fit each other.
    """
    image, labels, weight = _checked(image, labels, weight)
    field = displacements(image.shape[-2:], sigma, grid, np.random.default_rng(rng))
    if not field.any():
        return image.copy(), _copy(labels), _copy(weight)
    return resample(image, labels, weight, pixel_grid(image.shape[-2:]) + field, order)


def displacements(shape: tuple[int, ...], sigma: float, grid: int, rng: np.random.Generator) -> np.ndarray:
    """A random smooth field (2, H, W) float32: rows and columns by which each pixel of `shape` (H, W) is displaced.

    The random values at the points of the grid are interpolated by cubic convolution along each axis (Keys 1981).
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be a number of pixels from 0 up, not {sigma}")
    if grid < 2:
        raise ValueError(f"the grid must have at least 2 x 2 points, not {grid} x {grid}")
    points = rng.normal(0.0, sigma, (2, grid, grid)).astype(np.float32)
    down, across = (_from_grid(side, grid) for side in shape)
    # Sums written out: a matrix product's last bits would depend on the machine's BLAS.
    columns = np.zeros((2, len(down), grid), np.float32)
    field = np.zeros((2, len(down), len(across)), np.float32)
    for i in range(grid):
        columns += down[:, i, None] * points[:, None, i]
    for i in range(grid):
        field += columns[:, :, i, None] * across[:, i]
    return field


def _from_grid(side: int, grid: int) -> np.ndarray:
    """What each point of the grid counts at each pixel of a side, (side, grid) float32; each row sums to 1."""
    places = np.linspace(0, grid - 1, side) if side > 1 else np.array([(grid - 1) / 2])
    counts = np.zeros((side, grid))
    for point in range(-1, grid + 1):
        # The outermost points stand for those beyond them.
        counts[:, min(max(point, 0), grid - 1)] += _cubic(places - point)
    return counts.astype(np.float32)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """The kernel of cubic convolution: 1 at 0, 0 at all other integers and from 2 on (Keys 1981, a = -1/2)."""
    x = np.abs(distance)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0)).astype(x.dtype)


def pixel_grid(shape: tuple[int, ...]) -> np.ndarray:
    """Each pixel's own place: rows and columns, (2, H, W) float32."""
    return np.indices(shape, np.float32)


def resample(
    image: np.ndarray,
    labels: np.ndarray | None,
    weight: np.ndarray | None,
    places: np.ndarray,
    order: int = 1,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Image (C, h, w) or (h, w), labels and weight (h, w) at `places` (2, H, W), rows and columns in pixels.

    The image is interpolated with `order` 1 or 3, the weight linearly; labels are the nearest pixel's. Mirrored beyond
    the border. Places that are whole numbers give the pixels' own values.
    """
    if order not in ORDERS:
        raise ValueError(f"the order of interpolation must be 1 or 3, not {order}")
    planes = image.reshape(-1, *image.shape[-2:])
    step = max(1, BAND // max(1, places.shape[2]))
    bands = [places[:, start : start + step] for start in range(0, places.shape[1], step)]
    images, labels_there, weights = zip(*(_sample(planes, labels, weight, band, order) for band in bands), strict=True)
    return (
        np.concatenate(images, axis=1).reshape(*image.shape[:-2], *places.shape[1:]),
        None if labels is None else np.concatenate(labels_there),
        None if weight is None else np.concatenate(weights),
    )


def _sample(
    planes: np.ndarray, labels: np.ndarray | None, weight: np.ndarray | None, places: np.ndarray, order: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Planes (C, h, w), labels and weight (h, w) at places (2, H, W)."""
    mixing = _mixing(places, planes.shape[1:], order)
    linear = mixing if order == 1 or weight is None else _mixing(places, planes.shape[1:], 1)
    return (
        _mixed(planes, *mixing),
        None if labels is None else _nearest(labels, places),
        None if weight is None else _mixed(weight[None], *linear)[0],
    )


def _mixing(places: np.ndarray, shape: tuple[int, ...], order: int) -> tuple[Taps, Taps]:
    """Which rows and which columns of an image (h, w) are mixed at each place; rows as indices of their first pixel."""
    return _taps(places[0], shape[0], order, stride=shape[1]), _taps(places[1], shape[1], order)


def _mixed(planes: np.ndarray, down: Taps, across: Taps) -> np.ndarray:
    """Planes (C, h, w) -> (C, H, W): the columns of each row first, then the rows."""
    flat = planes.reshape(len(planes), -1)
    result: Any = 0
    for starts, row_counts in down:
        line: Any = 0
        for columns, counts in across:
            line += _take(flat, starts + columns) * counts
        line *= row_counts
        result += line
    return result


def _taps(places: np.ndarray, size: int, order: int, stride: int = 1) -> Taps:
    """The pixels of one axis that are mixed at each place: two for linear interpolation, four for cubic.

    Indices are mirrored into the axis and multiplied by `stride`.
    """
    below = np.floor(places)
    part = places - below
    offsets = (0, 1) if order == 1 else (-1, 0, 1, 2)
    counts = [1 - part, part] if order == 1 else [_cubic(part - k) for k in offsets]
    return list(zip(_mirrored(below, offsets, size, stride), counts, strict=True))


def _nearest(labels: np.ndarray, places: np.ndarray) -> np.ndarray:
    height, width = labels.shape
    (start,) = _mirrored(np.rint(places[0]), (0,), height, width)
    (column,) = _mirrored(np.rint(places[1]), (0,), width)
    return labels.ravel().take(start + column)


def _mirrored(places: np.ndarray, offsets: tuple[int, ...], size: int, stride: int = 1) -> list[np.ndarray]:
    """stride * index for whole places of any range plus each of the offsets.

    An index is 0..size-1, as np.pad(mode="reflect") continues; read from a table, which is faster than dividing.
    """
    low, high = (int(edge) for edge in (places.min(), places.max()))
    first, last = min(0, low + offsets[0]), max(size - 1, high + offsets[-1])
    table = stride * np.pad(np.arange(size), (-first, last - size + 1), mode="reflect")
    indices = places.astype(np.intp)
    indices -= first
    return [table[k:].take(indices) if k >= 0 else table.take(indices + k) for k in offsets]


def _take(flat: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """flat (C, n) at indices (H, W) -> (C, H, W)."""
    result = np.empty((len(flat), *indices.shape), flat.dtype)
    for plane, there in zip(flat, result, strict=True):
        plane.take(indices, out=there, mode="clip")  # no index is outside: "raise" would only make a copy first
    return result


def _checked(
    image: np.ndarray, labels: np.ndarray | None, weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    image = _floating(image)
    if image.ndim not in (2, 3) or not image.size:
        raise ValueError(f"an image must be (C, H, W) or (H, W), and not empty, not of shape {image.shape}")
    labels = None if labels is None else np.asarray(labels)
    weight = None if weight is None else _floating(weight)
    for name, array in (("labels", labels), ("weight", weight)):
        if array is not None and array.shape != image.shape[-2:]:
            raise ValueError(f"{name} must be (H, W) as the image, {image.shape[-2:]}, not {array.shape}")
    return image, labels, weight


def _floating(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def _copy(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.copy()
