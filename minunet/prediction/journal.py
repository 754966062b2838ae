"""Which tiles of a long prediction are done, in a file beside its result, so that an interrupted one can go on.

Its first line says what is predicted; every further line is the number of a tile whose values are on the disk, and the
classes that occur in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from minunet.device import to_host
from minunet.errors import UsageError
from minunet.model_files.weights import describe
from minunet.training.lock import is_locked_by_another
from minunet.unet import UNet

PIECE = 1 << 22  # bytes of a file that are digested at a time
TOLD = {"image": "of another image", "size": "of an image of another size", "model": "with another model",
        "tta": "with and not without --tta, or the reverse", "tile": "with other tiles", "policy": "in another policy",
        "backend": "on another backend", "outputs": "with other results"}  # fmt: skip


class Journal:
    """Opened for the time of the work; another process that works on the same result is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[int, set[int]] = {}  # classes by tile
        self._file: TextIO | None = None

    def read(self) -> dict[str, Any] | None:
        """What the interrupted run was asked for, None where there is none; `done` then has its tiles.

        UsageError where the file is no journal.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]  # a last line without an end was cut off
        except FileNotFoundError:
            return None
        except (UnicodeDecodeError, IsADirectoryError):
            lines = ["?"]
        if not lines:
            return None
        try:
            header = json.loads(lines[0])
            entries = [list(map(int, line.split())) for line in lines[1:]]
            self.done = {number: set(classes) for number, *classes in entries}
            if not isinstance(header, dict):
                raise ValueError
        except ValueError:
            raise UsageError(f"{self.path}: is not a journal of a prediction: move it away") from None
        return header

    def begin(self, header: dict[str, Any]) -> None:
        """Start anew: nothing is done."""
        self.done = {}
        self._lock("w")
        self._write(json.dumps(header))

    def go_on(self) -> None:
        """Add to what `read` found."""
        text = self.path.read_text(encoding="utf-8")
        self._lock("a")
        if not text.endswith("\n"):
            os.truncate(self.path, len(text[: text.rfind("\n") + 1].encode()))

    def add(self, number: int, classes: set[int]) -> None:
        """This tile is done, its values are on the disk, and these are the classes in it."""
        self._write(" ".join(map(str, [number, *sorted(classes)])))
        self.done[number] = classes

    def close(self) -> None:
        """Stop; the file stays, for the next run."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """The work is done."""
        if sys.platform == "win32":  # where no open file can be removed
            self.close()
        self.path.unlink()
        self.close()

    def _lock(self, mode: str) -> None:
        file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115
        if is_locked_by_another(file):
            file.close()
            raise UsageError(f"{self.path}: another process is at work on this: wait for its end or stop it")
        if mode == "w":
            file.truncate(0)
        self._file = file

    def _write(self, line: str) -> None:
        assert self._file is not None, "begin or go_on comes first"
        self._file.write(f"{line}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def refuse_other(journal: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """UsageError where an interrupted run is not the one that is wanted."""
    for key in wanted:
        if found.get(key) != wanted[key]:
            raise UsageError(
                f"{journal}: an interrupted run {TOLD.get(key, 'of another version')} is there "
                f"({_short(found.get(key))}, not {_short(wanted[key])}): ask for the same, give another place for the "
                "result, or delete this file to begin anew"
            )


def _short(value: Any) -> str:
    """Of a digest the beginning."""
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return f"{value:.12}" if isinstance(value, str) else str(value)


def digest_of_image(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder and their names."""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(f"{file.relative_to(path).as_posix()}\0".encode())
        if file.is_file():
            with open(file, "rb") as data:
                while piece := data.read(PIECE):
                    digest.update(piece)
    return digest.hexdigest()


def digest_of_model(model: UNet) -> str:
    """SHA-256 of all that its predictions and their masks depend on."""
    digest = hashlib.sha256(json.dumps(describe(model), sort_keys=True).encode())
    for name, array in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(to_host(array)).tobytes())
    return digest.hexdigest()
