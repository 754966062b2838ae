"""What was measured, as tables for people and as JSON for machines."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from statistics import median
from typing import Any

from minunet.display.explanation import HEAD, LEFT, Explanation

from . import contenders, cost
from .kernels import KernelTiming
from .limits import Limits
from .networks import Comparison, Scaling
from .works import MODES, Work

WIDEST = 140  # characters, of a table that shows layers
PEERS = {
    "PyTorch": ("PyTorch", "PyTorch channels_last", "PyTorch cuda", "PyTorch cuda channels_last"),
    "PyTorch TF32": ("PyTorch cuda channels_last TF32",),
    "ONNX Runtime": ("ONNX Runtime",),
    "OpenVINO": ("OpenVINO",),
}


@dataclass(frozen=True)
class Table:
    """Cells are text; the first `left` columns begin at the left.  note: a line below.  wrong: {who: why not timed}."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    note: str = ""
    wrong: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        faults = [f"{name} is not timed: {reason}" for name, reason in self.wrong.items()]
        return [*([self.note] if self.note else []), *faults]


# --------------------------------------------------------------------------------------------------- the tables


def network_table(comparison: Comparison, limits: Limits) -> Table:
    """Contenders on one work.  The last columns: by how much each is faster than the peers, and its error."""
    peers = {name: members for name, members in PEERS.items() if comparison.best(members)}
    head = ("", "ms", "after a rest", "GFLOP/s", "of peak", *(f"x {name}" for name in peers), "error")
    rows = [
        (
            result.contender,
            milliseconds(result.median),
            milliseconds(median(result.after_rest)),
            f"{result.rate / 1e9:.0f}",
            percent(result.rate / limits.peak["float32"]),
            *(f"{comparison.ratio(members, result):.2f}" for members in peers.values()),
            f"{result.error:.1e}",
        )
        for result in comparison.results
    ]
    rounds = max((len(result.seconds) for result in comparison.results), default=0)
    title = f"{comparison.work.title}, {comparison.work.size}: {MODES[comparison.mode]}"
    return Table(title, head, rows, note=f"{rounds} rounds", wrong=comparison.wrong)


def scaling_table(scalings: Sequence[Scaling], work: Work) -> Table:
    """Cost per pixel by the size of the image."""
    pixels = sorted(scalings[0].seconds)
    head = ("ns a pixel", *(f"{round(p**0.5)} x {round(p**0.5)}" for p in pixels), "largest / smallest")
    rows = [
        (
            scaling.contender,
            *(f"{scaling.per_pixel()[p] * 1e9:.1f}" for p in pixels),
            f"{1 + scaling.spread:.2f}",
        )
        for scaling in scalings
    ]
    return Table(f"{work.title}, 1 image of growing size: inference", head, rows)


def memory_table(peaks: dict[str, dict[str, int]], work: Work, _: Limits) -> Table:
    """Peak memory {contender: {mode: bytes}} over what imports and the model take."""
    modes = [mode for mode in MODES if any(mode in found for found in peaks.values())]
    head = ["MB"]
    for mode in modes:
        head += [MODES[mode], "/ PyTorch"]
    rows = []
    for name, found in peaks.items():
        row = [name]
        for mode in modes:
            peers = [peaks[peer][mode] for peer in PEERS["PyTorch"] if mode in peaks.get(peer, {})]
            row += [f"{found[mode] / 1e6:.0f}", f"{found[mode] / min(peers):.2f}" if peers else ""]
        rows.append(tuple(row))
    title = f"{work.title}, {work.size}: memory that it takes beside the model, at its peak"
    return Table(title, tuple(head), rows)


def kernel_table(timing: KernelTiming, limits: Limits) -> Table:
    """Contenders for one function of a kernel at one case."""
    timed = [(name, timing.median(name), timing.cost) for name in timing.seconds]
    rounds = max(map(len, timing.seconds.values()), default=0)
    table = rate_table(f"{timing.case.name}: {timing.function}", timed, limits)
    return replace(table, note=f"{rounds} rounds", wrong=timing.wrong)


def rate_table(title: str, timed: Sequence[tuple[str, float, cost.Cost]], limits: Limits) -> Table:
    """(name, seconds, cost) as rates, and as shares of the peak and of the time that the roofline allows."""
    head = ("", "median ms", "GFLOP/s", "of peak", "GB/s", "of bound")
    rows = [
        (
            name,
            milliseconds(seconds),
            f"{done.flops / seconds / 1e9:.1f}" if done.flops else "",
            percent(done.flops / seconds / limits.peak[done.dtype]) if done.flops else "",
            f"{done.bytes / seconds / 1e9:.1f}",
            percent(done.share(seconds, limits)),
        )
        for name, seconds, done in timed
    ]
    return Table(title, head, rows)


def layer_table(name: str, explanation: Explanation, limits: Limits) -> Table:
    """A network layer by layer."""
    cells = replace(explanation, limits=limits).cells()
    return Table(f"{name}: {explanation.title}", HEAD, cells, LEFT)


def percent(share: float) -> str:
    """Nothing where it is not known: a GPU may not tell its clocks."""
    return "" if isnan(share) else f"{share:.0%}"


def milliseconds(seconds: float) -> str:
    """Three digits, more where there are more before the point."""
    ms = seconds * 1e3
    return f"{ms:.0f}" if ms >= 100 else f"{ms:#.3g}"


def machine() -> str:
    """The processor's name, or what the platform calls it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def header(limits: Limits, date: str) -> list[str]:
    """What was measured on."""
    versions = ", ".join(f"{name} {version}" for name, version in contenders.versions().items())
    missing = contenders.missing()
    return [
        f"{date}, {machine()} ({os.cpu_count()} cores), {limits.threads} threads, {platform.python_implementation()} "
        f"{platform.python_version()}, {versions}",
        f"measured limits: {limits}",
        *([f"not installed, so not compared: {', '.join(missing)}"] if missing else []),
    ]


NETWORK_NOTES = [
    "All take turns in every round: a rest, then as many calls in a row as fit into 0.3 s, each with fresh input. ms: "
    "the median of those but the first, and of the rounds; after a rest: of the first (where a call takes over a "
    "second there is no other). GFLOP/s count 2 for every multiply-add of the definition, so an algorithm that saves "
    "some may pass the peak. \"x PEER\" is the median over the rounds of the peer's time / this time: more is faster; "
    "PyTorch counts with its faster memory format.",
    "error: of inference the largest difference from the same network in float64, in standard deviations of the "
    "logits; of a training step (forward, cross entropy, backward, SGD with momentum) 1 - the smallest cosine of the "
    "gradients of the largest parameters with PyTorch's.",
]  # fmt: skip
KERNEL_NOTES = [
    "All take turns in every round: a rest, then some calls in a row, each with fresh input; ms: the median of those "
    "but the first. \"of bound\" is the least "
    "time that the roofline allows / the time taken: algorithms that save multiplications may pass 100%, and so may "
    "arrays that stay in a cache. PyTorch gets its own memory format; ONNX Runtime and OpenVINO get and give plain "
    "(N, C, H, W) arrays.",
]  # fmt: skip


# ----------------------------------------------------------------------------------------------------- showing


def markdown(table: Table) -> str:
    """The table in Markdown, with its title as a heading."""
    marks = ["---" if column < table.left else "---:" for column in range(len(table.head))]
    lines = [table.head, marks, *table.rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    notes = "".join(f"\n\n{note}" for note in table.notes())
    return f"### {table.title}\n\n{text}{notes}"


class Screen:
    """Where tables are shown: drawn by rich on a terminal, Markdown elsewhere."""

    def __init__(self) -> None:
        self._console: Any = None
        if sys.stdout.isatty():
            try:
                from rich.console import Console
            except ImportError:
                return
            self._console = Console(highlight=False)

    def say(self, *lines: str) -> None:
        for line in lines:
            print(line, flush=True)

    def show(self, table: Table) -> None:
        if self._console is None:
            print(f"\n{markdown(table)}", flush=True)
            return
        self._console.print(f"\n{table.title}", style="bold", markup=False)
        # A narrow terminal wraps the lines: rich would cut off the last columns.
        self._console.print(rich_table(table), width=max(self._console.width, WIDEST), crop=False)
        for note in table.notes():
            self._console.print(note, style="dim", markup=False)


def rich_table(table: Table) -> Any:
    """The same for rich; rows of minunet stand out."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, name in enumerate(table.head):
        drawn.add_column(Text(name), justify="left" if column < table.left else "right", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*map(Text, row), style="bold" if row[0].startswith("minunet") else None)
    return drawn


# --------------------------------------------------------------------------------------------------------- JSON


def limits_record(limits: Limits) -> dict[str, Any]:
    return {
        "threads": limits.threads,
        "peak_flops": limits.peak,
        "bandwidth_bytes": limits.bandwidth,
        "how": limits.how,
    }


def network_record(comparison: Comparison) -> dict[str, Any]:
    work = comparison.work
    return {
        "work": work.name,
        "title": work.title,
        "architecture": work.architecture,
        "shape": work.shape,
        "mode": comparison.mode,
        "wrong": comparison.wrong,
        "contenders": {
            r.contender: {"seconds": r.seconds, "after_rest": r.after_rest, "flops": r.flops, "error": r.error}
            for r in comparison.results
        },
    }


def kernel_record(timing: KernelTiming) -> dict[str, Any]:
    return {
        "case": timing.case.name,
        "function": timing.function,
        "flops": timing.cost.flops,
        "bytes": timing.cost.bytes,
        "wrong": timing.wrong,
        "contenders": {name: {"seconds": seconds} for name, seconds in timing.seconds.items()},
    }


def as_json(results: dict[str, Any]) -> bytes:
    """Results as JSON; a number that is none (the error of what raised) becomes null."""
    return (json.dumps(_plain(results), indent=1, ensure_ascii=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and value != value else value
