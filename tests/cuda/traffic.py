"""How the convolutions use memory, counted exactly on the emulator: bank conflicts, and the used part of each line."""

from __future__ import annotations

from typing import Any

from cuda_emulator import emulated

from minunet.bench.gpu.kernels import on_device
from minunet.kernels import KERNELS, cases

SIDES = {"n": 1, "h": 18, "w": 20}  # more than one tile of pixels, and edges of tiles
CONV = {"kh": 3, "kw": 3, "padding": 1, "bias": 0, "relu": 0, **SIDES}
LAYERS = (
    cases.Case("conv2d", {"c": 32, "o": 32, **CONV}),
    cases.Case("conv2d", {"c": 64, "o": 64, **CONV}),
    cases.Case("conv_transpose2d", {"c": 64, "o": 32, "s": 2, "bias": 0, **SIDES}),
)


def count(case: cases.Case, function: str, variant: str) -> dict[str, Any]:
    """{kernel: counts} of one call."""
    call = next(call for call in cases.calls(case) if call.function == function)
    with emulated("counted") as cupy:
        on_device(KERNELS[case.kernel].load(variant), call)()
        return cupy.counts()


def rows() -> list[list[Any]]:
    """[case, function, variant, kernel, and of its memory accesses the figures named in HEAD]"""
    found = []
    for case in LAYERS:
        for variant in cases.device_variants(case.kernel):
            for function in KERNELS[case.kernel].functions:
                for kernel, counts in count(case, function, variant.name).items():
                    loads, stores = counts.global_loads, counts.global_stores
                    conflicts = counts.shared_loads.conflicts, counts.shared_stores.conflicts
                    used = (round(traffic.line_use, 3) for traffic in (loads, stores))
                    found.append([case.name, function, variant.name, kernel, *used, *map(bool, conflicts)])
    return found


HEAD = ["case", "function", "variant", "kernel", "of the lines loaded", "of the lines stored to", "conflicts of loads",
        "conflicts of stores"]  # fmt: skip
