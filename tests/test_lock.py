"""One training at a time writes to a folder, and one that was killed stands in nobody's way."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from minunet import cli
from minunet.data import cells
from minunet.errors import UsageError
from minunet.training.lock import NAME, Lock

fcntl = pytest.importorskip("fcntl", reason="the system has no flock")
OPTIONS = ["--features", "2", "--crop", "16", "--threads", "1", "--backend", "numpy"]


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i, (image, labels) in enumerate(zip(*cells(4, size=16, seed=1), strict=True)):
        np.save(tmp_path / "images" / f"{i}.npy", image)
        np.save(tmp_path / "masks" / f"{i}.npy", labels)
    return tmp_path


def command(folder, *options):
    return [str(word) for word in ("train", folder / "images", folder / "masks", "--out", folder / "run", *options)]


def begin(folder):
    """A long training in a process of its own, once its checkpoint is there."""
    words = [sys.executable, "-P", "-m", "minunet", *command(folder, "--steps", 100_000, *OPTIONS)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (folder / "run" / "checkpoint.safetensors").exists():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate()[1])
        time.sleep(0.02)
    return process


@pytest.fixture
def training(folder):
    process = begin(folder)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("options", [["--resume"], ["--overwrite"], [], ["--overfit", "--overwrite"]], ids=str)
def test_a_second_training_is_refused(folder, training, capsys, options):
    before = (folder / "run" / "checkpoint.safetensors").stat().st_ino
    assert cli.main(command(folder, *options, *([] if "--resume" in options else OPTIONS))) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"another training is writing to {folder / 'run'}: wait for its end or stop it" in said
    assert training.poll() is None
    assert (folder / "run" / "checkpoint.safetensors").stat().st_ino == before


def test_a_killed_training_goes_on(folder, training, monkeypatch):
    training.send_signal(signal.SIGKILL)
    training.wait(60)
    assert (folder / "run" / NAME).exists()  # it was left behind
    monkeypatch.setattr("minunet.display.pictures.available", lambda: False)
    assert cli.main(command(folder, "--resume", "--minutes", "0.1")) == 0
    assert not (folder / "run" / NAME).exists()


def test_a_folder_is_locked_once(tmp_path):
    one, other = Lock(tmp_path), Lock(tmp_path)
    one.take()
    one.take()
    with pytest.raises(UsageError, match="another training"):
        other.take()
    one.release()
    one.release()
    other.take()
    with pytest.raises(UsageError, match="another training"):
        one.take()
    other.release()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_locked_when_it_is(tmp_path):
    folder = tmp_path / "run"
    lock = Lock(folder)
    lock.take()
    assert not folder.exists()
    folder.mkdir()
    lock.take()
    with pytest.raises(UsageError):
        Lock(folder).take()
    lock.release()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    """Between opening and locking, the one before may end and a third come: two would hold a lock."""
    one, flock, calls = Lock(tmp_path), fcntl.flock, []

    def removed_at_first(file, operation):
        if not calls:
            (tmp_path / NAME).unlink()
        calls.append(flock(file, operation))

    monkeypatch.setattr("fcntl.flock", removed_at_first)
    one.take()
    assert len(calls) == 2
    with pytest.raises(UsageError):
        Lock(tmp_path).take()
    one.release()


def test_a_folder_that_cannot_be_written_is_told_with_its_remedy(folder, monkeypatch, capsys):
    """Before an image is read; and so is a folder that cannot be made."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    told = f"minunet: {folder / 'run'}: Permission denied: give an --out that can be written, or see to permissions\n"
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.mkdir", refuse)
        assert cli.main(command(folder, "--steps", 1, *OPTIONS)) == 2
    assert capsys.readouterr().err == told
    (folder / "run").mkdir()
    monkeypatch.setattr("minunet.training.lock.open", refuse, raising=False)
    monkeypatch.setattr("os.access", lambda *_: False)
    for option in ("--overwrite", "--resume"):
        assert cli.main(command(folder, option, *OPTIONS)) == 2
        said = capsys.readouterr()
        assert said.err == told and not said.out


def test_where_there_are_no_locks_nobody_is_stopped(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    Lock(tmp_path).take()
    Lock(tmp_path).take()
