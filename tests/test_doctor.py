"""minunet doctor: every check on data made to have just that fault, and on data without it."""

import json
from pathlib import Path

import numpy as np
import pytest

from minunet.cli import main
from minunet.data import cells, load_folder, write_image
from minunet.doctor import Question, examine, likeness, placement, values
from minunet.doctor.examine import network
from minunet.doctor.findings import Finding
from minunet.doctor.report import report, verdict
from minunet.doctor.sheet import choose
from minunet.training import estimate
from minunet.training.train import default_crop

REAL = {"dsb2018": "labels", "dsb2018_mixed": "labels", "isbi2012": "masks", "wbc": "masks"}
ROOM = 10**10  # bytes of memory, so that no test depends on what the machine has left


def discs(count, size=64, seed=0):
    """Bright discs on a dark, noisy ground: images uint8 (H, W), masks of 0 and 255."""
    y, x = np.mgrid[:size, :size]
    images, masks = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        inside = np.zeros((size, size), bool)
        for row, column, radius in rng.uniform((6, 6, 4), (size - 6, size - 6, 8), (5, 3)):
            inside |= (y - row) ** 2 + (x - column) ** 2 < radius**2
        image = 40 + 120 * inside + rng.normal(0, 12, inside.shape)
        images.append(image.clip(0, 255).astype(np.uint8))
        masks.append(np.where(inside, 255, 0).astype(np.uint8))
    return images, masks


def membranes(count, size=96, seed=0):
    """Bright cells that fill the picture, parted by dark membranes: the foreground is the cells."""
    y, x = np.mgrid[:size, :size]
    images, masks = [], []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        seeds = rng.uniform(0, size, (18, 2))
        near = np.sort([np.hypot(y - row, x - column) for row, column in seeds], axis=0)
        cell = near[1] - near[0] > 3
        images.append((60 + 110 * cell + rng.normal(0, 15, cell.shape)).clip(0, 255).astype(np.uint8))
        masks.append(np.where(cell, 255, 0).astype(np.uint8))
    return images, masks


def moved(mask, down, right):
    """The mask moved, background coming in at the edges."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    out[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = (
        mask[max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    )  # fmt: skip
    return out


def save(folder, images, masks, mask_suffix=""):
    for kind, arrays, end in (("images", images, ""), ("masks", masks, mask_suffix)):
        (folder / kind).mkdir()
        for i, array in enumerate(arrays):
            write_image(folder / kind / f"p{i:02d}{end}.png", array)
    return Question(folder / "images", folder / "masks", mask_suffix, features=(2, 4), batch=2)


def names(count):
    return [f"p{i:02d}" for i in range(count)]


def about(findings):
    return {finding.about for finding in findings}


def classes(masks):
    return [(mask > 0).astype(np.uint8) for mask in masks]


# -------------------------------------------------------------------------------------------- a sound set


def test_a_sound_set_has_no_findings(tmp_path):
    result = examine(save(tmp_path, *discs(20)), ROOM)
    assert result.findings == []
    assert verdict(result) == "Nothing was found that would stand in the way of training."
    facts = result.facts
    assert facts["images"]["sizes"] == {"64x64": 20}
    assert facts["images"]["kinds"] == {"grey": 20}
    assert facts["masks"]["coding"] == {"kind": "binary", "values": [0, 255]}
    assert sum(row["share"] for row in facts["classes"]) == pytest.approx(1)
    assert [facts["split"][part] for part in ("training", "validation")] == [16, 4]
    assert facts["plan"]["crop"] == (64, 64)
    assert facts["plan"]["step_seconds"] > 0


def test_generated_cells_have_no_findings():
    """Cells that are hardly brighter than what is around them, with their labels."""
    images, labels = cells(10)
    found = placement.maps(images, classes(labels))
    assert placement.shifted(found, names(10)) == []
    assert placement.inverted(images, [mask > 0 for mask in labels]) == []


@pytest.mark.parametrize("name", REAL)
def test_the_real_sets_give_no_false_alarm(shared_data, name):
    result = examine(Question(shared_data / name / "images", shared_data / name / REAL[name], features=(2, 4)), ROOM)
    assert result.fatal == 0
    allowed = {"channels", "saturated images", "small images", "sizes"}
    assert about(result.findings) <= allowed


# --------------------------------------------------------------------------------------------- the files


def test_all_unpaired_and_broken_files_are_told(tmp_path):
    question = save(tmp_path, *discs(6))
    (tmp_path / "images" / "p00.png").unlink()
    (tmp_path / "masks" / "p01.png").unlink()
    (tmp_path / "images" / "p02.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    write_image(tmp_path / "masks" / "p03.png", np.zeros((10, 64), np.uint8))
    result = examine(question, ROOM)
    fatal = [finding for finding in result.findings if finding.severity == "fatal"]
    assert about(fatal) == {"files"}
    told = " ".join(" ".join(finding.files) for finding in fatal)
    assert all(f"p{i:02d}.png" in told for i in range(4))
    assert all(finding.remedy for finding in fatal)
    assert result.facts["images"]["count"] == 2  # the sound pairs are looked at


def test_image_and_mask_of_one_name_are_told_apart(tmp_path):
    question = save(tmp_path, *discs(4))
    write_image(tmp_path / "masks" / "p02.png", np.zeros((10, 64), np.uint8))
    text = "\n".join(report(examine(question, ROOM), 100))
    assert "images/p02.png, masks/p02.png" in text


def test_a_folder_in_the_place_of_an_image_is_told(tmp_path):
    question = save(tmp_path, *discs(4))
    (tmp_path / "images" / "p02.png").unlink()
    (tmp_path / "images" / "p02.png").mkdir()
    (fault,) = [finding for finding in examine(question, ROOM).findings if finding.severity == "fatal"]
    assert fault.files == (str(tmp_path / "images" / "p02.png"),)
    assert fault.found.startswith("a folder, where the image of p02.png should be")


def test_missing_folders_are_a_finding(tmp_path):
    result = examine(Question(tmp_path / "no", tmp_path / "where"), ROOM)
    assert result.fatal
    assert result.facts == {}


def test_a_mask_suffix_pairs_them(tmp_path):
    assert examine(save(tmp_path, *discs(20), mask_suffix="_mask"), ROOM).findings == []


# -------------------------------------------------------------------------------------------- the images


def test_odd_sizes_are_named():
    images = [np.zeros((8, 8)) for _ in range(19)] + [np.zeros((8, 9))]
    (finding,) = values.sizes(images, names(20))
    assert finding.files == ("p19",)
    assert values.sizes(images[:19], names(19)) == []
    assert values.sizes([np.zeros((8, 8 + i)) for i in range(20)], names(20)) == []  # all differ: no odd one


def test_the_minority_of_grey_and_colour_is_named():
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 255, (8, 8), np.uint8), rng.integers(0, 255, (8, 8, 3), np.uint8)
    (finding,) = values.channels([grey, colour, grey], names(3))
    assert finding.files == ("p01",)
    assert "1 of 3 images being colour" in finding.found
    assert values.channels([grey, np.repeat(grey[..., None], 3, axis=2)], names(2)) == []  # equal channels are grey


def test_number_types_that_differ_and_16_bits_that_hold_8():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    wide = image.astype(np.uint16)
    assert values.depths([image, image, wide], names(3))[0].files == ("p02",)
    assert "16 bits" in values.depths([wide, wide], names(2))[0].found
    assert values.depths([wide * 100, wide], names(2)) == []
    assert values.depths([image, image], names(2)) == []


def test_constant_faint_and_saturated_images():
    rng = np.random.default_rng(0)
    good = rng.integers(0, 250, (32, 32), np.uint8)
    flat, faint, burnt = np.full_like(good, 7), good // 100, good.copy()
    burnt[:10] = 255
    images, files = [good, flat, faint, burnt], names(4)
    assert values.constant(images, files)[0].files == ("p01",)
    assert values.constant(images, files)[0].severity == "warning"
    assert values.constant([flat, flat], names(2))[0].severity == "fatal"
    assert values.faint(images, files)[0].files == ("p02",)
    assert values.saturated(images, files)[0].files == ("p03",)


@pytest.mark.parametrize("size", [32, 64, 512])
@pytest.mark.parametrize("value", [1e38, -1e38, 1e9, 1e6])
def test_a_value_far_beyond_the_others_is_named(size, value):
    images = [np.random.default_rng(i).integers(0, 256, (size, size)).astype(np.float32) for i in range(3)]
    assert values.outliers(images, names(3)) == []
    images[1][5, 7] = value
    (finding,) = values.outliers(images, names(3))
    assert (finding.severity, finding.files, finding.images) == ("warning", ("p01",), (1,))
    assert f"({value:.4g}, for one) in 1 of 3 images" in finding.found
    clipped = np.clip(images[1], *np.percentile(images[1], (0.1, 99.9)))  # as the remedy says
    assert values.outliers([clipped], names(1)) == []


def test_small_bright_objects_are_no_outliers():
    rng = np.random.default_rng(0)
    sparse = rng.normal(1000, 100, (512, 512))
    sparse[100:103, 200:203] = 60000
    dark = np.zeros((256, 256), np.uint16)
    dark[20:24, 30:34] = 60000
    eight = np.minimum(rng.poisson(0.1, (256, 256)), 9).astype(np.uint8)
    eight[3, 3] = 255
    long_tail = rng.lognormal(0, 2, (512, 512)).astype(np.float32)
    hot = rng.integers(100, 2000, (256, 256)).astype(np.uint16)
    hot[9, 9] = 65535  # half the contrast is left
    assert values.outliers([sparse.astype(np.uint16), dark, eight, long_tail, hot], names(5)) == []


def test_a_hot_pixel_does_not_hide_a_faint_image():
    image = np.random.default_rng(0).integers(3, 6, (64, 64)).astype(np.uint16)
    image[5, 5] = 60000
    assert values.faint([image], names(1))


# --------------------------------------------------------------------------------------------- the masks


def test_values_that_mean_nothing_are_fatal(tmp_path):
    images, masks = discs(5)
    masks[3] = np.random.default_rng(0).integers(0, 250, masks[3].shape, np.uint8)
    masks[4] = np.random.default_rng(1).integers(0, 250, masks[3].shape, np.uint8)
    result = examine(save(tmp_path, images, masks), ROOM)
    assert "mask values" in about(f for f in result.findings if f.severity == "fatal")
    assert "classes" not in result.facts


@pytest.mark.parametrize("target", ["auto", "foreground"])
def test_masks_that_are_all_empty_are_fatal(tmp_path, target):
    images, masks = discs(5)
    question = save(tmp_path, images, [np.zeros_like(mask) for mask in masks])
    result = examine(Question(question.images, question.masks, target=target, features=(2, 4)), ROOM)
    assert result.fatal == 1
    assert "nothing to learn" in next(f.found for f in result.findings if f.severity == "fatal")


def test_single_empty_and_full_masks_are_named():
    truth = classes(discs(6)[1])
    truth[1][...] = 0
    truth[4][...] = 1
    empty, full = values.one_class(truth, names(6))
    assert (empty.files, empty.severity) == (("p01",), "note")
    assert (full.files, full.severity) == (("p04",), "warning")
    for i in (0, 2, 3):
        truth[i][...] = 0
    assert values.one_class(truth, names(6))[0].severity == "warning"  # most are empty


def test_rare_and_absent_classes_are_told():
    assert values.balance(np.array([900, 100]), ["background", "a"]) == []
    (rare,) = values.balance(np.array([9990, 10]), ["background", "a"])
    assert "a (0.10%)" in rare.found
    (absent,) = values.balance(np.array([900, 0, 100]), ["background", "a", "b"])
    assert absent.found.startswith("a does not occur")


def test_a_class_on_one_side_of_the_split_is_told():
    zero, one, two = (np.full((2, 2), k) for k in range(3))
    both = values.classes_of_split([zero, one], [zero, two], ["background", "a", "b"])
    assert [finding.found.split(":")[0] for finding in both] == [
        "b occurs in no image of the training part of the split",
        "a occurs in no image of the validation part of the split",
    ]
    assert values.classes_of_split([zero, one], [one, zero], ["background", "a"]) == []


def test_one_image_cannot_be_split():
    assert values.too_few(1, 0.2)[0].severity == "fatal"
    assert values.too_few(1, 0.0) == []
    assert values.too_few(5, 0.2)[0].severity == "note"
    assert values.too_few(50, 0.2) == []


# ------------------------------------------------------------------------------------ inverted and shifted


@pytest.mark.parametrize("kind", [discs, membranes])
def test_inverted_masks_are_told_from_cells_that_fill_the_picture(kind):
    images, masks = kind(6)
    foregrounds = [mask > 0 for mask in masks]
    assert placement.inverted(images, foregrounds) == []
    turned = placement.inverted(images, [~mask for mask in foregrounds])
    assert bool(turned) == (kind is discs)  # membranes as foreground are as good as cells


@pytest.mark.parametrize("kind", [discs, membranes])
def test_single_inverted_masks_are_named(kind):
    images, masks = kind(8)
    foregrounds = [mask > 0 for mask in masks]

    def found():
        contrasts = [placement.contrast(*pair) for pair in zip(images, foregrounds, strict=True)]
        return placement.inverted_among(contrasts, foregrounds, names(8))

    assert found() == []
    foregrounds[2], foregrounds[5] = ~foregrounds[2], ~foregrounds[5]
    assert found()[0].files == ("p02", "p05")


def test_dark_objects_among_bright_ones_are_not_inverted():
    """As nuclei in fluorescence and in stained tissue."""
    images, masks = discs(8)
    images[3] = 255 - images[3]
    foregrounds = [mask > 0 for mask in masks]
    contrasts = [placement.contrast(*pair) for pair in zip(images, foregrounds, strict=True)]
    assert contrasts[3] < -0.5
    assert placement.inverted_among(contrasts, foregrounds, names(8)) == []


@pytest.mark.parametrize("kind", [discs, membranes])
@pytest.mark.parametrize("down, right", [(3, 0), (-4, 5), (0, -9)])
def test_a_shift_of_all_masks_is_told_with_its_direction(kind, down, right):
    images, masks = kind(6)
    found = placement.maps(images, classes(moved(mask, down, right) for mask in masks))
    (finding,) = placement.shifted(found, names(6))
    assert finding.files == ()
    assert placement._displacement(down, right) in finding.found
    assert placement._direction(-down, -right) in finding.remedy


@pytest.mark.parametrize("kind", [discs, membranes])
@pytest.mark.parametrize("down, right", [(0, 0), (1, 0), (-1, 2)])
def test_less_than_three_pixels_is_no_shift(kind, down, right):
    images, masks = kind(6)
    found = placement.maps(images, classes(moved(mask, down, right) for mask in masks))
    assert placement.shifted(found, names(6)) == []


def test_a_single_shifted_mask_is_named():
    images, masks = discs(10)
    masks[7] = moved(masks[7], 5, -4)
    (finding,) = placement.shifted(placement.maps(images, classes(masks)), names(10))
    assert finding.files == ("p07",)
    assert "5 px lower and 4 px further left" in finding.found


def test_masks_drawn_too_wide_are_no_shift():
    """By 3 px all around: moved that far, one side of every outline lies right, and the other twice as wrong."""
    images, masks = discs(8)
    for _ in range(3):
        masks = [np.maximum.reduce([moved(m, *d) for d in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]) for m in masks]
    assert placement.shifted(placement.maps(images, classes(masks)), names(8)) == []


def test_objects_that_differ_in_grain_alone():
    """No brighter than the ground, only rougher: the shift shows in the roughness."""
    _, masks = discs(8, size=96)
    rng = np.random.default_rng(0)
    images = [(128 + rng.normal(0, 1, m.shape) * np.where(m > 0, 40, 8)).clip(0, 255).astype(np.uint8) for m in masks]
    assert placement.shifted(placement.maps(images, classes(masks)), names(8)) == []
    (finding,) = placement.shifted(placement.maps(images, classes(moved(m, 6, 0) for m in masks)), names(8))
    assert "6 px lower" in finding.found


def test_masks_that_have_nothing_to_do_with_the_images_are_not_called_shifted():
    images, _ = discs(6, seed=1)
    _, masks = discs(6, seed=2)
    assert placement.shifted(placement.maps(images, classes(masks)), names(6)) == []


def test_correlations_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    image, region = rng.normal(size=(40, 52)), rng.random((40, 52)) < 0.4
    found = placement.correlations(image, region)
    reach = placement.REACH
    for down, right in ((0, 0), (3, -7), (-16, 16)):
        here = image[max(down, 0) : 40 + min(down, 0), max(right, 0) : 52 + min(right, 0)]
        there = region[max(-down, 0) : 40 + min(-down, 0), max(-right, 0) : 52 + min(-right, 0)]
        expected = np.corrcoef(here.ravel(), there.ravel())[0, 1]
        assert found[reach + down, reach + right] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5)])
def test_tiny_images_have_no_place_to_look_at(size):
    image, region = np.arange(size[0] * size[1]).reshape(size), np.zeros(size, bool)
    region[0, 0] = True
    assert np.isfinite(placement.correlations(image, region)).all()


def test_of_a_large_image_the_part_with_objects_is_looked_at():
    truth = np.zeros((2000, 300), np.uint8)
    truth[1700:1720, 40:60] = 1
    rows, columns = placement._window(truth)
    assert rows.stop - rows.start == placement.WINDOW
    assert rows.start <= 1700 and rows.stop >= 1720
    assert truth[rows, columns].shape == (placement.WINDOW, 300)


# ------------------------------------------------------------------------------------------- too much alike


def test_swapped_folders_are_fatal(tmp_path):
    images, masks = discs(6)
    result = examine(save(tmp_path, masks, images), ROOM)
    assert "swapped folders" in about(f for f in result.findings if f.severity == "fatal")
    assert likeness.swapped(images, masks, names(6)) == []


def test_an_image_that_is_its_own_mask_is_fatal():
    images, masks = discs(6)
    assert likeness.swapped(images, images, names(6))[0].severity == "fatal"
    masks[2] = images[2]
    (finding,) = likeness.swapped(images, masks, names(6))
    assert (finding.severity, finding.files) == ("fatal", ("p02",))


def _copies(image):
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return {
        "the same": image,
        "brighter": (0.7 * image + 60).astype(np.uint8),
        "noisy": (image + noise).clip(0, 255).astype(np.uint8),
        "halved": image.reshape(32, 2, 32, 2).mean(axis=(1, 3)).astype(np.uint8),
        "turned": np.rot90(image),
        "mirrored": image[:, ::-1],
        "both": np.rot90(image[::-1], 3),
        "in colour": np.repeat(image[..., None], 3, axis=2),
    }


@pytest.mark.parametrize("copy", _copies(np.zeros((64, 64))))
def test_near_duplicates_are_found(copy):
    images, _ = discs(8)
    files = names(9)
    assert likeness.duplicates(images, files, [7]) == []
    images.append(_copies(images[2])[copy])
    (across,) = likeness.duplicates(images, files, [8])
    assert (across.severity, across.files) == ("warning", ("p02 = p08",))
    (beside,) = likeness.duplicates(images, files, [7])
    assert beside.severity == "note"


def test_constant_and_tiny_images_are_no_duplicates():
    flat = [np.full((20, 20), 5, np.uint8), np.full((20, 20), 5, np.uint8), np.ones((1, 1), np.uint8)]
    assert likeness.duplicates(flat, names(3), [0]) == []


def test_the_split_is_that_of_training(tmp_path):
    images, masks = discs(10)
    question = save(tmp_path, images, masks)
    result = examine(question, ROOM)
    _, validation = result.dataset.split(0.2, seed=0)
    held, trained = int(validation.names[0][1:]), next(i for i in range(10) if f"p{i:02d}" not in validation.names)
    write_image(tmp_path / "images" / f"p{held:02d}.png", images[trained])
    write_image(tmp_path / "masks" / f"p{held:02d}.png", masks[trained])
    (finding,) = (f for f in examine(question, ROOM).findings if f.about == "near-duplicates")
    assert finding.severity == "warning"


# ---------------------------------------------------------------------------------------- memory and plans


def test_memory_that_is_not_there_is_fatal_and_what_fits_is_told(tmp_path):
    question = save(tmp_path, *discs(20))
    least = examine(question, ROOM).facts["plan"]["memory"]
    result = examine(question, int(0.999 * least / estimate.SHARE))
    (finding,) = (f for f in result.findings if f.about == "memory")
    assert finding.severity == "fatal"
    assert finding.remedy == "--batch 1 --crop 64x64 fits"
    assert result.facts["plan"]["step_seconds"] is None
    hopeless = [f for f in examine(question, 1000).findings if f.about == "memory"]
    assert "--features" in hopeless[0].remedy


@pytest.mark.parametrize("validation", [0, 0.2, 0.4])
def test_the_crop_is_that_of_training(tmp_path, validation):
    """It hangs on the usual size of the images that are trained on, not on those held back."""
    images, masks = discs(6)
    for i in range(3):
        images[i], masks[i] = images[i][:32, :32], masks[i][:32, :32]
    asked = save(tmp_path, images, masks)
    dataset = load_folder(asked.images, asked.masks)
    crops = set()
    for seed in range(4):
        question = Question(asked.images, asked.masks, features=(2, 4), validation=validation, seed=seed)
        result = examine(question, ROOM)
        model = network(question, dataset)
        training = dataset.split(validation, seed)[0] if validation else dataset
        assert result.facts["plan"]["crop"] == default_crop(model, training)
        crops.add(result.facts["plan"]["crop"])
    assert crops - {(48, 48)} if validation else crops == {(48, 48)}  # 48: the median of all


def test_images_smaller_than_the_crop_are_named(tmp_path):
    images, masks = discs(20)
    images[4], masks[4] = images[4][:40], masks[4][:40]
    result = examine(save(tmp_path, images, masks), ROOM)
    assert "small images" in about(result.findings)


# ------------------------------------------------------------------------------------ what the user sees


def options(folder, *more):
    return ["doctor", str(folder / "images"), str(folder / "masks"), "--features", "2,4", *map(str, more)]


def test_the_exit_status_says_whether_training_would_be_in_vain(tmp_path, capsys):
    images, masks = discs(15)
    save(tmp_path, images, masks)
    assert main(options(tmp_path)) == 0
    assert "Nothing was found" in capsys.readouterr().out
    (tmp_path / "masks" / "p00.png").unlink()
    assert main(options(tmp_path)) == 2
    shown = capsys.readouterr()
    assert "FATAL" in shown.out and "p00.png" in shown.out
    assert "in vain" in shown.err


def test_a_warning_alone_is_status_0(tmp_path, capsys):
    images, masks = discs(12)
    images[5], masks[5] = images[4], masks[4]
    save(tmp_path, images, masks)
    assert main(options(tmp_path)) == 0
    assert "near-duplicates" in capsys.readouterr().out


def test_json_holds_all_that_was_found(tmp_path, capsys):
    images, masks = discs(12)
    masks[3][...] = 0
    question = save(tmp_path, images, masks)
    assert main(options(tmp_path, "--batch", "2", "--json", tmp_path / "found.json")) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    expected = json.loads(json.dumps(examine(question).to_json()))
    for changing in ("available", "step_seconds"):
        assert found["facts"]["plan"].pop(changing) is not None
        expected["facts"]["plan"].pop(changing)
    assert found == expected
    assert [finding["about"] for finding in found["findings"]] == ["few images", "empty masks"]


def test_the_sheet_is_written_on_request_and_not_among_the_data(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    save(tmp_path, *discs(4))
    before = sorted(tmp_path.rglob("*"))
    assert main(options(tmp_path)) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert main(options(tmp_path, "--out", tmp_path / "sheet")) == 0
    assert (tmp_path / "sheet" / "doctor.png").read_bytes().startswith(b"\x89PNG")
    assert main(options(tmp_path, "--out", tmp_path / "images")) == 2
    assert not (tmp_path / "images" / "doctor.png").exists()


def test_weight_map_and_augmentation_are_drawn_on_request(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    save(tmp_path, *discs(4))
    assert main(options(tmp_path, "--show")) == 2
    assert "--show and --augment write pictures: give --out" in capsys.readouterr().err
    assert main(options(tmp_path, "--out", tmp_path / "s", "--show", "--augment", "--w0", "4", "--crop", "32")) == 0
    assert sorted(file.name for file in (tmp_path / "s").iterdir()) == ["augmented.png", "doctor.png", "weights.png"]
    told = capsys.readouterr().out
    for name in ("augmented.png", "weights.png"):
        assert str(tmp_path / "s" / name) in told
        assert (tmp_path / "s" / name).read_bytes().startswith(b"\x89PNG")


def test_the_sheet_is_drawn_where_the_masks_cannot_be_understood(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    images, _ = discs(4)
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 250, (64, 64), np.uint8) for _ in images]
    save(tmp_path, images, masks)
    assert main(options(tmp_path, "--out", tmp_path / "sheet")) == 2
    assert (tmp_path / "sheet" / "doctor.png").exists()


def test_the_worst_are_drawn_first_and_others_too():
    bad = Finding("fatal", "a", "", "", images=(5,))
    common = Finding("note", "b", "", "", images=tuple(range(20)))
    chosen = choose([bad, common], 30, 12)
    assert chosen[0] == (5, bad)
    assert [finding for _, finding in chosen[1:7]] == [common] * 6
    assert all(finding is None and image >= 20 for image, finding in chosen[7:])
    assert len({image for image, _ in chosen}) == len(chosen) == 12


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_report_keeps_to_the_terminal(tmp_path, monkeypatch, width):
    images, masks = discs(20)
    masks[3][...] = 0
    images[7] = images[6]
    monkeypatch.chdir(tmp_path)
    question = save(Path(), images, masks)
    Path("masks/p01.png").unlink()
    lines = report(examine(question, ROOM), width)
    assert max(map(len, lines)) <= width
    order = [line.split()[0] for line in lines if line.startswith(("FATAL", "WARNING", "NOTE"))]
    assert order == sorted(order, key=("FATAL", "WARNING", "NOTE").index)
    assert "FATAL" in order


def test_the_report_can_do_without_block_characters(tmp_path):
    text = "\n".join(report(examine(save(tmp_path, *discs(4)), ROOM), 80, blocks=False))
    assert text.isascii()


@pytest.mark.parametrize("wrong", [["--validation", "1"], ["--crop", "3"], ["--features", "0"]])
def test_settings_that_cannot_be(tmp_path, capsys, wrong):
    save(tmp_path, *discs(4))
    try:
        status = main(options(tmp_path, *wrong))
    except SystemExit as end:  # of argparse
        status = end.code
    assert status == 2
