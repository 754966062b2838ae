"""Prediction at every size, in every layout, without a trace in the model; and of many files, with nothing lost."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from threshold import copying, thresholds

import minunet as mn
from minunet import cli
from minunet.data import Coding, Preprocessing, read_image, write_image
from minunet.prediction import predict_files
from minunet.prediction.predict import reflection
from minunet.training import estimate

PREDICT = sys.modules["minunet.prediction.predict"]  # the module; mn.predict is its function
SIZES = [(1, 1), (1, 9), (2, 3), (7, 5), (16, 16), (17, 31), (40, 24)]


def network(**options):
    shape = {"in_channels": 1, "out_channels": 2, "features": (4, 8), "padding": "same"}
    return mn.UNet(**{**shape, "norm": "batch", "seed": 1, **options})


def image(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding, norm", [("same", "batch"), ("valid", None)])
def test_every_size(size, padding, norm):
    p = mn.predict(network(padding=padding, norm=norm), image(*size))
    assert p.shape == (2, *size)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("features", [(4,), (4, 4), (2, 2, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_reaches_the_nearest_legal_size(features, padding):
    model = network(features=features, padding=padding)
    block = 2 ** len(features)
    for side in range(1, 3 * block):
        (before, after), _ = reflection(model, (side, 1))
        padded = side + before + after
        output = model.output_size((padded, padded))[0]
        assert side <= output < side + block
        assert before == (0 if padding == "same" else 6 * block - 4)
        if padding == "same":
            assert padded % block == 0


def test_a_valid_network_sees_92_pixels_at_four_levels():
    assert reflection(network(features=(1, 1, 1, 1), padding="valid"), (388, 388))[0] == (92, 92)


def test_a_same_padded_network_is_run_on_the_reflected_image():
    model, x = network().eval(), image(10, 7)
    padded = np.pad(x, ((0, 2), (0, 1)), mode="reflect").astype(np.float32)
    with mn.no_grad():  # as in predict: batch norm goes into the weights
        logits = model(padded[None, None]).numpy()[0]
    p = mn.predict(model, x)
    e = np.exp(logits - logits.max(axis=0))
    np.testing.assert_allclose(p, (e / e.sum(axis=0))[:, :10, :7], atol=1e-6)


def test_a_valid_network_agrees_with_its_direct_output():
    """Where the network needs no reflection, predict and model say the same."""
    model, x = network(features=(4,), padding="valid", norm=None).eval(), image(28, 24)
    direct = model(x[None, None].astype(np.float32)).numpy()[0]
    assert direct.shape == (2, 12, 8)
    e = np.exp(direct - direct.max(axis=0))
    np.testing.assert_allclose(mn.predict(model, x)[:, 8:20, 8:16], e / e.sum(axis=0), atol=1e-5)


def test_one_logit_becomes_two_classes():
    model, x = network(out_channels=1).eval(), image(8, 12) / 255
    p = mn.predict(model, x)
    logit = model(x[None, None].astype(np.float32)).numpy()[0, 0]
    np.testing.assert_allclose(p[1], 1 / (1 + np.exp(-logit)), atol=1e-6)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-6)


def test_layouts_of_grey_and_colour():
    grey, x = network(), image(9, 11)
    for same in (x[..., None], x[None], x.astype(np.int32), np.repeat(x[..., None], 3, axis=2)):
        np.testing.assert_array_equal(mn.predict(grey, same), mn.predict(grey, x))
    color, x = network(in_channels=3), image(9, 11, 3)
    np.testing.assert_array_equal(mn.predict(color, x), mn.predict(color, np.moveaxis(x, -1, 0)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("several", [[image(9, 11)] * 2, (image(9, 11),), image(2, 9, 11), image(4, 9, 11),
                                     image(5, 9, 11), image(2, 1, 9, 11)])  # fmt: skip
def test_several_images_are_not_taken_for_channels(channels, several):
    with pytest.raises(ValueError, match="one image at a time"):
        mn.predict(network(in_channels=channels), several)


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_dropped_where_it_is_last(channels):
    model, x = network(in_channels=channels), image(9, 11)
    for color in (x[..., None], np.repeat(x[..., None], 3, axis=2)):
        with_alpha = np.concatenate([color, 255 - x[..., None]], axis=2)
        np.testing.assert_array_equal(mn.predict(model, with_alpha), mn.predict(model, x))
    two = network(in_channels=2)  # for which two channels are no alpha
    assert mn.predict(two, image(2, 9, 11)).shape == (2, 9, 11)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_values_that_are_no_numbers_are_refused(value):
    x = np.zeros((9, 11))
    x[4, 5] = value
    with pytest.raises(ValueError, match="NaN, infinite or too large"):
        mn.predict(network(), x)


def test_a_tensor_is_taken_as_its_array():
    model, image = mn.UNet(1, 2, (2,), padding="same"), np.random.default_rng(0).random((9, 8), np.float32)
    np.testing.assert_array_equal(mn.predict(model, mn.Tensor(image)), mn.predict(model, image))


def test_preprocessing_of_the_model_is_applied():
    model, x = network(), image(16, 16)
    model.preprocessing = Preprocessing(1, "standardize")
    np.testing.assert_allclose(mn.predict(model, x), mn.predict(model, 3.0 * x + 7), atol=1e-5)


def test_float64_all_through():
    assert mn.predict(network(dtype=np.float64), image(8, 8)).dtype == np.float64


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = network()
    model.train() if training else model.eval()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    mn.predict(model, image(20, 20))
    assert model.training is training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_mode_is_restored_after_an_error():
    model = network()
    model.train()
    with pytest.raises(ValueError, match="shape"):
        mn.predict(model, image(2, 3, 4, 5))
    assert model.training


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("levels", [2, 4])
def test_every_side_from_1_to_200_is_predicted_and_not_shifted(levels, padding):
    """A network that hands the image on: each pixel of the answer must be that of the image."""
    model = copying(levels, padding)
    everything = np.random.default_rng(0).random((200, 200), np.float32)
    for height in range(1, 201):
        width = 7 * height % 200 + 1  # each width once, too
        x = everything[:height, :width]
        p = mn.predict(model, x)
        assert p.shape == (2, height, width)
        np.testing.assert_allclose(p[1], 1 / (1 + np.exp(-x)), atol=1e-6, err_msg=f"{height} x {width}")


def test_too_large_an_image_is_refused_in_words(monkeypatch):
    """Before the memory is taken: a system may end the process instead of refusing."""
    monkeypatch.setattr(estimate, "available", lambda: 10_000_000)
    monkeypatch.setattr(PREDICT, "predict_logits", None)  # it must not come to that
    with pytest.raises(MemoryError, match=r"not enough memory for 9000 x 7000 px, which take about 8\d\d MB"):
        mn.predict(network(), np.broadcast_to(np.uint8(0), (9000, 7000)))


def test_where_the_free_memory_is_not_known_the_refusal_is_in_words_too(monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(estimate, "available", lambda: None)
    monkeypatch.setattr(PREDICT, "predict_logits", refuse)
    with pytest.raises(MemoryError, match="not enough memory for 8 x 9 px"):
        mn.predict(network(), image(8, 9))


# ------------------------------------------------------------------------------------------- files


@pytest.fixture
def model(tmp_path):
    """A model file that tells grey values above 100 from others, in masks of 0 and 255."""
    pytest.importorskip("PIL", reason="Pillow is not installed")
    net = thresholds(100)
    net.coding, net.preprocessing = Coding("binary", (0, 255)), Preprocessing(1, "none")
    mn.save(net, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def images(tmp_path):
    """Three images of different sizes in a folder."""
    (tmp_path / "images").mkdir()
    for i, size in enumerate([(8, 9), (1, 1), (31, 20)]):
        write_image(tmp_path / "images" / f"im{i}.png", np.random.default_rng(i).integers(0, 256, size, np.uint8))
    return tmp_path / "images"


def run(model, *inputs, options=(), out="out"):
    out = model.parent / out
    return cli.main(["predict", str(model), *map(str, inputs), "--out", str(out), *options]), out


def stack(path, *pages):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            file.write(page, contiguous=False)


def test_a_folder_becomes_masks_in_the_coding_of_training(model, images, capsys):
    status, out = run(model, images)
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == ["im0.png", "im1.png", "im2.png"]
    for path in images.iterdir():
        expected = np.where(read_image(path) > 100, 255, 0)
        np.testing.assert_array_equal(read_image(out / path.name), expected)
    said = capsys.readouterr()
    assert "3/3" in said.out and "3 files in" in said.out and "255 foreground" in said.out and said.err == ""


def test_a_stack_becomes_a_mask_a_page(model, tmp_path):
    pages = [image(6, 5), 255 - image(6, 5), image(7, 9)]
    stack(tmp_path / "deep.tif", *pages)
    stack(tmp_path / "flat.tif", pages[0])
    status, out = run(model, tmp_path / "deep.tif", tmp_path / "flat.tif", options=["--probabilities"])
    assert status == 0
    assert sorted(path.name for path in out.glob("*.png")) == [
        "deep_p001.png", "deep_p002.png", "deep_p003.png", "flat.png"
    ]  # fmt: skip
    for page, name in zip([*pages, pages[0]], ("deep_p001", "deep_p002", "deep_p003", "flat"), strict=True):
        np.testing.assert_array_equal(read_image(out / f"{name}.png"), np.where(page > 100, 255, 0))
        assert np.load(out / f"{name}_prob.npy").shape == (2, *page.shape)


@pytest.mark.parametrize(
    "names, options, words",
    [
        (("a.png", "a.npy"), (), "would both be written as"),
        (("a.png", "A.png"), (), "would both be written as"),
        (("stra\u00dfe.png", "STRASSE.npy"), (), "would both be written as"),
        (("e\u0301.png", "\u00e9.npy"), (), "would both be written as"),
        (("a.png", "a_overlay.png"), ("--overlay",), "would both be written as"),
        (("a.png", "a_instances.npy"), ("--instances",), "would both be written as"),
        (("deep.tif", "deep_p002.png"), (), "deep.tif and"),
        (("a.png", "a.png"), (), "is given twice"),
        (("a.png", "../model.safetensors"), (), "not an image file"),
        (("a.png", "n" * 245 + ".png"), ("--overlay",), "too long"),
    ],
)
def test_names_that_clash_are_refused_before_anything_is_computed(
    model, tmp_path, capsys, monkeypatch, names, options, words
):
    monkeypatch.setattr(predict_files, "predict", None)
    (tmp_path / "in").mkdir()
    for name in set(names) - {"../model.safetensors"}:
        if name == "deep.tif":
            stack(tmp_path / "in" / name, image(4, 4), image(4, 4))
        else:
            write_image(tmp_path / "in" / name, image(4, 4))
    status, out = run(model, *(tmp_path / "in" / name for name in names), options=options)
    assert status == 2 and not out.exists()
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_a_stack_beside_a_page_that_it_does_not_have(model, tmp_path):
    stack(tmp_path / "deep.tif", image(4, 4), image(4, 4))
    write_image(tmp_path / "deep_p003.png", image(4, 4))
    assert run(model, tmp_path / "deep.tif", tmp_path / "deep_p003.png")[0] == 0


def test_a_broken_image_among_others_does_not_stop_them(model, images, capsys):
    data = (images / "im2.png").read_bytes()
    (images / "im1.png").write_bytes(data[: len(data) // 2])
    (images / "empty.tif").write_bytes(b"")
    status, out = run(model, images)
    assert status == 1
    assert sorted(path.name for path in out.iterdir()) == ["im0.png", "im2.png"]
    said = capsys.readouterr()
    assert said.out.count("not predicted: ") == 2
    assert said.err.count("\n") == 1 and "2 of 4 files could not be predicted" in said.err
    assert "im1.png" in said.err and "empty.tif" in said.err and "the others are in" in said.err


def test_where_nothing_can_be_read_nothing_is_written(model, images, capsys):
    for path in images.iterdir():
        path.write_bytes(b"no picture")
    status, out = run(model, images)
    assert status == 2 and not out.exists()
    assert "3 of 3 files could not be predicted" in capsys.readouterr().err


def test_an_image_that_the_memory_cannot_hold_is_named(model, images, capsys, monkeypatch):
    real = predict_files.predict

    def predict(net, raw, *options):
        if raw.shape == (8, 9):
            raise MemoryError("not enough memory for 8 x 9 px")
        return real(net, raw, *options)

    monkeypatch.setattr(predict_files, "predict", predict)
    status, out = run(model, images)
    assert status == 1 and len(list(out.iterdir())) == 2
    assert "im0.png: not enough memory for 8 x 9 px" in capsys.readouterr().err


def test_colour_in_a_grey_model_warns_once_and_grey_in_a_colour_model_never(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    color = image(5, 6, 3)
    for i in range(3):
        write_image(tmp_path / "in" / f"color{i}.png", color)
    status, out = run(model, tmp_path / "in")
    assert status == 0
    warning = "a colour image in a grey model: its luminance is used"
    assert capsys.readouterr().err.count(warning) == 1
    grey = color @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(read_image(out / "color0.png"), np.where(grey > 100, 255, 0))

    net = thresholds(100, channels=3)
    net.preprocessing = Preprocessing(3, "none")
    mn.save(net, tmp_path / "color.safetensors")
    write_image(tmp_path / "grey.png", image(5, 6))
    assert run(tmp_path / "color.safetensors", tmp_path / "grey.png")[0] == 0
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(read_image(out / "grey.png"), np.where(image(5, 6) > 100, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_picture_one_pixel_high_is_a_row_of_colours(model, tmp_path, suffix):
    """Not one channel of W x 3 grey pixels, which an array of this shape may be."""
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    row = image(1, 9, 3)
    pillow.fromarray(row).save(tmp_path / f"row.{suffix}")
    status, out = run(model, tmp_path / f"row.{suffix}")
    assert status == 0
    grey = row @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(read_image(out / "row.png"), np.where(grey > 100, 255, 0))
    np.save(tmp_path / "array.npy", row)
    assert run(model, tmp_path / "array.npy")[0] == 0
    np.testing.assert_array_equal(read_image(out / "array.png"), np.where(row[0] > 100, 255, 0))


def test_masks_that_say_nothing_are_remarked(model, tmp_path, capsys):
    for i in range(2):
        np.save(tmp_path / f"dark{i}.npy", np.full((4, 4), 3, np.uint8))
    assert run(model, tmp_path / "dark0.npy", tmp_path / "dark1.npy")[0] == 0
    assert "every mask has the value 0 everywhere" in capsys.readouterr().err


def test_masks_that_look_black_are_remarked(tmp_path, model, capsys):
    net = thresholds(100)
    net.coding = Coding("binary", (0, 1))
    mn.save(net, model)
    np.save(tmp_path / "a.npy", image(4, 4))
    assert run(model, tmp_path / "a.npy")[0] == 0
    assert "look black in a viewer" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["the folder", "a link to an image", "a file"])
def test_out_that_would_harm_the_images_is_refused(model, images, tmp_path, capsys, how):
    before = {path: path.read_bytes() for path in images.iterdir()}
    out = tmp_path / "out"
    if how == "the folder":
        out = images
    elif how == "a file":
        shutil.copy(model, out)
    else:
        out.mkdir()
        (out / "im1.png").symlink_to(images / "im1.png")
    status, _ = run(model, images, out=out)
    assert status == 2
    said = capsys.readouterr().err
    assert str(out) in said and said.count("\n") == 1
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_a_terminal_shows_a_bar_and_the_failures(model, images, capsys, monkeypatch):
    pytest.importorskip("rich", reason="rich is not installed")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    (images / "im1.png").write_bytes(b"no picture")
    assert run(model, images)[0] == 1
    said = capsys.readouterr().out
    assert "predicting" in said and "3/3" in said and "not predicted: " in said
    assert "im0.png ->" not in said  # a bar instead of a line a file


def full_disk(*_, **__):
    raise OSError("2048 requested and 0 written")  # NumPy's words, without a name or a number


def test_a_full_disk_is_told_with_the_file(model, images, capsys, monkeypatch):
    monkeypatch.setattr(predict_files.np, "save", full_disk)
    status, out = run(model, images, options=["--probabilities"])
    assert status == 1 and not list(out.glob("*.npy"))
    said = capsys.readouterr().err
    assert f"{out / 'im0_prob.npy'}: could not be written (2048 requested" in said and "is the disk full?" in said


def test_names_that_steer_a_terminal_are_shown_escaped(model, tmp_path, capsys):
    np.save(tmp_path / "a\x1b[31m\nb.npy", image(4, 4))
    assert run(model, tmp_path / "a\x1b[31m\nb.npy")[0] == 0
    said = capsys.readouterr().out
    assert r"a\x1b[31m\nb.png" in said and "\x1b" not in said
    assert run(model, tmp_path / "no\x1b[31m.npy")[0] == 2
    assert r"no\x1b[31m.npy: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("also_stderr", [False, True])
def test_a_reader_that_goes_away_ends_no_prediction(model, tmp_path, also_stderr):
    """As in `minunet predict ... | head -1`, and `2>&1 | head -1`."""
    (tmp_path / "in").mkdir()
    for i in range(5):
        np.save(tmp_path / "in" / f"{i}.npy", np.zeros((8, 8), np.uint8))  # masks of one value: a warning
    command = [sys.executable, "-m", "minunet", "predict", model, tmp_path / "in", "--out", tmp_path / "out"]
    process = subprocess.Popen(
        [*map(str, command), "--backend", "numpy"], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if also_stderr else subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    if not also_stderr:
        assert process.stderr.read().count(b"\n") == 1
        process.stderr.close()
    assert process.wait(60) == 0
    assert len(list((tmp_path / "out").iterdir())) == 5


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_stdout_that_is_full_is_told(model, images):
    command = [sys.executable, "-m", "minunet", "predict", model, images, "--out", model.parent / "out"]
    with open("/dev/full", "w") as full:
        done = subprocess.run([*map(str, command)], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "minunet: the output (stdout) could not be written: No space left on device\n"
