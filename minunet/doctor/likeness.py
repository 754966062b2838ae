"""Images that are too much alike: image and mask folders exchanged, and one picture on both sides of the split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minunet.data.preprocessing import channels_first, luminance
from minunet.doctor.findings import Finding, counted, some

SIDE = 32  # pixels a side, of the thumbnails that are compared
# Correlation of the thumbnails' detail. Copies that were saved again as JPEG, blurred, brightened, halved or turned
# stay above 0.88; different images of one kind, neighbouring sections included, below 0.61.
ALIKE = 0.8
FLAT = 0.1  # by so much more often have neighbouring pixels the same value in a mask than in an image
BLOCK = 512  # thumbnails compared at once, which bounds the memory

Arrays = Sequence[np.ndarray]


def swapped(images: Arrays, masks: Arrays, files: Sequence[str]) -> list[Finding]:
    """Images that are their own masks, and folders given the wrong way round."""
    same = [i for i, (image, mask) in enumerate(zip(images, masks, strict=True)) if _same_picture(image, mask)]
    if same and len(same) == len(images):
        return [Finding("fatal", "swapped folders", "every image is its own mask: both folders hold the same pictures",
                        "give the folder of the masks as the second one")]  # fmt: skip
    turned = sum(_turned(image, mask) for image, mask in zip(images, masks, strict=True))
    if turned > len(images) / 2:
        found = "the images have large even areas, as masks have, and the masks do not: the two look exchanged"
        remedy = "give the folder of the images first, then that of the masks"
        return [Finding("fatal", "swapped folders", found, remedy)]
    found, remedy = "image and mask are the same picture in {n}", "put the mask in place of the copy"
    return some("fatal", "swapped folders", found, remedy, same, files)


def _same_picture(image: np.ndarray, mask: np.ndarray) -> bool:
    if image.min() == image.max():
        return False
    planes = channels_first(image)
    mask_planes = channels_first(mask)
    return planes.shape[1:] == mask_planes.shape[1:] and bool((planes == mask_planes).all())


def _turned(image: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the image is made of even areas of a few values, and the mask is not."""
    few = len(np.unique(image)) < len(np.unique(mask))
    return few and evenness(image) > evenness(mask) + FLAT


def evenness(picture: np.ndarray) -> float:
    """Share of neighbouring pixels that have the same value in all channels."""
    planes = channels_first(picture)
    pairs = [(planes[:, 1:] == planes[:, :-1]).all(axis=0), (planes[:, :, 1:] == planes[:, :, :-1]).all(axis=0)]
    return float(np.mean([pair.mean() for pair in pairs if pair.size] or [1.0]))


# ------------------------------------------------------------------------------------------ near-duplicates


def duplicates(images: Arrays, files: Sequence[str], validation: Sequence[int]) -> list[Finding]:
    """Pictures that come twice, turned or mirrored ones included. validation: the images that are held back."""
    pairs = alike(np.array([fingerprint(image) for image in images]))
    held = set(validation)
    across = [pair for pair in pairs if (pair[0] in held) != (pair[1] in held)]
    beside = [pair for pair in pairs if pair not in across]
    leak = (f"{_pairs(across)} nearly the same picture on both sides of the split: "
            "the score would praise what was learned by heart")  # fmt: skip
    return [
        *_finding("warning", leak, "keep one of each pair, or put all copies on one side", across, files),
        *_finding("note", f"{_pairs(beside)} nearly the same picture", "keep one of each: the copies teach nothing",
                  beside, files),
    ]  # fmt: skip


def _pairs(pairs: Sequence[tuple[int, int]]) -> str:
    return f"{counted(len(pairs), 'pair')} of images {'shows' if len(pairs) == 1 else 'show'}"


def _finding(
    severity: str, found: str, remedy: str, pairs: Sequence[tuple[int, int]], files: Sequence[str]
) -> list[Finding]:
    if not pairs:
        return []
    named = tuple(f"{files[i]} = {files[j]}" for i, j in pairs)
    return [Finding(severity, "near-duplicates", found, remedy, named, tuple(i for pair in pairs for i in pair))]


def fingerprint(image: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE) detail of an image's thumbnail, of norm 1; zeros where there is none.

    Of the thumbnail's values the mean of the 3x3 around them is taken off: cells in the middle of dark pictures are
    alike from afar, their detail is not.
    """
    grey = luminance(image).astype(np.float64)
    rows, columns = (np.linspace(0, side, SIDE + 1) for side in grey.shape)
    thumbnail = _means(_means(grey, rows).T, columns).T
    padded = np.pad(thumbnail, 1, mode="edge")
    around = sum(padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)) / 9
    detail = thumbnail - around
    norm = np.linalg.norm(detail)
    return detail / norm if norm > 1e-9 * max(1.0, float(np.abs(thumbnail).max())) else np.zeros_like(detail)


def _means(a: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Means of the rows between `edges` (fractions of rows count as such), one for each gap."""
    sums = np.concatenate([np.zeros((1, a.shape[1])), a.cumsum(axis=0)])
    whole = np.minimum(edges.astype(int), len(a) - 1)
    at_edges = sums[whole] + (edges - whole)[:, None] * a[whole]
    return np.diff(at_edges, axis=0) / np.diff(edges)[:, None]


def alike(fingerprints: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of fingerprints (N, SIDE, SIDE) that are the same picture, in any of the eight positions."""
    lines = fingerprints.reshape(len(fingerprints), -1).astype(np.float32)
    found = set()
    for mirrored in (fingerprints, fingerprints[:, :, ::-1]):
        for quarters in range(4):
            turned = np.rot90(mirrored, quarters, (1, 2)).reshape(lines.shape).astype(np.float32)
            for start in range(0, len(lines), BLOCK):
                pairs = np.argwhere(lines[start : start + BLOCK] @ turned.T >= ALIKE)
                found |= {(start + int(i), int(j)) for i, j in pairs if start + i < j}
    return sorted(found)
