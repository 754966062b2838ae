"""The machine code of a kernel's main loop: how many of its instructions do what the loop is for.

A multiprocessor issues an instruction a cycle from each of its four schedulers, whatever it does.  So the share of
multiply-adds among the instructions of the main loop bounds the share of the peak that a kernel can reach.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minunet.extras import MissingExtra

from .compiled import INSTALL

INSTRUCTION = 16  # bytes, on all architectures from sm_70 on
MULTIPLY_ADDS = {"FFMA": 1, "FFMA2": 2, "DFMA": 1, "HMMA": 4}  # sums of a lane that one of them adds to

# What is counted beside the multiply-adds, by the words between the dots of its name.  LDL and STL: local memory, for
# what did not fit into registers.
KINDS = {
    "LDS.128": ("LDS", "128"),
    "LDS": ("LDS",),
    "STS.128": ("STS", "128"),
    "STS": ("STS",),
    "LDG.128": ("LDG", "128"),
    "LDG": ("LDG",),
    "LDGSTS": ("LDGSTS",),
    "STG": ("STG",),
    "LDL": ("LDL",),
    "STL": ("STL",),
    "BAR": ("BAR",),
}


@dataclass(frozen=True)
class Instruction:
    """target: the index of the instruction that a branch goes to; None for what is no branch.  registers: the operands,
    the one that is written first."""

    opcode: str
    target: int | None = None
    registers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Without what follows the first dot."""
        return self.opcode.partition(".")[0]

    @property
    def multiply_adds(self) -> bool:
        return self.name in MULTIPLY_ADDS


@dataclass(frozen=True)
class Mix:
    """The instructions of a stretch of code, by name; everything outside of loops runs once and hardly counts."""

    instructions: tuple[Instruction, ...] = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.instructions)

    @property
    def arithmetic(self) -> int:
        """Instructions that multiply and add."""
        return sum(one.multiply_adds for one in self.instructions)

    @property
    def share(self) -> float:
        """Of multiply-adds among all instructions."""
        return self.arithmetic / self.count if self.count else 0.0

    @property
    def sums(self) -> int:
        """Sums that a thread keeps in its registers: so many multiply-adds go on with one from outside of the loop."""
        written: dict[str, bool] = {}  # register: whether a multiply-add wrote it last
        found = 0
        for one in self.instructions:
            if one.multiply_adds and not written.get(one.registers[3], False):
                found += MULTIPLY_ADDS[one.name]
            if one.registers:
                written[one.registers[0]] = one.multiply_adds
        return found

    def of(self, kind: str) -> int:
        """Instructions of a kind in KINDS; "LDS.128" are among "LDS"."""
        first, *rest = KINDS[kind]
        return sum(one.name == first and set(rest) <= set(one.opcode.split(".")) for one in self.instructions)

    def counts(self) -> dict[str, int]:
        """{kind: instructions} of the kinds that are there."""
        return {kind: found for kind in KINDS if (found := self.of(kind))}


def nvdisasm() -> str:
    """Path of the disassembler, of the package from PyPI or of a CUDA toolkit; MissingExtra where there is none."""
    specification = importlib.util.find_spec("nvidia")
    for place in specification.submodule_search_locations or () if specification else ():
        for found in sorted(Path(place).glob("**/bin/nvdisasm*")):
            return str(found)
    found_outside = shutil.which("nvdisasm")
    if found_outside is None:
        raise MissingExtra(f"nvdisasm reads machine code, and was not found; install it with: {INSTALL}")
    return found_outside


def disassemble(cubin: bytes) -> dict[str, tuple[Instruction, ...]]:
    """The instructions of every kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.cubin")
        path.write_bytes(cubin)
        done = subprocess.run([nvdisasm(), "-json", path], capture_output=True, text=True, check=True)
    _, functions = json.loads(done.stdout)
    return {
        function["function-name"]: tuple(_instruction(one) for one in function["sass-instructions"])
        for function in functions
    }


def _instruction(described: dict) -> Instruction:
    opcode, operands = described["opcode"], described.get("operands", "").split(",")
    target = operands[-1] if opcode.partition(".")[0] == "BRA" else ""
    registers = tuple(operand.removesuffix(".reuse") for operand in operands)
    return Instruction(opcode, int(target, 16) // INSTRUCTION if target.startswith("0x") else None, registers)


def loops(code: Sequence[Instruction]) -> list[tuple[int, int]]:
    """(first, last) instruction of every loop: where a branch leads back to, and that branch.

    A branch to itself ends every kernel: nothing runs it.
    """
    return sorted({(one.target, at) for at, one in enumerate(code) if one.target is not None and one.target < at})


def main_loop(code: Sequence[Instruction]) -> tuple[Mix, int]:
    """The innermost loop with the most multiply-adds, and how many instructions of the loop around it stand outside.

    Innermost: no other loop with multiply-adds lies in it.  Without multiply-adds it is empty.
    """
    busy = [loop for loop in loops(code) if Mix(_part(code, loop)).arithmetic]
    innermost = [loop for loop in busy if not any(_inside(other, loop) for other in busy)]
    if not innermost:
        return Mix(()), 0
    main = max(innermost, key=lambda loop: Mix(_part(code, loop)).arithmetic)
    around = min((_length(loop) for loop in busy if _inside(main, loop)), default=_length(main))
    return Mix(_part(code, main)), around - _length(main)


def _length(loop: tuple[int, int]) -> int:
    return loop[1] - loop[0] + 1


def _part(code: Sequence[Instruction], loop: tuple[int, int]) -> tuple[Instruction, ...]:
    first, last = loop
    return tuple(code[first : last + 1])


def _inside(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]
