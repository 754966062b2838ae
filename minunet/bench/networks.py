"""Contenders on one network: results checked, then everybody timed in turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

import minunet as mn
from minunet import timing
from minunet.kernels.arrays import POOL

from . import contenders
from .works import Work

LOGITS = 1e-3  # largest difference from float64, in standard deviations of the logits
LOSS = 1e-3  # relative
COSINE = 0.999  # of a gradient with the reference's
LARGEST = 6  # parameters whose gradients are compared
TRUSTED = ("PyTorch", "minunet exact", "minunet numpy")
CHECKED = -2  # the round whose input is checked; timing begins with round -1


@dataclass(frozen=True)
class Result:
    """seconds: of every round, calls in a row; after_rest: likewise, the first call after a rest.

    error: of inference the largest difference from the same network in float64, in standard deviations of the logits;
    of training 1 - the smallest cosine of a gradient with the reference's.
    """

    contender: str
    seconds: list[float]
    after_rest: list[float]
    flops: float
    error: float

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.flops / self.median


@dataclass
class Comparison:
    """What one work in one mode gave; wrong: why a contender was not timed."""

    work: Work
    mode: str
    results: list[Result] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)

    def best(self, names: Sequence[str]) -> Result | None:
        """The fastest of these contenders."""
        return min((r for r in self.results if r.contender in names), key=lambda r: r.median, default=None)

    def ratio(self, peer: Sequence[str], result: Result) -> float | None:
        """Median over the rounds of (time of the fastest of `peer`) / (time of this result): more is faster."""
        best = self.best(peer)
        return timing.median_ratio(best.seconds, result.seconds) if best else None


def compare(
    work: Work, mode: str, names: Sequence[str], threads: int, rounds: int | None = None, budget: float = 60.0
) -> Comparison:
    """Time the contenders `names` on a work; mode "infer" or "train"; rounds and budget as in `timing.interleaved`."""
    model = work.model()
    comparison = Comparison(work, mode)
    rivals = _made(names, model, work, threads, comparison.wrong)
    x, target = work.draw(CHECKED, model)
    if mode == "infer":
        errors = _inference_errors(rivals, work, x)
    else:
        errors = _training_errors(rivals, x, target, lambda name: contenders.make(name, model, work.shape, threads))
    comparison.wrong |= {name: fault for name, (_, fault) in errors.items() if fault}
    rivals = {name: rival for name, rival in rivals.items() if name not in comparison.wrong}
    if mode == "infer":
        actions = {name: lambda given, c=c: c.infer(given[0]) for name, c in rivals.items()}
    else:
        actions = {name: lambda given, c=c: c.train(*given) for name, c in rivals.items()}
    times = timing.interleaved(actions, lambda k: work.draw(k, model), rounds, budget)
    flops = work.flops(mode, model)
    comparison.results = [
        Result(name, t.in_a_row, t.after_rest, flops, errors[name][0]) for name, t in times.items()
    ]
    POOL.clear()
    return comparison


def _made(names, model, work, threads, wrong) -> dict[str, Any]:
    """{name: contender}; what a foreign library does not want to run is left out, and said in `wrong`."""
    rivals = {}
    for name in names:
        try:
            rivals[name] = contenders.make(name, model, work.shape, threads)
        except Exception as error:
            wrong[name] = f"cannot be set up: {type(error).__name__}: {error}"
    return rivals


def _inference_errors(rivals, work, x) -> dict[str, tuple[float, str]]:
    """{name: (error, what is wrong with it or "")}, against the same network in float64 on NumPy."""
    with mn.use_backend("numpy"), mn.no_grad():
        expected = work.model(np.float64).eval()(x.astype(np.float64)).numpy()
    logits, found = _attempt(rivals, lambda rival: np.array(rival.infer(x)))
    for name, array in logits.items():
        error = timing.difference(array, expected)
        right = error <= LOGITS
        found[name] = (error, "" if right else f"logits differ from float64 by {error:.3g} standard deviations")
    return found


def _training_errors(rivals, x, target, make) -> dict[str, tuple[float, str]]:
    """The same for a training step, against the first of PyTorch, minunet exact and minunet numpy that takes part.

    Where none does, make(name) is asked for the best that there is.
    """
    def step(rival):
        return rival.train(x, target), rival.gradients()

    steps, found = _attempt(rivals, step)
    if not steps:
        return found
    trusted = next((name for name in TRUSTED if name in steps), None)
    if trusted is None:
        trusted = next(name for name in TRUSTED[1:] if name in contenders.available("train"))
        expected_loss, expected = step(make(trusted))
        return found | _step_errors(steps, trusted, expected_loss, expected)
    return found | _step_errors(steps, trusted, *steps[trusted])


def _step_errors(steps, trusted, expected_loss, expected) -> dict[str, tuple[float, str]]:
    """What is wrong with each step, beside that of the trusted one."""
    found = {}
    largest = sorted(expected, key=lambda name: -expected[name].size)[:LARGEST]
    for name, (loss, gradients) in steps.items():
        # A NaN is the worst cosine of all.
        cosines = {p: np.nan_to_num(cosine(gradients[p], expected[p]), nan=-2.0) for p in largest}
        worst = min(cosines, key=lambda p: cosines[p])
        fault = ""
        if not abs(loss - expected_loss) <= LOSS * abs(expected_loss):
            fault = f"the loss is {loss:.6g}, that of {trusted} {expected_loss:.6g}"
        elif not cosines[worst] > COSINE:
            fault = f"the gradient of {worst} has a cosine of {cosines[worst]:.4g} with that of {trusted}"
        found[name] = (float(1 - cosines[worst]), fault)
    return found


def _attempt(rivals, action) -> tuple[dict[str, Any], dict[str, tuple[float, str]]]:
    """({name: action(contender)}, {name: fault} of those that raised)."""
    done: dict[str, Any] = {}
    faults: dict[str, tuple[float, str]] = {}
    for name, rival in rivals.items():
        try:
            done[name] = action(rival)
        except Exception as error:
            faults[name] = (np.nan, f"raises {type(error).__name__}: {error}")
    return done, faults


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two arrays; NaN where one of them is 0 or not finite."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    with np.errstate(invalid="ignore"):
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


# ------------------------------------------------------------------------------------------- cost per pixel


@dataclass
class Scaling:
    """Seconds of one contender's inference by the image's pixels, sizes timed in turns."""

    contender: str
    seconds: dict[int, list[float]]

    def per_pixel(self) -> dict[int, float]:
        """{pixels: median seconds a pixel}"""
        return {pixels: median(s) / pixels for pixels, s in self.seconds.items()}

    @property
    def spread(self) -> float:
        """Largest / smallest cost per pixel - 1."""
        costs = self.per_pixel().values()
        return max(costs) / min(costs) - 1


def scale(works: Sequence[Work], name: str, threads: int, rounds: int | None = None, budget: float = 60.0) -> Scaling:
    """The cost per pixel of one contender on one network, over images of several sizes."""
    model = works[0].model()
    rivals = {work.shape: contenders.make(name, model, work.shape, threads) for work in works}
    actions = {
        str(work.shape): lambda given, shape=work.shape: rivals[shape].infer(given[shape]) for work in works
    }
    times = timing.interleaved(
        actions, lambda k: {work.shape: work.draw(k, model)[0] for work in works}, rounds, budget
    )
    POOL.clear()
    return Scaling(name, {work.shape[2] * work.shape[3]: times[str(work.shape)].in_a_row for work in works})
