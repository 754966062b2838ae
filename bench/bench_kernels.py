"""Times of every variant at the layers of real networks: pytest bench [-k "conv2d and forward"] [--benchmark-json FILE]

Each result is first held against the reference.  At the end, and in the JSON, stand GFLOP/s, GB/s and percent of what
this machine allows, by limits that are measured in the same run.  `minunet bench KERNEL` shows variants timed in turns,
and peers beside them; these suites are for pytest-benchmark's statistics and its comparison of saved runs.
"""

import pytest

from minunet.bench import kernels, limits
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
        call = kernels.call_of(case, function)
        last.update(key=(case.name, function), call=call, expected=cases.truth(case.kernel, call))
    return last["call"], last["expected"]


@pytest.mark.parametrize("case, function, variant", SUITE)
def test_kernel(benchmark, timed, case, function, variant):
    call, expected = call_and_truth(case, function)
    (given,) = (given for given in kernels.variants(case.kernel) if given.name == variant)
    assert not kernels.fault_of(given, case.kernel, call, expected=expected)

    runner = kernels.Variant(given, call)
    benchmark.group = f"{case.name} {function}"
    benchmark(runner.run, runner.prepare(kernels.laid(call.inputs)))
    if benchmark.stats:  # none with --benchmark-disable
        seconds, cost, machine = benchmark.stats.stats.median, kernels.cost_of(case.kernel, call), limits.measure()
        benchmark.extra_info["GFLOP/s"] = cost.flops / seconds / 1e9
        benchmark.extra_info["GB/s"] = cost.bytes / seconds / 1e9
        benchmark.extra_info["percent of peak"] = 100 * cost.flops / seconds / machine.peak[case.dtype]
        benchmark.extra_info["percent of bound"] = 100 * cost.share(seconds, machine)
        benchmark.extra_info["limits"] = str(machine)
        timed.append((f"{case.name} {function} {variant}", seconds, cost))
