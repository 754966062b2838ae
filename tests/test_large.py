"""From file to file: the numbers of the whole image, whatever it is stored as, and going on after an interruption."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import minunet as mn
from minunet import cli
from minunet.data import Coding, DataError, Preprocessing, prepared
from minunet.data.windows import Window, open_windows
from minunet.errors import UsageError
from minunet.prediction import large, predict_files

GREY = np.random.default_rng(0).integers(0, 60000, (131, 97)).astype(np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 256, (61, 77, 3)).astype(np.uint8)
STORED = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"compression": "zlib", "rowsperstrip": 7},
          {"compression": "zlib", "tile": (16, 32)}, {"byteorder": ">"}]  # fmt: skip


def network(channels=1, **options):
    model = mn.UNet(**{"in_channels": channels, "features": (4, 8), "padding": "same", "norm": "batch", **options})
    model.preprocessing = Preprocessing(channels, "standardize")
    return model.eval()


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Bits are compared where Numba is there; the statistics are read in many pieces."""
    monkeypatch.setattr(prepared, "PIECE", 1000)
    with mn.policy("exact"):
        yield


def same(found, expected):
    if mn.kernels.current_backend() == "numba":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)


def agrees(tmp_path, file, model, image, channels_last=False, **options):
    """Mask and probabilities from file to file are those of the image in memory."""
    seen = mn.predict_large(model, file, tmp_path / "out.npy", tmp_path / "p.npy", tile=(40, 24), **options)
    whole = mn.predict(model, image, channels_last=channels_last, **options)
    p, mask = np.load(tmp_path / "p.npy"), np.load(tmp_path / "out.npy")
    assert p.dtype == np.float32 and mask.dtype == np.uint8
    same(p, whole)
    np.testing.assert_array_equal(mask, 255 * p.argmax(axis=0))
    assert seen == tuple(np.unique(p.argmax(axis=0)))
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "out.npy", "p.npy"}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("tta", [False, True])
def test_npy(tmp_path, padding, tta):
    np.save(tmp_path / "a.npy", GREY)
    agrees(tmp_path, tmp_path / "a.npy", network(padding=padding, norm=None), GREY, tta=tta)


@pytest.mark.parametrize("image", [COLOUR, COLOUR.transpose(2, 0, 1).copy(), COLOUR[..., :1], COLOUR[..., 0] / 7.0])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore:a colour image in a grey model")
def test_layouts_and_channels(tmp_path, image, channels):
    np.save(tmp_path / "a.npy", image)
    agrees(tmp_path, tmp_path / "a.npy", network(channels), image)


def test_colours_that_are_equal_in_one_part_alone_are_not_grey(tmp_path):
    """Which a window cannot tell."""
    image = COLOUR.copy()
    image[:50] = image[:50, :, :1]
    np.save(tmp_path / "a.npy", image)
    with pytest.warns(UserWarning, match="its luminance is used"):
        agrees(tmp_path, tmp_path / "a.npy", network(), image)
    np.save(tmp_path / "a.npy", np.repeat(image[..., :1], 3, axis=2))
    agrees(tmp_path, tmp_path / "a.npy", network(), image[..., 0])


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("kind", ["grey", "colour", "planes", "alpha"])
def test_tiff(tmp_path, stored, kind):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    file, model, image = tmp_path / "a.tif", network(), GREY
    if kind == "grey":
        tifffile.imwrite(file, image, **stored)
    else:
        model, image = network(3), COLOUR
        alpha = np.dstack([COLOUR, COLOUR[..., 0]])
        given = {"colour": COLOUR, "planes": np.moveaxis(COLOUR, 2, 0), "alpha": alpha}[kind]
        planes = {"planarconfig": "separate"} if kind == "planes" else {}
        tifffile.imwrite(file, given, photometric="rgb", **planes, **stored)
    agrees(tmp_path, file, model, image, channels_last=image.ndim == 3)


def test_pieces_of_a_tiff_are_not_all_kept(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    from minunet.data import tiff_windows

    monkeypatch.setattr(tiff_windows, "CACHE", 3000)
    tifffile.imwrite(tmp_path / "a.tif", GREY, compression="zlib", tile=(16, 32))
    source = open_windows(tmp_path / "a.tif")
    for top in range(0, 131, 10):
        np.testing.assert_array_equal(source.planes(Window(top, 5, 1, 80))[0], GREY[top : top + 1, 5:85])
        assert source.kept <= 3000
    source.close()


def test_a_tiff_as_result(tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    np.save(tmp_path / "a.npy", GREY)
    model = network(out_channels=3)
    model.coding = Coding("colors", ((0, 0, 0), (9, 0, 0), (0, 200, 7)))
    mn.predict_large(model, tmp_path / "a.npy", tmp_path / "o.tif", tile=50)
    expected = np.array(model.coding.values)[mn.predict(model, GREY, tile=50).argmax(axis=0)]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "o.tif"), expected)


def test_zarr(tmp_path):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    array = zarr.open(str(tmp_path / "a.zarr"), mode="w", shape=GREY.shape, chunks=(32, 32), dtype=GREY.dtype)
    array[:] = GREY
    agrees(tmp_path, tmp_path / "a.zarr", network(), GREY)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 128, 129, 999, 1000, 1001, 5000, 40003])
def test_sums_in_pieces_are_those_of_numpy(count):
    values = np.random.default_rng(count).standard_normal(count) * 1e3
    found = prepared.pairwise_sum(lambda a, b: values[a:b], 0, count)
    assert found == values.sum()
    assert count < 1001 or found != sum(values.tolist())  # in another order it would differ


# ------------------------------------------------------------------------------------------- interruptions


class Stop(Exception):
    pass


@pytest.fixture
def job(tmp_path):
    """An image and a network; the call that predicts it, and one that is interrupted after some tiles."""
    np.save(tmp_path / "a.npy", GREY)
    model = network()

    class Job:
        computed = 0
        arguments = (model, tmp_path / "a.npy", tmp_path / "o.npy")
        journal = tmp_path / "o.npy.journal"

        def run(self, stop=None, **options):
            steps = []

            def progress(done, total):
                steps.append(done)
                if done == stop:
                    raise Stop

            try:
                mn.predict_large(*self.arguments, **{"tile": 32, **options}, progress=progress)
            finally:
                self.computed = len(steps) - 1
            assert steps[-1] == (12 if options.get("tile") == 37 else 20)  # 4 x 3 and 5 x 4 tiles
            return np.load(tmp_path / "o.npy")

    return Job()


def test_an_interrupted_run_goes_on(job, tmp_path):
    expected = 255 * mn.predict(job.arguments[0], GREY).argmax(axis=0)
    for stop, computed in [(3, 3), (11, 8)]:
        with pytest.raises(Stop):
            job.run(stop)
        assert job.computed == computed
        assert not (tmp_path / "o.npy").exists() and (tmp_path / "o.part.npy").exists()
    with open(job.journal, "a") as file:
        file.write("1")  # a line that the end of the process cut off: tile 12, say
    found = job.run(tile=None)  # in the tiles that were begun with
    assert job.computed == 9
    np.testing.assert_array_equal(found, expected)
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "o.npy"}


def test_tiles_that_were_done_are_not_computed_again(job, tmp_path):
    """What is in the file stays, even if it is changed."""
    with pytest.raises(Stop):
        job.run(2)
    part = np.load(tmp_path / "o.part.npy", mmap_mode="r+")
    part[:10, :10] = 7
    part.flush()
    del part
    assert (job.run()[:10, :10] == 7).all()


def test_where_the_part_is_gone_all_is_computed(job, tmp_path):
    with pytest.raises(Stop):
        job.run(2)
    (tmp_path / "o.part.npy").unlink()
    job.run()
    assert job.computed == 20


@pytest.mark.parametrize("changed, words", [
    ("image", "of another image"), ("model", "with another model"), ("tile", "with other tiles"),
    ("tta", "--tta"), ("policy", "in another policy"), ("probabilities", "with other results"),
])  # fmt: skip
def test_another_run_does_not_go_on_with_it(job, tmp_path, changed, words):
    with pytest.raises(Stop):
        job.run(2)
    options = {"tile": {"tile": 37}, "tta": {"tta": True}, "probabilities": {"probabilities": tmp_path / "p.npy"}}
    if changed == "image":
        np.save(tmp_path / "a.npy", GREY + np.uint16(1))
    if changed == "model":
        job.arguments[0].final_conv.bias.data += 1
    before = job.journal.read_text()
    with mn.policy("fast" if changed == "policy" else "exact"), pytest.raises(UsageError, match=words) as error:
        job.run(**options.get(changed, {}))
    assert str(job.journal) in str(error.value) and "delete this file to begin anew" in str(error.value)
    assert job.journal.read_text() == before
    job.journal.unlink()
    with mn.policy("fast" if changed == "policy" else "exact"):
        job.run(**options.get(changed, {}))


def test_the_journal_says_what_it_is_of(job):
    with pytest.raises(Stop):
        job.run(2)
    header, *lines = job.journal.read_text().splitlines()
    assert json.loads(header)["size"] == [131, 97] and len(json.loads(header)["image"]) == 64
    assert [line.split()[0] for line in lines] == ["0", "1"]


def test_a_file_that_is_no_journal_is_left_alone(job):
    job.journal.write_text("my notes\n")
    with pytest.raises(UsageError, match="is not a journal"):
        job.run()
    assert job.journal.read_text() == "my notes\n"


def test_two_processes_at_once_are_refused(job):
    fcntl = pytest.importorskip("fcntl")
    with pytest.raises(Stop):
        job.run(2)
    with open(job.journal, "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process is at work"):
            job.run()
    job.run()


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name, words", [
    ("none.npy", "no such file"), ("a.png", "cannot be read by windows"), ("four.npy", "not an image"),
    ("nan.npy", "NaN"), ("two.npy", "does not fit"),
    ("stack.npy", "4 channels first"), ("short.npy", "claims"), ("pages.tif", "2 pages"),
    ("bad.tif", "cannot be read as TIFF"),
])  # fmt: skip
def test_images_that_cannot_be_read_by_windows(tmp_path, name, words):
    if name.endswith(".tif"):
        tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
        tifffile.imwrite(tmp_path / "pages.tif", np.zeros((2, 9, 9), np.uint8), photometric="minisblack")
    arrays = {"four.npy": np.zeros((2, 2, 2, 2)), "nan.npy": np.full((9, 9, 2), np.nan), "two.npy": np.zeros((9, 9, 3)),
              "stack.npy": np.zeros((4, 9, 9))}
    if name in arrays:
        np.save(tmp_path / name, arrays[name])
    elif name == "short.npy":
        np.save(tmp_path / name, GREY)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    elif name in ("a.png", "bad.tif"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=words) as error:
        mn.predict_large(network(2), tmp_path / name, tmp_path / "o.npy", tile=16)
    assert name in str(error.value) and not (tmp_path / "o.npy").exists()


def test_other_results_than_npy_and_tiff_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    with pytest.raises(UsageError, match=r"written as \.npy, \.tif"):
        mn.predict_large(network(), tmp_path / "a.npy", tmp_path / "o.png", tile=16)
    with pytest.raises(UsageError, match=r"probabilities are written as \.npy"):
        mn.predict_large(network(), tmp_path / "a.npy", tmp_path / "o.npy", tmp_path / "p.tif", tile=16)


def test_the_tile_follows_from_the_memory(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((9, 9), np.uint8))
    with pytest.raises(MemoryError, match="1 MB are not enough memory, even for the network's smallest input"):
        mn.predict_large(network(), tmp_path / "a.npy", tmp_path / "o.npy", memory=1_000_000)
    monkeypatch.setattr(large, "resident", lambda: 0)
    monkeypatch.setattr(large, "room", lambda model: None)
    small, big = (max(large._tile(network(), (9000, 9000), limit)) for limit in (400_000_000, 1_000_000_000))
    assert 64 < small < big < 9000


PEAK = """
import sys, numpy as np, minunet as mn
model = mn.load("m.safetensors")
mn.predict_large(model, "a.npy", "o.npy", "p.npy", memory=int(sys.argv[1]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc (Linux)")
def test_the_process_stays_within_the_memory(tmp_path):
    """An image of 9 MB, 36 MB in float32, with probabilities of 72 MB; whole it would take 700 MB."""
    pytest.importorskip("numba", reason="the estimate is of the Numba kernels")
    limit, model = 280_000_000, network()
    mn.save(model, tmp_path / "m.safetensors")
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (3000, 3000)).astype(np.uint8))
    command = [sys.executable, "-P", "-c", PEAK, str(limit)]
    for _ in range(2):  # the first may compile, and the compiler takes memory too
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < limit


# ------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def model_file(tmp_path):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    mn.save(network(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def run(*arguments):
    return cli.main([*map(str, arguments)])


def test_tile_and_tta_of_the_command(model_file, tmp_path):
    np.save(tmp_path / "a.npy", GREY)
    for name, options in [("whole", ()), ("tiled", ("--tile", "32x48"))]:
        assert run("predict", model_file, tmp_path / "a.npy", "--out", tmp_path / name, "--probabilities", "--tta",
                   *options) == 0  # fmt: skip
    whole, tiled = (np.load(tmp_path / name / "a_prob.npy") for name in ("whole", "tiled"))
    same(tiled, whole)
    same(whole, mn.predict(network(), GREY, tta=True))


def test_large_files_are_predicted_from_file_to_file(model_file, tmp_path, monkeypatch, capsys):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    monkeypatch.setattr(predict_files, "MOST_WHOLE", 10_000)
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    np.save(tmp_path / "small.npy", GREY[:50])
    monkeypatch.setattr(predict_files, "read_stack", lambda path, real=predict_files.read_stack: (
        pytest.fail("read whole") if path.suffix == ".tif" else real(path)))  # fmt: skip
    out = tmp_path / "out"
    assert run("predict", model_file, tmp_path / "a.tif", tmp_path / "small.npy", "--out", out, "--tile", 64,
               "--probabilities") == 0  # fmt: skip
    assert sorted(path.name for path in out.iterdir()) == ["a.tif", "a_prob.npy", "small.png", "small_prob.npy"]
    p = mn.predict(network(), GREY)
    same(np.load(out / "a_prob.npy"), p)
    np.testing.assert_array_equal(tifffile.imread(out / "a.tif"), 255 * p.argmax(axis=0))
    assert "a.tif: tile 0 of 6" in capsys.readouterr().out
    assert run("predict", model_file, tmp_path / "a.tif", "--out", out, "--instances") == 2
    assert "too large for --instances and --overlay" in capsys.readouterr().err


def test_a_mismatch_is_told_in_a_line(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict_files, "MOST_WHOLE", 10_000)
    monkeypatch.setattr(predict_files, "_large_suffix", lambda: ".npy")
    np.save(tmp_path / "a.npy", GREY)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(Stop):
        mn.predict_large(mn.load(model_file), tmp_path / "a.npy", out / "a.npy", tile=32, progress=_stop_at_one)
    assert run("predict", model_file, tmp_path / "a.npy", "--out", out, "--tile", 64) == 2
    said = capsys.readouterr().err
    assert "a.npy.journal: an interrupted run with other tiles is there" in said and said.count("\n") == 1
    assert run("predict", model_file, tmp_path / "a.npy", "--out", out) == 0
    assert "1 from an earlier run" in capsys.readouterr().out
    same(np.load(out / "a.npy"), 255 * mn.predict(network(), GREY).argmax(axis=0))


def _stop_at_one(done, total):
    if done:
        raise Stop
