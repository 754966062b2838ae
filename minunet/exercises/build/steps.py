"""The list: the functions of the five files in the order in which they can be built, and what each step computes.

Every function of these files stands in one step, or in GIVEN: those that look at inputs, print, or move arrays to a
GPU, of which the learner would learn nothing about networks.  Tests hold the two lists against the source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minunet.exercises import scenarios as s

from . import scenarios as own


@dataclass(frozen=True)
class Part:
    """Functions of one module; methods as "Class.method"."""

    module: str
    names: tuple[str, ...]

    @property
    def file(self) -> str:
        """The learner's file, "autograd.py" or "kernels/relu.py"."""
        return learners_name(self.module)


@dataclass(frozen=True)
class Step:
    """Some functions that are written together.

    title: what they are.  parts: the functions.  scenarios: what is computed with them, in this order.
    hints: two, the second says more.
    """

    title: str
    parts: tuple[Part, ...]
    scenarios: tuple[s.Scenario, ...]
    hints: tuple[str, str]

    @property
    def number(self) -> int:
        """Its place in the list, from 1."""
        return STEPS.index(self) + 1

    def functions(self) -> Iterator[tuple[str, str]]:
        """(module, name) of every function."""
        for part in self.parts:
            for name in part.names:
                yield part.module, name


def learners_name(module: str) -> str:
    """The name of the file that stands for a module, in the learner's folder."""
    return module.removeprefix("minunet.").removesuffix(".reference").replace(".", "/") + ".py"


def autograd(*names: str) -> Part:
    return Part("minunet.autograd", names)


def functional(*names: str) -> Part:
    return Part("minunet.functional", names)


def nn(*names: str) -> Part:
    return Part("minunet.nn", names)


def unet(*names: str) -> Part:
    return Part("minunet.unet", names)


def optim(*names: str) -> Part:
    return Part("minunet.optim", names)


def kernel(room: str, *names: str) -> Part:
    return Part(f"minunet.kernels.{room}.reference", names)


WRITTEN: tuple[Step, ...] = (
    Step(
        title="a Tensor, and what an operation leaves behind",
        parts=(autograd("Tensor.__init__", "record"),),
        scenarios=(own.tensors, own.records),
        hints=(
            "A Tensor has a value in each of its __slots__, None where nothing is known yet. Of a Tensor it takes the "
            "array. NumPy's numbers keep their dtype as arrays do, though np.float64 is a float of Python's too. An "
            "operation leaves a Node only where a graph is recorded and one of its inputs requires a gradient.",
            "edges = [(t.node or t, vjp) for each input t that requires a gradient]: a leaf stands for itself, any "
            "other tensor for the node that made it. The observers are for tracing: without a loop over them all "
            "but mn.trace works.",
        ),
    ),
    Step(
        title="the order in which the graph is walked",
        parts=(autograd("topological"),),
        scenarios=(own.orders,),
        hints=(
            "A node may be listed when all of its inputs are. Depth first, and a stack of your own: a graph may be "
            "5,000 operations deep, and Python's recursion ends at 1,000.",
            "Put (node, False) on the stack when it is met. Taken off, it goes back as (node, True), then its inputs "
            "on top; taken off a second time all of them are done, and it is listed. A node whose edges are None was "
            "freed by an earlier backward(): RuntimeError.",
        ),
    ),
    Step(
        title="the chain rule: the walk from the loss to the leaves",
        parts=(autograd("walk", "Tensor.backward"),),
        scenarios=(s.graphs, s.two_losses, s.owned_gradients, own.backward_calls),
        hints=(
            "A dictionary from id(node) to the gradient so far. Take the nodes in the reverse of topological order: "
            "then the gradient of each is complete when its turn comes. backward() starts the walk, at the node or at "
            "the tensor itself if it is a leaf, and refuses what has no sense: RuntimeError where nothing requires a "
            "gradient, ValueError where grad is missing for an array or is not of its shape and dtype (`check`).",
            "What arrives at a parent that has a gradient already is added to it, in a new array. A leaf copies what "
            "it keeps, and adds to the .grad of before; so does a node whose retain() gives a Tensor. node.upstream, "
            "if there is one, is applied once before all VJPs; edges of a node that is done become None.",
        ),
    ),
    Step(
        title="arithmetic, and broadcasting undone",
        parts=(functional("_broadcast_back", "add", "subtract", "multiply", "divide", "negative"),),
        scenarios=(own.arithmetic,),
        hints=(
            "_operands makes Tensors of one dtype of whatever comes. The derivative of each stands in its docstring.",
            "An input that was repeated along an axis gets the sum over that axis: axes that were put in front vanish, "
            "axes of length 1 stay with length 1.",
        ),
    ),
    Step(
        title="matrix product, sums, other shapes",
        parts=(functional("matmul", "sum", "mean", "reshape"),),
        scenarios=(own.products_and_sums,),
        hints=(
            "matmul: g b^T and a^T g over the last two axes, then undo the broadcasting of those before. sum: every "
            "summand gets the whole gradient.",
            "The gradient of a sum has lost its axes: g.reshape(shape with keepdims), then np.broadcast_to. The names "
            "sum and min of this module are not Python's own: builtins.min. mean is a sum times 1 / count.",
        ),
    ),
    Step(
        title="relu and dropout",
        parts=(kernel("relu", "forward", "backward", "backward_sums"), functional("relu", "dropout")),
        scenarios=(s.kernel("relu"), own.rectifiers, s.dropouts),
        hints=(
            "Kernels write into `out`, which is there already. The gradient passes where y > 0, and where y is NaN.",
            "np.where(y <= 0, 0, grad). Dropout: keep where rng.random(x.shape, dtype=np.float32) >= p, divide by "
            "1 - p, in x's dtype; with p = 0 x itself, nothing drawn.",
        ),
    ),
    Step(
        title="convolution forwards",
        parts=(kernel("conv2d", "forward"),),
        scenarios=(s.kernel("conv2d", functions=("forward",)),),
        hints=(
            "Two loops, over i and j of the kernel: each tap multiplies one shifted picture with one matrix (O, C).",
            'np.einsum("nchw,oc->nohw", padded[:, :, i : i + h, j : j + w], weight[:, :, i, j]), added up; h and w are '
            "the output's. The bias once, the rectifier at the end.",
        ),
    ),
    Step(
        title="its adjoint: the gradient of the picture",
        parts=(kernel("conv2d", "backward_input"),),
        scenarios=(s.kernel("conv2d", functions=("backward_input",)),),
        hints=(
            "Forwards, output (h, w) read the padded picture at (h + i, w + j) through tap (i, j). Send it back.",
            "Into an array of zeros as large as the padded picture, += of grad times weight[:, :, i, j] at the same "
            "shifted place; then cut the padding off.",
        ),
    ),
    Step(
        title="its other adjoint: the gradient of the weights",
        parts=(kernel("conv2d", "backward_weight"),),
        scenarios=(s.kernel("conv2d", functions=("backward_weight",)),),
        hints=(
            "weight[o, c, i, j] multiplied every pixel of the shifted picture c, and went into the picture o.",
            'out[:, :, i, j] = np.einsum("nohw,nchw->oc", grad, the same shifted picture as forwards).',
        ),
    ),
    Step(
        title="convolution as an operation",
        parts=(functional("_with_bias", "conv2d", "conv2d_relu"),),
        scenarios=(s.convolutions, own.rectified_convolutions),
        hints=(
            "The kernels are called as kernels.conv2d.forward(x, weight, bias, padding), .backward_input(g, weight, "
            "padding, size of x) and .backward_weight(g, x, padding, size of the kernel).",
            "_with_bias gives (inputs, vjps), with bias and kernels.channel_sums(g) at the end if there is one. "
            "relu(conv2d(...)) is a right conv2d_relu: out, keep and again only save memory.",
        ),
    ),
    Step(
        title="max pooling",
        parts=(kernel("max_pool2d", "places", "forward", "backward"), functional("max_pool2d")),
        scenarios=(s.kernel("max_pool2d", s.windows_with_nan), own.pools),
        hints=(
            "x[:, :, i::k, j::k] is the picture of all values at place (i, j) of their windows; cut the odd rest off.",
            "Of equal values the first wins, so a later one must be larger; and NaN wins over numbers: not (a <= b) is "
            "true for both. Backward writes grad where argmax is the place, 0 elsewhere.",
        ),
    ),
    Step(
        title="up-convolution",
        parts=(
            kernel("conv_transpose2d", "forward", "backward_input", "backward_weight"),
            functional("conv_transpose2d"),
        ),
        scenarios=(s.kernel("conv_transpose2d"), own.up_convolutions),
        hints=(
            "Every pixel paints its own s x s patch, so out[:, :, i::s, j::s] is one matrix product.",
            "The two adjoints read g[:, :, i::s, j::s]: the sum over i, j and o for the picture, over n, h and w for "
            "the weights (C, O, s, s).",
        ),
    ),
    Step(
        title="skip connections: concat, crop, pad",
        parts=(functional("concat", "center_crop", "center_pad", "_margin"),),
        scenarios=(s.concats, s.crops_and_pads),
        hints=(
            "Each of them copies numbers to other places: the gradient goes the same way back, and where nothing was "
            "taken from it is 0.",
            "kernels.join, kernels.crop(x, size) and kernels.surround(g, (above, below, left, right)) are there. An "
            "odd margin has its extra pixel below and at the right: the upper part is margin // 2.",
        ),
    ),
    Step(
        title="bilinear resize and its adjoint",
        parts=(
            kernel("resize", "axis_weights", "corner_weights", "_between", "axis_matrix", "forward", "adjoint"),
            functional("resize"),
        ),
        scenarios=(s.kernel("resize"), own.resizes),
        hints=(
            "Per axis a matrix (out, in) with two weights a row; rows and columns one after the other.",
            "The centre of output pixel h lies at (h + 1/2) in / out - 1/2, at least 0; what is left of its floor is "
            "the weight of the next pixel, which ends at in - 1. With align_corners it is h (in - 1) / (out - 1), 0 "
            "where out = 1. Compute in the array's own dtype, and inside "
            "one_blas_thread(): then the bits are the same everywhere.",
        ),
    ),
    Step(
        title="softmax, sigmoid, cross entropy",
        parts=(
            kernel("cross_entropy", "forward", "backward"),
            functional("softmax", "_sigmoid", "sigmoid", "cross_entropy"),
        ),
        scenarios=(s.kernel("cross_entropy", s.large_logits), own.probabilities, s.cross_entropies),
        hints=(
            "Take the largest logit away before the exponential, in every formula. A negative target counts nothing.",
            "_counted_classes gives the targets with -1 for those to leave out. factor = w c[y] / sum of c[y]; the "
            "loss is the sum of factor l, and its gradient is the kernel's, of g factor.",
        ),
    ),
    Step(
        title="two other losses: binary cross entropy and Dice",
        parts=(functional("binary_cross_entropy_with_logits", "dice_loss"),),
        scenarios=(s.binary_cross_entropies, own.dice_losses),
        hints=(
            "dl/dx = s(x) - t, times the pixel's share in the mean. Dice needs no derivative of its own: write it in "
            "operations of this file.",
            "np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))) never overflows. The one-hot coding of the "
            "targets: np.arange(K)[:, None, None] == classes[:, None], in the logits' dtype.",
        ),
    ),
    Step(
        title="batch norm",
        parts=(
            kernel("batch_norm", "per_channel", "normalized", "rectified", "statistics", "normalize",
                   "backward_parameters", "backward_input"),
            functional("_batch_norm"),
        ),
        scenarios=(s.kernel("batch_norm"), s.batch_norms),
        hints=(
            "dL/dx = weight r (g - mean(g) - xhat mean(g xhat)), and without the two means in evaluation.",
            "The batch's variance is divided by m; the running estimate moves, in place, towards that of m - 1: "
            "running_var += momentum * (var * m / (m - 1) - running_var). kernels.batch_norm.statistics(x), "
            ".normalize, .backward_parameters and .backward_input call the four functions of the room.",
        ),
    ),
    Step(
        title="modules: who owns the parameters",
        parts=(
            nn("Module.modules", "Module.named_arrays", "Module.named_parameters", "Module.parameters",
               "Module.zero_grad", "Module.train", "Module.state_dict", "Sequential.__init__", "Sequential.forward",
               "normal", "Conv2d.__init__", "Conv2d.forward", "Conv2d.folded", "ConvTranspose2d.__init__",
               "ConvTranspose2d.forward", "BatchNorm2d.__init__", "BatchNorm2d.forward", "ReLU.forward",
               "Dropout.__init__", "Dropout.forward"),
        ),
        scenarios=(own.module_trees, own.layers),
        hints=(
            "vars(self) holds the attributes in the order in which they were set: Modules to go into, Tensors, arrays.",
            "A name is the path of attributes, joined by dots. Folding: weight' = weight r over the output channels, "
            "bias' = (bias - mean) weight r + norm's bias, r = 1 / sqrt(running_var + eps).",
        ),
    ),
    Step(
        title="the U-Net: one loop down, one loop up",
        parts=(unet("DoubleConv.__init__", "DoubleConv.forward", "UNet.forward", "UNet.output_size", "legal_sides"),),
        scenarios=(own.networks, own.sizes),
        hints=(
            "Down: double convolution, remember, halve. Up: up-convolution, fit to each other, concat with the skip "
            "first, double convolution. UNet.__init__, which is there, tells what downs and ups hold.",
            "DoubleConv: [conv, (norm,) relu] twice in a Sequential called conv, without bias where a norm follows; "
            "its forward may simply be self.conv(x), and out, keep and room may stay unused. padding 'valid' crops the "
            "skip to the up path, 'same' fits the up path to the skip where their sizes differ.",
        ),
    ),
    Step(
        title="the step",
        parts=(
            kernel("sgd", "update", "square_sum"),
            optim("SGD.zero_grad", "SGD.step", "SGD._update", "clip_grad_norm", "warm_up", "cosine", "step_decay"),
        ),
        scenarios=(s.kernel("sgd"), own.odd_parameters, s.steps, s.clipping, s.schedules),
        hints=(
            "The velocity lives as long as the optimizer: self.velocities[k], None before the first step, then a line "
            "of numbers. Parameters are moved in place.",
            "A parameter whose memory is in another order cannot be seen as a line: make a copy, update that, and "
            "write it back. The norm is the root of the sum of all squares, in float64.",
        ),
    ),
)  # fmt: skip


def everything() -> tuple[Part, ...]:
    """All parts of all steps, a module once."""
    names: dict[str, tuple[str, ...]] = {}
    for step in WRITTEN:
        for part in step.parts:
            names[part.module] = names.get(part.module, ()) + part.names
    return tuple(Part(module, found) for module, found in names.items())


STEPS: tuple[Step, ...] = (
    *WRITTEN,
    Step(
        title="all together: your own core trains",
        parts=everything(),
        scenarios=(own.training,),
        hints=(
            "Every step was right alone, with all others minunet's. Which two of your functions rely on each other?",
            "Something that the checks do not ask, and you may have left out: the attributes of Tensor and Node.",
        ),
    ),
)
MODULES = tuple(part.module for part in STEPS[-1].parts)

# What is there from the beginning: inputs looked at, places on a GPU, texts, one-line delegates.
GIVEN = {
    "minunet.autograd": (
        "Tensor.shape Tensor.dtype Tensor.numpy Tensor.item Tensor.retain_grad Tensor.__repr__ Tensor._repr_html_ "
        "Tensor.__add__ Tensor.__radd__ Tensor.__sub__ Tensor.__rsub__ Tensor.__mul__ Tensor.__rmul__ "
        "Tensor.__truediv__ Tensor.__rtruediv__ Tensor.__matmul__ Tensor.__rmatmul__ Tensor.__neg__ Tensor.sum "
        "Tensor.mean Tensor.reshape Node.__init__ check grad_enabled no_grad"
    ),
    "minunet.functional": (
        "batch_norm batch_norm_relu _counted_classes to_device total copy _kept _constant _data _operands _filled "
        "_in_one_place _array _like _divided"
    ),
    "minunet.kernels.resize.reference": "weights_of",
    "minunet.nn": (
        "undrawn Upsample.forward "
        "Module.forward Module.__call__ Module.__repr__ Module.eval Module.device Module.to Module.load_state_dict "
        "Module._set_arrays _is_array _misfit Sequential.__iter__ ModuleList.__getitem__ ModuleList.forward"
    ),
    "minunet.unet": (
        "UNet.__init__ UNet._halves UNet.__call__ UNet._checked UNet.levels UNet.dtype UNet.architecture "
        "UNet.__repr__ UNet._repr_html_ bottleneck_channels way_up _positive"
    ),
    "minunet.optim": "SGD.__init__ _clip_on_device",
}
