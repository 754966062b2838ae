"""Bad input of every kind, given to the command line: a plain sentence, status 2, nothing written.

Each row of the tables says what is spoilt, the command, and words of the message: the name of
what is wrong and what to do about it. After the command every file and folder is as it was.
"""

import io
import json
import os
import shutil
import struct
import unicodedata
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import Coding, Preprocessing, read_image, write_image
from minunet.display import pictures

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

SIZE = 64
NAMES = ("a", "b", "c", "d")
RNG = np.random.default_rng(0)
SCENE = RNG.integers(0, 200, (SIZE, SIZE), dtype=np.uint8)
COLORS = np.dstack([SCENE, SCENE.T, SCENE[::-1]])
DISK = np.where(np.hypot(*(np.indices((SIZE, SIZE)) - 30)) < 20, 255, 0).astype(np.uint8)
BLURRED = np.array(Image.fromarray(DISK[::8, ::8]).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
BLURRED = np.where(np.abs(BLURRED.astype(int) - 128) < 60, BLURRED, 255 * (BLURRED > 128)).astype(np.uint8)
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

TRAIN = "train {images} {masks} --out {out} --steps 1 --features 2"
PREDICT = "predict {model} --out {out}"
EVALUATE = "evaluate {model} {images} {masks} --out {out}"
INFO = "info {model}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A small data set and a model, both without fault."""
    here = tmp_path_factory.mktemp("sound")
    for folder, array in (("images", SCENE), ("masks", DISK)):
        (here / folder).mkdir()
        for name in NAMES:
            write_image(here / folder / f"{name}.png", array)
    mn.save(network(), here / "model.safetensors")
    return here


@pytest.fixture
def world(sound, tmp_path):
    """A copy that may be spoilt; `world.out` does not exist yet."""
    shutil.copytree(sound, tmp_path / "w")
    here = tmp_path / "w"
    places = {name: here / name for name in ("images", "masks", "out", "other")}
    return SimpleNamespace(here=here, model=here / "model.safetensors", **places)


@pytest.fixture(autouse=True)
def without_compiling():
    with mn.use_backend("numpy"):
        yield


def network(**options):
    shape = {"in_channels": 1, "out_channels": 2, "features": (2,), "padding": "same", "norm": "batch"}
    model = mn.UNet(**{**shape, **options})
    model.preprocessing = Preprocessing(model.in_channels, "standardize")
    model.coding = Coding("binary", (0, 255))
    return model


def tree(folder):
    """Every path below with its kind, its mode and what it holds."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else None
        found[str(path)] = (mode, content)
    return found


def run(world, command, capsys):
    """(status, stderr) of a command line with {names} of places in it."""
    arguments = [part.format(**vars(world)) for part in command.split()]
    capsys.readouterr()
    try:
        status = cli.main(arguments)
    except SystemExit as exit:  # argparse
        status = exit.code
    return status, capsys.readouterr().err


def check_refusal(world, command, words, capsys):
    before = tree(world.here)
    status, said = run(world, command, capsys)
    assert status == 2, said
    assert "Traceback" not in said and "Error" not in said
    lines = [line for line in said.splitlines() if line.startswith("minunet")]
    assert len(lines) == 1 and lines[0].startswith("minunet"), said
    others = [line for line in said.splitlines() if line != lines[0]]
    # The faults of a data set are listed below the sentence; argparse shows the usage above it.
    assert all(line.startswith(("  ", "usage: ")) for line in others), said
    assert len(lines[0]) < 700, said
    for word in words:
        assert word.format(**vars(world)) in said
    assert tree(world.here) == before


# ----------------------------------------------------------------------- how files are spoilt


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_kind(path, kind, array=SCENE):
    """Replace a PNG by a file of another kind, of the same stem."""
    path.unlink()
    path = path.with_suffix(kind)
    if kind == ".npy":
        np.save(path, array)
    elif kind == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


def png_header(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def tiff_header(width, height):
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, height), (279, 4, 10)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def npy_header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def bmp_header(width, height):
    file = io.BytesIO()
    Image.fromarray(SCENE).save(file, "BMP")
    content = bytearray(file.getvalue())
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def replaced(folder, name, content):
    """A maker that puts bytes in place of the file of this stem."""

    def make(world):
        place = getattr(world, folder)
        (place / f"{Path(name).stem}.png").unlink()
        (place / name).write_bytes(content)

    return make


def array_at(folder, name, array):
    """A maker that puts an array, as NPY, in place of the PNG of this stem."""

    def make(world):
        place = getattr(world, folder)
        (place / f"{name}.png").unlink()
        np.save(place / f"{name}.npy", array, allow_pickle=True)

    return make


def all_masks(*arrays, suffix=".png"):
    """A maker that replaces the masks by these arrays, in turn."""

    def make(world):
        for i, name in enumerate(NAMES):
            (world.masks / f"{name}.png").unlink()
            Image.fromarray(arrays[i % len(arrays)]).save(world.masks / f"{name}{suffix}")

    return make


def renamed(folder, rule):
    def make(world):
        for path in sorted(getattr(world, folder).iterdir()):
            path.rename(path.with_name(rule(path.name)))

    return make


def nothing(world):
    pass


def alpha_drawing(world):
    layers = np.zeros((SIZE, SIZE, 4), np.uint8)
    layers[..., 3] = DISK
    Image.fromarray(layers).save(world.masks / "b.png")


def stray_value(world):
    mask = DISK.copy()
    mask[0, :2] = 128
    write_image(world.masks / "c.png", mask)


def both_in_one_folder(world):
    for path in world.masks.iterdir():
        path.rename(world.images / f"{path.stem}_seg.png")


def only_what_is_skipped(world):
    world.other.mkdir()
    (world.other / "x.png").mkdir()
    for name in (".hidden.png", "._x.png", "Thumbs.db", ".DS_Store", "notes.txt"):
        (world.other / name).write_bytes(b"")


def broken_link(world):
    (world.images / "a.png").unlink()
    (world.images / "a.png").symlink_to(world.here / "moved away.png")


def stacks(images, masks):
    def make(world):
        for folder, pages, array in ((world.images, images, SCENE), (world.masks, masks, DISK)):
            (folder / "c.png").unlink()
            tifffile.imwrite(folder / "c.tif", np.stack([array] * pages), photometric="minisblack")

    return make


def one_image_only(world):
    for name in NAMES[1:]:
        (world.images / f"{name}.png").unlink()
        (world.masks / f"{name}.png").unlink()


def same_stem(world):
    write_image(world.images / "b.npy", SCENE)


def locked(*parts):
    """A maker that takes all rights from a file or folder."""

    def make(world):
        world.here.joinpath(*parts).chmod(0)

    return make


def no_writing(world):
    world.other.mkdir()
    world.other.chmod(0o555)


def out_is_a_file(world):
    world.out.write_text("mine")


# --------------------------------------------------------------------------------- data to train on

# ------------------------------------------------------------------------------ data to train on

DATA = {
    # unreadable
    "truncated PNG": (lambda w: cut(w.images / "b.png"), "b.png: cannot | save it again"),
    "truncated JPEG": (lambda w: cut(other_kind(w.images / "b.png", ".jpg")), "b.jpg: cannot | save it again"),
    "truncated TIFF": (lambda w: cut(other_kind(w.images / "b.png", ".tif")), "b.tif: cannot | save it again"),
    "truncated BMP": (lambda w: cut(other_kind(w.images / "b.png", ".bmp")), "b.bmp: cannot | save it again"),
    "truncated NPY": (lambda w: cut(other_kind(w.images / "b.png", ".npy")), "b.npy: not a readable | save it again"),
    "truncated mask": (lambda w: cut(w.masks / "b.png"), "masks/b.png: cannot | save it again"),
    "truncated stack": (lambda w: (stacks(5, 5)(w), cut(w.images / "c.tif")), "images/c.tif: cannot | save it again"),
    "empty PNG": (replaced("images", "a.png", b""), "a.png: is empty | save it again"),
    "empty NPY": (replaced("masks", "a.npy", b""), "a.npy: is empty | save it again"),
    "text as PNG": (replaced("images", "a.png", b"<html>404</html>"), "a.png: | none of PNG | save it again"),
    "text as TIFF": (replaced("images", "a.tif", b"<html>404</html>"), "a.tif: cannot | save it again"),
    "zeros as JPEG": (replaced("images", "a.jpg", bytes(500)), "a.jpg: | none of PNG | save it again"),
    "PostScript as PNG": (replaced("images", "a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "a.png: | save it again"),
    "zip as NPY": (replaced("images", "a.npy", b"PK\3\4" + bytes(50)), "a.npy: not a readable | save it again"),
    "pickle as NPY": (array_at("images", "a", np.array([[print]])), "a.npy: not a readable | save it again"),
    "words as NPY": (array_at("images", "a", np.array([["x", "y"]])), "a.npy: | real numbers | np.save"),
    "complex NPY": (array_at("images", "a", np.ones((4, 4), complex)), "a.npy: | real numbers | np.save"),
    "one-dimensional NPY": (array_at("images", "a", np.ones(9)), "a.npy: shape (9,) | save (H, W)"),
    "four-dimensional NPY": (array_at("images", "a", np.ones((2, 3, 4, 5))), "a.npy: shape (2, 3, 4, 5) | save (H, W)"),
    "NPY without pixels": (array_at("images", "a", np.ones((0, 7))), "a.npy: shape (0, 7) | save (H, W)"),
    "seven channels": (array_at("images", "a", np.ones((SIZE, SIZE, 7))), "a.npy: shape | 1 to 4 channels"),
    "broken link": (broken_link, "a.png: no such file | check the path"),
    # headers that claim far too much
    "huge PNG": (replaced("images", "a.png", png_header(10**6, 10**6)), "a.png: claims 1000000x1000000 | smaller"),
    "huge TIFF": (replaced("images", "a.tif", tiff_header(10**6, 10**6)), "a.tif: claims 1000000x1000000 | smaller"),
    "huge BMP": (replaced("images", "a.bmp", bmp_header(10**6, 10**6)), "a.bmp: claims 1000000x1000000 | smaller"),
    "huge NPY": (replaced("images", "a.npy", npy_header((10**6, 10**6))), "a.npy: | 8000000000000 bytes | save it"),
    "vast NPY": (replaced("masks", "a.npy", npy_header((2**40, 2**40))), "a.npy: | holds 0 | save it again"),
    # values
    "NaN in an image": (
        lambda w: other_kind(w.images / "a.png", ".tif", np.full((SIZE, SIZE), np.nan, np.float32)),
        "a.tif: holds NaN | replace"),
    "infinity in an image": (array_at("images", "a", np.full((SIZE, SIZE), np.inf)), "a.npy: | infinite | replace"),
    "numbers beyond float32": (array_at("images", "a", np.full((SIZE, SIZE), 1e300)), "a.npy: | too large | replace"),
    "NaN in a mask": (array_at("masks", "a", np.full((SIZE, SIZE), np.nan)), "masks/a.npy: holds NaN | replace"),
    "fractions in a mask": (array_at("masks", "a", DISK / 2), "masks/a.npy: | between whole numbers | threshold"),
    "negative mask": (array_at("masks", "a", -DISK.astype(int)), "masks/a.npy: negative value -255 | save it again"),
    "mask of five channels": (array_at("masks", "a", np.ones((SIZE, SIZE, 5))), "masks/a.npy: shape | give (H, W)"),
    "one-hot mask": (
        array_at("masks", "a", np.stack([DISK == 0, DISK > 0], axis=2)), "masks/a.npy: a one-hot mask of 2 | argmax"),
    "mask of two layers": (
        array_at("masks", "a", np.stack([DISK, DISK.T[::-1]], axis=2)), "masks/a.npy: 2 channels, of which | mask["),
    # sizes and pages
    "mask of another size": (
        array_at("masks", "b", np.ones((9, 8))), "images/b.png | masks/b.npy | 64x64 | 9x8 | same size | export"),
    "mask on its side": (
        lambda w: (array_at("masks", "b", np.ones((9, 16)))(w), array_at("images", "b", np.ones((16, 9)))(w)),
        "masks/b.npy | 16x9 | 9x16 | turn it"),
    "stacks of different length": (stacks(3, 2), "images/c.tif | masks/c.tif | 3 pages | 2 pages | give every"),
    "a stack and one mask": (stacks(3, 1), "c.tif | 3 pages | 1 page | give every"),
    # pairing
    "image without a mask": (lambda w: (w.masks / "c.png").unlink(), "images/c.png: | without a mask | rename"),
    "mask without an image": (lambda w: (w.images / "c.png").unlink(), "masks/c.png: | without an image | rename"),
    "names with an ending": (renamed("masks", lambda n: n.replace(".", "_mask.")), "a.png | give --mask-suffix _mask"),
    "names with a hyphen": (renamed("masks", lambda n: n.replace(".", "-m.")), "a.png | give --mask-suffix=-m"),
    "a folder for an image": (
        lambda w: ((w.images / "c.png").unlink(), (w.images / "c.png").mkdir()), "images/c.png: a folder, where | put"),
    "names with a beginning": (renamed("masks", lambda n: "mask_" + n), "a.png | begin with mask_ | rename"),
    "names in upper case": (renamed("masks", str.upper), "a.png | upper and lower case | rename"),
    "two images of one stem": (lambda w: np.save(w.images / "b.npy", SCENE), "images/b.npy and b.png: | keep one"),
    "one image": (one_image_only, "one image | --validation 0"),
    # what masks mean
    "empty masks": (all_masks(DISK * 0), "every mask is 0 | check"),
    "full masks": (all_masks(DISK * 0 + 255), "every mask is 255 | check"),
    "0/1 among 0/255": (all_masks(DISK, DISK, DISK, DISK // 255), "masks/d.png: the foreground is 1 | save | --target"),
    "a stray value": (stray_value, "masks/c.png: value 128 in 2 pixels | correct | --target"),
    "blurred masks": (all_masks(BLURRED), "masks/a.png: greys | threshold"),
    "JPEG masks": (all_masks(DISK, suffix=".jpg"), "masks/a.jpg: | JPEG | PNG"),
    "mask in the alpha channel": (alpha_drawing, "masks/b.png: | alpha | without transparency"),
    "photographs as masks": (all_masks(SCENE), "different values | check"),
    "colour photographs as masks": (all_masks(COLORS), "colours | PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_trained_on(world, capsys, name):
    make, words = DATA[name]
    make(world)
    check_refusal(world, TRAIN, words.split(" | "), capsys)


def test_many_faults_are_told_at_once(world, capsys):
    cut(world.images / "a.png")
    array_at("masks", "b", np.ones((9, 8)))(world)
    (world.images / "c.png").unlink()
    array_at("masks", "d", DISK / 2)(world)
    words = ["4 faults", "images/a.png: cannot", "masks/b.npy: the image", "masks/c.png: 1 mask", "masks/d.npy: values"]
    check_refusal(world, TRAIN, words, capsys)


# ------------------------------------------------------------------- places, options, targets

COMMANDS = {
    "no folder": (nothing, "train {here}/no {masks} --out {out}", "no: no such file or folder | check the path"),
    "no folders": (nothing, "train {here}/no {here}/nay --out {out}", "2 faults | no: no such | nay: no such | check"),
    "a name that is too long": (nothing, "train " + "n" * 300 + " {masks} --out {out}", "no such | check the path"),
    "only what is skipped": (only_what_is_skipped, "train {other} {masks} --out {out}", "other: no image | give"),
    "a file of another kind": (out_is_a_file, "train {out} {masks} --out {other}", "out: not an image | known are"),
    "an ending that is not there": (nothing, TRAIN + " --mask-suffix _mask", "a.png | leave out --mask-suffix"),
    "one folder for both": (both_in_one_folder, "train {images} {images} --out {out}", "--mask-suffix _seg"),
    "one folder without an ending": (nothing, "train {images} {images} --out {out}", "same folder | --mask-suffix"),
    "images as masks": (nothing, "train {masks} {images} --out {out} --target binary", "needs two values | foreground"),
    "two values as three classes": (nothing, TRAIN + " --target nuclei", "'nuclei' | choose from"),
    "all empty for foreground": (all_masks(DISK * 0), TRAIN + " --target foreground", "every mask is 0 | check"),
    "no background": (all_masks(DISK // 255 + 1), TRAIN + " --target foreground", "no pixel of any mask is 0 | save"),
    "out is a file": (out_is_a_file, TRAIN, "out"),
    "out below a file": (out_is_a_file, "train {images} {masks} --out {out}/run --steps 1", "out"),
    "out among the images": (nothing, "train {images} {masks} --out {images}", "folder of the data | give"),
    "out has a name that is too long": (
        nothing, "train {images} {masks} --steps 1 --out {here}/" + "n" * 300, "nnn | File name too long | shorter"),
    "no steps": (nothing, TRAIN + " --steps 0", "'0' is not a whole number above 0"),
    "half a step": (nothing, TRAIN + " --steps 1.5", "'1.5' is not a whole number"),
    "no minutes": (nothing, "train {images} {masks} --out {out} --minutes 0", "'0' is not a number of minutes"),
    "too few minutes": (nothing, "train {images} {masks} --out {out} --minutes 0.001", "too short"),
    "no batch": (nothing, TRAIN + " --batch 0", "'0' is not a whole number above 0"),
    "no threads": (nothing, TRAIN + " --threads 0", "'0' is not a whole number above 0"),
    "seed below 0": (nothing, TRAIN + " --seed -3", "--seed"),
    "features that are no numbers": (nothing, TRAIN + " --features big", "'big' is not a whole number"),
    "a crop of three sides": (nothing, TRAIN + " --crop 8x8x8", "'8x8x8' is not a size"),
    "a crop too small": (nothing, TRAIN + " --crop 1", "crop does not fit"),
    "rate 0": (nothing, TRAIN + " --lr 0", "lr must be above 0"),
    "rate NaN": (nothing, TRAIN + " --lr nan", "lr"),
    "rate infinite": (nothing, TRAIN + " --lr inf", "lr"),
    "decay below 0": (nothing, TRAIN + " --weight-decay -1", "weight_decay"),
    "dropout 1": (nothing, TRAIN + " --dropout 1", "dropout"),
    "all for validation": (nothing, TRAIN + " --validation 1", "--validation | share"),
    "validation NaN": (nothing, TRAIN + " --validation nan", "--validation | share"),
    "loss of two classes": (all_masks(DISK // 255, DISK // 127), TRAIN + " --loss bce", "--loss bce | use ce"),
    "evaluate: no folder": (nothing, "evaluate {model} {images} {here}/no --out {out}", "no: no such | check"),
    "evaluate: a broken image": (lambda w: cut(w.images / "b.png"), EVALUATE, "b.png: cannot | save it again"),
    "evaluate: unknown values": (all_masks(DISK // 2), EVALUATE, "masks/a.png: value 127 | 255 foreground | correct"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_that_cannot_be_carried_out(world, capsys, name):
    make, command, words = COMMANDS[name]
    make(world)
    check_refusal(world, command, words.split(" | "), capsys)


# ------------------------------------------------------------------------------------- models


def header_of(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewritten(change):
    """A maker that changes the JSON header of the model."""

    def make(world):
        header, data = header_of(world.model)
        header = change(header) or header
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        world.model.write_bytes(len(text).to_bytes(8, "little") + text + data)

    return make


def with_architecture(**changes):
    def change(header):
        description = json.loads(header["__metadata__"]["minunet"])
        description["architecture"] |= changes
        header["__metadata__"]["minunet"] = json.dumps(description)

    return rewritten(change)


def first_tensor(**changes):
    return rewritten(lambda header: header["final_conv.weight"].update(changes))


def as_model(content):
    return lambda world: world.model.write_bytes(content)


def model_is_a_folder(world):
    world.model.unlink()
    world.model.mkdir()


def of_another_kind(**options):
    return lambda world: mn.save(network(**options), world.model)


MODELS = {
    "missing": (lambda w: w.model.unlink(), "model.safetensors: No such file"),
    "empty": (as_model(b""), "found 0 bytes | expected"),
    "truncated": (lambda w: cut(w.model), "found | expected"),
    "text": (as_model(b"<html>not found</html>"), "found | expected"),
    "a pickle": (as_model(b"\x80\x04\x95" + bytes(90)), "found | expected"),
    "a zip": (as_model(b"PK\3\4" + bytes(90)), "found | expected"),
    "a folder": (model_is_a_folder, "found a folder"),
    "header longer than the file": (as_model((2**62).to_bytes(8, "little") + b"{}"), "found | expected"),
    "nested JSON": (rewritten(lambda h: b'{"a":' * 9000 + b"1" + b"}" * 9000), "not valid JSON"),
    "a key twice": (rewritten(lambda h: b'{"a": 1, "a": 2}'), "twice"),
    "NaN in the header": (rewritten(lambda h: b'{"a": NaN}'), "not valid JSON"),
    "no description": (rewritten(lambda h: h.pop("__metadata__") and None), "description | expected"),
    "unknown dtype": (first_tensor(dtype="Q7"), "final_conv.weight | expected"),
    "dtype of another size": (first_tensor(dtype="F64"), "final_conv.weight | expected"),
    "negative shape": (first_tensor(shape=[-1, 2, 1, 1]), "shape"),
    "vast shape": (first_tensor(shape=[2**40, 2**40]), "shape"),
    "another shape": (first_tensor(shape=[1, 4, 1, 1]), "final_conv.weight | (2, 2, 1, 1)"),
    "overlap": (first_tensor(data_offsets=[0, 16]), "overlap"),
    "a million levels": (with_architecture(features=[1] * 100_000), "levels"),
    "vast features": (with_architecture(features=[2**30]), "do not fit | shape"),
    "unknown padding": (with_architecture(padding="full"), "padding"),
    "integer weights": (with_architecture(dtype="int32"), "dtype"),
}
USES = {
    "info": INFO,
    "predict": PREDICT + " {images}",
    "--init": TRAIN + " --init {model}",
    "evaluate": EVALUATE,
}


@pytest.mark.parametrize("name", MODELS)
def test_model_files_that_cannot_be_used(world, capsys, name):
    make, words = MODELS[name]
    make(world)
    for command in USES.values():
        check_refusal(world, command, ["model.safetensors", *words.split(" | ")], capsys)


@pytest.mark.parametrize(
    "options, command, words",
    [
        ({"out_channels": 3}, USES["--init"], "tells 3 classes apart | the masks have 2 | start without --init"),
        ({"features": (3,)}, USES["--init"], "has features [3], not [2] | leave out --features"),
        ({"norm": None}, USES["--init"] + " --norm batch", "has norm none, not batch | leave out --norm"),
        ({"in_channels": 5}, USES["--init"], "1 channels does not fit a model of 5"),
        ({"in_channels": 5}, USES["predict"], "1 channels does not fit a model of 5"),
        ({"in_channels": 5}, USES["evaluate"], "1 channels does not fit a model of 5"),
    ],
)
def test_a_model_of_another_kind(world, capsys, options, command, words):
    of_another_kind(**options)(world)
    check_refusal(world, command, words.split(" | "), capsys)


# ------------------------------------------------------------------------------------ predict

PREDICTIONS = {
    "no image": (nothing, "{here}/no.png", "no.png: no such file or folder | check the path"),
    "a name that is too long": (nothing, "n" * 300 + ".png", "nnn.png: File name too long | shorter"),
    "another kind": (out_is_a_file, "{out}", "out"),
    "truncated": (lambda w: cut(w.images / "a.png"), "{images}/a.png", "a.png: cannot | save it again"),
    "empty": (replaced("images", "a.png", b""), "{images}/a.png", "a.png: is empty | save it again"),
    "huge": (replaced("images", "a.png", png_header(10**6, 10**6)), "{images}/a.png", "a.png: claims | smaller"),
    "NaN": (array_at("images", "a", np.full((4, 4), np.nan)), "{images}/a.npy", "a.npy: holds NaN | replace"),
    "many channels": (array_at("images", "a", np.ones((9, 9, 9))), "{images}/a.npy", "a.npy: shape (9, 9, 9)"),
    "a folder without images": (only_what_is_skipped, "{other}", "other: no image file | give"),
    "a folder named x.png": (only_what_is_skipped, "{other}/x.png", "x.png: no image file | give"),
    "twice": (nothing, "{images}/a.png {images}/a.png", "a.png"),
    "two of one name": (nothing, "{images}/a.png {masks}/a.png", "images/a.png | masks/a.png"),
    "onto itself": (nothing, "{images}/a.png --out {images}", "a.png | --out"),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_images_that_cannot_be_predicted(world, capsys, name):
    make, inputs, words = PREDICTIONS[name]
    make(world)
    out = "" if "--out" in inputs else " --out {here}/results"
    check_refusal(world, "predict {model} " + inputs + out, words.split(" | "), capsys)


def test_finished_results_are_not_touched_by_a_refusal(world, capsys):
    assert run(world, PREDICT + " {images}", capsys)[0] == 0
    assert len(list(world.out.iterdir())) == len(NAMES)
    check_refusal(world, PREDICT + " {images} {masks}", ["a.png"], capsys)
    check_refusal(world, PREDICT + " {images}/a.png {here}/no.png", ["no.png: no such"], capsys)


# --------------------------------------------------------------------------------- permissions

LOCKED = {
    "image": (locked("images", "a.png"), TRAIN, "a.png: may not be read | permissions"),
    "mask": (locked("masks", "a.png"), TRAIN, "masks/a.png: may not be read | permissions"),
    "folder": (locked("images"), TRAIN, "images | permissions"),
    "model": (locked("model.safetensors"), INFO, "model.safetensors"),
    "image to predict": (locked("images", "a.png"), PREDICT + " {images}/a.png", "a.png: may not | permissions"),
    "place for a run": (no_writing, "train {images} {masks} --out {other}/run --steps 1", "other"),
    "place for results": (no_writing, "predict {model} {images} --out {other}/new", "other"),
    "folder of results": (no_writing, "predict {model} {images} --out {other}", "other"),
}  # fmt: skip


@pytest.mark.skipif(AS_ROOT, reason="root may read and write everything")
@pytest.mark.parametrize("name", LOCKED)
def test_what_permissions_forbid(world, capsys, name):
    make, command, words = LOCKED[name]
    make(world)
    try:
        check_refusal(world, command, words.split(" | "), capsys)
    finally:
        for folder in (world.images, world.other):
            if folder.exists():
                folder.chmod(0o755)


# ------------------------------------------------------------------------ odd, but not wrong

STEMS = ("細胞 核", "naïve é", unicodedata.normalize("NFD", "é"), "$x_^$ %d {}", "-n", "n" * 240)


def test_names_of_every_kind_and_stacks_work(world, capsys):
    """With files and folders beside them that are passed over."""
    stacks(3, 3)(world)
    only_what_is_skipped(world)
    for path in world.other.iterdir():
        path.rename(world.images / path.name)
    for stem in STEMS:
        for folder in (world.images, world.masks):
            shutil.copy(folder / "a.png", folder / f"{stem}.png")
    assert run(world, TRAIN + " --validation 0", capsys)[0] == 0
    names = json.loads((world.out / "settings.json").read_text())["training"]
    assert sorted(names) == sorted(["a", "b", "c_p001", "c_p002", "c_p003", "d", *STEMS])
    assert run(world, "predict {model} {images} --out {other}", capsys)[0] == 0
    assert {f"{stem}.png" for stem in STEMS} < {path.name for path in world.other.iterdir()}


def test_colour_pictures_of_one_row_work(world, capsys):
    """Grey in colours, so the model is grey, and (1, W, 3) could be one channel of W x 3 pixels."""
    row = SCENE[:1]
    mask = np.where(row > 100, 255, 0).astype(np.uint8)
    for name in NAMES:
        write_image(world.images / f"{name}.png", np.stack([row] * 3, axis=2))
        write_image(world.masks / f"{name}.png", mask)
    assert run(world, TRAIN, capsys)[0] == 0
    assert run(world, "evaluate {model} {images} {masks}", capsys)[0] == 0
    assert run(world, "predict {model} {images} --out {other}", capsys)[0] == 0
    assert read_image(world.other / "a.png").shape == row.shape


def test_images_of_one_pixel_work(world, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    for folder, array in ((world.images, SCENE), (world.masks, DISK)):
        for i, name in enumerate(NAMES):
            write_image(folder / f"{name}.png", array[30 * (i % 2) :, 30:][:1, :1])
    assert run(world, TRAIN, capsys)[0] == 0
    assert run(world, "predict {model} {images} --out {other}", capsys)[0] == 0
    assert read_image(world.other / "a.png").shape == (1, 1)
