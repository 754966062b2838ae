"""Kernels called from several Python threads at once and in forked processes."""

import json
import multiprocessing
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

# `work` runs a convolution, relu and a step of training on two threads; the same bits each time.
PROGRAM = """
import json, multiprocessing, os, threading
import numba
import numpy as np
import minunet as mn
import minunet.functional as F
from minunet import kernels
from minunet.kernels import workers

mn.use_backend("numba")
mn.set_num_threads(2)
workers.CORES = 2

def work(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 16, 16), dtype=np.float32)
    weight = rng.standard_normal((5, 3, 3, 3), dtype=np.float32)
    large = rng.standard_normal(4 * workers.LEAST, dtype=np.float32)
    y = kernels.conv2d.forward(x, weight, padding=1)
    for _ in range(50):
        z = kernels.relu.forward(large)
    model = mn.UNet(in_channels=3, features=(8, 16), norm="batch", padding="same", seed=seed)
    optimizer = mn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(x), (x[:, 0] > 0).astype(np.int64)).backward()
    optimizer.step()
    return b"".join(array.tobytes() for array in (y, z, *(p.data for p in model.parameters())))

expected = [work(seed) for seed in range(2)]
right = {"helper": any(thread.name.startswith("minunet") for thread in threading.enumerate())}
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

EXIT_STATUS = """
def exit_status_of_child(function):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if function() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

FORKS = """
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
print(json.dumps(right))
"""

LAYER = """
try:
    right["layer"] = numba.threading_layer()
except ValueError:
    right["layer"] = None
"""

# A thread compiles, another one forks, and the child needs the compiler.
FORK_WHILE_COMPILING = """
import json, os, signal, threading
import numpy as np
from minunet import kernels
from minunet.kernels import jit

def relu():
    return kernels.relu.forward(np.full(9, -1.0)).max() == 0

right, begun = {}, threading.Event()
kernels.use_backend("numba")
kernels.on_compile(lambda begins: begun.set())
thread = threading.Thread(target=relu)
thread.start()
right["compiling"] = begun.wait(60)
right["child"] = exit_status_of_child(lambda: signal.alarm(60) == 0 and relu()) == 0
thread.join()
"""

forks = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")


def run(program, **environment):
    """What the program reports."""
    command = [sys.executable, "-W", "ignore", "-c", program + REPORT]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_two_python_threads_at_once():
    found = run(PROGRAM + THREADS)
    assert len(found) == 3 and all(found.values()), found


def test_numba_is_left_without_threads_of_its_own():
    """The reasons stand in workers.py; besides, a program may load a threading layer by its own choice."""
    assert run(PROGRAM + LAYER) == {"helper": True, "layer": None}


@forks
def test_a_forked_process_goes_on():
    found = run(PROGRAM + EXIT_STATUS + FORKS)
    assert len(found) == 6 and all(found.values()), found


@forks
def test_a_fork_waits_until_nobody_compiles(tmp_path):
    """Else its child would wait for a thread that it does not have."""
    found = run(EXIT_STATUS + FORK_WHILE_COMPILING, NUMBA_CACHE_DIR=str(tmp_path))
    assert found == {"compiling": True, "child": True}
