"""Reading and writing image files of every kind that is promised."""

import struct
import sys
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest

from minunet.data import DataError, images, read_image, read_mask, read_mask_stack, read_stack, write_image
from minunet.extras import MissingExtra

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

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


def test_stack_of_pages(tmp_path):
    pages = [Image.fromarray(GREY + i) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"a\.tif: 3 pages in one file; save every page as a file of its own"):
        read_image(tmp_path / "a.tif")
    for read in (read_stack, read_mask_stack):
        for i, page in enumerate(read(tmp_path / "a.tif")):
            np.testing.assert_array_equal(page, GREY + i)
    (single,) = read_stack(saved(tmp_path / "b.png", COLOR))
    np.testing.assert_array_equal(single, COLOR)


# What lies in the file, and whether Pillow or tifffile reads it, must make no difference.
TIFF_DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", TIFF_DTYPES)
@pytest.mark.parametrize("byteorder", "<>")
def test_every_sample_format_of_tiff(tmp_path, dtype, byteorder):
    values = (GREY.astype(float) - (0 if dtype.startswith("u") else 100)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=byteorder)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype.isnative and image.dtype.kind == values.dtype.kind
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize("pages", [1, 3])
@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_a_stack_that_one_reader_cannot_hold(tmp_path, dtype, pages):
    color = RNG.integers(0, 65536, (pages, 7, 11, 3)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", color, photometric="rgb")
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif"), color)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_16_bit_colours_of_tiff_are_kept(tmp_path, planar, samples):
    color = RNG.integers(0, 65536, (7, 11, samples), dtype=np.uint16)
    stored = np.moveaxis(color, 2, 0) if planar == "separate" else color
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), color[..., :3])


def test_pages_of_different_kinds(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GREY)
        file.write(GREY[::2, ::2], subfiletype=1)  # a thumbnail
        file.write(GREY / 7)
    first, second = read_stack(tmp_path / "a.tif")
    np.testing.assert_array_equal(first, GREY)
    np.testing.assert_array_equal(second, GREY / 7)


def test_a_stack_that_is_cut_off_is_never_shorter(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY] * 5), photometric="minisblack")
    whole, refused = path.read_bytes(), 0
    lengths = range(0, len(whole), 3)  # a cut within a pointer of four bytes is among them
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            pages = read_stack(path)
        except DataError:
            refused += 1
        else:  # what is missing is not needed for the pixels
            assert len(pages) == 5 and all((page == GREY).all() for page in pages), length
    assert refused > 0.9 * len(lengths)


TURNS = {
    1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1],
    5: GREY.T, 6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
def test_turned_images_are_turned_back_masks_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    saved(tmp_path / "a.png", GREY, exif=exif)
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", GREY, extratags=tag)
    tifffile.imwrite(tmp_path / "b.tif", GREY / 7, extratags=tag)
    for read in (read_image, read_mask):
        for name, expected in (("a.png", GREY), ("a.tif", GREY), ("b.tif", GREY / 7)):
            turned = TURNS[orientation].astype(expected.dtype) / (7 if expected.dtype.kind == "f" else 1)
            np.testing.assert_array_equal(read(tmp_path / name), turned)


def test_broken_exif_is_no_reason_to_refuse(tmp_path):
    saved(tmp_path / "a.png", GREY, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), GREY)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    saved(tmp_path / "a.jpg", np.full((16, 16, 3), (200, 40, 90), np.uint8), "CMYK", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - (200, 40, 90)).max() < 8


def test_transparent_palette(tmp_path):
    picture = Image.fromarray(GREY % 2).convert("P")
    picture.putpalette([0, 0, 0, 10, 200, 30])
    picture.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png")[..., 1], 200 * (GREY % 2))


def png_16_bit(path, array, color_type):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))  # fmt: skip


def test_16_bit_colours_of_png_lose_bits_with_a_warning(tmp_path):
    color = RNG.integers(0, 65536, (7, 11, 3), dtype=np.uint16)
    png_16_bit(tmp_path / "a.png", color, 2)
    with pytest.warns(UserWarning, match="upper 8 bits; as TIFF all 16"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), color >> 8)
    png_16_bit(tmp_path / "b.png", color[..., 0], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "b.png"), color[..., 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("color", [0, 255])
def test_a_mask_drawn_in_transparency_alone(tmp_path, mode, color):
    channels = np.full((7, 11, len(mode)), color, np.uint8)
    channels[..., -1] = 255 * (GREY > 100)
    Image.fromarray(channels, mode).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == color).all()
    with pytest.raises(DataError, match=r"a\.png: one colour everywhere.* alpha .*; save the mask without transp"):
        read_mask(tmp_path / "a.png")


def test_opaque_and_half_transparent_masks_are_their_colours(tmp_path):
    saved(tmp_path / "a.png", np.full((4, 4, 3), 255, np.uint8), "RGBA")
    assert (read_mask(tmp_path / "a.png") == 255).all()
    layers = np.zeros((7, 11, 4), np.uint8)
    layers[GREY > 100] = 255
    Image.fromarray(layers).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), 255 * (GREY > 100))


def test_limits_of_pillow_are_put_back(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", GREY)), GREY)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(images, "MOST_PIXELS", 76)
    with pytest.raises(DataError, match=r"a\.png: claims 7x11 pixels, more than the 76"):
        read_image(tmp_path / "a.png")
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_huge_header_takes_no_memory(tmp_path):
    with open(tmp_path / "a.npy", "wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**5)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(800))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"claims 80000000000 bytes of shape \(100000, 100000\) and holds 800"):
            read_image(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


def test_tiff_in_a_compression_that_nobody_here_reads(tmp_path):
    color = Image.fromarray(COLOR)
    color.save(tmp_path / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), COLOR)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    entry = content.index(struct.pack("<HHI", 259, 3, 1)) + 8
    content[entry : entry + 2] = struct.pack("<H", 50000)  # Zstandard
    (tmp_path / "b.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"b\.tif: cannot be read as an image .*; save it again"):
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
