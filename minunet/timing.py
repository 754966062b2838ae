"""Timing several ways to do one thing so that the figures can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from statistics import median
from typing import Any

import numpy as np

# Seconds between turns, in which threads that wait by spinning give the cores back: those of ONNX Runtime were seen
# to keep one busy for 50 ms after their work was done.
REST = 0.1
TURN = 0.3  # seconds that a turn takes, of as many calls in a row as fit
CALLS = 10  # in a turn, at most
LONG = 1.0  # seconds of a call from which on it matters little whether one came before it
WARM_UP = 2  # calls before anything is timed; the first may compile, the second tells how many fit into a turn
FEWEST, MOST = 5, 40  # rounds, where they are chosen by time


@dataclass
class Times:
    """Seconds of one action by round: of a call in a row of calls, and of the first call after a rest.

    Where a turn is a single call the two are the same.
    """

    in_a_row: list[float] = field(default_factory=list)
    after_rest: list[float] = field(default_factory=list)

    def add(self, seconds: list[float]) -> None:
        """The calls of one turn."""
        self.after_rest.append(seconds[0])
        self.in_a_row.append(median(seconds[1:] or seconds))


def interleaved(
    actions: Mapping[str, Callable[[Any], Any]],
    inputs: Callable[[int], Any],
    rounds: int | None,
    budget: float = 60.0,
    most: int = CALLS,
) -> dict[str, Times]:
    """Time every action in every round, one after the other in turns.

    In turns, because a shared machine changes its speed: what one round shows all of them have seen.  A turn is a rest
    and then some calls in a row.  Every action is called twice before anything is timed (compilation, allocation).
    `inputs(k)` makes a fresh input, the first for k = -1; in a round all actions get the same ones, a new one in every
    call.  rounds None: as many as fit into `budget` seconds by the time that the first of them took.
    most: calls in a turn, where the inputs of so many at once would take too much memory.
    """
    times = {name: Times() for name in actions}
    if not actions:
        return times
    given = inputs(-1)
    calls = {name: min(most, _calls_for(_turn(action, [given] * WARM_UP)[-1])) for name, action in actions.items()}
    numbers = count()

    def round_() -> None:
        fresh = [inputs(next(numbers)) for _ in range(max(calls.values()))]
        for name, action in actions.items():
            times[name].add(_turn(action, fresh[: calls[name]]))

    start = time.perf_counter()
    round_()
    if rounds is None:
        rounds = rounds_within(budget, time.perf_counter() - start)
    for _ in range(1, rounds):
        round_()
    return times


def _calls_for(seconds: float) -> int:
    """Calls that fit into a turn, and two at least, so that there is one after the first; of long calls only one."""
    return 1 if seconds > LONG else max(2, min(CALLS, int(TURN / max(seconds, 1e-9))))


def rounds_within(budget: float, one: float) -> int:
    """How many rounds of `one` second each fit into the budget, from FEWEST to MOST."""
    return max(FEWEST, min(MOST, int(budget / one)))


def _turn(action: Callable[[Any], Any], inputs: list[Any]) -> list[float]:
    """A rest, then the action with each of these inputs: its seconds."""
    time.sleep(REST)
    seconds = []
    for given in inputs:
        start = time.perf_counter()
        action(given)
        seconds.append(time.perf_counter() - start)
    return seconds


def median_ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of first / second."""
    return median(a / b for a, b in zip(first, second, strict=True))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in standard deviations of `expected`; NaN where a NaN is."""
    return float(np.abs(np.asarray(found, np.float64) - expected).max() / np.std(expected))


def agree(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """AssertionError unless the largest difference is at most `tolerance` standard deviations of `expected`."""
    found_difference = difference(found, expected)
    if not found_difference <= tolerance:
        raise AssertionError(
            f"results differ by {found_difference:.3g} standard deviations, at most {tolerance:.3g} expected"
        )
