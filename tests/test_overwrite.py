"""`train --overwrite`, cut short at any moment, leaves the earlier model or the new one, never none."""

import json
import os

import numpy as np
import pytest
from faulty_disk import FaultyDisk

import minunet as mn
from minunet import cli
from minunet.data import cells
from minunet.display import pictures
from minunet.training import checkpoint, runs

OPTIONS = ["--features", "1", "--norm", "none", "--batch", "1", "--crop", "8", "--threads", "1"]
OLD, NEW = "1", "2"  # seeds
PICTURES = ("curves.png", "preview.png")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody pulls the plug here
    with mn.use_backend("numpy"):  # nothing to compile
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i, (image, labels) in enumerate(zip(*cells(4, size=16, seed=1), strict=True)):
        np.save(folder / "images" / f"{i}.npy", image)
        np.save(folder / "masks" / f"{i}.npy", labels)
    return folder


def train(folder, out, *options):
    command = ["train", folder / "images", folder / "masks", "--out", out, *options]
    return cli.main([str(word) for word in command])


def overwrite(folder, out, *options):
    return train(folder, out, "--overwrite", "--steps", 2, "--seed", NEW, *OPTIONS, *options)


@pytest.fixture(scope="module")
def earlier(folder, tmp_path_factory):
    """The files of a finished run, and what its checkpoint, its settings and its log are known by."""
    out = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch, mn.use_backend("numpy"):
        patch.setattr(pictures, "available", lambda: False)
        assert train(folder, out, "--steps", 3, "--seed", OLD, *OPTIONS) == 0
    for name in PICTURES:
        (out / name).write_bytes(b"drawn of the earlier run")
    return contents(out)


@pytest.fixture
def run(earlier, tmp_path):
    return lay(earlier, tmp_path / "run")


def lay(files, out):
    out.mkdir(exist_ok=True)
    for path in out.iterdir():
        path.unlink()
    for name, content in files.items():
        (out / name).write_bytes(content)
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def whose(out):
    """Which run each file is of, "old" or "new"; every file that is there must be readable."""
    mn.load(out / "model.safetensors")
    kept = checkpoint.read(out / "checkpoint.safetensors")
    settings = json.loads((out / "settings.json").read_text())
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return {
        "settings": "old" if settings["steps"] == 3 else "new",
        "checkpoint": "old" if kept.steps == 3 else "new",
        "log": "old" if log[0]["steps"] == 3 else "new",
        "pictures": "old" if any((out / name).exists() for name in PICTURES) else "new",
    }


def check(out, earlier):
    """What a run that was cut short has left; whether its model is the earlier one."""
    is_old = (out / "model.safetensors").read_bytes() == earlier["model.safetensors"]
    found = whose(out)
    if found["log"] == "old":  # nothing of the new run is there, so nothing of the old one may lack
        mine = {"checkpoint.safetensors"} if found["checkpoint"] == "new" else set()  # Ctrl-C at the very first look
        assert {name: content for name, content in contents(out).items() if name not in mine} == {
            name: content for name, content in earlier.items() if name not in mine
        }
    elif found["checkpoint"] == "new":
        assert found["pictures"] == "new"
    if not is_old:
        assert found["checkpoint"] == found["log"] == found["pictures"] == "new"
    return is_old, found["settings"] == "old"


def operations(folder, out):
    with pytest.MonkeyPatch.context() as patch:
        disk = FaultyDisk(patch)
        assert overwrite(folder, out) == 0
    return disk.operations


def test_a_disk_that_fails_at_any_moment_leaves_a_model(folder, earlier, run, capsys):
    count = len(operations(folder, run))
    assert count > 40
    models = []
    for fail_at in range(count):
        lay(earlier, run)
        with pytest.MonkeyPatch.context() as patch:
            FaultyDisk(patch, fail_at)
            status = overwrite(folder, run)
        is_old, old_settings = check(run, earlier)
        assert not list(run.glob(".minunet-*"))
        error = capsys.readouterr().err
        if status == 0:  # a folder that could not be synced is no failure
            assert not is_old and not old_settings
            continue
        models.append(is_old)
        if is_old:
            assert old_settings and "model.safetensors holds the earlier model still" in error
    assert models[0] and not models[-1] and models == sorted(models, reverse=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the trainings are forked off one process")
def test_a_kill_at_any_moment_leaves_a_model(folder, earlier, run):
    """Before the first operations, before every eighth, and before the last; a failing disk is tried at all of them."""
    count = len(operations(folder, run))
    models = []
    for fail_at in sorted({*range(3), *range(0, count, 8), count - 1}):
        lay(earlier, run)
        process = os.fork()
        if not process:
            try:
                FaultyDisk(pytest.MonkeyPatch(), fail_at, on_failure=lambda: os._exit(9))
                overwrite(folder, run)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
        for leftover in run.glob(".minunet-*"):
            leftover.unlink()
        is_old, old_settings = check(run, earlier)
        models.append(is_old)
        if is_old:
            assert old_settings
        if fail_at % 24 == 0:  # whichever run the checkpoint is of, it goes on to its end
            assert train(folder, run, "--resume") == 0
            assert len({found for name, found in whose(run).items() if name != "pictures"}) == 1
    assert models[0] and not models[-1] and models == sorted(models, reverse=True)


@pytest.mark.parametrize("place", ["estimate", "validate", "step"])
def test_a_run_that_fails_before_it_has_learned_leaves_the_earlier_model(folder, earlier, run, monkeypatch, place):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Trainer, place, fail)
    length = ["--minutes", "1"] if place == "estimate" else ["--steps", "2"]
    assert train(folder, run, "--overwrite", *length, *OPTIONS) == 130
    assert check(run, earlier) == (True, True)
    assert contents(run) == earlier or place != "estimate"


def test_an_interrupted_run_without_validation_images_leaves_its_own_model(folder, earlier, run, monkeypatch, capsys):
    """There is no look that would find it best, so what it has learned would be lost."""
    progress = runs.Reporter.progress

    def stop_at_3(self, done, loss):
        progress(self, done, loss)
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs.Reporter, "progress", stop_at_3)
    assert train(folder, run, "--overwrite", "--steps", "9", "--validation", "0", *OPTIONS) == 130
    assert "holds the model as it is now" in capsys.readouterr().out
    assert check(run, earlier) == (False, False)


def test_overfit_ends_with_no_checkpoint_of_the_earlier_run(folder, run):
    train(folder, run, "--overfit", "--overwrite", "--steps", "1", *OPTIONS)
    assert not (run / "checkpoint.safetensors").exists()
    assert "overfit" in json.loads((run / "settings.json").read_text())


def test_the_demo_does_not_replace_a_run_that_has_no_settings_yet(run, capsys):
    (run / "settings.json").unlink()
    assert cli.main(["demo", "--out", str(run), "--steps", "1"]) == 2
    assert "holds a run of minunet train" in capsys.readouterr().err


def test_curves_of_an_interrupted_run_are_drawn(folder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(pictures, "available", lambda: True)
    progress = runs.Reporter.progress

    def stop_at_3(self, done, loss):
        progress(self, done, loss)
        if done == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs.Reporter, "progress", stop_at_3)
    assert train(folder, tmp_path / "run", "--steps", "9", *OPTIONS) == 130
    assert (tmp_path / "run" / "curves.png").exists() and not (tmp_path / "run" / "preview.png").exists()
    monkeypatch.setattr(pictures, "curves", lambda *_: 1 / 0)
    assert train(folder, tmp_path / "other", "--steps", "9", *OPTIONS) == 130


def test_minutes_bound_one_command_of_a_resumed_run(folder, run, capsys):
    capsys.readouterr()
    assert train(folder, run, "--resume", "--minutes", "5") == 0
    assert "minutes   5 at most for this command; the run stays one of 3 steps" in capsys.readouterr().out
    assert checkpoint.read(run / "checkpoint.safetensors").steps == 3
