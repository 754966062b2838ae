"""Kill trainings (SIGKILL) at random moments, resume them, and compare what comes out with a run that was left alone.

    python tests/kills.py [--kills 500] [--backend numpy] [--seed 0]

The process forks one training after the other off itself, so that each begins at once. They write a checkpoint after
every step, and each is killed after a random part of the time that a whole run takes. After every kill the checkpoint
and the model, where there are any, must be readable. A run that has come to its end must have left the same bytes as
the one that was never killed; then the next run begins. Prints one line of JSON with what was counted.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import minunet as mn
from minunet import cli
from minunet.data import cells
from minunet.display import pictures
from minunet.training import checkpoint

STEPS = 16
OPTIONS = ["--steps", STEPS, "--features", "2", "--dropout", "0.3", "--batch", "2", "--crop", "16", "--threads", "1"]
TIMES = ("seconds", "images_per_second", "waiting")


def write_images(folder):
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i, (image, labels) in enumerate(zip(*cells(8, size=24, seed=1), strict=True)):
        np.save(folder / "images" / f"{i}.npy", image)
        np.save(folder / "masks" / f"{i}.npy", labels)


def start(folder, run, backend):
    """Fork a training; its process id."""
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        with open(run.parent / "out.txt", "w") as out, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            command = ["train", folder / "images", folder / "masks", "--out", run]
            if (run / "checkpoint.safetensors").exists():
                command += ["--resume"]
            else:
                command += ["--overwrite", "--backend", backend, *OPTIONS]
            status = cli.main([str(word) for word in command])
    finally:
        os._exit(status)


def time_of(folder, run, backend):
    """Seconds of a run that is left alone."""
    shutil.rmtree(run, ignore_errors=True)
    begin = time.monotonic()
    wait_or_kill(start(folder, run, backend), 300)
    return time.monotonic() - begin


def wait_or_kill(process, seconds):
    """Whether the process was killed, rather than done with its work in so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            if os.waitstatus_to_exitcode(status) != 0:
                raise SystemExit(f"a training ended with {os.waitstatus_to_exitcode(status)}")
            return False
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True


def unreadable(run):
    """The files of a run that cannot be read."""
    faults = []
    for name, read in (("checkpoint.safetensors", checkpoint.read), ("model.safetensors", mn.load)):
        if (run / name).exists():
            try:
                read(run / name)
            except ValueError as error:
                faults.append(str(error))
    return faults


def outcome(run):
    """Bytes of the model, tensors of the checkpoint, and the log without its times."""
    kept = checkpoint.read(run / "checkpoint.safetensors")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    log = [{name: value for name, value in record.items() if name not in TIMES} for record in log]
    tensors = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in kept.tensors.items()}
    return (run / "model.safetensors").read_bytes(), tensors, kept.description["random"], log


def kill_many(kills, backend, seed):
    rng = random.Random(seed)
    counted = {"kills": 0, "before_first_checkpoint": 0, "during_a_write": 0, "runs": 0, "resumed_runs": 0,
               "unreadable": [], "unequal": 0, "leftovers": 0}  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_images(folder)
        whole = folder / "whole"
        seconds = min(time_of(folder, whole, backend) for _ in range(3))
        expected = outcome(whole)
        while counted["kills"] < kills:
            run, before = folder / f"run{counted['runs']}", counted["kills"]
            while wait_or_kill(start(folder, run, backend), rng.uniform(0, seconds)):
                counted["kills"] += 1
                counted["before_first_checkpoint"] += not (run / "checkpoint.safetensors").exists()
                counted["during_a_write"] += any(run.glob(".minunet-*.tmp"))
                counted["unreadable"] += unreadable(run)
                if counted["kills"] >= kills + 1000:
                    raise SystemExit("the runs do not come to an end")
            counted["runs"] += 1
            counted["resumed_runs"] += counted["kills"] > before
            counted["unequal"] += outcome(run) != expected
            counted["leftovers"] += len(list(run.glob(".minunet-*.tmp")))
            shutil.rmtree(run)
    return counted | {"seconds_of_a_run": round(seconds, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    checkpoint.EVERY = checkpoint.COST = 0.0  # one after every step
    pictures.available = lambda: False
    begin = time.monotonic()
    counted = kill_many(options.kills, options.backend, options.seed)
    print(json.dumps(counted | {"seconds": round(time.monotonic() - begin, 1)}))
    return 1 if counted["unreadable"] or counted["unequal"] or counted["leftovers"] else 0


if __name__ == "__main__":
    sys.exit(main())
