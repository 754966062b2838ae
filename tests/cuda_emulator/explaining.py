"""From addresses to what they mean: arrays by their parameter's name, lines of the text."""

import functools
import re
import shutil
import subprocess
from pathlib import Path

_SHARED = re.compile(r"^([0-9a-f]+) ([0-9a-f]+) \w _ZZ(\d+)(\w+)$", re.MULTILINE)
_NEAR = 4096  # bytes that an address may lie beside an array and still be told by it


def named(address: int, arrays: dict[str, tuple[int, int, int]]) -> str:
    """An address by the array it lies in, or the nearest one; arrays: (begin, end, bytes of a number) by name."""
    if not arrays:
        return f"address {address:#x}"

    def distance(name: str) -> int:
        begin, end, _ = arrays[name]
        return max(begin - address, address - end + 1, 0)

    name = min(arrays, key=distance)
    begin, end, size = arrays[name]
    if distance(name) > _NEAR:
        return f"address {address:#x}"
    number, rest = divmod(address - begin, size)
    place = f"{name}[{number}]" + (f" + {rest} bytes" if rest else "")
    count = (end - begin) // size
    return place if begin <= address < end else f"{place}, of {count} numbers in memory"


@functools.cache
def shared_arrays(library: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """(offset, bytes) of the static shared arrays of each kernel of a compiled text."""
    tool = shutil.which("nm")
    if tool is None:
        return {}
    listed = subprocess.run([tool, "-S", str(library)], capture_output=True, text=True, check=True).stdout
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for offset, size, length, rest in _SHARED.findall(listed):
        kernel, tail = rest[: int(length)], rest[int(length) :]
        match = re.match(r"E(\d+)(\w+)", tail)
        if match is not None:
            found.setdefault(kernel, {})[match[2][: int(match[1])]] = int(offset, 16), int(size, 16)
    return found


@functools.cache
def line_of(library: Path, offset: int) -> int:
    """The line of the text that the call before this place of its machine code stems from; 0 if unknown."""
    tool = shutil.which("addr2line")
    if tool is None:
        return 0
    command = [tool, "-i", "-e", str(library), hex(offset - 1)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    lines = re.findall(r"module\.cu:(\d+)", listed)
    return int(lines[0]) if lines else 0


def quoted(code: str, line: int) -> str:
    """A line of the text, with its number."""
    return f"line {line}: {code.splitlines()[line - 1].strip()}" if line else "an unknown line"
