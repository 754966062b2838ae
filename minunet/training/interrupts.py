"""Ctrl-C and SIGTERM between two steps of training, never within one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[None]:
    """Inside the block a signal that would interrupt Python code waits for the block's end.

    A half-made step would leave weights that belong to no step. A second signal does not wait: whoever asks twice
    means now. Signals whose handlers are not Python's (the default end by SIGTERM) act as ever, and so does
    everything outside the main thread, which Python never interrupts.
    """
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    waiting: list[tuple[Any, int, FrameType | None]] = []

    def wait(number: int, frame: FrameType | None) -> None:
        handler: Any = handlers[signal.Signals(number)]
        if waiting:
            handler(number, frame)
        waiting.append((handler, number, frame))

    ours = [number for number, handler in handlers.items() if callable(handler)]
    try:
        for number in ours:
            signal.signal(number, wait)
    except ValueError:  # not the main thread
        ours = []
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, handlers[number])
    for handler, asked, frame in waiting[:1]:
        handler(asked, frame)
