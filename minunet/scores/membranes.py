"""V_rand and V_info of a map of cells and membranes, as the ISBI 2012 challenge scores it.

What a network predicts there is the probability that a pixel is inside a cell and not membrane. Segments are the
pieces of what lies above a threshold. Since a broad membrane is no mistake, it is thinned first: segments grow until a
line one pixel wide is left. Both scores are averaged over the images at each threshold, and the best one counts,
of each score (Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015; the challenge's thresholds are 0, 0.1 ... 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from minunet.instances.components import components
from minunet.instances.growth import grow
from minunet.scores.partitions import adapted_rand_error, foreground_shares, rand_error, variation_of_information
from minunet.scores.warping import warp

THRESHOLDS = tuple(t / 10 for t in range(11))


@dataclass(frozen=True)
class MembraneScores:
    """The best scores of a set of images, the thresholds at which they were reached, and the scores at each threshold.

    Of equally good thresholds the lowest is given. `at` holds threshold: (V_rand, V_info), averaged over the images.
    """

    v_rand: float
    v_rand_threshold: float
    v_info: float
    v_info_threshold: float
    at: dict[float, tuple[float, float]]


@dataclass(frozen=True)
class MembraneErrors:
    """What is wrong at one threshold, averaged over the images; 0 is perfect in each.

    rand_error, adapted_rand_error, split (bits of cells split) and merged (bits of cells merged) compare the segments
    where the truth has cells; split + merged is the variation of information. The others compare the masks.
    """

    rand_error: float
    adapted_rand_error: float
    split: float
    merged: float
    warping_error: float
    splits: float  # an image, see `warp`
    mergers: float


def membrane_scores(
    probabilities: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    thresholds: Sequence[float] = THRESHOLDS,
    thin: bool = True,
) -> MembraneScores:
    """Score probabilities of "inside a cell", (H, W) each, against masks (H, W): 0 membrane, all else cell.

    True cells are the pieces of the mask, by sides. `thin` False leaves membranes as broad as they are predicted: each
    of their pixels that the truth takes for a cell is a mistake. ValueError where there is no image or no threshold,
    or where shapes differ.
    """
    if not len(probabilities) or not len(thresholds):
        raise ValueError("membrane scores need at least one image and one threshold")
    pairs = zip(probabilities, truths, strict=True)
    return best_of([at_thresholds(p, components(truth), thresholds, thin) for p, truth in pairs])


def at_thresholds(
    probability: np.ndarray, cells: np.ndarray, thresholds: Sequence[float] = THRESHOLDS, thin: bool = True
) -> dict[float, tuple[float, float]]:
    """Threshold: (V_rand, V_info) of one image: probability (H, W) of "inside", cells (H, W) numbered, 0 membrane."""
    found = {}
    for threshold in map(float, thresholds):
        shares = foreground_shares(segments(np.asarray(probability) > threshold, thin), cells)
        found[threshold] = (shares.v_rand, shares.v_info)
    return found


def best_of(images: Sequence[dict[float, tuple[float, float]]]) -> MembraneScores:
    """The scores of a set from those of its images, all at the same thresholds."""
    means = {t: np.mean([at[t] for at in images], axis=0).tolist() for t in images[0]}
    at = {t: (v_rand, v_info) for t, (v_rand, v_info) in means.items()}
    rand_at, info_at = (max(sorted(at), key=lambda threshold: at[threshold][score]) for score in (0, 1))
    return MembraneScores(at[rand_at][0], rand_at, at[info_at][1], info_at, at)


def membrane_errors(inside: np.ndarray, cells: np.ndarray) -> MembraneErrors:
    """What is wrong in one image: mask (H, W) of "inside a cell", cells (H, W) numbered, 0 membrane."""
    found = segments(inside)
    split, merged = variation_of_information(found, cells, foreground=True)
    warped = warp(inside, cells)
    return MembraneErrors(
        rand_error(found, cells, foreground=True),
        adapted_rand_error(found, cells),
        split,
        merged,
        warped.error,
        warped.splits,
        warped.mergers,
    )


def mean_errors(images: Sequence[MembraneErrors]) -> MembraneErrors:
    """The errors of a set from those of its images."""
    return MembraneErrors(*np.mean([astuple(image) for image in images], axis=0).tolist())


def segments(inside: np.ndarray, thin: bool = True) -> np.ndarray:
    """Pieces of a mask (H, W) of cells, by sides: int32 (H, W), 0 where there is membrane.

    With `thin` they grow at equal speed until a line one pixel wide parts them, and membrane that parts nothing is
    gone. So an image that is all membrane becomes one segment, as in the challenge's program.
    """
    labels = components(inside)
    if not thin:
        return labels
    if not labels.any():
        return np.ones_like(labels)
    return grow(labels, labels == 0, dams=True)
