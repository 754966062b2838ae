"""The network, and single layers of it, as ONNX models for the runtimes that read them.

The shape is fixed: that lets every runtime plan its memory beforehand.
"""

from minunet.export import onnx
from minunet.export.onnx_graph import Graph


def network(model, shape):
    """The network in evaluation mode, as `minunet export` writes it, for inputs of `shape`."""
    return onnx.network(model, shape[2:], batch=shape[0])


def convolution(x, weight, bias, padding, relu):
    """One conv2d, with relu where asked for, as an ONNX model for inputs like `x`; arrays of float32."""
    graph = Graph("convolution")
    arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
    inputs = [graph.constant(name, array) for name, array in arrays.items()]
    y = graph.add("Conv", "y", onnx.IMAGE, *inputs, pads=[padding] * 4)
    if relu:
        y = graph.add("Relu", "z", y)
    out = (len(x), len(weight), *(x.shape[axis] + 2 * padding - weight.shape[axis] + 1 for axis in (2, 3)))
    return graph.model([graph.value(onnx.IMAGE, x.dtype, x.shape)], [graph.value(y, x.dtype, out)])
