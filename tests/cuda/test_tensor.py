"""conv2d on tensor cores (TF32): which number goes where in the fragments, and how large the error is.

The shared list of cases runs it too, but its arrays begin at odd addresses, where numbers are copied one by one.  Here
they begin at multiples of 16 bytes, as the device's own do, so that whole packs are copied.
"""

import dataclasses
import re

import numpy as np
import pytest
from cuda_emulator import emulated

import minunet as mn
from minunet import kernels
from minunet.kernels import KERNELS, cases
from minunet.kernels.conv2d import cuda_tensor

pytestmark = pytest.mark.cuda_emulated

COLUMNS = "n c o h w kh kw padding bias relu"
PACKS = [
    "1  64 64  11 13 3  3  0       1    1",  # whole tiles of outputs and steps of 16 terms
    "2  12 132 9  7  3  3  1       1    0",  # parts of them
    "1  36 68  17 1  5  1  3       0    1",  # one column
    "3  16 8   1  37 2  3  4       1    1",  # one row, padding wider than the kernel
    "1  4  4   2  3  1  1  0       0    0",  # fewer terms than a step has
    "1  8  8   1  3  3  3  2       1    0",
    "1  4  20  70 50 3  3  1       1    0",  # several shares of pixels
]  # fmt: skip
NUMBERS = ["1 3 5 40 41 3 3 1 1 1", "1 130 7 6 5 3 3 1 0 0"]


def case(sizes):
    return cases.Case("conv2d", dict(zip(COLUMNS.split(), map(int, sizes.split()), strict=True)))


def aligned(cupy, array, margin):
    """On the device, channels-last; part of a larger picture if there is a margin (of NaN, which must not enter)."""
    n, c, h, w = array.shape
    around = np.full((n, h + 2 * margin, w + 3 * margin, c + 4 * margin), np.nan, array.dtype)
    around[:, margin : margin + h, margin : margin + w, :c] = array.transpose(0, 2, 3, 1)
    return cupy.asarray(around)[:, margin : margin + h, margin : margin + w, :c].transpose(0, 3, 1, 2)


def run(cupy, call, margin=0):
    """The output of a call with aligned pictures."""

    def sent(name, value):
        if not isinstance(value, np.ndarray):
            return value
        return cupy.asarray(value) if name in ("weight", "bias") else aligned(cupy, value, margin)

    shape, dtype = call.outputs["out"]
    nothing = np.full(shape, np.nan, dtype)
    out = cupy.asarray(nothing) if call.function == "backward_weight" else aligned(cupy, nothing, margin)
    inputs = {name: sent(name, value) for name, value in call.inputs.items()}
    getattr(cuda_tensor, call.function)(**inputs, out=out)
    return cupy.asnumpy(out)


def magnitudes(call):
    """The sums of the magnitudes of all terms, in float64."""
    inputs = {name: np.abs(value) if isinstance(value, np.ndarray) else value for name, value in call.inputs.items()}
    return cases.truth("conv2d", dataclasses.replace(call, inputs=inputs))["out"]


def terms(call):
    """How many products are summed up for an output, at most."""
    if call.function == "backward_weight":
        n, _, h, w = call.inputs["grad"].shape
        return n * h * w
    o, c, kh, kw = call.inputs["weight"].shape
    return (c if call.function == "forward" else o) * kh * kw


def share_of_bound(call, found):
    """The largest error, relative to what is allowed."""
    error = np.abs(found - cases.truth("conv2d", call)["out"])
    assert not np.isnan(error).any()
    return (error / (cuda_tensor.error_bound(terms(call)) * np.maximum(magnitudes(call), 1e-30))).max()


@pytest.fixture
def launched(monkeypatch):
    """The names of the kernels that are launched."""
    names = []
    launch = cuda_tensor.SOURCE.launch
    monkeypatch.setattr(cuda_tensor.SOURCE, "launch", lambda name, *a, **k: (names.append(name), launch(name, *a, **k)))
    return names


# ---------------------------------------------------------------------------------------------- fragments


@pytest.mark.parametrize("c, kind", [(36, "packs"), (35, "numbers")])
def test_every_number_has_its_place(c, kind, launched):
    # Pixel p has a 1 in channel p and zeros elsewhere, so the output shows the weights, no two of which are equal: a
    # pixel, term or output that is mixed up with another one shows.
    o = 56
    weight = np.arange(1, o * c + 1, dtype=np.float32).reshape(o, c, 1, 1)
    ones = np.eye(c, dtype=np.float32).reshape(1, c, 1, c)
    with emulated() as cupy:
        out = cupy.empty((1, 1, c, o), np.float32).transpose(0, 3, 1, 2)
        cuda_tensor.forward(aligned(cupy, ones, 0), cupy.asarray(weight), None, 0, False, out)
        np.testing.assert_array_equal(cupy.asnumpy(out)[0, :, 0], weight[:, :, 0, 0])
        gradient = cupy.empty((o, c, 1, 1), np.float32)
        columns = np.ascontiguousarray(weight[:, :, 0, 0]).reshape(1, o, 1, c)
        cuda_tensor.backward_weight(aligned(cupy, columns, 0), aligned(cupy, ones, 0), 0, gradient)
        np.testing.assert_array_equal(cupy.asnumpy(gradient), weight)
    assert launched == ["pack_weight", f"correlate_{kind}", f"weight_{kind}", "add_shares"]


@pytest.mark.parametrize("margin", [0, 1])
@pytest.mark.parametrize("sizes, kind", [*((s, "packs") for s in PACKS), *((s, "numbers") for s in NUMBERS)])
def test_integers_are_exact(sizes, kind, margin, launched):
    for call in cases.calls(case(sizes), "integers", "contiguous"):
        for turn, (schedule, early) in enumerate([("random", False), ("descending", True)]):
            with emulated("fast", schedule, turn, early_copies=early) as cupy:
                cases.compare(run(cupy, call, margin), cases.truth("conv2d", call)["out"], 0, call.function)
    assert set(launched) == {"pack_weight", f"correlate_{kind}", f"weight_{kind}", "add_shares"}


def test_a_picture_of_packs_into_one_of_single_numbers():
    # 8 channels are copied in packs, 5 outputs cannot be written so; and the other way round on the way back.
    for call in cases.calls(case("2 8 5 9 10 3 3 1 1 0"), "integers", "contiguous"):
        with emulated() as cupy:
            cases.compare(run(cupy, call), cases.truth("conv2d", call)["out"], 0, call.function)


@pytest.mark.parametrize("sizes", [PACKS[1], PACKS[2], PACKS[3], NUMBERS[1]])
def test_no_access_is_out_of_bounds_or_in_a_race(sizes):
    for call in cases.calls(case(sizes), "integers", "contiguous"):
        with emulated("checked", "random", seed=2) as cupy:
            cases.compare(run(cupy, call, margin=1), cases.truth("conv2d", call)["out"], 0, call.function)


def test_integers_are_exact_up_to_2048_and_no_further():
    one = np.ones((1, 1, 1, 1), np.float32)
    with emulated() as cupy:
        for number, expected in [(2047, 2047), (2048, 2048), (2049, 2050), (-2049, -2050), (4098, 4100), (4097, 4096)]:
            out = cupy.empty((1, 1, 1, 1), np.float32)
            for x, weight in ((number * one, one), (one, number * one)):  # pictures and weights are rounded apart
                cuda_tensor.forward(cupy.asarray(x), cupy.asarray(weight), None, 0, False, out)
                assert out.item() == expected
            cuda_tensor.backward_weight(cupy.asarray(one), cupy.asarray(number * one), 0, out)
            assert out.item() == expected


# -------------------------------------------------------------------------------------------------- error


@pytest.mark.parametrize("sizes", [*PACKS, *NUMBERS])
def test_error_of_random_numbers_is_within_the_bound(sizes):
    for call in cases.calls(case(sizes), "floats", "contiguous"):
        with emulated() as cupy:
            share = share_of_bound(call, run(cupy, call))
        bound = cuda_tensor.error_bound(terms(call))
        print(f"{call.function}, {terms(call)} terms: {share:.3f} of the bound {bound:.2e}")
        # Numbers that were not rounded would give less than a thousandth.
        assert 0.01 < share <= 1


@pytest.mark.parametrize("terms", [1, 576])
def test_the_bound_is_that_of_two_rounded_factors_and_of_every_addition(terms):
    factors, additions = (1 + 2**-11) ** 2 - 1, (terms + 2) * 2**-22
    assert cuda_tensor.error_bound(terms) == pytest.approx(factors + additions * (1 + 2**-9), rel=1e-12)


@pytest.mark.parametrize("function", ["forward", "backward_input", "backward_weight"])
def test_the_worst_numbers_come_near_the_bound(function):
    # 1 + 2^-11 lies half-way between two TF32 numbers and is rounded up, in both factors and in every term.
    for call in cases.calls(case("1 4 4 3 3 1 1 0 0 0"), "floats", "contiguous"):
        if call.function != function:
            continue
        for name in ("x", "weight", "grad"):
            if name in call.inputs:
                call.inputs[name][...] = 1 + 2**-11
        with emulated() as cupy:
            assert 0.99 < share_of_bound(call, run(cupy, call)) <= 1


def test_nan_goes_where_it_is_read_and_no_further():
    x, weight = np.ones((2, 4, 11, 23), np.float32), np.ones((8, 4, 3, 3), np.float32)
    x[1, 2, 4, 20] = np.nan
    expected = np.zeros((2, 8, 11, 23), bool)
    expected[1, :, 3:6, 19:22] = True
    with emulated() as cupy:
        for relu in (False, True):
            out = aligned(cupy, np.zeros(expected.shape, np.float32), 0)
            cuda_tensor.forward(aligned(cupy, x, 0), cupy.asarray(weight), None, 1, relu, out)
            np.testing.assert_array_equal(np.isnan(cupy.asnumpy(out)), expected)


def test_infinities_stay_what_they_are():
    x = np.array([np.inf, -np.inf, 3, 0], np.float32).reshape(1, 1, 1, 4)
    with emulated() as cupy:
        out = cupy.empty((1, 1, 1, 4), np.float32)
        cuda_tensor.forward(cupy.asarray(x), cupy.asarray(np.full((1, 1, 1, 1), 2, np.float32)), None, 0, False, out)
        np.testing.assert_array_equal(cupy.asnumpy(out), 2 * x)


# ----------------------------------------------------------------------------------------- whom it is for


def test_no_rule_picks_it_and_use_does():
    x, weight = np.ones((1, 4, 5, 5), np.float32), np.ones((4, 4, 3, 3), np.float32)
    seen = []

    def observer(kernel, function, variant, arguments, run):
        seen.append(variant)
        run()

    with emulated() as cupy, kernels.observe(observer):
        sent = cupy.asarray(x), cupy.asarray(weight)
        for policy in ("exact", "fast"):
            with mn.policy(policy):
                kernels.conv2d.forward(*sent)
        with kernels.use(conv2d="cuda_tensor"):
            kernels.conv2d.forward(*sent)
    assert seen == ["cuda_implicit", "cuda_implicit", "cuda_tensor"]


def test_float64_is_computed_in_float64():
    double = dataclasses.replace(case(PACKS[3]), dtype="float64")
    for call in cases.calls(double, "floats", "contiguous"):
        with emulated() as cupy:
            cases.compare(run(cupy, call), cases.truth("conv2d", call)["out"], call.ulps, call.function)


@pytest.mark.parametrize("function", KERNELS["conv2d"].functions)
def test_devices_without_such_tensor_cores_say_so(function, monkeypatch):
    call = next(c for c in cases.calls(case(PACKS[4]), "integers", "contiguous") if c.function == function)
    with emulated() as cupy:
        monkeypatch.setattr(cupy.cuda.Device, "compute_capability", "75")
        with pytest.raises(RuntimeError, match=r"capability 8\.0 or newer, this one has 7\.5: use cuda_implicit"):
            run(cupy, call)


# ------------------------------------------------------------------------- what the emulator has twins of

INSTRUCTIONS = [
    "cp.async.cg.shared.global [to], [global], 16, bytes;",
    "cp.async.commit_group;",
    "cp.async.wait_group N;",
    "cvt.rna.tf32.f32 bits, value;",
    "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {d[0],d[1],d[2],d[3]}, {a[0],a[1],a[2],a[3]}, {b[0],b[1]}, "
    "{d[0],d[1],d[2],d[3]};",
]


def instructions(text):
    """The PTX of every asm statement, with its operands in their places."""
    for statement in re.findall(r"\basm(?: volatile)?\((.*?)\);", text, re.DOTALL):
        operands = re.findall(r'"[=+]?[rlfn]"\(([^()]+)\)', statement)
        words = re.search(r'"(.*?)"', statement)[1]
        yield re.sub(r"%(\d)", lambda place, values=operands: values[int(place[1])], words)


def test_instructions_of_a_device_are_what_their_twins_do():
    """Nothing without a GPU can run them, so they are held against a second writing of them, word for word."""
    text = (cuda_tensor.SOURCE.path.parents[1] / "cuda" / "prelude.cuh").read_text(encoding="utf-8")
    assert list(instructions(text)) == INSTRUCTIONS
    assert "const int bytes = copy ? 16 : 0;" in text  # where there are fewer than 16, zeros are written
    assert "return *reinterpret_cast<const Pack*>(from);" in text
    assert "*reinterpret_cast<Pack*>(to) = value;" in text
