"""The timing core."""

import numpy as np
import pytest

from minunet import timing


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)


def test_actions_take_turns_and_get_fresh_input():
    calls = []
    actions = {name: (lambda given, name=name: calls.append((name, given))) for name in ("a", "b")}
    seconds = timing.interleaved(actions, lambda round_: f"input {round_}", rounds=2)
    assert calls == [(name, f"input {r}") for r in (-1, 0, 1) for name in ("a", "b")]
    assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2}  # the first call is not timed


def test_one_round():
    assert len(timing.interleaved({"a": lambda _: None}, lambda _: None, rounds=1)["a"]) == 1


def test_nobody_to_time():
    assert timing.interleaved({}, lambda _: None, rounds=3) == {}


def test_rounds_by_time():
    assert timing.rounds_within(60, one=4.0) == 15
    assert timing.rounds_within(60, one=100.0) == timing.FEWEST
    assert timing.rounds_within(60, one=1e-6) == timing.MOST
    seconds = timing.interleaved({"a": lambda _: None}, lambda _: None, rounds=None, budget=1e-9)
    assert len(seconds["a"]) == timing.FEWEST


def test_the_ratio_is_that_of_the_rounds():
    assert timing.median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_results_that_differ_are_noticed(wrong):
    expected = np.array([1.0, -1.0, 1.0, -1.0])
    timing.agree(expected + 1e-4, expected, 1e-3)
    assert timing.difference(expected + 1e-4, expected) == pytest.approx(1e-4)
    with pytest.raises(AssertionError, match="results differ"):
        timing.agree(expected + np.array([0, 0, 0, wrong]), expected, 1e-3)
