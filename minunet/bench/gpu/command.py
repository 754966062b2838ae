"""`minunet bench --device cuda`, which measures a GPU, and `minunet bench --on-paper`, which needs none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any

import minunet as mn
from minunet.bench import contenders, networks, report, works
from minunet.bench import kernels as cases_of
from minunet.bench.command import BenchOptions, Results, progress
from minunet.bench.limits import Limits
from minunet.extras import MissingExtra
from minunet.files import atomic_write
from minunet.kernels import KERNELS

from . import compiled, device, kernels, paper, sass, steps, table

NETWORK_NOTES = [
    "Every call begins with an image on the host and ends with logits or a loss there, so transfers count. All take "
    "turns in every round: a rest, then as many calls in a row as fit into 0.3 s; ms: the median of those but the "
    "first, and of the rounds; after a rest: of the first. GFLOP/s count 2 for every multiply-add of the definition. "
    "\"x PEER\" is the median over the rounds of the peer's time / this time: more is faster. PyTorch's convolutions "
    "are cuDNN's, whose algorithms are tried first; without TF32 unless the name says so.",
    "error: of inference the largest difference from the same network in float64, in standard deviations of the "
    "logits; of a training step (forward, cross entropy, backward, SGD with momentum) 1 - the smallest cosine of the "
    "gradients of the largest parameters with those of the CPU.",
]  # fmt: skip
KERNEL_NOTES = [
    "Rows of calls take turns; a row is timed by CUDA's events, from its first call's begin to its last one's end, on "
    "arrays that stay on the device (small ones may so stay in its caches). ms: the median of the rows. \"of peak\": "
    "float32 without tensor cores. \"of bound\" is the least time that the roofline allows / the time taken.",
]  # fmt: skip


class DeviceResults(Results):
    """Results of the GPU that is here."""

    def limits(self, again: bool = False) -> Limits:
        return device.limits()

    def header(self) -> list[str]:
        versions = ", ".join(f"{name} {version}" for name, version in self.machine()["versions"].items())
        found = self.limits()
        peak = f"{found.peak['float32'] / 1e12:.1f} TFLOP/s in float32, {found.bandwidth / 1e9:.0f} GB/s"
        return [
            f"{self.date}, {device.name()}, {versions}",
            found.how if found.bandwidth != found.bandwidth else f"limits: {peak} ({found.how})",
            *([] if contenders.torch_on_device() else ["PyTorch is not here, or finds no GPU, so it is not compared"]),
        ]

    def machine(self) -> dict[str, Any]:
        torch = {"torch": contenders.version("torch")} if contenders.torch_on_device() else {}
        return {"machine": device.name(), "versions": {"minunet": mn.__version__, **device.versions(), **torch}}


def on_device(options: BenchOptions) -> None:
    """Measure the GPU: whole networks, or the variants of a kernel; UsageError where there is none."""
    device.require()
    with mn.use_backend("numpy"):  # whatever is made on the host stays there until it is sent
        if options.kernel is None:
            _networks(options)
        else:
            _kernel(options)


def _networks(options: BenchOptions) -> None:
    results = DeviceResults(options, NETWORK_NOTES)
    names = contenders.on_device()
    for work in works.networks(options.quick).values():
        for mode in work.modes if work.name in (options.works or works.networks()) else ():
            progress(f"{work.title}, {work.size}, {works.MODES[mode]}: {len(names)} contenders")
            comparison = networks.compare(work, mode, names, options.threads, options.effective_rounds())
            results.add(partial(report.network_table, comparison), "networks", report.network_record(comparison))
    results.finish([], {}, "")


def _kernel(options: BenchOptions) -> None:
    assert options.kernel is not None
    chosen = cases_of.select(options.kernel, options.case, options.dtype)
    results = DeviceResults(options, KERNEL_NOTES)
    for case in chosen:
        for function in [options.function] if options.function else KERNELS[options.kernel].functions:
            progress(f"{case.name}: {function}")
            timing = kernels.measure(case, function, options.effective_rounds())
            results.add(partial(report.kernel_table, timing), "kernels", report.kernel_record(timing))
    results.finish([], {}, "")


# ------------------------------------------------------------------------------------------------------- on paper


def on_paper(options: BenchOptions) -> None:
    """Bytes, operations, bounds and predicted times of the paper's network on three GPUs; with a compiler also what
    every kernel takes."""
    lines = [f"{date.today()}: nothing here was measured. The least times follow from data sheets; times that are "
             "called predicted assume:", *(f"- {assumption}" for assumption in paper.ASSUMPTIONS)]  # fmt: skip
    compiler, missing = _compiler()
    tables = _tables(works.networks(options.quick)["paper"], compiler)
    if compiler and not options.quick:
        progress("compiling every kernel for every architecture (a minute or two)")
        compilation = table.make()
        tables += [table.resource_table(compilation), table.loop_table(compilation)]
    screen = report.Screen()
    screen.say(*lines)
    for one in tables:
        screen.show(one)
    screen.say(*missing)
    if options.out is not None:
        text = "\n\n".join(["\n".join(lines), *map(report.markdown, tables), *missing]) + "\n"
        atomic_write(options.out / "paper.md", lambda file: file.write(text.encode()))
        screen.say("", f"written to {options.out}")


def _compiler() -> tuple[bool, Sequence[str]]:
    """Whether machine code can be made and read here; if not, a line that says what to install."""
    try:
        compiled.nvrtc()
        sass.nvdisasm()
    except MissingExtra as error:
        return False, ["", f"no times are predicted: {error}"]
    return True, []


def _tables(work: works.Work, compiler: bool) -> list[report.Table]:
    model = work.model()
    tables = [paper.device_table()]
    for mode in work.modes:
        progress(f"{work.title}, {work.size}, {works.MODES[mode]}")
        calls = steps.calls(model, work.shape, training=mode == "train")
        title = f"{work.title}, {work.size}: {works.MODES[mode]}"
        tables.append(paper.functions_table(title, calls, compiler))
        if mode == "infer":
            tables.append(paper.layers_table(f"{title}, layer by layer", calls, compiler))
    return tables
