"""What a training would need, told before it begins: memory, the batch and crop that fit into it, and time.

Memory is counted from the shapes of the layers, since trying it out is what one cannot do where it does not fit.  Time
is measured, since the rate depends on the processor, its threads and the size of the layers; where a step is long, a
part of it is, and the multiply-adds (MACs) of the layers tell by how much the whole is larger.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minunet import device
from minunet import functional as F
from minunet.display import info
from minunet.optim import SGD
from minunet.unet import UNet, legal_sides

# What is needed beside weights and kept activations, fitted to measured peaks (process of its own, Numba, float32, one
# thread): the paper's network on 252 to 572 px; same-padded ones, with batch norm and without, that begin with 4 to 64
# channels and end with 32 to 1024, on batches of 1 to 8 crops of 128 or 256 px; predictions of 128 to 1024 px.
LIBRARY = 95_000_000  # bytes: compiled kernels and their libraries, whatever the network
WORKING = 2.5  # times the largest activation: gradients on their way back
LOSS = 10.0  # times the logits: softmax, one-hot target and the products that the loss is made of
TRANSFORMED = 0.8  # times the weights: the Winograd forms of the largest ones, both ways
UNUSED = 0.5  # of the kept activations: what, once it is free, has not the right sizes for the weights' gradients
PREDICTING = 82_000_000  # bytes: as LIBRARY, of the way forward alone
FORWARD = {"same": 4.3, "valid": 2.9}  # times the largest activation: what one inference holds at a time
FOLDED = 0.3  # times the weights: batch norm is multiplied into copies of them, which come and go
TOLERANCE = 0.25  # the estimate lies at most so far from the measured peak (never more than a tenth below it)

SHARE = 0.9  # of the available memory that may be planned with; the rest is the system's and other programs'
PART = 20_000_000_000  # multiply-adds forwards, of the part of a step that is timed; about a second
ROUNDS = 2  # of it; the best counts


# ---------------------------------------------------------------------------------------------------- memory


def memory(model: UNet, batch: int, crop: tuple[int, int]) -> int:
    """Bytes that training adds to the process: weights' gradients and velocities, kept activations, working memory.

    Most is needed either when the way back begins, where all activations are kept and no gradients are there yet, or,
    with many weights and small images, at its end: the gradients then lie in the memory of the activations as far as
    these were large enough.

    batch: images a step.  crop: (height, width) of the network's input; UsageError where the network does not take it.
    The weights themselves and the data set are there already.
    """
    table = info.layers(model, crop)
    item = model.dtype.itemsize
    weights = item * sum(layer.parameters for layer in table)
    kept = sum(layer.kept * layer.values for layer in table)
    working = WORKING * max(layer.values for layer in table) + LOSS * table[-1].values
    turning = weights + batch * item * (kept + working)
    ending = (2 + TRANSFORMED) * weights + batch * item * UNUSED * kept
    return int(LIBRARY + max(turning, ending))


def inference_memory(model: UNet, size: tuple[int, int]) -> int:
    """Bytes that the prediction of one image adds; size: (height, width) of the network's input."""
    table = info.layers(model, size)
    item = model.dtype.itemsize
    folded = 0 if model.norm is None else FOLDED * item * sum(layer.parameters for layer in table)
    return int(PREDICTING + folded + item * FORWARD[model.padding] * max(layer.values for layer in table))


def fitting(
    model: UNet, batch: int, crop: tuple[int, int], limit: int
) -> tuple[int, tuple[int, int]] | None:
    """The largest (batch, crop) that `limit` bytes are enough for: first the batch is halved, then the crop.

    A smaller batch costs least in what is learned.  None where not even one image of the smallest crop fits.
    """
    while memory(model, batch, crop) > limit:
        if batch > 1:
            batch //= 2
            continue
        smaller = smaller_crop(model, crop)
        if smaller is None:
            return None
        crop = smaller
    return batch, crop


def smaller_crop(model: UNet, crop: tuple[int, int], share: float = 0.5) -> tuple[int, int] | None:
    """The legal crop of about this share of the sides, or less; None where there is none that one could learn from."""
    block = 2**model.levels
    sides = []
    for side in crop:
        aim = int(share * side)
        if model.padding == "valid":
            sides.append(min(side, legal_sides(aim, model.levels)[0]))
        else:  # batch norm needs more than one pixel at the bottom
            sides.append(min(side, max(2 * block, aim // block * block)))
    height, width = sides
    return None if (height, width) == tuple(crop) else (height, width)


def room(model: UNet) -> int | None:
    """Bytes that may still be taken where the model lies; None where that cannot be read."""
    return device.free_memory() if model.device == "cuda" else available()


def available() -> int | None:
    """Bytes that this process may still take: the least of what machine, control group and `ulimit -v` leave.

    None where none of them can be read (Windows, macOS).
    """
    rooms = [_machine_room(), *_group_rooms(), _process_room()]
    known = [room for room in rooms if room is not None]
    return max(0, min(known)) if known else None


def resident() -> int:
    """Bytes of memory that this process has; 0 where that cannot be read."""
    return _field(Path("/proc/self/status"), "VmRSS:", 1024) or 0


def _machine_room() -> int | None:
    return _field(Path("/proc/meminfo"), "MemAvailable:", 1024)


def _process_room() -> int | None:
    """What RLIMIT_AS leaves.  The pool of arrays reserves addresses without memory: they do not count."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = resident()
    return None if limit == resource.RLIM_INFINITY or not used else limit - used


def _group_rooms(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What the control groups leave, that of this process and those around it, versions 1 and 2."""
    rooms = []
    for line in _text(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        place = top / group.strip("/")
        # Inside a container the group's path may be that of the host; its limits then stand at the top.
        for folder in {place, *place.parents} & {top, *_below(place, top)}:
            rooms.append(_group_room(folder, *names))
    return [room for room in rooms if room is not None]


def _below(place: Path, top: Path) -> list[Path]:
    return [folder for folder in (place, *place.parents) if top in folder.parents]


def _group_room(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    limit, used = _text(folder / limit_name).strip(), _text(folder / used_name).strip()
    if not (limit.isdecimal() and used.isdecimal()):  # "max": no limit
        return None
    # File pages that were read once are counted as used, and given up when memory is asked for.
    return int(limit) - int(used) + (_field(folder / "memory.stat", cache_name, 1) or 0)


def _field(path: Path, name: str, unit: int) -> int | None:
    for line in _text(path).splitlines():
        words = line.split()
        if words[:1] == [name]:
            return unit * int(words[1])
    return None


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""


# ------------------------------------------------------------------------------------------------------ time


def step_seconds(model: UNet, batch: int, crop: tuple[int, int]) -> float:
    """Seconds of one training step on this machine, as it is now.

    The step is measured as it is where it is small, else a part of it, and scaled by the MACs of both. The model stays
    as it is. Kernels that are not compiled yet are compiled on the way.
    """
    some, piece = timed_part(model, batch, crop)
    twin = UNet(**model.architecture)
    twin.to(model.device)
    optimizer = SGD(twin.parameters(), lr=0.0)
    x = np.random.default_rng(0).standard_normal((some, twin.in_channels, *piece)).astype(twin.dtype)
    target = np.zeros((some, *twin.output_size(piece)), np.int64)

    def step() -> None:
        optimizer.zero_grad()
        logits = twin(x)
        loss = F.cross_entropy(logits, target) if twin.out_channels > 1 else F.mean(logits)
        loss.backward()
        optimizer.step()
        device.numbers([loss.data])  # waits, where the device is behind

    step()  # compiles, and takes the memory
    scale = batch * macs(model, crop) / (some * macs(model, piece))
    return scale * min(_seconds(step) for _ in range(ROUNDS))


def timed_part(model: UNet, batch: int, crop: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """Images and crop of the part of a step that is timed: as much of it as stays below PART multiply-adds."""
    while macs(model, crop) > PART:
        smaller = smaller_crop(model, crop, share=0.9)
        if smaller is None:
            break
        crop = smaller
    return max(1, min(batch, PART // macs(model, crop))), crop


def macs(model: UNet, size: tuple[int, int]) -> int:
    """Multiply-adds of one image of this size, forwards."""
    return sum(layer.macs for layer in info.layers(model, size))


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return max(time.perf_counter() - begin, 1e-9)


def in_words(count: float) -> str:
    """Bytes for people: '850 MB', '1.4 GB'."""
    return f"{max(1, round(count / 1e6))} MB" if count < 0.9995e9 else f"{count / 1e9:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds for people: '0.12 s', '45 s', '3 min', '2.5 h'."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
