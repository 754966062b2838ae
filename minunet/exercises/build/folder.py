"""The learner's folder: the files, and build.json, which tells that it is a build and which steps are right."""

from __future__ import annotations

import json
from pathlib import Path

from minunet.errors import UsageError
from minunet.exercises.workbook import watched
from minunet.files import atomic_write

from .skeleton import bodies_of, learners_text
from .steps import STEPS, learners_name

SECONDS = 120.0  # that a check of all steps may take; it takes a few
VERSION = 1  # of build.json


class Build:
    """A folder with a build in it; UsageError where build.json is none of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "build.json"
        self.right: set[int] = set()
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            data = json.loads(self.path.read_bytes())
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}, expected {VERSION}")
            self.right = {int(number) for number in data["right"]}
            if not self.right <= set(range(1, len(STEPS) + 1)):
                raise ValueError("a step that does not exist")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UsageError(f"{self.path} is no progress of a build ({error}); move it away") from None

    def write(self) -> None:
        _write(self.path, json.dumps({"version": VERSION, "right": sorted(self.right)}) + "\n")

    def begin(self) -> list[Path]:
        """Write the files that are missing, which are returned: what is there is the learner's."""
        if (self.folder / "progress.json").exists():
            raise UsageError(f"{self.folder} holds exercises with faults to find: build in another folder")
        written = []
        for module, empty in bodies_of(range(1, len(STEPS))).items():
            file = self.folder / learners_name(module)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                _write(file, learners_text(module, empty))
                written.append(file)
        self.write()
        return written

    def check(self, first: int, last: int, seconds: float = SECONDS) -> tuple[int, list[str] | None, str]:
        """Judge these steps until one is wrong: the step looked at last, what is wrong with it, what was printed.

        The last step of all, which trains, has a process of its own, so that nobody waits for it before its time.
        """
        end = len(STEPS)
        if first < end == last:
            step, wrong, printed = self.check(first, end - 1, seconds)
            return (step, wrong, printed) if wrong is not None else self.check(end, end, seconds)
        asked = [str(self.folder.absolute()), str(first), str(last)]
        said, ended, printed = watched("minunet.exercises.build.judge", asked, seconds)
        said = said or {"right": [], "step": first, "wrong": None}  # where the judge did not come to say anything
        step, wrong = said["step"], [ended] if ended is not None else said["wrong"]
        self.right = (self.right | set(said["right"])) - ({step} if wrong is not None else set())
        self.write()
        return step, wrong, printed


def is_build(folder: Path) -> bool:
    """Whether this folder was made by `minunet exercises build`."""
    return (folder / "build.json").is_file()


def _write(file: Path, text: str) -> None:
    atomic_write(file, lambda stream: stream.write(text.encode()))
