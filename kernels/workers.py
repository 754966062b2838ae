"""Threads that share one call of compiled code.

A kernel's work is cut into numbered tasks.  `run` calls a compiled function f(worker, counter, ...), which asks
`simd.next_task(counter)` for a task until there is none, in the caller's thread, and offers the same call to helper
threads.  `share` does so with a plain loop f(first, last, ...) over ranges of tasks.  Whoever comes first gets the next
one; what a task computes depends on its number alone, so results do not depend on who did it.

Why not Numba's own parallel loops: they wait for all threads at the end of every loop, and begin with a fixed share for
each.  On a machine that has something else to do, one thread that is not scheduled holds up the loop for a whole
time slice (16 ms were seen for 10 us of work).  Here a helper that comes late finds nothing left to do, and the caller
withdraws an offer that nobody took.  Neither do two callers at once, or a fork, end the process.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from . import threads

CORES = os.cpu_count() or 1  # of the machine; to ask takes 6 us
LEAST = 1 << 15  # numbers worth a call: 5 to 100 us of work; a call takes 2 us, an offer 3 us, to wake a helper 70 us
AWAKE = 1e-3  # seconds for which a helper looks for more work before it sleeps; to wake it takes 70 us or more
RANGES = 4  # calls for each thread if there is enough to do, so that one that is held up leaves some to others


class _Offer:
    """One call that a helper may make; `claimed` is taken by the helper, or by the caller to withdraw it."""

    def __init__(self, call: Callable[..., None], arguments: tuple) -> None:
        self.call, self.arguments = call, arguments
        self.claimed, self.finished = threading.Lock(), threading.Lock()
        self.finished.acquire()
        self.error: BaseException | None = None

    def take(self) -> None:
        if not self.claimed.acquire(blocking=False):
            return
        try:
            self.call(*self.arguments)
        except BaseException as error:  # handed to the caller
            self.error = error
        finally:
            self._forget()
            self.finished.release()

    def settle(self) -> BaseException | None:
        """Withdraw the offer, or wait until the helper that took it is done; the error that it met, if any."""
        if self.claimed.acquire(blocking=False):
            self._forget()
        else:
            self.finished.acquire()
        return self.error

    def _forget(self) -> None:
        """Keep no array alive: the caller may want its memory at once, and the offer may lie in the queue for long."""
        self.call, self.arguments = None, None  # type: ignore[assignment]


class _Helpers:
    """Threads that wait for offers; as many as were ever asked for."""

    def __init__(self) -> None:
        self._offers: SimpleQueue[_Offer] = SimpleQueue()
        self._count = 0
        self._lock = threading.Lock()

    def offer(self, offers: list[_Offer]) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # the system allows no more threads, or Python is ending
            while self._count < len(offers):
                threading.Thread(target=self._work, name=f"minunet-{self._count + 1}", daemon=True).start()
                self._count += 1
        for offer in offers:
            self._offers.put(offer)

    def _work(self) -> None:
        while True:
            self._next().take()

    def _next(self) -> _Offer:
        """The next offer; one that comes soon is found by looking again and again, others wake this thread."""
        until = time.perf_counter() + AWAKE
        while time.perf_counter() < until:
            with contextlib.suppress(Empty):
                return self._offers.get_nowait()
            time.sleep(0)  # lets other threads, and other processes on this core, go first
        return self._offers.get()


_helpers = _Helpers()


def _forget_helpers() -> None:
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # a forked child has none of our threads


def run(function: Callable[..., None], workers: int, *arguments: Any) -> None:
    """function(worker, counter, *arguments) for worker = 0 ... workers - 1, at once as far as threads come free.

    counter: one int64, 0 at the start.  `function` must not hold the interpreter's lock while it works, and must do all
    that is left to do whenever it is called.  Worker 0 is the caller.
    """
    counter = np.zeros(1, np.int64)
    offers = [_Offer(function, (worker, counter, *arguments)) for worker in range(1, workers)]
    try:
        if offers:
            _helpers.offer(offers)
        function(0, counter, *arguments)
    finally:
        errors = [offer.settle() for offer in offers]
    for error in errors:
        if error is not None:
            raise error


def share(function: Callable[..., None], tasks: int, *arguments: Any, numbers: int) -> None:
    """function(first, last, *arguments) for ranges that together are 0 ... tasks, on all threads.

    numbers: how many are computed in all; a range has at least `LEAST` of them, so small arrays are left to the caller.
    How the ranges are cut depends on the number of threads; what a task computes must not depend on its range.
    """
    workers = count()
    calls = min(RANGES * workers, numbers // LEAST, tasks)
    if workers == 1 or calls < 2:
        function(0, tasks, *arguments)
        return
    size = -(-tasks // calls)
    ranges = iter(range(0, tasks, size))  # shared: what a thread takes is gone for the others

    def work(worker: int, counter: np.ndarray) -> None:
        for first in ranges:
            function(first, min(tasks, first + size), *arguments)

    run(work, min(workers, calls))


def count() -> int:
    """Workers that a call is offered to, and room has to be there for: as many threads as were asked for, or cores."""
    return min(threads.count(), CORES)
