"""The network, and single layers of it, as ONNX models for the runtimes that read them."""

import numpy as np


def network(model, shape):
    """The network in evaluation mode as an ONNX model for inputs of `shape`: the loops of unet.py as a graph."""
    from onnx import helper, numpy_helper

    state = model.state_dict()
    nodes: list = []
    constants: list = []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(kind, *inputs, **attributes):
        name = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weighted(kind, x, prefix, **attributes):
        names = [constant(prefix + p, state[prefix + p]) for p in ("weight", "bias") if prefix + p in state]
        return add(kind, x, *names, **attributes)

    def double_conv(x, prefix):
        padding = int(model.padding == "same")
        for conv in (0, 3) if model.norm else (0, 2):
            x = weighted("Conv", x, f"{prefix}.conv.{conv}.", pads=[padding] * 4)
            if model.norm:
                names = [f"{prefix}.conv.{conv + 1}.{p}" for p in ("weight", "bias", "running_mean", "running_var")]
                x = add("BatchNormalization", x, *(constant(n, state[n]) for n in names), epsilon=1e-5)
            x = add("Relu", x)
        return x

    x, skips, margins = "x", [], margin_of_skips(model.levels)
    for level in range(model.levels):
        x = double_conv(x, f"downs.{level}")
        skips.append(x)
        x = add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = double_conv(x, "bottleneck")
    for level in range(model.levels):
        x = weighted("ConvTranspose", x, f"ups.{2 * level}.", strides=[2, 2])
        skip, margin = skips.pop(), margins.pop()
        if model.padding == "valid":
            starts = constant(f"starts{level}", np.array([margin, margin]))
            ends = constant(f"ends{level}", np.array([-margin, -margin]))
            skip = add("Slice", skip, starts, ends, constant(f"axes{level}", np.array([2, 3])))
        x = double_conv(add("Concat", skip, x, axis=1), f"ups.{2 * level + 1}")
    x = weighted("Conv", x, "final_conv.")
    return _model(nodes, constants, x, shape)


def convolution(x, weight, bias, padding, relu):
    """One conv2d, with relu where asked for, as an ONNX model for inputs like `x`; arrays of float32."""
    from onnx import helper, numpy_helper

    arrays = {"weight": weight} | ({} if bias is None else {"bias": bias})
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()]
    nodes = [helper.make_node("Conv", ["x", *arrays], ["y"], pads=[padding] * 4)]
    if relu:
        nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    return _model(nodes, constants, "z" if relu else "y", x.shape)


def _model(nodes, constants, output, shape):
    """The shape is fixed: that lets every runtime plan its memory beforehand."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def margin_of_skips(levels):
    """Pixels that a valid-padded network crops off a side of each skip, from the top level down."""
    margins, lost = [], 0  # lost: pixels that the path below has taken off a side, at the level's scale
    for _ in range(levels):
        lost = 2 * (lost + 2)
        margins.append(lost)
        lost += 2
    return margins[::-1]
