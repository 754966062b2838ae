"""Trainings to be compared, each in a process of its own, each a line of a results file: see ablation.py.

A run is trained for the time (or steps) that it is given and scored on images that it never saw: its last weights are
taken, so that nothing is chosen by the images that it is judged by.  A run whose line is in the file already, with the
same configuration, is not done again; what is cut short leaves no line.

    python bench/runs.py IMAGES LABELS CONFIGURATION     one run; prints its results as JSON
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minunet as mn
from minunet.bench.memory import STATUS, status
from minunet.bench.report import machine
from minunet.data import Dataset, load_folder
from minunet.errors import UsageError
from minunet.kernels import threads
from minunet.scores.evaluation import Evaluation
from minunet.training.recipe import Recipe
from minunet.training.recipes import named, named_recipe
from minunet.training.runs import FEATURES
from minunet.training.train import Trainer

HERE = Path(__file__).resolve()
HELD_OUT = 0.2  # share of the images that is judged by
NETWORK = {"features": list(FEATURES), "padding": "same", "norm": "batch", "dropout": 0.0}
RECIPE = named("cells")
TARGET = "borders" if RECIPE.borders else "instances"  # what the recipe learns of numbered cells
ORDER = 2  # sets the random stream of which images are taken apart from that of the split
SCORES = {"iou": "mean IoU of cells", "ap50": "AP@.5", "ap70": "AP@.7", "ap": "AP@.5-.95"}
INFERENCES = {"plain": "", "averaged": ", averaged"}  # of the same network: with one look, and over its eight

Configuration = dict[str, Any]
Line = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One training: the variant that it belongs to, and all that decides its result."""

    variant: str
    configuration: Configuration

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.configuration['seed']}"


# ------------------------------------------------------------------------------------------------ what is done


def configuration(
    data: str,
    seed: int,
    *,
    minutes: float | None,
    steps: int | None,
    target: str = TARGET,
    split: int | None = None,
    images: int | None = None,
    **options: Any,
) -> Configuration:
    """What decides a run's result, but for machine and version, ready for JSON.

    data: as `fingerprint` tells.  seed: of weights and batches, and of the split unless that has its own.  images: so
    many of the training images, the same ones first for any number; None: all.  options: fields of `Recipe`, instead of
    those of the recipe.
    """
    training = asdict(named_recipe("cells", **options))
    del training["seed"]
    found = {
        "data": data,
        "seed": seed,
        "split": seed if split is None else split,
        "held_out": HELD_OUT,
        "images": images,
        "minutes": minutes,
        "steps": steps,
        "target": target,
        "network": NETWORK | dict(RECIPE.network),
        "training": training,
    }
    return json.loads(json.dumps(found))  # as it is read again: lists for tuples


def train_and_score(images: str, labels: str, wanted: Configuration) -> dict[str, Any]:
    """Do one run."""
    training, held_out = learned_and_held_out(images, labels, wanted)
    options = wanted["training"] | {"seed": wanted["seed"]}
    model = mn.UNet(training.channels, training.coding.classes, **wanted["network"], seed=wanted["seed"])
    Trainer(model, training, None, Recipe(**options)).warm_up()  # compiling is no part of the minutes
    begun = time.perf_counter()
    history = mn.fit(model, training, steps=wanted["steps"], minutes=wanted["minutes"], **options)
    seconds = time.perf_counter() - begun
    plain, averaged = (mn.evaluate(model, held_out, tta=tta) for tta in (False, True))
    return {
        "steps": history.steps if history.stopped_at is None else history.stopped_at,
        "planned_steps": history.steps,
        "seconds": round(seconds, 1),
        "plain": scores(plain),
        "averaged": scores(averaged),
        "otsu_iou": round(plain.baselines["Otsu"].mean_iou_cells, 5),
        "held_out_images": len(held_out),
        "parameters": sum(parameter.data.size for parameter in model.parameters()),
        "peak_memory_mb": round(status("VmHWM") / 1024) if STATUS.exists() else None,
    }


def learned_and_held_out(images: str, labels: str, wanted: Configuration) -> tuple[Dataset, Dataset]:
    """What a run learns from, read as its target says, and what it is judged by, with numbered cells.

    Two readings: to learn foreground alone, the first must not hold the numbers, or cells would be parted as often as
    they are deformed.
    """
    learned = load_folder(images, labels, target=wanted["target"])
    numbered = load_folder(images, labels, target="instances")
    training, _ = learned.split(wanted["held_out"], wanted["split"])
    _, held_out = numbered.split(wanted["held_out"], wanted["split"])
    return first_images(training, wanted["images"], wanted["seed"]), held_out


def first_images(training: Dataset, count: int | None, seed: int) -> Dataset:
    """The first `count` images in an order by seed, so that fewer images are a part of more."""
    if count is None:
        return training
    if count > len(training):
        raise UsageError(f"{count} training images are asked for, and {len(training)} are there")
    order = np.random.default_rng([seed, ORDER]).permutation(len(training))
    return training.subset(np.sort(order[:count]))


def scores(found: Evaluation) -> dict[str, float]:
    """Mean IoU of cells, and AP pooled over all images at 0.5, at 0.7, and averaged over 0.5, 0.55 ... 0.95."""
    at = found.average_precision
    values = {"iou": found.mean_iou_cells, "ap50": at[0.5], "ap70": at[0.7], "ap": found.mean_average_precision}
    return {name: round(value, 5) for name, value in values.items()}


def fingerprint(dataset: Dataset) -> str:
    """Tells apart data sets of numbered cells, by names, images and cells, wherever they lie."""
    found = hashlib.sha256(json.dumps(dataset.names).encode())
    for array in (*dataset.raw, *dataset.ids):
        found.update(f"{array.shape} {array.dtype.str}".encode())
        found.update(np.ascontiguousarray(array))
    return f"{len(dataset)} images, {found.hexdigest()[:12]}"


# ------------------------------------------------------------------------------------------- the results file


class Results:
    """A file of one JSON object a line: {variant, configuration, results, minunet, commit, machine, threads, date}.

    A last line without its end, which a writer that was killed leaves behind, is no line: the next one takes its place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.lines: list[Line] = []
        for number, text in enumerate(self._whole().splitlines(), start=1):
            try:
                self.lines.append(_checked(json.loads(text)))
            except (ValueError, KeyError, TypeError):
                place = f"{self.path}, line {number}"
                raise UsageError(f"{place}: {text[:60]!r} is no result of a run: remove it") from None

    def holds(self, run: Run) -> bool:
        """Whether there is a line of this run; an option that its writer did not know yet is at its default."""
        return any(
            line["variant"] == run.variant and _completed(line["configuration"]) == run.configuration
            for line in self.lines
        )

    def begin(self) -> None:
        """Make the file where there is none, so that one that cannot be written is told before the first run."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.open("ab").close()
        except OSError as error:
            raise UsageError(f"{self.path} cannot be written: {error.strerror}") from None

    def append(self, line: Line) -> None:
        """Write a line, and be sure that it is on the disk."""
        text = json.dumps(line, allow_nan=False) + "\n"
        with open(self.path, "ab") as file:
            file.truncate(len(self._whole()))
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)

    def _whole(self) -> bytes:
        """The lines that have an end."""
        found = self.path.read_bytes() if self.path.exists() else b""
        return found[: found.rfind(b"\n") + 1]


def _checked(line: Line) -> Line:
    """The line, if it has what is read of it here."""
    known = [line["results"][inference][name] for inference in INFERENCES for name in SCORES]
    if not all(math.isfinite(value) for value in known):
        raise ValueError("scores are finite")
    for name in ("variant", "commit", "machine", "threads"):
        _ = line[name]
    _ = line["configuration"]["seed"], line["configuration"]["training"]
    _ = line["results"]["steps"], line["results"]["planned_steps"]
    return line


def _completed(stored: Configuration) -> Configuration:
    defaults = json.loads(json.dumps(asdict(Recipe())))
    del defaults["seed"]
    return stored | {"training": defaults | stored["training"]}


def do_missing(planned: Sequence[Run], results: Results, images: str, labels: str) -> int:
    """Do the runs whose lines are not there yet, one after the other; how many of them failed."""
    results.begin()
    failed = 0
    for number, run in enumerate(planned, start=1):
        head = f"{number}/{len(planned)} {run}:"
        if results.holds(run):
            print(head, "is there", flush=True)
            continue
        print(head, "trains", flush=True)
        done = in_a_process(run.configuration, images, labels)
        if done is None:
            failed += 1
            print(head, "FAILED, see above", flush=True)
            continue
        results.append({"variant": run.variant, "configuration": run.configuration, "results": done, **origin()})
        plain = ", ".join(f"{title} {done['plain'][name]:.3f}" for name, title in SCORES.items())
        print(head, f"{done['steps']} steps in {done['seconds']:.0f} s, {plain}", flush=True)
    return failed


def in_a_process(wanted: Configuration, images: str, labels: str) -> dict[str, Any] | None:
    """The results of a run; None where it failed, of which it told on stderr."""
    command = [sys.executable, str(HERE), images, labels, json.dumps(wanted)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def origin() -> dict[str, Any]:
    """What was measured on, and with."""
    return {
        "minunet": mn.__version__,
        "commit": _commit(),
        "machine": machine(),
        "threads": threads.count(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _commit() -> str | None:
    """The commit of this checkout, with a + where code was changed since; None where git knows none."""
    git = ["git", "-C", str(HERE.parents[1])]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "minunet", "kernels", "bench/*.py"])
    except OSError:
        return None
    return commit.stdout.strip() + "+" * (changed.returncode == 1) if commit.returncode == 0 else None


# ------------------------------------------------------------------------------------------------- the tables


@dataclass(frozen=True)
class Row:
    """A row of a table: the scores of each seed, and those that it is compared with."""

    title: str
    by_seed: Mapping[int, Mapping[str, float]]
    base: Mapping[int, Mapping[str, float]] | None = None
    steps: str = ""


def experiments(lines: Sequence[Line]) -> list[list[Line]]:
    """Lines by data and length of the runs: only runs of one experiment are compared."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        key = json.dumps([line["configuration"].get(name) for name in ("data", "minutes", "steps")])
        found.setdefault(key, []).append(line)
    return list(found.values())


def by_variant(lines: Sequence[Line]) -> dict[str, dict[int, Line]]:
    """{variant: {seed: line}}; where a variant was done in several ways, the way of its last line."""
    last = {line["variant"]: _way(line) for line in lines}
    found: dict[str, dict[int, Line]] = {}
    for line in lines:
        if _way(line) == last[line["variant"]]:
            found.setdefault(line["variant"], {})[line["configuration"]["seed"]] = line
    return found


def _way(line: Line) -> Configuration:
    """The configuration without seeds."""
    return {name: value for name, value in _completed(line["configuration"]).items() if name not in ("seed", "split")}


def of_seeds(lines: Mapping[int, Line], inference: str) -> dict[int, dict[str, float]]:
    """The scores of each seed by "plain" prediction or "averaged" over flips and rotations."""
    return {seed: line["results"][inference] for seed, line in lines.items()}


def steps_of(lines: Mapping[int, Line]) -> str:
    """How many steps the runs had: '600' or '580-610'; and of how many the time was up before the plan was done."""
    steps = [line["results"]["steps"] for line in lines.values()]
    cut = sum(line["results"]["steps"] < line["results"]["planned_steps"] for line in lines.values())
    text = f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)}-{max(steps)}"
    return f"{text}, {cut} cut short" if cut else text


def heading(lines: Sequence[Line]) -> str:
    """Of an experiment: its data, the length of its runs, and what they were done with, all where that differs."""
    known, made = lines[-1]["configuration"], {}
    for line in lines:
        made[f"commit {line['commit']}, {line['machine']}, {line['threads']} threads"] = None
    return f"{known['data'].split(',')[0]}, {length_of(lines)} ({'; '.join(made)})"


def length_of(lines: Sequence[Line]) -> str:
    """Of an experiment: 'runs of 3 minutes'."""
    known = lines[-1]["configuration"]
    return f"runs of {known['minutes']:g} minutes" if known["steps"] is None else f"runs of {known['steps']} steps"


def mean_and_spread(values: Sequence[float]) -> str:
    """'0.850 ± 0.010': mean and standard deviation; of a single value that alone."""
    text = f"{statistics.fmean(values):.3f}"
    return text if len(values) < 2 else f"{text} ± {statistics.stdev(values):.3f}"


def paired_difference(values: Mapping[int, float], base: Mapping[int, float]) -> str:
    """'+0.012 ± 0.004': mean over the seeds that both have of the difference, and its standard error."""
    seeds = sorted(values.keys() & base.keys())
    differences = [values[seed] - base[seed] for seed in seeds]
    if not differences:
        return "–"
    text = f"{statistics.fmean(differences):+.3f}"
    if len(seeds) < 2:
        return text
    return f"{text} ± {statistics.stdev(differences) / math.sqrt(len(seeds)):.3f}"


def markdown(rows: Sequence[Row], against: str) -> str:
    """Two tables: scores with their spread over the seeds, and differences by pairs of the same seed."""
    head = ("variant", "seeds", "steps", *SCORES.values())
    means = [
        (row.title, f"{len(row.by_seed)}", row.steps, *(mean_and_spread(values) for values in _columns(row.by_seed)))
        for row in rows
    ]
    differences = [
        (row.title, *(paired_difference(*pair) for pair in zip(_pairs(row.by_seed), _pairs(row.base), strict=True)))
        for row in rows
        if row.base is not None
    ]
    second = (f"difference to {against}", *SCORES.values())
    return f"{_table(head, means)}\n\n{_table(second, differences)}"


def _columns(by_seed: Mapping[int, Mapping[str, float]]) -> list[list[float]]:
    return [list(values.values()) for values in _pairs(by_seed)]


def _pairs(by_seed: Mapping[int, Mapping[str, float]]) -> list[dict[int, float]]:
    """For each score {seed: value}."""
    return [{seed: found[name] for seed, found in by_seed.items()} for name in SCORES]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


# ------------------------------------------------------------------------------------------- the command line


def parser(description: str) -> argparse.ArgumentParser:
    """What the scripts have in common."""
    made = argparse.ArgumentParser(description=description.splitlines()[0])
    made.add_argument("images", nargs="?", help="folder of images")
    made.add_argument("labels", nargs="?", help="folder of masks that hold instance ids, 0 = background")
    made.add_argument("--out", required=True, metavar="FILE.jsonl", help="results: a line a run, read and appended to")
    made.add_argument("--seeds", type=positive(int), default=3, help="so many, from 0 on")
    length = made.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=positive(float), default=3.0, help="of training, a run")
    length.add_argument("--steps", type=positive(int), help="instead of minutes")
    made.add_argument("--table", action="store_true", help="print what the file holds, and train nothing")
    return made


def positive(kind: type) -> Any:
    """A type for argparse: a finite number above 0."""

    def number(text: str) -> Any:
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"must be above 0 and finite, not {text}")
        return value

    return number


def budget(asked: argparse.Namespace) -> dict[str, Any]:
    """How long a run is, as `configuration` takes it."""
    return {"minutes": None if asked.steps else asked.minutes, "steps": asked.steps}


def data_of(asked: argparse.Namespace) -> Dataset:
    """The images with numbered cells; UsageError where they were not named."""
    if asked.labels is None:
        raise UsageError("to train, give the folders IMAGES and LABELS")
    return load_folder(asked.images, asked.labels, target="instances")


def main() -> None:
    """What the process of a run does."""
    images, labels, wanted = sys.argv[1:]
    print(json.dumps(train_and_score(images, labels, json.loads(wanted))))


if __name__ == "__main__":
    main()
