"""The steps of docs/book/08-speed.md, measured: python bench/ladder.py

One layer like those of the paper's network, 64 channels to 64 at 3 x 3, forward: plain loops, then the variants of
conv2d from slow to fast.  Each is checked against the definition, then all are timed: in turns, and in a row of calls
one after the other.  The run that the chapter shows is bench/results/ladder.json; --out writes such a file.
"""

import argparse
import datetime
import json
import statistics
import time
from pathlib import Path

import numpy as np

import minunet as mn
from minunet import kernels, timing
from minunet.bench import limits
from minunet.bench.report import machine
from minunet.kernels import workers
from minunet.kernels.counters import next_task
from minunet.kernels.jit import serial

SIZE = {"n": 1, "c": 64, "o": 64, "side": 198}
VARIANTS = ("im2col", "direct", "winograd2", "winograd4")
AGAIN = 12  # calls in a row


@serial
def plain_loops(worker, counter, x, weight, y):
    """The definition: x (C, H, W), weight (O, C, 3, 3), y (O, H - 2, W - 2); a task is a row of the output."""
    outputs, height, width = y.shape
    while True:
        task = next_task(counter)
        if task >= outputs * height:
            break
        o, h = task // height, task % height
        for w in range(width):
            total = np.float32(0)
            for c in range(x.shape[0]):
                for i in range(3):
                    for j in range(3):
                        total += x[c, h + i, w + j] * weight[o, c, i, j]
            y[o, h, w] = total


def naive(x, weight):
    y = np.empty((weight.shape[0], x.shape[2] - 2, x.shape[3] - 2), np.float32)
    workers.run(plain_loops, workers.count(), np.ascontiguousarray(x[0]), weight, y)
    return y[None]


def run(variant, x, weight):
    with kernels.use(conv2d=variant):
        return kernels.conv2d.forward(x, weight)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write what was measured as JSON")
    options = parser.parse_args()
    mn.set_num_threads(options.threads)
    c, o, side = SIZE["c"], SIZE["o"], SIZE["side"]
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((o, c, 3, 3), dtype=np.float32) / 24
    steps = {"plain loops": lambda x: naive(x, weight)}
    steps |= {variant: (lambda x, v=variant: run(v, x, weight)) for variant in VARIANTS}

    def picture(round_):
        x = kernels.empty((1, c, side, side), np.float32)
        x[...] = np.random.default_rng([round_ + 1]).standard_normal(x.shape, dtype=np.float32)
        return x

    x = picture(99)
    expected = run("reference", x.astype(np.float64), weight.astype(np.float64))
    for name, step in steps.items():
        timing.agree(step(x), expected, 1e-3)
        print(f"{name}: largest error {np.abs(step(x) - expected).max() / expected.std():.1e} standard deviations")
    times = timing.interleaved(steps, picture, options.rounds)
    peak = limits.measure().peak["float32"] / 1e9
    flop = 2 * 9 * c * o * (side - 2) ** 2
    rows = [
        {
            "step": name,
            "milliseconds": round(statistics.median(found.in_a_row) * 1e3, 1),
            "gflops": round(flop / statistics.median(found.in_a_row) / 1e9, 1),
            "share": round(flop / statistics.median(found.in_a_row) / 1e9 / peak, 2),
            "gflops_again": None if name == "plain loops" else round(flop / again(steps[name], x) / 1e9),
        }
        for name, found in times.items()
    ]
    print(f"\npeak {peak:.0f} GFLOP/s, {options.threads} threads\n")
    print("| step | ms | GFLOP/s | share of the peak | GFLOP/s called again and again |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['step']} | {row['milliseconds']} | {row['gflops']} | {row['share']:.0%} "
              f"| {row['gflops_again'] or ''} |")  # fmt: skip
    if options.out:
        about = {"date": f"{datetime.date.today()}", "machine": machine(), "threads": options.threads}
        about |= {"layer": SIZE, "peak_gflops": round(peak), "steps": rows}
        options.out.write_text(json.dumps(about, indent=1) + "\n")


def again(step, x):
    """Seconds of a call among others, without a pause."""
    seconds = []
    for _ in range(AGAIN):
        start = time.perf_counter()
        step(x)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
