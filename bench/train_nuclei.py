"""The model in the box: python bench/train_nuclei.py DATA --mixed MIXED --run RUN --minutes 15

Trains on the 256 x 256 px fluorescence images of the Data Science Bowl 2018 (BBBC038, CC0), by `minunet train --recipe
cells` into the folder RUN; where RUN has a model already, that is taken. Writes into --out, by default minunet/models:
nuclei.safetensors, nuclei.json with all numbers, and nuclei.md, the model card, which is nuclei_card.md beside this
script with the numbers filled in. A folder of data holds images/ and labels/.

The images of --mixed are never trained on and choose nothing; only the card's scores are of them.
"""

import argparse
import hashlib
import json
import time
import warnings
from pathlib import Path
from string import Template

import minunet as mn
from minunet import cli, data
from minunet.data.preprocessing import is_grey
from minunet.files import atomic_write
from minunet.model_files.boxed import FOLDER

NAME = "nuclei"
MOST_BYTES = 2_000_000  # of the model file, which every wheel carries
CARD = Path(__file__).with_name("nuclei_card.md")
SHOWN = (0.5, 0.7)  # thresholds of the average precision in the card
GREY_WARNING = "a colour image in a grey model"


def load_grey(folder: Path, coding: data.Coding) -> data.Dataset:
    """Images and labels as a grey model takes them: of colours the luminance."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", GREY_WARNING)
        return data.load_folder(folder / "images", folder / "labels", target=coding,
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
    return {
        "images": len(dataset),
        "mean_iou": found.mean_iou_cells,
        "lowest_iou": float(found.image_scores.min()),
        "dice": float(found.dice[1]),
        "otsu_mean_iou": found.baselines["Otsu"].mean_iou_cells,
        "ap": {f"{t:g}": ap for t, ap in found.average_precision.items()},
    }


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


def train(options: argparse.Namespace) -> None:
    """Into --run, as anyone would from the command line."""
    arguments = ["train", options.data / "images", options.data / "labels", "--out", options.run, "--recipe", "cells"]
    for flag in ("minutes", "steps", "seed", "features"):
        if (value := getattr(options, flag)) is not None:
            arguments += [f"--{flag}", value]
    if cli.main([str(argument) for argument in arguments]) != 0:
        raise SystemExit("the training failed")


def numbers_of(run: Path) -> dict:
    """What the files of a run tell about it."""
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    best = [record for record in records if record.get("best")][-1]
    recipe = settings["options"]["recipe"]
    return {
        "name": NAME,
        "made": time.strftime("%Y-%m-%d"),
        "minunet": settings["minunet"],
        "network": settings["architecture"],
        "training": {
            "images": len(settings["training"]),
            "seed": recipe["seed"],
            "steps": records[-1]["step"],
            "planned_steps": settings["steps"],
            "best_step": best["step"],
            "best_score": best["score"],
            "minutes": round(records[-1]["seconds"] / 60, 1),
            "batch": recipe["batch_size"],
            "crop": settings["crop"][0],
            "loss": settings["loss"],
            "weight_map": settings["weight_map"],
        },
        "validation": settings["validation"],
    }


def box(options: argparse.Namespace) -> None:
    """Write model, numbers and card. All scores are those of the file, as everyone else reads it."""
    model, file = mn.load(options.run / "model.safetensors"), options.out / f"{NAME}.safetensors"
    options.out.mkdir(parents=True, exist_ok=True)
    mn.save(model, file, dtype=options.dtype)
    size = file.stat().st_size
    if size > MOST_BYTES:
        file.unlink()
        raise SystemExit(f"the file would have {size:,} bytes, and {MOST_BYTES:,} are the most: choose fewer "
                         "--features, or --dtype int8")  # fmt: skip
    numbers = numbers_of(options.run)
    numbers |= {"bytes": size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "stored": options.dtype}
    numbers["network"] |= {"parameters": sum(parameter.data.size for parameter in model.parameters())}
    known = load_grey(options.data, model.coding)
    held_out = known.subset([known.names.index(name) for name in numbers["validation"]])
    mixed = kinds(load_grey(options.mixed, model.coding))
    sets = {
        "held out, as the training images": held_out,
        "fluorescence of other sizes": mixed["fluorescence"],
        "stained tissue (not for this model)": mixed["tissue"],
    }
    stored = mn.load(file)
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
        features=",".join(map(str, network["features"])),
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
        planned=training["planned_steps"],
        best_step=training["best_step"],
        minutes=f"{training['minutes']:g}",
        batch=training["batch"],
        crop=training["crop"],
        loss=training["loss"],
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="dsb2018: images/ and labels/")
    parser.add_argument("--mixed", type=Path, required=True, help="dsb2018_mixed, to score on")
    parser.add_argument("--run", type=Path, required=True, help="folder of the training")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--features", help="of minunet train, so 16,32,64,128 unless said")
    parser.add_argument("--dtype", default="int8", choices=("float32", "float16", "int8"))
    parser.add_argument("--seed", type=int)
    options = parser.parse_args(arguments)
    if not (options.run / "model.safetensors").exists():
        if options.minutes is None and options.steps is None:
            parser.error(f"{options.run} has no model: give --minutes or --steps to train one")
        train(options)
    box(options)


if __name__ == "__main__":
    main()
