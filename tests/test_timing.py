"""The timing core, and the peers that bench/ times: they must compute the same network."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet import timing

BENCH = Path(__file__).resolve().parents[1] / "bench"


def test_actions_take_turns_and_get_fresh_input(monkeypatch):
    monkeypatch.setattr(timing, "REST", 0)
    calls = []
    actions = {name: (lambda given, name=name: calls.append((name, given))) for name in ("a", "b")}
    seconds = timing.interleaved(actions, lambda round_: f"input {round_}", rounds=2)
    assert calls == [(name, f"input {r}") for r in (-1, 0, 1) for name in ("a", "b")]
    assert {name: len(s) for name, s in seconds.items()} == {"a": 2, "b": 2}  # the first call is not timed


def test_the_ratio_is_that_of_the_rounds():
    assert timing.median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.mark.parametrize("wrong", [np.nan, 0.01])
def test_results_that_differ_are_not_timed(wrong):
    expected = np.array([1.0, -1.0, 1.0, -1.0])
    timing.agree(expected + 1e-4, expected, 1e-3)
    with pytest.raises(AssertionError, match="results differ"):
        timing.agree(expected + np.array([0, 0, 0, wrong]), expected, 1e-3)


@pytest.fixture(scope="module")
def peers():
    spec = importlib.util.spec_from_file_location("peers", BENCH / "peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NETWORKS = [
    ({"features": (4, 8), "padding": "valid"}, (1, 1, 60, 76)),
    ({"features": (4, 8, 16), "padding": "same", "norm": "batch"}, (2, 1, 32, 48)),
]


@pytest.mark.parametrize("arguments, shape", NETWORKS, ids=["valid", "same"])
def test_the_onnx_graph_is_the_network(peers, arguments, shape):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pytest.importorskip("onnx", reason="needs onnx")
    model = mn.UNet(1, 2, **arguments).eval()
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    timing.agree(peers.OnnxRuntime(model, 1).infer(x), model(x).numpy(), 1e-4)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("arguments, shape", NETWORKS, ids=["valid", "same"])
def test_the_pytorch_peer_is_the_network(peers, arguments, shape, channels_last):
    pytest.importorskip("torch", reason="needs PyTorch")
    model = mn.UNet(1, 2, **arguments).eval()
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    peer = peers.Torch(model, 1, channels_last)
    timing.agree(peer.infer(x), model(x).numpy(), 1e-4)
    target = np.zeros((shape[0], *model.output_size(shape[2:])), np.int64)
    expected = mn.functional.cross_entropy(model.train()(x), target).item()
    assert peer.train(x, target) == pytest.approx(expected, rel=1e-5)
