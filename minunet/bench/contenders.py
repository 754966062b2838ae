"""Who takes part: minunet in three ways, and its peers, all with one network and the same weights.

A contender has `infer(x)`, x (N, C, H, W) float32 -> logits, and those that can train have `train(x, target)`, one step
with the mean cross entropy and SGD with momentum -> loss, after which `gradients()` gives {parameter: array}.
Libraries are imported when a contender is made, and `available()` names only those that are installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

import minunet as mn
import minunet.functional as F

LR, MOMENTUM = 1e-4, 0.9  # small: the weights should be the same kind of numbers in every round

# The libraries that each needs; the names are those of the tables.
NEEDS = {
    "minunet fast": ("numba",),
    "minunet exact": ("numba",),
    "minunet numpy": (),
    "PyTorch": ("torch",),
    "PyTorch channels_last": ("torch",),
    "ONNX Runtime": ("onnx", "onnxruntime"),
    "OpenVINO": ("onnx", "openvino"),
}
TRAINED = ("minunet fast", "minunet exact", "minunet numpy", "PyTorch", "PyTorch channels_last")


class Contender(Protocol):
    def infer(self, x: np.ndarray) -> np.ndarray: ...


class Trainable(Contender, Protocol):
    def train(self, x: np.ndarray, target: np.ndarray) -> float: ...
    def gradients(self) -> dict[str, np.ndarray]: ...


def available(mode: str = "infer") -> list[str]:
    """Names of the contenders that can take part here; mode: "infer" or "train"."""
    names = NEEDS if mode == "infer" else TRAINED
    return [name for name in names if all(find_spec(library) for library in NEEDS[name])]


def missing() -> list[str]:
    """Names of the contenders whose libraries are not installed."""
    return [name for name in NEEDS if name not in available()]


def is_torch(name: str) -> bool:
    return name.startswith("PyTorch")


def make(name: str, model: mn.UNet, shape: tuple[int, ...], threads: int) -> Any:
    """The contender of this name with a copy of the model's weights, for inputs of `shape`."""
    if name == "ONNX Runtime":
        return OnnxRuntime(model, shape, threads)
    if name == "OpenVINO":
        return OpenVino(model, shape, threads)
    if is_torch(name):
        return Torch(model, threads, channels_last=name.endswith("channels_last"))
    mn.set_num_threads(threads)
    return Minunet(model, name.split()[1])


def versions() -> dict[str, str]:
    """{library: version} of what takes part."""
    libraries = ["numpy", *dict.fromkeys(library for name in available() for library in NEEDS[name])]
    return {"minunet": mn.__version__, **{library: _version(library) for library in libraries}}


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # some come in packages of several names
        return "of unknown version"


@contextmanager
def way(kind: str) -> Iterator[None]:
    """Backend and policy of minunet "fast", "exact" or "numpy", inside the block."""
    with mn.use_backend("numpy" if kind == "numpy" else "numba"), mn.policy("exact" if kind == "exact" else "fast"):
        yield


class Minunet:
    """minunet itself; kind: "fast" or "exact", its policies on Numba, or "numpy"."""

    def __init__(self, model: mn.UNet, kind: str) -> None:
        self.kind = kind
        self.model = mn.UNet(**model.architecture)
        self.model.load_state_dict(model.state_dict())
        self.optimizer = mn.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)

    def infer(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        with way(self.kind), mn.no_grad():
            return self.model(x).numpy()

    def train(self, x: np.ndarray, target: np.ndarray) -> float:
        self.model.train()
        with way(self.kind):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), target)
            loss.backward()
            self.optimizer.step()
            return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}


class Torch:
    """PyTorch on the CPU; `channels_last` is its memory format of that name."""

    def __init__(self, model: mn.UNet, threads: int, channels_last: bool) -> None:
        import torch

        from . import torch_networks

        self.torch = torch
        torch.set_num_threads(threads)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        kind = "paper" if model.padding == "valid" else "article"
        network = torch_networks.build(kind, model.in_channels, model.out_channels, model.features)
        self.model = torch_networks.load(network, model.state_dict()).to(memory_format=self.format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def _tensor(self, x: np.ndarray) -> Any:
        return self.torch.from_numpy(x).contiguous(memory_format=self.format)

    def infer(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        with self.torch.inference_mode():
            return self.model(self._tensor(x)).numpy()

    def train(self, x: np.ndarray, target: np.ndarray) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.model(self._tensor(x)), self.torch.from_numpy(target))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: p.grad.numpy() for name, p in self.model.named_parameters()}


class OnnxRuntime:
    """ONNX Runtime on the CPU, with all its optimisations of the graph."""

    def __init__(self, model: mn.UNet, shape: tuple[int, ...], threads: int) -> None:
        from . import onnx_graph

        self.session = onnx_session(onnx_graph.network(model, shape), threads)

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"x": x})[0]


def onnx_session(graph: Any, threads: int) -> Any:
    """An ONNX model, ready to run in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


class OpenVino:
    """OpenVINO on the CPU in float32, asked for the shortest time of one request."""

    def __init__(self, model: mn.UNet, shape: tuple[int, ...], threads: int) -> None:
        from . import onnx_graph

        self.request = openvino_request(onnx_graph.network(model, shape), threads)

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.request.infer([x], share_inputs=True, share_outputs=True)[0]


def openvino_request(graph: Any, threads: int) -> Any:
    """An ONNX model, compiled by OpenVINO."""
    import openvino

    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(core.read_model(graph.SerializeToString()), "CPU", options).create_infer_request()
