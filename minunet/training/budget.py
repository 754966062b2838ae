"""From minutes to steps.

The length of a run is a number of steps, because the learning rate's schedule hangs on it and a
number of steps can be repeated to the last bit. A wish in minutes is turned into steps once, at
the start, by timing a few of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

VALIDATIONS = 12  # a run, evenly spaced; one more before the first step
AIM = 1.0  # share of the time that the plan uses
LIMIT = 1.05  # share at which a run stops, should the machine have become slower since
TIMED_SHARE = 0.05  # share of the time that is spent on timing steps
TIMED_STEPS = 3  # at least so many steps are timed


@dataclass(frozen=True)
class Estimate:
    steps: int
    step_seconds: float
    validation_seconds: float


def falls_due(done: int, steps: int, times: int) -> bool:
    """Whether one of `times` evenly spaced events of a run comes after `done` of its steps.

    The last comes after the last step; a run of fewer steps has one after every step.
    """
    return done * times // steps > (done - 1) * times // steps


def steps_that_fit(seconds: float, step_seconds: float, validation_seconds: float) -> int:
    """How many steps, with the validations between them, fit into the time; at least one.

    Validations are granted half of the time at most: one that was measured while the machine was
    busy must not leave a run without steps. Should they need more, the run is stopped at LIMIT.
    """
    for_steps = max(seconds - (VALIDATIONS + 1) * validation_seconds, seconds / 2)
    return max(1, int(for_steps / step_seconds))


def estimate(
    seconds: float,
    step: Callable[[], object],
    validate: Callable[[], object],
    clock: Callable[[], float] = time.monotonic,
) -> Estimate:
    """Time steps and one validation, and tell how many steps fit into `seconds` from now.

    Each is run once before it is timed, since the first call may compile.
    """
    start = clock()
    step()
    validate()
    step_seconds = _mean_seconds(step, TIMED_STEPS, TIMED_SHARE * seconds, clock)
    validation_seconds = _mean_seconds(validate, 1, 0.0, clock)
    left = AIM * seconds - (clock() - start)
    steps = steps_that_fit(left, step_seconds, validation_seconds)
    return Estimate(steps, step_seconds, validation_seconds)


def _mean_seconds(action: Callable[[], object], times: int, seconds: float, clock: Callable[[], float]) -> float:
    """Mean time of an action, run at least `times` times and for at least `seconds`."""
    start, done = clock(), 0
    while done < times or clock() - start < seconds:
        action()
        done += 1
    return max((clock() - start) / done, 1e-9)
