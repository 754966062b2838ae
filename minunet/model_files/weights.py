"""Models as files: `save` and `load`, in .safetensors or .npz, with NumPy alone.

A file holds the tensors of `state_dict()` and, in the metadata under "minunet", a JSON text:
the format's version, the architecture, the preprocessing and the coding of the classes. The
network is built only after the tensors in the file were found to be exactly those that its
architecture needs: a small file cannot ask for a large network.

Version 1 has all floating tensors in one dtype. Version 2, of files in float16 or int8 (compact.py), has the key
"stored" as well; a minunet that knows version 1 alone refuses it by its version. Files of version 1 in float16, as
earlier releases wrote them, are still read.
"""

from __future__ import annotations

import json
import math
import os
import stat
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minunet import device
from minunet.data.coding import Coding
from minunet.data.preprocessing import Preprocessing
from minunet.files import atomic_write
from minunet.model_files import boxed, compact, npz, safetensors
from minunet.model_files.tensor_file import DTYPES, METADATA, FileFormatError, parse_json, short
from minunet.nn import undrawn
from minunet.unet import UPS, UNet, bottleneck_channels, way_up

__all__ = [
    "FileFormatError",
    "build",
    "describe",
    "load",
    "parameter_shapes",
    "read_tensors",
    "save",
    "write_tensors",
]

FORMAT_VERSION, COMPACT_VERSION = 1, 2
_FORMATS = {".safetensors": safetensors, ".npz": npz}
CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", ".pkl")  # which `load_torch` reads
_PATH = str | os.PathLike[str]


def save(model: UNet, path: _PATH, dtype: Any = None) -> None:
    """Write the model, wherever it lies, to a `.safetensors` or `.npz` file that `load` reads.

    `dtype` (default: the model's) is how the file holds the weights. float32 and float64: as they are. float16: half
    the size of float32, statistics of batch norm stay float32. int8: a quarter, each convolution's weights as whole
    numbers with a scale for every output channel, all else float32; a weight is off by at most half a step. See
    compact.py for the layout. A file of float16 or int8 is loaded as a float32 model.

    Raises ValueError for another suffix or dtype, and where a value does not fit in the dtype.
    """
    _format(path)
    stored = _stored_dtype(model.dtype if dtype is None else dtype)
    state = {name: device.to_host(array) for name, array in model.state_dict().items()}
    description = describe(model)
    description["architecture"] |= {"dtype": "float64" if stored == "float64" else "float32"}
    if stored in compact.KINDS:
        description |= {"format_version": COMPACT_VERSION, "stored": stored}
        tensors = compact.narrow(state, stored)
    else:
        tensors = {name: compact.converted(name, array, np.dtype(stored)) for name, array in state.items()}
    _check(description, tensors)  # what is written can be loaded
    write_tensors(path, tensors, {"minunet": json.dumps(description, allow_nan=False)})


def _stored_dtype(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in ("float32", "float64", *compact.KINDS):
        raise ValueError(f"dtype is {name}, expected float16, float32, float64 or int8")
    return name


def load(path: _PATH) -> UNet:
    """The model that `save` wrote to `path`, in evaluation mode, with preprocessing and coding.

    A name without a suffix, "nuclei", is that of a model in the package; a file of that name in the current folder
    goes first (boxed.py). The model lies on the CPU, unless the backend in force is "cuda".
    Raises FileNotFoundError for a missing file and FileFormatError, with what was found and what
    was expected, for any file that is not wholly a model of this format.
    """
    path = boxed.find(path) or path
    tensors, metadata = read_tensors(path)
    try:
        return build(_description(metadata), tensors)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error


def describe(model: UNet) -> dict[str, Any]:
    """What a file says of a model beside its tensors, ready for JSON; see `build`."""
    return {
        "format_version": FORMAT_VERSION,
        "architecture": model.architecture,
        "preprocessing": None if model.preprocessing is None else model.preprocessing.to_json(),
        "coding": None if model.coding is None else model.coding.to_json(),
    }


def build(description: Any, tensors: dict[str, np.ndarray]) -> UNet:
    """The model, in evaluation mode, of a description (see `describe`) and its tensors.

    Nothing of either is trusted: FileFormatError or ValueError, before any network is built, where they do not fit.
    """
    _check(description, tensors)
    architecture = description["architecture"]
    if "stored" in description:
        tensors = compact.widen(tensors, description["stored"])
    with undrawn():
        model = UNet(**architecture)
    dtype = np.dtype(architecture["dtype"])
    model.load_state_dict({name: compact.converted(name, array, dtype) for name, array in tensors.items()})
    if description["preprocessing"] is not None:
        model.preprocessing = Preprocessing.from_json(description["preprocessing"])
    if description["coding"] is not None:
        model.coding = Coding.from_json(description["coding"])
    model.eval()
    return model


def read_tensors(path: _PATH) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors by name, metadata) of any sound `.safetensors` or `.npz` file of plain numbers.

    Raises FileNotFoundError for a missing file, FileFormatError for one that cannot be read.
    """
    _hint_at_model(Path(path))
    reader = _format(path, there=os.path.lexists(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileFormatError("found a folder or a device, expected a model file")
        with open(path, "rb") as file:
            return reader.read(file, os.fstat(file.fileno()).st_size)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)}: {error}") from error


def write_tensors(path: _PATH, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """Write arrays of any strides, byte order and device, and texts, to a `.safetensors` or `.npz` file.

    The file appears whole or not at all. Raises ValueError for a dtype or name that the format
    does not have.
    """
    writer = _format(path)
    arrays = {name: np.asarray(device.to_host(array)) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in DTYPES.values():
            raise ValueError(f"tensor {name} has the dtype {array.dtype}, which files do not hold")
        if name == METADATA or "\0" in name:
            raise ValueError(f"a tensor cannot have the name {name!r}")
    atomic_write(path, lambda file: writer.write(file, arrays, metadata or {}))


def parameter_shapes(architecture: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every entry of the state_dict of this architecture, without building it."""
    norm, features, up = architecture["norm"], architecture["features"], architecture.get("up", "transpose")
    widths = [architecture["in_channels"], *features, bottleneck_channels(features, up)]
    shapes: dict[str, tuple[int, ...]] = {}
    for level, (inputs, outputs) in enumerate(pairwise(widths)):
        name = f"downs.{level}" if level < len(features) else "bottleneck"
        shapes |= _double_conv(name, (inputs, outputs, outputs), norm)
    channels = widths[-1]
    for step, (skip, outputs) in enumerate(way_up(features, up)):
        if up == "transpose":
            shapes[f"ups.{2 * step}.weight"] = (channels, skip, 2, 2)
            shapes[f"ups.{2 * step}.bias"] = (skip,)
        shapes |= _double_conv(f"ups.{2 * step + 1}", (2 * skip, skip, outputs), norm)
        channels = outputs
    shapes["final_conv.weight"] = (architecture["out_channels"], features[0], 1, 1)
    shapes["final_conv.bias"] = (architecture["out_channels"],)
    return shapes


def _double_conv(name: str, widths: tuple[int, int, int], norm: str | None) -> dict[str, tuple[int, ...]]:
    """Twice conv (-> batch norm) -> relu; batch norm takes the place of the bias.  widths: channels around the two."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (inputs, outputs) in zip((0, 3 if norm else 2), pairwise(widths), strict=True):
        shapes[f"{name}.conv.{index}.weight"] = (outputs, inputs, 3, 3)
        if norm is None:
            shapes[f"{name}.conv.{index}.bias"] = (outputs,)
            continue
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.conv.{index + 1}.{part}"] = (outputs,)
        shapes[f"{name}.conv.{index + 1}.num_batches_tracked"] = ()
    return shapes


def _hint_at_model(path: Path) -> None:
    """A run is a folder, and easily given in place of the model in it."""
    if (path / "model.safetensors").is_file():
        raise FileFormatError(
            f"{path}: found a folder, expected a model file: give {path / 'model.safetensors'}{boxed.hint(path)}"
        )


def _format(path: _PATH, there: bool = True) -> ModuleType:
    """Reader and writer by the suffix; `there`: whether a file that is to be read exists."""
    suffix = Path(path).suffix.lower()
    if suffix in CHECKPOINTS and there:
        raise FileFormatError(
            f"{os.fspath(path)}: found the suffix {suffix!r}, of a PyTorch checkpoint, expected .safetensors or .npz; "
            'in Python, mn.save(mn.load_torch("PATH"), "model.safetensors") makes a model file of it'
        )
    if suffix not in _FORMATS:
        missing = "" if there else "no such file; and "
        raise FileFormatError(
            f"{os.fspath(path)}: {missing}found the suffix {suffix!r}, expected .safetensors or .npz{boxed.hint(path)}"
        )
    return _FORMATS[suffix]


def _description(metadata: dict[str, str]) -> Any:
    if "minunet" not in metadata:
        raise FileFormatError(
            "found tensors without a description of the network (metadata 'minunet'), "
            "expected a file written by minunet.save (a state_dict of PyTorch is read by mn.load_torch)"
        )
    return parse_json(metadata["minunet"].encode(), "the description of the network")


def _check(description: Any, tensors: dict[str, np.ndarray]) -> None:
    """FileFormatError unless this is a description, and these are exactly the tensors that it speaks of."""
    _check_version(description)
    _check_architecture(description["architecture"])
    _check_state(tensors, description["architecture"], description.get("stored"))


def _check_version(description: Any) -> None:
    version = description.get("format_version") if isinstance(description, dict) else None
    if type(version) is not int or version not in (FORMAT_VERSION, COMPACT_VERSION):
        raise FileFormatError(
            f"found the format version {short(version)}, expected {FORMAT_VERSION} or {COMPACT_VERSION}; "
            "a file of a newer minunet needs that version to be read"
        )
    keys = {"format_version", "architecture", "preprocessing", "coding"}
    if version == FORMAT_VERSION:
        _check_keys(description, keys, "description")
        return
    _check_keys(description, keys | {"stored"}, "description")
    if description["stored"] not in compact.KINDS:
        raise FileFormatError(f"weights are stored as {short(description['stored'])}, expected "
                              f"{' or '.join(compact.KINDS)}")  # fmt: skip


def _check_architecture(architecture: Any) -> None:
    """Every argument of UNet must be there, of its type and in its range."""

    def channels(value: Any) -> bool:
        return type(value) is int and 1 <= value < 2**31

    checks = {
        "in_channels": channels,
        "out_channels": channels,
        "features": lambda v: isinstance(v, list) and len(v) > 0 and all(map(channels, v)),
        "padding": lambda v: v in ("valid", "same"),
        "norm": lambda v: v in (None, "batch"),
        "dropout": lambda v: type(v) in (int, float) and math.isfinite(v) and 0 <= v < 1,
        "dtype": lambda v: v in ("float32", "float64"),
        "skip_fit": lambda v: v in ("resize", "pad"),
        "up": lambda v: v in UPS,
    }
    if isinstance(architecture, dict):  # these two are named only where they are others
        architecture = {"skip_fit": "resize", "up": "transpose"} | architecture
    _check_keys(architecture, set(checks), "architecture")
    for key, is_valid in checks.items():
        if not is_valid(architecture[key]):
            raise FileFormatError(f"the architecture has the {key} {short(architecture[key])}")


def _check_keys(value: Any, keys: set[str], what: str) -> None:
    if not isinstance(value, dict) or value.keys() != keys:
        found = sorted(value) if isinstance(value, dict) else value
        raise FileFormatError(f"found the {what} {short(found)}, expected the keys {', '.join(sorted(keys))}")


def _check_state(tensors: dict[str, np.ndarray], architecture: dict[str, Any], stored: str | None) -> None:
    """The tensors must be those of the architecture: name by name, shape by shape, in the dtypes of the file's kind."""
    levels = len(architecture["features"])
    if levels > len(tensors):  # before the shapes of a million levels are written down
        raise FileFormatError(f"found {len(tensors)} tensors for a network of {levels} levels")
    shapes = parameter_shapes(architecture)
    if stored is None:
        faults = _dtype_faults(tensors, architecture["dtype"])
    else:
        layout = compact.layout(shapes, stored)
        faults = _layout_faults(tensors, layout, architecture["dtype"])
        shapes = {name: shape for name, (shape, _) in layout.items()}
    faults += [f"{short(name)} is missing" for name in shapes.keys() - tensors.keys()]
    faults += [f"{short(name)} is unexpected" for name in tensors.keys() - shapes.keys()]
    faults += [
        f"{name} has the shape {tensors[name].shape} instead of {shape}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if faults:
        more = f" (and {len(faults) - 3} more faults)" if len(faults) > 3 else ""
        raise FileFormatError(f"the tensors do not fit the architecture: {', '.join(sorted(faults)[:3])}{more}")


def _layout_faults(tensors: dict[str, np.ndarray], layout: compact.Layout, dtype: str) -> list[str]:
    """A compact file has a dtype for each tensor, and is of a float32 model."""
    faults = [f"the file is compact, of an architecture of {dtype}"] if dtype != "float32" else []
    return faults + [
        f"{name} is of {tensors[name].dtype.name} instead of {dtype}"
        for name, (_, dtype) in layout.items()
        if name in tensors and tensors[name].dtype != dtype
    ]


def _dtype_faults(tensors: dict[str, np.ndarray], dtype: str) -> list[str]:
    """Counters are integers; all others share the architecture's dtype, or float16 for float32."""
    counters = {name for name in tensors if name.endswith("num_batches_tracked")}
    faults = [
        f"{short(name)} is of {tensors[name].dtype.name} instead of an integer"
        for name in counters
        if tensors[name].dtype.kind not in "iu"
    ]
    used = {array.dtype.name for name, array in tensors.items() if name not in counters}
    allowed = {"float64"} if dtype == "float64" else {"float32", "float16"}
    if len(used) > 1 or not used <= allowed:
        faults.append(
            f"weights are of {' and '.join(sorted(used))} in an architecture of {dtype}, "
            f"expected all of {' or all of '.join(sorted(allowed, reverse=True))}"
        )
    return faults
