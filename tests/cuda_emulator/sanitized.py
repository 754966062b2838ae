"""`python -m cuda_emulator.sanitized ...`: Python with these arguments, under the address sanitizer.

The sanitizer's library must come first in a process, so `emulated("sanitized")` needs a process of its own.  What the
sanitizers find they print to standard error, and end the process.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .building import compiler
from .errors import EmulationError

_INSIDE = "CUDA_EMULATOR_SANITIZED"


def is_sanitized() -> bool:
    """Whether this process may use the build "sanitized"."""
    return _INSIDE in os.environ


def environment() -> dict[str, str]:
    """What the process of a sanitized build needs."""
    found = subprocess.run([str(compiler()), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(found.stdout.strip())
    if not library.is_absolute():
        raise EmulationError("the compiler's address sanitizer (libasan.so) is not installed")
    path = os.pathsep.join(p for p in (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")) if p)
    return {
        **os.environ,
        _INSIDE: "1",
        "LD_PRELOAD": str(library.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=86",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": path,
    }


def run_sanitized(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess:
    """Run Python with these arguments in a process where `emulated("sanitized")` works."""
    return subprocess.run([sys.executable, "-P", *arguments], env=environment(), **options)


if __name__ == "__main__":
    raise SystemExit(run_sanitized(sys.argv[1:], check=False).returncode)
