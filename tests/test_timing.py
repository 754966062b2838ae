"""The timing core."""

import numpy as np
import pytest

from minunet import timing


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)


def test_actions_take_turns_and_get_fresh_input(monkeypatch):
    monkeypatch.setattr(timing, "_calls_for", lambda seconds: 3)
    calls = []
    actions = {name: (lambda given, name=name: calls.append((name, given))) for name in ("a", "b")}
    times = timing.interleaved(actions, lambda k: f"input {k}", rounds=2)
    turns = [[-1, -1], [0, 1, 2], [3, 4, 5]]
    assert calls == [(name, f"input {k}") for turn in turns for name in ("a", "b") for k in turn]
    for name in ("a", "b"):  # the warm-up is not timed
        assert len(times[name].in_a_row) == len(times[name].after_rest) == 2


def test_calls_of_a_turn():
    assert timing._calls_for(1.1 * timing.LONG) == 1
    assert timing._calls_for(0.9 * timing.LONG) == 2  # the first of them stands apart
    assert timing._calls_for(timing.TURN / 7.5) == 7
    assert timing._calls_for(0.0) == timing.CALLS


def test_the_first_call_of_a_turn_stands_apart():
    times = timing.Times()
    times.add([9.0, 1.0, 2.0, 3.0])
    times.add([5.0])
    assert times.after_rest == [9.0, 5.0]
    assert times.in_a_row == [2.0, 5.0]


def test_one_round():
    assert len(timing.interleaved({"a": lambda _: None}, lambda _: None, rounds=1)["a"].in_a_row) == 1


def test_nobody_to_time():
    assert timing.interleaved({}, lambda _: None, rounds=3) == {}


def test_rounds_by_time():
    assert timing.rounds_within(60, one=4.0) == 15
    assert timing.rounds_within(60, one=100.0) == timing.FEWEST
    assert timing.rounds_within(60, one=1e-6) == timing.MOST
    times = timing.interleaved({"a": lambda _: None}, lambda _: None, rounds=None, budget=1e-9)
    assert len(times["a"].in_a_row) == timing.FEWEST


def test_the_ratio_is_that_of_the_rounds():
    assert timing.median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_results_that_differ_are_noticed(wrong):
    expected = np.array([1.0, -1.0, 1.0, -1.0])
    timing.agree(expected + 1e-4, expected, 1e-3)
    assert timing.difference(expected + 1e-4, expected) == pytest.approx(1e-4)
    with pytest.raises(AssertionError, match="results differ"):
        timing.agree(expected + np.array([0, 0, 0, wrong]), expected, 1e-3)
