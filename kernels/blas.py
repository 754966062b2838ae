"""NumPy's matrix products on several threads, with bits that do not depend on how many.

OpenBLAS, which NumPy's wheels bring, cuts a product in other places when it uses several threads itself, and then
rounds differently; what surrounds a product (copies, sums) would run on one thread besides.  So each product is left
on one thread, and we share out whole pieces of work, cut by the shapes alone.  With another BLAS its own threads stay
as they are: right results, but their bits may depend on the threads.
"""

import ctypes
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import sharing

Item = TypeVar("Item")
Result = TypeVar("Result")

_lock = threading.Lock()
_inside = 0  # blocks of `one_blas_thread` that are running
_before = 1  # BLAS threads before the first of them


def share_out(function: Callable[[Item], Result], work: Iterable[Item]) -> list[Result]:
    """[function(item) for item in work] on `threads.count()` threads, BLAS on one thread in each.

    With another BLAS than OpenBLAS one item comes after the other: its own threads are at work then.
    """
    with one_blas_thread() as alone:
        return sharing.share_out(function, work) if alone else [function(item) for item in work]


@contextmanager
def one_blas_thread() -> Iterator[bool]:
    """BLAS stays on one thread inside the block, whichever Python thread calls it; False where that cannot be had."""
    global _inside, _before
    control = _openblas()
    if control is None:
        yield False
        return
    get, set_ = control
    with _lock:
        if _inside == 0:
            _before = get()
            set_(1)
        _inside += 1
    try:
        yield True
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                set_(_before)


@functools.cache
def _openblas() -> tuple[Any, Any] | None:
    """OpenBLAS's functions to get and set its number of threads, from the library in NumPy's wheel."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(file))  # loaded already: this is the same one
            for name in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads"):
                get, set_ = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
                if get and set_:
                    return get, set_
    return None
