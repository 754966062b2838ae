"""How our loops are compiled: the two decorators, and the threads that compiled code runs on.

What is compiled, and when: a function for the types of its arguments, when it is first called with them.  Machine code
is kept between processes (code_cache.py), so a second process compiles nothing; an edit is never answered
with old code (sources.py).
"""

import contextlib
import ctypes
import functools
import importlib
import inspect
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from . import compiling, threads
from .code_cache import CodeCache

logger = logging.getLogger(__name__)
_functions: list[Any] = []  # what Numba made of each


def serial(function):
    """Compile a function that runs on one thread, to be called from compiled code."""
    return _compile(function)


def parallel(function):
    """Compile a function whose `prange` loops run on all threads, to be called from Python.

    Calls are serialised: some of Numba's threading layers abort the process when two threads enter at once, and
    with the others two calls would share the same cores.
    """
    dispatcher = _compile(function, parallel=True)

    @functools.wraps(function)
    def call(*arguments):
        with _one_at_a_time:
            count = threads.count()
            if count != getattr(_asked, "count", None):
                _use_threads(count)
            return dispatcher(*arguments)

    call.dispatcher = dispatcher  # type: ignore[attr-defined]
    return call


def max_threads() -> int:
    """The largest number of threads a `parallel` function runs on; `numba.get_thread_id()` is below it."""
    return numba.config.NUMBA_NUM_THREADS


def _compile(function, **options):
    dispatcher: Any = numba.njit(error_model="numpy", nogil=True, **options)(function)
    if not numba.config.DISABLE_JIT:  # else it is the function as it was
        with contextlib.suppress(OSError):  # typed into an interpreter: no file could tell whether kept code is stale
            dispatcher._cache = CodeCache(function, Path(inspect.getfile(function)).absolute())
        _functions.append(dispatcher)
    return dispatcher


# --------------------------------------------------------------------------------------------------- compilations


def statistics() -> dict[str, tuple[int, int]]:
    """How often each function that was used in this process was (found in the cache, compiled)."""
    found: dict[str, tuple[int, int]] = {}
    for function in _functions:
        name = f"{function.py_func.__module__}.{function.py_func.__qualname__}"
        loaded, compiled = found.get(name, (0, 0))
        stats = function.stats
        found[name] = loaded + sum(stats.cache_hits.values()), compiled + sum(stats.cache_misses.values())
    return {name: counts for name, counts in found.items() if any(counts)}


class _Announce(event.Listener):
    """Tells `compiling` and the log when one of our functions begins and ends to be compiled.

    Numba compiles one function at a time, and those that it calls in between.
    """

    def __init__(self) -> None:
        self._begun: list[float] = []

    def on_start(self, event):
        if _is_ours(event):
            self._begun.append(time.monotonic())
            if len(self._begun) == 1:
                compiling.begin()

    def on_end(self, event):
        if _is_ours(event):
            seconds = time.monotonic() - self._begun.pop()
            function = event.data["dispatcher"].py_func
            logger.info("compiled %s.%s in %.1f s", function.__module__, function.__qualname__, seconds)
            if not self._begun:
                compiling.end()


def _is_ours(event) -> bool:
    return isinstance(event.data["dispatcher"]._cache, CodeCache)


event.register("numba:compile", _Announce())


# -------------------------------------------------------------------------------------------------------- threads

_one_at_a_time = threading.RLock()
_asked = threading.local()  # Numba counts threads for each Python thread
_forked = False


def _use_threads(count: int) -> None:
    numba.set_num_threads(1 if _forked else min(count, max_threads()))  # takes 2 us
    _asked.count = count


def _go_on_alone() -> None:
    """In a forked child: GNU OpenMP's threads are gone, and Numba would end a process that calls for them.

    One thread needs none of them.  Numba finds out by the process that it was started in, so it is started again.
    """
    global _forked
    _asked.__dict__.clear()
    try:
        layer = numba.threading_layer()
    except ValueError:  # nothing ran in parallel yet: the child begins afresh
        return
    if layer == "omp":
        omppool: Any = importlib.import_module("numba.np.ufunc.omppool")
        if omppool.openmp_vendor == "GNU":
            ctypes.CFUNCTYPE(None, ctypes.c_int)(omppool.launch_threads)(max_threads())
            _forked = True


threads.hold_over_forks(_one_at_a_time)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_on_alone)
