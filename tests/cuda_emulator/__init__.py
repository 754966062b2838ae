"""Runs CUDA C kernels without a GPU: the same text, compiled by a C++ compiler, every CUDA thread a fibre.

    from cuda_emulator import emulated

    with emulated(build="checked") as cupy:
        kernel = cupy.RawModule(code=text, options=("-DREAL=float",)).get_function("kernel")
        kernel((blocks,), (threads,), (cupy.asarray(x), np.int32(n)))

docs/cuda-emulator.md says what it is faithful to and what not.
"""

from .arrays import transfers
from .building import BUILDS, compiler, prebuild
from .context import emulated
from .errors import EmulationError
from .sanitized import is_sanitized, run_sanitized

__all__ = ["BUILDS", "EmulationError", "compiler", "emulated", "is_sanitized", "prebuild", "run_sanitized", "transfers"]
