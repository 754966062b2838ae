"""The command line: what is asked for, and errors turned into an exit status.

0 done, 1 the work failed, 2 the command line or the data is wrong, 130 interrupted. The work itself
is in runs.py (train), predict_files.py, evaluate_files.py, doctor/, info.py, export/, demo.py and bench/command.py.
"""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# When the process began: so far it has only computed, so its processor time is its age.
STARTED = time.monotonic() - time.process_time()
DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
MODEL = "model.safetensors or .npz, or the name of a model in the package: nuclei"
PATIENCE = 2.0  # seconds of compiling after which the user is told


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status. MINUNET_DEBUG=1 shows tracebacks."""
    _speak_any_name()
    parser = build_parser()
    options = parser.parse_args(arguments)
    options.started = STARTED if arguments is None else time.monotonic()
    if options.run is None:
        parser.print_help()
        return DONE
    try:
        with sigterm_as_interrupt(), plain_warnings(), compile_note():
            _use(options)
            options.run(options)
            sys.stdout.flush()
    except BaseException as error:
        if os.environ.get("MINUNET_DEBUG") == "1":
            raise
        return exit_status(error)
    return DONE


def _speak_any_name() -> None:
    """No file name that the terminal's encoding lacks, and no missing stdout, may end the work."""
    if sys.stdout is None:  # closed by the caller: >&-, or no console
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def exit_status(error: BaseException) -> int:
    """Say what went wrong in plain words; the status that belongs to it."""
    from minunet.data import DataError
    from minunet.errors import UsageError, WorkFailed
    from minunet.extras import MissingExtra
    from minunet.model_files.weights import FileFormatError

    if isinstance(error, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    if isinstance(error, BrokenPipeError):  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if isinstance(error, (UsageError, DataError, FileFormatError, MissingExtra)):
        return _say(str(error), WRONG)
    if isinstance(error, (FileNotFoundError, NotADirectoryError, IsADirectoryError,
                          FileExistsError, PermissionError)):  # fmt: skip
        return _say(_os_error(error), WRONG)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return _say(f"{_os_error(error)}; give a shorter one", WRONG)
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return _say(f"{_os_error(error)}; give a folder that can be written", WRONG)
    if isinstance(error, OSError) and error.filename is None and _stdout_is_stuck():
        return _say(f"the output (stdout) could not be written: {error.strerror or error}", FAILED)
    if isinstance(error, OSError):
        return _say(_os_error(error), FAILED)
    if isinstance(error, WorkFailed):
        return _say(str(error), FAILED)
    if isinstance(error, MemoryError):
        return _say("not enough memory: try smaller images, or a smaller --crop, --batch or --features", FAILED)
    if isinstance(error, Exception):
        return _say(
            f"unexpected {type(error).__name__}: {error}. This is a fault of minunet; "
            "MINUNET_DEBUG=1 shows where it happened",
            FAILED,
        )
    raise error


def _stdout_is_stuck() -> bool:
    """Whether nothing can be printed, as into a full disk. A line tells: what failed before is not kept by Python."""
    from minunet.display.progress import silence

    try:
        print(flush=True)
    except OSError:
        silence()
        return True
    return False


def _say(text: str, status: int) -> int:
    from minunet.display.texts import printable

    print(f"minunet: {printable(text, keep=chr(10))}", file=sys.stderr)  # several faults are told in lines
    return status


def _os_error(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror or error}"


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """A polite end (SIGTERM) is treated as Ctrl-C, so that training leaves its model behind."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where signals cannot be set
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as one line on stderr, each text once, without the place in the code that they come from."""
    said = set()  # Python's own memory of them is lost when someone else catches warnings meanwhile

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in said:
            print(f"minunet: warning: {message}", file=sys.stderr)
        said.add(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("once", UserWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def compile_note() -> Iterator[None]:
    """One line on stderr where compiling kernels takes a while; none where they come from the cache."""
    from minunet.kernels import on_compile

    on_compile(CompileNote())
    try:
        yield
    finally:
        on_compile(None)


class CompileNote:
    """Speaks once, when kernels have been compiled for PATIENCE seconds in all."""

    def __init__(self) -> None:
        self.left = PATIENCE
        self.said = False

    def __call__(self, begins: bool) -> None:
        """Compiling begins, or has ended."""
        if self.said:
            return
        if begins:
            self.begun = time.monotonic()
            self.timer = threading.Timer(max(self.left, 0), self.say)
            self.timer.daemon = True
            self.timer.start()
        else:
            self.timer.cancel()
            self.left -= time.monotonic() - self.begun

    def say(self) -> None:
        self.said = True  # sys.stderr is looked up now: a progress bar on the screen has put its own in place
        print("minunet: compiling kernels for this processor (once; up to a minute)", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    from minunet import __version__

    parser = argparse.ArgumentParser(prog="minunet", description="A U-Net from scratch: train it, look at it, use it.")
    parser.add_argument("--version", action="version", version=f"minunet {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for add in (_add_demo, _add_train, _add_predict, _add_evaluate, _add_doctor, _add_info, _add_export, _add_glassbox,
                _add_gradcheck, _add_bench, _add_exercises):  # fmt: skip
        add(commands)
    return parser


def _command(commands: Any, name: str, help: str, run: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_demo(commands: Any) -> None:
    from minunet.demo import STEPS

    parser = _command(commands, "demo", "train on generated cells for about a minute and draw the result", _demo)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    parser.add_argument("--seed", type=_natural, default=0, help="cells and weights (default: 0)")
    _add_length(parser, f"{STEPS} steps", "train for M minutes")
    _add_machine(parser)


def _add_train(commands: Any) -> None:
    from minunet.data import TARGETS
    from minunet.training.budget import VALIDATIONS
    from minunet.training.recipe import (
        AUGMENTATIONS,
        CLASS_WEIGHTS,
        DEFAULT_LOSS,
        LOSSES,
        ONE_OUTPUT_LOSS,
        SCHEDULES,
        SCORES,
        Recipe,
    )
    from minunet.training.recipes import RECIPES
    from minunet.training.runs import FEATURES, MINUTES
    from minunet.training.train import WORKERS

    parser = _command(commands, "train", "train a U-Net on images and their masks", _train)
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of images")
    parser.add_argument("masks", metavar="MASKS", type=Path, help="folder of masks, same names")
    parser.add_argument("--out", metavar="RUN", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in that folder")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the run in that folder, to the steps it was begun with; only the two folders "
                             "are needed, and --minutes bounds this command")  # fmt: skip
    parser.add_argument("--overfit", nargs="?", const="", metavar="NAME",
                        help="a test of a minute: learn one image by heart (default: the first)")  # fmt: skip
    parser.add_argument("--recipe", dest="recipe_name", choices=RECIPES,
                        help="a set of options, each of which may be given beside it; "
                             + "; ".join(f"{name}: {found.summary}" for name, found in RECIPES.items()))  # fmt: skip
    _add_length(parser, f"{MINUTES:g}", "the whole command takes M minutes; with --resume at most so many")
    parser.add_argument("--seed", type=_natural, help=f"split, weights, batches (default: {Recipe.seed})")

    data = parser.add_argument_group("data")
    data.add_argument("--mask-suffix", metavar="TEXT", help="a.png <-> aTEXT.png")
    data.add_argument("--target", choices=TARGETS, help="what mask values mean (default: auto)")
    data.add_argument("--validation", type=float, metavar="SHARE",
                      help="share of images that is not trained on (default: 0.2)")  # fmt: skip

    network = parser.add_argument_group("network")
    features = ",".join(map(str, FEATURES))
    network.add_argument("--features", type=_features, metavar="N,N,...",
                         help=f"channels of each level (default: {features})")  # fmt: skip
    network.add_argument("--padding", choices=("same", "valid"), help="default: same")
    network.add_argument("--norm", choices=("batch", "none"), help="default: batch")
    network.add_argument("--dropout", type=float, metavar="P", help="default: 0")
    network.add_argument("--init", type=Path, metavar="MODEL", help=f"start from this model: {MODEL}")

    recipe = parser.add_argument_group("training")
    recipe.add_argument("--batch", dest="batch_size", type=_positive, metavar="N",
                        help=f"images a step (default: {Recipe.batch_size})")  # fmt: skip
    recipe.add_argument("--crop", type=_size, metavar="N or HxW",
                        help="size of the crops (default: to fit the images, up to 128)")  # fmt: skip
    recipe.add_argument("--lr", type=float,
                        help=f"largest learning rate (default: {Recipe.lr:g})")  # fmt: skip
    recipe.add_argument("--schedule", choices=SCHEDULES,
                        help=f"of the learning rate (default: {Recipe.schedule})")  # fmt: skip
    recipe.add_argument("--weight-decay", type=float, metavar="X",
                        help=f"default: {Recipe.weight_decay:g}")  # fmt: skip
    recipe.add_argument("--loss", choices=LOSSES,
                        help=f"ce: cross entropy; bce: the same of one output (default: {DEFAULT_LOSS}; "
                             f"{ONE_OUTPUT_LOSS} for an --init model of one output)")  # fmt: skip
    recipe.add_argument("--momentum", type=float, metavar="X", help=f"of SGD (default: {Recipe.momentum:g})")
    augment = recipe.add_mutually_exclusive_group()
    augment.add_argument("--augment", choices=AUGMENTATIONS,
                         help="flips: also quarter turns; full: any angle, scale, elastic deformation, grey values, "
                              f"blur and noise as well (default: {Recipe.augment})")  # fmt: skip
    augment.add_argument("--no-augment", dest="augment", action="store_const", const="none",
                         help="as --augment none")  # fmt: skip
    recipe.add_argument("--elastic", type=float, metavar="PIXELS",
                        help=f"deformation in --augment full; 0: none (default: {Recipe.elastic:g})")  # fmt: skip
    recipe.add_argument("--foreground", type=float, metavar="SHARE",
                        help="of crops that are placed where there is foreground "
                             f"(default: {Recipe.foreground:g})")  # fmt: skip
    recipe.add_argument("--weight-map", type=_switch, metavar="on|off",
                        help="narrow gaps between cells count more in the loss (default: on where the masks hold "
                             "instance ids)")  # fmt: skip
    recipe.add_argument("--w0", type=float, help=f"of the weight map: how much more (default: {Recipe.w0:g})")
    recipe.add_argument("--sigma", type=float, metavar="PIXELS",
                        help=f"of the weight map: how wide gaps may be (default: {Recipe.sigma:g})")  # fmt: skip
    recipe.add_argument("--class-weight", choices=CLASS_WEIGHTS,
                        help="balanced: rare classes count as much as frequent ones "
                             f"(default: {Recipe.class_weight})")  # fmt: skip
    recipe.add_argument("--score", choices=SCORES,
                        help="by which the best model is chosen; ap: average precision of cells at an IoU of 0.5 to "
                             "0.95; iou: mean IoU (default: ap where the masks hold instance ids)")  # fmt: skip
    recipe.add_argument("--patience", type=_positive, metavar="N",
                        help=f"end after N of {VALIDATIONS} looks without a better model (default: never)")  # fmt: skip
    machine = _add_machine(parser)
    machine.add_argument("--workers", type=_natural, metavar="N",
                         help=f"threads that make batches; changes no result (default: {WORKERS})")  # fmt: skip


def _add_predict(commands: Any) -> None:
    parser = _command(commands, "predict", "write the masks of images", _predict)
    parser.add_argument("model", metavar="MODEL", type=Path, help=MODEL)
    parser.add_argument("inputs", metavar="IMAGE_OR_FOLDER", type=Path, nargs="+")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True,
                        help="folder for STEM.png, in the coding of the training masks")  # fmt: skip
    parser.add_argument("--instances", action="store_true",
                        help="STEM_instances.png: connected objects, numbered (16 bit)")  # fmt: skip
    parser.add_argument("--overlay", action="store_true",
                        help="STEM_overlay.png: the mask drawn over the image")  # fmt: skip
    parser.add_argument("--probabilities", action="store_true",
                        help="STEM_prob.npy: float32 (classes, height, width)")  # fmt: skip
    parser.add_argument("--tile", type=_size, metavar="N or HxW",
                        help="compute in tiles of so many pixels, with the same result (default: the whole image, or "
                             "the largest tiles that the memory is enough for)")  # fmt: skip
    parser.add_argument("--tta", action="store_true",
                        help="average over the eight flips and rotations; eight times the work")  # fmt: skip
    _add_machine(parser)


def _add_evaluate(commands: Any) -> None:
    from minunet.data import TARGETS
    from minunet.scores.evaluate_files import WORST
    from minunet.scores.evaluation import TOLERANCE

    parser = _command(commands, "evaluate", "hold a model's predictions against known masks", _evaluate)
    parser.add_argument("model", metavar="MODEL", type=Path, help=MODEL)
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of images")
    parser.add_argument("masks", metavar="MASKS", type=Path, help="folder of masks, same names")
    parser.add_argument("--mask-suffix", default="", metavar="TEXT", help="a.png <-> aTEXT.png")
    parser.add_argument("--target", choices=TARGETS,
                        help="what mask values mean (default: the same as in the model's training)")  # fmt: skip
    parser.add_argument("--held-out", action="store_true",
                        help="only the images that the model's training kept for validation")  # fmt: skip
    parser.add_argument("--worst", type=_positive, default=WORST, metavar="N",
                        help=f"images to list and draw (default: {WORST})")  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for worst.png, the worst images drawn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers for machines")
    parser.add_argument("--membranes", action="store_true",
                        help="of masks of membrane (background) and cell: V_rand, V_info, Rand, warping and other "
                             "errors as in the ISBI 2012 challenge")  # fmt: skip
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="PIXELS",
                        help=f"that a boundary may lie off in the boundary F1 (default: {TOLERANCE:g})")  # fmt: skip
    parser.add_argument("--tile", type=_size, metavar="N or HxW", help="compute in tiles, as predict does")
    parser.add_argument("--tta", action="store_true", help="average over eight flips and rotations, as predict does")
    _add_machine(parser)


def _add_doctor(commands: Any) -> None:
    from minunet.data import TARGETS
    from minunet.training.runs import FEATURES
    from minunet.training.train import Recipe

    parser = _command(commands, "doctor", "tell what is wrong with a data set, before hours are spent on it", _doctor)
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of images")
    parser.add_argument("masks", metavar="MASKS", type=Path, help="folder of masks, same names")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for doctor.png, images with their masks")
    parser.add_argument("--show", action="store_true",
                        help="weights.png as well: what each pixel counts in the loss (weight map)")  # fmt: skip
    parser.add_argument("--augment", action="store_true",
                        help="augmented.png as well: crops as --augment full changes them in training")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was found for machines")

    data = parser.add_argument_group("data, as in train")
    data.add_argument("--mask-suffix", default="", metavar="TEXT", help="a.png <-> aTEXT.png")
    data.add_argument("--target", choices=TARGETS, default="auto", help="what mask values mean")
    data.add_argument("--validation", type=float, default=0.2, metavar="SHARE",
                      help="share of images that is not trained on (default: 0.2)")  # fmt: skip
    data.add_argument("--seed", type=_natural, default=Recipe.seed, help="of the split")

    look = parser.add_argument_group("of the pictures by --show and --augment, as in train")
    look.add_argument("--elastic", type=float, default=Recipe.elastic, metavar="PIXELS",
                      help=f"default: {Recipe.elastic:g}")  # fmt: skip
    look.add_argument("--w0", type=float, default=Recipe.w0, help=f"default: {Recipe.w0:g}")
    look.add_argument("--sigma", type=float, default=Recipe.sigma, metavar="PIXELS",
                      help=f"default: {Recipe.sigma:g}")  # fmt: skip

    settings = parser.add_argument_group("settings, as in train, for the memory and time that they need")
    features = ",".join(map(str, FEATURES))
    settings.add_argument("--features", type=_features, metavar="N,N,...",
                          help=f"channels of each level (default: {features})")  # fmt: skip
    settings.add_argument("--padding", choices=("same", "valid"), help="default: same")
    settings.add_argument("--norm", choices=("batch", "none"), help="default: batch")
    settings.add_argument("--batch", type=_positive, default=Recipe.batch_size, metavar="N",
                          help=f"images a step (default: {Recipe.batch_size})")  # fmt: skip
    settings.add_argument("--crop", type=_size, metavar="N or HxW",
                          help="size of the crops (default: to fit the images, up to 128)")  # fmt: skip
    _add_machine(parser, device=False)


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "show a model's layers, shapes, parameters, work and memory", _info)
    parser.add_argument("model", metavar="MODEL", type=Path, help=f"{MODEL}; or a checkpoint of PyTorch (.pth)")
    parser.add_argument("--size", type=_size, metavar="HxW",
                        help="of the input (default: 256x256; 572x572 for padding valid)")  # fmt: skip


def _add_export(commands: Any) -> None:
    from minunet.export import TARGETS

    parser = _command(commands, "export", "write a model for programs without minunet", _export)
    parser.add_argument("model", metavar="MODEL", type=Path, help=MODEL)
    parser.add_argument("--to", choices=TARGETS, required=True,
                        help="; ".join(f"{name}: {summary}" for name, summary in TARGETS.items()))  # fmt: skip
    parser.add_argument("--out", metavar="PATH", type=Path, required=True, help="file to write")
    # Options that are not given are absent, so that the target's own defaults hold.
    options = parser.add_argument_group("options of some targets", argument_default=argparse.SUPPRESS)
    options.add_argument("--size", type=_size, metavar="HxW",
                         help="of the image; onnx: default any; c: needed; html: of a tile (256x256)")  # fmt: skip
    options.add_argument("--name", help="c: how all names in the file begin (default: unet)")
    options.add_argument("--memory", choices=("default", "low"),
                         help="c: low keeps rows instead of whole layers where it can")  # fmt: skip
    options.add_argument("--with-preprocessing", nargs="?", const="float32", choices=("float32", "uint8"),
                         help="onnx: take raw images, of this dtype (float32 unless said)")  # fmt: skip
    options.add_argument("--dtype", choices=("float32", "float16", "int8"),
                         help="npz: of the weights (default: the model's); c: float32 or int8")  # fmt: skip
    options.add_argument("--calibrate", metavar="IMAGES", nargs="+", type=Path,
                         help="c, int8: folder or files of images like those to come")  # fmt: skip


def _add_glassbox(commands: Any) -> None:
    from minunet.glassbox import MAX_MB, MODES

    parser = _command(commands, "glassbox", "one pass of a model as a page that shows every number's sum", _glassbox)
    parser.add_argument("model", metavar="MODEL", type=Path, help=MODEL)
    parser.add_argument("image", metavar="IMAGE", type=Path)
    parser.add_argument("--mask", type=Path, metavar="MASK", help="the truth (default: the model's own prediction)")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.html", required=True, help="file to write")
    parser.add_argument("--mode", choices=MODES, default="train", help="that the page opens in (default: train)")
    parser.add_argument("--max-mb", type=_megabytes, default=MAX_MB, metavar="N",
                        help=f"largest page, a larger one becomes a recording (default: {MAX_MB:g})")  # fmt: skip
    parser.add_argument("--pixel", type=_pixel, metavar="Y,X",
                        help="of the logits, that is shown first (default: that of largest loss)")  # fmt: skip
    _add_machine(parser, device=False)


def _add_gradcheck(commands: Any) -> None:
    parser = _command(commands, "gradcheck", "hold every operation's derivative against numeric ones", _gradcheck)
    parser.add_argument("filter", nargs="?", default="", metavar="NAME",
                        help="only checks whose name contains this, e.g. conv2d")  # fmt: skip
    _add_machine(parser)


def _add_bench(commands: Any) -> None:
    parser = _command(commands, "bench", "time minunet beside its peers, or the variants of one kernel", _bench)
    parser.add_argument("kernel", nargs="?", metavar="KERNEL",
                        help="time the variants of this kernel, e.g. conv2d, instead of whole networks")  # fmt: skip
    parser.add_argument("--rounds", type=_positive, metavar="N", help="of calls to time (default: by time, 5 to 40)")
    parser.add_argument("--threads", type=_positive, default=2, metavar="N", help="for everybody (default: 2)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for table.md, results.json, roofline.png and roofline.svg")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small images, few rounds: to see that it works")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu",
                        help="cuda: time an NVIDIA GPU, beside cuDNN through PyTorch (default: cpu)")  # fmt: skip
    parser.add_argument("--on-paper", action="store_true",
                        help="bounds and predicted times of the CUDA kernels on three GPUs; needs none")  # fmt: skip

    network = parser.add_argument_group("networks")
    network.add_argument("--works", type=_names, default=(), metavar="NAME,NAME,...",
                         help="of paper, same, single, small, scaling, memory, layers (default: all)")  # fmt: skip

    kernel = parser.add_argument_group("one kernel")
    kernel.add_argument("--kernel", dest="file", type=Path, metavar="FILE",
                        help="your own file with the kernel's functions: checked, then timed as well")  # fmt: skip
    kernel.add_argument("--case", metavar="TEXT", help="cases whose name contains this (default: layers of networks)")
    kernel.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    kernel.add_argument("--function", metavar="NAME", help="of the kernel, e.g. forward (default: all)")


def _add_exercises(commands: Any) -> None:
    parser = _command(commands, "exercises", "thirty operations with a fault in each to be found, and a build of all",
                      _exercises("list_command", "folder"))  # fmt: skip
    parser.set_defaults(folder=None)
    actions = parser.add_subparsers(title="what to do", metavar="ACTION")
    action = _command(actions, "list", "show all exercises", _exercises("list_command", "folder"))
    action.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", help="show what is solved there")
    action = _command(actions, "start", "write the file of exercise N into a folder",
                      _exercises("start_command", "number", "folder", "overwrite"))  # fmt: skip
    action.add_argument("number", metavar="N", type=_positive)
    action.add_argument("folder", metavar="FOLDER", type=Path)
    action.add_argument("--overwrite", action="store_true", help="begin again: replace the file")
    action = _command(actions, "check", "run the mended file, or the steps of a build, and name the first wrong number",
                      _exercises("check_command", "folder", "number"))  # fmt: skip
    action.add_argument("folder", metavar="FOLDER", type=Path)
    action.add_argument("number", metavar="N", type=_positive, nargs="?",
                        help="default: the exercise begun or checked last; of a build all steps")  # fmt: skip
    action = _command(actions, "hint", "say a little of where to look",
                      _exercises("hint_command", "number", "more", "build"))  # fmt: skip
    action.add_argument("number", metavar="N", type=_positive)
    action.add_argument("--more", action="store_true", help="say more")
    action.add_argument("--build", action="store_true", help="of step N of a build")
    action = _command(actions, "solution", "show the fault, and why it is one",
                      _exercises("solution_command", "number", "build"))  # fmt: skip
    action.add_argument("number", metavar="N", type=_positive)
    action.add_argument("--build", action="store_true", help="the functions of step N of a build")
    action = _command(actions, "build", "write the five files without the bodies of their functions, to be filled in",
                      _exercises("build_command", "folder", "demo"))  # fmt: skip
    action.add_argument("folder", metavar="FOLDER", type=Path)
    action.add_argument("--demo", action="store_true", help="train the demo's network with the files in it")


def _exercises(action: str, *names: str) -> Any:
    """Runs an action of the exercises with these options."""

    def run(options: argparse.Namespace) -> None:
        from minunet.exercises import command

        getattr(command, action)(*(getattr(options, name) for name in names))

    return run


def _add_length(parser: argparse.ArgumentParser, default: str, help: str) -> None:
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_positive, metavar="N", help="train for N steps")
    length.add_argument("--minutes", type=_minutes, metavar="M", help=f"{help} (default: {default})")


def _add_machine(parser: argparse.ArgumentParser, device: bool = True) -> Any:
    machine = parser.add_argument_group("machine")
    if device:
        machine.add_argument("--device", choices=("cpu", "cuda"), help="cuda: an NVIDIA GPU, by CuPy (default: cpu)")
    machine.add_argument("--threads", type=_positive, metavar="N", help="default: all cores")
    machine.add_argument("--backend", choices=("numpy", "numba"),
                         help="default: numba where it is installed")  # fmt: skip
    return machine


def _use(options: argparse.Namespace) -> None:
    """The choices that hold for the whole process."""
    import minunet as mn
    from minunet.errors import UsageError
    from minunet.kernels import DeviceNotFound, threads

    try:
        if getattr(options, "threads", None) is not None:
            mn.set_num_threads(options.threads)
        threads.count()  # a wrong MINUNET_NUM_THREADS is told now, not as a fault of the first image
        on_gpu, backend = getattr(options, "device", None) == "cuda", getattr(options, "backend", None)
        if on_gpu and backend is not None:
            raise UsageError("--backend chooses how the CPU computes: leave it out with --device cuda")
        if on_gpu or backend is not None:
            mn.use_backend("cuda" if on_gpu else str(backend))
    except (ValueError, ImportError, DeviceNotFound) as error:
        raise UsageError(str(error)) from None


def _demo(options: argparse.Namespace) -> None:
    from minunet.demo import demo

    demo(options.out, options.seed, options.steps, options.minutes)


def _train(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from minunet.training.overfit import overfit_run
    from minunet.training.recipes import named, named_recipe
    from minunet.training.runs import TrainOptions, train_run
    from minunet.training.train import Recipe

    def chosen(cls: Any) -> dict[str, Any]:
        values = {field.name: getattr(options, field.name, None) for field in fields(cls)}
        return {name: value for name, value in values.items() if value is not None}

    recipe, rest = chosen(Recipe), chosen(TrainOptions)
    asked, name = frozenset(recipe) | frozenset(rest), options.recipe_name
    if name is not None and options.init is None:  # the network of --init is what it is
        rest = {**named(name).network, **rest}
    wanted = TrainOptions(**rest, recipe=named_recipe(name, **recipe), asked=asked)
    if options.overfit is None:
        train_run(wanted, options.started)
    else:
        overfit_run(wanted, options.overfit, options.started)


def _predict(options: argparse.Namespace) -> None:
    from minunet.prediction.predict_files import PredictOptions, predict_files

    names = ("model", "out", "instances", "overlay", "probabilities", "tile", "tta")
    asked = {name: getattr(options, name) for name in names}
    predict_files(PredictOptions(**asked, inputs=tuple(options.inputs)))


def _evaluate(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from minunet.scores.evaluate_files import EvaluateOptions, evaluate_files

    values = {field.name: getattr(options, field.name) for field in fields(EvaluateOptions)}
    evaluate_files(EvaluateOptions(**values))


def _doctor(options: argparse.Namespace) -> None:
    from minunet.doctor import Question
    from minunet.doctor.command import doctor
    from minunet.training.recipe import Recipe

    names = ("images", "masks", "mask_suffix", "target", "validation", "seed",
             "crop", "batch", "features", "padding", "norm")  # fmt: skip
    question = Question(**{name: getattr(options, name) for name in names})
    chosen = {name: getattr(options, name) for name in ("seed", "elastic", "w0", "sigma")}
    weights = Recipe(**chosen, weight_map=True) if options.show else None
    augmented = Recipe(**chosen, augment="full") if options.augment else None
    doctor(question, options.out, options.json, weights, augmented)


def _info(options: argparse.Namespace) -> None:
    from minunet.display.info import info
    from minunet.model_files import boxed
    from minunet.model_files.pytorch.load import load_torch
    from minunet.model_files.weights import CHECKPOINTS, load

    read = load_torch if options.model.suffix.lower() in CHECKPOINTS else load
    print(info(read(options.model), options.size))
    if card := boxed.card(options.model):
        print(f"\n{card}")


def _export(options: argparse.Namespace) -> None:
    from minunet.export.command import export_file

    names = ("size", "with_preprocessing", "dtype", "calibrate", "name", "memory")
    given = {name: getattr(options, name) for name in names if hasattr(options, name)}
    export_file(options.model, options.to, options.out, given)


def _glassbox(options: argparse.Namespace) -> None:
    from minunet.glassbox.command import glassbox_file

    names = ("model", "image", "mask", "out", "mode", "max_mb", "pixel")
    glassbox_file(*(getattr(options, name) for name in names))


def _gradcheck(options: argparse.Namespace) -> None:
    from minunet.errors import UsageError, WorkFailed
    from minunet.gradient_check import check_all

    wrong = checked = 0
    for name, error in check_all(options.filter):
        print(f"{'right' if error is None else 'WRONG'}  {name}" + (f": {error}" if error else ""), flush=True)
        checked += 1
        wrong += error is not None
    if not checked:
        raise UsageError(f"no check has {options.filter!r} in its name")
    print(f"{checked} checks in float64 along random directions, {wrong} wrong")
    if wrong:
        raise WorkFailed(f"{wrong} of {checked} gradients are wrong")


def _bench(options: argparse.Namespace) -> None:
    from minunet.bench.command import BenchOptions, bench

    names = ("kernel", "works", "file", "case", "dtype", "function", "rounds", "threads", "out", "quick",
             "device", "on_paper")  # fmt: skip
    bench(BenchOptions(**{name: getattr(options, name) for name in names}))


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return value


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return value


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def _features(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _pixel(text: str) -> tuple[int, int]:
    places = text.split(",")
    if len(places) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pixel such as 12,30 (row, column)")
    return _natural(places[0]), _natural(places[1])


def _megabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of megabytes above 0")
    return value


def _size(text: str) -> tuple[int, int]:
    sides = [_positive(part) for part in text.lower().split("x")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 256 or 256x320")
    return sides[0], sides[-1]
