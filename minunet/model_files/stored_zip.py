r"""Zip archives whose entries are stored, not compressed, read without trust: what `npz.py` and `pytorch/` share.

Nothing that is stored can be larger than the file. Where entries may lie, and under which names, is each format's own
affair.

Archive:  for each entry a local record (starts with PK\3\4), its name, its data;
          then for each entry a record of the directory (PK\1\2); at last the end record (PK\5\6).
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, NamedTuple

from minunet.model_files.tensor_file import FileFormatError, read_exactly, short

MAGIC = b"PK\3\4"
_LOCAL = struct.Struct("<4s2x2H16x2H")  # flags, method, lengths of name and extra field
_ENTRY = struct.Struct("<4s2x3H4x3L3H8xL")  # version, flags, method, CRC, sizes, lengths, start
_END = struct.Struct("<4s4H2LH")  # disk, disk, entries here, entries, bytes, offset, comment
_ZIP_VERSION = 45  # the newest that a stored entry needs: with sizes of 64 bits


class Entry(NamedTuple):
    """What the directory says: the place of its local record, the bytes of its data, and their checksum."""

    name: bytes
    place: int
    size: int
    crc: int


class Kind(NamedTuple):
    """flags: that an entry may have.  gaps: bytes that may lie between directory and end record.

    refused: what an entry is that has another flag or is compressed.  remedy: what follows where there is no whole zip.
    """

    flags: int
    gaps: tuple[int, ...]
    refused: str
    remedy: str


def directory(file: BinaryIO, size: int, kind: Kind) -> tuple[list[Entry], int]:
    """(the entries in the order of the directory, its offset) of an open file of `size` bytes."""
    count, length, offset = _end(file, size, kind)
    file.seek(offset)
    content = read_exactly(file, length)
    entries: list[Entry] = []
    record = 0
    for _ in range(count):
        if length - record < _ENTRY.size or not content.startswith(b"PK\1\2", record):
            raise FileFormatError("the zip directory is damaged")
        _, version, flags, method, crc, packed, unpacked, *lengths, place = _ENTRY.unpack_from(content, record)
        record += _ENTRY.size
        name = bytes(content[record : record + lengths[0]])
        record += sum(lengths)
        if method != 0 or packed != unpacked or flags & ~kind.flags or version > _ZIP_VERSION:
            raise FileFormatError(f"the entry {short(name)} is {kind.refused}")
        entries.append(Entry(name, place, unpacked, crc))
    if record != length:
        raise FileFormatError("the zip directory does not match the entries before it")
    return entries, offset


def _end(file: BinaryIO, size: int, kind: Kind) -> tuple[int, int, int]:
    """The number of entries, the length and the offset of the directory."""
    file.seek(max(0, size - _END.size))
    end = file.read()
    if len(end) == _END.size and end.startswith(b"PK\5\6"):
        _, disk, first, here, count, length, offset, comment = _END.unpack(end)
        whole = disk == first == comment == 0 and here == count
        if whole and size - _END.size - offset - length in kind.gaps:
            return count, length, offset
    file.seek(0)
    raise FileFormatError(
        f"found {size} bytes that start with {short(file.read(8))} and do not end like a zip archive of less than 4 GB "
        f"without a comment{kind.remedy}"
    )


def start_of_data(file: BinaryIO, entry: Entry, kind: Kind) -> int:
    """Where the data of an entry begin: behind its local record, with a name of its own, and padding."""
    file.seek(entry.place)
    record = file.read(_LOCAL.size)
    if len(record) == _LOCAL.size and record.startswith(MAGIC):
        _, flags, method, name_length, extra_length = _LOCAL.unpack(record)
        if method == 0 and not flags & ~kind.flags and file.read(name_length) == entry.name:
            return entry.place + _LOCAL.size + name_length + extra_length
    raise FileFormatError(f"the entry {short(entry.name)} does not match the zip directory")


def data(file: BinaryIO, entry: Entry, start: int) -> bytearray:
    """The bytes of an entry that begin at `start`; FileFormatError where their checksum differs."""
    file.seek(start)
    content = read_exactly(file, entry.size)
    if zlib.crc32(content) != entry.crc:
        raise FileFormatError(f"the entry {short(entry.name)} is damaged: its checksum differs")
    return content
