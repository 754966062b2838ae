"""Predicted times: what a network's step should take on GPUs that nobody has run it on.

Every kernel takes the longer of two times: its operations at the share of the peak that its machine code and its grid
allow, its bytes at a share of the memory's bandwidth.  ASSUMPTIONS lists all that goes in.  A prediction is to be held
against a measurement: `minunet bench --device cuda` makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import prod

from minunet.bench.cost import Cost
from minunet.bench.report import Table, milliseconds
from minunet.kernels.cuda.correlation import WEIGHT_TILES

from . import compiled
from .devices import DEVICES, Device
from .launches import Launch
from .steps import Call
from .table import Loop, loops_of

BANDWIDTH = 0.8  # share of the data sheet's
LAUNCH = 5e-6  # seconds, of every kernel
PHASE = 8  # terms of a sum that are computed or left out together
ASSUMPTIONS = (
    "data sheets: the boost clock is held, and memory delivers 80% of its bandwidth",
    "the main loop of a convolution issues one instruction a cycle from each scheduler: other warps hide every "
    "latency, and shared memory keeps up; what comes before and after the loop takes no time",
    "blocks are dealt out evenly: the time is that of the multiprocessor with the most of them; what is left of a "
    "block beyond the picture's edge or the last channel is computed too",
    "every array travels once: what overlapping blocks read again comes from a cache (tiles of 128 x 64 ask it for a "
    "byte every 21 operations), and nothing else does",
    "every kernel costs 5 us to launch, none of it hidden; Python keeps up",
    "operations of the array library (sums of gradients, copies of crops) are bound by memory, one kernel each; what "
    "launchers have it do with weights (zeros to be written over, other orders of memory) takes no time",
)


@dataclass(frozen=True)
class Prediction:
    """Seconds of a call on a device: for its operations, for its bytes, and for its launches."""

    compute: float
    memory: float
    launch: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory) + self.launch


@cache
def loops(file: str, dtype: str, architecture: int) -> Mapping[str, Loop]:
    """The main loop of every kernel of a file that multiplies and adds."""
    found = compiled.compile(compiled.sources()[file], dtype, architecture)
    return {loop.kernel: loop for loop in loops_of(file, dtype, architecture, found.cubin)}


def predict(call: Call, device: Device) -> Prediction:
    """The time of a call."""
    compute = 0.0
    if call.cost.flops:
        (multiplies,) = (launch for launch in call.launches if _loop(launch, device))
        compute = call.cost.flops / device.peak / efficiency(multiplies, call, device)
    travelling = max(call.cost.bytes, sum(launch.bytes for launch in call.launches))
    launch = LAUNCH * max(1, len(call.launches))
    return Prediction(compute, travelling / (BANDWIDTH * device.bandwidth), launch)


def _loop(launch: Launch, device: Device) -> Loop | None:
    return loops(launch.file, launch.dtype, device.architecture).get(launch.kernel)


def efficiency(launch: Launch, call: Call, device: Device) -> float:
    """Share of the peak that a kernel can reach: by its instructions, by its blocks, by its tiles."""
    loop = _loop(launch, device)
    assert loop is not None
    instructions = loop.rounds * loop.instructions + loop.around
    issued = device.issued(instructions, loop.rounds * loop.arithmetic)
    waves = -(-launch.blocks // device.multiprocessors)
    even = launch.blocks / (waves * device.multiprocessors)
    return issued * even * useful(launch, loop, call)


def useful(launch: Launch, loop: Loop, call: Call) -> float:
    """Share of the multiply-adds that belong to the result: tiles reach beyond the picture and the last channel."""
    computed = launch.blocks * launch.threads * loop.sums
    if call.function != "backward_weight":
        sums = prod(call.shape)
        terms = call.cost.flops / 2 / sums
        return sums / computed * terms / (-(-terms // PHASE) * PHASE)
    side = next(side for kernel, _, _, side, _ in WEIGHT_TILES if launch.kernel.startswith(kernel))
    height, width = launch.numbers["height"], launch.numbers["width"]
    squares = -(-height // side) * -(-width // side) * side**2
    return prod(call.shape) * launch.numbers["parts"] / computed * height * width / squares


# ------------------------------------------------------------------------------------------------------ in all


@dataclass
class Total:
    """What calls of one kind come to: launches, operations, bytes; least and predicted seconds by device."""

    calls: int = 0
    launches: int = 0
    cost: Cost = field(default_factory=lambda: Cost(0.0, 0.0))
    least: dict[str, float] = field(default_factory=lambda: dict.fromkeys((d.name for d in DEVICES), 0.0))
    predicted: dict[str, float] = field(default_factory=lambda: dict.fromkeys((d.name for d in DEVICES), 0.0))

    def add(self, call: Call, predictions: Mapping[str, Prediction]) -> None:
        """predictions: by device; empty where there is no compiler to make them."""
        self.calls += 1
        self.launches += max(1, len(call.launches))
        self.cost += call.cost
        for device in DEVICES:
            self.least[device.name] += device.least_seconds(call.cost.flops, call.cost.bytes)
        for name, prediction in predictions.items():
            self.predicted[name] += prediction.seconds


def total(calls: Iterable[Call], compiler: bool, kind: Callable[[Call], str] = lambda call: "") -> dict[str, Total]:
    """The calls summed up by their kinds, in the order in which those come first.

    compiler: whether there is one, so that times can be predicted.
    """
    totals: dict[str, Total] = {}
    for call in calls:
        predictions = {device.name: predict(call, device) for device in DEVICES} if compiler else {}
        totals.setdefault(kind(call), Total()).add(call, predictions)
    return totals


def function_of(call: Call) -> str:
    """What a call is counted under: its kernel's function."""
    return f"{call.kernel}.{call.function}" if call.kernel else "array library"


# -------------------------------------------------------------------------------------------------------- showing


def functions_table(title: str, calls: Sequence[Call], compiler: bool) -> Table:
    """A line a kernel's function, and their sum."""
    totals = total(calls, compiler, function_of)
    everything = total(calls, compiler)[""]
    head = ["", "calls", "launches", "GFLOP", "MB"]
    for device in DEVICES:
        head += [f"{device.name}: least ms", *(["predicted"] if compiler else [])]
    rows = [_row(name, one, compiler) for name, one in (totals | {"all": everything}).items()]
    return Table(title, tuple(head), rows)


def _row(name: str, one: Total, compiler: bool) -> tuple[str, ...]:
    cells = [name, str(one.calls), str(one.launches), _giga(one.cost.flops), f"{one.cost.bytes / 1e6:,.0f}"]
    for device in DEVICES:
        cells.append(milliseconds(one.least[device.name]))
        cells += [milliseconds(one.predicted[device.name])] if compiler else []
    return tuple(cells)


def layers_table(title: str, calls: Sequence[Call], compiler: bool) -> Table:
    """A line a call: what it costs, and on each device what bounds it and how long it should take."""
    head = ["layer", "operation", "output", "GFLOP", "MB", "FLOP / B"]
    for device in DEVICES:
        head += [f"{device.name}: least ms", *(["predicted", "of peak"] if compiler else [])]
    rows = []
    for call in calls:
        row = [call.layer, call.operation, " x ".join(map(str, call.shape)), _giga(call.cost.flops),
               f"{call.cost.bytes / 1e6:.1f}", f"{call.cost.intensity:.0f}" if call.cost.flops else ""]  # fmt: skip
        for device in DEVICES:
            row.append(milliseconds(device.least_seconds(call.cost.flops, call.cost.bytes)))
            if compiler:
                seconds = predict(call, device).seconds
                share = f"{call.cost.flops / seconds / device.peak:.0%}" if call.cost.flops else ""
                row += [milliseconds(seconds), share]
        rows.append(tuple(row))
    return Table(title, tuple(head), rows, left=3)


def device_table() -> Table:
    """The data sheets."""
    rows = [
        (device.name, f"sm_{device.architecture}", str(device.multiprocessors), f"{device.clock / 1e9:.2f}",
         f"{device.peak / 1e12:.1f}", f"{device.bandwidth / 1e9:.0f}")
        for device in DEVICES
    ]  # fmt: skip
    head = ("", "", "multiprocessors", "boost GHz", "TFLOP/s in float32", "GB/s")
    return Table("Data sheets (float32 without tensor cores)", head, rows, left=2)


def _giga(flops: float) -> str:
    return f"{flops / 1e9:,.1f}" if flops else ""
