"""On which core a thread runs (Linux; elsewhere nothing is known, and nothing done).

A thread that is woken is often put on the core of the thread that woke it.  Where that one goes on to compute, the two
share one core while another is idle, until the system notices: that was seen to take up to 40 ms.  So helpers keep off
the core of their caller.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterable

_getcpu = None
if hasattr(os, "sched_setaffinity"):
    with contextlib.suppress(AttributeError, OSError):
        _getcpu = ctypes.PyDLL(None).sched_getcpu  # PyDLL keeps the interpreter's lock: the call takes 0.2 us

def allowed() -> frozenset[int]:
    """Cores that the calling thread may run on; none where that is not known."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


def number() -> int:
    """How many cores the calling thread may run on."""
    return len(allowed()) or os.cpu_count() or 1


def here() -> int | None:
    """The core that the calling thread runs on at this moment; None where that is not known."""
    return None if _getcpu is None else _getcpu()


def keep_off(core: int | None, threads: Iterable[int | None]) -> None:
    """Let these threads (by their native ids) run where the caller may, but not on this core, if there is another."""
    others = allowed() - {core}
    if core is not None and others:
        for thread in filter(None, threads):  # one that is just being made has no id yet
            with contextlib.suppress(OSError):  # the thread has ended, or cores were taken from the process
                os.sched_setaffinity(thread, others)
