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
from minunet.device import to_host
from minunet.export.onnx import IMAGE
from minunet.kernels import cuda

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
# On a GPU, where there is one.
ON_DEVICE = ("minunet cuda", "PyTorch cuda", "PyTorch cuda channels_last", "PyTorch cuda channels_last TF32")
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


def on_device() -> list[str]:
    """Names of the contenders that find a GPU."""
    return [name for name in ON_DEVICE if (torch_on_device() if is_torch(name) else cuda.is_available())]


def torch_on_device() -> bool:
    """Whether PyTorch is here and finds a GPU."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def is_torch(name: str) -> bool:
    return name.startswith("PyTorch")


def make(name: str, model: mn.UNet, shape: tuple[int, ...], threads: int) -> Any:
    """The contender of this name with a copy of the model's weights, for inputs of `shape`."""
    if name == "ONNX Runtime":
        return OnnxRuntime(model, shape, threads)
    if name == "OpenVINO":
        return OpenVino(model, shape, threads)
    if is_torch(name):
        device = "cuda" if "cuda" in name else "cpu"
        return Torch(model, threads, "channels_last" in name, device, tf32="TF32" in name)
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
    """Backend and policy of minunet "fast", "exact", "numpy" or "cuda", inside the block."""
    backend = kind if kind in ("numpy", "cuda") else "numba"
    with mn.use_backend(backend), mn.policy("exact" if kind == "exact" else "fast"):
        yield


class Minunet:
    """minunet itself; kind: "fast" or "exact", its policies on Numba, or "numpy", or "cuda"."""

    def __init__(self, model: mn.UNet, kind: str) -> None:
        self.kind = kind
        self.model = mn.UNet(**model.architecture)
        self.model.load_state_dict(model.state_dict())
        self.model.to("cuda" if kind == "cuda" else "cpu")
        self.optimizer = mn.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM)

    def infer(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        with way(self.kind), mn.no_grad():
            return to_host(self.model(x).data)

    def train(self, x: np.ndarray, target: np.ndarray) -> float:
        self.model.train()
        with way(self.kind):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), target)
            loss.backward()
            self.optimizer.step()
            return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: to_host(p.grad) for name, p in self.model.named_parameters() if p.grad is not None}


class Torch:
    """PyTorch on the CPU or a GPU ("cuda"); `channels_last` is its memory format of that name.

    tf32: whether a GPU's tensor cores may round what goes into convolutions; cuDNN tries its algorithms and keeps the
    fastest.
    """

    def __init__(
        self, model: mn.UNet, threads: int, channels_last: bool, device: str = "cpu", tf32: bool = False
    ) -> None:
        import torch

        from . import torch_networks

        self.torch, self.device, self.tf32 = torch, device, tf32
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        kind = "paper" if model.padding == "valid" else "article"
        network = torch_networks.build(kind, model.in_channels, model.out_channels, model.features)
        self.model = torch_networks.load(network, model.state_dict()).to(device, memory_format=self.format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=MOMENTUM, fused=True)

    def _tensor(self, x: np.ndarray) -> Any:
        self.torch.backends.cudnn.allow_tf32 = self.tf32
        return self.torch.from_numpy(x).to(self.device).contiguous(memory_format=self.format)

    def infer(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        with self.torch.inference_mode():
            return self.model(self._tensor(x)).cpu().numpy()

    def train(self, x: np.ndarray, target: np.ndarray) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        classes = self.torch.from_numpy(target).to(self.device)
        loss = self.torch.nn.functional.cross_entropy(self.model(self._tensor(x)), classes)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def gradients(self) -> dict[str, np.ndarray]:
        return {name: p.grad.cpu().numpy() for name, p in self.model.named_parameters()}


class OnnxRuntime:
    """ONNX Runtime on the CPU, with all its optimisations of the graph."""

    def __init__(self, model: mn.UNet, shape: tuple[int, ...], threads: int) -> None:
        from . import onnx_graph

        self.session = onnx_session(onnx_graph.network(model, shape), threads)

    def infer(self, x: np.ndarray) -> np.ndarray:
        return self.session.run(None, {IMAGE: x})[0]


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
