"""Times of every variant at the layers of real networks: pytest bench/bench_kernels.py [-k "conv2d and direct"]

Each result is first held against the reference. GFLOP/s count the operations of the definition, so an
algorithm that saves some may exceed what the processor can do; GB/s count every array once.
"""

import pytest

from minunet.kernels import KERNELS, cases

SUITE = [
    pytest.param(case, function, variant.name, id=f"{case.name}-{function}-{variant.name}")
    for case in cases.select("bench")
    for function in KERNELS[case.kernel].functions
    for variant in cases.variants(case.kernel)
]

last: dict = {}


def call_and_truth(case, function):
    """A case's call and its expected outputs; the last one is kept, since the variants of a case follow one another."""
    if last.get("key") != (case.name, function):
        last.clear()
        (call,) = (call for call in cases.calls(case, "floats") if call.function == function)
        last.update(key=(case.name, function), call=call, expected=cases.truth(case.kernel, call))
    return last["call"], last["expected"]


@pytest.mark.parametrize("case, function, variant", SUITE)
def test_kernel(benchmark, case, function, variant):
    call, expected = call_and_truth(case, function)
    module = KERNELS[case.kernel].load(variant)
    cases.check(module, case.kernel, call, expected=expected)

    outputs = {name: cases.poisoned(shape, dtype, "channels_last")[0] for name, (shape, dtype) in call.outputs.items()}
    benchmark.group = f"{case.name} {function}"
    benchmark(getattr(module, function), **call.inputs, **outputs)
    if benchmark.stats:  # none with --benchmark-disable
        seconds = benchmark.stats.stats.min
        if call.flops:
            benchmark.extra_info["GFLOP/s"] = round(call.flops / seconds / 1e9, 1)
        benchmark.extra_info["GB/s"] = round(call.bytes / seconds / 1e9, 2)
