"""Reading and writing image files of every kind that is promised."""

import sys

import numpy as np
import pytest

from minunet.data import DataError, read_image, read_mask, write_image
from minunet.extras import MissingExtra

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 11), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (7, 11), dtype=np.uint16)
COLOR = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)


def saved(path, array, mode=None, **options):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff", "bmp", "PNG"])
@pytest.mark.parametrize("array", [GREY, COLOR], ids=["grey", "color"])
def test_lossless_8_bit(tmp_path, suffix, array):
    image = read_image(saved(tmp_path / f"a.{suffix}", array))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, array)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit(tmp_path, suffix):
    image = read_image(saved(tmp_path / f"a.{suffix}", WIDE))
    assert image.dtype == np.uint16 and image.dtype.isnative
    np.testing.assert_array_equal(image, WIDE)


def test_float_tiff(tmp_path):
    image = read_image(saved(tmp_path / "a.tif", WIDE.astype(np.float32) / 7))
    np.testing.assert_array_equal(image, WIDE.astype(np.float32) / 7)


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)
    image = read_image(saved(tmp_path / "a.jpg", smooth, quality=95))
    assert image.shape == (32, 32) and abs(image.astype(int) - smooth).max() < 6


def test_one_bit(tmp_path):
    image = read_image(saved(tmp_path / "a.png", GREY > 100))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, 255 * (GREY > 100))


@pytest.mark.parametrize(("array", "mode"), [(COLOR, "RGBA"), (GREY, "LA")], ids=["RGBA", "LA"])
def test_alpha_is_dropped(tmp_path, array, mode):
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", array, mode)), array)


def test_palette_becomes_color(tmp_path):
    classes = GREY % 3
    palette = [(0, 0, 0), (255, 0, 0), (10, 200, 30)]
    write_image(tmp_path / "a.png", classes, palette)
    assert Image.open(tmp_path / "a.png").mode == "P"
    expected = np.array(palette, np.uint8)[classes]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), expected)


def test_mask_of_equal_channels_is_grey(tmp_path):
    saved(tmp_path / "a.png", GREY, "RGB")
    assert read_image(tmp_path / "a.png").shape == (7, 11, 3)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), GREY)
    np.save(tmp_path / "b.npy", GREY[..., None])
    np.testing.assert_array_equal(read_mask(tmp_path / "b.npy"), GREY)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_npy_as_stored(tmp_path, dtype):
    np.save(tmp_path / "a.npy", COLOR.astype(dtype))
    image = read_image(tmp_path / "a.npy")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, COLOR.astype(dtype))


@pytest.mark.parametrize("array", [GREY, WIDE, COLOR], ids=["8 bit", "16 bit", "color"])
def test_written_png_reads_back(tmp_path, array):
    write_image(tmp_path / "a.png", array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), array)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_written_npy_reads_back(tmp_path):
    values = GREY.astype(np.float32)[None] / 3
    write_image(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"a\.jpg: images are written as \.png or \.npy"):
        write_image(tmp_path / "a.jpg", GREY)
    with pytest.raises(ValueError, match="float64 of shape"):
        write_image(tmp_path / "a.png", GREY / 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a.bmp", "a.npy"])
@pytest.mark.parametrize("content", [b"", b"no image at all", None], ids=["empty", "text", "cut"])
def test_broken_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    if content is None:
        big = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
        np.save(path, big) if name.endswith("npy") else Image.fromarray(big).save(path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: .*save it again"):
        read_image(path)


def test_other_bad_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"a\.gif: unknown kind of file; known are \.png"):
        read_image(tmp_path / "a.gif")
    np.save(tmp_path / "flat.npy", np.arange(5))
    with pytest.raises(DataError, match=r"flat\.npy: shape \(5,\)"):
        read_image(tmp_path / "flat.npy")
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    with pytest.raises(DataError, match=r"nan\.npy: holds NaN"):
        read_image(tmp_path / "nan.npy")
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(DataError, match=r"text\.npy: does not hold an array of real numbers"):
        read_image(tmp_path / "text.npy")


def test_pickle_is_never_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[print, 1]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not a readable NPY"):
        read_image(tmp_path / "a.npy")


def test_stack_of_pages_is_an_error(tmp_path):
    pages = [Image.fromarray(GREY)] * 3
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a\.tif: 3 pages in one file"):
        read_image(tmp_path / "a.tif")


def test_tiff_that_pillow_cannot_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", GREY / 7)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), GREY / 7)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([GREY / 7] * 5), photometric="minisblack")
    with pytest.raises(DataError, match=r"b\.tif: shape \(5, 7, 11\) is not one image"):
        read_image(tmp_path / "b.tif")


def test_without_pillow(tmp_path, monkeypatch):
    saved(tmp_path / "a.png", GREY)
    np.save(tmp_path / "a.npy", GREY)
    for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy"), GREY)
    with pytest.raises(MissingExtra, match=r"PIL \(Pillow\) is not installed.*minunet\[train\]"):
        read_image(tmp_path / "a.png")
