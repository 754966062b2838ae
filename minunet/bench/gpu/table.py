"""What every kernel takes on every architecture, and what its main loop is made of: the table that is checked in.

Tests make it again and compare: registers, spills and the mix of the main loops change with the compiler's version, so
the table names the one that it is from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields, replace
from typing import Any

from minunet.bench.kernels import laid
from minunet.bench.report import Table
from minunet.kernels import KERNELS, cases, empty
from minunet.kernels.cuda.correlation import LINE, WEIGHT_TILES

from . import compiled, launches, sass
from .compiled import Resources

# Terms of a sum that a round of the outer loop brings, in float32.
STAGES = {"correlate": LINE * 16 // 4} | {kernel: side**2 for kernel, _, _, side, _ in WEIGHT_TILES}
CHANNELS = ({"c": 32, "o": 32}, {"c": 4, "o": 64}, {"c": 1, "o": 64})  # whole lines, packs, a first layer
READ = (75, 80, 90, 120)  # architectures whose main loops are read
DISASSEMBLED = ("conv2d/", "cuda/correlation.cu")  # files whose kernels multiply matrices


@dataclass(frozen=True)
class Loop:
    """The main loop of a kernel: its instructions, and how many of them are of which kind (sass.KINDS).

    arithmetic: multiply-adds.  sums: that a thread has in its registers.  rounds: of this loop in one of the loop
    around it, which has `around` instructions more.
    """

    file: str
    kernel: str
    dtype: str
    architecture: int
    instructions: int
    arithmetic: int
    sums: int
    around: int
    rounds: int
    kinds: tuple[int, ...]

    @property
    def share(self) -> float:
        """Of multiply-adds among the instructions."""
        return self.arithmetic / self.instructions

    @property
    def stage_share(self) -> float:
        """The same over a round of the loop around it."""
        return self.rounds * self.arithmetic / (self.rounds * self.instructions + self.around)

    def of(self, kind: str) -> int:
        return self.kinds[tuple(sass.KINDS).index(kind)]


@dataclass(frozen=True)
class Compilation:
    """Everything that the compiler, of this version, made of the kernels."""

    compiler: str
    resources: tuple[Resources, ...]
    loops: tuple[Loop, ...]


def make() -> Compilation:
    """Compile every kernel, on as many cores as there are; takes about a minute of one."""
    launched = shared_when_launched()
    jobs = [(name, dtype, architecture.number) for name, path in compiled.sources().items()
            for dtype, architecture in compiled.builds(path)]  # fmt: skip

    def work(job: tuple[str, str, int]) -> tuple[list[Resources], list[Loop]]:
        name, dtype, architecture = job
        dynamic = {kernel: most for (file, kernel), most in launched.items() if file == name}
        found = compiled.compile(compiled.sources()[name], dtype, architecture, dynamic)
        reads = name.startswith(DISASSEMBLED) and dtype == "float32" and architecture in READ
        return list(found.resources.values()), list(loops_of(*job, found.cubin)) if reads else []

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(work, jobs))
    resources = sorted((r for some, _ in done for r in some), key=_order)
    loops = sorted((loop for _, some in done for loop in some), key=_order)
    return Compilation(compiled.compiler_version(), tuple(resources), tuple(loops))


def loops_of(file: str, dtype: str, architecture: int, cubin: bytes) -> Iterator[Loop]:
    """The main loops of the kernels in a file's machine code; kernels without multiply-adds in a loop have none."""
    for kernel, code in sass.disassemble(cubin).items():
        mix, around = sass.main_loop(code)
        if mix.arithmetic:
            terms = next((terms for name, terms in STAGES.items() if kernel.startswith(name)), 0) if around else 0
            rounds = max(1, terms * mix.sums // mix.arithmetic)
            kinds = tuple(mix.of(kind) for kind in sass.KINDS)
            yield Loop(file, kernel, dtype, architecture, mix.count, mix.arithmetic, mix.sums, around, rounds, kinds)


def _order(row: Any) -> tuple:
    return row.file, row.kernel, row.dtype, row.architecture


def launched_by_cases() -> Iterator[launches.Launch]:
    """Every launch of every variant at the small cases of the case list, and at these with the channels of layers."""
    for kernel in KERNELS:
        for case in cases.select("test", kernel):
            others = [{name: counts[name] for name in counts if name in case.sizes} for counts in CHANNELS]
            for call in (c for sizes in ({}, *others) for c in cases.calls(replace(case, sizes=case.sizes | sizes))):
                outputs = {name: empty(shape, dtype) for name, (shape, dtype) in call.outputs.items()}
                arrays = laid(call.inputs) | outputs
                for variant in cases.device_variants(kernel):
                    yield from launches.of_call(kernel, call.function, arrays, variant.name)


def shared_when_launched() -> dict[tuple[str, str], int]:
    """{(file, kernel): bytes of dynamic shared memory, the most that a launch asks for}"""
    most: dict[tuple[str, str], int] = {}
    for launch in launched_by_cases():
        key = launch.file, launch.kernel
        most[key] = max(launch.shared, most.get(key, 0))
    return most


# ------------------------------------------------------------------------------------------------------- the file


def as_json(compilation: Compilation) -> str:
    """One line a kernel, so that a change shows as what it is."""

    def rows(kind: type, found: tuple) -> str:
        head = json.dumps([field.name for field in fields(kind)])
        return "[\n  " + ",\n  ".join([head, *(json.dumps(astuple(row)) for row in found)]) + "\n ]"

    return (
        f'{{\n "compiler": {json.dumps(compilation.compiler)},\n "kinds": {json.dumps(list(sass.KINDS))},\n'
        f' "resources": {rows(Resources, compilation.resources)},\n "loops": {rows(Loop, compilation.loops)}\n}}\n'
    )


def from_json(text: str) -> Compilation:
    """What `as_json` wrote."""
    read = json.loads(text)
    return Compilation(
        read["compiler"],
        tuple(Resources(*row) for row in read["resources"][1:]),
        tuple(replace(loop, kinds=tuple(loop.kinds)) for loop in (Loop(*row) for row in read["loops"][1:])),
    )


# -------------------------------------------------------------------------------------------------------- showing


def resource_table(compilation: Compilation) -> Table:
    """A line a kernel and dtype: registers and occupancy on each architecture."""
    numbers = sorted({row.architecture for row in compilation.resources})
    by_kernel: dict[tuple[str, str, str], dict[int, Resources]] = {}
    for row in compilation.resources:
        by_kernel.setdefault((row.file, row.kernel, row.dtype), {})[row.architecture] = row
    rows = []
    for (file, kernel, dtype), found in by_kernel.items():
        one = next(iter(found.values()))
        cells = (f"{found[n].registers}, {found[n].occupancy:.0%}" if n in found else "" for n in numbers)
        spills = max(row.spill_stores + row.spill_loads + row.stack for row in found.values())
        shared = f"{(one.shared + one.dynamic) / 1024:.0f}" if one.shared + one.dynamic else ""
        rows.append((file, kernel, dtype, str(one.threads), shared, str(spills), *cells))
    head = ("file", "kernel", "", "threads", "shared KiB", "spilled", *(f"sm_{n}" for n in numbers))
    return Table("Registers of a thread, and theoretical occupancy", head, rows, left=3,
                 note=f"compiled by NVRTC {compilation.compiler}; spilled: bytes of spills and stack, the most of any "
                      "architecture")  # fmt: skip


def loop_table(compilation: Compilation) -> Table:
    """A line a kernel and architecture: what the main loop is made of."""
    rows = [
        (loop.file, loop.kernel, f"sm_{loop.architecture}", str(loop.instructions), f"{loop.share:.0%}",
         f"{loop.stage_share:.0%}" if loop.around else "", str(loop.sums),
         *(str(count) if count else "" for count in loop.kinds))
        for loop in compilation.loops
    ]  # fmt: skip
    head = ("file", "kernel", "", "instructions", "multiply-adds", "of a stage", "sums", *sass.KINDS)
    return Table("The main loops of the convolutions in float32", head, rows, left=3,
                 note="multiply-adds: their share; of a stage: with the loop around it, which goes on to the next; "
                      "sums: that a thread has in its registers; LDS.128, STS.128 and LDG.128 are among LDS, STS and "
                      "LDG; LDL and STL: local memory")  # fmt: skip
