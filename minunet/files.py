"""Write files so that a reader sees the old file or the whole new one, never half of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = ".minunet-"  # how the names of temporaries begin; they end in .tmp


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Call `write(file)` on a temporary binary file, then rename it to `path`.

    The temporary lies in the same folder, since a rename is atomic only within one file system,
    and is removed on every failure, Ctrl-C included: `path` is then as it was. An existing file
    keeps its mode, a new one has the default of the umask. A symbolic link stays a link: the
    file that it points to is replaced.

    Raises FileNotFoundError where the folder does not exist, OSError where `path` is a folder
    or a device, and whatever `write` raises. What the system refuses (a full disk, no permission)
    is told with the name of `path`, not with that of the temporary.
    """
    target = Path(os.path.realpath(path))
    mode = _mode(target)
    temporary = target.with_name(f"{_TEMPORARY}{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())  # the content is on the disk before the name points to it
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename, error.filename2 = os.fspath(path), None
        raise
    _sync_folder(target.parent)


def clear_leftovers(folder: Path) -> None:
    """Remove the temporaries of writers that were killed (no other process may be writing there)."""
    for temporary in folder.glob(f"{_TEMPORARY}*.tmp"):
        temporary.unlink(missing_ok=True)


def _mode(target: Path) -> int | None:
    """The permission bits of the file that will be replaced; None where there is none yet."""
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{target.parent} is no folder, so {target.name} cannot be written")
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(f"{target} exists and is not a regular file, so it is not replaced")
    return stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    """Bring the new name to the disk too, on systems that can sync a folder (not Windows)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
