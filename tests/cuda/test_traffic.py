"""Memory accesses of the convolutions, counted on the emulator: no bank conflicts, and whole lines.

A wavefront more than a pass needs is a bank conflict; a line is 128 bytes of global memory.
"""

import importlib.util
import json
from pathlib import Path

import pytest

from minunet.kernels import KERNELS, cases

pytestmark = pytest.mark.cuda_emulated

HERE = Path(__file__).parent


def load():
    """The module beside this file, which is no package."""
    specification = importlib.util.spec_from_file_location("traffic", HERE / "traffic.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


traffic = load()


@pytest.mark.parametrize("case", traffic.LAYERS, ids=str)
def test_the_implicit_gemm_has_no_conflicts_and_loads_whole_lines(case):
    for function in KERNELS[case.kernel].functions:
        found = traffic.count(case, function, "cuda_implicit")
        (main,) = [counts for kernel, counts in found.items() if kernel.startswith(("correlate", "weight"))]
        assert main.shared_loads.passes > 1000 and main.shared_stores.passes > 100 and main.global_loads.lines > 100
        assert (main.shared_loads.conflicts, main.shared_stores.conflicts) == (0, 0), function
        assert main.global_loads.line_use == 1.0, function


def test_a_conflict_would_be_noticed():
    """The one to learn from has some: neighbouring threads store down a column of shared memory."""
    found = traffic.count(traffic.LAYERS[1], "backward_weight", "cuda_im2col")
    assert found["gemm_transposed"].shared_stores.conflicts > 0


def test_the_table_is_the_one_that_is_checked_in():
    head, *recorded = json.loads((HERE / "traffic.json").read_text(encoding="utf-8"))
    assert head == traffic.HEAD
    variants = {v.name for case in traffic.LAYERS for v in cases.device_variants(case.kernel)}
    assert {row[2] for row in recorded} == variants
    assert traffic.rows() == recorded, "run tests/cuda/make_tables.py and look at what changes"
