"""That a folder is written by one training at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import IO, Any, BinaryIO

from minunet.errors import UsageError

NAME = ".minunet-lock"


def cannot_write(folder: str | os.PathLike[str], error: OSError) -> UsageError:
    """The error with its remedy."""
    return UsageError(
        f"{os.fspath(folder)}: {error.strerror}: give an --out that can be written, or see to permissions"
    )


class Lock:
    """A file in a folder that the system locks for this process, until `release` or the end of the process.

    The lock is the system's, not the file itself: one that a killed process left behind stops nobody. Where the file
    system knows no locks, nobody is stopped either.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.file: BinaryIO | None = None

    def take(self) -> None:
        """Lock the folder, if it exists and is not locked by this object already.

        Raises UsageError where another training holds it, and where the folder cannot be written.
        """
        while self.file is None and self.folder.is_dir():
            try:
                file = open(self.path, "ab")  # noqa: SIM115
            except OSError as error:
                if error.errno == errno.EROFS or not os.access(self.folder, os.W_OK | os.X_OK):
                    raise cannot_write(self.folder, error) from None
                return  # the lock file is another user's, say: what cannot be written is told when it shall be
            if is_locked_by_another(file):
                file.close()
                raise UsageError(
                    f"another training is writing to {self.folder}: wait for its end or stop it, or give another --out"
                )
            if self._is_still_there(file):
                self.file = file
            else:
                file.close()  # the one before removed it on its way out: another may have made a new one

    def _is_still_there(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Unlock the folder, and remove the file."""
        if self.file is None:
            return
        file, self.file = self.file, None
        if sys.platform == "win32":  # where no open file can be removed, not even by its next holder
            file.close()
            self._remove()
        else:  # first, since afterwards it may be another's
            self._remove()
            file.close()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def is_locked_by_another(file: IO[Any]) -> bool:
    """Lock the file; whether that failed because another holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except (ImportError, OSError):  # no such thing here: go on without
        return False
    return False
