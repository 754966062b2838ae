"""What NVIDIA's compiler makes of every kernel, for every architecture: it compiles, fits, and spills nothing.

The figures are those of the table that is checked in (resources.json; make_tables.py writes it).  No GPU takes part.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minunet.bench.gpu import compiled, launches, sass, table
from minunet.kernels.cuda.launch import STATIC_SHARED

pytestmark = pytest.mark.cuda_compiled

RESOURCES = Path(__file__).with_name("resources.json")
IMPLICIT = "cuda/correlation.cu"
FFMA = 0.75  # of the instructions of the main loop, at least
# Kernels that are launched for what no case has: a byte instead of a number for each sign.
OTHERWISE = {"backward_of_passes", "backward_sums_of_passes"}
# A tile of half the columns, for up to 32 channels, reads as much of the picture for half the multiplications.
NARROW = {"correlate_narrow": 0.70}
KERNEL = """// Two kernels.
#include "prelude.cuh"
extern "C" __global__ void __launch_bounds__(64) sums(const real* x, index n, real* y) {
    __shared__ real part[64];
    real sum = 0;
    for (index i = threadIdx.x; i < n; i += 64) sum += x[i] * x[i];
    part[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x == 0) y[0] = part[0] + part[63];
}
extern "C" __global__ void __launch_bounds__(32) spilling(const real* x, index n, real* y) {
    real kept[200];
    for (index i = 0; i < 200; ++i) kept[i] = x[i];
    for (index i = 0; i < n; ++i) kept[i % 200] += x[i];
    y[threadIdx.x] = kept[n % 200];
}
"""


@pytest.fixture(scope="module", autouse=True)
def compiler():
    try:
        compiled.nvrtc()
        sass.nvdisasm()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def recorded():
    return table.from_json(RESOURCES.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def made():
    return table.make()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "two.cu"
    path.write_text(KERNEL)
    return path


# ------------------------------------------------------------------------------------------------------- every kernel


def test_every_kernel_is_compiled_for_every_architecture_that_is_offered(made):
    found = {(row.file, row.architecture) for row in made.resources if row.dtype == "float32"}
    for name, path in compiled.sources().items():
        numbers = {number for number in compiled.ARCHITECTURES if number in compiled.offered()}
        tensor_cores = "mma_tf32(" in path.read_text()
        assert {n for file, n in found if file == name} == {n for n in numbers if n >= 80 or not tensor_cores}, name
        assert len(numbers) >= 4
        in_float64 = {row.architecture for row in made.resources if row.file == name and row.dtype == "float64"}
        assert in_float64 or tensor_cores, name


def test_nothing_is_spilled_in_float32(made):
    spilled = [row for row in made.resources if row.stack + row.spill_stores + row.spill_loads]
    assert [row for row in spilled if row.dtype == "float32"] == []


def test_every_kernel_fits(made):
    """At least one block is resident; static shared memory stays below what a block may have without asking."""
    for row in made.resources:
        assert row.blocks >= 1 and row.shared <= STATIC_SHARED and row.threads <= 1024, row


def test_no_launch_has_more_threads_than_the_kernel_is_compiled_for(made):
    threads = {(row.file, row.kernel): row.threads for row in made.resources}
    seen = set()
    for launch in table.launched_by_cases():
        assert launch.threads <= threads[launch.file, launch.kernel], launch
        seen.add((launch.file, launch.kernel))
    assert {kernel for _, kernel in threads.keys() - seen} <= OTHERWISE  # else a launcher has forgotten one


def test_the_table_is_the_one_that_is_checked_in(recorded, made):
    if made.compiler != recorded.compiler:
        pytest.skip(f"the table is of NVRTC {recorded.compiler}, installed is {made.compiler}")
    now, before = (set(c.resources) | set(c.loops) for c in (made, recorded))
    changed = "\n".join(map(str, sorted(now ^ before, key=str)))
    assert now == before, f"run tests/cuda/make_tables.py and look at what changes:\n{changed}"


# ------------------------------------------------------------------------------------------------------ machine code


@pytest.mark.parametrize("architecture", table.READ)
def test_main_loops_of_the_implicit_gemm_are_multiply_adds(made, architecture):
    loops = {loop.kernel: loop for loop in made.loops if (loop.file, loop.architecture) == (IMPLICIT, architecture)}
    vectors = {name: loop for name, loop in loops.items() if not name.endswith("_scalar")}
    assert len(vectors) >= 3
    for name, loop in vectors.items():
        assert loop.share >= NARROW.get(name, FFMA), f"{name}: {loop.share:.1%}"


def test_no_main_loop_uses_local_memory(made):
    assert [loop for loop in made.loops if loop.of("LDL") or loop.of("STL")] == []


def test_the_implicit_gemm_reads_16_bytes_at_a_time(made):
    """From shared memory always; from global memory wherever channels come in packs of 16 bytes."""
    for loop in made.loops:
        if loop.file == IMPLICIT:
            assert loop.of("LDS") == loop.of("LDS.128") > 0, loop
            if not loop.kernel.endswith("_scalar"):
                assert loop.of("LDG") == loop.of("LDG.128"), loop


# ------------------------------------------------------------------------------------------- and the means themselves


def test_what_a_kernel_takes(source):
    found = compiled.compile(source, "float32", 80).resources
    sums = found["sums"]
    assert (sums.threads, sums.shared, sums.stack, sums.barriers) == (64, 256, 0, 1) and 8 < sums.registers < 64
    assert compiled.compile(source, "float64", 80).resources["sums"].shared == 512


def test_local_memory_would_be_noticed(source):
    built = compiled.compile(source, "float32", 80)
    assert built.resources["spilling"].stack >= 800
    opcodes = {instruction.name for instruction in sass.disassemble(built.cubin)["spilling"]}
    assert {"LDL", "STL"} <= opcodes


def test_the_main_loop_is_found(source):
    code = sass.disassemble(compiled.compile(source, "float32", 80).cubin)["sums"]
    mix, _ = sass.main_loop(code)
    assert mix.of("LDG") == mix.arithmetic > 0 and mix.sums == 1 and mix.count < len(code)
    assert mix.of("BAR") == mix.of("STS") == 0  # these come after it


def test_loops_in_loops():
    def code(*names, **targets):
        registers = "R1", "R2", "R3", "R1"
        return tuple(sass.Instruction(name, targets.get(f"at{k}"), registers) for k, name in enumerate(names))

    nested = code("MOV", "LDG", "FFMA", "FFMA.FTZ", "BRA", "IADD", "BRA", "EXIT", "BRA", at4=2, at6=1, at8=8)
    assert sass.loops(nested) == [(1, 6), (2, 4)]  # a branch to itself ends the kernel
    mix, around = sass.main_loop(nested)
    assert (mix.count, mix.arithmetic, mix.sums, around) == (3, 2, 1, 3)
    assert sass.main_loop(code("MOV", "IADD", "BRA", at2=1)) == (sass.Mix(()), 0)


def test_a_kernel_of_unknown_block_size_is_refused(source):
    source.write_text(KERNEL.replace(" __launch_bounds__(64)", ""))
    with pytest.raises(ValueError, match="without __launch_bounds__ nobody knows the blocks of sums"):
        compiled.compile(source, "float32", 80)


def test_what_does_not_compile_is_told_in_the_compilers_words(source):
    source.write_text(KERNEL.replace("real sum = 0;", ""))
    with pytest.raises(RuntimeError, match=r'two.cu does not compile for float32 on sm_80:(?s:.*)"sum" is undefined'):
        compiled.compile(source, "float32", 80)


def test_occupancy_by_hand():
    """Registers come to a warp in units of 256, of 65536; blocks are limited by warps, registers and shared memory."""
    row = compiled.Resources("", "", "float32", 80, threads=256, registers=32, stack=0, spill_stores=0, spill_loads=0,
                             shared=0, barriers=0)  # fmt: skip
    assert (row.blocks, row.occupancy) == (8, 1.0)  # 64 warps
    assert replace(row, registers=33).blocks == 6  # 40 registers: 8 warps take 10240
    assert replace(row, registers=128, architecture=75).occupancy == 0.5  # 2 of 8 warps, 16 of 32
    assert replace(row, shared=40 << 10).blocks == 4  # of 164 KiB, and one is the system's in each
    assert replace(row, shared=40 << 10, dynamic=41 << 10).blocks == 2
    assert replace(row, threads=32, architecture=89).occupancy == 24 / 48  # no more blocks


def test_the_file_keeps_all_of_it(recorded):
    assert table.from_json(table.as_json(recorded)) == recorded
    assert json.loads(RESOURCES.read_text())["compiler"] == recorded.compiler


def test_launches_are_recorded_and_not_run():
    x = np.zeros((1, 32, 20, 20), np.float32).transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
    out = np.full((1, 18, 18, 64), 7, np.float32).transpose(0, 3, 1, 2)
    given = dict(x=x, weight=np.zeros((64, 32, 3, 3), np.float32), bias=None, padding=0, relu=True, out=out)
    found = launches.of_call("conv2d", "forward", given, "cuda_implicit")
    assert [launch.kernel for launch in found] == ["pack_weight", "correlate_wide"] and (out == 7).all()
    last = found[-1]
    assert (last.numbers["kh"], last.numbers["y_height"], last.numbers["relu"]) == (3, 18, True)
    assert last.blocks * 128 * 64 >= 18 * 18 * 64 and last.dtype == "float32"
