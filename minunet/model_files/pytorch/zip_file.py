r"""The format since PyTorch 1.6: a zip archive of a pickle, ARCHIVE/data.pkl, and a file ARCHIVE/data/KEY a storage.

Only stored (not compressed) entries are read, and no two may share bytes, so that the storages can never be larger than
the file. PyTorch puts the sizes of an entry behind its data as well, and zeros before it, so that storages begin at
multiples of 64: what lies between two entries is not looked at. All entries have checksums.

Archive:  for each entry a local record (starts with PK\3\4), its name, padding, its data, its sizes (PK\7\8);
          then for each entry a record of the directory (PK\1\2); 76 bytes for archives over 4 GB (PK\6\6), which are
          not read; at last the end record (PK\5\6).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from minunet.model_files.pytorch.unpickle import SIZE_LIMIT, unpickle
from minunet.model_files.pytorch.views import CALLS, NAMES, Storage, persistent
from minunet.model_files.tensor_file import FileFormatError, read_exactly, short

MAGIC = b"PK\3\4"
_LOCAL = struct.Struct("<4s4xH16x2H")  # method, lengths of name and extra field
_ENTRY = struct.Struct("<4s4x2H4x3L3H8xL")  # flags, method, CRC, sizes, lengths, start
_END = struct.Struct("<4s4H2LH")  # disk, disk, entries here, entries, bytes, offset, comment
_ENCRYPTED = 1
_ZIP64 = 76  # bytes of the records for large archives, which PyTorch always writes


class _Entry(NamedTuple):
    start: int
    size: int
    crc: int


def read(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], bytearray], str]:
    """(what the pickle holds, the bytes of any of its storages, their byte order "<" or ">")."""
    entries = _entries(file, size)
    found = [name for name in entries if name.endswith("/data.pkl")]
    if len(found) != 1 or entries[found[0]].size > SIZE_LIMIT:
        raise FileFormatError(
            f"found a zip archive of {short(sorted(entries)[:2])} ..., expected one of a PyTorch checkpoint, with one "
            f"data.pkl of at most {SIZE_LIMIT} bytes"
        )
    folder = found[0].removesuffix("data.pkl")
    value = unpickle(bytes(_content(file, entries, found[0])), CALLS, NAMES, persistent).value

    def fetch(storage: Storage) -> bytearray:
        name = f"{folder}data/{storage.key}"
        if name not in entries or entries[name].size != storage.length * storage.dtype.itemsize:
            raise FileFormatError(f"the entry {short(name)} is missing, or has not the size that the pickle says")
        return _content(file, entries, name)

    return value, fetch, _byte_order(file, entries, f"{folder}byteorder")


def _byte_order(file: BinaryIO, entries: dict[str, _Entry], name: str) -> str:
    """Files before PyTorch 2.0 do not tell it, and are little-endian."""
    if name not in entries:
        return "<"
    content = bytes(_content(file, entries, name)) if entries[name].size < 9 else b""
    if content not in (b"little", b"big"):
        raise FileFormatError(f"the entry {short(name)} is neither 'little' nor 'big'")
    return "<" if content == b"little" else ">"


def _content(file: BinaryIO, entries: dict[str, _Entry], name: str) -> bytearray:
    entry = entries[name]
    file.seek(entry.start)
    content = read_exactly(file, entry.size)
    if zlib.crc32(content) != entry.crc:
        raise FileFormatError(f"the entry {short(name)} is damaged: its checksum differs")
    return content


def _entries(file: BinaryIO, size: int) -> dict[str, _Entry]:
    """All entries by name; none shares bytes with another or with the directory."""
    count, length, directory_at = _directory(file, size)
    directory = read_exactly(file, length)
    entries: dict[str, _Entry] = {}
    spans = [(directory_at, directory_at)]
    record = 0
    for _ in range(count):
        if length - record < _ENTRY.size or not directory.startswith(b"PK\1\2", record):
            raise FileFormatError("the zip directory is damaged")
        _, flags, method, crc, packed, unpacked, *lengths, start = _ENTRY.unpack_from(directory, record)
        record += _ENTRY.size
        name = bytes(directory[record : record + lengths[0]])
        record += sum(lengths)
        if method != 0 or packed != unpacked or flags & _ENCRYPTED:
            raise FileFormatError(
                f"the entry {short(name)} is compressed or encrypted; only archives as torch.save writes them are read"
            )
        text = name.decode("utf-8", "backslashreplace")
        if text in entries:
            raise FileFormatError(f"the entry {short(name)} stands there twice")
        entries[text] = _Entry(_skip_local_record(file, start, name), unpacked, crc)
        spans.append((start, entries[text].start + unpacked))
    spans.sort()
    if record != length or any(end > begin for (_, end), (begin, _) in pairwise(spans)):
        raise FileFormatError("the zip directory does not match the entries before it")
    if spans[-1][0] != directory_at:
        raise FileFormatError("an entry lies behind the zip directory")
    return entries


def _directory(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """The number of entries, the length and the offset of the directory, where `file` is then."""
    file.seek(max(0, size - _END.size))
    end = file.read()
    if len(end) == _END.size and end.startswith(b"PK\5\6"):
        _, disk, first, here, count, length, offset, comment = _END.unpack(end)
        whole = disk == first == comment == 0 and here == count
        if whole and size - _END.size - offset - length in (0, _ZIP64):
            file.seek(offset)
            return count, length, offset
    raise FileFormatError(
        f"found {size} bytes that begin but do not end like a zip archive of less than 4 GB without a comment: "
        "the file is cut off or damaged"
    )


def _skip_local_record(file: BinaryIO, position: int, name: bytes) -> int:
    """Where the data of the entry at `position` start: behind its own copy of the name, and padding."""
    file.seek(position)
    record = file.read(_LOCAL.size)
    if len(record) == _LOCAL.size and record.startswith(MAGIC):
        _, method, name_length, extra_length = _LOCAL.unpack(record)
        if method == 0 and file.read(name_length) == name:
            return position + _LOCAL.size + name_length + extra_length
    raise FileFormatError(f"the entry {short(name)} does not match the zip directory")
