"""Every CUDA variant over the case list once more, compiled with the address and undefined-behaviour sanitizers.

These end the process at the first fault, so the kernels run in processes of their own, with every array alone in its
memory: a byte before or behind it is a red zone.
"""

import subprocess
import sys

import numpy as np
import pytest
from cuda_emulator import emulated
from cuda_emulator.sanitized import environment

from minunet.kernels import KERNELS, cases

pytestmark = pytest.mark.cuda_emulated

LAYOUTS = ("channels_last", "cropped", "sliced")


def run_all(kernel: str) -> int:
    """All calls of a kernel's cases; how many there were."""
    count = 0
    for case in cases.select("test", kernel):
        for layout in LAYOUTS:
            for call in cases.calls(case, "integers" if kernel in cases.EXACT else "floats", layout):
                expected = cases.truth(kernel, call)
                for variant in cases.device_variants(kernel):
                    run(variant, kernel, call, layout, expected)
                    count += 1
    return count


def run(variant, kernel, call, layout, expected):
    """One call, on arrays without a byte to spare."""
    outputs = {name: cases.poisoned(shape, dtype, layout)[0] for name, (shape, dtype) in call.outputs.items()}
    arrays = {name: a for name, a in call.inputs.items() if isinstance(a, np.ndarray)} | outputs
    with emulated("sanitized", "random") as cupy:
        there = {name: cases.sent(a, cases.extent(a), layout == "channels_last")[0] for name, a in arrays.items()}
        getattr(KERNELS[kernel].load(variant.name), call.function)(**{**call.inputs, **there})
        for name in outputs:
            found = np.array(cupy.asnumpy(there[name]))
            rounded = variant.product_error / np.finfo(found.dtype).eps if call.ulps and found.dtype.kind == "f" else 0
            cases.compare(found, expected[name], call.ulps + rounded, f"{variant.name}: {call.function}: {name}")


def test_no_sanitizer_finds_anything_in_any_case():
    """Two processes, for two cores: the convolutions, and all else."""
    groups = [["conv2d"], [name for name in KERNELS if name != "conv2d"]]
    to = {"env": environment(), "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    children = [subprocess.Popen([sys.executable, "-P", __file__, *names], **to) for names in groups]
    for names, child in zip(groups, children, strict=True):
        said, _ = child.communicate(timeout=600)
        assert child.returncode == 0, f"{', '.join(names)}:\n{said[-4000:]}"
        assert f"{', '.join(names)}: " in said and int(said.split()[-1]) >= 100, said


if __name__ == "__main__":
    names = sys.argv[1:]
    print(f"{', '.join(names)}: {sum(map(run_all, names))}")
