"""Exported C compiled by arm-none-eabi-gcc, and its self-test run by QEMU on a whole board with a Cortex-M4."""

import shutil
import subprocess
from pathlib import Path

BOARD = Path(__file__).parent / "export" / "board"
TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm")
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
ALONE = ("-ffreestanding", "-nostdlib", "-fno-tree-loop-distribute-patterns")  # which would make memset call itself
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror")
SECONDS = 300  # until a program that hangs is given up


def missing() -> str:
    """The tools that are not installed, in words; empty where all are."""
    return " and ".join(tool for tool in TOOLS if shutil.which(tool) is None)


def passes(folder: Path, *flags: str) -> bool:
    """Whether the self-test of folder/unet.c finds all its logits on the board."""
    program = folder / "board.elf"
    sources = (f"-I{folder}", "-DUNET_SELFTEST", f"-T{BOARD / 'link.ld'}", str(BOARD / "start.c"))
    build = [TOOLS[0], *CPU, *ALONE, *STRICT, *flags, *sources, "-lgcc", "-o", str(program)]
    run = subprocess.run(build, capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr[:4000]
    board = [TOOLS[1], "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    semihosting = ["-semihosting-config", "enable=on,target=native"]
    run = subprocess.run([*board, *semihosting, "-kernel", str(program)], capture_output=True, timeout=SECONDS)
    assert run.returncode in (0, 1), f"QEMU ended with {run.returncode}, 99 is a fault: {run.stderr[:2000]!r}"
    return run.returncode == 0
