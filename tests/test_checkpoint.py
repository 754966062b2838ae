"""The checkpoint file: what it holds, what it refuses, and that no failure of the disk costs the one before."""

import json
import os
import stat
import sys

import numpy as np
import pytest
from faulty_disk import FaultyDisk

import minunet as mn
from minunet import cli
from minunet.data import cells, from_arrays
from minunet.display import pictures
from minunet.model_files.tensor_file import FileFormatError
from minunet.model_files.weights import read_tensors, write_tensors
from minunet.training import checkpoint

OPTIONS = ["--features", "1", "--norm", "none", "--batch", "1", "--crop", "8", "--threads", "1"]


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


def begin(folder, out, steps=2):
    """A run of which only the first step is done."""
    with pytest.MonkeyPatch.context() as patch:
        from minunet.training.runs import Reporter

        def stop(self, done, loss):
            raise KeyboardInterrupt

        patch.setattr(Reporter, "progress", stop)
        assert train(folder, out, "--steps", steps, *OPTIONS) == 130


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def outcome(out):
    return (out / "model.safetensors").read_bytes(), {
        name: array.tobytes() for name, array in checkpoint.read(out / "checkpoint.safetensors").tensors.items()
    }


@pytest.fixture(scope="module")
def begun(folder, tmp_path_factory):
    """What lies in the folder of such a run."""
    with mn.use_backend("numpy"):
        out = tmp_path_factory.mktemp("begun") / "run"
        begin(folder, out)
        return contents(out)


def test_every_operation_on_the_disk_may_fail(folder, begun, tmp_path, capsys):
    """One after the other. What lay there before lies there still, or is replaced as a whole; the run can go on."""

    def resume(name, fail_at, saved):
        out = tmp_path / name
        out.mkdir()
        for file, content in begun.items():
            (out / file).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            disk = FaultyDisk(patch, fail_at, lambda: saved.update(contents(out)))
            status = train(folder, out, "--resume")
        return out, status, disk.operations

    whole, status, operations = resume("whole", None, {})
    assert status == 0 and set(operations) == {"open", "write", "flush", "fsync", "close", "chmod", "replace"}
    allowed, left_behind = 0, []
    for fail_at, operation in enumerate(operations):
        capsys.readouterr()
        before: dict[str, bytes] = {}
        out, status, _ = resume(f"run{fail_at}", fail_at, before)
        error = capsys.readouterr().err
        if status == 0:  # a folder that cannot be synced is no failure
            assert operation == "fsync" and "No space" not in error
            allowed += 1
            assert outcome(out) == outcome(whole)
            continue
        assert status == 1 and "No space left on device" in error, error
        assert any(f"{out / name}: " in error for name in begun), error
        assert "--resume goes on from step" in error or "model.safetensors: " in error, error
        after = contents(out)
        temporary = {name for name in before if name.startswith(".minunet-")}
        assert after == {name: content for name, content in before.items() if name not in temporary}
        if after not in left_behind:  # the same files go on in the same way
            left_behind.append(after)
            assert train(folder, out, "--resume") == 0
            assert outcome(out) == outcome(whole)
    assert 0 < allowed < len(operations) / 10 and len(left_behind) > 3


def test_what_a_new_run_cannot_write_is_told(folder, tmp_path, capsys, monkeypatch):
    FaultyDisk(monkeypatch, fail_at=0)
    assert train(folder, tmp_path / "run", "--steps", "1", *OPTIONS) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path / 'run' / 'settings.json'}: No space left on device" in error and "--resume" not in error
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits of POSIX")
def test_modes_are_kept(folder, begun, tmp_path):
    for file, content in begun.items():
        (tmp_path / file).write_bytes(content)
        (tmp_path / file).chmod(0o604)
    assert train(folder, tmp_path, "--resume") == 0
    for file in begun:
        assert stat.S_IMODE((tmp_path / file).stat().st_mode) == 0o604, file


def test_leftovers_of_a_killed_writer_go(folder, begun, tmp_path):
    for file, content in begun.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / ".minunet-0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / "mine.tmp").write_bytes(b"not ours")
    assert train(folder, tmp_path, "--resume") == 0
    assert {path.name for path in tmp_path.iterdir()} == set(begun) | {"mine.tmp"}


def test_a_model_that_was_deleted_comes_back(folder, begun, tmp_path):
    for file in ("checkpoint.safetensors", "settings.json"):
        (tmp_path / file).write_bytes(begun[file])
    assert train(folder, tmp_path, "--resume") == 0
    mn.load(tmp_path / "model.safetensors")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


# ------------------------------------------------------------------------- the command line and --resume


def test_resume_needs_only_the_folders(folder, tmp_path, capsys):
    begin(folder, tmp_path / "run", steps=3)
    said = capsys.readouterr().out
    assert "--resume goes on from step 1" in said
    assert train(folder, tmp_path / "run", "--resume") == 0
    assert "1 of 3 are done already" in capsys.readouterr().out
    assert train(folder, tmp_path / "whole", "--steps", "3", *OPTIONS) == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["steps"] == 3 and settings["architecture"]["features"] == [1]


def test_options_that_agree_may_be_repeated(folder, begun, tmp_path):
    for file, content in begun.items():
        (tmp_path / file).write_bytes(content)
    assert train(folder, tmp_path, "--resume", "--steps", "2", "--seed", "0", "--padding", "same", *OPTIONS) == 0


@pytest.mark.parametrize(
    "options, words",
    [
        (["--lr", "0.5"], "begun with --lr 0.1, not with --lr 0.5"),
        (["--features", "2,4", "--norm", "batch"], "--features 1 --norm none, not with --features 2,4 --norm batch"),
        (["--crop", "16"], "begun with --crop 8x8, not with --crop 16x16"),
        (["--batch", "2", "--seed", "3"], "--seed 0, not with"),
        (["--no-augment"], "begun with --augment flips, not with --augment none"),
        (["--steps", "5"], "begun with --steps 2, not with --steps 5"),
        (["--patience", "3"], "begun with no --patience, not with --patience 3"),
        (["--overwrite"], "give one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_contradict_are_refused(folder, begun, tmp_path, capsys, options, words):
    for file, content in begun.items():
        (tmp_path / file).write_bytes(content)
    assert train(folder, tmp_path, "--resume", *options) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert contents(tmp_path) == begun


def test_changed_data_are_refused(folder, begun, tmp_path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    for name in ("images", "masks"):
        (data / name).mkdir(parents=True)
        for path in (folder / name).iterdir():
            (data / name / path.name).write_bytes(path.read_bytes())
    run.mkdir()
    for file, content in begun.items():
        (run / file).write_bytes(content)
    image = np.load(data / "images" / "2.npy")
    image[3, 4] ^= 1
    np.save(data / "images" / "2.npy", image)
    assert train(data, run, "--resume") == 2
    assert "images are not those" in (error := capsys.readouterr().err) and "2 changed" in error
    for name in ("images", "masks"):
        (data / name / "2.npy").unlink()
    assert train(data, run, "--resume") == 2
    assert "2 missing" in capsys.readouterr().err
    assert contents(run) == begun


def test_a_run_is_not_begun_anew_unasked(folder, begun, tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes(begun["checkpoint.safetensors"])
    assert train(folder, tmp_path, "--steps", "1") == 2
    assert "--resume to go on with it" in capsys.readouterr().err
    assert train(folder, tmp_path / "other", "--resume") == 2
    assert "nothing to go on with" in capsys.readouterr().err


# --------------------------------------------------------------------------------------- the file itself


@pytest.fixture
def path(tmp_path):
    dataset = from_arrays(*cells(4, size=16, seed=1), target="instances")
    model = mn.UNet(1, 2, features=(1,), padding="same", dropout=0.5)
    mn.fit(model, dataset, dataset, steps=2, checkpoint=tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


def test_what_it_holds(path):
    found = checkpoint.read(path)
    model = found.model()
    assert found.done == found.steps == 2 and len(found.history.records) == 3
    assert model.dropout == 0.5 and model.coding.kind == "instances"
    names = {name for name, _ in model.named_parameters()}
    for prefix in ("model.", "best.", "velocity."):
        assert {name.removeprefix(prefix) for name in found.tensors if name.startswith(prefix)} == names
    assert found.description["random"]["bit_generator"] == "PCG64"


def test_it_is_no_model_and_a_model_is_no_checkpoint(path):
    with pytest.raises(FileFormatError, match=r"c\.safetensors: found tensors without a description"):
        mn.load(path)
    model = path.with_name("model.safetensors")
    mn.save(mn.UNet(1, 2, features=(1,)), model)
    with pytest.raises(FileFormatError, match=r"model\.safetensors: .* without the description of a checkpoint"):
        checkpoint.read(model)


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_half_a_file_is_told(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileFormatError, match=r"c\.safetensors: "):
        checkpoint.read(path)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format_version": 2}, "format version 1"),
        ({"done": "two"}, "lacks done"),
        ({"records": [1]}, "steps in its records"),
        ({"records": None}, "lacks records, losses"),
    ],
)
def test_a_damaged_description_is_told(path, change, words):
    tensors, metadata = read_tensors(path)
    description = json.loads(metadata[checkpoint.METADATA_KEY]) | change
    if description["records"] is None:
        del description["records"], tensors["losses"]
    write_tensors(path, tensors, {checkpoint.METADATA_KEY: json.dumps(description)})
    with pytest.raises(FileFormatError, match=words):
        checkpoint.read(path)


def test_weights_of_another_network_are_told(path):
    tensors, metadata = read_tensors(path)
    tensors["model.final_conv.bias"] = np.zeros(3, np.float32)
    write_tensors(path, tensors, metadata)
    with pytest.raises(FileFormatError, match=r"c\.safetensors: the tensors do not fit the architecture"):
        checkpoint.read(path).model()


def test_nothing_is_pickled(path):
    """The library of the format reads every byte of it as plain tensors."""
    safetensors = pytest.importorskip("safetensors.numpy", reason="reads the file with the library of the format")
    tensors = safetensors.load_file(path)
    ours = checkpoint.read(path).tensors
    assert tensors.keys() == ours.keys()
    assert all(np.array_equal(tensors[name], ours[name]) for name in ours)


def test_a_kill_between_two_renames_is_no_danger(folder, begun, tmp_path):
    """The model is renamed before the checkpoint: a newer model beside an older checkpoint is made again."""
    for file, content in begun.items():
        (tmp_path / file).write_bytes(content)
    assert train(folder, tmp_path, "--resume") == 0
    done = outcome(tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(begun["checkpoint.safetensors"])
    assert train(folder, tmp_path, "--resume") == 0
    assert outcome(tmp_path) == done


def test_scores_that_are_no_numbers_survive(path):
    record = {"step": 1, "score": float("nan"), "predicted": [0.5, 0.5]}
    assert checkpoint._without_nan(record) == {"step": 1, "score": None, "predicted": [0.5, 0.5]}
    assert np.isnan(checkpoint._with_nan(checkpoint._without_nan(record))["score"])


