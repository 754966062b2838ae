"""Generated U-Nets, their C programs, and the compilers that make them."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import minunet as mn
from minunet.data import Preprocessing
from minunet.export.c import write
from minunet.prediction.predict import evaluating
from minunet.unet import legal_sides

HARNESS = Path(__file__).parent / "export" / "harness.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
WATCHED = ("-g1", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True)
class Answer:
    """What a program gives: logits (K, H, W), classes (H, W) of the image, wrong logits of its self-test."""

    logits: np.ndarray
    classes: np.ndarray
    wrong: int


def gcc() -> list[str] | None:
    """The command of gcc, if there is one."""
    found = shutil.which("gcc")
    return found and [found]


def clang() -> list[str] | None:
    """The command of the clang in ziglang, if that is installed."""
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else None


def has_avx2() -> bool:
    """Whether programs for "haswell" run here."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and " avx2 " in cpuinfo.read_text()


def randomized(model: mn.UNet, rng: np.random.Generator) -> mn.UNet:
    """No parameter and no running estimate is 0 or 1, so that nothing that is left out stays unseen."""
    state = {name: array.copy() for name, array in model.state_dict().items()}
    for name, array in state.items():
        if name.endswith("running_var"):
            array[...] = rng.uniform(0.5, 2, array.shape)
        elif array.ndim == 1:
            array += rng.normal(0, 0.1, array.shape).astype(array.dtype)
    model.load_state_dict(state)
    return model.eval()


def generated(seed: int) -> tuple[mn.UNet, tuple[int, int]]:
    """A U-Net of drawn architecture, and a size of image for it."""
    rng = np.random.default_rng(seed)
    levels = int(rng.integers(1, 5))
    features = [int(f) for f in rng.integers(1, 33 >> max(levels - 2, 0), levels)]
    padding = str(rng.choice(["same", "same", "valid"] if levels < 4 else ["same"]))
    channels, outputs = int(rng.choice([1, 1, 2, 3])), int(rng.choice([1, 2, 3, 9]))
    norm = [None, "batch"][rng.integers(2)]
    fit = "pad" if padding == "same" and seed % 5 in (2, 3) else "resize"
    up = "bilinear" if seed % 4 == 0 else "transpose"
    model = mn.UNet(channels, outputs, features, padding=padding, norm=norm, seed=seed, skip_fit=fit, up=up)
    model.preprocessing = Preprocessing(channels, str(rng.choice(["none", "standardize"])))
    low = 2**levels if padding == "same" else 1
    size = rng.integers(low, low + 40, 2)
    if padding == "valid":
        size = [legal_sides(int(side), levels)[-1] for side in size]
    return randomized(model, rng), (int(size[0]), int(size[1]))


def images(model: mn.UNet, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Prepared numbers (C, H, W) and bytes (H, W, C)."""
    rng = np.random.default_rng(size)
    numbers = rng.standard_normal((model.in_channels, *size), dtype=np.float32)
    return numbers, rng.integers(0, 200, (*size, model.in_channels), dtype=np.uint8)


def compiled(compiler: list[str], folder: Path, *flags: str) -> Path:
    """The harness around folder/unet.c, as a program."""
    program = folder / "program"
    apart = ["-DAPART"] if (folder / "unet.bin").exists() else []
    defines = ["-DUNET_SELFTEST", "-DUNET_EXTERNAL_ARENA", *apart, f"-I{folder}"]
    command = [*compiler, *flags, *defines, str(HARNESS), "-o", str(program)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, run.stderr[:4000]
    return program


def answer(program: Path, model: mn.UNet, size: tuple[int, int], numbers: np.ndarray | None = None) -> Answer:
    """Run the program on the `images` of this model and size, or on other numbers."""
    normal, image = images(model, size)
    numbers = normal if numbers is None else numbers
    folder = program.parent
    numbers.tofile(folder / "in")
    image.tofile(folder / "image")
    run = subprocess.run([program], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr, (run.returncode, run.stderr[:4000])
    shape = model.output_size(size)
    logits = np.fromfile(folder / "out", np.float32).reshape(model.out_channels, *shape)
    return Answer(logits, np.fromfile(folder / "classes", np.uint8).reshape(shape), int(run.stdout))


def check(found: Answer, model: mn.UNet, size: tuple[int, int], tolerance: float = 1e-5) -> float:
    """Compare with minunet: logits, classes wherever they are not a tie, self-test.  The error of the logits."""
    numbers, image = images(model, size)
    expected = logits(model, numbers)
    error = float(np.abs(found.logits - expected).max() / np.abs(expected).max())
    assert error <= tolerance, error
    assert found.wrong == 0
    of_image = logits(model, model.preprocessing(image, channels_last=True))
    if len(of_image) == 1:
        of_image = np.concatenate([np.zeros_like(of_image), of_image])
    first, second = np.sort(of_image, axis=0)[:-3:-1]
    clear = first - second > 2 * tolerance * np.abs(of_image).max()
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.classes[clear], of_image.argmax(0)[clear])
    return error


def logits(model: mn.UNet, numbers: np.ndarray) -> np.ndarray:
    """minunet's own, (K, H, W), without the fast algorithms."""
    with mn.policy("exact"), evaluating(model):
        return model(numbers[None]).data[0]


def exported(model: mn.UNet, size: tuple[int, int], folder: Path, memory: str = "default") -> Path:
    """folder/unet.c"""
    folder.mkdir(exist_ok=True)
    write(model, folder / "unet.c", size, memory=memory)
    return folder / "unet.c"
