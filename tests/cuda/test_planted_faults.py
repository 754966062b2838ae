"""Faults that people make in CUDA kernels, planted in ours one at a time: the case list on the emulator finds each.

`mutants.py` beside this file plants many more, at random; these are the ones that must never get by.
"""

import importlib
from dataclasses import dataclass

import numpy as np
import pytest
from cuda_emulator import EmulationError, emulated

from minunet.kernels import KERNELS, cases
from minunet.kernels.cuda import launch

pytestmark = pytest.mark.cuda_emulated


@dataclass(frozen=True)
class Fault:
    """In the file `file` below kernels/, `before` becomes `after`; the variant of a kernel shows it."""

    kind: str
    file: str
    before: str
    after: str
    kernel: str
    variant: str

    def __str__(self) -> str:
        return f"{self.kind} in {self.file}"


CORRELATION, IM2COL = "cuda/correlation.cu", "conv2d/cuda_im2col.cu"
CONV, BOOK, UP = ("conv2d", "cuda_implicit"), ("conv2d", "cuda_im2col"), ("conv_transpose2d", "cuda_implicit")
LOOPS = "cuda_loops"

FAULTS = [
    Fault(
        "missing barrier",
        CORRELATION,
        "__syncthreads();\n    }\n    write_back",
        "}\n    write_back",
        *CONV,
    ),
    Fault(
        "missing barrier",
        CORRELATION,
        "__syncthreads();\n    const int thread = row",
        "const int thread = row",
        *CONV,
    ),
    Fault(
        "missing barrier",
        IM2COL,
        "add_products(sums, of_pixels, of_outputs);\n        }\n        __syncthreads();",
        "add_products(sums, of_pixels, of_outputs);\n        }",
        *BOOK,
    ),
    Fault(
        "missing barrier",
        "cuda/sums.cuh",
        "sums.at[k];\n    __syncthreads();",
        "sums.at[k];",
        "batch_norm",
        LOOPS,
    ),
    Fault(
        "barrier that some threads skip",
        "cuda/sums.cuh",
        "            for (int k = 0; k < PACK; k++) shared[k * THREADS + thread] += shared[k * THREADS + "
        "thread + half * across];\n        }\n        __syncthreads();",
        "            for (int k = 0; k < PACK; k++) shared[k * THREADS + thread] += shared[k * THREADS + "
        "thread + half * across];\n            __syncthreads();\n        }",
        "relu",
        LOOPS,
    ),
    Fault(
        "off-by-one bound",
        CORRELATION,
        "if (h >= y.height || w >= y.width) continue;",
        "if (h > y.height || w >= y.width) continue;",
        *CONV,
    ),
    Fault(
        "off-by-one bound",
        CORRELATION,
        "unsigned(w + int(j)) < unsigned(x.width)",
        "unsigned(w + int(j)) <= unsigned(x.width)",
        *CONV,
    ),
    Fault(
        "off-by-one bound",
        "relu/cuda_loops.cu",
        "const index end = end_of_block(pixels_of_block, pixels);",
        "const index end = end_of_block(pixels_of_block, pixels) + 1;",
        "relu",
        LOOPS,
    ),
    Fault(
        "off-by-one bound",
        "max_pool2d/cuda_loops.cu",
        "where < k * k;",
        "where < k * k - 1;",
        "max_pool2d",
        LOOPS,
    ),
    Fault(
        "off-by-one bound",
        "resize/cuda_loops.cu",
        "min(low + 1, size_in - 1)",
        "min(low + 1, size_in)",
        "resize",
        LOOPS,
    ),
    Fault(
        "swapped index",
        CORRELATION,
        "i * x.row + j * x.pixel + c",
        "j * x.row + i * x.pixel + c",
        *CONV,
    ),
    Fault(
        "swapped index",
        CORRELATION,
        "(index(h) * y.spread + i) * y.row + (index(w) * y.spread + j) * y.pixel",
        "(index(h) * y.spread + j) * y.row + (index(w) * y.spread + i) * y.pixel",
        *UP,
    ),
    Fault(
        "swapped index",
        IM2COL,
        "a[ty + SIDE * r][term]",
        "a[tx + SIDE * r][term]",
        *BOOK,
    ),
    Fault(
        "unwritten output",
        CORRELATION,
        "for (int m = 0; m < 2 * PACK; ++m) {\n            const int at",
        "for (int m = 1; m < 2 * PACK; ++m) {\n            const int at",
        *CONV,
    ),
    Fault(
        "unwritten output",
        "max_pool2d/cuda_loops.cu",
        "for (int i = 0; i < k && at.h * k + i < rows; i++)",
        "for (int i = 0; i < k && at.h < height; i++)",
        "max_pool2d",
        LOOPS,
    ),
    Fault(
        "unwritten output",
        "cuda/loops.cuh",
        "if (k < count) to[k] = value.at[k];",
        "if (k + 1 < count) to[k] = value.at[k];",
        "batch_norm",
        LOOPS,
    ),
    Fault(
        "turned sign",
        CORRELATION,
        "- window.top",
        "+ window.top",
        *CONV,
    ),
    Fault(
        "turned sign",
        "batch_norm/cuda_loops.cu",
        "other.mean.at[k] - all.mean",
        "other.mean.at[k] + all.mean",
        "batch_norm",
        LOOPS,
    ),
]


def plant(monkeypatch, fault):
    """Every source is read anew, the faulty file with its fault."""
    plain = launch.text_of

    def text_of(path):
        text = plain(path)
        if path.as_posix().endswith(f"/kernels/{fault.file}"):
            assert fault.before in text, f"{fault.file} no longer holds what the fault replaces"
            text = text.replace(fault.before, fault.after, 1)
        return text

    monkeypatch.setattr(launch, "text_of", text_of)
    modules = [KERNELS[fault.kernel].load(fault.variant)]
    modules += [importlib.import_module(f"minunet.kernels.cuda.{name}") for name in ("correlation", "sums")]
    for module in modules:
        if hasattr(module, "SOURCE"):
            monkeypatch.setattr(module, "SOURCE", launch.Source(module.SOURCE.path))


@pytest.mark.parametrize("fault", [pytest.param(f, id=f"{k}-{f}") for k, f in enumerate(FAULTS)])
def test_a_planted_fault_is_found(monkeypatch, fault):
    plant(monkeypatch, fault)
    v = KERNELS[fault.kernel].variant(fault.variant)
    module = KERNELS[fault.kernel].load(fault.variant)
    with pytest.raises((AssertionError, EmulationError)) as found:
        for case in cases.select("test", fault.kernel, "float32"):
            for call in cases.calls(case, "integers" if case.kernel in cases.EXACT else "floats", "cropped"):
                with emulated("checked"):
                    cases.check(module, case.kernel, call, "cropped", None, v.exact, True, v.product_error)

    assert "compile" not in str(found.value), "the fault is no C++ any more"


def test_an_argument_of_the_wrong_type_is_refused():
    with emulated("fast") as cupy:
        source = KERNELS["relu"].load(LOOPS).SOURCE
        kernel = "forward"
        kinds = source.parameters[kernel]
        right = [cupy.zeros(4, np.float32) if kind.endswith("*") else 4 for kind, _ in kinds]
        source.launch(kernel, np.float32, 1, 32, *right)
        for wrong in (cupy.zeros(4, np.float64), np.zeros(4, np.float32), cupy.zeros(4, np.uint8)):
            with pytest.raises(TypeError, match="must be an array of float32 on the device"):
                source.launch(kernel, np.float32, 1, 32, *[wrong if a is right[0] else a for a in right])
        with pytest.raises(TypeError, match="takes"):
            source.launch(kernel, np.float32, 1, 32, *right[:-1])
        with pytest.raises(TypeError, match="must be an integer"):
            source.launch(kernel, np.float32, 1, 32, *[4.5 if isinstance(a, int) else a for a in right])
