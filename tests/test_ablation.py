"""bench/ablation.py and bench/learning_curve.py: what is done is kept, done once, and told in right numbers."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

from minunet.data import Augmentation, Sampler, cells, load_folder, read_image, write_image
from minunet.training.recipes import named_recipe

BENCH = Path(__file__).resolve().parents[1] / "bench"
RECIPE = "the recipe as it is: three classes, background, cell and border"
LENGTH = {"minutes": None, "steps": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The folders of six generated pictures and of their numbered cells."""
    root = tmp_path_factory.mktemp("data")
    for name, arrays in zip(("images", "labels"), cells(6, 32), strict=True):
        (root / name).mkdir()
        for i, array in enumerate(arrays):
            write_image(root / name / f"{i}.png", array)
    return str(root / "images"), str(root / "labels")


@pytest.fixture
def scripts(monkeypatch):
    """The modules of bench/ (runs, ablation, learning_curve)."""
    monkeypatch.syspath_prepend(BENCH)
    import ablation
    import learning_curve
    import runs

    return Namespace(ablation=ablation, curve=learning_curve, runs=runs)


def line(scripts, variant, seed, iou, averaged=None, **changes):
    """A line as a run leaves it; all APs are half the IoU."""
    found = {name: iou if name == "iou" else iou / 2 for name in scripts.runs.SCORES}
    other = found if averaged is None else {name: averaged for name in found}
    return {
        "variant": variant,
        "configuration": scripts.runs.configuration("9 images, abc", seed, **LENGTH, **changes),
        "results": {"steps": 2, "planned_steps": 2, "plain": found, "averaged": other, "otsu_iou": 0.4},
        "commit": "1234567",
        "machine": "a machine",
        "threads": 2,
    }


def file_of(path, lines):
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def table_rows(text):
    """{first cell: the others} of all tables; of two equal first cells the last one's."""
    split = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith("|")]
    return {first: others for first, *others in split}


def ablate(data, out, *more):
    command = [sys.executable, str(BENCH / "ablation.py"), *data, "--out", str(out), "--steps", "2", "--seeds", "1"]
    return subprocess.run([*command, *more], capture_output=True, text=True)


def test_every_run_is_a_line_and_is_done_once(data, tmp_path, scripts):
    out, names = tmp_path / "results.jsonl", ("recipe", "no-separation")
    first = ablate(data, out, "--only", *names)
    assert first.returncode == 0, first.stderr
    before = out.read_bytes()
    lines = {found["variant"]: found for found in map(json.loads, before.splitlines())}
    assert tuple(lines) == names
    three, two = (lines[name]["results"]["parameters"] for name in names)
    assert three == two + 17  # of the last layer: 16 weights and a bias
    for found in lines.values():
        assert found["results"]["steps"] == 2 and found["results"]["held_out_images"] == 1
        assert found["minunet"] and found["machine"] and found["threads"] >= 1
        for inference in ("plain", "averaged"):
            assert set(found["results"][inference]) == set(scripts.runs.SCORES)
    again = ablate(data, out, "--only", *names)
    assert again.returncode == 0 and "trains" not in again.stdout
    assert out.read_bytes() == before


def test_a_torn_last_line_is_dropped_and_its_run_done_again(tmp_path, scripts):
    lines = [line(scripts, "recipe", seed, 0.5) for seed in range(2)]
    path = file_of(tmp_path / "results.jsonl", lines)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    results = scripts.runs.Results(path)
    assert results.lines == lines[:1]
    runs = [scripts.runs.Run("recipe", found["configuration"]) for found in lines]
    assert [results.holds(run) for run in runs] == [True, False]
    results.append(lines[1])
    assert path.read_bytes() == whole


def test_a_line_that_is_no_result_is_named(tmp_path, scripts, capsys):
    path = file_of(tmp_path / "results.jsonl", [line(scripts, "recipe", 0, 0.5), {"variant": "recipe"}])
    with pytest.raises(SystemExit, match="2"):
        scripts.ablation.main(["--out", str(path), "--table"])
    assert f"{path}, line 2" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_before_the_first_run(data, tmp_path, scripts, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        scripts.ablation.main([*data, "--out", str(tmp_path / "file" / "results.jsonl"), "--steps", "2"])
    told = capsys.readouterr()
    assert "results.jsonl cannot be written: " in told.err and "trains" not in told.out


def test_a_field_that_a_line_does_not_know_is_at_its_default(tmp_path, scripts):
    known = line(scripts, "recipe", 0, 0.5)
    older = json.loads(json.dumps(known))
    del older["configuration"]["training"]["clip"]
    results = scripts.runs.Results(file_of(tmp_path / "results.jsonl", [older]))
    assert results.holds(scripts.runs.Run("recipe", known["configuration"]))
    assert not results.holds(scripts.runs.Run("no-elastic", known["configuration"]))
    other = scripts.runs.configuration("9 images, abc", 0, **LENGTH, clip=2.0)
    assert not results.holds(scripts.runs.Run("recipe", other))


def test_a_run_that_fails_leaves_no_line_and_the_others_go_on(data, tmp_path, scripts, monkeypatch):
    worker = tmp_path / "worker.py"
    done = line(scripts, "recipe", 0, 0.5)["results"] | {"seconds": 1.0}
    worker.write_text(f"import sys\nif ': \"foreground\"' in sys.argv[3]: sys.exit(3)\nprint({json.dumps(done)!r})\n")
    monkeypatch.setattr(scripts.runs, "HERE", worker)
    out = tmp_path / "new" / "results.jsonl"
    asked = [*data, "--out", str(out), "--steps", "2", "--seeds", "1", "--only", "no-separation", "recipe"]
    assert scripts.ablation.main(asked) == 1
    assert [json.loads(text)["variant"] for text in out.read_text().splitlines()] == ["recipe"]
    assert scripts.runs.Results(out).lines[0]["commit"] is None  # no checkout lies around that script


def test_without_separation_touching_cells_stay_together_however_they_are_deformed(data, scripts):
    wanted = scripts.runs.configuration("", 0, **LENGTH, **scripts.ablation.VARIANTS["no-separation"].changes)
    training, held_out = scripts.runs.learned_and_held_out(*data, wanted)
    numbered = load_folder(*data, target="instances")
    parted, _ = numbered.split(0.2, 0)
    assert training.names == parted.names and not set(held_out.names) & set(training.names)
    for target, ids, apart in zip(training.targets, parted.ids, parted.targets, strict=True):
        np.testing.assert_array_equal(target, ids > 0)
        assert (target != apart).any()  # there are cells that touch
    # Nothing but flips moves pixels here: as many are foreground as in the masks.
    still = Augmentation(rotation=0.0, scale=0.0, shift=0.0, elastic=0.0)
    batch = Sampler(training, 0, len(training), (32, 32), augment=still).batch(0)
    assert batch.target.sum() == sum(np.count_nonzero(ids) for ids in parted.ids)
    assert held_out.ids is not None


def test_fewer_images_are_a_part_of_more_and_all_are_judged_by_the_same(data, scripts):
    asked = Namespace(images=data[0], labels=data[1], counts=[2, 4], seeds=2, minutes=3.0, steps=None)
    sets = {}
    for run in scripts.curve.plan(asked):
        known = run.configuration
        training, held_out = scripts.runs.learned_and_held_out(*data, known)
        elastic = known["training"]["elastic"] > 0
        sets[known["seed"], known["images"], elastic] = (training.names, held_out.names)
    assert len(sets) == 8 and len({tuple(held_out) for _, held_out in sets.values()}) == 1
    for seed in range(2):
        few, more = (set(sets[seed, count, True][0]) for count in (2, 4))
        assert len(few) == 2 and len(more) == 4 and few < more
        assert sets[seed, 2, True] == sets[seed, 2, False]
    assert sets[0, 2, True][0] != sets[1, 2, True][0]


def test_more_images_than_there_are(data, tmp_path, scripts, capsys):
    with pytest.raises(SystemExit, match="2"):
        scripts.curve.main([*data, "--out", str(tmp_path / "curve.jsonl"), "--counts", "5", "6"])
    assert "6 training images are asked for, and 5 are there" in capsys.readouterr().err


def test_means_spreads_and_paired_differences(tmp_path, scripts, capsys):
    lines = [line(scripts, "recipe", seed, iou, averaged=iou + 0.01) for seed, iou in enumerate((0.80, 0.82, 0.84))]
    lines += [line(scripts, "no-elastic", seed, iou, elastic=0.0) for seed, iou in enumerate((0.79, 0.83, 0.81))]
    lines += [line(scripts, "flips-only", 2, 0.80, augment="flips")]
    scripts.ablation.main(["--out", str(file_of(tmp_path / "results.jsonl", lines)), "--table"])
    scores, differences = capsys.readouterr().out.split("| difference to")
    rows = table_rows(scores)
    # means 0.82 and 0.81, both with deviations -0.02, 0, 0.02 in some order: variance 8e-4 / 2
    assert rows[RECIPE] == ["3", "2", "0.820 ± 0.020", *["0.410 ± 0.010"] * 3]
    assert rows["the recipe without elastic deformation"] == ["3", "2", "0.810 ± 0.020", *["0.405 ± 0.010"] * 3]
    assert rows["the recipe with flips and quarter turns alone"] == ["1", "2", "0.800", "0.400", "0.400", "0.400"]
    rows = table_rows("| difference to" + differences)
    # differences -0.01, 0.01, -0.03: mean -0.01, deviations 0, 0.02, -0.02, so 0.02 / sqrt(3)
    assert rows["the recipe without elastic deformation"] == ["-0.010 ± 0.012", *["-0.005 ± 0.006"] * 3]
    assert rows["the recipe with flips and quarter turns alone"][0] == "-0.040"  # of seed 2 alone, which has no error
    assert rows[RECIPE + ", averaged"][0] == "+0.010 ± 0.000"
    assert RECIPE not in rows


def test_runs_that_the_clock_has_cut_short_are_told(scripts):
    lines = {seed: line(scripts, "recipe", seed, 0.5) for seed in range(3)}
    assert scripts.runs.steps_of(lines) == "2"
    lines[1]["results"] |= {"steps": 3, "planned_steps": 4}
    assert scripts.runs.steps_of(lines) == "2-3, 1 cut short"


def test_runs_of_other_lengths_data_or_recipes_are_not_mixed(tmp_path, scripts, capsys):
    lines = [line(scripts, "recipe", seed, 0.1, lr=0.5) for seed in range(3)]  # as the recipe once was
    lines += [line(scripts, "recipe", seed, 0.8) for seed in range(2)]
    longer = line(scripts, "recipe", 0, 0.9)
    longer["configuration"]["steps"] = 5
    scripts.ablation.main(["--out", str(file_of(tmp_path / "results.jsonl", [*lines, longer])), "--table"])
    printed = capsys.readouterr().out
    of_two, of_five = printed.split("**9 images, runs of 5 steps")
    assert "**9 images, runs of 2 steps (commit 1234567, a machine, 2 threads)**" in of_two
    assert table_rows(of_two.split("| difference")[0])[RECIPE][:3] == ["2", "2", "0.800 ± 0.000"]
    assert table_rows(of_five.split("| difference")[0])[RECIPE][2] == "0.900"


def test_the_learning_curve_as_table_and_as_picture(tmp_path, scripts, capsys):
    pytest.importorskip("matplotlib", reason="pictures need the extra train")
    lines = []
    for count in (5, 10):
        for way, changes in scripts.curve.WAYS.items():
            for seed, iou in enumerate((0.5, 0.6)):
                more = 0.1 * (count == 10) + 0.02 * (way == "with") * (1 + seed)
                changes = {"images": count, "split": 0, **changes}
                lines.append(line(scripts, f"{count} images {way} elastic", seed, iou + more, **changes))
    out, picture = file_of(tmp_path / "curve.jsonl", lines), tmp_path / "curve.png"
    assert scripts.curve.main(["--out", str(out), "--table", "--plot", str(picture)]) == 0
    scores, differences = capsys.readouterr().out.split("| difference to")
    assert table_rows(scores)["10 images, without elastic deformation"][2] == "0.650 ± 0.071"
    # 0.02 and 0.04: mean 0.03, standard deviation 0.01 sqrt(2), so the standard error is 0.01
    assert table_rows(differences)["5 images, with elastic deformation"][0] == "+0.030 ± 0.010"
    drawn = read_image(picture)[..., :3].astype(int)
    for color, *_ in scripts.curve.LOOKS.values():
        wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(drawn - wanted).max(axis=2) < 3).sum() > 300  # the lines through both panels


@pytest.mark.parametrize("option", ["--steps", "--minutes", "--seeds"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "x"])
def test_lengths_and_seeds_are_above_0(option, value, scripts, capsys):
    with pytest.raises(SystemExit, match="2"):
        scripts.ablation.main(["--out", "never.jsonl", option, value])
    assert option in capsys.readouterr().err


def test_the_recipe_is_that_of_the_library(scripts):
    wanted = scripts.runs.configuration("", 0, **LENGTH)
    for name, value in json.loads(json.dumps(vars(named_recipe("cells")))).items():
        assert name == "seed" or wanted["training"][name] == value
