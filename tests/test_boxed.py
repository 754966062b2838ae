"""Models in the package, by name: what goes first, what is said, what the commands do with them."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import Coding, Preprocessing
from minunet.model_files import boxed

NUCLEI = boxed.FOLDER / "nuclei.safetensors"
CARD = "# dots: small dots\n\nOf what it was made.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n## Limits\n\nMany.\n"


def small(seed=0):
    model = mn.UNet(1, 2, features=(2, 3), padding="same", norm="batch", seed=seed).eval()
    model.preprocessing, model.coding = Preprocessing(1, "standardize"), Coding("instances")
    return model


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A box with one model, `dots`; the current folder is an empty one."""
    folder, here = tmp_path / "models", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    mn.save(small(), folder / "dots.safetensors", dtype="float16")
    (folder / "dots.md").write_text(CARD, encoding="utf-8")
    monkeypatch.setattr(boxed, "FOLDER", folder)
    monkeypatch.chdir(here)
    return folder


def assert_is_boxed(model):
    for name, array in small().state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name], array, rtol=1e-3, atol=1e-6)


def test_by_name(box):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert boxed.names() == ["dots"]
        assert_is_boxed(mn.load("dots"))
        assert_is_boxed(mn.load(box / "dots.safetensors"))


def test_a_file_of_that_name_goes_first_and_it_is_said(box):
    open("dots", "w").close()
    with pytest.raises(mn.FileFormatError, match=r"^dots: found the suffix .* it goes before the model dots of the pa"):
        mn.load("dots")
    assert boxed.card("dots") is None


def test_a_broken_link_of_that_name_too(box):
    os.symlink("nowhere", "dots")
    with pytest.raises(mn.FileFormatError, match="it goes before the model dots of the package: rename it"):
        mn.load("dots")


def test_the_folder_of_a_run_goes_first_and_it_is_said(box):
    os.mkdir("dots")
    mn.save(small(seed=3), "dots/model.safetensors")
    with pytest.raises(mn.FileFormatError, match=r"give dots.model\.safetensors; it goes before the model dots of"):
        mn.load("dots")


def test_a_folder_of_images_cannot_be_meant(box):
    os.mkdir("dots")
    with pytest.warns(UserWarning, match="dots is a folder without a model: the model of that name in the package"):
        assert_is_boxed(mn.load("dots"))


def test_a_file_with_a_suffix_is_another_name(box):
    mn.save(small(seed=3), "dots.safetensors")
    assert_is_boxed(mn.load("dots"))
    assert mn.load("dots.safetensors").state_dict()["final_conv.weight"].flat[0] != pytest.approx(
        mn.load("dots").state_dict()["final_conv.weight"].flat[0], abs=1e-2
    )


@pytest.mark.parametrize("name", ["dot", "DOTS", "dots/", "../models/dots", "", "nothing/dots"])
def test_other_names_are_files_as_ever(box, name):
    with pytest.raises((mn.FileFormatError, FileNotFoundError)):
        mn.load(name)


def test_a_wrong_name_is_told_what_there_is(box, monkeypatch):
    with pytest.raises(mn.FileFormatError, match=r"^dot: no such file; and found .* models in the package: dots$"):
        mn.load("dot")
    monkeypatch.setattr(boxed, "FOLDER", box / "nothing")
    with pytest.raises(mn.FileFormatError, match=r"^dots: no such file; and found .* expected \.safetensors or \.npz$"):
        mn.load("dots")


def test_the_card_in_short(box):
    text = boxed.card("dots")
    assert text.startswith("# dots: small dots") and "| 1 | 2 |" in text and "Limits" not in text
    assert text.endswith(f"the whole model card: {box / 'dots.md'}")
    assert boxed.card(box / "dots.safetensors") is None and boxed.card("other") is None


# -------------------------------------------------------------------------------------------- the commands


@pytest.fixture
def images(box):
    """Two images with instance masks, as .npy, in the current folder."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        os.mkdir(folder)
    for k in range(2):
        labels = np.kron(rng.integers(0, 4, (5, 6)), np.ones((4, 4), np.uint16))
        np.save(f"images/{k}.npy", (labels * 40 + rng.integers(0, 9, labels.shape)).astype(np.uint8))
        np.save(f"masks/{k}.npy", labels.astype(np.uint16))
    return box


def test_info(box, capsys):
    assert cli.main(["info", "dots"]) == 0
    said = capsys.readouterr().out
    assert "U-Net, features 2,3" in said and "# dots: small dots" in said and "Limits" not in said
    assert cli.main(["info", str(box / "dots.safetensors")]) == 0
    assert "small dots" not in capsys.readouterr().out


def test_predict(images, capsys):
    assert cli.main(["predict", "dots", "images", "--out", "out", "--probabilities", "--backend", "numpy"]) == 0
    with mn.use_backend("numpy"):
        expected = mn.predict(mn.load(images / "dots.safetensors"), np.load("images/0.npy"))
    np.testing.assert_array_equal(np.load("out/0_prob.npy"), expected)
    assert cli.main(["predict", "dotz", "images", "--out", "out"]) == 2
    assert "dotz: no such file; and found the suffix" in capsys.readouterr().err


def test_evaluate(images, capsys):
    assert cli.main(["evaluate", "dots", "images", "masks", "--json", "e.json", "--backend", "numpy"]) == 0
    assert json.loads(Path("e.json").read_text())["count"] == 2


def test_evaluate_is_not_misled_by_a_run_in_the_current_folder(images, capsys):
    """settings.json beside a model file names what that was trained on; the model of the package lies elsewhere."""
    settings = {"options": {"images": os.path.abspath("images")}, "training": ["0", "1"]}
    with open("settings.json", "w") as file:
        json.dump(settings, file)
    assert cli.main(["evaluate", "dots", "images", "masks", "--backend", "numpy"]) == 0
    assert "the model was trained on" not in capsys.readouterr().err


def test_train_from_it(images):
    command = "train images masks --target instances --out run --steps 1 --init dots --batch 1 --crop 16"
    assert cli.main([*command.split(), "--backend", "numpy"]) == 0
    assert mn.load("run/model.safetensors").features == (2, 3)


def test_with_numpy_alone(images, tmp_path):
    """In a process in which nothing but NumPy can be imported."""
    code = f"""
import sys
for name in ("numba", "llvmlite", "PIL", "scipy", "matplotlib", "rich", "tifffile", "cupy", "safetensors"):
    sys.modules[name] = None
from pathlib import Path
from minunet import cli
from minunet.model_files import boxed
boxed.FOLDER = Path({str(images)!r})
sys.exit(cli.main(["predict", "dots", "images/0.npy", "--out", "alone"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert np.load("alone/0.npy").shape == (20, 24)


# ------------------------------------------------------------------------------- the model that is shipped

shipped = pytest.mark.skipif(not NUCLEI.exists(), reason="the model file is not there (bench/train_nuclei.py makes it)")


@shipped
def test_nuclei_is_small_and_whole():
    assert NUCLEI.stat().st_size <= 2_000_000
    numbers = json.loads(NUCLEI.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(NUCLEI.read_bytes()).hexdigest() == numbers["sha256"]  # the three belong together
    card = NUCLEI.with_suffix(".md").read_text(encoding="utf-8")
    for found in numbers["scores"].values():
        assert f"{found['mean_iou']:.3f}" in card
    model = mn.load("nuclei")
    assert (model.in_channels, model.padding) == (1, "same")
    assert list(model.features) == numbers["network"]["features"]


@shipped
def test_nuclei_finds_bright_spots_of_the_sizes_that_its_card_names():
    """Discs of nuclear size on a dark ground: what anyone would try first."""
    model = mn.load("nuclei")
    y, x = np.mgrid[:192, :192]
    rng = np.random.default_rng(0)
    for radius in (4, 7, 12, 17):
        truth = ((y % 64 - 32) ** 2 + (x % 64 - 32) ** 2 <= radius**2)
        image = np.clip(12 + 90 * truth + rng.normal(0, 3, truth.shape), 0, 255).astype(np.uint8)
        found = 1 - mn.predict(model, image)[0] > 0.5
        assert (found & truth).sum() / (found | truth).sum() > 0.7, radius
