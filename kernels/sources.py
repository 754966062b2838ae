"""Which source files a compiled function depends on, and what they hold now.

Compiled code holds copies: of the functions it calls, of constants it read, of instructions that an intrinsic in
another file emitted.  An edit of any of these files must make it stale.  They are, for a function of the file f:

* f itself, and every file that it imports, directly or through another: anywhere on the disk but in installed packages;
* all files directly in this folder but `NOT_COMPILED`, and all files of a kernel's room, imported or not.

Installed packages are taken to change with the size or the time of the file that is imported.  What is found and
imported while the program runs (`importlib.import_module(name)`) is not seen.
"""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .compiling import LOADED_AT

FOLDER = Path(__file__).parent
NOT_COMPILED = ("__init__.py", "cases.py", "registry.py", "blas.py")  # not in compiled code, unless imported
CLOCK_STEP = 0.05  # seconds by which the time of a file may lag behind the clock

_IMPORT = re.compile(
    r"(?:^|[;:])[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n;]*)|import[ \t]+([^\n;]*))", re.MULTILINE
)
_NO_CODE = re.compile(r"#[^\n]*|\\\r?\n")  # comments, and ends of lines that are none


@dataclass(frozen=True)
class Sources:
    """Files whose text went into compiled code, and imported files of installed packages."""

    files: tuple[Path, ...]
    installed: tuple[Path, ...]

    def stamp(self) -> str:
        """Hash of what the files hold now."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file}\0{_read(file).digest}\0".encode())
        return digest.hexdigest()

    def installed_state(self) -> list[tuple[str, int, int]]:
        """(name, size, time) of the files of installed packages."""
        states = ((file, file.stat()) for file in self.installed if file.exists())
        return [(str(file), state.st_size, state.st_mtime_ns) for file, state in states]

    def as_loaded(self) -> bool:
        """Whether no file has changed or gone since this process may have loaded it: only then what runs is theirs."""
        try:
            return all(_changed_at(file) < LOADED_AT - CLOCK_STEP for file in self.files)
        except OSError:
            return False


@functools.cache
def sources_of(path: Path) -> Sources:
    """The files that compiled functions of the file `path` depend on.

    Looked for once: they can only become others by an edit of one of them.
    """
    files, installed = {path, *_neighbours(path)}, set()
    followed, to_follow = {path}, [path]
    while to_follow:
        for file in _imported_files(to_follow.pop()) - followed:
            followed.add(file)
            if _is_installed(file):
                installed.add(file)
            else:
                files.add(file)
                to_follow.append(file)
    return Sources(tuple(sorted(files)), tuple(sorted(installed)))


def _neighbours(path: Path) -> list[Path]:
    """Files that count whether they are imported or not."""
    shared = [file for file in FOLDER.glob("*.py") if file.name not in NOT_COMPILED]
    is_room = path.parent.parent == FOLDER
    return shared + (list(path.parent.glob("*.py")) if is_room else [])


def _is_installed(file: Path) -> bool:
    return not file.is_relative_to(FOLDER) and bool({"site-packages", "dist-packages"} & set(file.parts))


# ------------------------------------------------------------------------------------------------------ one file


@dataclass(frozen=True)
class _Text:
    """What a file holds: the hash of its bytes, and its import statements as (module, imported names)."""

    digest: str
    imports: tuple[tuple[str, tuple[str, ...]], ...]


def _read(path: Path) -> _Text:
    state = path.stat()
    return _read_once(path, (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))


@functools.cache
def _read_once(path: Path, state: tuple[int, ...]) -> _Text:
    data = path.read_bytes()
    imports = _imports(data.decode("utf-8", "replace")) if path.suffix == ".py" else ()
    return _Text(hashlib.sha256(data).hexdigest(), tuple(imports))


def _changed_at(path: Path) -> float:
    """When the file was changed last.  Where the system notes that itself, no program can set it back."""
    state = path.stat()
    return state.st_ctime if os.name == "posix" else state.st_mtime


def _imports(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Import statements of a file.  What only looks like one, in a string, does no harm."""
    for module, names, modules in _IMPORT.findall(_NO_CODE.sub("", text)):
        if module:
            yield module, tuple(part.split()[0] for part in names.strip("() \t\r").split(",") if part.split())
        for part in modules.split(","):
            if part.split():
                yield part.split()[0], ()


# ------------------------------------------------------------------------------------------- from names to files


@functools.cache
def _imported_files(path: Path) -> frozenset[Path]:
    """The files behind the import statements of the file `path`."""
    found: set[Path | None] = set()
    for module, names in _read(path).imports:
        inside = [_module_file(_joined(module, name), path) for name in names]
        found.update(inside)
        if not names:  # `import a.b.c` gives a, and through it all three
            parts = module.split(".")
            found.update(_module_file(".".join(parts[: k + 1]), path) for k in range(len(parts)))
        elif None in inside:  # the module's own text is used, not only its sub-modules
            found.add(_module_file(module, path))
    return frozenset(file for file in found if file is not None)


def _joined(module: str, name: str) -> str:
    return module + name if module.endswith(".") else f"{module}.{name}"


def _module_file(name: str, path: Path) -> Path | None:
    """File of the module that the file `path` calls `name`; None if it has none, or belongs to Python itself."""
    if name.startswith("."):
        relative = name.lstrip(".")
        folder = path.parents[len(name) - len(relative) - 1]
        if not relative:
            return _existing(folder, "__init__")
        *packages, last = relative.split(".")
        return _existing(folder.joinpath(*packages), last)
    parent, _, last = name.rpartition(".")
    if (parent or last).partition(".")[0] in sys.stdlib_module_names:
        return None
    if name in sys.modules:
        return _loaded_file(sys.modules[name])
    if not parent:
        folders = [path.parent, *map(Path, sys.path)]
    elif parent in sys.modules:
        folders = [Path(folder) for folder in getattr(sys.modules[parent], "__path__", ())]
    else:
        package = _module_file(parent, path)
        folders = [package.parent] if package is not None and package.name == "__init__.py" else []
    return next((file for folder in folders if (file := _existing(folder, last)) is not None), None)


def _loaded_file(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if file is not None and Path(file).is_file() else None


def _existing(folder: Path, module: str) -> Path | None:
    for file in (folder / f"{module}.py", folder / module / "__init__.py"):
        if file.is_file():
            return file.absolute()
    return None
