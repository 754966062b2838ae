"""The memory that Python's allocator hands out while something runs."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def peak() -> Iterator[Callable[[], int]]:
    """Within the block: the most bytes so far since it began, by what is called.

    What earlier tests left behind is not collected within: their finalizers, and the warnings that these may print,
    would be counted, and when they run depends on which tests a process has had.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        if was_enabled:
            gc.enable()
