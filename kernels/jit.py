"""How loops are compiled: two decorators.

A function is compiled for the types of its arguments when it is first called with them.  Machine code is kept between
processes (code_cache.py), so a second process compiles nothing; an edit is never answered with old code (sources.py).
"""

import inspect
import logging
import time
from pathlib import Path
from typing import Any

import numba
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock

from . import compiling, threads
from .code_cache import CodeCache

logger = logging.getLogger(__name__)
_functions: list[Any] = []  # what Numba made of each


def serial(function):
    """Compile a function that runs on the thread it is called in; workers.py calls it on several threads at once."""
    dispatcher: Any = numba.njit(error_model="numpy", nogil=True)(function)
    if not numba.config.DISABLE_JIT:  # else it is the function as it was
        path = Path(inspect.getfile(function)).absolute()
        if path.is_file():  # else typed into an interpreter, where nothing tells whether kept code is stale
            dispatcher._cache = CodeCache(function, path)
        _functions.append(dispatcher)
    return dispatcher


def apart(function):
    """As `serial`, for a function that writes to no array that it gets a second time under another name.

    Other loops look before they start whether what they write overlaps what they read, since only then they may take
    several numbers at once.  Where a loop is as short as the channels of a pixel that takes as long as the loop.
    """
    dispatcher = serial(function)
    if not numba.config.DISABLE_JIT:
        dispatcher._compiler._customize_flags = _without_overlaps
    return dispatcher


def _without_overlaps(flags):
    flags.noalias = True
    return flags


threads.hold_over_forks(global_compiler_lock)  # a child could compile nothing without the thread that has it


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
