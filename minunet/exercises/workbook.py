"""The learner's folder: one file an exercise, and progress.json, which tells what was begun and what is solved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from minunet.errors import UsageError
from minunet.files import atomic_write

from .bugs import EXERCISES, Exercise
from .source import docstring_of, imports_for, patched, text_of

SECONDS = 60.0  # that a check may take; the slowest takes a few
SHOWN = 20  # lines of what the learner's file prints
VERSION = 1  # of progress.json


# ------------------------------------------------------------------------------------------ the learner's file


def broken(exercise: Exercise) -> str:
    """The operation with its fault."""
    return patched(text_of(exercise.module, exercise.name), exercise.old, exercise.new)


def learners_text(exercise: Exercise) -> str:
    """The file that a learner begins with: what it is and what was seen, as comments; imports; the operation."""
    kind = "method" if "." in exercise.name else "function"
    heading = [
        f"Exercise {exercise.number}: the {kind} {exercise.name} of {exercise.file}, with one fault in it.",
        fill(f"What was seen: {exercise.symptom}", 88),
        "Mend the function below; its arguments and its name stay.  Then:\n"
        "    minunet exercises check FOLDER\n"
        f"Stuck?  minunet exercises hint {exercise.number}",
    ]
    if exercise.told_by is not None:
        whose = exercise.told_by or f"{exercise.file}"
        told = indent(docstring_of(exercise.module, exercise.told_by), "    ", lambda line: bool(line.strip()))
        heading.insert(1, f"What it is part of, {whose}, says:\n\n{told}")
    comments = "\n".join(f"# {line}".rstrip() for line in "\n\n".join(heading).splitlines())
    imports = "from __future__ import annotations\n\n" + imports_for(exercise.module, exercise.name)
    return f"{comments}\n\n{imports}\n\n{broken(exercise)}"


def start(exercise: Exercise, folder: Path, overwrite: bool) -> Path:
    """Write the exercise's file and remember that it was begun; UsageError where it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(folder)
    file = folder / exercise.learners_file
    if file.exists() and not overwrite:
        raise UsageError(f"{file} is there already; --overwrite begins again, and what it holds is lost")
    atomic_write(file, lambda stream: stream.write(learners_text(exercise).encode()))
    progress.begin(exercise)
    return file


class Progress:
    """What progress.json of a folder says; it is written as a whole after each change.

    UsageError where it is none of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "progress.json"
        self.current: int | None = None
        self.solved: dict[int, bool] = {}  # of what was begun
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = json.loads(self.path.read_bytes())
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}, expected {VERSION}")
            self.current = int(data["current"])
            self.solved = {int(number): bool(solved) for number, solved in data["solved"].items()}
            if not {self.current, *self.solved} <= set(range(1, len(EXERCISES) + 1)):
                raise ValueError("an exercise that does not exist")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(f"{self.path} is no progress of these exercises ({error}); move it away") from None

    def begin(self, exercise: Exercise) -> None:
        self.current = exercise.number
        self.solved[exercise.number] = False
        self._write()

    def checked(self, exercise: Exercise, right: bool) -> None:
        self.current = exercise.number
        self.solved[exercise.number] = right
        self._write()

    def _write(self) -> None:
        data = {"version": VERSION, "current": self.current, "solved": self.solved}
        atomic_write(self.path, lambda stream: stream.write(json.dumps(data, indent=1).encode() + b"\n"))


# ---------------------------------------------------------------------------------------------- the judgement


def file_to_check(folder: Path, number: int | None) -> tuple[Exercise, Path]:
    """The exercise that was begun or checked last, or the one asked for, and its file."""
    number = Progress(folder).current if number is None else number
    if number is None:
        raise UsageError(f"{folder} holds no exercise: begin one with minunet exercises start 1 {folder}")
    exercise = EXERCISES[number - 1]
    file = folder / exercise.learners_file
    if not file.is_file():
        raise UsageError(f"{file} is not there; minunet exercises start {number} {folder} writes it")
    return exercise, file


def verdict(exercise: Exercise, file: Path, seconds: float = SECONDS) -> tuple[list[str] | None, str]:
    """What is wrong with the learner's file, in lines, or None; and what it printed.

    The file runs in a process of its own, which is ended after `seconds`.
    """
    asked = [str(exercise.number), str(file.absolute())]
    said, ended, printed = watched("minunet.exercises.judge", asked, seconds)
    if ended is not None:
        return [ended], printed
    return said, printed


def watched(judge: str, arguments: list[str], seconds: float) -> tuple[Any, str | None, str]:
    """Run the `main` of a module in a process of its own: what it said, why it was ended before, what was printed.

    `main` gets the arguments and the name of a file, which it writes as JSON.  What stands in it when the process ends
    is what it said; None if nothing does.  The reason is None where the process came to its end in time.
    """
    with tempfile.TemporaryDirectory(prefix="minunet-") as place:
        said, printed = Path(place) / "verdict.json", Path(place) / "printed"
        command = [sys.executable, "-P", "-c", ENTER, json.dumps(paths()), judge, *arguments, str(said)]
        why = None
        try:
            with open(printed, "wb") as stream:
                status = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=seconds, env=environment()
                ).returncode
            if status:
                why = f"its process ended before the check did (status {status}): memory, or a call that exits?"
        except subprocess.TimeoutExpired:
            why = f"no end after {seconds:g} seconds: a loop that goes on for ever?"
        try:
            return json.loads(said.read_bytes()), why, _text(printed)
        except (OSError, ValueError):
            return None, why or "its process ended before the check did: a call that exits?", _text(printed)


# The paths of this process instead of -m, which would look for modules where the learner stands first (-P: nor -c).
ENTER = "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); " \
        "importlib.import_module(sys.argv[2]).main(sys.argv[3:])"  # fmt: skip


def paths() -> list[str]:
    return [os.path.abspath(path) for path in sys.path]


def environment() -> dict[str, str]:
    """One thread: the cases are small, and memory is bounded, of which every thread of BLAS reserves some."""
    return os.environ | {"OPENBLAS_NUM_THREADS": "1", "MINUNET_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def _text(file: Path) -> str:
    """The beginning of what was printed."""
    with open(file, "rb") as stream:
        return stream.read(1 << 16).decode("utf-8", "replace")
