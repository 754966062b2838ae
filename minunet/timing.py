"""Timing several ways to do one thing so that the figures can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np

REST = 0.05  # seconds between calls, in which threads that wait by spinning give the cores back


def interleaved(
    actions: Mapping[str, Callable[[Any], Any]], inputs: Callable[[int], Any], rounds: int
) -> dict[str, list[float]]:
    """Seconds of every action in every round, one after the other in turns.

    In turns, because a shared machine changes its speed: what one round shows all of them have seen.  Every action is
    called once before anything is timed (compilation, allocation).  `inputs(round)` makes a round's fresh input.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(-1, rounds):
        given = inputs(round_)
        for name, action in actions.items():
            time.sleep(REST)
            start = time.perf_counter()
            action(given)
            if round_ >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of first / second."""
    return median(a / b for a, b in zip(first, second, strict=True))


def agree(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """AssertionError unless the largest difference is at most `tolerance` standard deviations of `expected`."""
    difference = np.abs(np.asarray(found, np.float64) - expected).max()
    if not difference <= tolerance * np.std(expected):
        raise AssertionError(f"results differ by {difference:.3g}, at most {tolerance * np.std(expected):.3g} expected")
