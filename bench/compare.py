"""The whole network beside PyTorch and ONNX Runtime: python bench/compare.py [--rounds 5] [--out table.md]

Peers that are not installed are left out.  Results are checked before they are timed; all take turns in every round;
each round has fresh input; the table gives medians, and ratios as the median of the rounds' ratios.  PyTorch is taken
at the faster of its two memory formats.  Peak memory is that of fresh processes, one for each library.
"""

import argparse
import importlib.util
import platform
import subprocess
import sys
from datetime import date
from statistics import median

import numpy as np
import peers

import minunet as mn
import minunet.functional as F
from minunet import info, timing

WORKS = {
    "paper": ("paper's U-Net, 1 x 572 x 572", {"features": (64, 128, 256, 512)}, (1, 1, 572, 572)),
    "same": (
        "same padding, batch norm, 16..128, 4 x 256 x 256",
        {"features": (16, 32, 64, 128), "padding": "same", "norm": "batch"},
        (4, 1, 256, 256),
    ),
}
PEERS = ("PyTorch", "PyTorch channels_last", "ONNX Runtime")


class Minunet:
    """minunet on one backend, with an optimiser of its own."""

    def __init__(self, arguments, backend):
        self.backend = backend
        self.model = mn.UNet(1, 2, **arguments)
        self.optimizer = mn.SGD(self.model.parameters(), lr=1e-6, momentum=0.9)

    def infer(self, x):
        self.model.eval()
        with mn.use_backend(self.backend), mn.no_grad():
            return self.model(x).numpy()

    def train(self, x, target):
        self.model.train()
        with mn.use_backend(self.backend):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), target)
            loss.backward()
            self.optimizer.step()
            return loss.item()


def competitors(arguments, threads):
    """{name: object with infer(x) and perhaps train(x, target)} of everything that is installed."""
    mn.set_num_threads(threads)
    found = {f"minunet {backend}": Minunet(arguments, backend) for backend in ("numba", "numpy")}
    model = mn.UNet(1, 2, **arguments)
    if importlib.util.find_spec("torch"):
        found["PyTorch"] = peers.Torch(model, threads, channels_last=False)
        found["PyTorch channels_last"] = peers.Torch(model, threads, channels_last=True)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found["ONNX Runtime"] = peers.OnnxRuntime(model, threads)
    return found


def fresh(shape, model, round_):
    """Input and target of a round."""
    rng = np.random.default_rng([round_ + 1, 7])
    x = rng.standard_normal(shape, dtype=np.float32)
    return x, rng.integers(0, 2, (shape[0], *model.output_size(shape[2:])))


def measure(work, mode, threads, rounds):
    """Rows (name, seconds, GFLOP/s, ratio of PyTorch's time to it) of one work in one mode."""
    _, arguments, shape = WORKS[work]
    found = {name: c for name, c in competitors(arguments, threads).items() if hasattr(c, mode)}
    model = found["minunet numba"].model
    x, target = fresh(shape, model, 0)
    if mode == "infer":
        expected = mn.UNet(1, 2, **arguments, dtype=np.float64).eval()(x.astype(np.float64)).numpy()
        for name, competitor in found.items():
            checked(name, lambda c=competitor: timing.agree(c.infer(x), expected, 1e-3))
        actions = {name: lambda given, c=c: c.infer(given[0]) for name, c in found.items()}
    else:
        losses = {name: competitor.train(x, target) for name, competitor in found.items()}
        for name, loss in losses.items():
            checked(name, lambda loss=loss: np.testing.assert_allclose(loss, losses["minunet numpy"], rtol=1e-4))
        actions = {name: lambda given, c=c: c.train(*given) for name, c in found.items()}
    seconds = timing.interleaved(actions, lambda r: fresh(shape, model, r), rounds)
    gflop = 2e-9 * shape[0] * macs(model, shape[2:]) * (1 if mode == "infer" else 3)
    torch = [name for name in seconds if name.startswith("PyTorch")]
    best = min(torch, key=lambda name: median(seconds[name]), default=None)
    return [
        (name, median(s), gflop / median(s), timing.median_ratio(seconds[best], s) if best else float("nan"))
        for name, s in seconds.items()
    ]


def checked(name, check):
    try:
        check()
    except AssertionError as error:
        raise SystemExit(f"{name} computes something else, nothing is timed: {error}") from None


def macs(model, size):
    """Multiply-adds of one image's forward pass."""
    return sum(layer.macs for layer in info.layers(model, size))


def peak_memory(work, name):
    """Peak memory in MB that two training steps add to what the model took, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", work, name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def memory_of(work, name, threads):
    """What the fresh process does, on Linux."""
    _, arguments, shape = WORKS[work]
    competitor = competitors_by_name(name, arguments, threads)
    x, target = fresh(shape, mn.UNet(1, 2, **arguments), 0)
    before = status("VmRSS")
    competitor.train(x, target)
    competitor.train(x, target)
    return (status("VmHWM") - before) / 1024


def status(field):
    """A size in kB from /proc/self/status (getrusage would count the parent process's peak as well)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def competitors_by_name(name, arguments, threads):
    mn.set_num_threads(threads)
    if name.startswith("minunet"):
        return Minunet(arguments, name.split()[1])
    return peers.Torch(mn.UNet(1, 2, **arguments), threads, name.endswith("channels_last"))


def table(options):
    """The Markdown table, line by line as it is measured."""
    yield f"{date.today()}, {machine()}, {options.threads} threads, float32, {options.rounds} rounds"
    yield ""
    yield "| work | what | time | GFLOP/s | PyTorch's time / its time |"
    yield "|---|---|---|---|---|"
    for work in options.works:
        for mode, words in (("infer", "inference"), ("train", "training step")):
            for name, seconds, gflops, ratio in measure(work, mode, options.threads, options.rounds):
                yield f"| {WORKS[work][0]}, {words} | {name} | {seconds * 1e3:.0f} ms | {gflops:.0f} | {ratio:.2f} |"
    yield ""
    yield "| peak memory of a training step | MB |"
    yield "|---|---|"
    for work in options.works:
        names = ["minunet numba", "minunet numpy", *(p for p in PEERS[:2] if importlib.util.find_spec("torch"))]
        for name in names:
            yield f"| {WORKS[work][0]}, {name} | {peak_memory(work, name):.0f} |"


def machine():
    """The processor's name, or what the platform calls it."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--out", help="file that the table is written to as well")
    parser.add_argument("--memory-of", nargs=2, metavar=("WORK", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(memory_of(*options.memory_of, options.threads))
        return
    lines = []
    for line in table(options):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
