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


def listed(purpose):
    """(case, variant) for every case of the list and every variant that runs on a GPU."""
    return [
        pytest.param(case, v.name, id=f"{case.name}-{v.name}")
        for case in cases.select(purpose)
        for v in cases.device_variants(case.kernel)
    ]


def kinds_of_values(kernel):
    return ("integers", "floats") if kernel in cases.EXACT else ("floats",)


def check(case, variant, call, out_layout="channels_last", expected=None):
    v = KERNELS[case.kernel].variant(variant)
    module = KERNELS[case.kernel].load(variant)
    cases.check(module, case.kernel, call, out_layout, expected, v.exact, True, v.product_error)


def test_every_room_has_kernels_for_the_gpu():
    for kernel in KERNELS:
        assert cases.device_variants(kernel), f"{kernel} has none"


@pytest.mark.parametrize("case, variant", listed("test"))
def test_case_in_every_layout(case, variant):
    for values in kinds_of_values(case.kernel):
        for turn, (in_layout, out_layout) in enumerate(LAID):
            with emulated("checked", SCHEDULES[turn % 3], seed=turn):
                for call in cases.calls(case, values, in_layout):
                    check(case, variant, call, out_layout)


@pytest.mark.parametrize("case, variant", listed("test"))
def test_the_same_bits_under_every_schedule(case, variant):
    module = KERNELS[case.kernel].load(variant)
    for call in cases.calls(case, "floats"):
        found = []
        for turn, schedule in enumerate(SCHEDULES):
            with emulated("checked", schedule, seed=turn):
                found.append(cases.run(module, call, on_device=True))
        for name in call.outputs:
            bits = {result[name].tobytes() for result in found}
            assert len(bits) == 1, f"{call.function}: {name} depends on the order of threads"


@pytest.mark.parametrize("case, variant", [p for p in listed("large") if p.values[0].dtype == "float32"])
def test_large_case(case, variant):
    for call in cases.calls(case, kinds_of_values(case.kernel)[0]):
        with emulated("fast", "random", seed=1):
            check(case, variant, call)


# -------------------------------------------------------------------------------------- generated shapes


def hold_against_reference(case, in_layout, out_layout):
    for call in cases.calls(case, kinds_of_values(case.kernel)[0], in_layout):
        expected = cases.truth(case.kernel, call)
        for v in cases.device_variants(case.kernel):
            with emulated("fast", "random"):
                check(case, v.name, call, out_layout, expected)


@settings(max_examples=40)
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
