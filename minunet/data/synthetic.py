"""Generated micrographs of touching cells, for the demo, the tests and everyone without data."""

from __future__ import annotations

import numpy as np

# Lengths are in units of the picture's side.
RADII = (0.07, 0.11)  # of a cell
CELLS = (10, 20)  # in a picture
TOUCHING = 0.85  # share of cells that are put beside another one
SLIVER = 0.002  # a cell must show at least this share of the picture's pixels
BLOBS = (6, 14)  # of debris in a picture


def cells(n: int, size: int = 128, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """`n` pictures of textured, touching cells: images uint8 (H, W), labels uint16 (H, W).

    Labels are instance ids 1..k, 0 is background. The same (size, seed) gives the same pictures,
    and picture i does not depend on n.

    Cells are little brighter than what is around them, and not in their dark rims and grain. The
    light is uneven by more than this contrast, and bright debris lies between the cells. So no
    threshold of the brightness finds them, but an eye or a small network does, by the grain, the
    rim and the faint halo.
    """
    if size < 16:
        raise ValueError(f"size must be at least 16 pixels, not {size}")
    pictures = [_picture(size, np.random.default_rng([seed, i])) for i in range(n)]
    return [image for image, _ in pictures], [labels for _, labels in pictures]


def _picture(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels, depth = _shapes(size, rng)
    inside = labels > 0

    # depth is 0 at a cell's border and 1 at its centre, and negative outside.
    rim = np.exp(-(((depth - 0.06) / 0.09) ** 2)) * inside
    halo = np.exp(-((depth / 0.12) ** 2)) * ~inside
    interior = np.clip(depth / 0.2, 0, 1) * inside
    brightness = rng.uniform(0.10, 0.38, int(labels.max()) + 1)[labels]
    grain = 0.14 * _noise(size, size / 116, rng)

    image = 0.38 + interior * (brightness + grain) - 0.20 * rim + 0.08 * halo
    image += 0.02 * _noise(size, size / 20, rng) + _debris(size, rng) * ~inside
    image = image * _light(size, rng)
    image += 0.04 * np.sqrt(image.clip(0.05, None)) * rng.normal(size=image.shape)  # photon noise
    return (255 * image.clip(0, 1)).astype(np.uint8), labels


def _shapes(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and how deep each pixel lies in its (or its nearest) cell.

    A cell is a wobbly circle; where two overlap, a pixel goes to the one it lies deeper in, so
    that neighbours meet in a common border.
    """
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) / size
    labels = np.zeros((size, size), np.uint16)
    depth = np.full((size, size), -1.0, np.float32)
    for label, (cy, cx, radius) in enumerate(_places(rng), start=1):
        dy, dx = y - np.float32(cy), x - np.float32(cx)
        angle, edge = np.arctan2(dy, dx), np.float32(radius)
        for waves, strength in ((2, 0.12), (3, 0.06), (5, 0.03)):
            wobble, phase = radius * strength * rng.normal(), rng.uniform(0, 2 * np.pi)
            edge = edge + np.float32(wobble) * np.cos(waves * angle + np.float32(phase))
        here = 1 - np.hypot(dy, dx) / np.maximum(edge, 0.3 * np.float32(radius))
        nearer = here > depth
        depth[nearer] = here[nearer]
        labels[nearer & (here > 0)] = label
    return _without_slivers(labels), depth


def _places(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Centre and radius of every cell; each one lies near an earlier one, or alone."""
    places: list[tuple[float, float, float]] = []
    count = rng.integers(*CELLS)
    for _ in range(20 * count):
        radius = rng.uniform(*RADII)
        if places and rng.random() < TOUCHING:
            y, x, other = places[rng.integers(len(places))]
            angle = rng.uniform(0, 2 * np.pi)
            y += 0.9 * (radius + other) * np.sin(angle)
            x += 0.9 * (radius + other) * np.cos(angle)
        else:
            y, x = rng.uniform(0, 1, 2)
        free = all(np.hypot(y - v, x - u) > 0.85 * (radius + r) for v, u, r in places)
        if free and 0 < y < 1 and 0 < x < 1:
            places.append((y, x, radius))
        if len(places) == count:
            break
    return places


def _without_slivers(labels: np.ndarray) -> np.ndarray:
    """Cells of which a few pixels are seen go to the background; ids become 1..k again."""
    keep = np.bincount(labels.ravel()) >= SLIVER * labels.size
    keep[0] = False
    return (np.cumsum(keep) * keep)[labels].astype(np.uint16)


def _noise(size: int, scale: float, rng: np.random.Generator) -> np.ndarray:
    """White noise blurred by a Gaussian of `scale` pixels, of standard deviation 1 (periodic)."""
    f = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size) ** 2
    spectrum = np.fft.rfft2(rng.normal(size=(size, size))) * np.exp(-2 * (np.pi * scale) ** 2 * f)
    field = np.fft.irfft2(spectrum, (size, size))
    return (field - field.mean()) / field.std()


def _debris(size: int, rng: np.random.Generator) -> np.ndarray:
    """Bright blobs, most of them out of focus."""
    y = (np.arange(size)[:, None] + 0.5) / size
    x = y.T
    blobs = np.zeros((size, size))
    for _ in range(rng.integers(*BLOBS)):
        (cy, cx), radius = rng.uniform(0, 1, 2), rng.uniform(0.008, 0.03)
        square = ((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2)
        blobs += rng.uniform(0.15, 0.5) * np.exp(-square)
    return blobs


def _light(size: int, rng: np.random.Generator) -> np.ndarray:
    """Illumination, about 1 in the mean: a slope across the picture and slow clouds."""
    y = (np.arange(size)[:, None] + 0.5) / size - 0.5
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.7)
    clouds = 0.16 * _noise(size, size / 5, rng).clip(-2, 2)
    return 1 + slope * (np.sin(angle) * y + np.cos(angle) * y.T) + clouds
