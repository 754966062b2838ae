"""The command line end to end, on files: what it writes, what it says, and its exit status."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

import minunet as mn
from minunet import cli, functional
from minunet.data import cells, from_arrays, read_image, write_image
from minunet.display import progress
from minunet.display.info import layers
from minunet.kernels import pool
from minunet.kernels.compiling import begin, end
from minunet.training import budget, checkpoint, runs
from minunet.training.train import Recipe, Trainer

SMALL = ["--features", "4,8", "--threads", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten images with instance masks as PNG, in images/ and masks/."""
    folder = tmp_path_factory.mktemp("cells")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i, (image, labels) in enumerate(zip(*cells(10, size=32, seed=1), strict=True)):
        write_image(folder / "images" / f"cell{i}.png", image)
        write_image(folder / "masks" / f"cell{i}.png", labels)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    """A trained run of a few steps."""
    out = folder / "run"
    assert train(folder, out) == 0
    return out


def train(folder, out, *options, steps=("--steps", "4")):
    return main("train", folder / "images", folder / "masks", "--out", out, *SMALL, *steps, *options)


def main(*arguments):
    return cli.main([str(argument) for argument in arguments])


def hide(monkeypatch, *libraries):
    """As if these libraries were not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] in libraries:
            monkeypatch.delitem(sys.modules, name)
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


# ------------------------------------------------------------------------------------------ train


def test_train_writes_its_run(run):
    names = {"model.safetensors", "checkpoint.safetensors", "log.jsonl", "settings.json", "curves.png", "preview.png"}
    assert {path.name for path in run.iterdir()} == names
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [0, 1, 2, 3, 4]
    assert all(record["steps"] == 4 for record in records)
    settings = json.loads((run / "settings.json").read_text())
    assert settings["steps"] == 4 and settings["crop"] == [32, 32]
    assert len(settings["training"]) == 8 and len(settings["validation"]) == 2
    model = mn.load(run / "model.safetensors")
    assert model.architecture["features"] == [4, 8]
    assert model.coding.kind == "instances"
    for name in ("curves.png", "preview.png"):
        assert min(read_image(run / name).shape[:2]) > 300


def test_train_says_what_it_found_and_the_baselines(folder, tmp_path, capsys):
    assert train(folder, tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "10, 32 x 32 px, grey, uint8" in said
    assert "instance ids" in said
    assert "8 to train on, 2 to validate on" in said
    scores = [line for line in said.splitlines() if "mean AP of cells" in line]
    assert len(scores) == 6  # before, after each of 4 steps, the best
    assert all("all background 0.0" in line and "Otsu 0." in line for line in scores)


def test_the_same_command_gives_the_same_bytes(folder, run, tmp_path):
    assert train(folder, tmp_path / "again") == 0
    model = (tmp_path / "again" / "model.safetensors").read_bytes()
    assert model == (run / "model.safetensors").read_bytes()
    assert train(folder, tmp_path / "other", "--seed", "1") == 0
    assert model != (tmp_path / "other" / "model.safetensors").read_bytes()


def test_minutes_become_steps_that_repeat_the_run(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(budget, "LIMIT", 100)  # a busy machine is no reason to stop before the end
    monkeypatch.setattr(runs, "FINISH_SECONDS", 0)  # and a slow start none to refuse
    assert train(folder, tmp_path / "planned", steps=("--minutes", "0.08")) == 0
    steps = json.loads((tmp_path / "planned" / "settings.json").read_text())["steps"]
    assert f"--steps {steps} repeats this run" in capsys.readouterr().out
    assert train(folder, tmp_path / "steps", steps=("--steps", steps)) == 0
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("planned", "steps"))
    assert one == two


def test_a_run_says_when_its_time_was_up(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(budget, "LIMIT", 0.2)  # as if the machine had become slow
    monkeypatch.setattr(runs, "FINISH_SECONDS", 0)
    assert train(folder, tmp_path, steps=("--minutes", "0.08")) == 0
    assert "The time was up at step" in capsys.readouterr().out
    mn.load(tmp_path / "model.safetensors")


def test_settings_tell_where_the_images_are_from_any_folder(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main("train", "images", "masks", "--out", tmp_path / "run", "--steps", "1", *SMALL) == 0
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "run" / "model.safetensors"
    assert main("evaluate", model, folder / "images", folder / "masks", "--held-out") == 0
    assert "2 images" in capsys.readouterr().out
    options = json.loads((tmp_path / "run" / "settings.json").read_text())["options"]
    assert options["images"] == str(folder / "images") and options["init"] is None


def test_a_finished_run_is_not_overwritten_unasked(folder, run, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(folder, out) == 0
    before = (out / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert train(folder, out, "--seed", "1") == 2
    assert "exists already" in capsys.readouterr().err
    assert (out / "model.safetensors").read_bytes() == before
    assert train(folder, out, "--seed", "1", "--overwrite") == 0
    assert (out / "model.safetensors").read_bytes() != before


def test_a_refused_command_leaves_the_earlier_run(folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(folder, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert train(folder, out, "--overwrite", steps=("--minutes", "0.0001")) == 2
    assert "too short" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_names_that_are_mathematics_or_lack_glyphs_are_drawn(folder, tmp_path, capsys):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for i, name in enumerate(("$x_^$", "細胞")):
            write_image(tmp_path / kind / f"{name}.png", read_image(folder / kind / f"cell{i}.png"))
    assert train(tmp_path, tmp_path / "run", "--validation", "0", steps=("--steps", "1")) == 0
    assert "Glyph" not in capsys.readouterr().err
    assert (tmp_path / "run" / "preview.png").exists()


def test_train_goes_on_from_a_model(folder, run, tmp_path):
    out = tmp_path / "run"
    arguments = ("train", folder / "images", folder / "masks", "--out", out, "--steps", "1")
    assert main(*arguments, "--init", run / "model.safetensors", "--lr", "1e-9") == 0
    before, after = mn.load(run / "model.safetensors"), mn.load(out / "model.safetensors")
    assert after.architecture == before.architecture
    for (name, one), (_, two) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        np.testing.assert_allclose(one.data, two.data, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        ("--padding", "valid", "--norm", "none", "--dropout", "0.5"),
        ("--loss", "bce", "--no-augment", "--weight-decay", "1e-4"),
        ("--loss", "ce+dice", "--crop", "16x24", "--batch", "2", "--validation", "0.5"),
        ("--validation", "0", "--schedule", "step", "--backend", "numpy"),
    ],
    ids=" ".join,
)
def test_train_with_options(folder, tmp_path, options):
    with mn.use_backend("numpy"):  # restores what --backend changes
        assert train(folder, tmp_path, *options, steps=("--steps", "1")) == 0
    assert mn.predict(mn.load(tmp_path / "model.safetensors"), np.zeros((9, 7))).shape == (2, 9, 7)


def test_ctrl_c_leaves_a_model(folder, tmp_path, capsys, monkeypatch):
    """Before the first look at the validation images it is the model as it is."""

    def interrupt(self, done, loss):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Reporter, "progress", interrupt)
    assert train(folder, tmp_path, steps=("--steps", "100")) == 130
    said = capsys.readouterr()
    assert "holds the model as it is now" in said.out
    assert said.err.endswith("minunet: interrupted\n")
    assert mn.load(tmp_path / "model.safetensors").coding.kind == "instances"
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_ctrl_c_that_ends_the_reader_too_leaves_a_model(folder, tmp_path, capsys, monkeypatch):
    """As in `minunet train ... | tee log`, where both are interrupted."""

    def interrupt(self, done, loss):
        def gone(self, text):
            raise BrokenPipeError

        monkeypatch.setattr(progress.PlainProgress, "say", gone)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs.Reporter, "progress", interrupt)
    assert train(folder, tmp_path, steps=("--steps", "100")) == 130
    assert capsys.readouterr().err.endswith("minunet: interrupted\n")
    mn.load(tmp_path / "model.safetensors")


def test_a_reader_that_goes_away_ends_no_training(folder, tmp_path):
    """As in `minunet train ... | head -1`."""
    arguments = ["train", folder / "images", folder / "masks", "--out", tmp_path, *SMALL, "--steps", "3"]
    command = [sys.executable, "-m", "minunet", *map(str, arguments), "--backend", "numpy"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    mn.load(tmp_path / "model.safetensors")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 4


def test_sigterm_leaves_the_best_model(folder, tmp_path):
    arguments = ["train", folder / "images", folder / "masks", "--out", tmp_path, *SMALL]
    command = [sys.executable, "-m", "minunet", *map(str, arguments), "--steps", "1200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not (tmp_path / "model.safetensors").exists() and time.monotonic() < until:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, out + err
    assert "holds the best model so far" in out
    assert err.endswith("minunet: interrupted\n")
    mn.load(tmp_path / "model.safetensors")
    assert f"--resume goes on from step {checkpoint.read(tmp_path / 'checkpoint.safetensors').done}\n" in out
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


def test_a_loss_that_blows_up_is_failed_work(folder, tmp_path, capsys):
    assert train(folder, tmp_path, "--lr", "1e30", "--norm", "none") == 1
    error = capsys.readouterr().err
    assert "no longer finite at step" in error and "--lr" in error


# ---------------------------------------------------------------------------------------- predict


def test_predict_writes_masks_in_the_coding_of_the_training(folder, run, tmp_path, capsys):
    model, out = run / "model.safetensors", tmp_path / "out"
    wanted = ("--instances", "--overlay", "--probabilities")
    assert main("predict", model, folder / "images", "--out", out, *wanted) == 0
    endings = (".png", "_instances.png", "_overlay.png", "_prob.npy")
    assert {path.name for path in out.iterdir()} == {f"cell{i}{ending}" for i in range(10) for ending in endings}
    p = np.load(out / "cell3_prob.npy")
    assert p.shape == (2, 32, 32) and p.dtype == np.float32
    mask = read_image(out / "cell3.png")
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, 255 * (p[1] > p[0]))
    instances = read_image(out / "cell3_instances.png")
    assert instances.dtype == np.uint16
    np.testing.assert_array_equal(instances, mn.label_instances(1 - p[0]))
    assert read_image(out / "cell3_overlay.png").shape == (32, 32, 3)
    said = capsys.readouterr().out
    assert "10/10" in said and "0 background, 255 foreground" in said


def test_grey_levels_stay_what_they_were(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks", "other"):
        (tmp_path / name).mkdir()
    for i in range(4):
        mask = np.repeat(np.array([0, 128, 255], np.uint8)[np.arange(24) // 8], 24).reshape(24, 24)
        image = np.stack([mask // 2 + rng.integers(0, 50, mask.shape, dtype=np.uint8)] * 3, axis=2)
        image[..., 0] += 40
        write_image(tmp_path / "images" / f"{i}.png", image)
        write_image(tmp_path / "masks" / f"{i}_mask.png", mask)
    write_image(tmp_path / "other" / "small.png", np.full((3, 5, 3), 7, np.uint8))
    run, out = tmp_path / "run", tmp_path / "out"
    assert main("train", tmp_path / "images", tmp_path / "masks", "--mask-suffix", "_mask",
                "--out", run, "--steps", "30", "--lr", "0.1", *SMALL) == 0  # fmt: skip
    model = run / "model.safetensors"
    assert main("predict", model, tmp_path / "images", tmp_path / "other", "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {"0.png", "1.png", "2.png", "3.png", "small.png"}
    assert set(np.unique(read_image(out / "0.png"))) == {0, 128, 255}
    assert read_image(out / "small.png").shape == (3, 5)


def test_colors_are_written_as_a_palette(folder, tmp_path):
    from PIL import Image

    colors = np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    (tmp_path / "masks").mkdir()
    for i in range(10):
        classes = (read_image(folder / "masks" / f"cell{i}.png") > 0).astype(np.uint8)
        classes[:9, :9] = 2
        write_image(tmp_path / "masks" / f"cell{i}.png", classes, palette=colors)
    run, out = tmp_path / "run", tmp_path / "out"
    assert main("train", folder / "images", tmp_path / "masks", "--out", run, "--steps", "2", *SMALL) == 0
    model = run / "model.safetensors"
    assert main("predict", model, folder / "images" / "cell0.png", "--out", out, "--probabilities") == 0
    with Image.open(out / "cell0.png") as picture:
        assert picture.mode == "P"
    table = np.array(mn.load(model).coding.values, np.uint8)
    expected = table[np.load(out / "cell0_prob.npy").argmax(axis=0)]
    np.testing.assert_array_equal(read_image(out / "cell0.png"), expected)


def test_names_that_stdout_cannot_show(run, tmp_path):
    """In a terminal of another encoding the name is shown with escapes; the work is done."""
    np.save(tmp_path / "細胞.npy", np.zeros((8, 8), np.uint8))
    command = [sys.executable, "-m", "minunet", "predict", run / "model.safetensors", tmp_path / "細胞.npy"]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "out"), "--threads", "1"], capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert rb"\u7d30\u80de.npy" in done.stdout
    assert (tmp_path / "out" / "細胞.png").exists()


def test_without_stdout_the_work_is_done(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert train(folder, tmp_path / "run", steps=("--steps", "1")) == 0
    sys.stdout.close()


def test_a_wrong_number_of_threads_in_the_environment(run, tmp_path, capsys, monkeypatch):
    from minunet.kernels import threads

    monkeypatch.setenv("MINUNET_NUM_THREADS", "many")
    monkeypatch.setattr(threads, "_count", [])
    np.save(tmp_path / "a.npy", np.zeros((8, 8), np.uint8))
    assert main("predict", run / "model.safetensors", tmp_path / "a.npy", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err.startswith("minunet: MINUNET_NUM_THREADS must be a positive integer")


def test_npy_images_become_png_where_pillow_is_there(run, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 30), np.uint16))
    assert main("predict", run / "model.safetensors", tmp_path / "a.npy", "--out", tmp_path / "o") == 0
    assert read_image(tmp_path / "o" / "a.png").shape == (20, 30)


def test_an_image_of_truth_values(run, tmp_path):
    np.save(tmp_path / "a.npy", np.eye(20, dtype=bool))
    assert main("predict", run / "model.safetensors", tmp_path / "a.npy", "--out", tmp_path / "o", "--overlay") == 0
    assert read_image(tmp_path / "o" / "a_overlay.png").shape == (20, 20, 3)


def test_the_base_install_trains_and_predicts_npy(folder, tmp_path, capsys, monkeypatch):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for path in (folder / kind).iterdir():
            np.save(tmp_path / kind / f"{path.stem}.npy", read_image(path))
    hide(monkeypatch, "PIL", "matplotlib", "rich", "scipy")
    run, out = tmp_path / "run", tmp_path / "out"
    assert train(tmp_path, run) == 0
    assert "no pictures: they need matplotlib" in capsys.readouterr().out
    assert not (run / "curves.png").exists()
    model, image = run / "model.safetensors", tmp_path / "images" / "cell1.npy"
    assert main("predict", model, image, "--out", out) == 0
    assert [path.name for path in out.iterdir()] == ["cell1.npy"]
    mask = np.load(out / "cell1.npy")
    assert mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}
    assert main("predict", model, image, "--out", tmp_path / "cells", "--instances") == 0
    assert np.load(tmp_path / "cells" / "cell1_instances.npy").dtype == np.uint16
    assert main("predict", model, image, "--out", tmp_path / "none", "--overlay") == 2
    error = capsys.readouterr().err
    assert "Pillow" in error and "pip install" in error
    assert not (tmp_path / "none").exists()


# ----------------------------------------------------------------------------------- info and demo


def test_info(run, capsys):
    assert main("info", run / "model.safetensors") == 0
    said = capsys.readouterr().out
    model = mn.load(run / "model.safetensors")
    parameters = sum(parameter.data.size for parameter in model.parameters())
    (total,) = (line for line in said.splitlines() if line.startswith("total"))
    assert f"{parameters:,}" in total
    assert "2 x 256 x 256" in said and "instance ids" in said and "standard deviation" in said
    assert main("info", run / "model.safetensors", "--size", "33x47") == 0
    assert "2 x 33 x 47" in capsys.readouterr().out


@pytest.mark.parametrize("features", [(3,), (4, 8, 6)])
@pytest.mark.parametrize("padding, norm", [("same", "batch"), ("valid", None)])
def test_info_counts_what_the_network_has(features, padding, norm):
    model = mn.UNet(3, 4, features=features, padding=padding, norm=norm, seed=0)
    block = 2 ** len(features)
    size = (37, 50) if padding == "same" else (14 * block - 4, 13 * block - 4)
    table = layers(model, size)
    assert table[-1].shape == model(np.zeros((1, 3, *size), np.float32)).shape[1:]
    counted = {}
    for name, parameter in model.named_parameters():
        counted[name.rpartition(".")[0]] = counted.get(name.rpartition(".")[0], 0) + parameter.data.size
    for layer in table:
        norm_name = layer.name[:-1] + str(int(layer.name[-1]) + 1) if ".conv." in layer.name else ""
        in_model = counted.pop(layer.name, 0) + (counted.pop(norm_name, 0) if norm else 0)
        assert layer.parameters == in_model, layer.name
    assert not counted


@pytest.mark.parametrize(
    "channels, padding, norm, side, parameters, gmac",
    [((1, 2), "valid", None, 572, 31_030_658, 150.4), ((3, 1), "same", "batch", 256, 31_037_633, 48.1)],
)
def test_info_of_the_published_networks(channels, padding, norm, side, parameters, gmac):
    shape = {"in_channels": channels[0], "out_channels": channels[1], "padding": padding, "norm": norm}
    model = SimpleNamespace(architecture=shape | {"features": [64, 128, 256, 512]}, output_size=lambda size: size)
    table = layers(model, (side, side))
    assert sum(layer.parameters for layer in table) == parameters
    assert sum(layer.macs for layer in table) / 1e9 == pytest.approx(gmac, abs=0.3)


@pytest.mark.parametrize("padding, norm, side", [("same", "batch", 96), ("valid", None, 108)])
def test_info_knows_what_a_training_step_keeps(padding, norm, side, monkeypatch):
    monkeypatch.setattr(pool, "POOLED", 1 << 40)  # tracemalloc does not see what lies in the pool
    model = mn.UNet(1, 2, features=(16, 32), padding=padding, norm=norm, seed=0)
    x = np.zeros((1, 1, side, side), np.float32)
    model(x)  # compiles
    tracemalloc.start()
    try:
        logits = model(x)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert logits.requires_grad
    told = 4 * sum(layer.kept * layer.values for layer in layers(model, (side, side)))
    assert told == pytest.approx(kept, rel=0.1)


def test_demo(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main("demo", "--out", out, "--steps", "2", "--threads", "1") == 0
    said = capsys.readouterr().out
    for words in ("untrained network", "all background", "Otsu", "trained network, step"):
        assert words in said
    names = {"overview.png", "curves.png", "model.safetensors", "log.jsonl", "settings.json", "images"}
    assert {path.name for path in out.iterdir()} == names
    # The command that it names next.
    assert main("predict", out / "model.safetensors", out / "images", "--out", out / "p") == 0
    assert len(list((out / "p").iterdir())) == 4


# ---------------------------------------------------------------------------- errors, exit statuses


def test_no_command_prints_help(capsys):
    assert main() == 0
    said = capsys.readouterr().out
    assert "usage: minunet" in said
    assert all(f"    {name} " in said for name in ("demo", "train", "predict", "info"))


def test_help_tells_the_loss_that_is_used(capsys):
    with pytest.raises(SystemExit):
        main("train", "--help")
    said = " ".join(capsys.readouterr().out.split())
    dataset = from_arrays(*cells(2, size=16, seed=0), target="instances")
    for outputs, words in ((2, "default: {};"), (1, "; {} for an --init model of one output")):
        trainer = Trainer(mn.UNet(1, outputs, (2,), padding="same"), dataset, None, Recipe())
        assert words.format(trainer.loss_name) in said


def test_version(capsys):
    with pytest.raises(SystemExit) as exit:
        main("--version")
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"minunet {mn.__version__}\n"


@pytest.fixture
def broken(tmp_path, folder, run):
    """Files that are wrong in one way each, and those that are right."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    (tmp_path / "file").write_text("")
    (tmp_path / "twice").mkdir()
    for name in ("twice/a.png", "twice/b.png", "a.png", "a_overlay.png"):
        write_image(tmp_path / name, np.zeros((8, 8), np.uint8))
    write_image(tmp_path / "color.png", np.zeros((8, 8, 3), np.uint8))
    np.save(tmp_path / "deep.npy", np.zeros((3, 4, 5, 6)))
    names = {"here": tmp_path, "images": folder / "images", "masks": folder / "masks"}
    return names | {"run": run, "model": run / "model.safetensors", "out": tmp_path / "out"}


TRAIN = "train {images} {masks} --out {out} --steps 1"
PREDICT = "predict {model} --out {out}"


@pytest.mark.parametrize(
    "command, words",
    [
        ("train {here}/no {masks} --out {out}", ["no: no such", "check the path"]),
        ("train {here}/empty {masks} --out {out}", ["empty: no image"]),
        ("train {images} {here}/twice --out {out}", ["cell0.png", "a.png"]),
        (TRAIN + " --target binary", ["--target binary needs two values"]),
        (TRAIN + " --crop 2", ["crop does not fit", "2 x 2", "at least 16"]),
        (TRAIN + " --padding valid --crop 64", ["crop does not fit", "64"]),
        (TRAIN + " --validation 1", ["--validation", "not 1"]),
        (TRAIN + " --lr 0", ["lr must be above 0"]),
        (TRAIN + " --dropout 1.5", ["dropout", "1.5"]),
        (TRAIN + " --init {here}/no.npz", ["no.npz", "No such file"]),
        (TRAIN + " --init {model} --features 4", ["features [4, 8], not [4]"]),
        ("train {images} {masks} --out {out} --minutes 0.0001", ["--minutes 0.0001 is too short"]),
        ("train {images} {masks} --out {masks} --steps 1", ["masks is a folder of the data"]),
        ("predict {run} --out {out} {here}/a.png", ["run: found a folder", "give {model}"]),
        ("demo --out {run}", ["run holds a run of minunet train"]),
        ("train {images} {masks} --out {here}/file --steps 1", ["file"]),
        (PREDICT + " {here}/no.png", ["no.png: no such file", "check the path"]),
        (PREDICT + " {here}/text.png", ["text.png"]),
        (PREDICT + " {here}/deep.npy", ["deep.npy: shape (3, 4, 5, 6)"]),
        (PREDICT + " {here}/empty", ["empty: no image"]),
        (PREDICT + " {here}/a.png {here}/twice", ["{here}/a.png and {here}/twice/a.png", "a.png"]),
        (PREDICT + " {here}/a.png {here}/a.png", ["a.png is given twice"]),
        (PREDICT + " --overlay {here}/a.png {here}/a_overlay.png", ["would both be written as"]),
        ("predict {model} --out {here} {here}/a.png", ["a.png is one of the images"]),
        ("predict {here}/no.npz --out {out} {here}/a.png", ["no.npz: No such file"]),
        ("predict {here}/junk.safetensors --out {out} {here}/a.png", ["junk.safetensors"]),
        ("predict {here}/a.png --out {out} {here}/a.png", ["a.png"]),
        ("info {here}/junk.safetensors", ["junk.safetensors"]),
        ("info {model} --size 1", ["1"]),
    ],
)
def test_errors_are_plain_sentences_and_status_2(broken, capsys, command, words):
    if command.startswith("train") and "--init" not in command:
        command += " --features 1,1,1,1"
    assert main(*[part.format(**broken) for part in command.split()]) == 2
    said = capsys.readouterr().err
    first, *listed = said.splitlines()  # several faults of a data set are listed below the sentence
    assert first.startswith("minunet: ") and all(line.startswith("  ") for line in listed)
    assert "Traceback" not in said
    for word in words:
        assert word.format(**broken) in said
    assert not list(broken["here"].glob("out/*"))


@pytest.mark.parametrize(
    "command, word",
    [
        ("fly", "invalid choice: 'fly'"),
        ("train a", "MASKS"),
        ("train a b", "--out"),
        ("train a b --out c --steps 0", "'0' is not a whole number above 0"),
        ("train a b --out c --steps 1 --minutes 1", "not allowed with"),
        ("train a b --out c --minutes inf", "'inf' is not a number of minutes above 0"),
        ("demo --minutes nan", "'nan' is not a number of minutes above 0"),
        ("train a b --out c --features 4,x", "'x' is not a whole number"),
        ("train a b --out c --seed -1", "--seed"),
        ("info m --size 1x2x3", "'1x2x3' is not a size"),
        ("predict m", "--out"),
    ],
)
def test_a_wrong_command_line_is_status_2(capsys, command, word):
    with pytest.raises(SystemExit) as exit:
        main(*command.split())
    assert exit.value.code == 2
    assert word in capsys.readouterr().err


def test_an_unexpected_error_has_no_traceback_unless_asked_for(monkeypatch, capsys, run):
    def fail(*_):
        raise ZeroDivisionError("so it goes")

    monkeypatch.setattr("minunet.display.info.info", fail)
    monkeypatch.delenv("MINUNET_DEBUG", raising=False)
    assert main("info", run / "model.safetensors") == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError: so it goes" in said and "MINUNET_DEBUG=1" in said
    monkeypatch.setenv("MINUNET_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main("info", run / "model.safetensors")


def test_a_reader_that_goes_away_is_no_error(run):
    command = [sys.executable, "-m", "minunet", "info", str(run / "model.safetensors")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_too_many_instances_for_16_bits(run, tmp_path, capsys, monkeypatch):
    from minunet.prediction import predict_files

    monkeypatch.setattr(predict_files, "label_instances", lambda p: np.arange(p.size).reshape(p.shape))
    np.save(tmp_path / "many.npy", np.zeros((257, 257), np.uint8))
    arguments = ("predict", run / "model.safetensors", tmp_path / "many.npy", "--instances")
    assert main(*arguments, "--out", tmp_path / "out") == 1
    assert "66048 instances" in capsys.readouterr().err


def test_the_work_needs_no_command_line_modules(tmp_path):
    code = "import sys, minunet.training.train; print([n for n in ('argparse', 'rich') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
        env=os.environ, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_gradcheck_lists_its_checks(capsys):
    assert cli.main(["gradcheck", "concat"]) == 0
    assert "right  concat" in capsys.readouterr().out


def test_gradcheck_without_a_match_is_a_usage_error(capsys):
    assert cli.main(["gradcheck", "no such operation"]) == 2
    assert "'no such operation'" in capsys.readouterr().err


def test_gradcheck_fails_on_a_wrong_derivative(capsys, monkeypatch):
    monkeypatch.setattr(functional, "_broadcast_back", lambda g, shape: np.zeros(shape, g.dtype))
    assert cli.main(["gradcheck", "subtract"]) == 1
    output = capsys.readouterr()
    assert "WRONG  subtract" in output.out and "1 of 1 gradients are wrong" in output.err


# ----------------------------------------------------------------------------------- compiling


@pytest.fixture
def note(monkeypatch):
    monkeypatch.setattr(cli, "PATIENCE", 0.2)
    return cli.CompileNote()


def test_long_compiling_is_announced_once(note, capsys):
    for _ in range(3):
        note(True)
        time.sleep(0.3)
        note(False)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("minunet: compiling kernels")


def test_short_compilings_are_announced_once_they_add_up(note, capsys):
    for _ in range(2):
        note(True)
        time.sleep(0.07)
        note(False)
    time.sleep(0.3)  # not compiling
    assert capsys.readouterr().err == ""
    note(True)
    time.sleep(0.15)
    note(False)
    assert capsys.readouterr().err.startswith("minunet: compiling kernels")


def test_a_command_is_told_of_compiling_and_the_library_is_not(run, monkeypatch):
    told = []
    monkeypatch.setattr(cli, "CompileNote", lambda: told.append)
    monkeypatch.setattr("minunet.display.info.info", lambda *_: [begin(), end()])
    begin()
    assert main("info", run / "model.safetensors") == 0
    end()
    assert told == [True, False]


def test_the_note_goes_above_a_progress_bar(note, monkeypatch):
    """While its bar is on the screen, rich takes sys.stderr's place, and writes above the bar."""
    rich = pytest.importorskip("rich.console")
    screen = io.StringIO()
    console = rich.Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr("rich.progress.get_console", lambda: console)
    with progress.RichProgress() as display:
        display.start(10)
        note.say()
    erased = "\r\x1b[2K"  # the line of the bar, which is drawn again below
    assert f"{erased}minunet: compiling kernels for this processor (once; up to a minute)\n" in screen.getvalue()
