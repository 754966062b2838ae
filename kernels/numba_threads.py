"""The threads that run `prange` loops: Numba's, of which some threading layers need care.

Our own kernels do not use them (workers.py).
"""

import contextlib
import ctypes
import importlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import numba

from . import threads

SPINS = 1000  # looks for work of a waiting thread before it sleeps

one_at_a_time = threading.RLock()
_asked = threading.local()  # Numba counts threads for each Python thread
_forked = False


def most() -> int:
    """The largest number of threads there can be; `numba.get_thread_id()` is below it."""
    return numba.config.NUMBA_NUM_THREADS


def use() -> None:
    """Let loops that this Python thread starts run on `threads.count()` threads, or as many as there are."""
    count = threads.count()
    if count != getattr(_asked, "count", None):  # Numba takes 2 us to be told
        with _patience():
            numba.set_num_threads(1 if _forked else min(count, most()))  # the first time, this loads the layer
        _asked.count = count


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """If GNU OpenMP is loaded inside, its threads soon go to sleep when they wait; else it stays as it is.

    A thread that waits for the next loop, or for the others at the end of one, asks again and again, since to be woken
    takes 70 us where a look takes 0.1 us.  By itself GNU OpenMP looks 300,000 times, 30 ms on a virtual machine.
    Where another program uses one of the cores, that keeps the very thread that is waited for from running: a network
    that takes 9 ms alone took 35 to 770 ms.  With `SPINS` looks, which outlast the Python code between two kernels, it
    took 16 to 39 ms (with none 11 to 31 ms, but then 15 ms on an idle machine; with `SPINS` 11 ms).
    """
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen:
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)  # read by the library when it is loaded, and by nobody else:
    try:
        yield
    finally:
        if not chosen:
            del os.environ["GOMP_SPINCOUNT"]  # other libraries bring OpenMP too


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
            ctypes.CFUNCTYPE(None, ctypes.c_int)(omppool.launch_threads)(most())
            _forked = True


threads.hold_over_forks(one_at_a_time)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_go_on_alone)
