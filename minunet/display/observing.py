"""Operations watched from outside: the one hook of autograd.py, and where in the program an operation was called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from minunet.autograd import VJP, Tensor, state
from minunet.nn import Module

# (name, result, inputs, vjps, upstream), as `autograd.record` has them -> the vjps and the upstream to be recorded
Observer = Callable[[str, Tensor, Sequence[Tensor], Sequence[VJP], Any], tuple[Sequence[VJP], Any]]


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Inside the ``with`` block every operation of this thread is shown to the observer before it is recorded.

    What it returns is recorded in place of the operation's own VJPs and upstream: these, or others that call them.  It
    must not keep the Tensors, or their memory is not free when nobody else needs them.
    """
    previous, state.observers = state.observers, (*state.observers, observer)
    try:
        yield
    finally:
        state.observers = previous


@dataclass(frozen=True)
class Place:
    """Where an operation is called.

    line: "FILE:LINE" of the innermost frame that is no code of minunet, "" if there is none.
    modules: those whose forward runs, the outermost first.
    """

    line: str
    modules: tuple[Module, ...]


def place() -> Place:
    """Where the caller of this function, an observer, was called from."""
    line, modules = "", []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not line and not _is_ours(frame):
            line = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_code.co_name in ("forward", "__call__") and isinstance(module := frame.f_locals.get("self"), Module):
            modules.append(module)
        frame = frame.f_back
    return Place(line, tuple(reversed(modules)))


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_globals.get("__package__") or frame.f_globals.get("__name__") or ""
    return name.partition(".")[0] == "minunet"


def submodules(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """(dotted name, module) of all modules below this one."""
    for name, value in list(vars(module).items()):
        if isinstance(value, Module):
            yield prefix + name, value
            yield from submodules(value, f"{prefix}{name}.")
