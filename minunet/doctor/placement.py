"""Do the masks lie where the picture says so? Inverted masks, and shifted ones.

Both questions are put to the correlation of the image with the region that the mask marks. Moved by a few pixels, a
mask that lies right correlates less with its image, and one that was shifted correlates more. Regions tell this better
than outlines: many masks are drawn a little too wide, and then every shift brings one side of the outline closer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minunet.data.preprocessing import luminance
from minunet.doctor.findings import Finding, some
from minunet.scores.metrics import otsu_foreground

REACH = 16  # px, the largest shift that is looked for
WINDOW = 512  # px a side, of a large image that are looked at
FAR = 3.0  # px, from which on a shift is told
CLEAR = 0.3  # correlation from which on there is something to tell
# Of the correlation that is missing (1 - c), moving must bring so much back. Single images of nuclei, membranes and
# blood cells stay below 0.013, sets whose masks are drawn 3 px too wide below 0.04, single images of such below 0.1;
# sets that are shifted by 3 px lie above 0.12, and nearly all single images shifted by 4.
GAIN, GAIN_ALONE = 0.08, 0.12
TYPICAL = 0.7  # of the set's correlation, that a single image must reach when its mask is moved
ROUGHNESS = 5  # px, side of the windows whose standard deviation is taken
INVERTED = 0.6  # share of the images that must look inverted
AGREE = 0.7  # share of the images whose contrast has one sign, so that another sign is odd

Arrays = Sequence[np.ndarray]


# ------------------------------------------------------------------------------------------- correlation maps


def correlations(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """(2 REACH + 1)^2 correlations of `image` with `region` moved by -REACH ... REACH px down and to the right.

    image (H, W) of real numbers, region (H, W) bool. Each is taken over the overlap alone. 0 where one is constant.
    """
    height, width = image.shape
    padded = tuple(-(-(side + 2 * REACH) // 32) * 32 for side in image.shape)
    moves = np.arange(-REACH, REACH + 1)

    def spectrum(a: np.ndarray) -> np.ndarray:
        return np.fft.rfft2(a, padded)

    def over_moves(product: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(product, padded)[np.ix_(moves, moves)]

    f, m = image.astype(np.float64), region.astype(np.float64)
    f = f - f.mean()
    f_, m_, squares, ones = spectrum(f), spectrum(m), spectrum(f * f), spectrum(np.ones_like(f))
    count = np.clip(height - abs(moves), 1, None)[:, None] * np.clip(width - abs(moves), 1, None)
    sum_f, sum_m = over_moves(f_ * ones.conj()), over_moves(ones * m_.conj())
    covariance = over_moves(f_ * m_.conj()) - sum_f * sum_m / count
    variance_f = over_moves(squares * ones.conj()) - sum_f**2 / count
    variance_m = sum_m - sum_m**2 / count  # the square of 0 or 1 is itself
    product = variance_f * variance_m
    small = product <= 1e-9 * max(float(product.max()), 1e-12)
    return np.where(small, 0.0, covariance / np.sqrt(np.where(small, 1.0, product)))


def contrast(image: np.ndarray, region: np.ndarray) -> float:
    """Correlation of an image's brightness with a region (H, W) bool: above 0 where the region is the brighter part."""
    bright, inside = brightness(image), region.astype(np.float64)
    spread = float(bright.std() * inside.std())
    return float(((bright - bright.mean()) * (inside - inside.mean())).mean()) / spread if spread > 1e-12 else 0.0


def brightness(image: np.ndarray) -> np.ndarray:
    """Luminance from 0 to 1; the brightest two hundredths are cut off, which would outshine the others."""
    grey = luminance(image).astype(np.float64)
    low, high = np.percentile(grey, (1, 98))
    return np.clip((grey - low) / max(high - low, 1e-12), 0, 1)


def roughness(image: np.ndarray) -> np.ndarray:
    """Standard deviation of the brightness around each pixel: cells that are no brighter are often more grainy."""
    grey = brightness(image)
    return np.sqrt(np.maximum(_box_mean(grey**2) - _box_mean(grey) ** 2, 0))


def _box_mean(a: np.ndarray) -> np.ndarray:
    half = ROUGHNESS // 2
    sums = np.pad(a, half, mode="edge").cumsum(axis=0).cumsum(axis=1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    n = ROUGHNESS
    return (sums[n:, n:] - sums[:-n, n:] - sums[n:, :-n] + sums[:-n, :-n]) / n**2


def maps(images: Arrays, truth: Arrays) -> np.ndarray:
    """The correlation maps of a set, (N, 2 REACH + 1, 2 REACH + 1), by brightness or, where that tells nothing, grain.

    images: raw; truth: class indices (H, W). The region is the class that covers most of the set, or all the others:
    for a correlation that is the same.
    """
    largest = int(np.argmax(sum(np.bincount(classes.ravel(), minlength=256) for classes in truth)))
    windows = [_window(classes) for classes in truth]
    by_brightness = _maps(brightness, images, truth, largest, windows)
    if peak(mean_map(by_brightness))[2] >= CLEAR:
        return by_brightness
    by_grain = _maps(roughness, images, truth, largest, windows)
    return max(by_brightness, by_grain, key=lambda found: peak(mean_map(found))[2])


def _maps(feature, images: Arrays, truth: Arrays, largest: int, windows: Sequence[tuple[slice, slice]]) -> np.ndarray:
    return np.array([
        correlations(feature(image)[window], classes[window] == largest)
        for image, classes, window in zip(images, truth, windows, strict=True)
    ])  # fmt: skip


def _window(classes: np.ndarray) -> tuple[slice, slice]:
    """Of a large image, a part around the middle of what is not background."""
    places = np.nonzero(classes)
    cuts = []
    for side, found in zip(classes.shape, places, strict=True):
        middle = int(np.median(found)) if len(found) else side // 2
        start = min(max(0, middle - WINDOW // 2), max(0, side - WINDOW))
        cuts.append(slice(start, start + WINDOW))
    return cuts[0], cuts[1]


def mean_map(found: np.ndarray) -> np.ndarray:
    """Mean strength over a set, whatever the sign: nuclei may be bright in one image and dark in the next."""
    return np.abs(found).mean(axis=0)


def peak(strength: np.ndarray) -> tuple[int, int, float, float]:
    """The move (down, right) that fits best, its correlation, and that of no move."""
    strength = np.abs(strength)
    row, column = np.unravel_index(strength.argmax(), strength.shape)
    return int(row) - REACH, int(column) - REACH, float(strength.max()), float(strength[REACH, REACH])


# -------------------------------------------------------------------------------------------------- shifted


def shifted(found: np.ndarray, files: Sequence[str]) -> list[Finding]:
    """Masks that lie beside what they mark: all of them by one shift, or single ones. found: of `maps`."""
    if not len(found):
        return []
    down, right, best, here = peak(mean_map(found))
    if _is_shift(down, right, best, here, GAIN):
        text = (f"the masks of the whole set lie {_displacement(-down, -right)} than what they mark "
                f"(correlation with the images {here:.2f}, moved back {best:.2f})")  # fmt: skip
        remedy = f"look at the outlines (--out); if it is so, move every mask {_direction(down, right)}"
        return [Finding("warning", "shifted masks", text, remedy)]
    usual, findings = here, []
    for i, single in enumerate(found):
        down, right, best, here = peak(single)
        if usual >= CLEAR and best >= TYPICAL * usual and _is_shift(down, right, best, here, GAIN_ALONE):
            findings.append(Finding(
                "warning", "shifted mask", f"the mask lies about {_displacement(-down, -right)} than what it marks",
                f"look at its outline (--out); if it is so, move the mask {_direction(down, right)}", (files[i],), (i,),
            ))  # fmt: skip
    return findings


def _is_shift(down: int, right: int, best: float, here: float, gain: float) -> bool:
    if max(abs(down), abs(right)) == REACH:  # still rising at the end of what was looked at: no peak
        return False
    return np.hypot(down, right) >= FAR and best >= CLEAR and best - here >= gain * (1 - here)


def _displacement(down: int, right: int) -> str:
    """Where something lies: '3 px lower and 4 px further left'."""
    parts = [f"{abs(down)} px {'lower' if down > 0 else 'higher'}" if down else "",
             f"{abs(right)} px further {'right' if right > 0 else 'left'}" if right else ""]  # fmt: skip
    return " and ".join(filter(None, parts))


def _direction(down: int, right: int) -> str:
    """Where to move something: '3 px up and 4 px to the right'."""
    parts = [f"{abs(down)} px {'down' if down > 0 else 'up'}" if down else "",
             f"{abs(right)} px to the {'right' if right > 0 else 'left'}" if right else ""]  # fmt: skip
    return " and ".join(filter(None, parts))


# ------------------------------------------------------------------------------------------------- inverted


def inverted(images: Arrays, foregrounds: Arrays) -> list[Finding]:
    """A set whose foreground is what lies around the objects. foregrounds: (H, W) bool.

    No single sign is enough: cells that fill the picture and are parted by membranes cover most of it as well. So a
    mask counts as inverted only where four things meet: its foreground covers more than half of the image, and of the
    image's border; its background lies in more pieces than its foreground, as objects do and what is around them does
    not; and the smaller side of Otsu's threshold, which sees the image alone, agrees better with the background.
    """
    judged = [_looks_inverted(image, mask) for image, mask in zip(images, foregrounds, strict=True) if _has_both(mask)]
    if len(judged) < 2 or sum(judged) < INVERTED * len(judged):
        return []
    found = (f"in {sum(judged)} of {len(judged)} masks the foreground covers most of the image and its border, and "
             "leaves out what stands apart in the image: foreground and background look exchanged")  # fmt: skip
    remedy = ("if so, exchange the two values in all masks (255 - value, or 1 - value); "
              "predictions would else mark the surroundings")  # fmt: skip
    return [Finding("warning", "inverted masks", found, remedy)]


def _has_both(mask: np.ndarray) -> bool:
    return bool(mask.any()) and not mask.all()


def _looks_inverted(image: np.ndarray, mask: np.ndarray) -> bool:
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if mask.mean() <= 0.5 or border.mean() <= 0.5 or euler_number(~mask) <= euler_number(mask):
        return False
    seen = otsu_foreground(image)
    smaller = seen if seen.mean() <= 0.5 else ~seen
    return _overlap(smaller, ~mask) > _overlap(smaller, mask)


def euler_number(mask: np.ndarray) -> int:
    """Pieces minus holes of a bool mask (4-connected): pixels - neighbouring pairs + 2x2 blocks."""
    across, down = mask[:, :-1] & mask[:, 1:], mask[:-1] & mask[1:]
    return int(mask.sum() - across.sum() - down.sum() + (across[:-1] & across[1:]).sum())


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def inverted_among(contrasts: Sequence[float], foregrounds: Arrays, files: Sequence[str]) -> list[Finding]:
    """Single masks that are the other way round than the rest. contrasts: correlation of image and foreground.

    Such a mask has the opposite contrast, in a set that else has one, and turned round it would cover the usual share.
    """
    values = np.array(contrasts)
    shares = np.array([mask.mean() for mask in foregrounds])
    both = np.array([_has_both(mask) for mask in foregrounds])
    if both.sum() < 3:
        return []
    usual, share = np.median(values[both]), np.median(shares[both])
    one_sign = (np.sign(values[both]) == np.sign(usual)).mean() >= AGREE
    odd = both & (np.sign(values) == -np.sign(usual)) & (np.abs(values) >= CLEAR)
    odd &= np.abs(1 - shares - share) + 0.2 < np.abs(shares - share)
    if not one_sign:
        return []
    return some("warning", "inverted masks", "the other way round than the others, foreground and "
                "background exchanged, as it looks, in {n}", "exchange the two values in these masks",
                np.flatnonzero(odd).tolist(), files)  # fmt: skip
