"""Who is told that kernels are being compiled, which takes seconds: nobody, unless a program sets a callback.

Apart from jit.py, so that a program can do so without importing Numba.
"""

import time
from collections.abc import Callable

LOADED_AT = time.time()  # of this package; what is edited later is not what runs in this process (sources.py)

_callback: list[Callable[[bool], None]] = []


def on_compile(callback: Callable[[bool], None] | None) -> None:
    """Call callback(True) when a kernel begins to be compiled, callback(False) when that has ended; None: nobody."""
    _callback[:] = [] if callback is None else [callback]


def begin() -> None:
    for callback in _callback:
        callback(True)


def end() -> None:
    for callback in _callback:
        callback(False)
