"""CuPy, and what is said where it, a driver or a device is missing."""

import importlib.util
from types import ModuleType
from typing import Any

import numpy as np

INSTALL = 'pip install "minunet[cuda13]" (or "minunet[cuda12]" for a driver of CUDA 12)'
COMPILER = "pip install nvidia-cuda-nvrtc (or nvidia-cuda-nvrtc-cu12 for a driver of CUDA 12)"
_cupy: list[ModuleType] = []


class DeviceNotFound(RuntimeError):
    """CuPy is there, but no driver or no device that it could use."""


def cupy() -> Any:
    """The module CuPy, once it is known that there is a device.

    Raises ImportError where CuPy or its compiler is not installed and DeviceNotFound where there is no driver or no
    device: one line each, that says what to install.
    """
    if not _cupy:
        _cupy.append(_found())
    return _cupy[-1]


def _found() -> ModuleType:
    if importlib.util.find_spec("cupy") is None:
        raise ImportError(f"CuPy is not installed; install it with: {INSTALL}")
    import cupy

    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceNotFound(f"no NVIDIA driver was found that CuPy {cupy.__version__} can use ({error}); install a "
                             "driver for CUDA 12 or 13, or compute on the CPU") from None  # fmt: skip
    if count == 0:
        raise DeviceNotFound("the NVIDIA driver finds no GPU; compute on the CPU")
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError):  # a library of its own, which CuPy looks for when it first compiles
        raise ImportError(f"CuPy finds no compiler (NVRTC); install it with: {COMPILER}") from None
    return cupy


def is_available() -> bool:
    """Whether there is a device, and CuPy to use it."""
    try:
        cupy()
    except (ImportError, DeviceNotFound):
        return False
    return True


def on_device(array: Any) -> bool:
    """Whether an array lies on a device."""
    # Asked of the class: of an array the attribute is a dictionary, made anew each time.
    return not isinstance(array, np.ndarray) and hasattr(type(array), "__cuda_array_interface__")
