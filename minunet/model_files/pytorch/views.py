"""What the few names in the pickle of a state_dict stand for: storages, and tensors as views of them.

A storage is a row of numbers that lies elsewhere in the file; a tensor says where in it it begins, its shape, and how
far apart its numbers are along each side. Nothing is read or allocated here, but every claim is checked: a tensor that
would reach beyond its storage is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minunet.model_files.pytorch.unpickle import Name
from minunet.model_files.tensor_file import BFLOAT16, DTYPES, FileFormatError, byte_count, short

STORAGES = {
    "torch.DoubleStorage": DTYPES["F64"], "torch.FloatStorage": DTYPES["F32"],
    "torch.HalfStorage": DTYPES["F16"], "torch.BFloat16Storage": BFLOAT16,
    "torch.LongStorage": DTYPES["I64"], "torch.IntStorage": DTYPES["I32"], "torch.ShortStorage": DTYPES["I16"],
    "torch.CharStorage": DTYPES["I8"], "torch.ByteStorage": DTYPES["U8"], "torch.BoolStorage": DTYPES["BOOL"],
}  # fmt: skip
NAMES = frozenset(STORAGES)


class Storage(NamedTuple):
    """A row of `length` numbers under the name `key`."""

    key: str
    dtype: np.dtype
    length: int


class View(NamedTuple):
    """A tensor: offset and strides are in numbers of its storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, content: bytearray, dtype: np.dtype) -> np.ndarray:
        """The tensor in the bytes of its storage, whose numbers have this dtype; nothing is copied."""
        steps = [stride * dtype.itemsize if n > 1 else 0 for n, stride in zip(self.shape, self.strides, strict=True)]
        offset = self.offset * dtype.itemsize if content else 0
        return np.ndarray(self.shape, dtype, content, offset, steps)


def persistent(identity: Any) -> Storage:
    """The storage that a pickle points to: ("storage", type, key, device, count), in old files with a None behind.

    On which device it lay is of no interest.
    """
    if type(identity) is tuple and len(identity) in (5, 6) and identity[5:] in ((), (None,)):
        kind, name, key, _, count = identity[:5]
        known = kind == "storage" and type(name) is Name and name.text in STORAGES
        if known and type(key) is str and type(count) is int and 0 <= count < 2**48:
            return Storage(key, STORAGES[name.text], count)
    raise FileFormatError(f"found the reference {short(identity)} in a pickle, expected one to a storage")


def _tensor(*arguments: Any) -> View:
    """torch._utils._rebuild_tensor_v2: storage, offset, shape, strides; requires_grad and hooks do not matter."""
    if len(arguments) >= 4:
        storage, offset, shape, strides = arguments[:4]
        sides = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)
        if type(storage) is Storage and sides and all(map(_natural, (offset, *shape, *strides))):
            if byte_count(shape, storage.dtype) == 0:
                return View(storage, 0, shape, (0,) * len(shape))
            if offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) < storage.length:
                return View(storage, offset, shape, strides)
    raise FileFormatError(f"found a tensor of {short(arguments[:4])}, which does not lie within its storage")


def _natural(value: Any) -> bool:
    return type(value) is int and value >= 0


def _parameter(*arguments: Any) -> View:
    """torch._utils._rebuild_parameter: a tensor; requires_grad and hooks do not matter."""
    return _only(View, "a parameter", arguments[:1])


def _size(*arguments: Any) -> tuple:
    return _only(tuple, "a torch.Size", arguments)


def _device(*arguments: Any) -> str:
    """torch.device("cuda", 0)."""
    return _only(str, "a torch.device", arguments[:1])


def _ordered_dict(*arguments: Any) -> dict:
    """Empty: its items come behind."""
    if arguments:
        raise FileFormatError(f"found an OrderedDict of {short(arguments)}, expected an empty one that is then filled")
    return {}


def _only(kind: type, what: str, arguments: tuple) -> Any:
    if len(arguments) != 1 or type(arguments[0]) is not kind:
        raise FileFormatError(f"found {what} of {short(arguments)}")
    return arguments[0]


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
}
