"""Peak memory of an inference or a training step, each measured in a fresh process (Linux).

What counts is how far the resident memory rises above what it is when the libraries are imported and the model is
made.  ONNX Runtime and OpenVINO take their memory when they compile the model, so they cannot be measured like this.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from minunet.errors import WorkFailed

from . import contenders
from .works import Work

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RUNS = 2  # of the step; the second finds what the first one left
COUNTED = tuple(name for name in contenders.NEEDS if name.startswith(("minunet", "PyTorch")))


def can_be_measured() -> bool:
    return STATUS.exists()


def peak(work: Work, mode: str, contender: str, threads: int) -> int:
    """Bytes that the step adds, in a process of its own.

    Where kernels have to be compiled, the first process would count the compiler too: the better of two counts.
    """
    task = json.dumps({"work": asdict(work), "mode": mode, "contender": contender, "threads": threads})
    compiles = "numba" in contenders.NEEDS[contender]
    return min(_in_a_process(task) for _ in range(2 if compiles else 1))


def _in_a_process(task: str) -> int:
    # -P: the folder from which the benchmark was started is no place to import from.
    command = [sys.executable, "-P", "-m", "minunet.bench.memory", task]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkFailed(f"measuring the memory failed with status {done.returncode}: {last}")
    return int(done.stdout.splitlines()[-1])


def measure(task: str) -> int:
    """What the fresh process does: `task` as `peak` wrote it -> bytes."""
    given = json.loads(task)
    for library in contenders.NEEDS[given["contender"]]:
        import_module(library)
    work = Work(**{**given["work"], "shape": tuple(given["work"]["shape"])})
    model = work.model()
    contender = contenders.make(given["contender"], model, work.shape, given["threads"])
    x, target = work.draw(0, model)
    del model
    _give_back()
    before = status("VmRSS")
    _forget_peak()
    for _ in range(RUNS):
        if given["mode"] == "train":
            contender.train(x, target)
        else:
            contender.infer(x)
    return 1024 * (status("VmHWM") - before)


def status(field: str) -> int:
    """A size in kB from /proc/self/status (getrusage would count the parent process's peak as well)."""
    with STATUS.open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def _give_back() -> None:
    """Hand what Python and the C library keep of freed memory back, or the step would seem to need less."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def _forget_peak() -> None:
    """Let the peak begin here: setting up the model may have taken more than the step does."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    print(measure(sys.argv[1]))
