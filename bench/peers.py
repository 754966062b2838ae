"""The same network, with the same weights, in PyTorch and in ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))  # tests/torch_models.py: the networks in PyTorch


class Torch:
    """PyTorch on the CPU; `channels_last` is its memory format of that name."""

    def __init__(self, model, threads, channels_last):
        import torch
        import torch_models

        self.torch = torch
        torch.set_num_threads(threads)
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        kind = "paper" if model.padding == "valid" else "article"
        network = torch_models.build(kind, model.in_channels, model.out_channels, model.features)
        self.model = torch_models.load(network, model.state_dict()).to(memory_format=self.format)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-6, momentum=0.9)

    def tensor(self, x):
        return self.torch.from_numpy(x).contiguous(memory_format=self.format)

    def infer(self, x):
        self.model.eval()
        with self.torch.inference_mode():
            return self.model(self.tensor(x)).numpy()

    def train(self, x, target):
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.model(self.tensor(x)), self.torch.from_numpy(target))
        loss.backward()
        self.optimizer.step()
        return loss.item()


class OnnxRuntime:
    """ONNX Runtime, CPU, all its graph optimisations."""

    def __init__(self, model, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        graph = onnx_graph(model).SerializeToString()
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def infer(self, x):
        return self.session.run(None, {"x": x})[0]


def onnx_graph(model):
    """The network in evaluation mode as an ONNX model: the loops of unet.py, written down as a graph."""
    from onnx import TensorProto, helper, numpy_helper

    state, nodes, constants = model.state_dict(), [], []

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
    shape = ["n", model.in_channels, "h", "w"]
    graph = helper.make_graph(
        nodes,
        "unet",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def margin_of_skips(levels):
    """Pixels that a valid-padded network crops off a side of each skip, from the top level down."""
    margins, lost = [], 0  # lost: pixels that the path below has taken off a side, at the level's scale
    for _ in range(levels):
        lost = 2 * (lost + 2)
        margins.append(lost)
        lost += 2
    return margins[::-1]
