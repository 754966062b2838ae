"""`minunet predict`: a model and image files in, masks out."""

from __future__ import annotations

import errno
import math
import os
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minunet.data import Coding, DataError, class_map, find_images, is_picture, page_names, write_image
from minunet.data.images import read_stack
from minunet.data.windows import ZARR, open_windows
from minunet.display.counting import Count, count, warn
from minunet.display.pictures import overlay
from minunet.display.progress import say
from minunet.display.texts import printable
from minunet.errors import UsageError, WorkFailed
from minunet.extras import MissingExtra, require
from minunet.files import atomic_write
from minunet.instances.label import label_instances
from minunet.model_files.weights import load
from minunet.prediction.large import predict_large
from minunet.prediction.masks import decode, meaning
from minunet.prediction.predict import predict
from minunet.training.estimate import duration
from minunet.unet import UNet

MOST_INSTANCES = 65535  # what 16 bit can number
LONGEST_NAME = 255  # bytes, on all common file systems
SHOWN_FAILURES = 5
TIFF_SUFFIXES = (".tif", ".tiff")
MOST_WHOLE = 1 << 26  # pixels of an image that is predicted in memory where it can be read by windows: 8192 x 8192
MOST_COMPRESSED = 1000  # pixels a byte of a file
SECONDS = 10.0  # between two lines about the tiles of a large image
LOOKS_BLACK = 32  # the eye tells greys below this hardly from black


@dataclass(frozen=True)
class PredictOptions:
    """What `minunet predict` is asked for."""

    model: Path
    inputs: tuple[Path, ...]
    out: Path
    instances: bool = False
    probabilities: bool = False
    overlay: bool = False
    tile: tuple[int, int] | None = None
    tta: bool = False


@dataclass(frozen=True)
class Source:
    """An image file, the stems of its results (one, or one a page of a multi-page TIFF), and what its masks end in."""

    file: Path
    stems: tuple[str, ...]
    suffix: str
    large: bool = False  # predicted from file to file


def predict_files(options: PredictOptions) -> list[Path]:
    """Predict every image and write what was asked for; returns the files written.

    Masks are PNG in the coding of the training masks. Without Pillow, where only .npy images
    can be read, masks are .npy too. Of a stack, page 7 becomes STEM_p007.png. An image of more than
    MOST_WHOLE pixels, or in a folder .zarr, is predicted from file to file (large.py), and its mask is .tif.

    What can be refused is refused before anything is computed. A file that then turns out to be unreadable, or too
    large for the memory, does not stop the others: all that can be predicted is written, and WorkFailed names the
    rest. DataError where nothing could be predicted. A disk that is full ends the work: OSError, which names the file.
    Where nobody reads what is printed (`| head`), the work is done all the same.
    """
    suffix = _picture_suffix(options)
    _check_out(options)
    sources = [_source(file, suffix) for place in options.inputs for file in _files(place)]
    _refuse_clashes(sources, options)
    _refuse_large(sources, options)
    model = load(options.model)
    work = _Work(options, model)
    with count(len(sources), "predicting") as display:
        for number, source in enumerate(sources, start=1):
            work.predict(source, number, display)
    work.finish(len(sources))
    return work.written


class _Work:
    """A run over many files: what was written, what failed, what the masks were like."""

    def __init__(self, options: PredictOptions, model: UNet) -> None:
        self.options, self.model = options, model
        self.written: list[Path] = []
        self.failures: list[DataError | WorkFailed] = []
        self.seen: set[int] = set()  # classes in all masks together

    def predict(self, source: Source, number: int, display: Count) -> None:
        """One file: its results, or its failure."""
        before = len(self.written)
        try:
            if source.large:
                self.written += self._large(source, display)
            else:
                for stem, image in self._pages(source):
                    p = _predicted(self.model, image, source, self.options)
                    self.written += self._write(source, stem, image, p)
        except (DataError, WorkFailed) as error:
            self.failures.append(error)
            display.say(f"not predicted: {error}")
            display.done(number)
            return
        display.done(number, f"{source.file} -> {_listed(self.written[before:])}")

    def _pages(self, source: Source) -> Iterator[tuple[str, np.ndarray]]:
        """The images of a file, each with the stem of its results."""
        images = _read(source.file)
        if len(images) != len(source.stems):
            raise DataError(f"{source.file}: has changed since the command began; predict it again")
        return zip(source.stems, images, strict=True)

    def _large(self, source: Source, display: Count) -> list[Path]:
        """From file to file; the progress is told now and then."""
        options = self.options
        options.out.mkdir(parents=True, exist_ok=True)
        mask, *probabilities = (options.out / name for name in _file_names(source.stems[0], options, source.suffix))
        tell = _Tiles(source.file, display)
        with _errors_with_name(source.file):
            self.seen |= set(predict_large(
                self.model, source.file, mask, probabilities[0] if probabilities else None, options.tile, options.tta,
                progress=tell,
            ))  # fmt: skip
        return [mask, *probabilities]

    def _write(self, source: Source, stem: str, image: np.ndarray, p: np.ndarray) -> list[Path]:
        options, classes = self.options, class_map(p, self.model.coding)
        # What can fail comes before the first file.
        numbered = instances(p, stem, self.model.coding) if options.instances else None
        options.out.mkdir(parents=True, exist_ok=True)
        files = [options.out / name for name in _file_names(stem, options, source.suffix)]
        rest = iter(files)
        with _writing(next(rest)) as path:
            _write_mask(path, classes, len(p), self.model.coding)
        if numbered is not None:
            with _writing(next(rest)) as path:
                write_image(path, numbered)
        if options.overlay:
            with _writing(next(rest)) as path:
                write_image(path, overlay(image, classes))
        if options.probabilities:
            values = p.astype(np.float32)
            with _writing(next(rest)) as path:
                atomic_write(path, lambda file: np.save(file, values, allow_pickle=False))
        self.seen |= set(np.unique(classes).tolist())
        return files

    def finish(self, total: int) -> None:
        """Say what was done; raise where something was not."""
        if self.written:
            out = printable(str(self.options.out))
            say(f"{len(self.written)} files in {out}; masks hold {meaning(self.model)}")
            for hint in self._hints():
                warn(hint)
        if not self.failures:
            return
        if not self.written:
            broken = all(isinstance(error, DataError) for error in self.failures)
            raise (DataError if broken else WorkFailed)(_summary(self.failures, total))
        raise WorkFailed(
            f"{_summary(self.failures, total)}. All results of the others are in {self.options.out}"
        )

    def _hints(self) -> Iterator[str]:
        values = decode(np.array(sorted(self.seen)), max(self.model.out_channels, 2), self.model.coding)
        if len(values) == 1:
            yield (
                f"every mask has the value {values[0]} everywhere: these images are unlike those that the model was "
                "trained on, or it has not learned (see curves.png of its run, or minunet evaluate)"
            )
        elif values.max() < LOOKS_BLACK:
            yield "the masks look black in a viewer, since their values are small numbers: --overlay shows them"


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """An OSError that does not say which file it is about, as NumPy's of a full disk, is given the name of `path`."""
    try:
        yield path
    except OSError as error:
        if error.filename is not None:
            raise
        reason = f"could not be written ({error}): is the disk full?"
        raise OSError(error.errno or errno.EIO, reason, os.fspath(path)) from error


class _Tiles:
    """Says how many tiles of a large image are done, when it begins and then every few seconds."""

    def __init__(self, file: Path, display: Count) -> None:
        self.file, self.display, self.begun = file, display, time.monotonic()
        self.first: int | None = None
        self.spoken = -math.inf

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first, self.begun = done, now
        elif now - self.spoken < SECONDS or done == total:
            return
        self.spoken = now
        fresh = done - self.first
        left = f", {duration((now - self.begun) / fresh * (total - done))} left" if fresh else ""
        earlier = f", {done} from an earlier run" if done and not fresh else ""
        self.display.say(f"{self.file}: tile {done} of {total}{earlier}{left}")


def _predicted(model: UNet, image: np.ndarray, source: Source, options: PredictOptions) -> np.ndarray:
    """`predict`, with errors that name the file."""
    with _errors_with_name(source.file):
        return predict(model, image, options.tile, options.tta, is_picture(source.file))


@contextmanager
def _errors_with_name(file: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise WorkFailed(f"{file}: {error}") from None
    except (DataError, UsageError) as error:
        raise error if str(file) in str(error) else type(error)(f"{file}: {error}") from error
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def _summary(failures: list[DataError | WorkFailed], total: int) -> str:
    """Every failure in one message, or some of many."""
    if total == 1:
        return str(failures[0])
    shown = "; ".join(str(error) for error in failures[:SHOWN_FAILURES])
    more = f"; and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
    return f"{len(failures)} of {total} files could not be predicted: {shown}{more}"


def _write_mask(path: Path, classes: np.ndarray, count: int, coding: Coding | None) -> None:
    """Colours as a palette: one byte a pixel, and every reader gets the same colours."""
    if coding is not None and coding.kind == "colors" and path.suffix == ".png":
        write_image(path, classes.astype(np.uint8), palette=coding.values)
    else:
        write_image(path, decode(classes, count, coding))


def instances(p: np.ndarray, stem: str, coding: Coding | None) -> np.ndarray:
    """The cells of the foreground (everything that is not class 0), numbered; uint16."""
    with_borders = coding is not None and coding.kind == "borders"
    labels = label_instances(p if with_borders else 1 - p[0])
    if labels.max(initial=0) > MOST_INSTANCES:
        raise WorkFailed(
            f"{stem}: {labels.max()} instances, more than a 16-bit PNG can number "
            f"({MOST_INSTANCES}); use --probabilities and label them in Python"
        )
    return labels.astype(np.uint16)


def _picture_suffix(options: PredictOptions) -> str:
    """PNG, or .npy in the base install. Says now, not after an hour, what is not installed."""
    try:
        require("PIL", extra="train")
    except MissingExtra:
        if options.overlay:
            raise
        return ".npy"
    return ".png"


def _read(file: Path) -> list[np.ndarray]:
    """The images in a file; WorkFailed where the memory cannot hold them."""
    try:
        return read_stack(file)
    except MemoryError:
        raise WorkFailed(f"{file}: not enough memory to read it: cut it into smaller images") from None


def _files(place: Path) -> list[Path]:
    """The image files of a folder, or the one image that `place` is."""
    return [place] if place.suffix.lower() == ZARR and place.is_dir() else find_images(place)


def _source(file: Path, suffix: str) -> Source:
    """A file and its result stems, which are the names that its images have in training."""
    if _is_large(file):
        return Source(file, (file.stem,), _large_suffix(), large=True)
    return Source(file, page_names(file.stem, _page_count(file)), suffix)


def _is_large(file: Path) -> bool:
    """Whether the image is to be predicted from file to file, and can be."""
    if file.is_dir():
        return True
    if file.stat().st_size < MOST_WHOLE // MOST_COMPRESSED:
        return False
    try:
        with closing(open_windows(file)) as source:
            return math.prod(source.size) > MOST_WHOLE
    except (DataError, MissingExtra):  # it can only be read whole; what is wrong with it is told when its turn comes
        return False


def _large_suffix() -> str:
    try:
        require("tifffile", extra="train")
    except MissingExtra:
        return ".npy"
    return ".tif"


def _refuse_large(sources: Iterable[Source], options: PredictOptions) -> None:
    """What needs the whole image in memory."""
    for source in sources:
        if source.large and (options.instances or options.overlay):
            raise UsageError(
                f"{source.file} is too large for --instances and --overlay, which need the image in memory: leave them "
                "out, or give it in parts"
            )


def _page_count(file: Path) -> int:
    if file.suffix.lower() not in TIFF_SUFFIXES:
        return 1
    try:
        return len(_read(file))
    except (DataError, WorkFailed):  # told when its turn comes
        return 1


def _file_names(stem: str, options: PredictOptions, suffix: str) -> list[str]:
    """Names of the results of one image: the mask, then what was asked for."""
    names = [f"{stem}{suffix}"]
    names += [f"{stem}_instances{suffix}"] * options.instances
    names += [f"{stem}_overlay{suffix}"] * options.overlay
    names += [f"{stem}_prob.npy"] * options.probabilities
    return names


def _check_out(options: PredictOptions) -> None:
    """Refuse a folder that cannot be written, or whose images would be taken for results and the reverse."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: give a folder")
    for place in options.inputs:
        if place.is_dir() and out.exists() and out.samefile(place):
            raise UsageError(f"--out {out} is the folder of the images: choose another one")
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out} cannot be written: {there} is not yours to write to; choose another folder")


def _refuse_clashes(sources: Iterable[Source], options: PredictOptions) -> None:
    """No result may take the place of another, on a file system that ignores case too, or of an image."""
    takers: dict[str, Source] = {}
    inputs = {_identity(source.file) for source in sources}
    for source in sources:
        for name in (name for stem in source.stems for name in _file_names(stem, options, source.suffix)):
            other = takers.setdefault(unicodedata.normalize("NFC", name).casefold(), source)
            if other is not source:
                raise UsageError(_clash(other.file, source.file, options.out / name))
            if len(os.fsencode(name)) > LONGEST_NAME:
                raise UsageError(f"{source.file}: the result's name {name} would be too long: rename the image")
            if (options.out / name).exists() and _identity(options.out / name) in inputs:
                raise UsageError(f"{options.out / name} is one of the images: choose another folder for --out")


def _clash(one: Path, other: Path, name: Path) -> str:
    if one == other:
        return f"{one} is given twice"
    return f"{one} and {other} would both be written as {name}: predict them into different folders"


def _identity(file: Path) -> tuple[int, int]:
    """The same for two names of one file, as links and file systems that ignore case give them."""
    status = file.stat()
    return status.st_dev, status.st_ino


def _listed(files: list[Path]) -> str:
    """The names of results for a line of the log; of a long stack the first and the last."""
    names = [file.name for file in files]
    return ", ".join(names if len(names) <= 4 else [names[0], "...", names[-1]])
