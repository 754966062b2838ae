"""One layer in PyTorch, ONNX Runtime and OpenVINO: what they take for a single call of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from minunet.export.onnx import IMAGE
from minunet.kernels import cases

from . import contenders, onnx_graph


def layer_peers(kernel: str, call: cases.Call, threads: int) -> dict[str, Any]:
    """{name: runner} of the peers that are installed and know this call: conv2d, and there mostly the forward pass."""
    if kernel != "conv2d":
        return {}
    peers: dict[str, Any] = {}
    if find_spec("torch"):
        peers["PyTorch"] = TorchLayer(call.function, threads, channels_last=False)
        peers["PyTorch channels_last"] = TorchLayer(call.function, threads, channels_last=True)
    if call.function == "forward" and call.inputs["x"].dtype == np.float32 and find_spec("onnx"):
        graph = onnx_graph.convolution(**call.inputs)
        if find_spec("onnxruntime"):
            peers["ONNX Runtime"] = OnnxLayer(graph, threads)
        if find_spec("openvino"):
            peers["OpenVINO"] = OpenVinoLayer(graph, threads)
    return peers


class TorchLayer:
    """conv2d, with relu where asked for, or one of its derivatives in PyTorch."""

    def __init__(self, function: str, threads: int, channels_last: bool) -> None:
        import torch

        torch.set_num_threads(threads)
        self.torch, self.function = torch, function
        self.format = torch.channels_last if channels_last else torch.contiguous_format

    def prepare(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Copies in PyTorch's own memory, in the format that is tried."""
        prepared = dict(inputs)
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                tensor = self.torch.from_numpy(np.ascontiguousarray(value)).clone()
                prepared[name] = tensor.contiguous(memory_format=self.format) if value.ndim == 4 else tensor
        return prepared

    def run(self, prepared: Mapping[str, Any]) -> Any:
        with self.torch.inference_mode():
            return getattr(self, self.function)(**prepared)

    def forward(self, x, weight, bias, padding, relu):
        y = self.torch.nn.functional.conv2d(x, weight, bias, padding=padding)
        return y.relu_() if relu else y

    def backward_input(self, grad, weight, padding):
        n, _, h, w = grad.shape
        size = (h + weight.shape[2] - 1 - 2 * padding, w + weight.shape[3] - 1 - 2 * padding)
        x = grad.new_empty((n, weight.shape[1], *size)).contiguous(memory_format=self.format)
        return self._backward(grad, x, weight, padding, (True, False, False))[0]

    def backward_weight(self, grad, x, padding):
        kernel = [x.shape[axis] + 2 * padding - grad.shape[axis] + 1 for axis in (2, 3)]
        shape = (grad.shape[1], x.shape[1], *kernel)
        weight = grad.new_empty(shape).contiguous(memory_format=self.format)
        return self._backward(grad, x, weight, padding, (False, True, False))[1]

    def _backward(self, grad, x, weight, padding, wanted):
        return self.torch.ops.aten.convolution_backward(
            grad, x, weight, None, (1, 1), (padding, padding), (1, 1), False, (0, 0), 1, wanted
        )


class OnnxLayer:
    """The forward pass as a graph of one layer in ONNX Runtime; weight and bias are part of the graph."""

    def __init__(self, graph: Any, threads: int) -> None:
        self.session = contenders.onnx_session(graph, threads)

    def prepare(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return np.ascontiguousarray(inputs["x"])

    def run(self, prepared: np.ndarray) -> np.ndarray:
        return self.session.run(None, {IMAGE: prepared})[0]


class OpenVinoLayer:
    """The same in OpenVINO."""

    def __init__(self, graph: Any, threads: int) -> None:
        self.request = contenders.openvino_request(graph, threads)

    def prepare(self, inputs: Mapping[str, Any]) -> np.ndarray:
        return np.ascontiguousarray(inputs["x"])

    def run(self, prepared: np.ndarray) -> np.ndarray:
        return self.request.infer([prepared], share_inputs=True, share_outputs=True)[0]
