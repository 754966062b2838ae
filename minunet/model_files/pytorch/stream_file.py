"""The format before PyTorch 1.6: four pickles, one behind the other, and then the storages.

The pickles hold a magic number, the protocol's version, facts of the machine, and the value that was saved; a fifth
holds the keys of the storages in the order in which they follow, each as a count (8 bytes) and its numbers,
little-endian. Nothing has a checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from minunet.model_files.pytorch.unpickle import SIZE_LIMIT, unpickle
from minunet.model_files.pytorch.views import CALLS, NAMES, Storage, persistent
from minunet.model_files.tensor_file import FileFormatError, read_exactly, short

MAGIC = b"\x80"  # as every pickle
_FIRST, _SECOND = 0x1950A86A20F9469CFC6C, 1001
_COUNT = 8  # bytes


def read(file: BinaryIO, size: int) -> tuple[Any, Callable[[Storage], bytearray], str]:
    """(what was saved, the bytes of any of its storages, their byte order "<")."""
    storages: dict[str, Storage] = {}

    def noted(identity: Any) -> Storage:
        storage = persistent(identity)
        if storages.setdefault(storage.key, storage) != storage:
            raise FileFormatError(f"the storage {short(storage.key)} is described in two ways")
        return storage

    if _next(file, size) != _FIRST or _next(file, size) != _SECOND:
        raise FileFormatError("found a pickle, expected a file of PyTorch: torch.save(model.state_dict(), path)")
    _next(file, size)
    value = _next(file, size, noted)
    places = _places(file, size, _next(file, size), storages)

    def fetch(storage: Storage) -> bytearray:
        if storage.key not in places:
            raise FileFormatError(f"the storage {short(storage.key)} is missing")
        file.seek(places[storage.key])
        return read_exactly(file, storage.length * storage.dtype.itemsize)

    return value, fetch, "<"


def _next(file: BinaryIO, size: int, resolve: Callable[[Any], Any] = persistent) -> Any:
    """The value of the next pickle; `file` is then behind it."""
    start = file.tell()
    found = unpickle(file.read(min(SIZE_LIMIT, size - start)), CALLS, NAMES, resolve)
    file.seek(start + found.length)
    return found.value


def _places(file: BinaryIO, size: int, keys: Any, storages: dict[str, Storage]) -> dict[str, int]:
    """Where the numbers of each storage begin; together they fill the rest of the file."""
    places: dict[str, int] = {}
    if type(keys) is not list:
        raise FileFormatError(f"found {short(keys)}, expected the keys of the storages")
    for key in keys:
        if type(key) is not str or key not in storages or key in places:
            raise FileFormatError(f"found the key {short(key)}, expected those of the storages, each once")
        count = int.from_bytes(file.read(_COUNT), "little")
        if count != storages[key].length:
            raise FileFormatError(f"the storage {short(key)} has {count} numbers, expected {storages[key].length}")
        places[key] = file.tell()
        file.seek(count * storages[key].dtype.itemsize, 1)
        if file.tell() > size:
            break
    if file.tell() != size:
        raise FileFormatError(f"found {size} bytes, expected {file.tell()}: the file is cut off, or goes on")
    return places
