"""The threads that share a call: all work is done once, whatever other threads do, and nobody waits for nothing."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import minunet as mn
from minunet.kernels import cores, threads, workers

SOON = 20  # seconds after which a test that waits has failed
MUCH = 1 << 30  # numbers, so that all threads are called


@pytest.fixture(autouse=True)
def helpers(monkeypatch):
    """Each test has helpers of its own, which another test cannot keep busy."""
    monkeypatch.setattr(workers, "_helpers", workers._Helpers())


@pytest.fixture
def use_threads(monkeypatch):
    """use_threads(n): as `mn.set_num_threads`, on a machine with eight cores."""
    monkeypatch.setattr(workers, "CORES", 8)
    before = threads.count()
    yield mn.set_num_threads
    mn.set_num_threads(before)


def at_once(count):
    """A function for `run` in which `count` workers meet, and the list of those that were there."""
    meeting, there = threading.Barrier(count), []

    def meet(worker, counter):
        meeting.wait(SOON)
        there.append(worker)

    return meet, there


def test_numpy_warns_in_all_threads_as_it_would_in_the_caller():
    meeting, errors = threading.Barrier(3), []

    def overflow(worker, counter):
        meeting.wait(SOON)
        try:
            np.float32([1e30]) * np.float32(1e30)
        except FloatingPointError as error:
            errors.append(str(error))

    with np.errstate(over="ignore"):
        workers.run(overflow, 3)
    assert errors == []
    with np.errstate(over="raise"):
        workers.run(overflow, 3)
    assert len(errors) == 3


# ------------------------------------------------------------------------------------------------ how work is cut


def test_few_multiplications_are_left_to_the_caller(use_threads):
    use_threads(3)
    assert workers.count(workers.FEW - 1) == 1
    assert workers.count(workers.FEW) == workers.count() == 3


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("tasks", [0, 1, 7, 100])
def test_every_task_is_done_once(count, tasks, use_threads):
    use_threads(count)
    done = []
    for numbers in (0, MUCH):
        done.clear()
        workers.share(lambda first, last, out: out.extend(range(first, last)), tasks, done, numbers=numbers)
        assert sorted(done) == list(range(tasks))


def test_little_work_is_one_call_in_the_callers_thread(use_threads):
    use_threads(2)
    calls = []

    def function(first, last):
        calls.append((first, last, threading.current_thread()))

    workers.share(function, 100, numbers=2 * workers.LEAST - 1)
    assert calls == [(0, 100, threading.current_thread())]
    assert len(workers._helpers._threads) == 0
    workers.share(function, 100, numbers=2 * workers.LEAST)
    assert len(workers._helpers._threads) == 1


def test_as_many_workers_as_threads_were_asked_for_but_no_more_than_cores(use_threads):
    for asked, expected in ((1, 1), (3, 3), (10**6, 8), (2, 2)):
        use_threads(asked)
        assert workers.count() == expected
        meet, there = at_once(expected)
        workers.run(meet, workers.count())
        assert sorted(there) == list(range(expected))


# -------------------------------------------------------------------------------------------------- who takes part


def test_two_callers_at_once(use_threads):
    use_threads(2)
    results = {}

    def caller(seed):
        x, y = np.random.default_rng(seed).random(1000), np.empty(1000)
        for _ in range(200):
            y[:] = np.nan
            workers.share(lambda first, last: np.multiply(x[first:last], 2, out=y[first:last]), 1000, numbers=MUCH)
            results.setdefault(seed, []).append((y == 2 * x).all())

    both = [threading.Thread(target=caller, args=(seed,)) for seed in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(SOON)
    assert all(len(results[seed]) == 200 and all(results[seed]) for seed in range(2))


@pytest.fixture
def busy():
    """The only helper is in a call of another thread, which ends with the test."""
    entered, leave = threading.Barrier(3), threading.Event()

    def work(worker, counter):
        entered.wait(SOON)
        leave.wait(SOON)

    other = threading.Thread(target=workers.run, args=(work, 2))
    other.start()
    entered.wait(SOON)
    yield leave
    leave.set()
    other.join(SOON)


def test_an_offer_that_no_helper_takes_is_withdrawn(busy):
    there = []
    started = time.monotonic()
    workers.run(lambda worker, counter: there.append(worker), 2)
    assert there == [0] and time.monotonic() - started < SOON / 2
    busy.set()
    meet, there = at_once(2)
    workers.run(meet, 2)  # the helper passed over what was withdrawn
    assert sorted(there) == [0, 1]


def test_a_withdrawn_offer_keeps_no_array_alive(busy):
    x = np.ones(9)
    alive = weakref.ref(x)
    workers.run(lambda worker, counter, x: None, 2, x)
    del x
    gc.collect()
    assert alive() is None


def test_a_helper_that_waits_keeps_no_array_alive():
    x = np.ones(9)
    alive = weakref.ref(x)
    meet, _ = at_once(2)
    workers.run(lambda worker, counter, x: meet(worker, counter), 2, x)
    del x
    gc.collect()
    assert alive() is None


def test_a_call_within_a_call():
    inner = []

    def outer(worker, counter):
        workers.run(lambda worker, counter: inner.append(worker), 2)

    workers.run(outer, 2)
    assert 0 in inner


def test_where_no_thread_can_be_started_the_caller_works_alone(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    there = []
    workers.run(lambda worker, counter: there.append(worker), 3)
    assert there == [0]


# ------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_in_the_caller_waits_for_the_helper_and_leaves_it_usable(error):
    meet, _ = at_once(2)
    finished = []

    def work(worker, counter):
        meet(worker, counter)
        if worker == 0:
            raise error
        time.sleep(0.05)
        finished.append(worker)

    with pytest.raises(error):
        workers.run(work, 2)
    assert finished == [1]
    meet, there = at_once(2)
    workers.run(meet, 2)
    assert sorted(there) == [0, 1]


def test_an_error_in_a_helper_reaches_the_caller_and_leaves_the_helper_usable():
    meet, _ = at_once(2)

    def work(worker, counter):
        meet(worker, counter)
        if worker == 1:
            raise ZeroDivisionError("in the helper")

    with pytest.raises(ZeroDivisionError, match="in the helper"):
        workers.run(work, 2)
    meet, there = at_once(2)
    workers.run(meet, 2)
    assert sorted(there) == [0, 1] and len(workers._helpers._threads) == 1


# -------------------------------------------------------------------------------------------------------- forks

FORK = """
import os, threading
from minunet.kernels import workers

def met():
    meeting = threading.Barrier(2)
    workers.run(lambda worker, counter: meeting.wait(20), 2)
    return True

met()
child = os.fork()
if child == 0:
    os._exit(0 if met() else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
raise SystemExit(status if met() else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_forked_child_has_helpers_of_its_own():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------- waiting


@pytest.mark.skipif(cores.here() is None or cores.number() < 2, reason="needs Linux and two cores")
def test_helpers_keep_off_the_core_of_their_caller_who_may_go_where_he_will(use_threads):
    use_threads(2)
    before = os.sched_getaffinity(0)
    meet, _ = at_once(2)
    workers.run(meet, 2)
    (helper,) = workers._helpers._threads
    kept_off = cores.allowed() - os.sched_getaffinity(helper.native_id)
    assert len(kept_off) == 1 and kept_off == {workers._helpers._core}
    assert os.sched_getaffinity(0) == before


def test_a_counter_that_has_moved_is_seen_and_one_that_has_not_is_given_up():
    counters = pytest.importorskip("minunet.kernels.counters")
    still, moved = np.zeros(1, np.int64), np.ones(1, np.int64)
    counters.watch(still, 3)
    counters.watch(moved, 1 << 62)  # would look for longer than anybody waits


def test_every_call_has_a_counter_of_its_own_that_helpers_were_told_of(use_threads):
    use_threads(2)
    counters = []

    def function(worker, counter):
        if worker == 0:
            counters.append(counter)

    announced = workers._helpers._next_counter
    workers.run(function, 2)
    workers.run(function, 2)
    assert counters[0] is announced and counters[1] is not announced
    assert counters[0][0] == counters[1][0] == 0


@pytest.fixture
def interruptible():
    """Ctrl-C raises KeyboardInterrupt, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_until_no_helper_works_on_the_call(use_threads, interruptible):
    """Else a helper would write into arrays that the caller has again."""
    use_threads(2)
    meeting, finished = threading.Barrier(2), []

    def function(worker, counter):
        meeting.wait(SOON)
        if worker:
            time.sleep(0.3)
            finished.append(worker)
        else:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        workers.run(function, 2)
    assert finished == [1]


def test_an_interrupt_while_waiting_waits_as_well(use_threads, interruptible):
    use_threads(2)
    meeting, finished = threading.Barrier(2), []

    def function(worker, counter):
        meeting.wait(SOON)
        if worker:
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)  # the caller has nothing left to do
            time.sleep(0.3)
            finished.append(worker)

    with pytest.raises(KeyboardInterrupt):
        workers.run(function, 2)
    assert finished == [1]


def test_a_watch_that_fails_ends_no_helper(use_threads, monkeypatch):
    def fail(counter):
        raise RuntimeWarning("compiled code cannot be kept")

    monkeypatch.setattr(workers, "watch", fail)
    use_threads(2)
    for _ in range(3):
        meet, there = at_once(2)
        workers.run(meet, 2)
        assert sorted(there) == [0, 1]


@pytest.mark.skipif(cores.here() is None or cores.number() < 2, reason="needs Linux and two cores")
def test_helpers_stay_where_the_caller_may_be(use_threads):
    use_threads(2)
    before = os.sched_getaffinity(0)
    one, *_ = before
    try:
        os.sched_setaffinity(0, {one})
        workers.run(at_once(2)[0], 2)
        (helper,) = workers._helpers._threads
        assert os.sched_getaffinity(helper.native_id) == {one}
    finally:
        os.sched_setaffinity(0, before)
