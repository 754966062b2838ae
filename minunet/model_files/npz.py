"""The .npz format: a zip archive of .npy files, as `np.savez` writes it, read without trust.

Only stored (not compressed) entries are read, which lie one behind the other and fill the file,
so that the arrays can never be larger than the file. The metadata is the array "__metadata__":
the bytes of a JSON text.

Array:    magic and version (8 bytes), the length of the header, the header, raw data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from minunet.model_files import stored_zip
from minunet.model_files.tensor_file import (
    DTYPES,
    JSON_LIMIT,
    METADATA,
    FileFormatError,
    as_array,
    as_stored,
    byte_count,
    check_metadata,
    parse_json,
    short,
)

_UTF8_NAME = 0x800  # the one flag that a stored entry may have
_KIND = stored_zip.Kind(
    flags=_UTF8_NAME,
    gaps=(0,),
    refused="compressed, encrypted, streamed or of a newer zip; only stored entries are read (np.savez, not "
    "np.savez_compressed)",
    remedy=", expected a whole .npz file",
)
_SIZE_LIMIT = 2**31 - 2**24  # bytes; larger archives need the zip64 records, which are not read

_SIDE = rb"(?:0|[1-9]\d{0,18})"
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<>|]\w+)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:(?:%b, ?)+(?:%b)?)?)\), \} *\n" % (_SIDE, _SIDE)
)
_LENGTH_BYTES = {b"\x93NUMPY\1\0": 2, b"\x93NUMPY\2\0": 4, b"\x93NUMPY\3\0": 4}
_DESCRIPTIONS = {dtype.str: dtype for little in DTYPES.values() for dtype in (little, little.newbyteorder(">"))}


def read(file: BinaryIO, size: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(tensors by name, metadata) of an open file of `size` bytes."""
    tensors: dict[str, np.ndarray] = {}
    for name, content in _entries(file, size):
        key = name.removesuffix(".npy")
        if key == name:
            raise FileFormatError(f"found the entry {short(name)}, expected .npy arrays only (pickles are never read)")
        if key in tensors:
            raise FileFormatError(f"the entry {short(name)} stands there twice")
        tensors[key] = _array(name, content)
    metadata = tensors.pop(METADATA, np.frombuffer(b"{}", np.uint8))
    return tensors, check_metadata(parse_json(metadata.tobytes(), "the metadata"))


def write(file: BinaryIO, tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write what `np.load` reads too; the same tensors give the same bytes."""
    import zipfile

    text = np.frombuffer(json.dumps(metadata).encode(), np.uint8)
    arrays = {**tensors, METADATA: text} if metadata else tensors
    if len(text) > JSON_LIMIT:
        raise ValueError(f"the metadata takes {len(text)} bytes, at most {JSON_LIMIT} can")
    if sum(a.nbytes for a in arrays.values()) > _SIZE_LIMIT or len(arrays) >= 2**16 - 1:
        raise ValueError("a .npz holds at most 2 GB in 65,534 arrays; save as .safetensors")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, as_stored(array), allow_pickle=False)


def _entries(file: BinaryIO, size: int) -> Iterator[tuple[str, bytearray]]:
    """(name, content) of every entry; they must fill the file from its first byte, without gaps."""
    entries, directory_at = stored_zip.directory(file, size, _KIND)
    end = 0
    for entry in entries:
        start = stored_zip.start_of_data(file, entry, _KIND) if entry.place == end else size
        end = start + entry.size
        if end > directory_at:
            raise FileFormatError(f"the entry {short(entry.name)} does not lie where the zip directory says")
        yield _text(entry.name), stored_zip.data(file, entry, start)
    if end != directory_at:
        raise FileFormatError("the zip directory does not match the entries before it")


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"the entry name {short(name)} is not UTF-8") from None


def _array(name: str, content: bytearray) -> np.ndarray:
    """The array of an .npy file. Its header is matched, never evaluated."""
    width = _LENGTH_BYTES.get(bytes(content[:8]), 0)
    data = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    match = _NPY_HEADER.fullmatch(content, 8 + width, data) if data <= len(content) else None
    if match is None or match[1].decode() not in _DESCRIPTIONS:
        raise FileFormatError(
            f"the entry {short(name)} starts with {short(bytes(content[:80]))}, expected an .npy "
            "array of plain numbers (objects are never read)"
        )
    dtype = _DESCRIPTIONS[match[1].decode()]
    shape = [int(side) for side in match[3].replace(b",", b" ").split()]
    if byte_count(shape, dtype) != len(content) - data:
        raise FileFormatError(
            f"the entry {short(name)} has {len(content) - data} bytes of data, "
            f"expected {byte_count(shape, dtype)} for the shape {short(shape)} in {dtype.name}"
        )
    return as_array(content, dtype, shape, data, "F" if match[2] == b"True" else "C")
