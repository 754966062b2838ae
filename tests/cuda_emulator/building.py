"""Compiling: the runtime library once for each build, and every .cu text, both kept on disk for the next process."""

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .errors import EmulationError

HERE = Path(__file__).parent
BUILDS = ("fast", "checked", "counted", "sanitized", "portable")
# -fno-gnu-unique: libraries of several builds in one process share no variable.
COMMON = ("-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-stack-protector", "-fno-plt", "-fno-gnu-unique", "-g1")
SANITIZERS = ("-fsanitize=address,undefined",)
WATCHED = ("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0")  # calls the functions of checks.cpp
# What is left out in "checked" would merge accesses that are several on a device, or make calls of memset of them.
FLAGS = {
    "fast": ("-O2",),
    "portable": ("-O2", "-DCUDA_EMULATOR_UCONTEXT"),
    "checked": (
        "-O2",
        "-fno-tree-vectorize",
        "-fno-store-merging",
        "-fno-tree-loop-distribute-patterns",
        "-DCUDA_EMULATOR_CHECKED",
    ),
    "sanitized": (
        "-O1",
        *SANITIZERS,
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
        "-DCUDA_EMULATOR_SANITIZED",
    ),
}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(r"__global__\s+void(?:\s+__launch_bounds__\(([^)]*)\))?\s+(\w+)\s*\(([^)]*)\)")


@functools.cache
def compiler() -> str | None:
    """The C++ compiler, or None where there is none."""
    return shutil.which("g++")


@functools.cache
def compiler_version() -> str:
    return subprocess.run([str(compiler()), "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def processor_flags() -> tuple[str, ...]:
    """fmaf as one instruction where the processor has it; the results are the same."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return ()
    return ("-mfma",) if flags is not None and "fma" in flags[1].split() else ()


@dataclass(frozen=True)
class Declaration:
    """A kernel as its text declares it."""

    launch_bounds: str  # as written, or ""
    parameters: list[str]  # their names


def kernels(code: str) -> dict[str, Declaration]:
    """Every kernel of a text."""
    return {
        name: Declaration(bounds, re.findall(r"(\w+)\s*(?:,|$)", parameters))
        for bounds, name, parameters in _KERNEL.findall(_COMMENT.sub("", code))
    }


@functools.cache
def cache_folder() -> Path:
    """Where compiled files lie; CUDA_EMULATOR_CACHE names another place."""
    named = os.environ.get("CUDA_EMULATOR_CACHE")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"cuda_emulator_{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@functools.cache
def _own_text() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.[hc]pp")))


def flags_of(build: str) -> tuple[str, ...]:
    return (*COMMON, *processor_flags(), *FLAGS[kind_of(build)])


def kind_of(build: str) -> str:
    """Builds that are compiled alike."""
    return "checked" if build == "counted" else build


def runtime_library(build: str) -> Path:
    """The compiled runtime of a build."""
    sources = [str(path) for path in sorted(HERE.glob("*.cpp"))]
    return _compiled(f"runtime-{kind_of(build)}", "", flags_of(build), sources, ())


def module_library(code: str, options: tuple[str, ...], build: str) -> Path:
    """The compiled form of a .cu text."""
    runtime = runtime_library(build)
    ends = "".join(f"\nCUDA_EMULATOR_KERNEL({name}, {k.launch_bounds})" for name, k in kernels(code).items())
    text = f"{code}\n{ends}\n"  # begins in line 1, as errors have it
    defines = tuple(option for option in options if option.startswith("-D"))
    link = ("-Wl,-z,defs", str(runtime), f"-Wl,-rpath,{runtime.parent}")
    watched = WATCHED if kind_of(build) == "checked" else ()
    text_as = ("-x", "c++", f"-I{HERE}", "-include", "cuda.hpp", "-fvisibility=hidden")
    flags = (*flags_of(build), *watched, *defines, *text_as)
    return _compiled(f"module-{kind_of(build)}", text, flags, [], link)


def _compiled(name: str, text: str, flags: tuple[str, ...], sources: list[str], link: tuple[str, ...]) -> Path:
    key = "\0".join((text, _own_text(), compiler_version(), *flags, *sources, *link))
    target = cache_folder() / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        if not sources:
            written = Path(work, "module.cu")
            written.write_text(text, encoding="utf-8")
            sources = [str(written)]
        objects = [str(Path(work, f"{Path(source).stem}.o")) for source in sources]
        for source, made in zip(sources, objects, strict=True):
            _run(*flags, "-c", source, "-o", made)
        made = str(Path(work, "made.so"))
        _run("-shared", *(flag for flag in flags if flag in SANITIZERS), *objects, "-o", made, *link)
        os.replace(made, target)
    return target


def _run(*arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [str(compiler()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise EmulationError(f"the text does not compile:\n{done.stderr[:8000]}")


def prebuild(modules: Iterable[tuple[str, tuple[str, ...]]], builds: Iterable[str]) -> None:
    """Compile texts (each with its options) for several builds, as many at a time as there are cores."""
    builds, modules = list(builds), list(modules)
    for build in builds:
        runtime_library(build)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(module_library, code, tuple(options), build)
                for build in builds for code, options in modules]  # fmt: skip
        for job in jobs:
            job.result()
