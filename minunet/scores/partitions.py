"""How far two ways of cutting an image into segments agree: Rand error, V_rand, variation of information, V_info.

No segment is assigned to another here; what counts is which pixels are put together. With n_ij the pixels that
predicted segment i shares with true segment j, s_i and t_j the pixels of each, N all of them and p_ij = n_ij / N:

    Rand error  share of the pairs of two different pixels that one of the two puts together and the other one parts
                (one minus the index of Rand, J. Am. Stat. Assoc. 66, 1971)
    V_rand      2 sum n_ij^2 / (sum s_i^2 + sum t_j^2): the F-score of V_split = sum n_ij^2 / sum t_j^2 and
                V_merge = sum n_ij^2 / sum s_i^2
    H(S|T)      - sum p_ij log2(p_ij / q_j), q_j = t_j / N: bits by which cells are split; H(T|S) likewise: merged.
                Their sum is the variation of information (Meila, J. Multivariate Anal. 98, 2007)
    V_info      2 I(S;T) / (H(S) + H(T)), I the mutual information: the same F-score of information

V_rand and V_info are those of the ISBI 2012 challenge (Arganda-Carreras et al., Front. Neuroanat. 9:142, 2015, alpha
1/2), where 1 is perfect. They are restricted to the foreground of the truth: pixels whose true label is 0 do not count.
A pixel there whose predicted label is 0 is a segment of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minunet.scores.overlaps import overlaps


@dataclass(frozen=True, eq=False)
class Shares:
    """Pixel counts (int64) of the segments of a prediction, of a truth, and of their intersections, none of them 0."""

    predicted: np.ndarray
    true: np.ndarray
    both: np.ndarray

    @property
    def v_rand(self) -> float:
        """See `v_rand`."""
        whole = _squares(self.predicted) + _squares(self.true)
        return 2 * _squares(self.both) / whole if whole else 1.0

    @property
    def v_info(self) -> float:
        """See `v_info`."""
        predicted, true, both = (_entropy(sizes) for sizes in (self.predicted, self.true, self.both))
        if predicted + true == 0:  # a single segment in both, or no pixel
            return 1.0
        return min(max(2 * (predicted + true - both) / (predicted + true), 0.0), 1.0)  # rounding stays inside


def foreground_shares(prediction: np.ndarray, truth: np.ndarray) -> Shares:
    """Counts of two labelled images (integers of equal shape) where the truth is not 0.

    Each pixel there with the predicted label 0 is a segment of its own. ValueError where the shapes differ.
    """
    return _shares(prediction, truth, restricted=True, singles=True)


def v_rand(prediction: np.ndarray, truth: np.ndarray) -> float:
    """V_rand of two labelled images, above 0 and up to 1; 1 where the truth has no foreground: nothing can be wrong."""
    return foreground_shares(prediction, truth).v_rand


def v_info(prediction: np.ndarray, truth: np.ndarray) -> float:
    """V_info of two labelled images, from 0 to 1; 1 where both have at most one segment in the truth's foreground.

    0 where only one of the two has a single segment: it says nothing about the other one.
    """
    return foreground_shares(prediction, truth).v_info


def rand_error(prediction: np.ndarray, truth: np.ndarray, foreground: bool = False) -> float:
    """Rand error of two labelled images; 0 for fewer than two pixels.

    Over all pixels, 0 a segment like the others; or with `foreground` as V_rand: where the truth is not 0, each pixel
    of predicted background a segment of its own.
    """
    shares = _shares(prediction, truth, restricted=foreground, singles=foreground)
    pixels = int(shares.true.sum())
    agreements = pixels * (pixels - 1) + 2 * _pairs(shares.both) - _pairs(shares.predicted) - _pairs(shares.true)
    return 1 - agreements / (pixels * (pixels - 1)) if pixels > 1 else 0.0


def adapted_rand_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """1 - F-score of pairs of different pixels, both in the truth's foreground; a predicted 0 is a segment like others.

    That is the error of the SNEMI3D challenge and of scikit-image. It is 1 - V_rand but for two conventions: a pixel
    makes no pair with itself, and predicted background is one segment. 0 where neither image has a pair.
    """
    shares = _shares(prediction, truth, restricted=True)
    pairs = _pairs(shares.predicted) + _pairs(shares.true)
    return 1 - 2 * _pairs(shares.both) / pairs if pairs else 0.0


def variation_of_information(
    prediction: np.ndarray, truth: np.ndarray, foreground: bool = False
) -> tuple[float, float]:
    """(H(S|T), H(T|S)) in bits: how far true segments are split, and how far they are merged; (0, 0) is perfect.

    Over all pixels, 0 a segment like the others; or with `foreground` as V_info: where the truth is not 0, each pixel
    of predicted background a segment of its own. (0, 0) where no pixel counts.
    """
    shares = _shares(prediction, truth, restricted=foreground, singles=foreground)
    both = _entropy(shares.both)
    return max(both - _entropy(shares.true), 0.0), max(both - _entropy(shares.predicted), 0.0)


def _shares(prediction: np.ndarray, truth: np.ndarray, restricted: bool = False, singles: bool = False) -> Shares:
    """`restricted` leaves out where the truth is 0; `singles` takes each predicted 0 as a segment of its own."""
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction of shape {prediction.shape} for a truth of {truth.shape}")
    if restricted:
        inside = truth != 0
        prediction, truth = prediction[inside], truth[inside]
    counts = overlaps(prediction, truth)
    if not singles:
        return Shares(counts.predicted, counts.true, counts.pixels)
    labelled = counts.predicted_labels != 0
    alone = np.ones(counts.predicted[~labelled].sum(), np.int64)  # as many segments of one pixel
    return Shares(
        np.concatenate([counts.predicted[labelled], alone]),
        counts.true,
        np.concatenate([counts.pixels[labelled[counts.row]], alone]),
    )


def _squares(sizes: np.ndarray) -> int:
    return int(np.dot(sizes, sizes))


def _pairs(sizes: np.ndarray) -> int:
    """Ordered pairs of two different pixels of the same segment."""
    return _squares(sizes) - int(sizes.sum())


def _entropy(sizes: np.ndarray) -> float:
    """Entropy in bits of the segment that a random pixel falls into; 0 where there is no pixel."""
    if len(sizes) < 2:
        return 0.0
    share = sizes / sizes.sum()
    return float(-np.dot(share, np.log2(share)))
