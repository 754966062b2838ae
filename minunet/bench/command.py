"""`minunet bench`: what is measured, in which order, and where the results go."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import minunet as mn
from minunet.display.explanation import Explanation, explain
from minunet.errors import UsageError, WorkFailed
from minunet.extras import MissingExtra
from minunet.files import atomic_write
from minunet.kernels import KERNELS

from . import contenders, kernels, memory, networks, report, roofline, user_kernel, works
from .limits import Limits, measure

WORKS = (*works.networks(), "scaling", "memory", "layers")
SCALED = ("minunet fast", "minunet exact", "PyTorch", "PyTorch channels_last", "ONNX Runtime", "OpenVINO")
LAYERED = ("minunet fast", "minunet exact")
QUICK_ROUNDS = 2


@dataclass(frozen=True)
class BenchOptions:
    """What `minunet bench` was asked for; the fields have the names of its options.

    kernel None: the comparison of networks, of which `works` chooses (none: all).  Otherwise the variants of this
    kernel, with `file` the user's own, at the cases that have `case` in their names.
    """

    kernel: str | None = None
    works: tuple[str, ...] = ()
    file: Path | None = None
    case: str | None = None
    dtype: str = "float32"
    function: str | None = None
    rounds: int | None = None
    threads: int = 2
    out: Path | None = None
    quick: bool = False
    device: str = "cpu"
    on_paper: bool = False

    def __post_init__(self) -> None:
        """UsageError for what does not go together, or does not exist."""
        if self.on_paper and (self.kernel is not None or self.works or self.device != "cpu"):
            raise UsageError("--on-paper speaks of the paper's network on GPUs that need not be here: it goes with "
                             "--out and --quick alone")  # fmt: skip
        if self.device == "cuda":
            self._check_for_gpu()
        if self.kernel is None:
            for name in ("file", "case", "function"):
                if getattr(self, name) is not None:
                    option = "kernel" if name == "file" else name
                    raise UsageError(f"--{option} needs the name of a kernel: minunet bench KERNEL; {_known_kernels()}")
            for work in self.works:
                if work not in WORKS:
                    raise UsageError(f"there is no work {work!r}; there are: {', '.join(WORKS)}")
            return
        if self.works:
            raise UsageError("--works chooses among networks: it does not go with a kernel's name")
        if self.kernel not in KERNELS:
            raise UsageError(f"there is no kernel {self.kernel!r}; {_known_kernels()}")
        functions = KERNELS[self.kernel].functions
        if self.function is not None and self.function not in functions:
            raise UsageError(f"{self.kernel} has no function {self.function!r}; it has: {', '.join(functions)}")

    def _check_for_gpu(self) -> None:
        if self.file is not None:
            raise UsageError("--kernel FILE is timed on the CPU: leave it out with --device cuda")
        for work in self.works:
            if work in WORKS and work not in works.networks():
                raise UsageError(f"--works {work} measures the CPU; with --device cuda there are: "
                                 + ", ".join(works.networks()))  # fmt: skip

    def effective_rounds(self) -> int | None:
        return QUICK_ROUNDS if self.quick and self.rounds is None else self.rounds


def _known_kernels() -> str:
    return f"there are: {', '.join(KERNELS)}"


def bench(options: BenchOptions) -> None:
    """Measure, show, and write `options.out`.  WorkFailed where a result is wrong: it is said, and not timed."""
    from .gpu import command as gpu  # late: it takes Results from here

    mn.set_num_threads(options.threads)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    if options.on_paper:
        gpu.on_paper(options)
    elif options.device == "cuda":
        gpu.on_device(options)
    elif options.kernel is None:
        _bench_networks(options)
    else:
        _bench_kernel(options)


class Results:
    """Everything measured so far: shown at once, and written to the folder again after every table.

    Tables are made from the limits, which are measured again for each: table.md is written with the best of them.
    """

    def __init__(self, options: BenchOptions, notes: list[str]) -> None:
        self.options, self.notes = options, notes
        self.screen = report.Screen()
        self.date = str(date.today())
        self.tables: list[Callable[[Limits], report.Table]] = []
        self.records: dict[str, list[Any]] = {}
        self.wrong: list[str] = []
        self.screen.say(*self.header())

    def limits(self, again: bool = False) -> Limits:
        """Of the machine that is measured; again: measure them once more."""
        return measure(again)

    def header(self) -> list[str]:
        """What is measured on."""
        return report.header(self.limits(), self.date)

    def machine(self) -> dict[str, Any]:
        """The same for machines."""
        return {"machine": report.machine(), "versions": contenders.versions()}

    def add(self, table: Callable[[Limits], report.Table], kind: str, record: Any) -> None:
        """Show a table; `record` is its content in results.json, in the list `kind`."""
        self.tables.append(table)
        self.records.setdefault(kind, []).append(record)
        shown = table(self.limits(again=True))
        self.wrong += [f"{shown.title}: {name} {reason}" for name, reason in shown.wrong.items()]
        self.screen.show(shown)
        self._write()

    def _write(self) -> None:
        out, limits = self.options.out, self.limits()
        if out is not None:
            tables = [report.markdown(table(limits)) for table in self.tables]
            text = "\n\n".join([*self.header(), *tables, *self.notes]) + "\n"
            record = {
                "date": self.date,
                **self.machine(),
                "limits": report.limits_record(limits),
                **self.records,
            }
            atomic_write(out / "table.md", lambda file: file.write(text.encode()))
            atomic_write(out / "results.json", lambda file: file.write(report.as_json(record)))

    def finish(self, series: list[roofline.Series], levels: dict[str, float], title: str) -> None:
        """Say what the columns mean, draw the roofline, and raise WorkFailed if a result was wrong."""
        self.screen.say("", *self.notes)
        if self.options.out is not None:
            if series:
                self._draw(self.options.out, series, levels, title)
            self.screen.say("", f"written to {self.options.out}")
        if self.wrong:
            raise WorkFailed("not everything could be timed:\n  " + "\n  ".join(self.wrong))

    def _draw(self, out: Path, series: list[roofline.Series], levels: dict[str, float], title: str) -> None:
        try:
            roofline.draw(out, self.limits(), series, levels, title)
        except MissingExtra as error:
            self.screen.say("", f"no roofline is drawn: {error}")


def progress(text: str) -> None:
    """What is going on, apart from the results."""
    print(f"... {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- networks


def _bench_networks(options: BenchOptions) -> None:
    results = Results(options, report.NETWORK_NOTES)
    chosen = options.works or WORKS
    levels: dict[str, float] = {}
    for work in works.networks(options.quick).values():
        for mode in work.modes if work.name in chosen else ():
            names = contenders.available(mode)
            progress(f"{work.title}, {work.size}, {works.MODES[mode]}: {len(names)} contenders")
            comparison = networks.compare(work, mode, names, options.threads, options.effective_rounds())
            results.add(partial(report.network_table, comparison), "networks", report.network_record(comparison))
            if (work.name, mode) == ("paper", "infer"):
                levels = {result.contender: result.rate for result in comparison.results}
    if "scaling" in chosen:
        _add_scaling(options, results)
    if "memory" in chosen:
        _add_memory(options, results)
    series = _add_layers(options, results) if "layers" in chosen else []
    paper = works.networks(options.quick)["paper"]
    results.finish(series, levels, f"Convolutions of {paper.title}, {paper.size}; dotted: whole networks")


def _add_scaling(options: BenchOptions, results: Results) -> None:
    sizes = works.scaling(options.quick)
    found = []
    for name in contenders.available():
        if name in SCALED:
            progress(f"cost per pixel of {name}")
            found.append(networks.scale(sizes, name, options.threads, options.effective_rounds()))
    if not found:
        found = [networks.scale(sizes, "minunet numpy", options.threads, options.effective_rounds())]
    record = {scaling.contender: scaling.seconds for scaling in found}
    results.add(lambda _: report.scaling_table(found, sizes[0]), "scaling", record)


def _add_memory(options: BenchOptions, results: Results) -> None:
    if not memory.can_be_measured():
        results.screen.say("", "peak memory is not measured: that needs Linux")
        return
    for name in ("paper", "same"):
        work = works.networks(options.quick)[name]
        peaks: dict[str, dict[str, int]] = {}
        for contender in (c for c in contenders.available() if c in memory.COUNTED):
            progress(f"peak memory of {contender}, {work.title}, {work.size}")
            peaks[contender] = {
                mode: memory.peak(work, mode, contender, options.threads) for mode in works.MODES
            }
        record = {"work": name, "shape": work.shape, "bytes": peaks}
        results.add(partial(report.memory_table, peaks, work), "memory", record)


def _add_layers(options: BenchOptions, results: Results) -> list[roofline.Series]:
    """The paper's network layer by layer; returns its convolutions for the plot."""
    paper = works.networks(options.quick)["paper"]
    model = paper.model()
    series = []
    for name in [c for c in contenders.available() if c in LAYERED] or ["minunet numpy"]:
        progress(f"layers of {name}")
        with contenders.way(name.split()[1]):
            found = explain(model, paper.shape[2:], paper.shape[0], runs=options.effective_rounds() or 5)
        record = {"contender": name, "rows": _layer_records(found)}
        results.add(partial(report.layer_table, name, found), "layers", record)
        points = [(row.cost.intensity, row.cost.flops / row.seconds) for row in found.rows if row.cost.flops]
        series.append(roofline.Series(name, points))
    return series


def _layer_records(found: Explanation) -> list[dict[str, Any]]:
    return [
        {
            "layer": row.layer,
            "operation": row.operation,
            "shape": row.shape,
            "variant": row.variant,
            "seconds": row.seconds,
            "flops": row.cost.flops,
            "bytes": row.cost.bytes,
        }
        for row in found.rows
    ]


# ------------------------------------------------------------------------------------------------- one kernel


def _bench_kernel(options: BenchOptions) -> None:
    assert options.kernel is not None
    chosen = kernels.select(options.kernel, options.case, options.dtype)
    given = kernels.variants(options.kernel)
    if options.file is not None:
        given.append(_users_own(options.file, options.kernel, options.dtype))
    results = Results(options, report.KERNEL_NOTES)
    points: dict[str, list[tuple[float, float]]] = {}
    for case in chosen:
        for function in [options.function] if options.function else KERNELS[options.kernel].functions:
            progress(f"{case.name}: {function}")
            timing = kernels.measure(case, function, given, options.threads, options.effective_rounds())
            results.add(partial(report.kernel_table, timing), "kernels", report.kernel_record(timing))
            for name in timing.seconds:
                point = (timing.cost.intensity, timing.cost.flops / timing.median(name))
                points.setdefault(name, []).append(point)
    series = [roofline.Series(name, found) for name, found in points.items() if any(rate for _, rate in found)]
    results.finish(series, {}, f"{options.kernel} at {len(chosen)} layers, {options.dtype}")


def _users_own(path: Path, kernel: str, dtype: str) -> kernels.Given:
    """The user's file as one more variant; WorkFailed where its results are wrong, and then nothing is timed."""
    module = user_kernel.load(path, KERNELS[kernel])
    given = kernels.Given(path.name, module, exact=getattr(module, "EXACT", True))
    progress(f"{path}: the small cases")
    fault = kernels.verify(given, kernel, dtype)
    if fault:
        raise WorkFailed(f"{path} is wrong, so it is not timed:\n  {fault}")
    return given
