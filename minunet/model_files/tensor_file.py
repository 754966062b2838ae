"""What both model file formats share: the error, the dtypes, and reading without trust.

A file is believed only after its claims were checked against its real size, so that no claim
makes us allocate more than the file holds. Nothing in a file is ever unpickled or evaluated.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from typing import Any, BinaryIO, Literal

import numpy as np


class FileFormatError(ValueError):
    """A model file that cannot be read: damaged, of another kind, or hostile."""


# The dtypes that files may hold, by their names in .safetensors; little-endian in every file.
DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"), "U32": np.dtype("<u4"), "U16": np.dtype("<u2"), "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}  # fmt: skip

# Two bytes a number, the upper half of a float32. NumPy has no such dtype: files of PyTorch that hold it are widened.
BFLOAT16 = np.dtype([("bfloat16", "<u2")])
READ = DTYPES | {"BF16": BFLOAT16}

METADATA = "__metadata__"  # the entry beside the tensors, in both formats
JSON_LIMIT = 2**20  # bytes; a four-level U-Net needs 12 thousand, and parsed JSON is 20 x its text
MAX_DIMENSIONS = 32

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
short = _repr.repr  # values from a file, cut to a length that fits in a message


def byte_count(shape: Sequence[Any], dtype: np.dtype) -> int:
    """How many bytes a tensor of this shape takes; FileFormatError where no tensor has it."""
    whole = len(shape) <= MAX_DIMENSIONS and all(type(n) is int and n >= 0 for n in shape)
    # NumPy multiplies the sides other than 0 even where the tensor is empty.
    if not whole or math.prod(n or 1 for n in shape) * dtype.itemsize >= 2**63:
        raise FileFormatError(
            f"found the impossible shape {short(shape)}, expected at most {MAX_DIMENSIONS} whole "
            "numbers of a size that fits in memory"
        )
    return math.prod(shape) * dtype.itemsize


def read_exactly(file: BinaryIO, count: int) -> bytearray:
    """The next bytes of `file`; the caller has seen that the file is long enough for them."""
    content = bytearray(count)
    if file.readinto(content) != count:  # type: ignore[attr-defined]
        raise FileFormatError("the file ends earlier than its size says")
    return content


def as_array(
    content: bytearray,
    dtype: np.dtype,
    shape: Sequence[int],
    offset: int = 0,
    order: Literal["C", "F"] = "C",
) -> np.ndarray:
    """The tensor that `content` holds from `offset` on, in native byte order; mostly a view."""
    array: np.ndarray = np.ndarray(shape, dtype, content, offset, order=order)
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise FileFormatError("found a boolean that is neither 0 nor 1")
    if dtype == BFLOAT16:
        return widened(array)
    return array.astype(dtype.newbyteorder("="), copy=not array.flags.aligned)


def widened(array: np.ndarray) -> np.ndarray:
    """float32 of numbers of BFLOAT16, in either byte order, exactly."""
    return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)


def as_stored(array: np.ndarray) -> np.ndarray:
    """The array as files hold it: C order, little-endian."""
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)


def parse_json(data: bytes, what: str) -> Any:
    """Strict JSON: UTF-8, no duplicate keys, finite numbers, at most JSON_LIMIT bytes."""
    if len(data) > JSON_LIMIT:
        raise FileFormatError(f"{what} has {len(data)} bytes, expected at most {JSON_LIMIT}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # refuses half surrogate pairs
    except RecursionError:
        raise FileFormatError(f"{what} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise FileFormatError(f"{what} is not valid JSON: {error}") from None
    return value


def check_metadata(metadata: Any) -> dict[str, str]:
    """The metadata of a file: texts by name."""
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileFormatError(f"found the metadata {short(metadata)}, expected texts by name")
    return metadata


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {short(key)} stands there twice")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > 19 or text == "-0":  # 2**63 has 19 digits
        raise ValueError(f"the number {short(text)} is out of range")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {short(text)} is not finite")
    return value
