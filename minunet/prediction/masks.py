"""Class indices as the values of the masks that a model was trained on."""

from __future__ import annotations

import numpy as np

from minunet.data import Coding
from minunet.unet import UNet


def decode(classes: np.ndarray, count: int, coding: Coding | None) -> np.ndarray:
    """Class indices as the values of the training masks (`Coding.decode`).

    A model without a coding: 0 and 255 for two classes, else the indices themselves.
    """
    if coding is not None:
        return coding.decode(classes)
    return (classes * (255 if count == 2 else 1)).astype(np.uint8)


def meaning(model: UNet) -> str:
    """What the values of the masks that are written mean."""
    if model.coding is None:
        two = model.out_channels <= 2
        return "0 background, 255 foreground" if two else "class indices"
    if not model.coding.values:  # instances: the network knows foreground only
        return "0 background, 255 foreground"
    return model.coding.describe()


def decode_one(model: UNet, classes: np.ndarray) -> np.ndarray:
    """`decode` for a model."""
    return decode(classes, max(model.out_channels, 2), model.coding)


def empty_mask(model: UNet) -> np.ndarray:
    """The mask of one pixel, which has the dtype and the axes of all masks of a model: (1, 1) or (1, 1, 3)."""
    return decode_one(model, np.zeros((1, 1), np.intp))
