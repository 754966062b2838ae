"""`minunet train`: from two folders of files to a folder with a model, its log and its pictures."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from minunet import __version__
from minunet.data import Coding, Dataset, PixelWeights, class_map, load_folder
from minunet.data.pixel_weights import weights_of
from minunet.display import pictures
from minunet.display.progress import Progress, progress, say
from minunet.errors import UsageError, WorkFailed
from minunet.files import atomic_write, clear_leftovers
from minunet.model_files.weights import load, save
from minunet.prediction.predict import predict, preprocessing_of
from minunet.scores import metrics
from minunet.training.checkpoint import Checkpoint, Keeper, read
from minunet.training.history import State
from minunet.training.interrupts import held_back
from minunet.training.lock import Lock, cannot_write
from minunet.training.memory_plan import within_memory
from minunet.training.recipes import named
from minunet.training.resume import resumed, to_store
from minunet.training.train import WORKERS, History, Recipe, Trainer, evenly
from minunet.unet import UNet

FEATURES = (16, 32, 64, 128)
MINUTES = 10.0  # the whole command takes so long, unless steps or minutes are asked for
PREVIEW_IMAGES = 4
FINISH_SECONDS = 3.0  # kept of --minutes for the pictures after the last step
MUCH_WAITING = 10.0  # per cent of the time
ALL_ASKED = frozenset({"batch_size", "crop"})


@dataclass(frozen=True)
class TrainOptions:
    """What `minunet train` is asked for."""

    images: Path
    masks: Path
    out: Path
    steps: int | None = None
    minutes: float | None = None
    features: tuple[int, ...] | None = None  # None: FEATURES, or those of `init`
    padding: str | None = None  # None: "same", or that of `init`
    norm: str | None = None  # None: "batch", or that of `init`
    dropout: float | None = None
    validation: float = 0.2  # share of the images that is not trained on
    target: str = "auto"
    mask_suffix: str = ""
    init: Path | None = None
    overwrite: bool = False
    resume: bool = False
    backend: str | None = None
    device: str = "cpu"  # or "cuda"
    recipe: Recipe = field(default_factory=Recipe)
    recipe_name: str | None = None  # of those in recipes.py, from which `recipe` and the network come unless asked for
    workers: int = WORKERS  # threads that make batches
    asked: frozenset[str] = frozenset()  # the options and fields of the recipe that the user chose


class RunFolder:
    """The files of one run; inside its `with` no other process trains into the folder."""

    def __init__(self, path: Path, overwrite: bool = False, resume: bool = False) -> None:
        self.path, self.overwrite, self.resume = path, overwrite, resume
        self.lock = Lock(path)
        self.model = path / "model.safetensors"
        self.checkpoint = path / "checkpoint.safetensors"
        self.log = path / "log.jsonl"
        self.settings = path / "settings.json"
        self.curves = path / "curves.png"
        self.preview = path / "preview.png"

    def __enter__(self) -> RunFolder:
        try:
            self._claim()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.lock.release()

    def _claim(self) -> None:
        """Lock the folder, where it exists; UsageError where another trains into it, or a run would be lost."""
        self.lock.take()
        found = next((file for file in (self.model, self.checkpoint) if file.exists()), None)
        if found is not None and not (self.overwrite or self.resume):
            go_on = "--resume to go on with it, " if self.checkpoint.exists() else ""
            raise UsageError(f"{found} exists already: give another --out, {go_on}or --overwrite to replace it")
        if self.resume and not self.checkpoint.exists():
            raise UsageError(f"{self.checkpoint} does not exist, so there is nothing to go on with: leave out --resume")

    def start(self) -> None:
        """Make the folder. An earlier run in it stays: each of its files goes when the new one has its own."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except PermissionError as error:
            raise cannot_write(error.filename or self.path, error) from None
        self._claim()  # again: while this one read its images, another may have begun in a folder that was not there
        clear_leftovers(self.path)

    def remove_pictures(self) -> None:
        for picture in (self.curves, self.preview):
            picture.unlink(missing_ok=True)

    def write_log(self, records: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(_rounded(record)) + "\n" for record in records)
        atomic_write(self.log, lambda file: file.write(lines.encode()))

    def write_settings(self, settings: dict[str, Any]) -> None:
        text = json.dumps(settings, indent=2, default=str) + "\n"
        atomic_write(self.settings, lambda file: file.write(text.encode()))


def train_run(options: TrainOptions, started: float) -> History:
    """The whole command. `started`: time.monotonic() when the process began."""
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite replaces it: give one of them")
    refuse_data_folders(options)
    with RunFolder(options.out, options.overwrite, options.resume) as folder:
        return _train_into(folder, options, started)


def _train_into(folder: RunFolder, options: TrainOptions, started: float) -> History:
    """`train_run`, where nobody else trains."""
    begun = read(folder.checkpoint) if options.resume else None
    if begun is not None:
        options = resumed(options, begun)
    trainer, settings = prepare(options, begun)
    baselines = trainer.baselines
    drawing = pictures.available()
    keeper = Keeper(folder.checkpoint, trainer, to_store(options, trainer))
    left = None
    if options.minutes is not None or options.steps is None:
        left = minutes_left(MINUTES if options.minutes is None else options.minutes, started)
    if begun is None:
        folder.start()
    else:
        if options.minutes is not None:
            say(f"minutes   {options.minutes:g} at most for this command; the run stays one of {begun.steps} steps")
        clear_leftovers(folder.path)
    with progress() as display:
        reporter = Reporter(folder, trainer, display, baselines, settings, keeper, begun)
        history = reporter.watch(options.steps, left)
    reporter.save_model()
    if drawing:
        draw_run(folder, trainer, history, baselines)
    _say_farewell(folder, history, reporter, drawing)
    return history


def refuse_data_folders(options: TrainOptions) -> None:
    """A run's pictures among the images would be taken for images by the next run."""
    for place in (options.images, options.masks):
        if place.resolve() == options.out.resolve():
            raise UsageError(f"--out {options.out} is a folder of the data: give a folder of its own")


def prepare(options: TrainOptions, begun: Checkpoint | None = None) -> tuple[Trainer, dict[str, Any]]:
    """Read, split, build, and say what was found; the trainer, and what settings.json holds."""
    stopped = None if begun is None else begun.model()
    origin = stopped or (None if options.init is None else load(options.init))
    dataset = load_folder(
        options.images,
        options.masks,
        mask_suffix=options.mask_suffix,
        target=options.target if stopped is None or stopped.coding is None else stopped.coding,
        preprocessing=None if origin is None else preprocessing_of(origin),
    )
    if stopped is None:
        options, dataset = as_named(options, dataset, origin)
    for line in describe(dataset):
        say(line)
    model = stopped or build_model(options, dataset, origin)
    training, validation = split(dataset, options.validation, options.recipe.seed)
    trainer = Trainer(model, training, validation, options.recipe, options.workers)
    say(f"split     {_split_in_words(training, validation, trainer)}")
    say(f"network   {describe_model(model)}")
    recipe = within_memory(trainer, options.asked if begun is None else ALL_ASKED, say)
    if recipe is not options.recipe:
        trainer = Trainer(model, training, validation, recipe, options.workers)
    say(f"recipe    {describe_training(options.recipe_name, trainer)}")
    say(f"crops     {trainer.crop[0]} x {trainer.crop[1]}, {recipe.batch_size} a batch")
    settings = {
        "minunet": __version__,
        "options": _stored(replace(options, recipe=recipe)),
        "architecture": model.architecture,
        "crop": trainer.crop,
        "loss": trainer.loss_name,
        "weight_map": trainer.weight_map,
        "score": trainer.score,
        "training": training.names,
        "validation": [] if validation is None else validation.names,
    }
    return trainer, settings


def as_named(options: TrainOptions, dataset: Dataset, origin: UNet | None) -> tuple[TrainOptions, Dataset]:
    """What a named recipe makes of these masks: borders of numbered cells, or fields for masks that number none."""
    if options.recipe_name is None:
        return options, dataset
    chosen = named(options.recipe_name)
    if dataset.ids is None:
        fields = {name: value for name, value in chosen.unnumbered.items() if name not in options.asked}
        return replace(options, recipe=replace(options.recipe, **fields)), dataset
    fitting = origin is None or origin.out_channels == Coding("borders").classes
    if chosen.borders and fitting and not options.asked & {"target", "weight_map"}:
        return options, dataset.with_borders()
    return options, dataset


def _stored(options: TrainOptions) -> dict[str, Any]:
    """The options for settings.json, with paths that are found again from any current folder."""
    values = {name: value for name, value in asdict(options).items() if name != "asked"}
    return {name: value.absolute() if isinstance(value, Path) else value for name, value in values.items()}


def _split_in_words(training: Dataset, validation: Dataset | None, trainer: Trainer) -> str:
    if validation is None or trainer.validation is None:
        return f"{len(training)} to train on, none to validate on: no score, the last model is kept"
    text = f"{len(training)} to train on, {len(validation)} to validate on"
    if len(trainer.validation) < len(validation):
        text += f" ({len(trainer.validation)} of them are looked at)"
    return text + f", by seed {trainer.recipe.seed}"


def draw_run(folder: RunFolder, trainer: Trainer, history: History, baselines: dict[str, float]) -> None:
    """curves.png and preview.png."""
    pictures.curves(folder.curves, history.records, baselines, trainer.score_name)
    shown = evenly(trainer.validation or trainer.dataset, PREVIEW_IMAGES)
    title = "training images" if trainer.validation is None else "validation images, not trained on"
    names = pictures.class_names(shown.coding)
    pictures.overview(folder.preview, preview_rows(trainer.model, shown, trainer.weights), title, names)


class Reporter:
    """Runs a trainer, writes the log, keeps the best model in its folder, talks to the terminal.

    Where the folder has a model of an earlier run, that stays, with the settings.json that belongs to it (`evaluate
    --held-out` goes by that), until the new run's first model replaces it. The log is the new run's from its first
    record on, and the earlier pictures end there; the earlier checkpoint ends with the new run's first, or, where it
    keeps none, with its first model.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        display: Progress,
        baselines: dict[str, float],
        settings: dict[str, Any],
        keeper: Keeper | None = None,
        begun: Checkpoint | None = None,
    ) -> None:
        self.folder, self.trainer, self.display = folder, trainer, display
        self.baselines, self.settings = baselines, settings
        self.keeper, self.begun = keeper, begun
        self.score_name = trainer.score_name
        self.records: list[dict[str, Any]] = []
        self.rate = 0.0
        self.saved_step: int | None = None
        if begun is not None:
            self.records += begun.history.records
            self.saved_step = begun.history.best_step if folder.model.exists() else None
        self.earlier_model = self.saved_step is None and folder.model.exists()
        self.steps = None if begun is None else begun.steps  # of the run, once they are known

    def watch(self, steps: int | None, minutes: float | None) -> History:
        """Train; where that is cut short, leave a model behind and say so."""
        state = None if self.begun is None else self.begun.restore(self.trainer)
        try:
            if state is not None:
                self._go_on(state)
            return self.trainer.fit(steps, minutes, self.report, self.progress, self.keeper, state)
        except KeyboardInterrupt:
            if self.saved_step is None and (not self.earlier_model or self._learned_unjudged()):
                self.save_model()
            log = f", {self.folder.log} the log" if self.records else ""
            with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends the `tee` behind us too
                self.display.say(f"stopped: {self._kept_model()}{log}{self._kept_run('; ')}")
            self._draw_curves()
            raise
        except WorkFailed as error:
            if self.saved_step is None and not self.earlier_model:
                raise
            raise WorkFailed(f"{error}. {self._kept_model()}") from None
        except OSError as error:
            if error.filename is None:
                raise
            earlier = f". {self._kept_model()}" if self.earlier_model else ""
            raise WorkFailed(f"{error.filename}: {error.strerror}{earlier}{self._kept_run('. ')}") from None

    def save_model(self) -> None:
        """Write the model; where there was one of an earlier run, the last that was left of that goes with it."""
        save(self.trainer.model, self.folder.model)
        if self.earlier_model:
            self.earlier_model = False
            self._write_settings()
        if self.keeper is None:
            self.folder.checkpoint.unlink(missing_ok=True)

    def _write_settings(self) -> None:
        self.folder.write_settings(self.settings | {"steps": self.steps})

    def _learned_unjudged(self) -> bool:
        """Whether the run has learned, without validation images that would tell when it is worth a model."""
        return self.trainer.validation is None and bool(self.records) and self.records[-1]["step"] > 0

    def _draw_curves(self) -> None:
        """For a run that was interrupted; nobody waits for the preview, or hears of a picture that failed."""
        if self.records and self.records[-1]["step"] > 0 and pictures.available():
            with contextlib.suppress(Exception):
                pictures.curves(self.folder.curves, self.records, self.baselines, self.score_name)

    def _go_on(self, state: State) -> None:
        steps = state.history.steps
        self.display.say(f"steps     {state.done} of {steps} are done already")
        self._begin_files(steps)
        self.display.start(steps, state.done)

    def _begin_files(self, steps: int) -> None:
        self.steps = steps
        if not self.earlier_model:
            self._write_settings()
        self.folder.write_log(self.records)
        if self.saved_step is None:
            self.folder.remove_pictures()  # they are of an earlier run

    def _kept_model(self) -> str:
        which = "the model as it is now"
        if self.earlier_model:
            which = "the earlier model still"
        if self.saved_step is not None:
            which = f"the best model so far (step {self.saved_step})"
        return f"{self.folder.model} holds {which}"

    def _kept_run(self, before: str) -> str:
        """From where --resume would go on, if a checkpoint is there."""
        if self.keeper is None:
            return ""
        step = self.keeper.written_at
        if step is None and self.begun is not None:
            step = self.begun.done
        return "" if step is None else f"{before}--resume goes on from step {step}"

    def report(self, record: dict[str, Any]) -> None:
        self.records.append(record)
        if record["step"] == 0:
            self._begin(record)
        if record.get("best"):
            with held_back():  # an interruption says what the file holds
                self.save_model()
                self.saved_step = record["step"]
        self.folder.write_log(self.records)
        self.rate = record.get("images_per_second", self.rate)
        if "score" in record:
            self.display.say(self._line(record))

    def progress(self, done: int, loss: float) -> None:
        self.display.update(done, loss, self.rate)

    def _begin(self, record: dict[str, Any]) -> None:
        steps = record["steps"]
        if "step_seconds" in record:
            self.display.say(
                f"steps     {steps} (estimated from {record['step_seconds']:.3f} s a step; "
                f"--steps {steps} repeats this run)"
            )
        self._begin_files(steps)
        self.display.start(steps)

    def _line(self, record: dict[str, Any]) -> str:
        loss = f"loss {record['loss']:.4f}" if "loss" in record else "untrained  "
        best = " *" if record.get("best") else "  "
        iou = f", IoU {record['mean_iou']:.3f}" if "mean_iou" in record else ""
        return (
            f"step {record['step']:>{len(str(record['steps']))}}/{record['steps']}  {loss}  "
            f"{self.score_name} {record['score']:.3f}{iou}{best}  ({_listed(self.baselines)})"
        )


def build_model(options: TrainOptions, dataset: Dataset, origin: UNet | None) -> UNet:
    """The network as asked for, with channels and classes from the data or from --init."""
    asked = {
        "features": None if options.features is None else list(options.features),
        "padding": options.padding,
        "norm": options.norm,
        "dropout": options.dropout,
    }
    asked = {name: value for name, value in asked.items() if value is not None}
    if origin is not None:
        _check_init(options, asked, dataset, origin)
        return origin
    classes = dataset.coding.classes
    if options.recipe.loss == "bce" and classes != 2:
        raise UsageError(f"--loss bce is for two classes, and the masks have {classes}: use ce")
    shape: dict[str, Any] = {"features": list(FEATURES), "padding": "same", "norm": "batch", "dropout": 0.0} | asked
    if shape["norm"] == "none":
        shape["norm"] = None
    try:
        return UNet(
            in_channels=dataset.channels,
            out_channels=1 if options.recipe.loss == "bce" else classes,
            seed=options.recipe.seed,
            **shape,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_init(options: TrainOptions, asked: dict[str, Any], dataset: Dataset, origin: UNet) -> None:
    for name, value in asked.items():
        has = origin.architecture[name] or ("none" if name == "norm" else 0.0)
        if has != value:
            raise UsageError(f"{options.init} has {name} {has}, not {value}: leave out --{name}, or --init")
    outputs, classes = origin.out_channels, dataset.coding.classes
    if max(outputs, 2) != classes:
        raise UsageError(
            f"{options.init} tells {max(outputs, 2)} classes apart, and the masks have {classes}: "
            "start without --init, or check --target"
        )


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset | None]:
    """Training and validation images; no validation images at a share of 0."""
    if not 0 <= share < 1:
        raise UsageError(f"--validation is a share from 0 up to 1 (not included), not {share:g}")
    if share == 0:
        return dataset, None
    if len(dataset) < 2:
        raise UsageError(
            "one image cannot be split into training and validation: add images, "
            "or train without a check by --validation 0"
        )
    return dataset.split(validation=share, seed=seed)


def minutes_left(minutes: float, started: float) -> float:
    """What is left of --minutes for `fit`, when start-up and the pictures are taken off."""
    gone = time.monotonic() - started + FINISH_SECONDS
    left = minutes - gone / 60
    if left <= 0.02:
        raise UsageError(
            f"--minutes {minutes:g} is too short: start-up, reading and the pictures alone take {gone:.0f} s"
        )
    return left


def describe(dataset: Dataset) -> list[str]:
    """What was found, in lines for the terminal."""
    sizes = Counter(image.shape[1:] for image in dataset.images)
    (height, width), _ = sizes.most_common(1)[0]
    size = f"{height} x {width} px"
    if len(sizes) > 1:
        heights, widths = zip(*sizes, strict=True)
        size = f"{len(sizes)} sizes from {min(heights)} x {min(widths)} to {max(heights)} x {max(widths)} px"
    channels = dataset.channels
    kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    types = " and ".join(sorted({str(raw.dtype) for raw in dataset.raw}))
    return [
        f"images    {len(dataset)}, {size}, {kind}, {types}",
        f"masks     {dataset.coding.describe()}",
    ]


def describe_model(model: UNet) -> str:
    shape = model.architecture
    features = "-".join(str(count) for count in shape["features"])
    norm = f"{shape['norm']} norm" if shape["norm"] else "no norm"
    parameters = sum(parameter.data.size for parameter in model.parameters())
    return f"U-Net {features}, padding {shape['padding']}, {norm}: {parameters:,} parameters"


def describe_training(name: str | None, trainer: Trainer) -> str:
    """What is done with the images, and what counts more than the rest."""
    recipe = trainer.recipe
    words = [name or "default", f"loss {trainer.loss_name}", f"augmentation {recipe.augment}"]
    if trainer.weight_map:
        words.append(f"weight map w0 {recipe.w0:g}, sigma {recipe.sigma:g} px")
    if recipe.class_weight != "none":
        words.append(f"{recipe.class_weight} classes")
    if recipe.foreground:
        words.append(f"foreground sought by {100 * recipe.foreground:g} % of the crops")
    return ", ".join(words)


def preview_rows(model: UNet, dataset: Dataset, weights: PixelWeights | None = None) -> list[pictures.Row]:
    """Each image with what the model makes of it, and what its pixels count in the loss, for `pictures.overview`."""
    rows = []
    for i, (name, raw, truth) in enumerate(zip(dataset.names, dataset.raw, dataset.truth, strict=True)):
        p = predict(model, raw, channels_last=dataset.channels_last(i))
        score = metrics.score([class_map(p, dataset.coding)], [truth], dataset.coding.scored_classes)
        weight = None if weights is None else weights_of(dataset, i, weights)
        rows.append(pictures.Row(name, raw, truth, p, f"IoU {score:.2f}", weight, dataset.coding))
    return rows


def _say_farewell(folder: RunFolder, history: History, reporter: Reporter, drawing: bool) -> None:
    say()
    if history.stopped_by == "time":
        say(
            f"The time was up at step {history.stopped_at} of {history.steps}, so the learning rate had not come down "
            "to its end: --resume goes on from there."
        )
    if history.stopped_by == "patience":
        say(f"Ended at step {history.stopped_at} of {history.steps}: {history.waited} looks without a better model.")
    if history.best_score is not None:
        say(
            f"best {reporter.score_name} {history.best_score:.3f} at step {history.best_step}"
            f"  ({_listed(reporter.baselines)})"
        )
    if waiting := [record["waiting"] for record in history.records if "waiting" in record]:
        share = 100 * float(np.mean(waiting))
        more = ": more --workers may help" if share > MUCH_WAITING else ""
        say(f"waited for batches {share:.1f} % of the time{more}")
    say(f"{folder.model}  the {'best' if history.best_step else 'last'} model")
    say(f"{folder.log}  a line a report")
    if drawing:
        say(f"{folder.curves}  loss and score over the steps")
        say(f"{folder.preview}  images, truth, prediction, uncertainty")
    else:
        say('no pictures: they need matplotlib (pip install "minunet[train]")')
    say(f"next: minunet predict {folder.model} IMAGES --out predictions --overlay")


def _listed(baselines: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Six digits; JSON has no NaN, so that becomes null."""
    return {name: _short(value) for name, value in record.items()}


def _short(value: Any) -> Any:
    if isinstance(value, list):
        return [_short(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
