"""What the compiler makes of every kernel: registers, spills, shared memory, and how many warps fit.

NVRTC compiles for any GPU without having one.  Its log tells what each kernel takes of a multiprocessor; from that and
the published limits of the architectures follows the theoretical occupancy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import minunet.kernels
from minunet.extras import MissingExtra
from minunet.kernels.cuda import Source
from minunet.kernels.cuda.launch import OPTIONS, REAL

KERNELS = Path(minunet.kernels.__file__).parent
INSTALL = 'pip install "minunet[cuda13]" nvidia-cuda-nvrtc nvidia-cuda-nvdisasm'
DTYPES = tuple(str(dtype) for dtype in REAL)
WARP = 32
REGISTERS = 1 << 16  # of 32 bits, of a multiprocessor of every architecture here
REGISTER_UNIT = 256  # as many are given out at once, to a warp
TENSOR_CORES = 80  # the first architecture that has the instructions of prelude.cuh


@dataclass(frozen=True)
class Architecture:
    """What a multiprocessor of compute capability `number` / 10 holds (CUDA C++ Programming Guide, table "Technical
    Specifications per Compute Capability").

    warps, blocks: resident at once.  shared: bytes.  reserved: bytes of it that the system takes a block.
    float64: whether float64 is compiled as well; for one of them, since it takes long and nobody is fast in it.
    """

    number: int
    warps: int
    blocks: int
    shared: int
    reserved: int = 1 << 10
    float64: bool = False

    @property
    def name(self) -> str:
        return f"sm_{self.number}"

    def __str__(self) -> str:
        return self.name


ARCHITECTURES = {
    architecture.number: architecture
    for architecture in (
        Architecture(75, warps=32, blocks=16, shared=64 << 10, reserved=0),
        Architecture(80, warps=64, blocks=32, shared=164 << 10),
        Architecture(86, warps=48, blocks=16, shared=100 << 10),
        Architecture(89, warps=48, blocks=24, shared=100 << 10),
        Architecture(90, warps=64, blocks=32, shared=228 << 10, float64=True),
        Architecture(100, warps=64, blocks=32, shared=228 << 10),
        Architecture(120, warps=48, blocks=24, shared=100 << 10),
    )
}


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes.

    threads: of a block, as __launch_bounds__ has it.  stack, spill_stores, spill_loads, shared: bytes; shared is what
    the kernel declares, dynamic what its launcher adds (the most that it asks for at the layers of networks).
    """

    file: str
    kernel: str
    dtype: str
    architecture: int
    threads: int
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    barriers: int
    dynamic: int = 0

    @property
    def blocks(self) -> int:
        """Blocks that a multiprocessor holds at once: what runs out first decides."""
        limits = ARCHITECTURES[self.architecture]
        warps = -(-self.threads // WARP)
        registers = warps * -(-self.registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
        taken = self.shared + self.dynamic + limits.reserved
        return min(limits.blocks, limits.warps // warps, REGISTERS // registers, limits.shared // max(1, taken))

    @property
    def occupancy(self) -> float:
        """Resident warps / the most that a multiprocessor takes."""
        return self.blocks * -(-self.threads // WARP) / ARCHITECTURES[self.architecture].warps


@dataclass(frozen=True)
class Compiled:
    """A .cu file for one dtype and architecture: the machine code, and what each kernel in it takes."""

    cubin: bytes
    resources: dict[str, Resources]


def sources() -> dict[str, Path]:
    """{name: path} of every .cu file beside the kernels; the name has its room, "conv2d/cuda_implicit.cu"."""
    return {path.relative_to(KERNELS).as_posix(): path for path in sorted(KERNELS.rglob("*.cu"))}


def builds(path: Path) -> Iterator[tuple[str, Architecture]]:
    """(dtype, architecture) that a source is compiled for; tensor cores take float32 and are not on every one."""
    text = path.read_text(encoding="utf-8")
    tensor_cores = "mma_tf32(" in text or "copy_async(" in text
    for architecture in ARCHITECTURES.values():
        if architecture.number in offered() and (architecture.number >= TENSOR_CORES or not tensor_cores):
            yield "float32", architecture
            if architecture.float64 and not tensor_cores:
                yield "float64", architecture


@cache
def nvrtc() -> Any:
    """CuPy's way to NVIDIA's run-time compiler; MissingExtra, which says what to install, where there is none."""
    try:
        library = import_module("cupy_backends.cuda.libs.nvrtc")
        library.getVersion()
    except (ImportError, RuntimeError) as error:
        raise MissingExtra(
            f"NVRTC, which compiles the kernels, was not found ({error}); install it with: {INSTALL}"
        ) from None
    return library


def compiler_version() -> str:
    """Of NVRTC, in full where it comes from PyPI: another one may give out registers in another way."""
    major, minor = nvrtc().getVersion()
    for package in ("nvidia-cuda-nvrtc", f"nvidia-cuda-nvrtc-cu{major}"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return f"{major}.{minor}"


def offered() -> tuple[int, ...]:
    """Architectures that the installed NVRTC compiles for."""
    return tuple(nvrtc().getSupportedArchs())


def compile(path: Path, dtype: str, architecture: int, dynamic: Mapping[str, int] | None = None) -> Compiled:
    """Compile a .cu file as `Source` does, for a device that need not be here.

    dynamic: bytes of dynamic shared memory by kernel.  RuntimeError with the compiler's words where it does not
    compile, ValueError for a kernel without __launch_bounds__.
    """
    try:
        log, ptx, cubin = _build(Source(path).code, path.name, dtype, architecture)
    except SyntaxError as error:
        raise RuntimeError(f"{path} does not compile for {dtype} on sm_{architecture}:\n{error}") from None
    threads, taken = block_sizes(ptx), read_log(log)
    if unbounded := taken.keys() - threads.keys():
        raise ValueError(f"{path}: without __launch_bounds__ nobody knows the blocks of {', '.join(sorted(unbounded))}")
    name = path.relative_to(KERNELS).as_posix() if path.is_relative_to(KERNELS) else path.name
    found = {
        kernel: Resources(name, kernel, dtype, architecture, threads[kernel], **figures,
                          dynamic=(dynamic or {}).get(kernel, 0))
        for kernel, figures in taken.items()
    }  # fmt: skip
    return Compiled(cubin, found)


@cache
def _build(code: str, name: str, dtype: str, architecture: int) -> tuple[str, str, bytes]:
    """The compiler's log, the PTX text and the machine code, made once a process; SyntaxError with the log."""
    library = nvrtc()
    real = {str(key): value for key, value in REAL.items()}[dtype]
    program = library.createProgram(code, name, (), ())
    try:
        options = (*OPTIONS, f"-DREAL={real}", f"-arch=sm_{architecture}", "--ptxas-options=-v")
        library.compileProgram(program, options)
        # CuPy takes the last byte for the end of a text, and cuts it off.
        cubin = library.getCUBIN(program) + b"\0"
        return library.getProgramLog(program), _text(library.getPTX(program)), cubin
    except library.NVRTCError:
        raise SyntaxError(library.getProgramLog(program)) from None
    finally:
        library.destroyProgram(program)


def _text(given: str | bytes) -> str:
    return given if isinstance(given, str) else given.decode()


_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '\w+'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:, used (\d+) barriers)?[^\n]*")
_SHARED = re.compile(r"(\d+) bytes smem")
_BOUNDS = re.compile(r"\.entry (\w+)\([^)]*\)\s*((?:\.\w+ [^\n{]*\n)*)")
_MOST = re.compile(r"\.maxntid (\d+)(?:, (\d+))?(?:, (\d+))?")


def read_log(log: str) -> dict[str, dict[str, int]]:
    """What `--ptxas-options=-v` says of each kernel."""
    found = {}
    parts = _ENTRY.split(log)
    for kernel, text in zip(parts[1::2], parts[2::2], strict=True):
        stack, used = _STACK.search(text), _USED.search(text)
        if stack is None or used is None:
            raise ValueError(f"the compiler's log does not tell what {kernel} takes:\n{text}")
        shared = _SHARED.search(used[0])
        found[kernel] = {
            "registers": int(used[1]),
            "stack": int(stack[1]),
            "spill_stores": int(stack[2]),
            "spill_loads": int(stack[3]),
            "shared": int(shared[1]) if shared else 0,
            "barriers": int(used[2] or 0),
        }
    return found


def block_sizes(ptx: str) -> dict[str, int]:
    """Threads of a block by kernel, as __launch_bounds__ came out."""
    sizes = {}
    for kernel, directives in _BOUNDS.findall(ptx):
        most = _MOST.search(directives)
        if most:
            x, y, z = (int(size or 1) for size in most.groups())
            sizes[kernel] = x * y * z
    return sizes
