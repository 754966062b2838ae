"""The state_dict in a file: which format it is, where the state_dict lies in it, and its tensors."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minunet.model_files import safetensors, stored_zip
from minunet.model_files.pytorch import stream_file, zip_file
from minunet.model_files.pytorch.views import Storage, View
from minunet.model_files.tensor_file import FileFormatError, short

# Under which keys training scripts put the state_dict, in the order in which they are looked for.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "unet", "weights", "params")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "unet.")  # of DataParallel, torch.compile and training scripts
DEEPEST = 4  # wrappers in wrappers
SLACK = 2**20  # numbers that tensors may have in all beyond those in the file
_START = 8

State = dict[str, np.ndarray]


def read_state(path: str | os.PathLike[str]) -> tuple[State, dict[str, str]]:
    """(tensors by name, metadata) of the state_dict in a file; prefixes that all names share are left out.

    Tensors may share memory, be read-only, and have any strides; those of bfloat16 are of the dtype BFLOAT16, others of
    NumPy's in any byte order.  Only a `.safetensors` file has metadata.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FileFormatError("found a folder or a device, expected a PyTorch checkpoint")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if Path(path).suffix.lower() == ".safetensors":
            tensors, metadata = safetensors.read(file, size)
            return without_prefix(tensors), metadata
        start = file.read(_START)
        file.seek(0)
        if start.startswith(stored_zip.MAGIC):
            value, fetch, order = zip_file.read(file, size)
        elif start.startswith(stream_file.MAGIC):
            value, fetch, order = stream_file.read(file, size)
        else:
            raise FileFormatError(
                f"found {size} bytes that start with {short(start)}, expected a file that torch.save wrote "
                "(or one named .safetensors)"
            )
        return without_prefix(_arrays(find_state(value), fetch, order)), {}


def find_state(value: Any) -> dict[str, View]:
    """The tensors of the state_dict that `value` is, or holds."""
    for _ in range(DEEPEST):
        if type(value) is not dict:
            raise FileFormatError(f"found {short(value)}, expected a state_dict")
        wrapper = next((key for key in WRAPPERS if type(value.get(key)) is dict), None)
        if wrapper is None:
            break
        value = value[wrapper]
    tensors = {name: view for name, view in value.items() if type(view) is View and type(name) is str}
    if not tensors:
        raise FileFormatError(
            f"found no state_dict among the keys {short(sorted(map(str, value)))}, expected tensors, or a dict of them "
            f"under one of {', '.join(WRAPPERS)}"
        )
    return tensors


def without_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same without prefixes that all names share."""
    while tensors:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _arrays(views: dict[str, View], fetch: Callable[[Storage], bytearray], order: Any) -> State:
    """The views as arrays; every storage is read once.

    Refused where they are much larger than their storages: strides of 0, and storages that are shared by many, could
    make a network of any size of a small file.
    """
    storages = {view.storage for view in views.values()}
    values, stored = sum(math.prod(view.shape) for view in views.values()), sum(s.length for s in storages)
    if values > stored + SLACK:
        raise FileFormatError(f"the tensors have {short(values)} numbers, and the file holds {stored} for them")
    contents = {storage: fetch(storage) for storage in storages}
    dtypes = {storage: storage.dtype.newbyteorder(order) for storage in storages}
    return {name: view.of(contents[view.storage], dtypes[view.storage]) for name, view in views.items()}
