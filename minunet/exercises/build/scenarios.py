"""What is computed in the steps of the build, beside the scenarios of the thirty bugs.

Whatever the learner may choose freely (the order of a walk, the order in which weights are drawn) is not compared:
what is, is said in the name of the item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from minunet import functional as F
from minunet import nn, optim
from minunet.autograd import Node, Tensor, no_grad, record, topological
from minunet.data import cells, from_arrays
from minunet.demo import RECIPE
from minunet.exercises.scenarios import Item, numbers, operation
from minunet.training.recipe import Recipe, learning_rate
from minunet.training.train import Trainer
from minunet.unet import DoubleConv, UNet, legal_sides

DEPTH = 5000  # operations in a row: more than Python may recurse
TRAINED = 30  # steps
TOLERANCE = 1e-6  # of the losses of a training in float64, where roundings grow from step to step
SPREAD = 0.05  # of the standard deviation of a few thousand drawn numbers


def facts(tensor: str, case: str, *values: Any) -> Item:
    """Numbers, names or truths that must be the same."""
    words = np.empty(len(values), object)
    words[:] = [value if isinstance(value, str) else repr(value) for value in values]
    return Item(tensor, case, words, 0)


def refuses(case: str, error: type[Exception], call: Callable[[], Any]) -> Item:
    """Whether a call raises the error that its docstring promises."""
    try:
        call()
    except error:
        return facts(f"whether {error.__name__} is raised", case, True)
    return facts(f"whether {error.__name__} is raised", case, False)


# ------------------------------------------------------------------------------------------------ the graph


def tensors() -> Iterator[Item]:
    """What a Tensor makes of what it is given."""
    array = numbers(2, 3)
    for case, data in (("of a list", [[1, 2], [3, 4]]), ("of a Python number", 0.5), ("of NumPy's number",
                       np.float64(0.5)), ("of integers", np.arange(3)), ("of an array", array), ("of a Tensor",
                       Tensor(array))):  # fmt: skip
        t = Tensor(data)
        yield Item("data", case, t.data)
        yield facts("grad, node, remake and requires_grad", case, t.grad, t.node, t.remake, t.requires_grad)
    yield facts("whether the array is kept, not copied", "of an array", Tensor(array).data is array)
    yield refuses("integers that require a gradient", TypeError, lambda: Tensor(np.arange(3), requires_grad=True))


def records() -> Iterator[Item]:
    """What `record` leaves: nodes, edges, and VJPs that are called."""
    a, b = Tensor(numbers(2, 3), requires_grad=True), Tensor(numbers(2, 3, seed=1))

    def scaled(*inputs: Tensor, upstream: Any = None) -> Tensor:
        return record("scaled", 2.0 * inputs[0].data, inputs, [lambda g: 2.0 * g] * len(inputs), upstream)

    case = "y = 2 a, beside a tensor that requires no gradient"
    y = scaled(a, b)
    yield Item("output", case, y.data)
    yield facts("requires_grad", case, y.requires_grad)
    yield facts("number of edges, and whether they lead to a", case, *_edges(y, a))
    y.backward(numbers(2, 3, seed=2))
    yield Item("gradient of a", case, a.grad)
    y = scaled(scaled(a), upstream=lambda g: 3.0 * g)
    case = "y = 2 (2 a), three times in `upstream`"
    yield facts("type of the node that the edge leads to", case, type(_edges_of(y)[0][0]).__name__)
    a.grad = None
    y.backward(np.ones((2, 3)))
    yield Item("gradient of a", case, a.grad)
    for case, y in (("no input requires a gradient", scaled(b)), ("inside no_grad", _quietly(lambda: scaled(a)))):
        yield facts("node and requires_grad", case, y.node, y.requires_grad)


def _quietly(call: Callable[[], Tensor]) -> Tensor:
    with no_grad():
        return call()


def _edges_of(y: Tensor) -> list:
    return y.node.edges if y.node is not None else []


def _edges(y: Tensor, leaf: Tensor) -> tuple:
    return len(_edges_of(y)), all(parent is leaf for parent, _ in _edges_of(y))


def orders() -> Iterator[Item]:
    """Any order will do in which all nodes and leaves stand once, inputs before what uses them."""
    a, b = Tensor(numbers(2), requires_grad=True), Tensor(numbers(2, seed=1), requires_grad=True)
    for case, y in _graphs(a, b):
        assert y.node is not None
        order = topological(y.node)
        place = {id(node): k for k, node in enumerate(order)}
        yield facts("number of nodes and leaves", case, len(order), len(place))
        wrong = [
            f"{getattr(parent, 'name', 'a leaf')} comes after {node.name}"
            for node in order
            if isinstance(node, Node)
            for parent, _ in node.edges
            if place.get(id(parent), len(order)) > place[id(node)]
        ]
        yield facts("what stands after its user", case, *wrong[:3])
        y.node = None  # the graph goes before the next one is made
    y = a * b
    y.backward(np.ones(2))
    yield refuses("a graph that backward() has freed", RuntimeError, lambda: topological(y.node))  # type: ignore[arg-type]


def _graphs(a: Tensor, b: Tensor) -> Iterator[tuple[str, Tensor]]:
    yield "y = a b", a * b
    yield "y = a a", a * a
    s = a * b
    yield "y = s b + s, s = a b", s * b + s
    yield "y = s + s b, s = a b", s + s * b
    for _ in range(4):
        s = s + s * (b + s)
    yield "four times s = s + s (b + s)", s
    for _ in range(DEPTH):
        s = s * b
    yield f"{DEPTH} products in a row", s


def backward_calls() -> Iterator[Item]:
    """What else is promised of backward()."""
    x = Tensor(numbers(2, 3), requires_grad=True)
    y = x * 2
    y.retain_grad()
    (y * y).sum().backward()
    yield Item("y.grad", "y = 2 x, kept by retain_grad", y.grad)
    loss = (x * x).sum()
    loss.backward()
    yield refuses("backward() a second time", RuntimeError, loss.backward)
    yield refuses("backward() of an array, without grad", ValueError, (x * x).backward)
    yield refuses("a grad of another shape", ValueError, lambda: (x * x).backward(np.ones(3)))
    yield refuses("nothing requires a gradient", RuntimeError, Tensor([1.0]).backward)
    s = x
    for _ in range(DEPTH):
        s = s * 1.0
    s.sum().backward()
    yield Item("x.grad", f"after {DEPTH} products in a row, added to what was there", x.grad)


# ------------------------------------------------------------------------------------------- the operations


def arithmetic() -> Iterator[Item]:
    shapes = (((2, 3), (2, 3)), ((3, 1), (1, 5)), ((2, 3, 5), (5,)), ((), (2, 3)))
    for name, (a, b) in product(("add", "subtract", "multiply", "divide"), shapes):
        inputs = dict(a=numbers(*a), b=numbers(*b, seed=1) + 4)
        yield from operation(f"{name}, {a} and {b}", lambda a, b, name=name: getattr(F, name)(a, b), inputs)
    yield from operation("negative", lambda a: F.negative(a), dict(a=numbers(2, 3)))
    yield from operation("2 - 3 / (a + 4)", lambda a: 2 - 3 / (a + 4), dict(a=numbers(2, 3)))


def products_and_sums() -> Iterator[Item]:
    for a, b in (((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((2, 1, 2, 3), (4, 3, 2))):
        yield from operation(f"matmul, {a} and {b}", lambda a, b: F.matmul(a, b), dict(a=numbers(*a), b=numbers(*b)))
    yield refuses("matmul of (2, 3) and (2, 3)", ValueError, lambda: F.matmul(numbers(2, 3), numbers(2, 3)))
    for name, axis, keepdims in product(("sum", "mean"), (None, 1, (0, 2)), (False, True)):
        case = f"{name}, axis={axis}, keepdims={keepdims}"
        fn = lambda a, n=name, x=axis, k=keepdims: getattr(F, n)(a, x, k)  # noqa: E731
        yield from operation(case, fn, dict(a=numbers(2, 3, 4)))
    for shape in ((4, 6), (-1,)):
        yield from operation(f"reshape, {shape}", lambda a, s=shape: F.reshape(a, s), dict(a=numbers(2, 3, 4)))
        yield from operation(f"reshape, *{shape}", lambda a, s=shape: F.reshape(a, *s), dict(a=numbers(2, 3, 4)))


def rectifiers() -> Iterator[Item]:
    yield from operation("relu", lambda x: F.relu(x), dict(x=numbers(2, 3, 4, 5)))
    yield refuses("dropout, p=1", ValueError, lambda: F.dropout(numbers(2), 1.0, np.random.default_rng(0)))


def rectified_convolutions() -> Iterator[Item]:
    inputs = dict(x=numbers(2, 2, 4, 5), weight=numbers(3, 2, 3, 3), bias=numbers(3))
    for padding in (0, 1):
        fn = lambda x, w, b, p=padding: F.conv2d_relu(x, w, b, padding=p)  # noqa: E731
        yield from operation(f"conv2d_relu, padding {padding}", fn, inputs)
    del inputs["bias"]
    yield from operation("conv2d without bias", lambda x, w: F.conv2d(x, w), inputs)


def pools() -> Iterator[Item]:
    for k, size in ((2, (4, 6)), (2, (5, 7)), (3, (7, 6))):
        case = f"max_pool2d, kernel_size={k}, {size[0]} x {size[1]} px"
        yield from operation(case, lambda x, k=k: F.max_pool2d(x, k), dict(x=numbers(2, 3, *size)))


def up_convolutions() -> Iterator[Item]:
    for stride in (1, 2, 3):
        inputs = dict(x=numbers(2, 3, 2, 4), weight=numbers(3, 2, stride, stride), bias=numbers(2))
        fn = lambda x, w, b, s=stride: F.conv_transpose2d(x, w, b, stride=s)  # noqa: E731
        yield from operation(f"conv_transpose2d, stride {stride}", fn, inputs)
    yield refuses("a kernel that is not its stride", ValueError,
                  lambda: F.conv_transpose2d(numbers(1, 1, 2, 2), numbers(1, 1, 3, 3)))  # fmt: skip


def resizes() -> Iterator[Item]:
    for corners in (False, True):
        for size in ((6, 8), (4, 5), (2, 7)):
            case = f"resize, 3 x 4 to {size[0]} x {size[1]} px, align_corners={corners}"
            fn = lambda x, s=size, c=corners: F.resize(x, s, align_corners=c)  # noqa: E731
            yield from operation(case, fn, dict(x=numbers(2, 2, 3, 4)))


def probabilities() -> Iterator[Item]:
    for name in ("softmax", "sigmoid"):
        yield from operation(name, lambda x, n=name: getattr(F, n)(x), dict(x=numbers(2, 3, 2, 4)))
        large = np.array([-1000.0, 0.0, 1000.0]).reshape(1, 3, 1, 1)
        yield Item("output", f"{name} of -1000, 0 and 1000", getattr(F, name)(large).data)


def dice_losses() -> Iterator[Item]:
    classes, shares = np.arange(40).reshape(2, 4, 5) % 3, np.arange(40).reshape(2, 1, 4, 5) % 4 / 3
    yield from operation("dice_loss, 3 classes", lambda z: F.dice_loss(z, classes), dict(logits=numbers(2, 3, 4, 5)))
    yield from operation("dice_loss, one logit", lambda z: F.dice_loss(z, shares), dict(logits=numbers(2, 1, 4, 5)))


# --------------------------------------------------------------------------------------- modules, the network


def filled(module: Any, seed: int = 1) -> Any:
    """The module with numbers that do not depend on the order in which weights were drawn, fit to train with."""
    for name, array in module.state_dict().items():
        if array.ndim > 1:
            array[...] = numbers(*array.shape, seed=seed) * np.sqrt(2 / prod(array.shape[1:]))
        elif array.ndim == 1:
            around = 1 if name.endswith(("weight", "var")) else 0
            array[...] = around + 0.1 * numbers(*array.shape, seed=seed)
    return module


def _tree() -> nn.Sequential:
    rng = np.random.default_rng(0)
    inner = nn.Sequential(nn.ConvTranspose2d(3, 2, 2, rng=rng), nn.Dropout(0.5, rng=rng))
    return nn.Sequential(nn.Conv2d(1, 3, 3, rng=rng), nn.BatchNorm2d(3), nn.ReLU(), inner)


def module_trees() -> Iterator[Item]:
    """Names, in order, and what is done to all modules of a tree."""
    case, tree = "Sequential(Conv2d, BatchNorm2d, ReLU, Sequential(ConvTranspose2d, Dropout))", _tree()
    yield facts("modules()", case, *(type(m).__name__ for m in tree.modules()))
    yield facts("names of named_arrays()", case, *(name for name, _ in tree.named_arrays()))
    yield facts("names of named_parameters()", case, *(name for name, _ in tree.named_parameters()))
    yield facts("shapes of parameters()", case, *(p.shape for p in tree.parameters()))
    state = tree.state_dict()
    yield facts("names in state_dict()", case, *state)
    yield facts("types in state_dict()", case, *(type(array).__name__ for array in state.values()))
    for mode in (False, True):
        returned = tree.train(mode)
        yield facts("training of all modules", f"after train({mode})", *(m.training for m in tree.modules()))
        yield facts("whether train() returns the module", case, returned is tree)
    for parameter in tree.parameters():
        parameter.grad = np.ones(parameter.shape, np.float32)
    tree.zero_grad()
    yield facts("gradients", "after zero_grad()", *(p.grad for p in tree.parameters()))


def layers() -> Iterator[Item]:
    """Shapes and spread of fresh weights, and what each layer computes."""
    rng, x = np.random.default_rng(0), numbers(2, 16, 6, 5)
    drawn = nn.normal(rng, (40, 50), 8, np.float32)
    yield facts("shape, dtype, requires_grad", "normal", drawn.shape, str(drawn.dtype), drawn.requires_grad)
    yield Item("standard deviation", "normal, 2000 numbers, 8 incoming", np.array(drawn.data.std()), SPREAD)
    norm: Any = nn.BatchNorm2d(24, dtype=np.float64)
    for case, layer, incoming in (
        ("Conv2d(16, 24, 3, padding=1)", nn.Conv2d(16, 24, 3, 1, rng=rng, dtype=np.float64), 144),
        ("Conv2d without bias", nn.Conv2d(16, 24, 3, bias=False, rng=rng, dtype=np.float64), 144),
        ("ConvTranspose2d(16, 24, 2)", nn.ConvTranspose2d(16, 24, 2, rng=rng, dtype=np.float64), 16),
    ):
        yield facts("names and shapes", case, *((n, p.shape, str(p.dtype)) for n, p in layer.named_parameters()))
        spread = layer.weight.data.std() * np.sqrt(incoming / 2)
        yield Item("standard deviation times sqrt(incoming / 2)", case, np.array(spread), SPREAD)
        layer = filled(layer)
        yield Item("output", case, layer(x).data)
        if isinstance(layer, nn.Conv2d):
            yield Item("output", f"{case}, relu=True", layer(x, relu=True).data)
            for name, tensor in zip(("weight", "bias"), layer.folded(filled(norm)), strict=True):
                yield Item(f"folded {name}", case, tensor.data)
            with no_grad():
                yield Item("output", f"{case}, norm in it", layer(x, norm=norm).data)
    x = numbers(2, 24, 3, 4)
    for case, options in (("BatchNorm2d", {}), ("BatchNorm2d, relu=True", {"relu": True})):
        yield Item("output", case, norm(x, **options).data)
        yield Item("running_mean", case, norm.running_mean.copy())
        yield Item("num_batches_tracked", case, norm.num_batches_tracked.copy())
        yield Item("output", f"{case}, evaluation", norm.eval()(x, **options).data)
        norm.train()
    dropout = nn.Dropout(0.5, rng=np.random.default_rng(3))
    yield Item("output", "Dropout", dropout(x).data)
    yield Item("output", "Dropout, evaluation", dropout.eval()(x).data)
    yield Item("output", "Sequential(ReLU, BatchNorm2d)", nn.Sequential(nn.ReLU(), norm)(x).data)


def networks() -> Iterator[Item]:
    """State dicts, logits and gradients of all forms of the network."""
    rng = np.random.default_rng(0)
    for norm in (None, "batch"):
        double: Any = DoubleConv(2, 3, 1, norm, 0.0, rng, np.float64)
        case = f"DoubleConv(2, 3), norm={norm}"
        yield facts("layers", case, *(type(layer).__name__ for layer in double.conv))
        yield Item("output", case, filled(double)(numbers(2, 2, 5, 4)).data)
    for case, size, options in (
        ("padding 'same', no norm, 8 x 8 px", (8, 8), dict(padding="same")),
        ("padding 'same', batch norm, 9 x 11 px", (9, 11), dict(padding="same", norm="batch")),
        ("padding 'same', dropout, 8 x 8 px", (8, 8), dict(padding="same", dropout=0.5)),
        ("padding 'valid', no norm, 20 x 20 px", (20, 20), dict(padding="valid")),
        ("two levels, padded skips, 11 x 14 px", (11, 14), dict(padding="same", features=(2, 3), skip_fit="pad")),
    ):  # fmt: skip
        features: Any = options.pop("features", (2,))
        model = UNet(1, 2, features=features, dtype=np.float64, **options)  # type: ignore[arg-type]
        yield facts("names and shapes", case, *((name, a.shape) for name, a in model.state_dict().items()))
        filled(model).eval()
        with no_grad():
            yield Item("logits", f"{case}, evaluation", model(numbers(2, 1, *size, seed=3)).data)
        model.train(not options.get("dropout"))  # what is dropped depends on what was drawn before
        logits = model(numbers(2, 1, *size))
        yield Item("logits", case, logits.data)
        logits.backward(numbers(*logits.shape, seed=2))
        for name, parameter in model.named_parameters():
            yield Item(f"gradient of {name}", case, parameter.grad)


def sizes() -> Iterator[Item]:
    """Which sizes fit, and what comes out."""
    for levels, side in product((1, 2, 4), (1, 20, 44, 45, 188, 572)):
        yield facts("legal_sides", f"side {side}, {levels} levels", *legal_sides(side, levels))
    paper, same = UNet(features=(1, 1, 1, 1)), UNet(features=(1, 1), padding="same")
    yield facts("output_size", "four levels, 'valid', 572 x 700", *paper.output_size((572, 700)))
    yield facts("output_size", "two levels, 'same', 5 x 9", *same.output_size((5, 9)))
    yield refuses("four levels, 'valid', 571 x 572", ValueError, lambda: paper.output_size((571, 572)))
    yield refuses("two levels, 'same', 3 x 9", ValueError, lambda: same.output_size((3, 9)))


# ------------------------------------------------------------------------------------------------- the step


def odd_parameters() -> Iterator[Item]:
    """A parameter in another memory order, one without a gradient, and forgetting."""
    turned, still = Tensor(numbers(3, 2).T, requires_grad=True), Tensor(numbers(2), requires_grad=True)
    array = turned.data
    optimizer = optim.SGD([turned, still], lr=0.1, momentum=0.9)
    for step in (1, 2):
        turned.grad = numbers(2, 3, seed=step)
        optimizer.step()
        yield Item("parameters[0]", f"an array that is not in C order, after step {step}", turned.data.copy())
    yield facts("whether it is moved in place", "an array that is not in C order", turned.data is array)
    yield Item("parameters[1]", "without a gradient", still.data)
    optimizer.zero_grad()
    yield facts("gradients", "after zero_grad()", turned.grad, still.grad)


def training() -> Iterator[Item]:
    """The demo in small: cells of 64 px, two levels, its recipe; the loss of each step."""
    dataset = from_arrays(*cells(8, size=64, seed=0), target="instances")
    model = filled(UNet(1, 2, features=(4, 8), padding="same", norm="batch", dtype=np.float64))
    recipe = Recipe(seed=0, **{**RECIPE, "crop": 32})
    trainer = Trainer(model, dataset, None, recipe)
    for step in range(TRAINED):
        loss = trainer.step(step, learning_rate(recipe, step, TRAINED))
        yield Item("loss", f"step {step + 1} of {TRAINED}", np.array(loss), TOLERANCE)
    model.eval()
    with no_grad():
        yield Item("logits", "after the training", model(np.asarray(dataset.images[0])[None]).data, TOLERANCE)
