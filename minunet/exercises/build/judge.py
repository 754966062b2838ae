"""Put the learner's functions in the place of minunet's own, step by step, and compare what is computed.

In a step the functions of that step are the learner's and all others minunet's, so that each is checked alone; in the
last step all are the learner's.  Run as a process of its own, as the judge of the thirty bugs is.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from minunet.exercises.judge import Wrong, expected_of, hold, items_of, limit, names_of, plainly
from minunet.exercises.scenarios import Item
from minunet.exercises.source import defined, installed, module_tree

from .steps import STEPS, Part, Step


def judge(step: Step, folder: Path, expected: list[Item]) -> None:
    """Raise `Wrong` at the first item of the step that the learner's functions compute differently."""
    with learners_core(step, folder), plainly():
        try:
            hold(items_of(step.scenarios), expected, *(str(folder / part.file) for part in STEPS[-1].parts))
        except Wrong as wrong:
            raise _named(wrong) from None


@contextlib.contextmanager
def learners_core(step: Step, folder: Path) -> Iterator[None]:
    """Inside the block all of minunet uses the learner's functions of a step.

    One file after the other: what a later one imports of an earlier one is the learner's already.
    """
    with contextlib.ExitStack() as stack:
        for part in step.parts:
            for name, function in learners_functions(part, folder / part.file).items():
                stack.enter_context(installed(part.module, name, function))
        yield


def learners_functions(part: Part, file: Path) -> dict[str, Any]:
    """The functions of a part as the file defines them; whatever else they use is minunet's own.

    That is what the module itself defines; helpers that the learner has added stay, methods as well.
    """
    if not file.is_file():
        raise Wrong(f"{part.file} is not there; minunet exercises build writes it where it is missing")
    try:
        names = names_of(file)
    except Wrong as wrong:
        raise Wrong(part.file, *str(wrong).splitlines()) from None
    functions = {name: _function(names, name, part.file) for name in part.names}
    own = vars(importlib.import_module(part.module))
    for class_name in {name.partition(".")[0] for name in part.names if "." in name}:
        learners, known = vars(names[class_name]), vars(own[class_name])
        added = {key: f for key, f in learners.items() if inspect.isfunction(f) and key not in known}
        functions |= {f"{class_name}.{key}": f for key, f in added.items()}
    names.update({name: own[name] for name in defined(module_tree(part.module)) - functions.keys()})
    return functions


def _function(names: dict[str, Any], name: str, file: str) -> Any:
    *path, key = name.split(".")
    owner = names
    for part in path:
        owner = vars(owner.get(part, object))  # type: ignore[assignment]
    if not inspect.isfunction(owner.get(key)):
        raise Wrong(f"{file} no longer defines {name}")
    return owner[key]


def _named(wrong: Wrong) -> Wrong:
    """A body that is still empty is called that."""
    lines = str(wrong).splitlines()
    if lines[0] == "error     NotImplementedError" and len(lines) > 1:
        return Wrong("a body that is still empty:", *lines[1:], tensor=wrong.tensor)
    return wrong


def verdicts(steps: Sequence[Step], folder: Path, expected: Sequence[list[Item]]) -> Iterator[dict[str, Any]]:
    """Judge the steps in order until one is wrong; what is known before each and at the end.

    {"right": [numbers], "step": the one looked at, "wrong": lines, or None}.
    """
    right: list[int] = []
    for step, items in zip(steps, expected, strict=True):
        yield {"right": right, "step": step.number, "wrong": None}
        try:
            judge(step, folder, items)
        except Wrong as wrong:
            yield {"right": right, "step": step.number, "wrong": str(wrong).splitlines()}
            return
        right.append(step.number)
    yield {"right": right, "step": steps[-1].number, "wrong": None}


def main(arguments: Iterable[str]) -> None:
    """FOLDER FIRST LAST VERDICT: judge these steps; VERDICT is written as JSON after each, as `verdicts` tells it."""
    folder, first, last, verdict = arguments
    asked = STEPS[int(first) - 1 : int(last)]
    expected = [expected_of(step.scenarios) for step in asked]  # before anything of the learner's runs
    limit()
    for known in verdicts(asked, Path(folder), expected):
        Path(verdict).write_text(json.dumps(known), encoding="utf-8")
