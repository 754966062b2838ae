r"""The format since PyTorch 1.6: a zip archive of a pickle, ARCHIVE/data.pkl, and a file ARCHIVE/data/KEY a storage.

Only stored (not compressed) entries are read, and no two may share bytes, so that the storages can never be larger than
the file. PyTorch puts the sizes of an entry behind its data as well, and zeros before it, so that storages begin at
multiples of 64: what lies between two entries is not looked at. All entries have checksums.

Before the end record of the archive lie 76 bytes for archives over 4 GB (PK\6\6), which are not read.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

from minunet.model_files import stored_zip
from minunet.model_files.pytorch.unpickle import SIZE_LIMIT, unpickle
from minunet.model_files.pytorch.views import CALLS, NAMES, Storage, persistent
from minunet.model_files.tensor_file import FileFormatError, short

_ENCRYPTED = 1
_ZIP64 = 76  # bytes of the records for large archives, which PyTorch always writes
_KIND = stored_zip.Kind(
    flags=~_ENCRYPTED,
    gaps=(0, _ZIP64),
    refused="compressed or encrypted; only archives as torch.save writes them are read",
    remedy=": the file is cut off or damaged",
)


class _Data(NamedTuple):
    """An entry, and where its data begin."""

    entry: stored_zip.Entry
    start: int


def read(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], bytearray], str]:
    """(what the pickle holds, the bytes of any of its storages, their byte order "<" or ">")."""
    entries = _entries(file, size)
    found = [name for name in entries if name.endswith("/data.pkl")]
    if len(found) != 1 or entries[found[0]].entry.size > SIZE_LIMIT:
        raise FileFormatError(
            f"found a zip archive of {short(sorted(entries)[:2])} ..., expected one of a PyTorch checkpoint, with one "
            f"data.pkl of at most {SIZE_LIMIT} bytes"
        )
    folder = found[0].removesuffix("data.pkl")
    value = unpickle(bytes(stored_zip.data(file, *entries[found[0]])), CALLS, NAMES, persistent).value

    def fetch(storage: Storage) -> bytearray:
        name = f"{folder}data/{storage.key}"
        if name not in entries or entries[name].entry.size != storage.length * storage.dtype.itemsize:
            raise FileFormatError(f"the entry {short(name)} is missing, or has not the size that the pickle says")
        return stored_zip.data(file, *entries[name])

    return value, fetch, _byte_order(file, entries, f"{folder}byteorder")


def _byte_order(file: BinaryIO, entries: dict[str, _Data], name: str) -> str:
    """Files before PyTorch 2.0 do not tell it, and are little-endian."""
    if name not in entries:
        return "<"
    content = bytes(stored_zip.data(file, *entries[name])) if entries[name].entry.size < 9 else b""
    if content not in (b"little", b"big"):
        raise FileFormatError(f"the entry {short(name)} is neither 'little' nor 'big'")
    return "<" if content == b"little" else ">"


def _entries(file: BinaryIO, size: int) -> dict[str, _Data]:
    """All entries by name; none shares bytes with another or with the directory."""
    entries, directory_at = stored_zip.directory(file, size, _KIND)
    found: dict[str, _Data] = {}
    spans = [(directory_at, directory_at)]
    for entry in entries:
        name = entry.name.decode("utf-8", "backslashreplace")
        if name in found:
            raise FileFormatError(f"the entry {short(name)} stands there twice")
        found[name] = _Data(entry, stored_zip.start_of_data(file, entry, _KIND))
        spans.append((entry.place, found[name].start + entry.size))
    spans.sort()
    if any(end > begin for (_, end), (begin, _) in pairwise(spans)):
        raise FileFormatError("the zip directory does not match the entries before it")
    if spans[-1][0] != directory_at:
        raise FileFormatError("an entry lies behind the zip directory")
    return found
