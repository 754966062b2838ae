"""How far a known number of files or images has come: a bar in a terminal that has rich, else lines."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any, Protocol

from minunet.display.progress import say
from minunet.display.texts import printable

PLAIN_SECONDS = 10.0  # between two plain lines that only count


class Count(Protocol):
    def __enter__(self) -> Count: ...
    def __exit__(self, *error: object) -> None: ...
    def done(self, number: int, line: str = "") -> None: ...
    def say(self, line: str) -> None: ...


def count(total: int, what: str) -> Count:
    """A display of `total` things being done, `what` ("predicting"): the best that terminal and installation allow.

    `done(number, line)` after each one, with what a log should hold of it; `say(line)` for all else. Control
    characters, which a file's name may hold, are shown as escapes. Where nobody reads any more, the work goes on.
    """
    if sys.stdout.isatty():
        try:
            return RichCount(total, what)
        except ImportError:
            pass
    return PlainCount(total, what)


class PlainCount:
    """The given lines, each behind its number; without lines the number every few seconds."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what = total, what
        self.spoken = time.monotonic()

    def __enter__(self) -> PlainCount:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def done(self, number: int, line: str = "") -> None:
        place = f"{number:>{len(str(self.total))}}/{self.total}"
        if line:
            self.say(f"{place}  {line}")
        elif time.monotonic() - self.spoken >= PLAIN_SECONDS:
            self.say(f"{self.what} {place}")

    def say(self, line: str) -> None:
        self.spoken = time.monotonic()
        say(printable(line))


class RichCount:
    """A bar at the bottom of the terminal, which goes when all is done; lines above it."""

    def __init__(self, total: int, what: str) -> None:
        from rich import progress as rich

        self.bar = rich.Progress(
            rich.TextColumn(what),
            rich.BarColumn(bar_width=None),
            rich.MofNCompleteColumn(),
            rich.TimeRemainingColumn(),
            rich.TextColumn("left"),
            transient=True,
        )
        self.task = self.bar.add_task(what, total=total)

    def __enter__(self) -> RichCount:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def done(self, number: int, line: str = "") -> None:
        self.bar.update(self.task, completed=number)

    def say(self, line: str) -> None:
        self.bar.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """A warning on stderr; into the void where nobody reads it any more, as in `2>&1 | head`."""
    try:
        print(f"minunet: warning: {printable(text)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError):  # no file behind it
            os.dup2(nowhere.fileno(), sys.stderr.fileno())
