"""The model in the box: python bench/train_nuclei.py ../shared/data/dsb2018 --mixed ../shared/data/dsb2018_mixed

Trains on the 256 x 256 px fluorescence images of the Data Science Bowl 2018 (BBBC038, CC0) and writes into --out, by
default minunet/models: nuclei.safetensors, nuclei.json with all numbers, and nuclei.md, the model card, which is
nuclei_card.md beside this script with the numbers filled in. A folder of data holds images/ and labels/.

The nuclei of these images have diameters of 7 to 26 px. Those of other microscopes are up to twice as large, so half of
what is validated on, and most of what is trained on, is enlarged: see `Zoom` and `enlarged`. The images of --mixed are
never trained on and choose nothing; only the card's scores are of them.

--evaluate MODEL trains nothing and prints the scores of a model on --mixed, fluorescence and stained tissue apart.
"""

import argparse
import hashlib
import json
import math
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from string import Template

import numpy as np

import minunet as mn
from minunet import data
from minunet.data.augmentations import affine_places
from minunet.data.deform import displacements, resample
from minunet.data.preprocessing import is_grey
from minunet.files import atomic_write
from minunet.model_files.boxed import FOLDER
from minunet.scores.matching import match
from minunet.training.checkpoint import Keeper, read
from minunet.training.history import History
from minunet.training.recipes import named_recipe
from minunet.training.runs import describe, describe_model
from minunet.training.train import Trainer

NAME = "nuclei"
MOST_BYTES = 2_000_000  # of the model file, which every wheel carries
CARD = Path(__file__).with_name("nuclei_card.md")
VALIDATION = 0.2  # share of the images that is not trained on
ENLARGED = 3.5  # times, for validation: the nuclei of the largest magnification among other microscopes' images
SHOWN = (0.5, 0.7)  # thresholds of the average precision in the card
FOREGROUND = 0.9  # share of the crops that are placed at nuclei: enlarged, half of these still miss them
GREY_WARNING = "a colour image in a grey model"


@dataclass(frozen=True)
class Zoom(data.Augmentation):
    """All augmentation, and enlargement as far as `enlarge` times, though reduction only as far as 1 / (1 + scale).

    alone: share of the crops that are standardized as if they were whole images. A crop of a picture in which nuclei
    are few and small stands for a picture in which they are large and fill much of it, and has its grey values then.
    """

    scale: float = 0.3
    enlarge: float = 4.0
    alone: float = 0.5

    def places(self, shape: tuple[int, ...], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        flips = rng.random(2) < 0.5
        angle, down, right = rng.uniform(-1, 1, 3)
        scale = math.exp(rng.uniform(-math.log1p(self.scale), math.log(self.enlarge)))
        affine = affine_places(
            shape,
            size,
            angle=self.rotation * angle,
            scale=scale,
            flips=(self.flips and bool(flips[0]), self.flips and bool(flips[1])),
            shift=(self.shift * down, self.shift * right),
        )
        # In pixels of the window, so that an enlarged crop is bent no more than others.
        return affine + displacements(size, self._elastic(size), self.grid, rng) / max(scale, 1.0)

    def look(self, image: np.ndarray, rng: np.random.Generator, spread: float = 1.0) -> np.ndarray:
        alone = rng.random() < self.alone
        own = float(image.std())
        if alone and own > spread / 4:  # not where there is nothing but background, whose noise would become cells
            image = ((image - image.mean()) * (spread / own)).astype(image.dtype)
        return super().look(image, rng, spread)


def enlarged(dataset: data.Dataset, factor: float) -> data.Dataset:
    """A part of each image, enlarged to the image's size, as if it had been taken at a higher magnification."""
    images, labels = [], []
    numbers = dataset.truth if dataset.ids is None else dataset.ids
    for raw, ids in zip(dataset.raw, numbers, strict=True):
        places = affine_places(ids.shape, ids.shape, scale=factor, shift=_to_nuclei(ids, factor))
        image, there, _ = resample(data.Preprocessing(1)(raw, np.float32), ids, None, places)
        images.append(image[0])
        labels.append(there)
    names = [f"{name} x {factor:g}" for name in dataset.names]
    return data.from_arrays(images, labels, dataset.coding, dataset.preprocessing, names)


def _to_nuclei(ids: np.ndarray, factor: float) -> tuple[float, float]:
    """How far, down and right, the enlarged part lies from the image's middle: at the middle one of all cell pixels."""
    found = np.argwhere(ids)
    if not len(found):
        return 0.0, 0.0
    centre = (np.array(ids.shape) - 1) / 2
    room = centre * (1 - 1 / factor)
    down, right = np.clip(found[len(found) // 2] - centre, -room, room)
    return float(down), float(right)


def joined(one: data.Dataset, other: data.Dataset) -> data.Dataset:
    """The images of both, which have the same coding and preprocessing."""
    lists = {name: getattr(one, name) + getattr(other, name) for name in ("names", "images", "targets", "truth", "raw")}
    return replace(one, **lists, ids=None if one.ids is None or other.ids is None else one.ids + other.ids)


def load_grey(folder: Path, target: str | data.Coding) -> data.Dataset:
    """Images and labels as a grey model takes them: of colours the luminance."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", GREY_WARNING)
        return data.load_folder(folder / "images", folder / "labels", target=target,
                                preprocessing=data.Preprocessing(1, "standardize"))  # fmt: skip


def kinds(mixed: data.Dataset) -> dict[str, data.Dataset]:
    """Fluorescence images, which are grey, and stained tissue, which is coloured."""
    grey = [is_grey(raw) for raw in mixed.raw]
    return {
        "fluorescence": mixed.subset([i for i, is_one in enumerate(grey) if is_one]),
        "tissue": mixed.subset([i for i, is_one in enumerate(grey) if not is_one]),
    }


def scores(model: mn.UNet, dataset: data.Dataset) -> dict:
    """Mean IoU of cells, that of one Otsu threshold an image, and AP of the numbered cells at some thresholds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", GREY_WARNING)
        found = mn.evaluate(model, dataset)
        precision = average_precision(model, dataset)
    return {
        "images": len(dataset),
        "mean_iou": found.mean_iou_cells,
        "lowest_iou": float(found.image_scores.min()),
        "dice": float(found.dice[1]),
        "otsu_mean_iou": found.baselines["Otsu"].mean_iou_cells,
        "ap": precision,
    }


def average_precision(model: mn.UNet, dataset: data.Dataset) -> dict[str, float]:
    """AP by threshold, pooled over the images, of the cells that `label_instances` finds."""
    matches = []
    for i, raw in enumerate(dataset.raw):
        p = mn.predict(model, raw, dataset.channels_last(i))
        labels = mn.label_instances(p if len(p) == 3 else 1 - p[0])
        matches.append(match(labels, dataset.ids[i]))
    pooled = sum(matches[1:], start=matches[0])
    return {f"{t:g}": ap for t, ap in zip(pooled.thresholds, pooled.average_precision.tolist(), strict=True)}


def table(found: dict[str, dict]) -> str:
    """Scores of several sets as a table in Markdown."""
    head = ["images not trained on", "number", "mean IoU of cells", "Otsu's threshold", "lowest IoU"]
    head += [f"AP at {t:g}" for t in SHOWN]
    rows = [
        [name, str(s["images"]), *(f"{s[key]:.3f}" for key in ("mean_iou", "otsu_mean_iou", "lowest_iou")),
         *(f"{s['ap'][f'{t:g}']:.3f}" for t in SHOWN)]
        for name, s in found.items()
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def file_size(model: mn.UNet, dtype: str) -> int:
    """Bytes of its file; they do not depend on the weights' values."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{NAME}.safetensors"
        mn.save(model, file, dtype=dtype)
        return file.stat().st_size


def train(options: argparse.Namespace) -> None:
    begun = time.monotonic()
    dataset = load_grey(options.data, options.target)
    training, validation = dataset.split(VALIDATION, options.seed)
    for line in describe(dataset):
        print(line, flush=True)
    shape = {"features": options.features, "padding": "same", "norm": "batch"}
    model = mn.UNet(1, dataset.coding.classes, seed=options.seed, **shape)
    print(f"network   {describe_model(model)}")
    recipe = named_recipe("cells", seed=options.seed, crop=options.crop, batch_size=options.batch, weight_map=None,
                          foreground=FOREGROUND)  # fmt: skip
    trainer = Trainer(model, training, joined(validation, enlarged(validation, ENLARGED)), recipe, options.workers)
    model.preprocessing, model.coding = dataset.preprocessing, dataset.coding
    if file_size(model, options.dtype) > MOST_BYTES:
        raise SystemExit(f"the file would have {file_size(model, options.dtype):,} bytes, and {MOST_BYTES:,} are "
                         "the most: choose fewer --features, or --dtype int8")  # fmt: skip
    zoom = Zoom(elastic=recipe.elastic)
    trainer.sampler = replace(trainer.sampler, augment=zoom)
    history = fit(trainer, options, {"zoom": asdict(zoom), "target": options.target})
    numbers = {
        "name": NAME,
        "made": time.strftime("%Y-%m-%d"),
        "minunet": mn.__version__,
        "network": model.architecture | {"parameters": sum(p.data.size for p in model.parameters())},
        "stored": options.dtype,
        "target": dataset.coding.to_json()["kind"],
        "training": {
            "images": len(training),
            "seed": options.seed,
            "steps": history.steps,
            "best_step": history.best_step,
            "best_score": history.best_score,
            "minutes": round((time.monotonic() - begun) / 60, 1),
            "batch": recipe.batch_size,
            "crop": trainer.crop[0],
            "loss": trainer.loss_name,
            "weight_map": trainer.weight_map,
            "zoom": asdict(zoom),
        },
        "validation": validation.names,
    }
    finish(model, validation, numbers, options)


def fit(trainer: Trainer, options: argparse.Namespace, settings: dict) -> History:
    """Train, with a checkpoint beside the model; what it was begun with must be the same when it goes on."""
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.checkpoint
    state = None
    if options.resume:
        found = read(file)
        if found.settings != settings:
            raise SystemExit(f"{file} was begun with {found.settings}, not with {settings}")
        state = found.restore(trainer)

    def report(record: dict) -> None:
        if "score" in record:
            loss = f"loss {record['loss']:.4f}" if "loss" in record else "untrained"
            print(f"step {record['step']}/{record['steps']}  {loss}  mean IoU {record['score']:.3f}"
                  f"{' *' if record.get('best') else ''}", flush=True)  # fmt: skip

    keeper = None if file is None else Keeper(file, trainer, settings)
    return trainer.fit(options.steps, options.minutes, report, lambda done, loss: None, keeper, state)


def finish(model: mn.UNet, validation: data.Dataset, numbers: dict, options: argparse.Namespace) -> None:
    """Write model, numbers and card. All scores are those of the file, as everyone else reads it."""
    file = options.out / f"{NAME}.safetensors"
    mn.save(model, file, dtype=options.dtype)
    stored = mn.load(file)
    numbers["bytes"] = file.stat().st_size
    numbers["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    sets = {"held out, as the training images": validation}
    sets["the same, enlarged 3.5 times"] = enlarged(validation, ENLARGED)
    if options.mixed is not None:
        mixed = kinds(load_grey(options.mixed, validation.coding))
        sets["fluorescence of other sizes"] = mixed["fluorescence"]
        sets["stained tissue (not for this model)"] = mixed["tissue"]
    numbers["scores"] = {name: scores(stored, images) for name, images in sets.items()}
    numbers["scores_in_float32"] = {name: scores(model, images) for name, images in sets.items()}
    text = json.dumps(numbers, indent=1) + "\n"
    atomic_write(file.with_suffix(".json"), lambda out: out.write(text.encode()))
    atomic_write(file.with_suffix(".md"), lambda out: out.write(card(numbers).encode()))
    print(f"\n{table(numbers['scores'])}\n\nin float32:\n\n{table(numbers['scores_in_float32'])}\n")
    print(f"{file}  {numbers['bytes']:,} bytes, beside it {NAME}.json and {NAME}.md")


def card(numbers: dict) -> str:
    """The model card; KeyError where the text asks for a number that is not there."""
    training, network = numbers["training"], numbers["network"]
    lost = max(
        numbers["scores_in_float32"][name]["dice"] - found["dice"] for name, found in numbers["scores"].items()
    )
    return Template(CARD.read_text(encoding="utf-8")).substitute(
        scores=table(numbers["scores"]),
        features=", ".join(map(str, network["features"])),
        parameters=f"{network['parameters']:,}",
        bytes=f"{numbers['bytes']:,}",
        stored=numbers["stored"],
        lost=f"{100 * max(lost, 0):.2f}",
        made=numbers["made"],
        version=numbers["minunet"],
        training_images=training["images"],
        validation_images=len(numbers["validation"]),
        seed=training["seed"],
        steps=training["steps"],
        best_step=training["best_step"],
        minutes=f"{training['minutes']:g}",
        batch=training["batch"],
        crop=training["crop"],
        loss=training["loss"],
        enlarge=f"{training['zoom']['enlarge']:g}",
        classes="background, inside and border" if numbers["target"] == "borders" else "background and nucleus",
        options=command(numbers),
    )


def command(numbers: dict) -> str:
    """The options of this script that repeat the run."""
    training = numbers["training"]
    return (
        f"--features {','.join(map(str, numbers['network']['features']))} --dtype {numbers['stored']} "
        f"--target {numbers['target']} --seed {training['seed']} --crop {training['crop']} "
        f"--batch {training['batch']} --steps {training['steps']}"
    )


def evaluate(options: argparse.Namespace) -> None:
    """Print the scores of a model on --mixed."""
    model = mn.load(options.evaluate)
    mixed = load_grey(options.mixed, "instances" if model.coding is None else model.coding)
    print(table({name: scores(model, images) for name, images in kinds(mixed).items()}))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="dsb2018: images/ and labels/")
    parser.add_argument("--mixed", type=Path, help="dsb2018_mixed, to score on")
    parser.add_argument("--evaluate", metavar="MODEL", help="score this model on --mixed, and train nothing")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--features", type=lambda text: tuple(map(int, text.split(","))), default=(16, 32, 64, 128))
    parser.add_argument("--dtype", default="int8", choices=("float32", "float16", "int8"))
    parser.add_argument("--target", default="instances", help="of minunet train: instances, borders, foreground ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--crop", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="to go on from with --resume")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        mn.set_num_threads(options.threads)
    if options.evaluate is not None:
        if options.mixed is None:
            parser.error("--evaluate needs --mixed")
        evaluate(options)
        return
    if options.data is None:
        parser.error("give the folder of the data")
    if options.resume and options.checkpoint is None:
        parser.error("--resume needs --checkpoint")
    if options.minutes is None and options.steps is None and not options.resume:
        parser.error("give --minutes or --steps")
    train(options)


if __name__ == "__main__":
    main()
