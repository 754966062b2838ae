"""Many generated U-Nets in C under the sanitizers, both plans: python tests/export/many_networks.py [COUNT] [FIRST]

The suite takes a few of the same.  Each third is built with vectors.  With --int8 first: in integers, held against
their reference to the last bit.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import c_programs as programs
import int8_programs as integers

from minunet.export.c.plan import MEMORY


def main(count: int = 100, first: int = 0) -> None:
    worst = 0.0
    for seed in range(first, first + count):
        model, size = programs.generated(seed)
        for memory in MEMORY:
            with tempfile.TemporaryDirectory() as folder:
                programs.exported(model, size, Path(folder), memory)
                vectors = ["-DUNET_SIMD", "-march=native"] if seed % 3 == 2 else []
                flags = [*programs.STRICT, *programs.WATCHED, *vectors]
                program = programs.compiled(programs.gcc(), Path(folder), *flags)
                worst = max(worst, programs.check(programs.answer(program, model, size), model, size))
    print(f"{count} networks, both plans: largest error {worst:.1e} of the largest logit, no warning, no report")


def main_in_integers(count: int = 100, first: int = 0) -> None:
    for seed in range(first, first + count):
        model, size = programs.generated(seed)
        for memory in MEMORY:
            with tempfile.TemporaryDirectory() as folder:
                integers.exported(model, size, Path(folder), memory)
                program = programs.compiled(programs.gcc(), Path(folder), *programs.STRICT, *programs.WATCHED)
                integers.check_program(program, model, size)
    print(f"{count} networks, both plans: no bit differs, no warning, no report")


if __name__ == "__main__":
    in_integers = sys.argv[1:2] == ["--int8"]
    (main_in_integers if in_integers else main)(*map(int, sys.argv[1 + in_integers :]))
