"""Batches made ahead of the steps that take them, in threads of their own.

What a batch holds is a function of its step alone, so neither the number of threads nor who is faster changes it.
Threads rather than processes: NumPy computes without the interpreter's lock, nothing is copied or sent, and it works
wherever Python does. The kernels' threads need not wait for a core that is busy here: their work is shared out as they
come free (kernels/workers.py). Where the system allows it, these threads also stand back behind those.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
AHEAD = 2  # batches for each thread that may lie ready
NICENESS = 10  # of these threads


class Prefetcher(Generic[T]):
    """`get(step)` for first, first + 1, ...; what `make(step)` raises is raised there. Use it in a `with`."""

    def __init__(self, make: Callable[[int], T], first: int = 0, workers: int = 1) -> None:
        """workers: threads; 0 makes each batch when it is asked for."""
        self.make, self.next, self.workers = make, first, workers
        self.waited = 0.0  # seconds that callers of `get` have waited
        self._wanted, self._ready = first, threading.Condition()  # the condition guards all that follows
        self._made: dict[int, tuple[Any, BaseException | None]] = {}
        self._closed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Prefetcher[T]:
        for k in range(self.workers):
            thread = threading.Thread(target=self._work, name=f"minunet-batches-{k + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        for thread in self._threads:
            thread.join()

    def get(self, step: int) -> T:
        """The batch of a step; steps must be asked for in their order."""
        begin = time.perf_counter()
        try:
            return self.make(step) if not self._threads else self._take(step)
        finally:
            self.waited += time.perf_counter() - begin

    def _take(self, step: int) -> T:
        with self._ready:
            self._wanted = step
            self._ready.notify_all()
            while step not in self._made:
                self._ready.wait()
            found, error = self._made.pop(step)
            self._wanted = step + 1
            self._ready.notify_all()
        if error is not None:
            raise error
        return found

    def _work(self) -> None:
        _stand_back()
        while True:
            with self._ready:
                while not self._closed and self.next >= self._wanted + AHEAD * self.workers:
                    self._ready.wait()
                if self._closed:
                    return
                step, self.next = self.next, self.next + 1
            found, error = None, None
            try:
                found = self.make(step)
            except BaseException as fault:  # raised where the batch is wanted
                error = fault
            with self._ready:
                self._made[step] = (found, error)
                self._ready.notify_all()
            del found, error


def _stand_back() -> None:
    """The kernels' threads go first; on Linux alone a thread has a niceness of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
