"""`minunet exercises build`, and what `list`, `check`, `hint` and `solution` print of a build."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import fill, indent

from minunet.display.texts import printable
from minunet.errors import UsageError, WorkFailed
from minunet.exercises.source import text_of
from minunet.exercises.workbook import ENTER, environment, paths

from .folder import Build
from .steps import MODULES, STEPS, Step, learners_name

WIDTH = 80


def step_of(number: int) -> Step:
    """The step of this number; UsageError names those there are."""
    if not 1 <= number <= len(STEPS):
        raise UsageError(f"there is no step {number}; there are 1 to {len(STEPS)}")
    return STEPS[number - 1]


def build_command(folder: Path, demo: bool) -> None:
    """Begin, or go on: files that are missing are written. demo: train with what is there."""
    build = Build(folder)
    if demo:
        return train(build)
    written = build.begin()
    print(f"{len(written)} files written to {printable(str(folder))}, {len(MODULES) - len(written)} were there.\n")
    say_steps(build)
    print(f'\nBegin:    step 1, in {learners_name(STEPS[0].parts[0].module)}; search for "# step 1"')
    print(f"then      minunet exercises check {printable(str(folder))}")
    print("stuck?    minunet exercises hint 1 --build")


def say_steps(build: Build) -> None:
    """All steps, with those that are right."""
    for step in STEPS:
        files = ", ".join(part.file for part in step.parts) if step is not STEPS[-1] else "all files"
        print(f"{'x' if step.number in build.right else ' '} {step.number:2}  {step.title}\n      {files}")
    print(f"  {len(build.right)} of {len(STEPS)} right (x)")


def check_build(folder: Path, number: int | None) -> None:
    """Judge from the first step on, or one step alone; WorkFailed where one is wrong."""
    build = Build(folder)
    first, last = (1, len(STEPS)) if number is None else (step_of(number).number,) * 2
    at, wrong, printed = build.check(first, last)
    step = STEPS[at - 1]
    if printed.strip():
        print("Your files printed:")
        print(indent("\n".join(printable(printed, keep="\n").splitlines()[:20]), "    ") + "\n")
    for done in STEPS[first - 1 : at - (wrong is not None)]:
        print(f"x {done.number:2}  {done.title}")
    if wrong is not None:
        print(f"\nStep {at}, {step.title}: not yet. The first that is wrong:\n")
        print(indent(printable("\n".join(wrong), keep="\n"), "  "), flush=True)
        print(f"\nstuck?    minunet exercises hint {at} --build\n", flush=True)
        raise WorkFailed(f"step {at} of {len(STEPS)} is not right")
    print(f"\n{len(build.right)} of {len(STEPS)} steps are right.")
    if at == len(STEPS):
        print(f"See it learn:  minunet exercises build {printable(str(folder))} --demo")


def hint_build(number: int, more: bool) -> None:
    step = step_of(number)
    print(fill(step.hints[more], WIDTH))
    if not more:
        print(f"\nMore:     minunet exercises hint {number} --build --more")


def solution_build(number: int) -> None:
    """The functions of a step as they stand in the installed source."""
    step = step_of(number)
    if step is STEPS[-1]:
        print("What all steps made, together: the five files as they are installed.")
        return
    for part in step.parts:
        print(f"# {part.module.replace('.', '/')}.py\n")
        for name in part.names:
            print(text_of(part.module, name))


def train(build: Build) -> None:
    """The demo, with the learner's core in place of minunet's; UsageError before all steps are right."""
    missing = [step.number for step in STEPS if step.number not in build.right]
    if missing:
        raise UsageError(f"step {missing[0]} is not right yet: minunet exercises check {build.folder}")
    command = [sys.executable, "-P", "-c", ENTER, json.dumps(paths()), "minunet.exercises.build.train",
               str(build.folder.absolute())]  # fmt: skip
    print("The demo, with your five files and the plain loops of your kernels:\n", flush=True)
    if subprocess.run(command, env=environment()).returncode:
        raise WorkFailed("the training with your core came to no end")
