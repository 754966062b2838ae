"""Exported C beside ONNX Runtime, on one thread: python bench/bench_c.py

The small U-Net (features 8, 16, 32, same padding, 1 x 64 x 64 -> 2).  Every build's logits are checked first; then all
take turns, and what counts is the time of the processor on the thread, since other work on a shared machine only adds
waiting to it.  Ratios are medians over the rounds.
"""

import argparse
import ctypes
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import minunet as mn
from minunet import timing
from minunet.bench import contenders
from minunet.export.c import write
from minunet.export.c.plan import MEMORY

CLANG = f"{shlex.quote(sys.executable)} -m ziglang cc"
BUILDS = {
    "gcc -O2": "gcc -O2",
    "gcc -O3, vectors": "gcc -O3 -march=native -DUNET_SIMD",
    "gcc -O3, vectors of AVX2": "gcc -O3 -march=haswell -DUNET_SIMD",
    "gcc -O3, vectors of SSE": "gcc -O3 -DUNET_SIMD",
    "gcc -O3 -march=native": "gcc -O3 -march=native",
    "clang -O2": f"{CLANG} -O2 -mcpu=x86_64",
    "clang -O3, vectors": f"{CLANG} -O3 -march=native -DUNET_SIMD",
}
CALLS = 7  # in a turn, after one that warms the caches
TOLERANCE = 1e-4  # standard deviations of the logits
COARSE = 0.5  # of bytes
IN_INTEGERS = ", int8"
FLOATS = ctypes.POINTER(ctypes.c_float)


def built(model: mn.UNet, shape: tuple[int, ...], folder: Path, command: str, **options: Any) -> Callable:
    """The compiled network: numbers (1, C, H, W) -> logits; options: of the export."""
    number = len(list(folder.iterdir()))
    source, library = folder / f"{number}.c", folder / f"{number}.so"
    write(model, source, shape[2:], **options)
    subprocess.run([*shlex.split(command), "-shared", "-fPIC", source, "-o", library], check=True)
    predict = ctypes.CDLL(str(library)).unet_predict
    out = np.empty((1, model.out_channels, *model.output_size(shape[2:])), np.float32)

    def run(x: np.ndarray) -> np.ndarray:
        predict(x.ctypes.data_as(FLOATS), out.ctypes.data_as(FLOATS))
        return out

    return run


def turn(action: Callable, x: np.ndarray) -> float:
    action(x)
    seconds = []
    for _ in range(CALLS):
        start = time.thread_time()
        action(x)
        seconds.append(time.thread_time() - start)
    return median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    model = mn.UNet(1, 2, (8, 16, 32), padding="same", seed=1)
    x = np.random.default_rng(0).standard_normal((1, 1, 64, 64), dtype=np.float32)
    with mn.policy("exact"), mn.no_grad():
        expected = model.eval()(x).data
    actions = {"ONNX Runtime": contenders.make("ONNX Runtime", model, x.shape, threads=1).infer}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in BUILDS.items():
            if "ziglang" in command and not find_spec("ziglang"):
                print(f"{name} is left out: ziglang is not installed")
                continue
            for memory in MEMORY if name.startswith("gcc") else MEMORY[:1]:
                actions[f"{name}, {memory}"] = built(model, x.shape, Path(folder), command, memory=memory)
            if "SIMD" not in command:
                integers = {"dtype": "int8", "calibrate": [x[0]]}
                actions[f"{name}{IN_INTEGERS}"] = built(model, x.shape, Path(folder), command, **integers)
        for name, action in actions.items():
            timing.agree(action(x), expected, COARSE if name.endswith(IN_INTEGERS) else TOLERANCE)
        times: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(rounds):
            for name, action in actions.items():
                times[name].append(turn(action, x))
    print(f"{'':36s}      ms  x ONNX Runtime")
    for name, seconds in times.items():
        ratio = timing.median_ratio(seconds, times["ONNX Runtime"])
        print(f"{name:36s}{1e3 * median(seconds):8.2f}{ratio:10.2f}")


if __name__ == "__main__":
    main()
