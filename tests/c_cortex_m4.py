"""Exported C on a Cortex-M4: compiled by the clang in ziglang, executed by unicorn.

Only what the program may touch is mapped: code and weights (not to be written), the arena, the stack, what goes in and
what comes out.  Each lies against the end of its pages, or at their beginning, with nothing mapped beside it, so every
other access stops the run.
"""

import struct
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

PAGE = 4096
RETURN = 0x0F000000  # where a call comes back to
CODE = 0x00010000
TARGET = ("-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp", "-std=c99", "-fno-unwind-tables")
FILL = 0xA5


@dataclass(frozen=True)
class Run:
    """What came out, the instructions executed, and the bytes of stack that were used."""

    out: bytes
    instructions: int
    stack: int


def has_unicorn() -> bool:
    """Whether code can be executed."""
    return find_spec("unicorn") is not None


def zig(*arguments: str) -> None:
    run = subprocess.run([sys.executable, "-m", "ziglang", *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[:4000]


def sizes(source: Path, *flags: str) -> dict[str, int]:
    """Bytes of each section that takes memory on the target, by its name up to the second point."""
    binary = source.with_suffix(".o")
    zig("cc", *TARGET, *flags, "-c", str(source), "-o", str(binary))
    total: dict[str, int] = {}
    for name, size, takes_memory in sections(binary.read_bytes()):
        if takes_memory:
            key = ".".join(name.split(".")[:2])
            total[key] = total.get(key, 0) + size
    return total


def sections(elf: bytes) -> list[tuple[str, int, bool]]:
    """(name, bytes, whether it is part of the program) of an ELF file of 32 bits."""
    (start,) = struct.unpack_from("<I", elf, 32)
    size, count, names = struct.unpack_from("<3H", elf, 46)
    headers = [struct.unpack_from("<10I", elf, start + i * size) for i in range(count)]
    text = elf[headers[names][4] :]
    return [(text[h[0] : text.index(b"\0", h[0])].decode(), h[5], bool(h[2] & 2)) for h in headers]


def linked(source: Path, *flags: str) -> Path:
    """The program with both functions, at CODE."""
    program = source.with_suffix(".elf")
    link = ("-Wl,--entry=unet_predict", f"-Wl,--image-base={CODE:#x}")
    defines = ("-DUNET_EXTERNAL_ARENA",)
    zig("cc", *TARGET, *flags, *defines, *link, str(source), "-o", str(program))
    return program


def symbols(elf: bytes) -> dict[str, int]:
    """Addresses of the functions."""
    (start,) = struct.unpack_from("<I", elf, 32)
    size, count, _ = struct.unpack_from("<3H", elf, 46)
    headers = [struct.unpack_from("<10I", elf, start + i * size) for i in range(count)]
    found = {}
    for header in headers:
        if header[1] == 2:  # the symbol table
            strings = elf[headers[header[6]][4] :]
            for at in range(header[4], header[4] + header[5], 16):
                name, value = struct.unpack_from("<2I", elf, at)
                found[strings[name : strings.index(b"\0", name)].decode()] = value
    return found


def execute(program: Path, function: str, given: bytes, out_bytes: int, arena_bytes: int, at_end: bool = True) -> Run:
    """Call function(given, out, arena).  at_end: the guards lie right behind everything, not right before it.

    AssertionError where the program touches anything else.
    """
    import unicorn
    from unicorn import arm_const as arm

    machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
    machine.ctl_set_cpu_model(arm.UC_CPU_ARM_CORTEX_M4)
    elf = program.read_bytes()
    _load(machine, elf)
    bases = iter(range(0x20000000, 0x60000000, 0x08000000))

    def placed(size: int) -> int:
        pages = -(-size // PAGE) * PAGE
        base = next(bases)
        machine.mem_map(base, pages, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        machine.mem_write(base, bytes([FILL]) * pages)
        return base + pages - size if at_end else base

    source, out, arena, stack = (placed(size) for size in (len(given), out_bytes, arena_bytes, PAGE))
    machine.mem_write(source, given)
    machine.mem_write(arena, b"\xff" * arena_bytes)  # NaN
    machine.mem_map(RETURN, PAGE)
    top = stack + PAGE
    arguments = {arm.UC_ARM_REG_R0: source, arm.UC_ARM_REG_R1: out, arm.UC_ARM_REG_R2: arena}
    for register, value in arguments.items():
        machine.reg_write(register, value)
    machine.reg_write(arm.UC_ARM_REG_SP, top)
    machine.reg_write(arm.UC_ARM_REG_LR, RETURN | 1)
    lengths: dict[int, int] = {}
    counted = [0]

    def block(_: object, address: int, size: int, __: object) -> None:
        counted[0] += lengths.get(address) or lengths.setdefault(address, _instructions(machine, address, size))

    machine.hook_add(unicorn.UC_HOOK_BLOCK, block)
    try:
        machine.emu_start(symbols(elf)[function] | 1, RETURN)
    except unicorn.UcError as error:
        pc = machine.reg_read(arm.UC_ARM_REG_PC)
        raise AssertionError(f"{function} at {pc:#x}: {error}") from None
    used = bytes(machine.mem_read(stack, PAGE))
    free = len(used) - len(used.lstrip(bytes([FILL])))
    return Run(bytes(machine.mem_read(out, out_bytes)), counted[0], PAGE - free)


def _load(machine, elf: bytes) -> None:
    """Map what the program headers name, each page with no more rights than they give."""
    import unicorn

    (start,) = struct.unpack_from("<I", elf, 28)
    size, count = struct.unpack_from("<2H", elf, 42)
    for i in range(count):
        kind, offset, address, _, in_file, in_memory, flags, _ = struct.unpack_from("<8I", elf, start + i * size)
        if kind == 1 and in_memory:
            first, last = address // PAGE * PAGE, -(-(address + in_memory) // PAGE) * PAGE
            assert not flags & 2, "a segment that can be written: the program has data of its own"
            machine.mem_map(first, last - first, unicorn.UC_PROT_READ | (unicorn.UC_PROT_EXEC if flags & 1 else 0))
            machine.mem_write(address, elf[offset : offset + in_file])


def _instructions(machine, address: int, size: int) -> int:
    """Of a block of Thumb code."""
    code = np.frombuffer(bytes(machine.mem_read(address & ~1, size)), np.uint16)
    count = i = 0
    while i < len(code):
        i += 2 if code[i] >> 11 in (0b11101, 0b11110, 0b11111) else 1
        count += 1
    return count
