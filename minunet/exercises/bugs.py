"""The list: thirty operations, each with one fault.

A fault is a patch of the installed source, `old` -> `new`, where `old` stands exactly once in the operation; tests
apply all of them, so that none goes stale.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import scenarios as s


@dataclass(frozen=True)
class Exercise:
    """One operation with a fault in it.

    module, name: where the operation is; a method as "Class.method".
    old, new: the patch.
    symptom: what was seen to go wrong, for the heading of the learner's file.
    told_by: what else in the module tells what the operation should do: a name, "" for the module's own docstring.
    scenarios: what is computed with it, in this order.
    tensor: the first tensor that comes out wrong, as the scenarios name it.
    hints: two, the second says more.
    explanation: of the fault, shown with the solution.
    loss_falls: whether the loss of a tiny network falls over 50 steps all the same.
    """

    module: str
    name: str
    old: str
    new: str
    symptom: str
    scenarios: tuple[s.Scenario, ...]
    tensor: str
    hints: tuple[str, str]
    explanation: str
    told_by: str | None = None
    loss_falls: bool = False

    @property
    def number(self) -> int:
        """Its place in the list, from 1."""
        return EXERCISES.index(self) + 1

    @property
    def function(self) -> str:
        """What is called in the learner's file: "step" for the method "SGD.step"."""
        return self.name.rpartition(".")[2]

    @property
    def label(self) -> str:
        """How the operation is spoken of: that of a kernel with its room, "relu.backward"."""
        return f"{self.module.split('.')[-2]}.{self.name}" if self.module.startswith("minunet.kernels.") else self.name

    @property
    def file(self) -> str:
        """The file of the repository that the operation stands in, as its readers know it."""
        return self.module.replace("minunet.kernels.", "kernels.").replace(".", "/") + ".py"

    @property
    def learners_file(self) -> str:
        """Name of the learner's file, "29_SGD_step.py"."""
        return f"{self.number:02}_{self.label.replace('.', '_').strip('_')}.py"


EXERCISES: tuple[Exercise, ...] = (
    # ------------------------------------------------------------------------------- the step and the outputs
    Exercise(
        module="minunet.functional",
        name="binary_cross_entropy_with_logits",
        old="g * factor * (_sigmoid(x) - t)",
        new="g * factor * (t - _sigmoid(x))",
        symptom="Training makes the loss larger in every step.",
        scenarios=(s.binary_cross_entropies,),
        tensor="gradient of logits",
        hints=(
            "The loss itself is right. Which way does a step along minus the gradient go?",
            "Take one pixel with x = 0 and t = 1: to raise x must lower the loss, so dl/dx has to be negative there.",
        ),
        explanation="dl/dx = s(x) - t: where the network says less than the target, the derivative is negative, and a "
        "step along minus the gradient raises x. With the sign turned the optimizer climbs.",
    ),
    Exercise(
        module="minunet.functional",
        name="multiply",
        old="_broadcast_back(g * x, y.shape)",
        new="g * x",
        symptom='backward() of "(N, C, H, W) times a scale for each channel" ends with an error: "multiply: gradient '
        'must be an array of shape ...". Factors of one shape are fine.',
        scenarios=(s.products,),
        tensor="backward()",
        hints=(
            "What happened to the smaller factor on the way forward, where shapes differ?",
            "An input that was repeated gets the sum of the gradients of its copies. Compare the two VJPs.",
        ),
        explanation="Broadcasting is a copy along an axis, and the adjoint of a copy is a sum. g b and g a have the "
        "shape of y; `_broadcast_back` sums them down to the shape of the input, and one of them was without it.",
    ),
    Exercise(
        module="minunet.kernels.sgd.reference",
        name="update",
        old="if nesterov else",
        new="if not nesterov else",
        symptom="Trains well. But SGD(nesterov=True) gives the losses that another library gives without Nesterov, and "
        "the other way round.",
        scenarios=(s.kernel("sgd"),),
        tensor="update: out_parameter",
        hints=(
            "The velocity is right in every case. What is made of it?",
            "Which of the two steps looks ahead, by the momentum times the velocity that it has just computed?",
        ),
        explanation="Plain momentum steps along v, Nesterov's form along g + momentum v. The two were exchanged; both "
        "descend, so no loss curve shows it.",
        told_by="",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.kernels.relu.reference",
        name="backward",
        old="np.where(y <= 0, 0, grad)",
        new="np.where(y < 0, 0, grad)",
        symptom="The loss falls. Neurons that are off for every image keep being moved, by gradients that they should "
        "not get.",
        scenarios=(s.kernel("relu"),),
        tensor="backward: out",
        hints=(
            "y is not x. Which values can it have?",
            "y = max(x, 0) is never below 0. What is it where the rectifier is closed?",
        ),
        explanation="y = relu(x) is 0 wherever x <= 0 and never negative, so `y < 0` is never true and the gradient "
        "passed everywhere, as if there were no rectifier on the way back. Zero must close the gate.",
        told_by="",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="dropout",
        old="scale = x.data.dtype.type(1 / (1 - p))",
        new="scale = x.data.dtype.type(1)",
        symptom="The loss falls in training. In evaluation, where nothing is dropped, the activations behind it are "
        "larger than any the network was trained on.",
        scenarios=(s.dropouts,),
        tensor="output",
        hints=(
            "What is the mean of y over many draws, if x = 1?",
            "A share p of the numbers becomes 0. What must be done to the rest for the mean to stay?",
        ),
        explanation="Inverted dropout divides what is kept by 1 - p, so that the mean over draws is x and evaluation "
        "needs no dropout at all. Without it training and evaluation see inputs of different size.",
        loss_falls=True,
    ),
    # ------------------------------------------------------------------------------------------- the network
    Exercise(
        module="minunet.unet",
        name="UNet.forward",
        old="F.concat([skip, x])",
        new="F.concat([skip.data, x])",
        symptom="Outlines stay blurred although the loss falls. The logits are right to the last bit.",
        scenarios=(s.networks,),
        tensor="gradient of downs.0.conv.0.weight",
        hints=(
            "Every value is right, so look at what is a Tensor and what is an array.",
            "Two ways lead from the loss to the first level: through the bottleneck and through the skip. Is a graph "
            "recorded on both?",
        ),
        explanation="An array has no history: `skip.data` hands over the numbers and cuts the graph, so that no "
        "gradient goes through the skip. The encoder still learns through the bottleneck, more slowly, and the loss "
        "falls.",
        told_by="UNet",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.unet",
        name="DoubleConv.forward",
        old="layer(x, relu=True, **(",
        new="layer(x, relu=bool(layers), **(",
        symptom="The loss falls. But what goes over the skips has negative numbers in it.",
        scenarios=(s.networks,),
        tensor="logits",
        hints=(
            "How many rectifiers does the docstring promise, and how many are run?",
            "`layers` is what is still to be done. When is it empty?",
        ),
        explanation="A layer that a ReLU follows is asked to rectify its own output, and the ReLU is struck off the "
        "list. For the last pair the list is then empty, `bool(layers)` is False, and nobody rectified. One "
        "nonlinearity fewer still learns.",
        told_by="DoubleConv",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.unet",
        name="UNet.forward",
        old="F.concat([skip, x])",
        new="F.concat([x, skip])",
        symptom="Trained from scratch it is as good as ever. Weights that were trained elsewhere, of the same names "
        "and shapes, give nonsense.",
        scenarios=(s.networks,),
        tensor="logits",
        hints=(
            "A network that learns with it would not notice. Which convention could other weights rely on?",
            "Which half of the channels comes from the skip? The comments of the function say it.",
        ),
        explanation="The first half of the channels is the skip's, the rest the up-convolution's. Exchanged, the next "
        "convolution learns the other order just as well; but a state dict means the first order, so loaded weights "
        "meet the wrong pictures.",
        told_by="UNet",
        loss_falls=True,
    ),
    # -------------------------------------------------------------------------------------------- the losses
    Exercise(
        module="minunet.functional",
        name="_counted_classes",
        old="classes[ignored] = -1",
        new="classes[ignored] = 0",
        symptom="The loss falls. Regions that are marked as unknown, by ignore_index, come out as background.",
        scenarios=(s.cross_entropies,),
        tensor="output",
        hints=(
            "What does the caller take for a pixel that does not count?",
            "The docstring names the number that stands for it. 0 is a class.",
        ),
        explanation="A pixel that is ignored is handed on as -1, which the kernel leaves out; as 0 it is a pixel of "
        "class 0, counted in the sum and in the divisor. The network learns background where nothing was known.",
        told_by="cross_entropy",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="cross_entropy",
        old='divisor = {"mean": factor.sum(), ',
        new='divisor = {"mean": counted.sum(dtype=z.dtype), ',
        symptom="The loss falls. With class weights it is not the number that another library prints, and to double "
        "all class weights doubles the step.",
        scenarios=(s.cross_entropies,),
        tensor="output",
        hints=(
            "Without class weights all is right. By what is the sum divided?",
            "A weighted mean is sum(c l) / sum(c).",
        ),
        explanation="The mean is weighted: sum c[y] l / sum c[y], so that a common factor of all class weights changes "
        "nothing. Divided by the number of pixels, class weights also change the size of every step.",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="cross_entropy",
        old="np.broadcast_to(g, factor.shape) * factor, z, classes)",
        new="np.broadcast_to(g, factor.shape) * _divided(factor, divisor), z, classes)",
        symptom="The loss that is printed is right. It hardly moves, and the more pixels an image has the less; with "
        'reduction="sum" all is well.',
        scenarios=(s.cross_entropies,),
        tensor="gradient of logits",
        hints=(
            "How does the gradient depend on the number of pixels, and how should it?",
            "Has `factor` been divided already when `backward` takes it?",
        ),
        explanation="`factor` is w c[y] / divisor by then: the mean's divisor is in it. Divided once more, the "
        "gradient is smaller by the number of pixels, and a learning rate that was right does nothing.",
    ),
    Exercise(
        module="minunet.kernels.cross_entropy.reference",
        name="forward",
        old="""log_sum = np.log(np.exp(logits - top).sum(axis=1))
    counted = target >= 0
    chosen = np.take_along_axis(logits, np.where(counted, target, 0)[:, None], axis=1)[:, 0]
    out[...] = np.where(counted, log_sum + (top[:, 0] - chosen), 0)""",
        new="""log_sum = np.log(np.exp(logits).sum(axis=1))
    counted = target >= 0
    chosen = np.take_along_axis(logits, np.where(counted, target, 0)[:, None], axis=1)[:, 0]
    out[...] = np.where(counted, log_sum - chosen, 0)""",
        symptom="The loss falls for hours, then is inf or NaN from one step to the next.",
        scenarios=(s.kernel("cross_entropy", s.large_logits),),
        tensor="forward: out",
        hints=(
            "Which logits does it fail for? Try large ones.",
            "exp(89) is more than float32 can hold. log sum exp(z) = t + log sum exp(z - t) for any t.",
        ),
        explanation="log sum exp(z) = t + log sum exp(z - t) for any t. With the largest logit as t no exponential is "
        "above 1 and the sum is at least 1: neither overflow nor log 0. Without it float32 ends at logits of 89.",
        told_by="",
        loss_falls=True,
    ),
    # ---------------------------------------------------------------------------------------- what is between
    Exercise(
        module="minunet.kernels.max_pool2d.reference",
        name="forward",
        old="wins = ~(value <= out) & (out == out)",
        new="wins = ~(value < out) & (out == out)",
        symptom="The output is right. In flat regions the gradient goes to another pixel of the window than it does in "
        "other libraries.",
        scenarios=(s.kernel("max_pool2d"),),
        tensor="forward: argmax",
        hints=(
            "Flat regions have equal values. Which of them counts?",
            "Of equal values the first in reading order wins: a later one must be larger, not as large.",
        ),
        explanation="`~(value < out)` is true also for a value that is as large, so the last of equal values won. The "
        "output is the same, but the gradient goes to another pixel. Flat regions are full of ties.",
        told_by="",
    ),
    Exercise(
        module="minunet.kernels.max_pool2d.reference",
        name="forward",
        old="wins = ~(value <= out) & (out == out)",
        new="wins = value > out",
        symptom="Training on clean numbers is right to the bit. Where an image has a NaN in it, the gradient goes to a "
        "healthy pixel beside it.",
        scenarios=(s.kernel("max_pool2d", s.windows_with_nan),),
        tensor="forward: argmax",
        hints=(
            "Every comparison with NaN is false. Go through a window of 1, NaN, 3, 2.",
            "NaN has to win over what was there, and nothing may win over NaN: not(a <= b) is not a > b.",
        ),
        explanation="NaN > x is False, so a NaN never took the place, although np.maximum put it into the output; "
        "value and place then told different stories. `~(value <= out)` is true for NaN, and `out == out` is false "
        "once one is there.",
        told_by="",
    ),
    Exercise(
        module="minunet.kernels.batch_norm.reference",
        name="statistics",
        old="channel_sums(np.square(x - per_channel(mean))) / m",
        new="channel_sums(np.square(x - per_channel(mean))) / (m - 1)",
        symptom="The loss falls. A channel that has been normalised has a variance a little below 1, the more so the "
        "smaller the batch.",
        scenarios=(s.kernel("batch_norm"),),
        tensor="statistics: variance",
        hints=(
            "What is the variance of y, computed as the mean of its squares?",
            "There are two estimates of a variance; the docstring says which.",
        ),
        explanation="Batch norm divides by the biased variance, sum (x - mean)^2 / m: it describes the batch itself. "
        "The one with m - 1 estimates that of all images, and belongs into the running estimate alone.",
        told_by="",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="_batch_norm",
        old="device.beside(var, running_var) * (m / (m - 1)) - running_var",
        new="device.beside(var, running_var) - running_var",
        symptom="Training is right to the bit. In evaluation the outputs are a little too large, at the bottleneck of "
        "small images most.",
        scenarios=(s.batch_norms,),
        tensor="running_var",
        hints=(
            "What does evaluation use that training does not?",
            "The variance of a few numbers about their own mean is too small on average, by (m - 1) / m.",
        ),
        explanation="The running estimate stands for the variance over all images, which the biased variance of a "
        "batch underestimates by (m - 1) / m; hence the factor m / (m - 1). At a bottleneck of 2 x 2 px m is small.",
        told_by="batch_norm",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="_batch_norm",
        old="running_mean += momentum *",
        new="running_mean = running_mean + momentum *",
        symptom="Training is right to the bit. In evaluation the network answers as if it had hardly been trained.",
        scenarios=(s.batch_norms,),
        tensor="running_mean",
        hints=(
            "Who sees the new estimate, when the function has returned?",
            "`a += b` writes into an array, `a = a + b` makes another one and gives it the name.",
        ),
        explanation="`running_mean += ...` changes the module's array in place. `running_mean = running_mean + ...` "
        "binds the local name to a new array, and the module's stays as it was: zeros, for ever.",
        told_by="batch_norm",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="_batch_norm",
        old="plain / m, with_xhat / m)",
        new="plain / m, 0 * with_xhat)",
        symptom="The loss falls. Numeric gradients agree with weight and bias and differ for everything before the "
        "norm.",
        scenarios=(s.batch_norms,),
        tensor="gradient of x",
        hints=(
            "What does a change of one x move, apart from its own xhat?",
            "It moves the batch's mean and the batch's variance: two terms in the docstring's last formula.",
        ),
        explanation="dL/dx = weight r (g - mean(g) - xhat mean(g xhat)): the second term is what x does through the "
        "batch's mean, the third through its variance. The third was missing, as if the variance were a constant.",
        told_by="batch_norm",
        loss_falls=True,
    ),
    # ------------------------------------------------------------------------------------- crop, pad, concat
    Exercise(
        module="minunet.functional",
        name="_margin",
        old="(outer[0] - inner[0]) // 2, (outer[1]",
        new="(outer[0] - inner[0] + 1) // 2, (outer[1]",
        symptom='The loss falls. With skip_fit="pad" and images of odd height the masks lie a pixel too low in the '
        "upper levels.",
        scenarios=(s.crops_and_pads,),
        tensor="gradient of x",
        hints=(
            "Even margins are right. Where does the extra pixel of an odd one go?",
            "Rows and columns are treated alike: compare the two halves of the line.",
        ),
        explanation="An odd margin has its extra pixel at the bottom and at the right, so the upper part is margin // "
        "2, rounded down. Rounded up, rows moved by one, and only where the margin is odd: sizes of 2^k never show it.",
        told_by="center_pad",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.functional",
        name="concat",
        old="pairwise(ends)]",
        new="reversed(list(pairwise(ends)))]",
        symptom="The loss falls, more slowly than it should. Where both inputs have as many channels there is no "
        "error.",
        scenarios=(s.concats,),
        tensor="gradient of tensors[0]",
        hints=(
            "The output is right. Which channels of g does the first input get?",
            "VJPs are handed over in the order of the inputs.",
        ),
        explanation="The first VJP belongs to the first input, and so must take the first channels of g. In reverse, "
        "skip and up path got each other's gradients; in a U-Net both have as many channels, so nothing complained.",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.kernels.resize.reference",
        name="axis_weights",
        old="(np.arange(size_out).astype(dtype) + half) * scale - half",
        new="np.arange(size_out).astype(dtype) * scale",
        symptom="The loss falls. Enlarged pictures are shifted up and to the left, by half a pixel at most.",
        scenarios=(s.kernel("resize"),),
        tensor="forward: out",
        hints=(
            "Enlarge a picture of 2 px to 4 px by hand: where do the four lie among the two?",
            "A pixel is an area; its centre is at h + 1/2.",
        ),
        explanation="Centres are what is mapped: pixel h has its centre at h + 1/2, which is (h + 1/2) in / out in the "
        "source, whose pixel indices are 1/2 less. Without the halves corners are mapped, and the picture moves.",
        told_by="",
        loss_falls=True,
    ),
    # ----------------------------------------------------------------------------------------- convolutions
    Exercise(
        module="minunet.functional",
        name="_with_bias",
        old="kernels.channel_sums(g)",
        new="g[0].sum(axis=(1, 2))",
        symptom="Right with one image a step. With several the loss falls, but biases learn from one image alone.",
        scenarios=(s.convolutions,),
        tensor="gradient of bias",
        hints=(
            "Which numbers of y does one number of the bias go into?",
            "bias[o] is added at every n, h and w. Which axis is not summed?",
        ),
        explanation="A bias is broadcast over images, rows and columns, so its gradient is the sum of g over N, H and "
        "W. `g[0]` took the first image of the batch; with N = 1 that is the same.",
        told_by="conv2d",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.kernels.conv2d.reference",
        name="backward_input",
        old="weight[:, :, i, j]",
        new="weight[:, :, kh - 1 - i, kw - 1 - j]",
        symptom="The loss falls. The last layer's gradients are right, those of the layers before it are not; kernels "
        "of 1 x 1 are fine.",
        scenarios=(s.kernel("conv2d"),),
        tensor="backward_input: out",
        hints=(
            "Through which tap was the pixel at (h + i, w + j) read by the output (h, w)?",
            "Turning the kernel belongs to the form that gathers. This one scatters: what was read through (i, j) "
            "goes back through (i, j).",
        ),
        explanation="Written as a correlation that gathers, backward needs the kernel turned by 180 degrees. Here "
        "every tap sends its share back to where it read, and the shift of the window does the turning; turned again, "
        "it is wrong.",
        told_by="",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.kernels.conv_transpose2d.reference",
        name="backward_input",
        old="grad[:, :, i::s, j::s]",
        new="grad[:, :, ::s, ::s]",
        symptom="The loss falls. The up-convolution's own weights have the right gradient, what lies below it has not.",
        scenarios=(s.kernel("conv_transpose2d"),),
        tensor="backward_input: out",
        hints=(
            "Which output pixels did x[h, w] paint, and which are read here?",
            "The patch has s x s pixels; as i and j run, all of them must be visited.",
        ),
        explanation="Every input pixel painted s x s output pixels, (s h + i, s w + j), and its gradient gathers all "
        "of them, each with its own weight. Without the offsets only the upper left pixel of every patch was read, "
        "s^2 times.",
        told_by="",
        loss_falls=True,
    ),
    # ------------------------------------------------------------------------------------------ the chain rule
    Exercise(
        module="minunet.autograd",
        name="walk",
        old="F.total(grads[id(parent)], share) if id(parent) in grads else share",
        new="share",
        symptom="The loss falls. A result that is used twice gets too small a gradient, but for the operations that "
        "use it all is right.",
        scenarios=(s.graphs, s.networks),
        tensor="gradient of a",
        hints=(
            "y = a a has two edges to a. What comes along each?",
            "The chain rule sums over all ways from the loss. What becomes of the share that came first?",
        ),
        explanation="dL/da is the sum over all uses of a. The dictionary kept the last share only, so the one through "
        "the skip, or the one through the bottleneck, was lost. Either alone points downhill well enough.",
        told_by="",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.autograd",
        name="walk",
        old="(F.copy(grad) if keeper.grad is None else F.total(keeper.grad, grad))[...]",
        new="(F.copy(grad))[...]",
        symptom="The loss falls. Gradients of four small batches, summed up before a step to stand for a large one, "
        "train like one small batch.",
        scenarios=(s.graphs, s.two_losses),
        tensor="x.grad",
        hints=(
            "Call backward() for two losses in turn, and look at .grad in between.",
            "The docstring of Tensor.backward says what happens to a gradient that is there already.",
        ),
        explanation="backward() adds to `.grad`, which is why there is a zero_grad. Overwritten, all but the last "
        "loss are forgotten: no error, and with one loss a step no difference.",
        told_by="Tensor.backward",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.autograd",
        name="walk",
        old="(F.copy(grad) if keeper.grad is None",
        new="(grad if keeper.grad is None",
        symptom="All gradients are right after backward(). Then one changes by itself, when the array that was given "
        'to backward() is used for something else; and clipping ends, now and then, with "output array is read-only".',
        scenarios=(s.graphs, s.two_losses, s.owned_gradients),
        tensor="x.grad",
        hints=(
            "y = x.reshape(...): whose memory is the array that its VJP returns?",
            "A VJP may return its input, or a view of it, even a read-only one. What does a leaf have to do before it "
            "keeps it?",
        ),
        explanation="A VJP may return a view of what it was given: reshape does, and sum returns one number spread out "
        "over a whole array, read-only. A leaf that keeps it without a copy shares its memory with others, and whoever "
        "changes one in place, as clipping does, changes all.",
        told_by="Tensor.backward",
    ),
    Exercise(
        module="minunet.autograd",
        name="topological",
        old="""stack.append((node, True))
            if isinstance(node, Node):
                if node.edges is None:
                    raise RuntimeError(f"backward() went through {node.name} before and freed it; run forward again")
                stack.extend((parent, False) for parent, _ in node.edges if id(parent) not in seen)""",
        new="""order.insert(0, node)
            if isinstance(node, Node):
                if node.edges is None:
                    raise RuntimeError(f"backward() went through {node.name} before and freed it; run forward again")
                stack.extend((parent, False) for parent, _ in reversed(node.edges) if id(parent) not in seen)""",
        symptom="The loss falls. Chains of operations are right; where ways of different length meet, as at a skip, "
        "part of the gradient is lost.",
        scenarios=(s.graphs, s.networks),
        tensor="gradient of a",
        hints=(
            "Draw y = s b + s, and write down the order in which `walk` takes the nodes.",
            "A node may be handed on only when all that use it are done: it has to be listed after its inputs are, "
            "not when it is met.",
        ),
        explanation="A node has to wait until everything that uses it has sent its share. Listed when it is first "
        "met, a node can come before one of its users, hands on half its gradient, and what arrives later goes "
        "nowhere. Listed once its inputs are done, the order is topological.",
        loss_falls=True,
    ),
    # ------------------------------------------------------------------------------------------ the optimizer
    Exercise(
        module="minunet.optim",
        name="SGD.step",
        old="""self.velocities[k] = device.beside(velocity, parameter.data)  # where the parameter has been moved to
        self._update(parameter, parameter.grad, self.velocities[k])""",
        new="""velocity = device.beside(velocity, parameter.data)  # where the parameter has been moved to
        self._update(parameter, parameter.grad, velocity)""",
        symptom="The loss falls, and momentum=0.99 gives the curve of momentum=0.",
        scenarios=(s.steps,),
        tensor="parameters[0]",
        hints=(
            "The first step is right. What should the second one know of it?",
            "Where is the velocity kept between two calls?",
        ),
        explanation="The velocity has to live as long as the optimizer. Here it was never stored, so every step began "
        "with zeros and momentum times nothing: plain gradient descent, which also descends.",
        told_by="SGD",
        loss_falls=True,
    ),
    Exercise(
        module="minunet.optim",
        name="clip_grad_norm",
        old="math.sqrt(sum(float(kernels.sgd.square_sum(g.ravel())) for g in gradients))",
        new="sum(math.sqrt(float(kernels.sgd.square_sum(g.ravel()))) for g in gradients)",
        symptom="The loss falls, more slowly the more layers the network has: gradients are clipped that are short "
        "enough.",
        scenarios=(s.clipping,),
        tensor="norm (what is returned)",
        hints=(
            "What is the length of (3, 4), if each number is a parameter of its own?",
            "Of which numbers is the sum taken, of lengths or of squares?",
        ),
        explanation="The common norm is that of all gradients as one long vector: the root of the sum of all squares, "
        "5 for 3 and 4. The sum of the norms is 7, larger with every layer, so too much was clipped.",
        loss_falls=True,
    ),
)
