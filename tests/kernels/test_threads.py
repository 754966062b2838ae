"""Kernels called from several Python threads at once and in forked processes, with each threading layer of Numba."""

import json
import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

import minunet as mn
from minunet import kernels
from minunet.kernels import threads

pytest.importorskip("numba")
import numba

from minunet.kernels import jit

NO_LAYER = 77  # exit status of a program whose threading layer is not installed

# `work` runs a convolution, relu and a step of training; the same bits each time.
PROGRAM = """
import json, multiprocessing, os, sys, threading
import numba
import numpy as np
import minunet as mn
import minunet.functional as F
from minunet import kernels

try:
    numba.set_num_threads(1)
except ValueError:
    sys.exit(77)
mn.use_backend("numba")
mn.set_num_threads(2)

def work(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 16, 16), dtype=np.float32)
    weight = rng.standard_normal((5, 3, 3, 3), dtype=np.float32)
    y = kernels.conv2d.forward(x, weight, padding=1)
    for _ in range(50):
        z = kernels.relu.forward(y)
    model = mn.UNet(in_channels=3, features=(8, 16), norm="batch", padding="same", seed=seed)
    optimizer = mn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(x), (x[:, 0] > 0).astype(np.int64)).backward()
    optimizer.step()
    return b"".join(array.tobytes() for array in (y, z, *(p.data for p in model.parameters())))

expected = [work(seed) for seed in range(2)]
right = {}
"""

THREADS = """
def repeat(seed):
    start.wait()
    right[seed] = all(work(seed) == expected[seed] for _ in range(4))

start = threading.Barrier(2)
both = [threading.Thread(target=repeat, args=(seed,)) for seed in range(2)]
for thread in both: thread.start()
for thread in both: thread.join()
"""

FORKS = """
def exit_status_of_child(function):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if function() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def is_right():
    return work(0) == expected[0]

right["child"] = exit_status_of_child(is_right) == 0
right["grandchild"] = exit_status_of_child(lambda: is_right() and exit_status_of_child(is_right) == 0) == 0
right["parent"] = is_right()
go_on = True
def busy():
    while go_on: work(1)
thread = threading.Thread(target=busy)
thread.start()
right["child of a busy process"] = all(exit_status_of_child(is_right) == 0 for _ in range(5))
go_on = False
thread.join()
with multiprocessing.get_context("fork").Pool(2) as pool:
    right["pool"] = pool.map(work, [0, 1, 0, 1]) == expected * 2
"""

REPORT = """
print(json.dumps({"layer": numba.threading_layer(), "right": right}))
"""


def run(program, layer):
    """What the program reports; the test is skipped where the threading layer is not installed."""
    env = os.environ | {"NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM + program + REPORT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    if done.returncode == NO_LAYER:
        pytest.skip(f"Numba's threading layer {layer} is not installed")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


LAYERS = ("omp", "tbb", "workqueue")


@pytest.mark.parametrize("layer", LAYERS)
def test_two_python_threads_at_once(layer):
    found = run(THREADS, layer)
    assert found == {"layer": layer, "right": {"0": True, "1": True}}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_process_goes_on(layer):
    found = run(FORKS, layer)
    assert len(found["right"]) == 5 and all(found["right"].values()), found


def test_kernels_run_on_as_many_threads_as_were_asked_for(monkeypatch):
    monkeypatch.setattr(threads, "_count", [1])
    with mn.use_backend("numba"):
        for n in (1, jit.max_threads(), 10**6, 1):
            threads._count[:] = [n]
            kernels.relu.forward(np.ones((1, 1, 4, 4), np.float32))
            assert numba.get_num_threads() == min(n, jit.max_threads())
