"""Timing several ways to do one thing so that the figures can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np

# Seconds between calls, in which threads that wait by spinning give the cores back: those of ONNX Runtime were seen
# to keep one busy for 50 ms after their work was done.
REST = 0.1
FEWEST, MOST = 5, 40  # rounds, where they are chosen by time


def interleaved(
    actions: Mapping[str, Callable[[Any], Any]],
    inputs: Callable[[int], Any],
    rounds: int | None,
    budget: float = 60.0,
) -> dict[str, list[float]]:
    """Seconds of every action in every round, one after the other in turns.

    In turns, because a shared machine changes its speed: what one round shows all of them have seen.  Every action is
    called once before anything is timed (compilation, allocation).  `inputs(round)` makes a round's fresh input, the
    first that of round -1.  rounds None: as many as fit into `budget` seconds by the time that the
    first of them took.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    if not actions:
        return seconds
    _turn(actions, inputs(-1))
    start = time.perf_counter()
    _collect(seconds, _turn(actions, inputs(0)))
    if rounds is None:
        rounds = rounds_within(budget, time.perf_counter() - start)
    for round_ in range(1, rounds):
        _collect(seconds, _turn(actions, inputs(round_)))
    return seconds


def rounds_within(budget: float, one: float) -> int:
    """How many rounds of `one` second each fit into the budget, from FEWEST to MOST."""
    return max(FEWEST, min(MOST, int(budget / one)))


def _turn(actions: Mapping[str, Callable[[Any], Any]], given: Any) -> dict[str, float]:
    """Every action once: its seconds."""
    seconds = {}
    for name, action in actions.items():
        time.sleep(REST)
        start = time.perf_counter()
        action(given)
        seconds[name] = time.perf_counter() - start
    return seconds


def _collect(seconds: dict[str, list[float]], found: dict[str, float]) -> None:
    for name, value in found.items():
        seconds[name].append(value)


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
