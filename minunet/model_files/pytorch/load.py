"""`load_torch`: a checkpoint of PyTorch in, a UNet out.

What differs between networks but makes no difference to what they compute is removed here, once, so that the network
needs no option for it: a bias before batch norm, and the order of the halves of a concatenation.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minunet.model_files.pytorch.layouts import Layout, Translate, recognise
from minunet.model_files.pytorch.state import State, read_state
from minunet.model_files.tensor_file import BFLOAT16, FileFormatError, short, widened
from minunet.model_files.weights import FORMAT_VERSION, build, load, parameter_shapes
from minunet.unet import UNet

Mapped = Mapping[str, str | None] | Callable[[str], str | None]
_COUNTER = "num_batches_tracked"
_BEFORE_NORM = re.compile(r"(.+\.conv\.)(0|3)\.bias")


def load_torch(
    path: str | os.PathLike[str],
    mapping: Mapped | None = None,
    *,
    padding: str | None = None,
    skip_fit: str | None = None,
    up: str | None = None,
) -> UNet:
    """The U-Net in a checkpoint of PyTorch, in evaluation mode; PyTorch is not needed, nothing in the file is executed.

    path: a file that `torch.save` wrote, of any version since 0.4, that holds a state_dict, or a dict with one under
        "state_dict", "model_state_dict", "model" or the like; or a `.safetensors` file of a state_dict.  Prefixes that
        all names share ("module.", "model." ...) are left out.  Numbers of 16 bits are widened to float32.
    mapping: for networks that are not recognised: from their names (without such a prefix) to minunet's, as a dict or a
        function; None for what is to be left out.  minunet's names are those of `UNet.state_dict()`; a convolution
        before batch norm may have a bias as well.
    padding, skip_fit, up: of `UNet`.  They cannot be seen in a state_dict; default: what the recognised network does,
        for a mapping "same", "resize" and "transpose".

    Recognised are the article's network (downs.0.conv.0.weight), the most-starred U-Net, with up-convolutions or with
    bilinear interpolation (inc.double_conv.0.weight), and that of PyTorch's hub for MRI (encoder1.enc1conv1.weight).  A
    checkpoint does not say how its images were prepared, nor what its classes mean: `model.preprocessing` and
    `model.coding` are None.

    Raises FileNotFoundError for a missing file, and FileFormatError for any that cannot be read or is no network that
    minunet has: it lists every entry that is missing, unexpected or mis-shaped.
    """
    given = {"padding": padding, "skip_fit": skip_fit, "up": up}
    options = {name: value for name, value in given.items() if value is not None}
    try:
        state, metadata = read_state(path)
        if "minunet" not in metadata:
            return _network(state, _layout(state, mapping), options)
    except ValueError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error
    return load(path)


def _layout(state: State, mapping: Mapped | None) -> Layout:
    """The recognised layout, or the user's."""
    if mapping is not None:
        return Layout("mapping", mapping if callable(mapping) else _translate(mapping))
    layout = recognise(set(state))
    if layout is None:
        raise FileFormatError(
            f"found {len(state)} tensors of a network that is not recognised, {short(sorted(state)[:3])} ...: say with "
            "mapping= which names these are in minunet (see mn.load_torch), if it is a U-Net as minunet has them"
        )
    return layout


def _translate(mapping: Mapping[str, str | None]) -> Translate:
    """What a mapping does not name keeps its name, and is then listed as unexpected; but counters may be left out."""
    return lambda name: mapping.get(name, None if name.endswith(_COUNTER) else name)


def _network(state: State, layout: Layout, options: dict[str, Any]) -> UNet:
    """The UNet of a state_dict, whose tensors are taken out of `state` one by one, so that few are there twice."""
    arrays: State = {}
    while state:
        name = next(iter(state))
        array, ours = _as_number(state.pop(name)), layout.translate(name)
        if ours in arrays:
            raise FileFormatError(f"two entries are mapped to {short(ours)}")
        if ours is not None:
            arrays[ours] = array
    _without_biases_before_norm(arrays)
    _with_counters(arrays)
    architecture = _architecture(arrays, layout.options | options)
    _check(arrays, architecture)
    if layout.up_first:
        _skip_first(arrays)
        if architecture["out_channels"] > 1:
            warnings.warn("this network ends in a sigmoid for each output; minunet's predict takes one softmax of them",
                          stacklevel=3)  # fmt: skip
    unknown = {"preprocessing": None, "coding": None}
    return build({"format_version": FORMAT_VERSION, "architecture": architecture, **unknown}, arrays)


def _as_number(array: np.ndarray) -> np.ndarray:
    """In native byte order and C order, bfloat16 and half widened; the array itself where it is so already."""
    if array.dtype.names == BFLOAT16.names:
        array = widened(array)
    dtype = np.dtype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind == "f" else array.dtype
    return np.require(array, dtype.newbyteorder("="), ["C", "A"])


def _without_biases_before_norm(arrays: State) -> None:
    """norm(x + b) subtracts the mean of x + b: the same as norm(x) with b taken off the running mean."""
    for name in list(arrays):
        match = _BEFORE_NORM.fullmatch(name)
        mean = match and f"{match[1]}{int(match[2]) + 1}.running_mean"
        if mean in arrays and arrays[mean].shape == arrays[name].shape:
            arrays[mean] = arrays[mean] - arrays.pop(name)


def _with_counters(arrays: State) -> None:
    """Files of before 0.4.1, and mappings, may leave out how many batches a norm has seen, which changes nothing."""
    for name in list(arrays):
        if name.endswith(".running_mean"):
            arrays.setdefault(f"{name.removesuffix('running_mean')}{_COUNTER}", np.zeros((), np.int64))


def _architecture(arrays: State, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of UNet, as the shapes tell them; what does not fit them is found later."""

    def side(name: str, axis: int) -> int:
        if name not in arrays or arrays[name].ndim != 4:
            some = short(sorted(arrays)[:3])
            raise FileFormatError(f"{name}, the weight of a convolution, is missing among {some} ...")
        return arrays[name].shape[axis]

    features = [side("downs.0.conv.0.weight", 0)]
    while f"downs.{len(features)}.conv.0.weight" in arrays:
        features.append(side(f"downs.{len(features)}.conv.0.weight", 0))
    if "padding" not in options:
        raise FileFormatError(
            "found a network without batch norm, in which padding cannot be seen: say padding='valid' (the paper's "
            "network) or padding='same'"
        )
    return {
        "in_channels": side("downs.0.conv.0.weight", 1),
        "out_channels": side("final_conv.weight", 0),
        "features": features,
        "norm": "batch" if "downs.0.conv.1.running_mean" in arrays else None,
        "dropout": 0.0,
        "dtype": arrays["final_conv.weight"].dtype.name,
    } | options


def _check(arrays: State, architecture: dict[str, Any]) -> None:
    """The tensors must be those of the architecture: every fault is listed."""
    expected = parameter_shapes(architecture)
    faults = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in arrays]
    faults += [f"unexpected: {short(name)} {short(arrays[name].shape)}" for name in arrays if name not in expected]
    faults += [
        f"{name} has the shape {short(arrays[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in arrays and arrays[name].shape != shape
    ]
    if faults:
        features = short(architecture["features"])
        raise FileFormatError(f"the tensors are not those of a UNet of features {features}: {'; '.join(faults)}")


def _skip_first(arrays: State) -> None:
    """From concatenations with the skip behind what comes from below to minunet's, with the skip before it."""
    for name, array in arrays.items():
        if re.fullmatch(r"ups\.\d+\.conv\.0\.weight", name):
            half = array.shape[1] // 2
            arrays[name] = np.concatenate([array[:, half:], array[:, :half]], axis=1)
