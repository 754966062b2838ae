"""Threads that share one call of compiled code.

A kernel's work is cut into numbered tasks.  `run` calls a compiled function f(worker, counter, ...), which asks
`counters.next_task(counter)` for a task until there is none, in the caller's thread, and offers the same call to helper
threads.  `share` does so with a plain loop f(first, last, ...) over ranges of tasks.  Whoever comes first gets the next
one; what a task computes depends on its number alone, so results do not depend on who did it.

Why not Numba's own parallel loops: they wait for all threads at the end of every loop, and begin with a fixed share for
each.  On a machine that has something else to do, one thread that is not scheduled holds up the loop for a whole
time slice (16 ms were seen for 10 us of work).  Here a helper that comes late finds nothing left to do, and the caller
withdraws an offer that nobody took.  Neither do two callers at once, or a fork, end the process.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from . import cores, threads

CORES = cores.number()
LEAST = 1 << 19  # numbers worth a call of its own: 50 to 500 us of work; a helper comes 10 to 100 us late
FEW = 1 << 23  # multiplications that take one core about 150 us
MOVED = 16  # as many multiplications take as long as moving a number to where it is wanted
AWAKE = 1e-3  # seconds for which a helper looks for more work before it sleeps; to wake it takes 70 us or more
NUMBERS = 8  # that fill a cache line
RANGES = 4  # calls for each thread if there is enough to do, so that one that is held up leaves some to others


def watch(counter: np.ndarray) -> None:
    """Wait for a moment; where there is Numba, counters.py puts its own `watch` here, which looks at the counter."""
    time.sleep(0)  # lets other threads, and other processes on this core, go first


def _wait(counter: np.ndarray) -> None:
    """`watch`, but what goes wrong in it (it may be compiled just now) ends no helper and no wait."""
    try:
        watch(counter)
    except Exception:
        time.sleep(0)


def _zero() -> np.ndarray:
    """A counter, with room around it: nobody else's numbers lie in its cache line."""
    return np.zeros(3 * NUMBERS, np.int64)[NUMBERS : 2 * NUMBERS]


class _Offer:
    """One call that a helper may make; `claimed` is taken by the helper, or by the caller to withdraw it."""

    def __init__(self, call: Callable[..., None], arguments: tuple) -> None:
        # In the caller's context, where NumPy looks up which warnings it shall not give (np.errstate).
        self.call, self.arguments = copy_context().run, (call, *arguments)
        self.claimed, self.finished = threading.Lock(), threading.Lock()
        self.finished.acquire()
        self.done = _zero()
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
            self.done[0] = 1
            self.finished.release()

    def withdraw(self) -> None:
        """Where no helper has taken it, nobody will."""
        if self.claimed.acquire(blocking=False):
            self._forget()
            self.done[0] = 1

    def wait(self) -> None:
        """Until a helper that took it is done; may be called again where it was interrupted."""
        if not self.done[0]:
            _wait(self.done)  # most often it is a matter of microseconds; to fall asleep and be woken takes 50
        while not self.done[0]:
            self.finished.acquire(timeout=1.0)

    def _forget(self) -> None:
        """Keep no array alive: the caller may want its memory at once, and the offer may lie in the queue for long."""
        self.call, self.arguments = None, None  # type: ignore[assignment]


class _Helpers:
    """Threads that wait for offers; as many as were ever asked for."""

    def __init__(self) -> None:
        self._offers: SimpleQueue[_Offer] = SimpleQueue()
        self._next_counter = _zero()
        self._threads: list[threading.Thread] = []
        self._core: int | None = None  # that of the last caller, which they keep off
        self._lock = threading.Lock()

    def counter(self) -> np.ndarray:
        """A counter for a call: the one that the helpers watch."""
        with self._lock:
            counter, self._next_counter = self._next_counter, _zero()
        return counter

    def offer(self, offers: list[_Offer]) -> None:
        core = cores.here()
        with self._lock, contextlib.suppress(RuntimeError):  # the system allows no more threads, or Python is ending
            while len(self._threads) < len(offers):
                thread = threading.Thread(target=self._work, name=f"minunet-{len(self._threads) + 1}", daemon=True)
                thread.start()
                self._threads.append(thread)
                self._core = None
            if core != self._core:
                cores.keep_off(core, [thread.native_id for thread in self._threads])
                self._core = core
        for offer in offers:
            self._offers.put(offer)

    def _work(self) -> None:
        while True:
            self._next().take()

    def _next(self) -> _Offer:
        """The next offer; one that comes soon is found by looking again and again, others wake this thread."""
        until = time.perf_counter() + AWAKE
        while time.perf_counter() < until:
            counter = self._next_counter  # before the look at the offers: the one that comes after it is not missed
            with contextlib.suppress(Empty):
                return self._offers.get_nowait()
            _wait(counter)
        return self._offers.get()


_helpers = _Helpers()


def _forget_helpers() -> None:
    global _helpers
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # a forked child has none of our threads


def run(function: Callable[..., None], workers: int, *arguments: Any) -> None:
    """function(worker, counter, *arguments) for worker = 0 ... workers - 1, at once as far as threads come free.

    counter: int64, counter[0] is 0 at the start.  `function` must not hold the interpreter's lock while it works, and
    must do all that is left to do whenever it is called.  Worker 0 is the caller.
    """
    if workers == 1:
        function(0, _zero(), *arguments)
        return
    counter = _helpers.counter()
    offers = [_Offer(function, (worker, counter, *arguments)) for worker in range(1, workers)]
    try:
        _helpers.offer(offers)
        function(0, counter, *arguments)
    finally:
        _settle(offers)
    for offer in offers:
        if offer.error is not None:
            raise offer.error


def _settle(offers: list[_Offer]) -> None:
    """Nobody works on the call any more when this ends; an interrupt waits until then: the arrays are the caller's."""
    interrupt = None
    for offer in offers:
        offer.withdraw()
    for offer in offers:
        while not offer.done[0]:
            try:
                offer.wait()
            except KeyboardInterrupt as asked:
                interrupt = asked
    if interrupt is not None:
        raise interrupt


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

    def work(worker: int, counter: np.ndarray) -> None:  # never moves the counter, so a helper comes later
        for first in ranges:
            function(first, min(tasks, first + size), *arguments)

    run(work, min(workers, calls))


def count(multiplications: float = math.inf) -> int:
    """Workers that a call is offered to, and room has to be there for: as many threads as were asked for, or cores.

    multiplications: of the call, about; one worker alone is sooner done with few of them.
    """
    return 1 if multiplications < FEW else min(threads.count(), CORES)
