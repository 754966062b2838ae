"""How a run shows itself in the terminal: a rich progress bar where there is a terminal and rich,
else plain lines."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any, Protocol

PLAIN_SECONDS = 10.0  # between two plain lines about the progress


class Progress(Protocol):
    def __enter__(self) -> Progress: ...
    def __exit__(self, *error: object) -> None: ...
    def start(self, steps: int, done: int = 0) -> None: ...
    def update(self, done: int, loss: float, rate: float) -> None: ...
    def say(self, text: str) -> None: ...


def progress() -> Progress:
    """The best display that this terminal and this installation allow."""
    if not sys.stdout.isatty():
        return PlainProgress()
    try:
        return RichProgress()
    except ImportError:
        return PlainProgress()


class PlainProgress:
    """A line every few seconds."""

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def start(self, steps: int, done: int = 0) -> None:
        self.steps, self.first = steps, done
        self.begin = self.spoken = time.monotonic()

    def update(self, done: int, loss: float, rate: float) -> None:
        now = time.monotonic()
        if now - self.spoken < PLAIN_SECONDS or done == self.steps:
            return
        self.spoken = now
        left = (now - self.begin) / (done - self.first) * (self.steps - done)
        width = len(str(self.steps))
        self.say(f"step {done:>{width}}/{self.steps}  loss {loss:.4f}  {rate:.1f} images/s  {_minutes(left)} left")

    def say(self, text: str) -> None:
        self.spoken = time.monotonic()
        say(text)


class RichProgress:
    """A bar at the bottom of the terminal, the lines above it."""

    def __init__(self) -> None:
        from rich import progress as rich

        self.bar = rich.Progress(
            rich.TextColumn("training"),
            rich.BarColumn(bar_width=None),
            rich.MofNCompleteColumn(),
            rich.TextColumn("loss {task.fields[loss]}  {task.fields[rate]} images/s"),
            rich.TimeRemainingColumn(),
            rich.TextColumn("left"),
            transient=True,
        )

    def __enter__(self) -> RichProgress:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    def start(self, steps: int, done: int = 0) -> None:
        self.task = self.bar.add_task("training", total=steps, completed=done, loss="-", rate="-")

    def update(self, done: int, loss: float, rate: float) -> None:
        self.bar.update(self.task, completed=done, loss=f"{loss:.4f}", rate=f"{rate:.1f}")

    def say(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def say(text: str = "") -> None:
    """Print a line. Where nobody reads any more (`minunet train ... | head`), the work goes on in silence."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence()


def silence() -> None:
    """From now on, and at Python's last flush, what is printed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):  # no file behind it: io.UnsupportedOperation
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
