"""`emulated`: the stand-in in the place of CuPy, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minunet.kernels.cuda import driver

from . import standin
from .building import BUILDS
from .errors import EmulationError
from .launching import Schedule, runtime
from .sanitized import is_sanitized


@contextmanager
def emulated(
    build: str = "fast", schedule: str = "ascending", seed: int = 0, early_copies: bool = False
) -> Iterator[Any]:
    """Within, minunet finds the stand-in where it looks for CuPy; it is handed over as well.

    build: "fast", "checked", "counted", or "sanitized" (see `run_sanitized`).  schedule: the order in which blocks run
    and threads go on after a barrier: "ascending", "descending", "random" (by `seed`).  early_copies: asynchronous
    copies are done where they are issued instead of at the last moment.
    """
    if build not in BUILDS:
        raise ValueError(f"build must be one of {', '.join(BUILDS)}, found {build!r}")
    if build == "sanitized" and not is_sanitized():
        raise EmulationError("the build 'sanitized' needs a process of its own: see run_sanitized")
    owner = runtime(build)
    module = standin.standin(owner, Schedule(schedule, seed, early_copies))
    before = list(driver._cupy)
    driver._cupy[:] = [module]
    standin._current.append(owner)
    try:
        yield module
    finally:
        standin._current.pop()
        driver._cupy[:] = before
