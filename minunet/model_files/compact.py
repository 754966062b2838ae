"""Smaller model files: float16, or int8 for the weights of convolutions; widened to float32 when they are read.

The layout, that of format version 2, where the description's "stored" is one of KINDS:

float16  every floating tensor is float16, but the statistics of batch norm (running_mean, running_var) are float32:
         a variance may be far above 65504, and is divided by.
int8     the weight of each convolution, also of the up-convolutions, is int8 from -127 to 127; beside NAME.weight
         lies NAME.weight.scale, (O,) float32, positive, one number an output channel, and weight = int8 * scale. All
         other floating tensors (about a hundredth of the bytes) are float32.

Counters are int64 in both. Axis O is the first of a convolution's weight (O, I, kh, kw) and the second of an
up-convolution's (I, O, kh, kw).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from minunet.model_files.tensor_file import FileFormatError, short

KINDS = ("float16", "int8")
LARGEST = 127  # of an int8: -128 would make the scale lopsided
_SCALE = ".scale"
_FLOAT32 = np.finfo(np.float32)

Tensors: TypeAlias = dict[str, np.ndarray]
Layout: TypeAlias = dict[str, tuple[tuple[int, ...], np.dtype]]


def narrow(state: Tensors, kind: str) -> Tensors:
    """The tensors as a file of this kind holds them.

    float16: a value is off by at most 2^-11 of itself, or 2^-25 below 6e-5. int8: by at most half of its channel's
    scale, which is the channel's largest |weight| / 127 (and the rounding of float32).
    ValueError where a value is too large for the kind, or not finite in int8.
    """
    tensors: Tensors = {}
    for name, array in state.items():
        if kind == "int8" and _is_weight_of_convolution(name, array.ndim):
            tensors[name], tensors[name + _SCALE] = _quantized(name, array)
        else:
            tensors[name] = converted(name, array, _dtype(name, array.ndim, kind))
    return tensors


def widen(tensors: Tensors, kind: str) -> Tensors:
    """What `narrow` was given, in float32. The tensors must have the `layout`; FileFormatError for wrong values."""
    return {
        name: _dequantized(name, array, tensors[name + _SCALE]) if array.dtype == np.int8
        else converted(name, array, np.dtype(np.float32))
        for name, array in tensors.items()
        if not name.endswith(_SCALE)
    }  # fmt: skip


def layout(shapes: dict[str, tuple[int, ...]], kind: str) -> Layout:
    """{name: (shape, dtype)} of the tensors in a file of this kind, of a state_dict with these shapes."""
    found: Layout = {}
    for name, shape in shapes.items():
        found[name] = shape, _dtype(name, len(shape), kind)
        if found[name][1] == np.int8:
            found[name + _SCALE] = (shape[_output_axis(name)],), np.dtype(np.float32)
    return found


def converted(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floating arrays in `dtype`, others as they are. ValueError where a finite value would become infinite."""
    if array.dtype.kind != "f" or array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        result = array.astype(dtype, copy=False)
    if np.isinf(result).sum() > np.isinf(array).sum():
        largest = np.abs(array[np.isfinite(array)]).max()
        raise ValueError(
            f"{name} has values that are too large for {dtype}: up to {largest:.3g}, and {np.finfo(dtype).max:.3g} is "
            "the most; use a wider dtype"
        )
    return result


def _dtype(name: str, dimensions: int, kind: str) -> np.dtype:
    """That of a tensor of the state_dict in a file of this kind."""
    if name.endswith("num_batches_tracked"):
        return np.dtype(np.int64)
    if kind == "int8":
        return np.dtype(np.int8 if _is_weight_of_convolution(name, dimensions) else np.float32)
    return np.dtype(np.float32 if name.endswith(("running_mean", "running_var")) else np.float16)


def _is_weight_of_convolution(name: str, dimensions: int) -> bool:
    return dimensions == 4 and name.endswith(".weight")


def _output_axis(name: str) -> int:
    """Of a convolution's weight; an up-convolution is ups.N itself, without a layer below it."""
    return 1 if name.startswith("ups.") and name.count(".") == 2 else 0


def _quantized(name: str, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight -> int8 of the same shape and scales (O,) float32."""
    axis = _output_axis(name)
    wide = weight.astype(np.float64)
    if not np.isfinite(wide).all():
        raise ValueError(f"{name} has values that are not finite, which int8 cannot hold")
    others = tuple(k for k in range(4) if k != axis)
    largest = np.abs(wide).max(axis=others)
    if largest.max() > _FLOAT32.max / 2:  # so that no product with a rounded scale overflows
        raise ValueError(f"{name} has values that are too large for scales of float32: up to {largest.max():.3g}")
    # A channel of zeros, or of next to nothing, has a scale too: the smallest that float32 holds in full precision.
    scale = np.maximum(largest / LARGEST, _FLOAT32.tiny).astype(np.float32)
    steps = np.rint(wide / np.expand_dims(scale.astype(np.float64), others))
    return steps.clip(-LARGEST, LARGEST).astype(np.int8), scale


def _dequantized(name: str, steps: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """int8 and scales -> weight, float32."""
    if not ((scale >= _FLOAT32.tiny) & (scale <= _FLOAT32.max / LARGEST)).all():
        raise FileFormatError(f"{short(name + _SCALE)} has values that are no scales, expected positive numbers")
    if (steps < -LARGEST).any():
        raise FileFormatError(f"{short(name)} has the value -128, expected -127 to 127")
    others = tuple(k for k in range(4) if k != _output_axis(name))
    return steps * np.expand_dims(scale, others)
