"""The chain rule over a graph of operations; the mathematics of each operation is in functional.py.

An operation that is run on tensors leaves a Node: the nodes its inputs came from, and for each of them a
function that maps the gradient of the output to the gradient of that input (a vector-Jacobian product, VJP).
`Tensor.backward` walks the nodes from the loss back to the leaves.
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .display import objects as display

Array = Any  # numpy.ndarray, or an array of another library with the same methods
VJP = Callable[[Array], Array]


class Tensor:
    """An array that remembers how it was computed.

    data: the array, `shape` and `dtype` are its own.  Lists and Python numbers become float32, arrays keep their dtype.
    requires_grad: whether backward() leaves a gradient in `.grad`; needs a floating dtype, else TypeError.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "remake", "requires_grad")
    __array_priority__ = 1000  # array + tensor is left to Tensor.__radd__

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        data = data.data if isinstance(data, Tensor) else data
        array = data if hasattr(data, "ndim") else np.asarray(data, np.float32)
        array = np.asarray(array) if isinstance(array, np.generic) else array  # NumPy's numbers become 0-d arrays
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only tensors of floating dtype can require gradients, found {array.dtype}")
        self.data: Array = array
        self.grad: Array | None = None
        self.node: Node | None = None
        self.remake: Callable[[], Array] | None = None  # computes `data` once more; set where that costs little
        self.requires_grad = requires_grad

    @property
    def shape(self) -> tuple[int, ...]: return self.data.shape  # fmt: skip
    @property
    def dtype(self) -> np.dtype: return self.data.dtype  # fmt: skip

    def numpy(self) -> Array:
        """The array itself, not a copy."""
        return self.data

    def item(self) -> float:
        """The value of a tensor of one element, as a Python number."""
        return self.data.item()

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate result in `.grad` too, at the next backward()."""
        if self.node:
            self.node.retain = weakref.ref(self)

    def backward(self, grad: Any = None) -> None:
        """Add the gradient of this tensor with respect to every leaf that requires one to that leaf's `.grad`.

        grad: gradient with respect to this tensor, of its shape and dtype; 1 for a scalar if not given.  The graph is
        freed on the way, so a second call raises RuntimeError.  Inputs and parameters must still be as they were on
        the way forward: an optimizer's step, or any change in place, in between gives wrong gradients unnoticed.
        """
        if not self.requires_grad:
            raise RuntimeError("backward() on a tensor that does not depend on anything that requires a gradient")
        if grad is None and self.data.size != 1:
            raise ValueError(f"backward() on a tensor of shape {self.shape} needs `grad`, an array of that shape")
        grad = np.ones_like(self.data) if grad is None else grad.data if isinstance(grad, Tensor) else grad
        walk(self.node or self, check(grad, self, "backward"))

    # How it shows itself, in Python and in a notebook.
    def __repr__(self): return display.tensor_text(self)  # fmt: skip
    def _repr_html_(self): return display.tensor_html(self)  # fmt: skip

    # Operators: one line each, the mathematics is in functional.py.
    def __add__(self, other): return F.add(self, other)  # fmt: skip
    def __radd__(self, other): return F.add(other, self)  # fmt: skip
    def __sub__(self, other): return F.subtract(self, other)  # fmt: skip
    def __rsub__(self, other): return F.subtract(other, self)  # fmt: skip
    def __mul__(self, other): return F.multiply(self, other)  # fmt: skip
    def __rmul__(self, other): return F.multiply(other, self)  # fmt: skip
    def __truediv__(self, other): return F.divide(self, other)  # fmt: skip
    def __rtruediv__(self, other): return F.divide(other, self)  # fmt: skip
    def __matmul__(self, other): return F.matmul(self, other)  # fmt: skip
    def __rmatmul__(self, other): return F.matmul(other, self)  # fmt: skip
    def __neg__(self): return F.negative(self)  # fmt: skip
    def sum(self, axis=None, keepdims=False): return F.sum(self, axis, keepdims)  # fmt: skip
    def mean(self, axis=None, keepdims=False): return F.mean(self, axis, keepdims)  # fmt: skip
    def reshape(self, *shape): return F.reshape(self, *shape)  # fmt: skip


class Node:
    """One operation of the graph.

    edges: for each input that requires a gradient, where it came from (a Node, or a leaf) and its VJP.
    upstream: what is done once with the gradient of the output before all VJPs, which get its result (None: nothing).
    Nodes know the shape and dtype of their output but hold no Tensor of it: what the VJPs do not need is
    free as soon as nobody else uses it, and without reference cycles the whole graph goes with its last user.
    """

    __slots__ = ("dtype", "edges", "name", "retain", "shape", "upstream")

    def __init__(self, name: str, output: Array, edges: list, upstream: Any) -> None:
        self.name, self.shape, self.dtype, self.edges, self.upstream = name, output.shape, output.dtype, edges, upstream
        self.retain: Callable[[], Tensor | None] = lambda: None


def record(name: str, output: Array, inputs: Sequence[Tensor], vjps: Sequence[VJP], upstream: Any = None) -> Tensor:
    """The result of operation `name` as a Tensor, with a node if an input requires a gradient.

    vjps: one function for each input, from the gradient of `output` to the gradient of that input; only
    those whose input requires a gradient are kept, and called.
    upstream: what all of them need of that gradient, computed once: they get its result instead.
    """
    result = Tensor(output)
    for observer in state.observers:
        vjps, upstream = observer(name, result, inputs, vjps, upstream)
    if grad_enabled() and any(t.requires_grad for t in inputs):
        edges = [(t.node or t, vjp) for t, vjp in zip(inputs, vjps, strict=True) if t.requires_grad]
        result.node, result.requires_grad = Node(name, output, edges, upstream), True
    return result


def walk(root: "Node | Tensor", grad: Array) -> None:
    """Hand `grad` down from `root` to the leaves, each node after all that use it.

    A gradient is dropped as soon as it is handed on, and so is what the node's VJPs hold.
    """
    order, grads = topological(root), {id(root): grad}
    while order:
        node = order.pop()
        grad = grads.pop(id(node))
        keeper = node if isinstance(node, Tensor) else node.retain()
        if keeper is not None:  # never in place: `grad` may be shared or a view, and the old sum in a user's hands
            # [...] since NumPy adds two 0-d arrays to a plain number.
            keeper.grad = (F.copy(grad) if keeper.grad is None else F.total(keeper.grad, grad))[...]
        if keeper is node:
            continue
        grad = node.upstream(grad) if node.upstream else grad
        edges, node.edges, node.upstream = node.edges, None, None
        while edges:  # from the last input to the first, which is the picture: by then the VJPs that kept it are gone
            parent, vjp = edges.pop()
            share, vjp = check(vjp(grad), parent, node.name), None
            grads[id(parent)] = F.total(grads[id(parent)], share) if id(parent) in grads else share
        del grad, parent, share  # nothing of this node outlives its turn


def topological(root: "Node | Tensor") -> list:
    """All nodes and leaves below `root`, inputs before what uses them; without recursion, for graphs of any depth."""
    order, seen, stack = [], set(), [(root, False)]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            if isinstance(node, Node):
                if node.edges is None:
                    raise RuntimeError(f"backward() went through {node.name} before and freed it; run forward again")
                stack.extend((parent, False) for parent, _ in node.edges if id(parent) not in seen)
    return order


def check(grad: Array, of: "Node | Tensor", name: str) -> Array:
    """`grad` if it has the shape and dtype of what it is the gradient of, else ValueError."""
    if getattr(grad, "shape", None) != of.shape or grad.dtype != of.dtype:
        found = f"{grad.shape} {grad.dtype}" if hasattr(grad, "dtype") else repr(grad)
        raise ValueError(f"{name}: gradient must be an array of shape {of.shape} {of.dtype}, found {found}")
    return grad


class State(threading.local):
    """What is in force in a thread.

    enabled: whether a graph is recorded.  observers: functions that see every operation, and what of it is recorded;
    `display.observing.observe` puts them there.
    """

    enabled = True
    observers: tuple[Callable, ...] = ()


state = State()


def grad_enabled() -> bool:
    """Whether operations of this thread record a graph."""
    return state.enabled


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside the ``with`` block operations of this thread record no graph."""
    previous, state.enabled = state.enabled, False
    try:
        yield
    finally:
        state.enabled = previous


from . import functional as F  # noqa: E402  (the one way back up: operators, and the sum of two gradients)
