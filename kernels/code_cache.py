"""Machine code kept between processes: a file for each function, types of its arguments, and processor.

Numba has a cache of its own, which looks at one source file only, and in which two processes that compile at the same
moment can take each other's place.  Here the name of a file holds a hash of everything that the code in it depends on:

    FOLDER/minunet-<folder>-<hash>/<file>.<function>.<hash of the sources>.<hash of all else>.code

so that a file is right or not there.  It is written under another name first, and its content checked by a hash, so
half a file is never run.  It is unpickled, and machine code besides: so only folders of this user are looked into, and
never a model or a data set.  Code of older sources goes when newer is written; so does what nobody used for
`KEPT_DAYS`.
"""

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config, serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult

from .sources import sources_of

logger = logging.getLogger(__name__)

KEPT_DAYS = 100
SETTINGS = (
    "OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "DISABLE_INTEL_SVML", "DEBUGINFO_DEFAULT",
)  # fmt: skip
VERSIONS = (sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, np.__version__)


# ------------------------------------------------------------------------------------------------------- where


def folders() -> list[Path]:
    """Where code is looked for, and kept in the first that can be written.

    NUMBA_CACHE_DIR if set, else the user's cache directory; then a directory of this user among the temporary files.
    """
    found = []
    with contextlib.suppress(RuntimeError):  # a user without a home
        found.append(Path(config.CACHE_DIR) if config.CACHE_DIR else user_cache() / "minunet")
    with contextlib.suppress(OSError):  # a machine without temporary files
        user = os.getuid() if hasattr(os, "getuid") else "user"
        temporary = Path(tempfile.gettempdir()) / f"minunet-cache-{user}"
        if _is_ours(temporary):
            found.append(temporary)
    return found


def user_cache() -> Path:
    """Where this platform keeps a user's caches.  RuntimeError if the user has no home directory."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home())
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can put code there: everybody may write among the temporary files."""
    try:
        state = folder.lstat()
    except FileNotFoundError:
        return True
    return not hasattr(os, "getuid") or (state.st_uid == os.getuid() and not state.st_mode & 0o022)


# ------------------------------------------------------------------------------------------------------- cache


class CodeCache(_Cache):
    """The cache of one function, as Numba's dispatcher asks for it."""

    def __init__(self, function: FunctionType, path: Path) -> None:
        self._function = function
        self._path = path
        self._sources = sources_of(path)

    @property
    def cache_path(self) -> str:
        return self._subfolder()

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def flush(self) -> None: ...

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code for these types, or None."""
        target_context.refresh()
        if not self._sources.as_loaded():
            return None
        name = self._name(sig, target_context.codegen())
        for folder in folders():
            content = _read(folder / self._subfolder() / name)
            if content is not None:
                try:
                    return CompileResult._rebuild(target_context, *pickle.loads(content))
                except Exception as error:  # whatever it is: the function can be compiled
                    logger.info("%s cannot be used: %r", folder / self._subfolder() / name, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, unless the sources have changed since they were loaded, so that it is not theirs."""
        if data.library.has_dynamic_globals or any(not part.can_cache for part in data.lifted):
            name = f"{self._function.__module__}.{self._function.__qualname__}"
            warnings.warn(f"{name} holds addresses of this process, so every process compiles it anew", stacklevel=2)
        elif self._sources.as_loaded():
            self._write(self._name(sig, data.codegen), serialize.dumps(data._reduce()))

    def _write(self, name: str, content: bytes) -> None:
        problem: OSError | str = "there is no folder for it"
        for folder in folders():
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (folder / self._subfolder()).mkdir(exist_ok=True)
                _write(folder / self._subfolder() / name, content)
            except OSError as error:
                problem = error
            else:
                self._tidy(folder)
                return
        warnings.warn(
            f"compiled code cannot be kept, so every process compiles it anew: {problem}; "
            "the variable NUMBA_CACHE_DIR may name another folder",
            stacklevel=2,
        )

    def _tidy(self, folder: Path) -> None:
        """Remove this function's code of other sources, and of all functions what was not used for long."""
        long_ago = time.time() - KEPT_DAYS * 24 * 3600
        mine = (folder / self._subfolder()).glob(f"{self._base()}.*.code")
        stale = [file for file in mine if file.name.split(".")[-3] != self._stamp]
        for file in (*stale, *folder.glob("minunet-*/*")):
            with contextlib.suppress(OSError):  # another process tidies too, or (Windows) uses it
                if file in stale or file.stat().st_mtime < long_ago:
                    file.unlink()

    @functools.cached_property
    def _stamp(self) -> str:
        return self._sources.stamp()[:20]

    def _subfolder(self) -> str:
        parent = str(self._path.parent)
        return f"minunet-{self._path.parent.name}-{_hash(parent)}"

    def _base(self) -> str:
        return f"{self._path.stem}.{re.sub(r'[^a-zA-Z0-9_.]', '', self._function.__qualname__)}"

    def _name(self, sig: Any, codegen: Any) -> str:
        types = [(str(part), repr(part)) for part in getattr(sig, "args", sig)]
        rest = (
            self._function.__module__,  # compiled code refers to it by name
            self._function.__code__.co_firstlineno,
            self._function.__code__.co_code,
            types,
            codegen.magic_tuple(),  # the processor
            VERSIONS,
            self._sources.installed_state(),
            [(name, getattr(config, name, None)) for name in SETTINGS],
            sorted(frozen_values(self._function)),
        )
        return f"{self._base()}.{self._stamp}.{_hash(repr(rest))}.code"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]


# ------------------------------------------------------------------------------------------------------- files


def _read(file: Path) -> bytes | None:
    """What `_write` wrote there; None if there is no file, or not the whole one."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    check, content = content[:32], content[32:]
    if hashlib.sha256(content).digest() != check:
        return None
    with contextlib.suppress(OSError):  # in a folder that can only be read
        os.utime(file)  # notes that it is in use
    return content


def _write(file: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    try:
        with open(handle, "wb") as part:
            part.write(hashlib.sha256(content).digest() + content)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


# ------------------------------------------------------------------------------------------------------- constants


def frozen_values(function: FunctionType) -> set[str]:
    """Global constants that compiled code takes over from `function` and all that it calls, as "name = value".

    The hash of the sources does not cover a constant that was computed (from an environment variable), or set from
    elsewhere (in a test).
    """
    found: set[str] = set()
    seen: set[int] = set()
    to_visit: list[FunctionType] = [function]
    while to_visit:
        visited = to_visit.pop()
        if id(visited) in seen:
            continue
        seen.add(id(visited))
        for name, value in _names(visited):
            inner = _python_function(value)
            if inner is not None:
                to_visit.append(inner)
            elif _is_constant(value):
                found.add(f"{visited.__module__}.{name} = {_spelled(value)}")
    return found


def _names(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Global and closed-over names in a function and the functions inside of it, with their values."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for name in code.co_names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType) and not _is_library(value.__name__):
                inside = [attribute for attribute in code.co_names if hasattr(value, attribute)]
                yield from ((f"{name}.{attribute}", getattr(value, attribute)) for attribute in inside)
            elif name in function.__globals__:
                yield name, value
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _python_function(value: Any) -> FunctionType | None:
    """The Python function behind a compiled one, an intrinsic, or itself; None for a library's and for what is none."""
    for attribute in ("dispatcher", "py_func", "_defn"):
        value = getattr(value, attribute, value)
    return value if isinstance(value, FunctionType) and not _is_library(value.__module__) else None


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in {"numba", "llvmlite", "numpy", *sys.stdlib_module_names}


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_constant(part) for part in value)
    return isinstance(value, (int, float, complex, str, bytes, type, np.dtype, np.generic, np.ndarray, type(None)))


def _spelled(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_spelled, value))})"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {_hash(repr(value.tobytes()))}"
    return repr(value)
