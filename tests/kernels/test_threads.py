"""Kernels called from several Python threads at once and in forked processes, with each threading layer of Numba.

Our own kernels run on threads of our own (workers.py), a user's `prange` loops on Numba's; they take turns here.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minunet.kernels import threads

pytest.importorskip("numba")
import numba

from minunet.kernels import numba_threads

NO_LAYER = 77  # exit status of a program whose threading layer is not installed

# `work` runs a convolution, relu, a prange loop and a step of training; the same bits each time.
PROGRAM = """
import json, multiprocessing, os, sys, threading
import numba
import numpy as np
import minunet as mn
import minunet.functional as F
from minunet import kernels

sys.path.insert(0, sys.argv[1])
from prange_kernel import double

mn.use_backend("numba")
mn.set_num_threads(2)
try:
    double(np.ones(5), np.ones(5))
except ValueError:
    sys.exit(77)

def work(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 16, 16), dtype=np.float32)
    weight = rng.standard_normal((5, 3, 3, 3), dtype=np.float32)
    large = rng.standard_normal(1 << 18, dtype=np.float32)
    y = kernels.conv2d.forward(x, weight, padding=1)
    line, twice = np.ones(1000), np.empty(1000)
    for _ in range(50):
        z = kernels.relu.forward(large)
        double(line, twice)
    model = mn.UNet(in_channels=3, features=(8, 16), norm="batch", padding="same", seed=seed)
    optimizer = mn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(x), (x[:, 0] > 0).astype(np.int64)).backward()
    optimizer.step()
    return b"".join(array.tobytes() for array in (y, z, twice, *(p.data for p in model.parameters())))

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

OPENMP = """
right["unset again"] = "GOMP_SPINCOUNT" not in os.environ
"""

REPORT = """
print(json.dumps({"layer": numba.threading_layer(), "right": right}))
"""


def run(program, layer):
    """What the program reports, and its stderr; the test is skipped where the threading layer is not installed."""
    env = os.environ | {"NUMBA_THREADING_LAYER": layer}
    code = PROGRAM + program + REPORT
    command = [sys.executable, "-P", "-W", "ignore", "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    if done.returncode == NO_LAYER:
        pytest.skip(f"Numba's threading layer {layer} is not installed")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


LAYERS = ("omp", "tbb", "workqueue")


@pytest.mark.parametrize("layer", LAYERS)
def test_two_python_threads_at_once(layer):
    found, _ = run(THREADS, layer)
    assert found == {"layer": layer, "right": {"0": True, "1": True}}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_process_goes_on(layer):
    found, _ = run(FORKS, layer)
    assert len(found["right"]) == 5 and all(found["right"].values()), found


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(None, f"GOMP_SPINCOUNT = '{numba_threads.SPINS}'"), ("passive", "OMP_WAIT_POLICY = 'PASSIVE'")],
)
def test_waiting_threads_soon_sleep_unless_openmp_was_told_otherwise(policy, expected, monkeypatch):
    """Here only: another library's OpenMP, and child processes, do not see it."""
    monkeypatch.setenv("OMP_DISPLAY_ENV", "verbose")  # GNU OpenMP prints its settings
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    found, err = run(OPENMP, "omp")
    if "GOMP_SPINCOUNT" not in err:
        pytest.skip("not GNU OpenMP")
    assert found["right"]["unset again"] and expected in err


def test_prange_loops_run_on_as_many_threads_as_were_asked_for(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from prange_kernel import double

    monkeypatch.setattr(threads, "_count", [1])
    y = np.zeros(5)
    for n in (1, numba_threads.most(), 10**6, 1):
        threads._count[:] = [n]
        double(np.ones(5), y)
        assert (y == 2).all() and numba.get_num_threads() == min(n, numba_threads.most())
