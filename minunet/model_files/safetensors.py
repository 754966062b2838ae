"""The .safetensors format: a length (8 bytes, little-endian), a JSON header, raw tensors.

The header maps each name to {"dtype", "shape", "data_offsets": [begin, end]}, counted from the
end of the header, and may hold "__metadata__", texts by name. The tensors fill the rest of the
file without gap or overlap.
"""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from minunet.model_files.tensor_file import (
    DTYPES,
    JSON_LIMIT,
    METADATA,
    READ,
    FileFormatError,
    as_array,
    as_stored,
    byte_count,
    check_metadata,
    parse_json,
    read_exactly,
    short,
)

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class _Entry(NamedTuple):
    begin: int
    end: int
    name: str
    dtype: np.dtype
    shape: list[int]


def read(file: BinaryIO, size: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors by name, metadata) of an open file of `size` bytes."""
    header = _header(file, size)
    metadata = check_metadata(header.pop(METADATA, {}))
    entries = sorted((_entry(name, value) for name, value in header.items()), key=lambda e: e[:2])
    _check_cover(entries, size - file.tell())
    tensors = {e.name: as_array(read_exactly(file, e.end - e.begin), e.dtype, e.shape) for e in entries}
    return tensors, metadata


def write(file: BinaryIO, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write the tensors, those with the largest items first, so that each one is aligned."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {METADATA: metadata} if metadata else {}
    begin = 0
    for name, array in ordered:
        end = begin + array.nbytes
        dtype = _NAMES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > JSON_LIMIT:
        raise ValueError(f"names and metadata take {len(text)} bytes, at most {JSON_LIMIT} can")
    file.write(struct.pack("<Q", len(text)) + text)
    for _, array in ordered:
        file.write(as_stored(array).data)


def _header(file: BinaryIO, size: int) -> dict[str, Any]:
    start = file.read(8)
    length = int.from_bytes(start, "little")
    text = file.read(length) if length <= min(size - 8, JSON_LIMIT) else b""
    if not text.startswith(b"{"):
        raise FileFormatError(
            f"found {size} bytes that start with {short(start + text[:8])}, expected a "
            f".safetensors file: 8 bytes with the length of a header, at most {JSON_LIMIT}, then "
            "the header, a JSON object"
        )
    return parse_json(text, "the header")


def _entry(name: str, value: Any) -> _Entry:
    try:
        dtype, shape, (begin, end) = READ[value["dtype"]], value["shape"], value["data_offsets"]
        whole = type(begin) is int and type(end) is int and len(value) == 3
        if whole and end - begin == byte_count(shape, dtype):
            return _Entry(begin, end, name, dtype, shape)
    except (KeyError, TypeError, ValueError):
        pass  # not the three keys, not their types, no such dtype, or no shape
    raise FileFormatError(
        f"tensor {short(name)} is described by {short(value)}, expected a dtype among "
        f"{', '.join(READ)}, a shape, and data_offsets as far apart as dtype and shape need"
    )


def _check_cover(entries: list[_Entry], available: int) -> None:
    """The tensors, in the order of their offsets, must tile the bytes after the header."""
    position = 0
    for entry in entries:
        if entry.begin != position:
            fault = "overlaps the one before it" if entry.begin < position else "leaves a gap"
            raise FileFormatError(
                f"tensor {short(entry.name)} starts at byte {entry.begin}, expected {position}: it {fault}"
            )
        position = entry.end
    if position != available:
        fault = "the file is cut off" if available < position else "something was appended"
        raise FileFormatError(f"found {available} bytes after the header, expected {position}: {fault}")
