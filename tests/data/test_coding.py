"""What mask values mean, decided over whole sets, and the way to class indices and back."""

import json

import numpy as np
import pytest

from minunet.data import Coding, DataError, decide_coding, find_images, read_mask

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def disk(mask, y, x, radius, value):
    rows, columns = np.indices(mask.shape[:2])
    mask[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = value
    return mask


def blank(dtype=np.uint8, size=64):
    return np.zeros((size, size), dtype)


def black_and_white(n, value=255, dtype=np.uint8):
    return [disk(blank(dtype), 20 + i, 30, 9, value) for i in range(n)]


def cells_of(counts, dtype=np.uint8):
    """Instance masks: the i-th holds counts[i] separate disks with ids 1, 2, ..."""
    masks = []
    for count in counts:
        mask = blank(dtype)
        for k in range(count):
            disk(mask, 6 + 12 * (k // 5), 6 + 12 * (k % 5), 4, k + 1)
        masks.append(mask)
    return masks


def nested(n, values=(1, 2), missing=()):
    """Class masks: a disk within a disk; the inner one is left out in the masks `missing`."""
    masks = [disk(blank(), 30, 30, 20, values[0]) for _ in range(n)]
    return [m if i in missing else disk(m, 30, 30, 8, values[1]) for i, m in enumerate(masks)]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("dsb2018/labels", Coding("instances")),
        ("dsb2018_mixed/labels", Coding("instances")),
        ("isbi2012/masks", Coding("binary", (0, 255))),
        ("wbc/masks", Coding("levels", (0, 128, 255))),
    ],
)
def test_real_sets(shared_data, folder, expected):
    masks = [read_mask(path) for path in find_images(shared_data / folder)]
    assert decide_coding(masks) == expected


def test_real_instances_are_told_from_few_images(shared_data):
    paths = find_images(shared_data / "dsb2018/labels")
    for first in range(0, 250, 10):
        masks = [read_mask(path) for path in paths[first : first + 10]]
        assert decide_coding(masks).kind == "instances", first
        as_bytes = [m.astype(np.uint8) for m in masks if m.max() < 256]
        assert decide_coding(as_bytes).kind == "instances", first


HAND_MADE = {
    "0 and 255": (black_and_white(3), Coding("binary", (0, 255))),
    "0 and 1": (black_and_white(3, value=1), Coding("binary", (0, 1))),
    "bool": (black_and_white(3, value=True, dtype=bool), Coding("binary", (0, 1))),
    "16 bits": (black_and_white(2, 65535, np.uint16), Coding("binary", (0, 65535))),
    "empty masks": ([*black_and_white(2), blank(), blank()], Coding("binary", (0, 255))),
    "channel axis": ([m[..., None] for m in black_and_white(3)], Coding("binary", (0, 255))),
    "floats": ([m.astype(np.float32) for m in black_and_white(3)], Coding("binary", (0, 255))),
    "indices": (nested(4), Coding("indices", (0, 1, 2))),
    "indices, last class missing once": (nested(4, missing=(1,)), Coding("indices", (0, 1, 2))),
    "last class mostly missing": (nested(6, missing=(0, 2, 3, 4)), Coding("indices", (0, 1, 2))),
    "first class missing": (nested(4, (2, 1), missing=(0, 1)), Coding("indices", (0, 1, 2))),
    "levels": (nested(4, (128, 255)), Coding("levels", (0, 128, 255))),
    "levels, one missing": (nested(4, (128, 255), (0, 1)), Coding("levels", (0, 128, 255))),
    "a number left out": (nested(4, (1, 3)), Coding("levels", (0, 1, 3))),
    "no value 0": ([mask + 1 for mask in nested(4)], Coding("levels", (1, 2, 3))),
    "one to three cells": (cells_of([3, 1, 2, 2, 3, 1]), Coding("instances")),
    "one or two cells": (cells_of([1, 1, 1, 2]), Coding("instances")),
    "many cells": (cells_of([20, 7, 0, 12]), Coding("instances")),
    "a single mask of many cells": (cells_of([12]), Coding("instances")),
    "no more cells than a byte has": (cells_of([25, 25]), Coding("instances")),
    "five cells in 16 bits": (cells_of([5, 5, 5], np.uint16), Coding("instances")),
    "ids with wide gaps": (
        [mask * (37 + i) for i, mask in enumerate(cells_of([25, 25, 25], np.uint16))],
        Coding("instances"),
    ),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_sets(name):
    masks, expected = HAND_MADE[name]
    assert decide_coding(masks) == expected


def test_single_class_per_image_is_not_instances():
    # Each image shows one of three kinds, in one piece: ids would start at 1 in every mask.
    masks = [disk(blank(), 30, 30, 12, 1 + i % 3) for i in range(9)]
    assert decide_coding(masks) == Coding("indices", (0, 1, 2, 3))


@pytest.mark.parametrize("count", [31, 32, 33, 40])
def test_ids_around_the_largest_table(count):
    mask = np.zeros((90, 90), np.uint8)
    for k in range(count):
        disk(mask, 6 + 12 * (k // 7), 6 + 12 * (k % 7), 4, k + 1)
    assert decide_coding([mask]) == Coding("instances")


def test_classes_in_many_pieces_are_not_instances():
    masks = cells_of([20, 14, 9])
    for mask in masks:
        mask[mask > 0] = 1 + mask[mask > 0] % 2
    masks[0][masks[0] == 2] = 0
    assert decide_coding(masks) == Coding("indices", (0, 1, 2))


def test_colors():
    masks = [np.zeros((64, 64, 3), np.uint8) for _ in range(3)]
    disk(masks[0], 20, 20, 9, RED)
    disk(masks[1], 40, 40, 9, GREEN)
    coding = decide_coding([*masks, blank()])
    assert coding == Coding("colors", (BLACK, GREEN, RED))
    classes = coding.encode(masks[0])
    assert classes.dtype == np.int64 and set(np.unique(classes)) == {0, 2}
    np.testing.assert_array_equal(coding.decode(classes), masks[0])
    assert (coding.encode(blank()) == 0).all()


@pytest.mark.parametrize("classes", [2, 4, 5])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_one_hot_masks_are_refused(classes, dtype):
    one_hot = np.eye(classes, dtype=dtype)
    masks = [one_hot[mask] for mask in nested(3, (1, classes - 1))]
    with pytest.raises(DataError, match=rf"(?s)3 faults.*one-hot mask of {classes} channels.*np\.argmax\(mask"):
        decide_coding(masks)
    with pytest.raises(DataError, match="one-hot"):
        decide_coding([one_hot[blank()]])  # background alone


def test_no_channel_of_a_mask_is_lost():
    mask = disk(blank(), 20, 20, 9, 255)
    for layers in (2, 4):
        alike = np.repeat(mask[..., None], layers, axis=2)
        with pytest.raises(DataError, match=rf"{layers} channels, of which the last .*mask\[\.\.\., :{layers - 1}\]"):
            decide_coding([alike])
        alike[..., -1] = 255  # alpha
        empty = np.where(np.arange(layers) == layers - 1, 255, alike * 0)
        coding = decide_coding([alike, empty])
        assert coding == Coding("binary", (0, 255))
        np.testing.assert_array_equal(coding.encode(alike), mask > 0)


def test_equal_channels_are_grey():
    masks = [np.repeat(m[..., None], 4, axis=2) for m in black_and_white(3)]
    for mask in masks:
        mask[..., 3] = 255
    assert decide_coding(masks) == Coding("binary", (0, 255))


@pytest.mark.parametrize("value", [1, 128, 254])
def test_stray_value_names_file_and_value(value):
    masks = black_and_white(12)
    masks[7][0, :2] = value
    names = [f"cell{i}.png" for i in range(12)]
    message = rf"cell7\.png: value {value} in 2 pixels.*0, 255.*--target"
    with pytest.raises(DataError, match=message):
        decide_coding(masks, names=names)
    assert decide_coding(masks, "levels") == Coding("levels", tuple(sorted({0, value, 255})))
    assert decide_coding(masks, "foreground").classes == 2


def test_stray_value_among_levels_and_colors():
    masks = nested(5, values=(128, 255))
    masks[3][0, 0] = 127
    with pytest.raises(DataError, match=r"mask 3: value 127 in 1 pixel, .*0, 128, 255"):
        decide_coding(masks)
    colored = [np.stack([m, m // 2, m // 3], axis=2) for m in black_and_white(5)]
    colored[2][0, 0] = (9, 8, 7)
    with pytest.raises(DataError, match=r"mask 2: value \(9, 8, 7\)"):
        decide_coding(colored)


def test_every_stray_mask_is_told():
    masks = black_and_white(30)
    masks[4][0, 0], masks[9][0, :3], masks[9][1, 1] = 7, 8, 9
    with pytest.raises(DataError) as caught:
        decide_coding(masks)
    found = [(str(fault.files[0]), fault.found.partition(",")[0]) for fault in caught.value.faults]
    assert found == [("mask 4", "value 7 in 1 pixel"), ("mask 9", "values 8")]
    assert "values 8, 9 in 4 pixels, while the masks else hold 0, 255" in str(caught.value)


@pytest.mark.parametrize(
    "whites, minority, found",
    [
        ((255, 255, 1, 255), ["mask 2"], "the foreground is 1, while it is 255 in 3 other masks"),
        ((1, 255, 1), ["mask 1"], "the foreground is 255, while it is 1 in 2 other masks"),
        ((1, 255), ["mask 0"], "the foreground is 1, while it is 255 in 1 other mask"),
        ((255, 65535, 255), ["mask 1"], "the foreground is 65535, while it is 255 in 2 other masks"),
        ((255, 0, 255, 1, 1), ["mask 3", "mask 4"], "the foreground is 1, while it is 255 in 2 other masks"),
    ],
)
def test_masks_that_disagree_on_white(whites, minority, found):
    masks = [disk(blank(np.uint16), 30, 30, 12, white) for white in whites]
    with pytest.raises(DataError) as caught:
        decide_coding(masks)
    (fault,) = caught.value.faults
    assert [str(file) for file in fault.files] == minority
    assert fault.found == found and "--target foreground" in fault.remedy
    coding = decide_coding(masks, "foreground")
    assert all((coding.encode(mask) == (mask > 0)).all() for mask in masks)


def test_three_whites_are_two_faults():
    masks = [disk(blank(np.uint16), 30, 30, 12, white) for white in (1, 255, 255, 65535)]
    with pytest.raises(DataError, match=r"^2 faults"):
        decide_coding(masks)


def test_1_and_255_in_one_mask_are_two_classes():
    assert decide_coding(nested(4, (1, 255))) == Coding("levels", (0, 1, 255))


def test_jpeg_masks_are_an_error_each():
    masks = [*black_and_white(2), *nested(2, (254, 255))]
    names = ["a.png", "b.jpg", "c.JPG", "d.jpeg"]
    with pytest.raises(DataError) as caught:
        decide_coding(masks, names=names)
    assert [fault.files[0].name for fault in caught.value.faults] == ["c.JPG", "d.jpeg"]
    assert "export the mask as PNG" in str(caught.value)
    assert decide_coding(masks, "levels", names) == Coding("levels", (0, 254, 255))
    assert decide_coding(black_and_white(2), names=names[1:3]) == Coding("binary", (0, 255))


def test_blurred_edges_are_an_error():
    masks = black_and_white(3)
    for mask in masks[1:]:
        edge = (mask == 0) & (np.roll(mask, 1, 0) == 255)
        mask[edge] = 10 * np.arange(1, 1 + np.count_nonzero(edge))
    with pytest.raises(DataError, match=r"(?s)2 faults.*mask 1: greys between 0 and 255.*threshold.*mask 2: greys"):
        decide_coding(masks)


def test_wide_seams_of_small_masks_are_blurred_edges():
    rows, columns = np.indices((48, 48)) % 12 - 5.5
    soft = (255 * (4.5 - np.hypot(rows, columns)) / 3).clip(0, 255).astype(np.uint8)
    assert 0.1 < np.mean((soft > 0) & (soft < 255)) < 0.4
    with pytest.raises(DataError, match="greys between 0 and 255"):
        decide_coding([soft, soft])


def test_many_classes_between_black_and_white_are_not_blurred_edges():
    mask = np.repeat(np.repeat(np.arange(0, 256, 51, dtype=np.uint8), 8)[:, None], 48, axis=1)
    assert decide_coding([mask, mask]) == Coding("levels", (0, 51, 102, 153, 204, 255))


def test_every_unusable_mask_is_told():
    with pytest.raises(DataError, match=r"(?s)^2 faults.*mask 0: values between.*mask 2: negative"):
        decide_coding([np.full((4, 4), 0.5), blank(), np.full((4, 4), -1)])


def test_images_instead_of_masks_are_an_error():
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match=r"neither a few classes nor ids.*not the images"):
        decide_coding(rng.integers(0, 200, (3, 64, 64), dtype=np.uint8))
    with pytest.raises(DataError, match=r"colours.*PNG"):
        decide_coding(rng.integers(0, 200, (3, 64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (blank(), "every mask is 0 everywhere"),
        (np.full((8, 8), 255, np.uint8), "every mask is 255 everywhere"),
        (np.full((8, 8), 0.5), "m.png: values between whole numbers"),
        (np.full((8, 8), np.nan), "m.png: values between whole numbers"),
        (np.full((8, 8), -1), "m.png: negative value -1"),
        (np.zeros((8, 8, 5)), "m.png: shape"),
        (np.zeros(8), "m.png: shape"),
        (np.zeros((8, 8), complex), "m.png: dtype"),
        (np.array([[[0, 1, 300]]]), "m.png: colour value 300"),
        (np.array([[0, 70000]]), "value 70000; a table of classes has values up to 65535"),
    ],
    ids=range(10),
)
def test_unusable_masks(mask, message):
    with pytest.raises(DataError, match=message):
        decide_coding([mask, mask], names=["m.png", "n.png"])


def test_no_masks_and_unknown_target():
    with pytest.raises(DataError, match="no masks"):
        decide_coding([])
    with pytest.raises(DataError, match="'ids' is unknown; choose one of auto, binary"):
        decide_coding(black_and_white(1), "ids")


def test_target_overrides():
    masks = nested(3)
    assert decide_coding(masks, "instances") == Coding("instances")
    assert decide_coding(masks, "foreground") == Coding("foreground")
    assert decide_coding(masks, "levels") == Coding("levels", (0, 1, 2))
    assert decide_coding(masks, "colors").values == (BLACK, (1, 1, 1), (2, 2, 2))
    assert decide_coding(nested(3, values=(1, 3)), "indices").classes == 4
    assert decide_coding([blank(), *black_and_white(1)], "foreground") == Coding("foreground")


@pytest.mark.parametrize(
    ("masks", "target", "message"),
    [
        (nested(3), "binary", "needs two values, the masks hold 0, 1, 2"),
        (black_and_white(3, 65535, np.uint16), "indices", "the largest is 65535"),
        ([blank()], "levels", "every mask is 0 everywhere"),
        ([blank()], "foreground", "every mask is 0 everywhere"),
        ([blank() + 9], "instances", "every mask is 9 everywhere"),
        ([mask + 1 for mask in nested(3)], "foreground", r"no pixel of any mask is 0 \(they hold 1, 2, 3\)"),
        ([np.stack([m, blank(), blank()], axis=2) for m in black_and_white(2)], "indices", "the masks hold colours"),
    ],
    ids=range(7),
)
def test_target_that_does_not_fit(masks, target, message):
    with pytest.raises(DataError, match=message):
        decide_coding(masks, target)


@pytest.mark.parametrize(
    "coding",
    [
        Coding("binary", (0, 255)),
        Coding("binary", (0, 1)),
        Coding("indices", (0, 1, 2, 3)),
        Coding("levels", (0, 128, 255)),
        Coding("colors", (BLACK, RED, GREEN)),
    ],
    ids=str,
)
def test_decode_is_the_inverse_of_encode(coding):
    classes = np.arange(30).reshape(5, 6) % coding.classes
    mask = coding.decode(classes)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(coding.encode(mask), classes)


def test_decode_instances_foreground_and_16_bits():
    classes = np.array([[0, 1]])
    for kind in ("instances", "foreground"):
        assert Coding(kind).decode(classes).tolist() == [[0, 255]]
        assert Coding(kind).encode(np.array([[0, 7]])).tolist() == [[0, 1]]
    wide = Coding("binary", (0, 65535)).decode(classes)
    assert wide.dtype == np.uint16 and wide.tolist() == [[0, 65535]]


def test_encode_names_unknown_values():
    mask = np.array([[0, 255, 7, 7, 9]], np.uint8)
    message = r"a\.png: value 7 in 2 pixels and 1 other unknown values.*0 background, 255"
    with pytest.raises(DataError, match=message):
        Coding("binary", (0, 255)).encode(mask, "a.png")
    with pytest.raises(DataError, match=r"a\.png: a colour mask"):
        Coding("binary", (0, 255)).encode(np.zeros((2, 2, 3)) + np.array(RED), "a.png")
    with pytest.raises(DataError, match=r"value \(0, 255, 0\) in 4 pixels"):
        Coding("colors", (BLACK, RED)).encode(np.zeros((2, 2, 3)) + np.array(GREEN), "a.png")


@pytest.mark.parametrize(
    "coding",
    [
        Coding("binary", (0, 255)),
        Coding("colors", (BLACK, RED)),
        Coding("instances"),
        Coding("foreground"),
        Coding("levels", (0, 128, 255)),
    ],
    ids=str,
)
def test_json_round_trip(coding):
    assert Coding.from_json(json.loads(json.dumps(coding.to_json()))) == coding
    assert coding.describe()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"kind": "binary"},
        {"kind": "binary", "values": [0, 255], "more": 1},
        {"kind": "binary", "values": [0, 1, 2]},
        {"kind": "binary", "values": [0, 0]},
        {"kind": "binary", "values": [0, True]},
        {"kind": "binary", "values": [0, -1]},
        {"kind": "indices", "values": [0, 2]},
        {"kind": "instances", "values": [0, 1]},
        {"kind": "levels", "values": []},
        {"kind": "levels", "values": [0, "1"]},
        {"kind": "levels", "values": [0, [1]]},
        {"kind": "levels", "values": list(range(300))},
        {"kind": "colors", "values": [[0, 0, 0], [1, 2]]},
        {"kind": "colors", "values": [[0, 0, 0], [1, 2, 256]]},
        {"kind": "colors", "values": [0, 1]},
        {"kind": "unknown", "values": []},
        {"kind": [], "values": []},
    ],
    ids=range(20),
)
def test_json_that_is_no_coding(data):
    with pytest.raises(ValueError):
        Coding.from_json(data)
