"""What can be wrong with data: single faults, and the one error that carries them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_FAULTS = 20  # lines in one message
MOST_NAMES = 3  # files named in one line


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what was found, and what to do about it.

    files    the files that it concerns, the first ones first; empty where it is the whole set
    found    what was found in them, without the files' names
    remedy   what to do, as an order; may be empty

    As text: "masks/a.png: holds NaN; replace them by numbers".
    """

    files: tuple[Path, ...]
    found: str
    remedy: str

    def __str__(self) -> str:
        where = f"{_listed(self.files)}: " if self.files else ""
        return f"{where}{self.found}" + (f"; {self.remedy}" if self.remedy else "")


class DataError(ValueError):
    """Data that cannot be used. The message names the file, what was found in it and what to do.

    Made of a message ("what was found; what to do"), or of faults, all of which are then told.
    `faults` holds them, so that several errors can be told as one.
    """

    def __init__(self, what: str | Iterable[Fault]) -> None:
        if isinstance(what, str):
            found, _, remedy = what.partition("; ")
            self.faults: tuple[Fault, ...] = (Fault((), found, remedy),)
            super().__init__(what)
        else:
            self.faults = tuple(what)
            super().__init__(told(self.faults))


def wrong(file: str | Path | Sequence[str | Path], found: str, remedy: str) -> DataError:
    """The error of one fault in one file, or in several."""
    files = [file] if isinstance(file, (str, Path)) else file
    return DataError([Fault(tuple(map(Path, files)), found, remedy)])


def told(faults: Sequence[Fault]) -> str:
    """One fault as a sentence; several as a heading and a line each, the first MOST_FAULTS of them."""
    if len(faults) == 1:
        return str(faults[0])
    lines = [f"{len(faults)} faults in the data, to be put right before it can be used:"]
    lines += [f"  {fault}" for fault in faults[:MOST_FAULTS]]
    if len(faults) > MOST_FAULTS:
        lines.append(f"  and {len(faults) - MOST_FAULTS} more")
    return "\n".join(lines)


def _listed(files: Sequence[Path]) -> str:
    """The first files; the folder is not said again where it is that of the file before."""
    shown = files[:MOST_NAMES]
    names = [
        file.name if i and file.parent == shown[i - 1].parent and file.name != shown[i - 1].name else str(file)
        for i, file in enumerate(shown)
    ]
    more = [f"{len(files) - MOST_NAMES} more"] if len(files) > MOST_NAMES else []
    *first, last = names + more
    return f"{', '.join(first)} and {last}" if first else last
