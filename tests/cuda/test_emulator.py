"""The emulator itself: what it runs it runs right, and every fault that it promises to find is found."""

import itertools
import re

import numpy as np
import pages
import pytest
from cuda_emulator import EmulationError, compiler, emulated, is_sanitized, prebuild, run_sanitized, transfers
from cuda_emulator.building import cache_folder
from cuda_emulator.launching import Schedule

from minunet.kernels.cuda import Source, driver

pytestmark = [
    pytest.mark.cuda_emulated,
    pytest.mark.skipif(compiler() is None, reason="needs g++"),
]
SCHEDULES = ("ascending", "descending", "random")

# Kernels that do right: all take (const real* x, real* out, int n) and run 64 threads.
RIGHT = {
    "copied": "out[t] = x[t];",
    "reversed": "__shared__ real tile[64]; tile[t] = x[t]; __syncthreads(); out[t] = tile[63 - t];",
    "reversed_twice": """__shared__ real tile[64];
        tile[t] = x[t]; __syncthreads();
        const real mirrored = tile[63 - t]; __syncthreads();
        tile[t] = mirrored; __syncthreads();
        out[t] = tile[63 - t];""",
    "within_warps": """__shared__ real tile[64];
        tile[t] = x[t]; __syncwarp();
        const real neighbour = tile[t ^ 1]; __syncwarp();
        tile[t] = neighbour; __syncwarp();
        out[t] = tile[t ^ 3];""",
    "within_half_warps": """__shared__ real tile[64];
        const unsigned half = t % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
        tile[t] = x[t]; __syncwarp(half); out[t] = tile[t ^ 5];""",
    "read_by_all_of_a_half_warp": """__shared__ real tile[4];
        const unsigned half = t % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
        if (t % 16 == 0) tile[t / 16] = x[t];
        __syncwarp(half);
        out[t] = tile[t / 16]; __syncwarp(half);
        if (t % 16 == 3) out[t] += tile[t / 16];
        if (t % 16 == 3) tile[t / 16] = 0;""",
    "own_memory": "real* tile = dynamic_shared<real>(); tile[t] = x[t]; __syncthreads(); out[t] = tile[63 - t];",
    "packs": "if (t < 64 / PACK) store_pack(out + PACK * t, load_pack(x + PACK * t));",
    "left_early": "out[t] = x[t]; if (t % 2) return; out[t] += 1;",
    "bytes_side_by_side": """__shared__ unsigned char tile[64];
        tile[t] = (unsigned char)t; __syncthreads(); out[t] = tile[t ^ 1];""",
    "shuffled": "out[t] = __shfl_sync(0xffffffffu, x[t], t * 3 % 32);",
    "shuffled_up": "out[t] = __shfl_up_sync(0xffffffffu, x[t], 3);",
    "shuffled_down": "out[t] = __shfl_down_sync(0xffffffffu, x[t], 3, 8);",
    "shuffled_xor": "out[t] = __shfl_xor_sync(0xffffffffu, x[t], 5);",
    "mathematics": """const real a = x[t];
        out[t] = max(a, real(5)) + exp(-a) + rsqrt(a + 1) + fma(a, a, real(1)) + (isnan(a) ? 1 : 0) + __ldg(x + t);""",
}

# Kernels that do wrong, and what is said.
FAULTS = {
    "written_past_the_end": ("out[t + 1] = x[t];",
                             r"thread \(63, 0, 0\): write of 4 bytes out of bounds.*out\[64\], of 64"),
    "written_before_the_beginning": ("out[t - 1] = x[t];", r"thread \(0, 0, 0\): write .* out of bounds.*out\[-1\]"),
    "read_past_the_end": ("out[t] = x[t + 1];",
                          r"thread \(63, 0, 0\): read of 4 bytes out of bounds.*x\[64\], of 64"),
    "read_far_away": ("out[t] = x[t + (1LL << 30)];", "read .* out of bounds"),
    "read_in_the_void": ("out[t] = x[t + (1LL << 50)];", "read .* out of bounds"),
    "vector_over_the_end": ("if (t < 16) store_pack(out + 4 * t, load_pack(x + 4 * t + 4));",
                            "read of 16 .* out of bounds"),
    "misaligned_vector": ("if (t < 8) store_pack(out + 4 * t, load_pack(x + 4 * t + 1));", r"misaligned.*at x\[1\]"),
    "misaligned_number": ("out[t] = *(const int*)((const char*)x + 2);", "misaligned"),
    "shared_past_the_end": ("real* tile = dynamic_shared<real>(); tile[t + 1] = 1;", "write .* out of bounds"),
    "unwritten_shared": ("__shared__ real tile[64]; if (t < 63) tile[t] = 0; __syncthreads(); out[t] = tile[t];",
                         r"thread \(63, 0, 0\): read .* nobody has written.*shared tile\[63\]"),
    "missing_barrier": ("""__shared__ real tile[64]; tile[t] = 0; __syncthreads();
        tile[t] = x[t]; out[t] = tile[63 - t];""", "races"),
    "missing_barrier_before_reuse": ("""__shared__ real tile[64]; tile[t] = x[t]; __syncthreads();
        const real mirrored = tile[63 - t];
        tile[t] = mirrored; __syncthreads(); out[t] = tile[t];""", "races: thread .* (read|wrote) there"),
    "warp_is_not_the_block": ("__shared__ real tile[64]; tile[t] = x[t]; __syncwarp(); out[t] = tile[t ^ 32];",
                              "nobody has written|races"),
    "halves_are_not_the_warp": ("""__shared__ real tile[64];
        const unsigned half = t % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
        tile[t] = 0; __syncwarp(); tile[t] = x[t]; __syncwarp(half); out[t] = tile[t ^ 16];""", "races"),
    "written_while_a_half_warp_reads": ("""__shared__ real tile[4];
        if (t % 16 == 0) tile[t / 16] = x[t];
        __syncthreads(); out[t] = tile[t / 16]; __syncwarp(t % 32 < 4 ? 15u : ~15u);
        if (t % 16 == 3) tile[t / 16] = 0;""", "races: thread .* (read|wrote) there"),
    "one_place_for_all": ("out[0] = t;", r"write .* races: thread \(0, 0, 0\) wrote there"),
    "others_output": ("out[t] = x[t]; out[t] += out[t ^ 1];", "races"),
    "barrier_for_some": ("if (t < 32) __syncthreads(); out[t] = x[t];",
                         r"thread \(0, 0, 0\): uneven barriers: .* thread \(32, 0, 0\) has ended"),
    "two_barriers": ("""if (t < 32) __syncthreads();
        else __syncthreads();
        out[t] = x[t];""", r"uneven barriers: it waits in line \d+, thread .* in line"),
    "barrier_in_a_loop": ("for (int i = 0; i < 1 + t % 2; i++) __syncthreads();\nout[t] = x[t];", "uneven barriers"),
    "lane_is_missing": ("if (t % 2) out[t] = __shfl_xor_sync(0xffffffffu, x[t], 2); else out[t] = 0;", "waits in vain"),
    "lane_that_is_not_named": ("out[t] = __shfl_sync(t % 32 < 16 ? 0xffffu : 0xffff0000u, x[t], 31 - t % 32, 32);",
                               "takes no part"),
    "not_in_its_mask": ("__syncwarp(1u); out[t] = x[t];", "not in its own mask"),
    "copy_not_waited_for": ("""__shared__ __align__(16) float tile[64];
        if (t < 16) copy_four(tile, x);
        copy_async_wait<1>();
        __syncthreads(); out[t] = tile[t];""", "asynchronous copy has not been waited for"),
    "copy_without_a_barrier": ("""__shared__ __align__(16) float tile[64]; tile[t] = 0; __syncthreads();
        if (t < 16) copy_four(tile, x);
        copy_async_wait<0>();
        out[t] = tile[63 - t];""", "races|waited for"),
    "copy_into_what_is_read": ("""__shared__ __align__(16) float tile[64]; tile[t] = x[t]; __syncthreads();
        out[t] = tile[63 - t];
        if (t < 16) copy_four(tile, x);
        copy_async_wait<0>();""", "races"),
}  # fmt: skip

COPY = """
__device__ __forceinline__ void copy_four(float* to, const real* from) {
    const int t = threadIdx.x;
    copy_async(to + 4 * t, reinterpret_cast<const float*>(from) + 4 * t, true);
    copy_async_commit();
}
"""

# Kernels with declarations of their own.
OTHERS = """
extern "C" __global__ void rows_of_blocks(const real* x, real* out, int n) {
    out[blockIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void next_block(real* out) {
    out[blockIdx.x] = 1;
    out[gridDim.x + blockIdx.x] = out[(blockIdx.x + 1) % gridDim.x];
}
extern "C" __global__ void order(int* turn, int* counter) {
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    turn[place] = (*counter)++;
    __syncthreads();
    turn[gridDim.x * blockDim.x + place] = (*counter)++;
}
extern "C" __global__ void places(int* out) {
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}
extern "C" __global__ void __launch_bounds__(4 * WARP) typed(const real* x, unsigned char* bytes, long long* longs,
                                                              int i, index j, float f, double d, bool b) {
    if (bytes != nullptr) bytes[threadIdx.x] = (unsigned char)(b ? i : 0);
    longs[threadIdx.x] = j + (long long)(f + d);
}
extern "C" __global__ void large(real* out) {
    __shared__ real tile[4096];
    tile[threadIdx.x] = 1;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x ^ 1];
}
extern "C" __global__ void product(const float* a, const float* b, float* d) {
    const int lane = threadIdx.x, group = lane / 4, within = lane % 4;
    unsigned left[4], right[2];
    float sums[4] = {1, 2, 3, 4};
    for (int k = 0; k < 4; k++) left[k] = to_tf32(a[(group + k % 2 * 8) * 8 + within + k / 2 * 4]);
    for (int k = 0; k < 2; k++) right[k] = to_tf32(b[(within + k * 4) * 8 + group]);
    mma_tf32(sums, left, right);
    for (int k = 0; k < 4; k++) d[(group + k / 2 * 8) * 8 + 2 * within + k % 2] = sums[k];
}
extern "C" __global__ void rounded(const float* x, float* out) {
    out[threadIdx.x] = __uint_as_float(to_tf32(x[threadIdx.x]));
}
extern "C" __global__ void copied_in_stages(const float* x, float* out) {
    __shared__ __align__(16) float tile[2][128];
    const int t = threadIdx.x;
    copy_async(tile[0] + 4 * t, x + 4 * t, true);
    copy_async_commit();
    for (int step = 0; step < 4; step++) {
        if (step < 3) copy_async(tile[(step + 1) % 2] + 4 * t, x + 128 * (step + 1) + 4 * t, step < 2);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        for (int i = 0; i < 4; i++) out[128 * step + t + 32 * i] = tile[step % 2][127 - t - 32 * i];
        __syncthreads();
    }
}
extern "C" __global__ void strided(const float* x, float* out, int stride) {
    float* tile = dynamic_shared<float>();
    tile[threadIdx.x * stride] = x[threadIdx.x * stride];
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x * stride];
}
extern "C" __global__ void strided_packs(const float* x, float* out, int stride) {
    float* tile = dynamic_shared<float>();
    store_pack((real*)tile + threadIdx.x * stride, load_pack((const real*)x + 4 * threadIdx.x));
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x * stride];
}
extern "C" __global__ void broadcast(const float* x, float* out) {
    __shared__ float tile[32];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = tile[5];
}
"""


def declared(name, body):
    return (f'extern "C" __global__ void {name}(const real* x, real* out, int n) {{\n    const int t = threadIdx.x;\n'
            f"    {body}\n}}\n")  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """One text with all kernels, so that it is compiled once for each build."""
    path = tmp_path_factory.mktemp("text") / "small.cu"
    bodies = {**RIGHT, **{name: body for name, (body, _) in FAULTS.items()}}
    kernels = "".join(declared(name, body) for name, body in bodies.items())
    path.write_text(f'#include "prelude.cuh"\n{COPY}{kernels}{OTHERS}')
    return Source(path)


def launch(cupy, source, name, x, dtype=np.float32, shared=0):
    """`out` of a kernel of RIGHT or FAULTS, run by 64 threads; 64 numbers of dynamic shared memory where asked for."""
    out = cupy.empty(64, dtype)
    source.launch(name, dtype, 1, 64, cupy.asarray(x, dtype), out, 64, shared=shared)
    return cupy.asnumpy(out)


X = np.arange(64.0)
LANE = np.arange(64) % 32
EXPECTED = {
    "copied": X,
    "reversed": X[::-1],
    "reversed_twice": X,
    "within_warps": X[np.arange(64) ^ 2],
    "within_half_warps": X[np.arange(64) ^ 5],
    "read_by_all_of_a_half_warp": (X - X % 16) * (1 + (X % 16 == 3)),
    "own_memory": X[::-1],
    "packs": X,
    "left_early": X + (np.arange(64) % 2 == 0),
    "bytes_side_by_side": X[np.arange(64) ^ 1],
    "shuffled": X - LANE + X * 3 % 32,
    "shuffled_up": X - 3 * (LANE >= 3),
    "shuffled_down": X + 3 * (X % 8 < 5),
    "shuffled_xor": X[np.arange(64) ^ 5],
    "mathematics": np.maximum(X, 5) + np.exp(-X) + 1 / np.sqrt(X + 1) + X * X + 1 + X,
}


# ------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize("build", ["fast", "checked", "portable"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_right_kernels(source, build, dtype):
    for schedule in SCHEDULES:
        with emulated(build, schedule, seed=3) as cupy:
            for name in RIGHT:
                found = launch(cupy, source, name, X, dtype, 64 * np.dtype(dtype).itemsize * (name == "own_memory"))
                np.testing.assert_allclose(found, EXPECTED[name], rtol=1e-6, err_msg=f"{name}, {schedule}")


def test_places_of_threads_and_blocks(source):
    with emulated("checked", "random", seed=1) as cupy:
        out = cupy.empty(24 * 60, np.int32)
        kernel = source.module(np.dtype(np.float32)).get_function("places")
        kernel((2, 3, 4), (3, 4, 5), (out,))
        block, thread = np.divmod(np.arange(24 * 60), 60)
        np.testing.assert_array_equal(cupy.asnumpy(out), block * 1000 + thread)


def turns(source, schedule, seed=0):
    with emulated("fast", schedule, seed) as cupy:
        turn, counter = cupy.empty(2 * 3 * 8, np.int32), cupy.zeros(1, np.int32)
        source.module(np.dtype(np.float32)).get_function("order")((3,), (8,), (turn, counter))
        return cupy.asnumpy(turn).reshape(2, 3, 8)  # before and after the barrier, blocks, threads


def test_schedules_are_what_they_say(source):
    ascending = turns(source, "ascending")
    np.testing.assert_array_equal(ascending[0, :, 0], [0, 16, 32])
    np.testing.assert_array_equal(ascending[:, 0], np.arange(16).reshape(2, 8))
    np.testing.assert_array_equal(turns(source, "descending"), ascending[:, ::-1, ::-1])
    first, second = turns(source, "random", 1), turns(source, "random", 2)
    np.testing.assert_array_equal(first, turns(source, "random", 1))
    assert (first != second).any() and (first != ascending).any()
    assert (np.argsort(first[0, 0]) != np.argsort(first[1, 0])).any(), "a new order after the barrier"


def test_unwritten_outputs_and_shared_memory_are_poisoned(source):
    with emulated("fast") as cupy:
        assert np.isnan(cupy.asnumpy(cupy.empty(5, np.float32))).all()
        assert np.isnan(launch(cupy, source, "unwritten_shared", X)[63])


def tf32(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def test_product_of_fragments(source):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 8), dtype=np.float32), rng.standard_normal((8, 8), dtype=np.float32)
    start = np.tile(np.array([[1, 2]]), (8, 4)), np.tile(np.array([[3, 4]]), (8, 4))
    with emulated("checked") as cupy:
        d = cupy.empty((16, 8), np.float32)
        source.module(np.dtype(np.float32)).get_function("product")((1,), (32,), (cupy.asarray(a), cupy.asarray(b), d))
        expected = np.concatenate(start) + tf32(a).astype(float) @ tf32(b).astype(float)
        np.testing.assert_allclose(cupy.asnumpy(d), expected, rtol=2e-6, atol=2e-6)


def test_product_needs_a_whole_warp(source):
    with emulated("checked") as cupy, pytest.raises(EmulationError, match="whole warp"):
        a, b, d = (cupy.zeros((16, 8), np.float32) for _ in range(3))
        source.module(np.dtype(np.float32)).get_function("product")((1,), (31,), (a, b, d))


def test_rounding_to_tf32(source):
    ulp = 2.0**-10
    exact = [1, -1.5, 0, 2.0**-126, np.inf, -np.inf]
    near = [1 + ulp / 4, 1 + ulp * 3 / 4, -1 - ulp / 4, 3.4e38]
    ties = [1 + ulp / 2, 1 + ulp * 3 / 2, -1 - ulp / 2]  # away from zero
    x = np.array([*exact, *near, *ties, np.nan], np.float32)
    with emulated("fast") as cupy:
        out = cupy.empty(x.size, np.float32)
        source.module(np.dtype(np.float32)).get_function("rounded")((1,), (x.size,), (cupy.asarray(x), out))
        found = cupy.asnumpy(out)
    expected = [*exact, 1, 1 + ulp, -1, tf32(np.float32(3.4e38)), 1 + ulp, 1 + 2 * ulp, -1 - ulp, np.nan]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


@pytest.mark.parametrize("early", [False, True])
def test_asynchronous_copies_in_two_stages(source, early):
    x = np.arange(512, dtype=np.float32)
    with emulated("checked", "random", early_copies=early) as cupy:
        out = cupy.empty(512, np.float32)
        source.module(np.dtype(np.float32)).get_function("copied_in_stages")((1,), (32,), (cupy.asarray(x), out))
        expected = x.reshape(4, 128)[:, ::-1].copy()
        expected[3] = 0  # where nothing is to be copied there are zeros
        np.testing.assert_array_equal(cupy.asnumpy(out).reshape(4, 128), expected)


# ------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_under_every_schedule(source, name):
    for schedule in SCHEDULES:
        with emulated("checked", schedule, seed=5) as cupy:
            with pytest.raises(EmulationError) as caught:
                launch(cupy, source, name, X, shared=256)
            if schedule == "ascending":
                assert re.search(FAULTS[name][1], str(caught.value), re.DOTALL), caught.value
                assert str(caught.value).startswith(f"{name}: block (0, 0, 0)")
            np.testing.assert_array_equal(launch(cupy, source, "reversed", X), X[::-1])  # and it goes on


@pytest.mark.parametrize("name", ["barrier_for_some", "two_barriers", "barrier_in_a_loop", "lane_is_missing"])
@pytest.mark.parametrize("build", ["fast", "portable"])
def test_uneven_barriers_are_found_in_fast_builds_too(source, name, build):
    with emulated(build) as cupy:
        with pytest.raises(EmulationError, match=FAULTS[name][1]):
            launch(cupy, source, name, X)
        np.testing.assert_array_equal(launch(cupy, source, "reversed", X), X[::-1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_blocks_may_not_meet_in_memory(source, schedule):
    with emulated("checked", schedule) as cupy:
        out, x = cupy.zeros(8, np.float32), cupy.zeros(8, np.float32)
        with pytest.raises(EmulationError, match="another block"):
            source.module(np.dtype(np.float32)).get_function("next_block")((4,), (1,), (out,))
        kernel = source.module(np.dtype(np.float32)).get_function("rows_of_blocks")
        kernel((4,), (1,), (x, out, np.int32(0)))  # where they do not meet: a read by all, a write by each
        kernel((4,), (1,), (out, x, np.int32(0)))  # the next launch may read what this one wrote
        with pytest.raises(EmulationError, match="races"):
            kernel((4,), (2,), (x, out, np.int32(0)))


def test_error_quotes_the_line(source):
    with emulated("checked") as cupy, pytest.raises(EmulationError) as caught:
        launch(cupy, source, "missing_barrier_before_reuse", X)
    lines = source.code.splitlines()
    read, write = re.findall(r"line (\d+): (.*)", str(caught.value))
    assert read[1] == "const real mirrored = tile[63 - t];" == lines[int(read[0]) - 1].strip()
    assert write[1] == "tile[t] = mirrored; __syncthreads(); out[t] = tile[t];" == lines[int(write[0]) - 1].strip()


def test_freed_memory_belongs_to_nobody(source):
    with emulated("checked") as cupy:
        x, out = cupy.zeros(64, np.float32), cupy.zeros(64, np.float32)
        address = x.data.ptr
        del x
        compiled = source.module(np.dtype(np.float32)).compiled
        arguments = [np.uint64(address), np.uint64(out.data.ptr), np.int32(1)]
        with pytest.raises(EmulationError, match="belongs to no array"):
            compiled.run("copied", (1, 1, 1), (64, 1, 1), arguments, 0, Schedule(), {})


def test_text_that_does_not_compile():
    with emulated("fast") as cupy, pytest.raises(EmulationError, match="nonsense"):
        cupy.RawModule(code='extern "C" __global__ void k(int n) { nonsense(n); }')


# ------------------------------------------------------------------------------------------ launches


def good_arguments(cupy):
    return [cupy.zeros(4, np.float32), cupy.zeros(4, np.uint8), cupy.zeros(4, np.int64), np.int32(1), np.int64(2),
            np.float32(3), np.float64(4), np.bool_(True)]  # fmt: skip


def test_arguments_reach_the_kernel(source):
    with emulated("checked") as cupy:
        kernel = source.module(np.dtype(np.float32)).get_function("typed")
        arguments = good_arguments(cupy)
        kernel((1,), (4,), tuple(arguments))
        assert cupy.asnumpy(arguments[1]).tolist() == [1] * 4 and cupy.asnumpy(arguments[2]).tolist() == [9] * 4
        arguments[1] = np.uint64(0)  # a null pointer
        kernel((1,), (4,), tuple(arguments))


WRONG = {
    "float64_array": (0, lambda cupy: cupy.zeros(4, np.float64)),
    "host_array": (0, lambda cupy: np.zeros(4, np.float32)),
    "number_for_array": (0, lambda cupy: np.int64(3)),
    "bool_array": (1, lambda cupy: cupy.zeros(4, np.bool_)),
    "python_int": (3, lambda cupy: 1),
    "int64": (3, lambda cupy: np.int64(1)),
    "float_for_int": (3, lambda cupy: np.float32(1)),
    "array_for_int": (3, lambda cupy: cupy.zeros(1, np.int32)),
    "int32_for_index": (4, lambda cupy: np.int32(1)),
    "python_float": (5, lambda cupy: 1.0),
    "float32_for_double": (6, lambda cupy: np.float32(1)),
    "int32_for_bool": (7, lambda cupy: np.int32(1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(source, name):
    number, wrong = WRONG[name]
    with emulated("fast") as cupy:
        arguments = good_arguments(cupy)
        arguments[number] = wrong(cupy)
        with pytest.raises(EmulationError, match=r"typed: argument|cannot be given"):
            source.module(np.dtype(np.float32)).get_function("typed")((1,), (4,), tuple(arguments))


def test_wrong_number_of_arguments(source):
    with emulated("fast") as cupy:
        kernel = source.module(np.dtype(np.float32)).get_function("typed")
        for arguments in (good_arguments(cupy)[:-1], [*good_arguments(cupy), np.int32(1)]):
            with pytest.raises(EmulationError, match="takes 8 arguments, found"):
                kernel((1,), (4,), tuple(arguments))


def test_arrays_of_another_build_are_refused(source):
    with emulated("checked") as cupy:
        x = cupy.zeros(64, np.float32)
    with emulated("fast") as cupy, pytest.raises(EmulationError, match="another build"):
        source.launch("copied", np.float32, 1, 64, x, cupy.empty(64, np.float32), 64)


def test_limits_of_a_launch(source):
    with emulated("fast") as cupy:
        out = cupy.empty(1024, np.float32)
        kernel = source.module(np.dtype(np.float32)).get_function("large")  # 16 KiB of static shared memory
        for grid, block in (((0,), (1,)), ((1, 65536), (1,)), ((1,), (1025,)), ((1,), (1, 1, 65)), ((1,), (64, 32))):
            with pytest.raises(EmulationError, match="than a device takes"):
                kernel(grid, block, (out,))
        kernel((1,), (1024,), (out,), shared_mem=32 << 10)
        with pytest.raises(EmulationError, match="dynamic shared memory, allowed are 49152"):
            kernel((1,), (1024,), (out,), shared_mem=(48 << 10) + 4)
        with pytest.raises(EmulationError, match="bytes of shared memory, allowed are 49152"):
            kernel((1,), (1024,), (out,), shared_mem=(32 << 10) + 4)
        kernel.max_dynamic_shared_size_bytes = 211 << 10
        kernel((1,), (1024,), (out,), shared_mem=211 << 10)
        kernel.max_dynamic_shared_size_bytes = 220 << 10
        with pytest.raises(EmulationError, match="bytes of shared memory, allowed are"):
            kernel((1,), (1024,), (out,), shared_mem=220 << 10)
        with pytest.raises(EmulationError, match="launch bounds"):
            source.module(np.dtype(np.float32)).get_function("typed")((1,), (129,), tuple(good_arguments(cupy)))


def test_strides_are_ignored_as_by_a_device(source):
    with emulated("fast") as cupy:
        x = cupy.arange(128, dtype=np.float32)[::2]
        out = cupy.empty(64, np.float32)
        source.launch("copied", np.float32, 1, 64, x, out, 64)
        np.testing.assert_array_equal(cupy.asnumpy(out), np.arange(64))


def test_everything_is_as_before_afterwards(source):
    before = list(driver._cupy)
    with emulated("fast") as outer:
        assert driver.cupy() is outer
        with pytest.raises(ZeroDivisionError), emulated("checked") as inner:
            assert driver.cupy() is inner
            fast, checked = (source.module(np.dtype(np.float32)) for _ in range(2))
            assert fast is checked and fast.compiled.owner.build == "checked"
            raise ZeroDivisionError
        assert driver.cupy() is outer and source.module(np.dtype(np.float32)).compiled.owner.build == "fast"
    assert driver._cupy == before


def test_a_second_process_finds_what_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_EMULATOR_CACHE", str(tmp_path))
    cache_folder.cache_clear()
    try:
        text = 'extern "C" __global__ void k(int n) {}'
        prebuild([(text, ()), (text, ("-DREAL=double",))], ["fast"])
        made = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        assert len(made) == 3  # the runtime and two modules
        prebuild([(text, ())], ["fast"])
        assert made == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    finally:
        cache_folder.cache_clear()


# ------------------------------------------------------------------------------------------ the stand-in


def test_host_and_device_do_not_mix():
    with emulated("fast") as cupy:
        x, host = cupy.zeros(3, np.float32), np.zeros(3, np.float32)
        for mixed in (lambda: x + host, lambda: host + x, lambda: np.add(x, 1, out=host),
                      lambda: np.concatenate([x, host]), lambda: cupy.maximum(x, host), lambda: np.asarray(x),
                      lambda: x.__setitem__(slice(None), host),
                      lambda: x.__iadd__(host), lambda: np.where(x > 0, x, host)):  # fmt: skip
            with pytest.raises(TypeError):
                mixed()
        for unknown in (lambda: np.full((), 1.0, np.float32, like=x), lambda: x.max(initial=0),
                        lambda: x * np.array(2.0, np.float32)):  # fmt: skip
            with pytest.raises(TypeError):
                unknown()
        assert np.add(x, 1, out=x) is x and np.maximum(x, 3, out=x) is x and cupy.asnumpy(x).tolist() == [3, 3, 3]
        for allowed in (x + 1, 2.0 * x, x + np.float32(1), np.float32(1) * x, np.maximum(x, 0), np.concatenate([x, x])):
            assert isinstance(allowed, cupy.ndarray)


def test_arrays_lie_as_with_cupy():
    with emulated("fast") as cupy:
        x = cupy.zeros((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2)
        for kept in (cupy.empty_like(x), np.zeros_like(x), x.astype(np.float64), cupy.copy(x)):
            assert kept.transpose(0, 2, 3, 1).flags.c_contiguous
            assert kept.data.ptr % 512 == 0 and kept.data.ptr != x.data.ptr
        for computed in (x + 1, np.maximum(x, 0), x * x, np.where(x > 0, x, 0), x.clip(0, 1)):
            assert computed.flags.c_contiguous
        assert x.copy().flags.c_contiguous  # the method's default order is C
        assert cupy.asarray(np.zeros((2, 5, 7, 3)).transpose(0, 3, 1, 2)).flags.c_contiguous
        view = x[:, 1:, 2:]
        assert view.base is x.base and view.data.ptr == x.data.ptr + 4 + 2 * 7 * 3 * 4
        same = cupy.ndarray(view.shape, view.dtype, x.data + 4 + 2 * 7 * 3 * 4, view.strides)
        same[...] = 5
        assert float(view.sum()) == 5 * view.size == float(x.sum())
        assert x.reshape(-1).shape == (210,) and x.T.shape == (7, 5, 3, 2)


def test_transfers_are_counted():
    with emulated("fast") as cupy:
        transfers.reset()
        x = cupy.asarray(np.zeros(6, np.float32))
        y = (x * 2 + 1).sum() / x.size
        y[...] = 3
        assert transfers == type(transfers)(to_device=1, bytes_to_device=24)
        assert float(y) == 3 and bool(y) and y.item() == 3 and int(y) == 3
        assert (transfers.to_host, transfers.bytes_to_host, transfers.synchronizations) == (4, 16, 4)
        cupy.asnumpy(x)
        x.set(np.ones(6, np.float32))
        cupy.cuda.Device().synchronize()
        assert x[x > 0].size == 6  # the host must learn how many there are
        assert (transfers.to_host, transfers.to_device, transfers.synchronizations) == (5, 2, 7)


def test_memory_is_given_back():
    with emulated("checked") as cupy:
        pool = cupy.get_default_memory_pool()
        before = pool.used_bytes()
        x = cupy.zeros((100, 10), np.float32)
        view = x[50:].T
        assert pool.used_bytes() == before + 4000
        del x
        assert pool.used_bytes() == before + 4000
        del view
        assert pool.used_bytes() == before


# ------------------------------------------------------------------------------------------ counts


def counted(source, name, threads, *extra, floats=4096):
    with emulated("counted") as cupy:
        kernel = source.module(np.dtype(np.float32)).get_function(name)
        x, out = cupy.zeros(floats, np.float32), cupy.empty(floats, np.float32)
        kernel((1,), (threads,), (x, out, *extra), shared_mem=0 if name == "broadcast" else 4 * floats)
        return cupy.counts()[name]


@pytest.mark.parametrize("stride, ways", [(1, 1), (2, 2), (3, 1), (4, 4), (32, 32), (33, 1), (64, 32)])
def test_bank_conflicts_of_strides(source, stride, ways):
    counts = counted(source, "strided", 64, np.int32(stride))
    for traffic in (counts.shared_stores, counts.shared_loads):
        assert (traffic.instructions, traffic.passes, traffic.wavefronts, traffic.worst) == (2, 2, 2 * ways, ways)
        assert traffic.conflicts == 2 * (ways - 1)


@pytest.mark.parametrize("stride, ways", [(4, 1), (8, 2), (32, 8), (36, 1), (12, 1)])
def test_bank_conflicts_of_packs(source, stride, ways):
    stores = counted(source, "strided_packs", 32, np.int32(stride)).shared_stores
    assert (stores.instructions, stores.passes, stores.wavefronts, stores.worst) == (1, 4, 4 * ways, ways)


def test_one_word_for_all_lanes_is_no_conflict(source):
    loads = counted(source, "broadcast", 32).shared_loads
    assert (loads.instructions, loads.wavefronts, loads.conflicts) == (1, 1, 0)


@pytest.mark.parametrize("stride, sectors, lines", [(1, 4, 1), (2, 8, 2), (8, 32, 8), (32, 32, 32)])
def test_transactions_of_strides(source, stride, sectors, lines):
    counts = counted(source, "strided", 32, np.int32(stride))
    loads, stores = counts.global_loads, counts.global_stores
    assert (loads.instructions, loads.accesses, loads.bytes, loads.touched) == (1, 32, 128, 128)
    assert (loads.sectors, loads.lines, loads.line_use) == (sectors, lines, 1 / lines)
    assert (stores.sectors, stores.lines, stores.line_use, stores.sector_use) == (4, 1, 1.0, 1.0)


def test_transactions_of_packs_and_of_shifted_rows(source):
    packs = counted(source, "strided_packs", 32, np.int32(4)).global_loads
    assert (packs.instructions, packs.bytes, packs.sectors, packs.lines, packs.line_use) == (1, 512, 16, 4, 1.0)
    with emulated("counted") as cupy:
        x, out = cupy.zeros(64, np.float32), cupy.empty(64, np.float32)
        source.launch("copied", np.float32, 1, 32, x[1:], out, 64)
        source.launch("copied", np.float32, 1, 32, x[1:], out, 64)
        counts = cupy.counts()["copied"]
    assert (counts.launches, counts.global_loads.sectors, counts.global_loads.lines) == (2, 2 * 5, 2 * 2)
    (line,) = {line for line, _ in counts.by_line}
    assert source.code.splitlines()[line - 1].strip() == RIGHT["copied"]
    assert counts.by_line[line, "global_loads"].sectors == 10


def test_asynchronous_copies_are_counted_once(source):
    with emulated("counted") as cupy:
        x, out = cupy.zeros(512, np.float32), cupy.empty(512, np.float32)
        source.module(np.dtype(np.float32)).get_function("copied_in_stages")((1,), (32,), (x, out))
        counts = cupy.counts()["copied_in_stages"]
    assert counts.global_loads.bytes == 3 * 512  # the fourth only fills with zeros
    assert (counts.shared_stores.instructions, counts.shared_stores.conflicts) == (4, 0)
    assert counts.global_stores.line_use == 1.0


# ------------------------------------------------------------------------------------------ sanitizers

SCRIPT = """
import sys
import numpy as np
from cuda_emulator import emulated
from minunet.kernels.cuda import Source
source = Source(sys.argv[1])
with emulated("sanitized", "random") as cupy:
    out = cupy.empty(64, np.float32)
    source.launch(sys.argv[2], np.float32, 1, 64, cupy.arange(64, dtype=np.float32), out, 64, shared=256)
    assert cupy.asnumpy(out)[0] == 63
print("done")
"""
SANITIZED = {
    "right": (RIGHT["reversed"], ""),
    "written_past": (FAULTS["written_past_the_end"][0], "AddressSanitizer: heap-buffer-overflow.*WRITE of size 4"),
    "read_past": (FAULTS["read_past_the_end"][0], "AddressSanitizer: heap-buffer-overflow.*READ of size 4"),
    "shared_past": (FAULTS["shared_past_the_end"][0], "AddressSanitizer: heap-buffer-overflow.*WRITE of size 4"),
    "overflow": ("out[t] = (n << 25) * 64;", "runtime error: (left shift|signed integer overflow)"),
    "uneven": (FAULTS["barrier_for_some"][0], "EmulationError: uneven: .*uneven barriers"),
}


@pytest.fixture(scope="module")
def sanitized_text(tmp_path_factory):
    path = tmp_path_factory.mktemp("sanitized") / "small.cu"
    path.write_text('#include "prelude.cuh"\n' + "".join(declared(name, body) for name, (body, _) in SANITIZED.items()))
    return path


@pytest.mark.parametrize("name", SANITIZED)
def test_sanitizers(sanitized_text, name):
    done = run_sanitized(["-c", SCRIPT, str(sanitized_text), name], capture_output=True, text=True)
    if name == "right":
        assert done.returncode == 0 and done.stdout == "done\n", done.stderr
    else:
        assert done.returncode != 0 and re.search(SANITIZED[name][1], done.stderr, re.DOTALL), done.stderr


def test_sanitized_build_needs_its_own_process():
    if not is_sanitized():
        with pytest.raises(EmulationError, match="run_sanitized"), emulated("sanitized"):
            pass


# ------------------------------------------------------------------------------------------ the page about it

PAGE = pages.ROOT / "docs" / "cuda-emulator.md"


def test_programs_of_the_page_print_what_it_shows():
    program, said = pages.Program(PAGE.name), pages.blocks(PAGE.read_text(encoding="utf-8"))
    shown = [(block, after.text) for block, after in itertools.pairwise(said) if block.language == "python"]
    assert len(shown) == 3
    for block, text in shown:
        assert program.run(block) == text


def test_page_lists_every_wrapper():
    """Those that the prelude has for a device only."""
    prelude = (pages.ROOT / "kernels" / "cuda" / "prelude.cuh").read_text(encoding="utf-8")
    device = prelude[prelude.index("#else") :]
    wrappers = set(re.findall(r"__forceinline__ [\w:*]+\*? (\w+)\(", device))
    assert {"load_pack", "dynamic_shared", "copy_async_wait", "mma_tf32"} <= wrappers
    twins = (pages.ROOT / "tests" / "cuda_emulator" / "device_twins.hpp").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| wrapper \|.*?\n\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name in wrappers:
        assert re.search(rf"`{name}\b", table) and re.search(rf"\b{name}\(", twins), name
