"""`minunet exercises`: what is printed."""

from __future__ import annotations

import difflib
from pathlib import Path
from textwrap import fill, indent

from minunet.display.texts import printable
from minunet.errors import UsageError, WorkFailed

from .bugs import EXERCISES, Exercise
from .build import command as building
from .build.command import build_command
from .build.folder import Build, is_build
from .source import text_of
from .workbook import SHOWN, Progress, broken, file_to_check, start, verdict

__all__ = ["build_command", "check_command", "hint_command", "list_command", "solution_command", "start_command"]

WIDTH = 80


def exercise_of(number: int) -> Exercise:
    """The exercise of this number; UsageError names those there are."""
    if not 1 <= number <= len(EXERCISES):
        raise UsageError(f"there is no exercise {number}; there are 1 to {len(EXERCISES)}")
    return EXERCISES[number - 1]


def list_command(folder: Path | None) -> None:
    """All exercises, with a learner's progress where a folder is given; of a build its steps."""
    if folder is not None and is_build(folder):
        return building.say_steps(Build(folder))
    progress = Progress(folder) if folder is not None else None
    print(f"{len(EXERCISES)} operations of minunet, each with one fault to find. Take them in any order.\n")
    for exercise in EXERCISES:
        mark = "*" if exercise.loss_falls else " "
        print(f"{_state(exercise, progress)}{mark} {exercise.number:2}  {exercise.label:33}{exercise.file}")
    marked = sum(exercise.loss_falls for exercise in EXERCISES)
    print(f"\n* The loss will not tell you: it falls all the same, with {marked} of the faults.")
    if progress is None:
        print("\nBegin:    minunet exercises start 1 FOLDER")
        print("Or write it all yourself, step by step:    minunet exercises build FOLDER")
    else:
        print(f"  {sum(progress.solved.values())} of {len(EXERCISES)} solved (x), {len(progress.solved)} begun (.)")


def _state(exercise: Exercise, progress: Progress | None) -> str:
    solved = None if progress is None else progress.solved.get(exercise.number)
    return {None: "  ", False: ". ", True: "x "}[solved]


def start_command(number: int, folder: Path, overwrite: bool) -> None:
    exercise = exercise_of(number)
    if is_build(folder):
        raise UsageError(f"{folder} holds a build: start exercises in another folder")
    file = start(exercise, folder, overwrite)
    print(f"Exercise {number}: {exercise.label} of {exercise.file}\n")
    print(fill(f"What was seen: {exercise.symptom}", WIDTH))
    print(f"\nmend      {printable(str(file))}\nthen      minunet exercises check {printable(str(folder))}")
    print(f"stuck?    minunet exercises hint {number}")


def check_command(folder: Path, number: int | None) -> None:
    """Print what the judge says; WorkFailed where the exercise, or a step of a build, is not solved."""
    if is_build(folder):
        return building.check_build(folder, number)
    if number is not None:
        exercise_of(number)
    exercise, file = file_to_check(folder, number)
    wrong, printed = verdict(exercise, file)
    Progress(folder).checked(exercise, wrong is None)
    if printed.strip():
        lines = printable(printed, keep="\n").splitlines()
        print("Your file printed:")
        print(indent("\n".join(lines[:SHOWN] + ["..."] * (len(lines) > SHOWN)), "    ") + "\n")
    if wrong is None:
        solved = sum(Progress(folder).solved.values())
        print(f"Exercise {exercise.number}, {exercise.label}: right, in every case.")
        print(f"{solved} of {len(EXERCISES)} solved.")
        print(f"What the fault was:  minunet exercises solution {exercise.number}")
        return
    print(f"Exercise {exercise.number}, {exercise.label}: not yet. The first that is wrong:\n")
    print(indent(printable("\n".join(wrong), keep="\n"), "  "), flush=True)
    print()
    raise WorkFailed(f"exercise {exercise.number} is not solved; {printable(str(file))}")


def hint_command(number: int, more: bool, build: bool = False) -> None:
    if build:
        return building.hint_build(number, more)
    exercise = exercise_of(number)
    print(fill(exercise.hints[more], WIDTH))
    if not more:
        print(f"\nMore:     minunet exercises hint {number} --more")


def solution_command(number: int, build: bool = False) -> None:
    """The patch turned round, as a diff, and what it is about; or the functions of a step of the build."""
    if build:
        return building.solution_build(number)
    exercise = exercise_of(number)
    before, after = broken(exercise).splitlines(), text_of(exercise.module, exercise.name).splitlines()
    lines = difflib.unified_diff(before, after, "with the fault", exercise.file, n=2, lineterm="")
    print("\n".join(lines))
    print(f"\n{fill(exercise.explanation, WIDTH)}")
