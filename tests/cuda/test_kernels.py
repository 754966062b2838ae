"""Every CUDA variant over the one case list, its own source executed on the emulator.

Every access to memory is watched: bounds, races between threads, numbers that nobody wrote.  Results are those of the
reference, to the last bit where the list says so, and the same bits whatever the order of blocks and threads.
"""

import pytest
from cuda_emulator import emulated
from drawn_cases import LAYOUTS, convolutions, others, up_convolutions
from hypothesis import given, settings

from minunet.kernels import KERNELS, cases

pytestmark = pytest.mark.cuda_emulated

SCHEDULES = ("ascending", "descending", "random")
# Outputs that lie otherwise than the inputs come last.
LAID = [*((layout, layout) for layout in cases.LAYOUTS), ("channels_last", "contiguous"), ("sliced", "channels_last")]


# For more than one of every block, part and share: smaller than the large cases of the list, for the emulator is slow.
LARGE = [
    *cases.table("conv2d", cases.CONV2D, "2 70  40 31 37  3 3 1 1 0", "1 260 24 7 31 3 3 0 0 1"),
    *cases.table("conv_transpose2d", cases.UP, "2 70 40 15 61 2 1"),
    *(case for case in cases.select("large") if case.kernel not in ("conv2d", "conv_transpose2d")),
]


def variants(case):
    """The variants that run a case on a GPU; the one for tensor cores hands float64 on to another."""
    return [v for v in cases.device_variants(case.kernel) if case.dtype == "float32" or v.name != "cuda_tensor"]


def listed(some):
    """(case, variant) for some cases and every variant that runs on a GPU."""
    return [pytest.param(case, v.name, id=f"{case.name}-{v.name}") for case in some for v in variants(case)]


def kinds_of_values(kernel):
    return ("integers", "floats") if kernel in cases.EXACT else ("floats",)


def check(case, variant, call, out_layout="channels_last", expected=None):
    v = KERNELS[case.kernel].variant(variant)
    module = KERNELS[case.kernel].load(variant)
    cases.check(module, case.kernel, call, out_layout, expected, v.exact, True, v.product_error)


def test_every_room_has_kernels_for_the_gpu():
    for kernel in KERNELS:
        assert cases.device_variants(kernel), f"{kernel} has none"


@pytest.mark.parametrize("case, variant", listed(cases.select("test")))
def test_case_in_every_layout(case, variant):
    """Integers show in every layout that a number is the wrong one; how floats are rounded, two of them show."""
    first, *others = kinds_of_values(case.kernel)
    for values, laid in [(first, LAID), *((values, LAID[1:3]) for values in others)]:
        for turn, (in_layout, out_layout) in enumerate(laid):
            with emulated("checked", SCHEDULES[turn % 3], seed=turn):
                for call in cases.calls(case, values, in_layout):
                    check(case, variant, call, out_layout)


@pytest.mark.parametrize("case, variant", listed(cases.select("test")))
def test_the_same_bits_under_every_schedule(case, variant):
    """Races are looked for above."""
    module = KERNELS[case.kernel].load(variant)
    for call in cases.calls(case, "floats"):
        found = []
        for turn, schedule in enumerate(SCHEDULES):
            with emulated("fast", schedule, seed=turn):
                found.append(cases.run(module, call, on_device=True))
        for name in call.outputs:
            bits = {result[name].tobytes() for result in found}
            assert len(bits) == 1, f"{call.function}: {name} depends on the order of threads"


@pytest.mark.parametrize("case, variant", listed(case for case in LARGE if case.dtype == "float32"))
def test_large_case(case, variant):
    for call in cases.calls(case, kinds_of_values(case.kernel)[0]):
        with emulated("fast", "random", seed=1):
            check(case, variant, call)


# -------------------------------------------------------------------------------------- generated shapes


def hold_against_reference(case, in_layout, out_layout):
    for call in cases.calls(case, kinds_of_values(case.kernel)[0], in_layout):
        expected = cases.truth(case.kernel, call)
        for v in variants(case):
            with emulated("fast", "random"):
                check(case, v.name, call, out_layout, expected)


@settings(max_examples=20)
@given(convolutions(), LAYOUTS, LAYOUTS)
def test_generated_convolutions(case, in_layout, out_layout):
    hold_against_reference(case, in_layout, out_layout)


@settings(max_examples=25)
@given(up_convolutions(), LAYOUTS, LAYOUTS)
def test_generated_up_convolutions(case, in_layout, out_layout):
    hold_against_reference(case, in_layout, out_layout)


@settings(max_examples=60)
@given(others(), LAYOUTS, LAYOUTS)
def test_generated_cases_of_other_kernels(case, in_layout, out_layout):
    hold_against_reference(case, in_layout, out_layout)
