"""How our loops are compiled: the two decorators, the cache of machine code, the threads.

Compiled code is kept in the user's cache directory, under a key that holds the source of the kernel's room and of
every shared file of this folder.  A second process compiles nothing, and an edit is never answered with
old code.
"""

import functools
import hashlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from . import threads

NOT_COMPILED = ("__init__.py", "cases.py", "registry.py", "blas.py")  # no compiled code depends on them

_lock = threading.RLock()


@functools.cache
def source_hash(path: Path) -> str:
    """Hash of a kernel's file together with the other files of its room and all files directly in this folder."""
    folder = Path(__file__).parent
    files = [p for p in folder.glob("*.py") if p.name not in NOT_COMPILED]
    if path.parent != folder:
        files += path.parent.glob("*.py")
    digest = hashlib.sha256()
    for file in (path, *sorted(files)):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """NUMBA_CACHE_DIR if set, else the user's cache directory; a temporary directory where that cannot be written."""
    folder = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else user_cache() / "minunet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="minunet-cache-"))
    return folder


def user_cache() -> Path:
    """Where this platform keeps a user's caches."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", str(Path.home()))
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base)


class _Locator(_CacheLocator):
    """Where Numba's cache puts a kernel, and what makes its entry stale."""

    def __init__(self, path: Path, module: str) -> None:
        self._path, self._module = path, module
        self._py_file = str(path)  # Numba names it in its warnings

    def get_cache_path(self):
        return str(_folder() / self.get_suitable_cache_subpath(str(self._path)))

    def get_source_stamp(self):
        return source_hash(self._path)

    def get_disambiguator(self):
        return self._module  # cached code refers to its module by name

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(Path(py_file), py_func.__module__)


@functools.cache
def _folder() -> Path:
    return cache_folder()


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes: ClassVar = [_Locator]


class _KernelCache(FunctionCache):
    _impl_class = _CacheImpl


def _compile(function, **options):
    dispatcher = numba.njit(error_model="numpy", nogil=True, **options)(function)
    dispatcher._cache = _KernelCache(function)
    return dispatcher


def serial(function):
    """Compile a function that runs on one thread, to be called from compiled code."""
    return _compile(function)


def max_threads() -> int:
    """The largest number of threads a `parallel` function runs on; `numba.get_thread_id()` is below it."""
    return numba.config.NUMBA_NUM_THREADS


def parallel(function):
    """Compile a function whose `prange` loops run on all threads, to be called from Python.

    Calls are serialised: some of Numba's threading layers abort the process when two threads enter at once.
    """
    dispatcher = _compile(function, parallel=True)

    @functools.wraps(function)
    def call(*arguments):
        with _lock:
            numba.set_num_threads(min(threads.count(), max_threads()))
            return dispatcher(*arguments)

    call.dispatcher = dispatcher  # type: ignore[attr-defined]  # tests count its compilations
    return call
