"""Where CuPy, a driver or a GPU is missing: one line that says what to do, and nothing else is any different."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

import minunet as mn
from minunet import cli, kernels
from minunet.data import cells
from minunet.kernels.cuda import driver
from minunet.training import checkpoint

ASKED = {
    "train": ["images", "masks", "--out", "run", "--steps", "1"],
    "predict": ["model.npz", "images", "--out", "out"],
    "evaluate": ["model.npz", "images", "masks"],
    "demo": ["--out", "run"],
    "gradcheck": ["relu"],
}


@pytest.fixture
def without_cupy(monkeypatch):
    monkeypatch.setattr(driver, "_cupy", [])
    monkeypatch.setitem(sys.modules, "cupy", None)  # what an import of it sees where it is missing


@pytest.fixture
def without_driver(monkeypatch):
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("needs CuPy")
    monkeypatch.setattr(driver, "_cupy", [])
    if driver.is_available():
        pytest.skip("there is a GPU")


def told(error):
    """The one line of an error."""
    text = str(error.value)
    assert "\n" not in text
    return text


def test_cupy_is_missing(without_cupy):
    model = mn.UNet(features=(2,))
    for ask in (lambda: mn.use_backend("cuda"), lambda: model.to("cuda"), lambda: kernels.use(relu="cuda_loops")):
        with pytest.raises(ImportError) as error:
            ask()
        assert told(error).startswith('CuPy is not installed; install it with: pip install "minunet[cuda13]"')
    assert kernels.current_backend() != "cuda" and model.device == "cpu"


def test_the_driver_is_missing(without_driver):
    model = mn.UNet(features=(2,))
    for ask in (lambda: mn.use_backend("cuda"), lambda: model.to("cuda"), lambda: kernels.use(relu="cuda_loops")):
        with pytest.raises(kernels.DeviceNotFound) as error:
            ask()
        assert "NVIDIA driver" in told(error)
    assert kernels.current_backend() != "cuda" and model.device == "cpu"


def test_there_is_a_driver_but_no_gpu(without_cupy, monkeypatch, tmp_path):
    package = tmp_path / "cupy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from types import SimpleNamespace\n"
        "runtime = SimpleNamespace(getDeviceCount=lambda: 0, CUDARuntimeError=RuntimeError)\n"
        "cuda = SimpleNamespace(runtime=runtime)\n"
    )
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(kernels.DeviceNotFound, match="finds no GPU; compute on the CPU"):
            mn.use_backend("cuda")
    finally:
        sys.modules.pop("cupy", None)


@pytest.mark.parametrize("command", ASKED)
def test_a_command_without_cupy(without_cupy, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, *ASKED[command], "--device", "cuda"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert output.err.startswith('minunet: CuPy is not installed; install it with: pip install "minunet[cuda13]"')
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "predict"])
def test_a_command_without_a_driver(without_driver, tmp_path, command):
    """In a process of its own, as a user meets it, with the true CuPy."""
    code = "import sys; from minunet.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, command, *ASKED[command], "--device", "cuda"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("minunet: no NVIDIA driver was found that CuPy ")
    assert not any(tmp_path.iterdir())


def test_a_run_of_the_gpu_does_not_go_on_without_one(without_cupy, tmp_path, capsys, monkeypatch):
    """The checkpoint is one of the CPU that says otherwise: none of a GPU can be made here."""
    monkeypatch.setattr("minunet.display.pictures.available", lambda: False)
    for folder, arrays in zip(("images", "masks"), cells(5, size=16, seed=2), strict=True):
        (tmp_path / folder).mkdir()
        for i, array in enumerate(arrays):
            np.save(tmp_path / folder / f"{i}.npy", array)
    terms = checkpoint.terms
    monkeypatch.setattr(checkpoint, "terms", lambda trainer: terms(trainer) | {"backend": "cuda"})
    monkeypatch.chdir(tmp_path)
    command = ["train", "images", "masks", "--out", "run"]
    assert cli.main([*command, "--features", "2", "--steps", "1", "--backend", "numpy"]) == 0
    capsys.readouterr()
    assert cli.main([*command, "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("minunet: the run was begun on other kernels than there are here: CuPy is not installed")


def test_the_kernels_of_the_cpu_are_not_chosen_for_the_gpu(capsys):
    assert cli.main(["gradcheck", "relu", "--device", "cuda", "--backend", "numpy"]) == 2
    assert "--backend chooses how the CPU computes: leave it out" in capsys.readouterr().err


def test_doctor_speaks_of_the_cpu():
    with pytest.raises(SystemExit):
        cli.main(["doctor", "images", "masks", "--device", "cuda"])


def test_import_brings_neither_cupy_nor_kernels_for_it(tmp_path):
    code = (
        "import sys, numpy; before = set(sys.modules); import minunet; new = set(sys.modules) - before\n"
        "outside = {name.partition('.')[0] for name in new} - set(sys.stdlib_module_names) - {'minunet', 'numpy'}\n"
        "print(sorted(outside), [name for name in new if '.cuda_' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=True
    )
    assert done.stdout.strip() == "[] []"
