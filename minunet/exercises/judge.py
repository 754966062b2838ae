"""Hold a learner's operation against the right one, and name the first number that differs.

Run as a process of its own: `main` executes the learner's file, which may loop for ever, ask for all memory or end the
process; `workbook.py` watches over it.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from minunet import kernels
from minunet.kernels.blas import one_blas_thread

from .bugs import EXERCISES, Exercise
from .scenarios import Item, Scenario
from .source import installed

MEMORY, OUTPUT = 2 << 30, 1 << 24  # bytes that a learner's file may take more, and print


class Wrong(Exception):
    """What is wrong with a learner's operation, in lines for people; tensor: which one, where one can be named."""

    def __init__(self, *lines: str, tensor: str = "") -> None:
        super().__init__("\n".join(lines))
        self.tensor = tensor


def judge(exercise: Exercise, learner: Callable[..., Any], expected: list[Item], where: str = "") -> None:
    """Raise `Wrong` at the first item of the scenarios that the learner's operation computes differently."""
    with installed(exercise.module, exercise.name, learner), plainly():
        hold(items_of(exercise.scenarios), expected, where)


def hold(items: Iterator[Item], expected: list[Item], *files: str) -> None:
    """Raise `Wrong` at the first item that is not the expected one; files: the learner's, whose lines are shown."""
    for right in expected:
        try:
            found = next(items, None)
        except AssertionError as error:  # of cases.run and gradcheck; the learner's own ones too
            raise Wrong(f"in {right.case} or just before it:", *str(error).splitlines()) from None
        except (Exception, SystemExit) as error:
            raise Wrong(*failure(error, *files), f"case      {right.case}", tensor=during(right)) from None
        if found is None or (found.tensor, found.case) != (right.tensor, right.case):
            raise Wrong(f"the tensor {right.tensor!r} of {right.case} was not computed")
        compare(found, right)


def items_of(scenarios: Iterable[Scenario]) -> Iterator[Item]:
    return chain.from_iterable(scenario() for scenario in scenarios)


def expected_of(scenarios: Iterable[Scenario]) -> list[Item]:
    """What the installed source computes."""
    with plainly():
        return list(items_of(scenarios))


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """References only, on the host, without NumPy's warnings of overflow: what is wrong is told in our words."""
    every = {name: "reference" for name in kernels.KERNELS}
    with kernels.use_backend("numpy"), kernels.use(**every), one_blas_thread(), np.errstate(all="ignore"):
        yield


def during(item: Item) -> str:
    """The stage in which an error came up, told by what was waited for."""
    return "backward()" if item.tensor.startswith("gradient") else item.tensor


def compare(found: Item, right: Item) -> None:
    """Raise `Wrong` unless the item's array is the right one: its shape, its dtype, and every number."""
    a, b = found.value, right.value
    head = (f"tensor    {right.tensor}", f"case      {right.case}")
    if b is None and a is None:
        return
    if a is None:
        raise Wrong(*head, "expected  an array", "found     None: no gradient came here", tensor=right.tensor)
    if b is None:
        raise Wrong(*head, "expected  None: no gradient", "found     an array", tensor=right.tensor)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise Wrong(*head, f"expected  shape {b.shape} {b.dtype}", f"found     shape {a.shape} {a.dtype}",
                    tensor=right.tensor)  # fmt: skip
    wrong = different(a, b, right.tolerance)
    if not wrong.any():
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = [f"index     {list(at)} of shape {b.shape}"] if at else []
    lines = [*head, *place, f"expected  {b[at]!s}", f"found     {a[at]!s}"]
    if found.slope is not None:
        lines.append(f"numeric   {found.slope(at):.6g}, the central difference of your own forward pass")
    raise Wrong(*lines, f"in all    {np.count_nonzero(wrong)} of {b.size} numbers are wrong", tensor=right.tensor)


def different(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    """Where numbers differ by more than is allowed; NaN must stand where NaN stands, infinities too."""
    same = (a == b) | (np.isnan(a) & np.isnan(b)) if b.dtype.kind == "f" else a == b
    if not tolerance:
        return ~same
    finite = np.isfinite(a) & np.isfinite(b)
    allowed = tolerance * np.abs(b[np.isfinite(b)]).max(initial=1)
    return ~same & ~(finite & (np.abs(np.where(finite, a, 0) - np.where(finite, b, 0)) <= allowed))


# ------------------------------------------------------------------------------------------ the learner's file


def learners_function(exercise: Exercise, file: Path) -> Callable[..., Any]:
    """Execute the file and return its operation; `Wrong` where that fails."""
    function = names_of(file).get(exercise.function)
    if not callable(function):
        raise Wrong(f"the file no longer defines a function {exercise.function}")
    return function


def names_of(file: Path) -> dict[str, Any]:
    """Execute a learner's file and return what it defines; `Wrong` where that fails."""
    try:
        text = file.read_text(encoding="utf-8")
        code = compile(text, str(file), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise Wrong(f"line {error.lineno} is no Python: {error.msg}", *([f"    {line}"] if line else [])) from None
    except ValueError as error:  # bytes that are no UTF-8, or a null byte
        raise Wrong(f"the file is no Python text: {error}") from None
    names: dict[str, Any] = {"__name__": file.stem, "__file__": str(file)}
    try:
        exec(code, names)
    except (Exception, SystemExit) as error:
        raise Wrong(*failure(error, str(file))) from None
    return names


def failure(error: BaseException, *files: str) -> list[str]:
    """An exception in lines: where in the learner's files, and what it says."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    lines = [f"error     {what.splitlines()[0]}"]
    if own:
        place, number = own[-1].filename, own[-1].lineno or 0
        file = f"{Path(place).name}, " if len(files) > 1 else ""
        lines.append(f"line      {file}{number}: {linecache.getline(place, number).strip()}")
    return lines


def limit() -> None:
    """Bound what this process may take and write from now on, where the system can."""
    try:
        import resource
    except ImportError:  # Windows has none
        return
    bound(resource, resource.RLIMIT_FSIZE, OUTPUT)
    with contextlib.suppress(OSError):  # only Linux tells; the pool of arrays has reserved many addresses by now
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bound(resource, resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)


def bound(resource: Any, kind: int, most: int) -> None:
    """Set a limit of this process, but none above the one that is there."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main(arguments: Iterable[str]) -> None:
    """NUMBER FILE VERDICT: judge FILE, write what was found to VERDICT as JSON, null where all is right."""
    number, file, verdict = arguments
    exercise = EXERCISES[int(number) - 1]
    expected = expected_of(exercise.scenarios)  # before anything of the learner's runs
    limit()
    try:
        judge(exercise, learners_function(exercise, Path(file)), expected, file)
    except Wrong as wrong:
        said: list[str] | None = str(wrong).splitlines()
    else:
        said = None
    Path(verdict).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
