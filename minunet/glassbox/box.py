"""What travels in the page: the network, its subject, and numbers of the Python run to check the page's own by."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from minunet.glassbox.reference import Pass, in_float64, passed
from minunet.glassbox.subject import Subject
from minunet.training.recipe import Recipe
from minunet.unet import UNet

SAMPLES = 64  # values of each tensor that are compared, evenly spread
CANCELLED = 1e-4  # with a tolerance of 1e-10 this allows for rounding of 1e-14 of what was added


def contents(model: UNet, subject: Subject, mode: str) -> dict[str, Any]:
    """All that the page computes from, ready for JSON. mode: the one that it opens in, "train" or "eval".

    Numbers keep their precision: float32 stays float32, from which float64 is exact.
    """
    state = {name: array for name, array in in_float64(model).state_dict().items() if array.dtype.kind == "f"}
    packed = {name: pack(array.astype(model.dtype)) for name, array in state.items()}
    modes = {"train": True, "eval": False} if model.norm or model.dropout else {mode: mode == "train"}
    return {
        "architecture": model.architecture,
        "loss": subject.loss,
        "note": subject.note,
        "mode": mode,
        "optimizer": optimizer(),
        "tensors": {"input": pack(subject.x), **packed},
        "target": pack(subject.target.astype(np.uint8)),
        "weight": None if subject.weight is None else pack(subject.weight),
        "masks": {name: pack(mask) for name, mask in subject.masks.items()},
        "checks": {name: check_numbers(passed(model, subject, training)) for name, training in modes.items()},
    }


def optimizer(recipe: Recipe = Recipe()) -> dict[str, Any]:  # noqa: B008, it is frozen
    """How `minunet train` steps, as the page's own step takes it."""
    return {
        "lr": recipe.lr,
        "momentum": recipe.momentum,
        "nesterov": recipe.nesterov,
        "weightDecay": recipe.weight_decay,
        "clip": recipe.clip,
    }


def pack(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON; Booleans eight to a byte."""
    bits = array.dtype == bool
    data = np.packbits(array) if bits else np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    dtype = "bits" if bits else str(array.dtype)
    return {"shape": list(array.shape), "dtype": dtype, "base64": base64.b64encode(data.tobytes()).decode()}


def check_numbers(found: Pass) -> dict[str, Any]:
    """{"values" and "gradients": {name: {"norm", "scale", "samples"}}} of a pass."""
    return {
        kind: {name: _numbers(array, scale(found, kind, name)) for name, array in arrays.items()}
        for kind, arrays in (("values", found.values), ("gradients", found.gradients))
    }


def scale(found: Pass, kind: str, name: str) -> float:
    """What differences of a tensor are a share of: its largest magnitude.

    Not of a bias whose gradient cancels, as before a batch norm in training: there all that is left of the sum of g is
    rounding. So it is at least CANCELLED of the largest sum of |g|.
    """
    arrays = {"values": found.values, "gradients": found.gradients}[kind]
    largest = float(np.abs(arrays[name]).max())
    operation, _, owned = name.rpartition(".")
    if kind == "values" or owned != "bias" or operation not in arrays:
        return largest
    return max(largest, CANCELLED * float(np.abs(arrays[operation]).sum(axis=(0, 2, 3)).max()))


def _numbers(array: np.ndarray, scale: float) -> dict[str, Any]:
    flat = array.ravel()
    places = np.arange(min(SAMPLES, flat.size)) * flat.size // min(SAMPLES, flat.size)
    return {"norm": float(np.sqrt(np.square(flat).sum())), "scale": scale, "samples": pack(flat[places])}
