"""NumPy's matrix products on several threads, with bits that do not depend on how many.

OpenBLAS, which NumPy's wheels bring, cuts a product in other places when it uses several threads itself, and then
rounds differently; what surrounds a product (copies, sums) would run on one thread besides.  So each product is left
on one thread, and we share out whole pieces of work, cut by the shapes alone.  With another BLAS its own threads stay
as they are: right results, but their bits may depend on the threads.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import threads

Item = TypeVar("Item")
Result = TypeVar("Result")

ROWS = 2048  # rows of a matrix that are multiplied at a time
_lock = threading.Lock()
_inside = 0  # blocks of `one_blas_thread` that are running
_before = 1  # BLAS threads before the first of them


def share_out(function: Callable[[Item], Result], work: Iterable[Item]) -> list[Result]:
    """[function(item) for item in work] on `threads.count()` threads, BLAS on one thread in each."""
    work = list(work)
    with one_blas_thread() as alone:
        if alone and threads.count() > 1 and len(work) > 1:
            return list(_pool(threads.count()).map(function, work))
        return [function(item) for item in work]


def product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out (M, N) = a (M, K) @ b (K, N), shared out by rows."""

    def rows(start: int) -> None:
        np.matmul(a[start : start + ROWS], b, out=out[start : start + ROWS])

    share_out(rows, range(0, len(a), ROWS))


def product_over_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (K, M)^T @ b (K, N): the sum over rows, cut into at most 8 shares that are added in their order."""
    share = max(ROWS, -(-len(a) // 8))
    parts = share_out(lambda start: a[start : start + share].T @ b[start : start + share], range(0, len(a), share))
    return functools.reduce(np.add, parts)


@functools.cache
def _pool(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="minunet")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of our threads


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
