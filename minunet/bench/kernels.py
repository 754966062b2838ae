"""All variants of one kernel on the layers of real networks: checked first, then timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Protocol

import numpy as np

from minunet import timing
from minunet.errors import UsageError
from minunet.kernels import KERNELS, cases, empty
from minunet.kernels.arrays import POOL

from . import cost
from .layers import layer_peers

BUDGET = 5.0  # seconds for the rounds of one function of one case
FRESH = 1 << 29  # bytes that the inputs of one round may take


@dataclass(frozen=True)
class Given:
    """A variant to be measured: its module, and whether sums of integers must come out exact."""

    name: str
    module: Any
    exact: bool = True


class Runner(Protocol):
    """Somebody who can do a call: `prepare` is not timed, `run` is."""

    def prepare(self, inputs: Mapping[str, Any]) -> Any: ...
    def run(self, prepared: Any) -> Any: ...


@dataclass
class KernelTiming:
    """Seconds of every contender for one function at one case; wrong: why a contender was not timed."""

    case: cases.Case
    function: str
    cost: cost.Cost
    seconds: dict[str, list[float]] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return median(self.seconds[name])


def select(kernel: str, filter: str | None, dtype: str) -> list[cases.Case]:
    """The "bench" cases of a kernel; with a filter all its cases, of any purpose, that have it in their names.

    Raises UsageError where the filter finds nothing.
    """
    found = {}
    for case in cases.CASES:
        if case.kernel == kernel and (filter is not None or case.purpose == "bench"):
            case = replace(case, dtype=dtype)
            if filter is None or filter in case.name:
                found[case.name] = case
    if not found:
        known = "\n  ".join(case.name for case in cases.select("bench", kernel))
        raise UsageError(f"no case of {kernel} has {filter!r} in its name; the cases of layers are\n  {known}")
    return list(found.values())


def variants(kernel: str) -> list[Given]:
    """The variants of a room that can run here."""
    return [Given(v.name, KERNELS[kernel].load(v.name), v.exact) for v in cases.variants(kernel)]


# -------------------------------------------------------------------------------------------------- right or wrong


def verify(given: Given, kernel: str, dtype: str) -> str:
    """Run the small "test" cases in every memory layout; "" or which of them goes wrong, and how."""
    for case in cases.select("test", kernel, dtype):
        for values in ("integers", "floats") if kernel in cases.EXACT and given.exact else ("floats",):
            for layout in cases.LAYOUTS:
                for call in cases.calls(case, values, layout):
                    fault = fault_of(given, kernel, call, layout)
                    if fault:
                        return f"{case.name}, {values} in arrays that lie {layout}: {fault}"
    return ""


def fault_of(given: Given, kernel: str, call: cases.Call, layout: str = "channels_last", expected: Any = None) -> str:
    """What is wrong with a variant's result of this call, and where; "" if nothing is."""
    expected = cases.truth(kernel, call) if expected is None else expected
    try:
        check(given, kernel, call, layout, expected)
    except AssertionError as error:
        return f"{error}{_where(given, call, layout, expected)}"
    except Exception as error:
        return f"{call.function} raises {type(error).__name__}: {error}"
    return ""


def check(given: Given, kernel: str, call: cases.Call, layout: str, expected: Any) -> None:
    """AssertionError unless the variant's results are right."""
    cases.check(given.module, kernel, call, layout, expected)


def _where(given: Given, call: cases.Call, layout: str, expected: Mapping[str, np.ndarray]) -> str:
    """The place of the largest difference, in words; "" where the results are not to be had."""
    try:
        found = cases.run(given.module, call, layout)
    except AssertionError:
        return ""
    words = []
    for name, array in found.items():
        apart = np.abs(array.astype(np.float64) - expected[name])
        apart[np.isnan(apart)] = np.inf
        if apart.max(initial=0) > 0:
            at = tuple(int(i) for i in np.unravel_index(apart.argmax(), apart.shape))
            words.append(f"; {name} is furthest off at {at}: {array[at]:.9g}, expected {expected[name][at]:.9g}")
    return "".join(words)


# -------------------------------------------------------------------------------------------------------- timing


class Variant:
    """A variant as a runner, with outputs that lie as the network's do, allocated once."""

    def __init__(self, given: Given, call: cases.Call) -> None:
        self.call = getattr(given.module, call.function)
        self.outputs = {
            name: np.empty(shape, dtype) if call.function == "backward_weight" else empty(shape, dtype)
            for name, (shape, dtype) in call.outputs.items()
        }

    def prepare(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return inputs

    def run(self, prepared: Mapping[str, Any]) -> None:
        self.call(**prepared, **self.outputs)


def laid(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Copies that lie in memory as in the network: pictures channels-last, weights in plain C order."""
    copies = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            copy = np.empty(value.shape, value.dtype) if name == "weight" else empty(value.shape, value.dtype)
            copy[...] = value
            value = copy
        copies[name] = value
    return copies


def call_of(case: cases.Case, function: str, seed: int = 0) -> cases.Call:
    """The call of one function at a case, with floats drawn from the seed."""
    return next(call for call in cases.calls(case, "floats", seed=seed) if call.function == function)


def measure(
    case: cases.Case,
    function: str,
    given: Sequence[Given],
    threads: int,
    rounds: int | None = None,
    budget: float = BUDGET,
    peers: bool = True,
) -> KernelTiming:
    """Time one function at one case; what is wrong is not timed.  rounds, budget: as in `timing.interleaved`."""

    call = call_of(case, function)
    expected = cases.truth(case.kernel, call)
    result = KernelTiming(case, function, cost_of(case.kernel, call))
    runners: dict[str, Runner] = {}
    for one in given:
        fault = fault_of(one, case.kernel, call, expected=expected)
        if fault:
            result.wrong[one.name] = fault
        else:
            runners[one.name] = Variant(one, call)
    if peers:
        runners |= _right_peers(layer_peers(case.kernel, call, threads), call, expected, result.wrong)

    def inputs(round_: int) -> dict[str, Any]:
        drawn = laid(call_of(case, function, round_ + 2).inputs)  # rounds begin with -1, and 0 was checked
        return {name: runner.prepare(drawn) for name, runner in runners.items()}

    def action(name: str) -> Callable[[Any], Any]:
        return lambda prepared: runners[name].run(prepared[name])

    most = max(1, int(FRESH / (result.cost.bytes * max(1, len(runners)))))
    times = timing.interleaved({name: action(name) for name in runners}, inputs, rounds, budget, most)
    result.seconds = {name: t.in_a_row for name, t in times.items()}
    POOL.clear()
    return result


def cost_of(kernel: str, call: cases.Call) -> cost.Cost:
    """The cost of a case's call."""
    outputs = {name: np.empty(shape, dtype) for name, (shape, dtype) in call.outputs.items()}
    return cost.of_call(kernel, call.function, {**call.inputs, **outputs})


def _right_peers(peers, call, expected, wrong) -> dict[str, Runner]:
    """Those of the peers whose result is right."""
    runners = {}
    for name, peer in peers.items():
        found = np.asarray(peer.run(peer.prepare(call.inputs)))
        try:
            cases.compare(found, expected["out"], max(call.ulps, 64), name)
        except AssertionError as error:
            wrong[name] = str(error)
        else:
            runners[name] = peer
    return runners
