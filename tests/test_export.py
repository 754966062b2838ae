"""`minunet export` and mn.export: targets, their options, and what is refused before anything is written."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import minunet as mn
from minunet.cli import main
from minunet.errors import UsageError


@pytest.fixture
def model():
    return mn.UNet(1, 2, (2, 3), "same", "batch", seed=3).eval()


@pytest.fixture
def model_file(model, tmp_path):
    mn.save(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_the_function_is_not_hidden_by_the_package_of_its_name():
    code = "import minunet.export.npz, minunet; assert callable(minunet.export)"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 0), ("float16", 1e-2), ("int8", 0.1)])
def test_npz(model, model_file, tmp_path, capsys, dtype, limit):
    options = () if dtype == "float32" else ("--dtype", dtype)  # the model's own goes without saying
    out = tmp_path / "out.npz"
    assert main(["export", str(model_file), "--to", "npz", "--out", str(out), *options]) == 0
    assert capsys.readouterr().out == f"{out}: {out.stat().st_size:,} bytes\n"
    with np.load(out) as file:
        assert file["final_conv.weight"].dtype == dtype
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 8)).astype(np.float32)
    np.testing.assert_allclose(mn.load(out)(x).data, model(x).data, rtol=0, atol=limit)


def test_npz_of_values_that_float16_does_not_hold(model, tmp_path):
    model.final_conv.bias.data[:] = 1e6
    with pytest.raises(UsageError, match=r"x\.npz: final_conv\.bias .* too large for float16: up to 1e\+06"):
        mn.export(model, tmp_path / "x.npz", "npz", dtype="float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "npz", "--out", "x.bin"), "x.bin: found the suffix '.bin', expected .npz"),
        (("--to", "npz", "--out", "x.npz", "--size", "8x8"), "--size: not an option of npz, which has --dtype"),
        (("--to", "npz", "--out", "no/x.npz"), "no is no folder, so x.npz cannot be written"),
    ],
)
def test_refused(model_file, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["export", model_file.name, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [model_file]


def test_refused_in_python(model, tmp_path):
    with pytest.raises(UsageError, match=r"found the target 'tflite', expected one of .*npz"):
        mn.export(model, tmp_path / "x.npz", "tflite")
    with pytest.raises(UsageError, match=r"^with_preprocessing: not an option of npz, which has dtype$"):
        mn.export(model, tmp_path / "x.npz", "npz", with_preprocessing=True)
    assert list(tmp_path.iterdir()) == []


def test_targets_know_every_option_of_the_network():
    """A new one has to come to each target, and to generated_unets.py: they would write another network in silence."""
    known = {"in_channels", "out_channels", "features", "padding", "norm", "dropout", "skip_fit", "up", "dtype", "seed"}
    assert set(inspect.signature(mn.UNet).parameters) == known
