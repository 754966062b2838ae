"""An ONNX graph, written node by node with the library that defines the format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minunet.extras import require

OPSET = 21  # the versions of the operators: ONNX 1.16 of 2024, which ONNX Runtime reads from 1.18 on
IR_VERSION = 10  # of the file format, the one that came with that opset
FLOAT, DOUBLE = 1, 11  # float32 and float64 in TensorProto.DataType


class Graph:
    """Nodes and constants, in the order in which they were added. MissingExtra where onnx is not installed.

    A node has one output, of the node's own name: what `add` returns is what later nodes take.
    """

    def __init__(self, name: str) -> None:
        self.onnx = require("onnx", extra="onnx")
        self.name = name
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Any) -> str:
        """An array that is part of the model."""
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """A node of the operator `kind`."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def value(self, name: str, dtype: Any, shape: Sequence[int | str], text: str = "") -> Any:
        """An input or output of the graph; a side that is a name is known only when the model runs."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, shape, text)

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any], metadata: Mapping[str, str] | None = None) -> Any:
        """The ModelProto; metadata: texts that travel with it."""
        from minunet import __version__

        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="minunet",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata or {}))
        return model
