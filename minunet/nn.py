"""Modules: objects that own parameters and apply the operations of functional.py.

A module finds its parameters, buffers and sub-modules among its attributes, in the order they were assigned; the
dotted names in `state_dict` are the names of these attributes, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import device as devices
from . import functional as F
from . import kernels
from .autograd import Array, Tensor
from .display import objects as display

_drawn = ContextVar("drawn", default=True)


@contextmanager
def undrawn() -> Iterator[None]:
    """Within this block new weights hold whatever memory held: for a network whose state is loaded right behind it.

    Drawing takes time, and memory that nobody has written takes no room.
    """
    token = _drawn.set(False)
    try:
        yield
    finally:
        _drawn.reset(token)


class Module:
    """Base class: named parameters and buffers, training mode, state_dict."""

    training = True

    def forward(self, *inputs: Any, **options: Any) -> Tensor:
        raise TypeError(f"{type(self).__name__} is a container; it has no forward computation of its own")

    def __call__(self, x: Any, **options: Any) -> Tensor:
        return self.forward(x if isinstance(x, Tensor) else Tensor(x), **options)

    def __repr__(self) -> str:
        return display.module_text(self)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        yield self
        for value in vars(self).values():
            if isinstance(value, Module):
                yield from value.modules()

    def named_arrays(self, prefix: str = "") -> Iterator[tuple[str, Tensor | Array]]:
        """(name, Tensor) of every parameter and (name, array) of every buffer."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value.named_arrays(f"{prefix}{name}.")
            elif isinstance(value, Tensor) or _is_array(value):
                yield prefix + name, value

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """(name, Tensor) of every parameter, without buffers."""
        return [(name, value) for name, value in self.named_arrays() if isinstance(value, Tensor)]

    def parameters(self) -> list[Tensor]:
        """The parameters' Tensors, in a fixed order."""
        return [value for _, value in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def train(self, mode: bool = True) -> Module:
        """Training mode: dropout drops, batch norm uses the batch's statistics and moves its estimates."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Evaluation mode: no dropout, batch norm uses its running estimates."""
        return self.train(False)

    @property
    def device(self) -> str:
        """Where the parameters lie, "cpu" or "cuda"."""
        return next((devices.of(value.data) for _, value in self.named_arrays() if isinstance(value, Tensor)), "cpu")

    def to(self, device: str) -> Module:
        """Move parameters with their gradients, and floating buffers, to "cuda" or "cpu"; returns the module.

        What lies there already stays as it is.  Tensors stay the same objects, so that an optimizer still knows them.
        Raises ValueError for another name, ImportError where CuPy is not installed, and kernels.DeviceNotFound where
        there is no driver or no GPU.
        """
        devices.checked(device)
        for module in self.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor):
                    value.data = devices.move(value.data, device)
                    value.grad = None if value.grad is None else devices.move(value.grad, device)
                elif _is_array(value) and value.dtype.kind == "f":
                    setattr(module, name, devices.move(value, device))
        return self

    def state_dict(self) -> dict[str, Array]:
        """{name: array} of parameters and buffers; the arrays themselves, not copies, on whichever device they lie."""
        return {name: v.data if isinstance(v, Tensor) else v for name, v in self.named_arrays()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy arrays (or Tensors), which may lie anywhere, into parameters and buffers, which stay on their device.

        The module takes the dtype that all floating arrays share, float32 or float64.  Raises one ValueError that
        lists every missing, unexpected and mis-shaped entry, and every dtype that does not fit; the module is
        unchanged then.
        """
        given = {name: F._array(value) for name, value in state.items()}
        own = self.state_dict()
        faults = [f"missing: {name}" for name in own if name not in given]
        faults += [f"unexpected: {name}" for name in given if name not in own]
        for name in own.keys() & given.keys():
            faults += _misfit(name, own[name], given[name])
        dtypes = {a.dtype.newbyteorder("=") for a in given.values() if a.dtype.kind == "f"}
        if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}:
            found = ", ".join(sorted(map(str, dtypes)))
            faults.append(f"floating arrays must share one dtype, float32 or float64, found {found}")
        if faults:
            raise ValueError("state_dict does not fit: " + "; ".join(sorted(faults)))
        dtype = dtypes.pop() if dtypes else np.dtype(np.float32)
        del own  # each array is free once it is replaced: the module is never there twice
        self._set_arrays(given, dtype)

    def _set_arrays(self, given: dict[str, Array], dtype: np.dtype, prefix: str = "") -> None:
        def copied(name: str, own: Array) -> Array:
            copy = given[prefix + name].astype(dtype if own.dtype.kind == "f" else own.dtype)
            return devices.beside(copy, own)

        for name, value in list(vars(self).items()):
            if isinstance(value, Module):
                value._set_arrays(given, dtype, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                value.data, value.grad = copied(name, value.data), None
            elif _is_array(value):
                setattr(self, name, copied(name, value))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or kernels.on_device(value)


def _misfit(name: str, own: Array, given: Array) -> list[str]:
    if own.shape != given.shape:
        return [f"{name}: expected shape {own.shape}, found {given.shape}"]
    if own.dtype.kind != given.dtype.kind:
        return [f"{name}: expected {own.dtype}, found {given.dtype}"]
    return []


class Sequential(Module):
    """Modules one after the other; their names are their positions."""

    def __init__(self, *modules: Module) -> None:
        for position, module in enumerate(modules):
            setattr(self, str(position), module)

    def __iter__(self) -> Iterator[Module]:
        return (value for value in vars(self).values() if isinstance(value, Module))

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x)
        return x


class ModuleList(Sequential):
    """Modules by position, without an order of computation."""

    def __getitem__(self, position: int) -> Module:
        return getattr(self, str(position))

    def forward(self, x: Tensor) -> Tensor:
        return Module.forward(self, x)


def normal(rng: np.random.Generator, shape: tuple[int, ...], incoming: int, dtype: Any) -> Tensor:
    """A weight from N(0, sqrt(2 / n)), n = nodes that feed one output; relu keeps the variance so (He et al., 2015)."""
    weight = np.empty(shape, dtype)
    # The numbers are drawn in float64: one part after the other takes less memory.
    for part in weight if _drawn.get() else ():
        part[...] = rng.standard_normal(part.shape) * np.sqrt(2 / incoming)
    return Tensor(weight, requires_grad=True)


class Conv2d(Module):
    """`F.conv2d` with its weight (O, C, k, k) and bias (O,); what follows it may be done in the same operation.

    relu: `F.conv2d_relu`, with its `out`, `keep` and `again`.  norm (without a graph): a batch norm in evaluation,
    which is a fixed scale and shift of every channel,

        weight' (W x + b - mean) r + bias'  =  (weight' r W) x  +  (b - mean) weight' r + bias',

    and so goes into the weights.
    """

    def __init__(self, in_channels, out_channels, kernel_size, padding=0, bias=True, *, rng, dtype=np.float32) -> None:
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.weight = normal(rng, shape, in_channels * kernel_size**2, dtype)
        self.bias = Tensor(np.zeros(out_channels, dtype), requires_grad=True) if bias else None
        self.padding = padding

    def forward(
        self, x: Tensor, relu: bool = False, norm: BatchNorm2d | None = None, out: Any = None, keep: bool = True,
        again: bool = False,
    ) -> Tensor:  # fmt: skip
        weight, bias = (self.weight, self.bias) if norm is None else self.folded(norm)
        if relu:
            return F.conv2d_relu(x, weight, bias, self.padding, out=out, keep=keep, again=again)
        return F.conv2d(x, weight, bias, self.padding)

    def folded(self, norm: BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Weight and bias of convolution and batch norm in one."""
        scale = norm.weight.data / np.sqrt(norm.running_var + norm.weight.dtype.type(norm.eps))
        shift = -norm.running_mean if self.bias is None else self.bias.data - norm.running_mean
        weight = kernels.conv2d.empty_weight(self.weight.shape, self.weight.dtype, like=self.weight.data)
        np.multiply(self.weight.data, scale[:, None, None, None], out=weight)
        return Tensor(weight), Tensor(shift * scale + norm.bias.data)


class ConvTranspose2d(Module):
    """`F.conv_transpose2d` with its weight (C, O, s, s) and bias (O,); every output has C incoming nodes."""

    def __init__(self, in_channels, out_channels, stride, *, rng, dtype=np.float32) -> None:
        self.weight = normal(rng, (in_channels, out_channels, stride, stride), in_channels, dtype)
        self.bias = Tensor(np.zeros(out_channels, dtype), requires_grad=True)
        self.stride = stride

    def forward(self, x: Tensor, out: Any = None) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, out=out)


class BatchNorm2d(Module):
    """`F.batch_norm` with weight, bias and the running estimates of mean and variance; relu: `F.batch_norm_relu`.

    keep: as in `Conv2d`; it changes nothing here, where the output is never kept.
    """

    eps = 1e-5

    def __init__(self, channels: int, *, dtype: Any = np.float32) -> None:
        self.weight = Tensor(np.ones(channels, dtype), requires_grad=True)
        self.bias = Tensor(np.zeros(channels, dtype), requires_grad=True)
        self.running_mean: Array = np.zeros(channels, dtype)
        self.running_var: Array = np.ones(channels, dtype)
        self.num_batches_tracked = np.zeros((), np.int64)

    def forward(self, x: Tensor, relu: bool = False, out: Any = None, keep: bool = True) -> Tensor:
        if self.training:
            self.num_batches_tracked += 1
        arguments = (x, self.weight, self.bias, self.running_mean, self.running_var, self.training)
        return F.batch_norm_relu(*arguments, eps=self.eps, out=out) if relu else F.batch_norm(*arguments, eps=self.eps)


class ReLU(Module):
    """`F.relu`."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class Upsample(Module):
    """Twice as high and as wide by `F.resize`, outer pixels on each other; no parameters."""

    def forward(self, x: Tensor, out: Any = None) -> Tensor:
        return F.resize(x, (2 * x.shape[2], 2 * x.shape[3]), out=out, align_corners=True)


class Dropout(Module):
    """`F.dropout` in training, nothing in evaluation; `rng` is shared by the whole network."""

    def __init__(self, p: float, *, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.rng) if self.training else x
