"""Two ways to teach a network that cells which touch are two: a gap between them, or a class for their borders."""

from __future__ import annotations

import numpy as np

from minunet.data.coding import Coding
from minunet.data.separate import NEIGHBOURS, separate_touching


def border_classes(labels: np.ndarray) -> np.ndarray:
    """Numbered cells (H, W), 0 = background -> (H, W) uint8: 0 background, 1 the inside of a cell, 2 its border.

    The border is the cell's own outermost ring: its pixels that have an 8-neighbour of another id or of the
    background. So classes 1 and 2 together are the cells as they were given, and where two of them touch the border
    is two pixels wide. The image's edge is no border: the cell goes on behind it. ValueError where labels are not
    (H, W).
    """
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels must be (H, W), not of shape {labels.shape}")
    at_edge = np.zeros(labels.shape, bool)
    for a, b in NEIGHBOURS:
        differ = labels[a] != labels[b]
        at_edge[a] |= differ
        at_edge[b] |= differ
    return np.where(labels != 0, 1 + at_edge, 0).astype(np.uint8)


def kept_apart(labels: np.ndarray, coding: Coding) -> tuple[np.ndarray, np.ndarray]:
    """Numbered cells (H, W) -> what is learned of them, (H, W) uint8 class indices, and the cells as this leaves them.

    With borders the cells stay as they are; else those that touch are parted, and what is left is the foreground.
    """
    if coding.kind == "borders":
        return border_classes(labels), labels
    parted = separate_touching(labels)
    return (parted != 0).astype(np.uint8), parted
