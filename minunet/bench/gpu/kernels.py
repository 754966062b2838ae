"""The CUDA variants of one kernel on the layers of real networks, beside cuDNN: checked first, then timed in turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from minunet import timing
from minunet.bench import contenders
from minunet.bench.kernels import BUDGET, KernelTiming, call_of, cost_of, laid
from minunet.bench.layers import TorchLayer
from minunet.kernels import KERNELS, cases, empty
from minunet.kernels.cuda import cupy

from . import device

TF32 = 2**-10  # the part of a product that may be lost


def measure(case: cases.Case, function: str, rounds: int | None = None, budget: float = BUDGET) -> KernelTiming:
    """Time one function at one case; what is wrong is not timed.  rounds None: as many as fit into the budget."""
    call = call_of(case, function)
    expected = cases.truth(case.kernel, call)
    result = KernelTiming(case, function, cost_of(case.kernel, call))
    actions: dict[str, Callable[[], Any]] = {}
    for variant in cases.device_variants(case.kernel):
        module = KERNELS[case.kernel].load(variant.name)
        try:
            cases.check(module, case.kernel, call, expected=expected, exact=variant.exact, on_device=True,
                        product_error=variant.product_error)  # fmt: skip
        except Exception as error:
            result.wrong[variant.name] = f"{type(error).__name__}: {error}"
        else:
            actions[variant.name] = on_device(module, call)
    actions |= _peers(case.kernel, call, expected, result.wrong)
    _time(result, actions, rounds, budget)
    return result


def on_device(module: Any, call: cases.Call) -> Callable[[], Any]:
    """The call with arrays on the device that lie as the network's do."""
    outputs = {
        name: cupy().empty(shape, dtype) if call.function == "backward_weight" else empty(shape, dtype, cupy().empty(0))
        for name, (shape, dtype) in call.outputs.items()
    }
    laid_out = laid(call.inputs).items()
    inputs = {name: sent(value) if isinstance(value, np.ndarray) else value for name, value in laid_out}
    return partial(getattr(module, call.function), **inputs, **outputs)


def sent(array: np.ndarray) -> Any:
    """The array on the device, channels-last if it is so here."""
    if array.ndim == 4 and not array.flags.c_contiguous:
        return cupy().asarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return cupy().asarray(array)


def _time(result: KernelTiming, actions: Mapping[str, Callable[[], Any]], rounds: int | None, budget: float) -> None:
    """Rows of calls in turns; the median over the rounds is what counts."""
    calls = {}
    for name, action in actions.items():
        action()  # compiles, and takes memory
        calls[name] = device.calls_in_a_row(action)
    if rounds is None:
        rounds = timing.rounds_within(budget, device.ROW * max(1, len(actions)))
    result.seconds = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            result.seconds[name].append(device.seconds_a_call(action, calls[name]))


# ----------------------------------------------------------------------------------------------------------- cuDNN


class CudnnLayer(TorchLayer):
    """conv2d or one of its derivatives by cuDNN, which tries its algorithms and keeps the fastest; channels-last."""

    def __init__(self, function: str, tf32: bool) -> None:
        super().__init__(function, 1, channels_last=True)
        self.tf32 = tf32
        self.torch.backends.cudnn.benchmark = True

    def prepare(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        prepared = super().prepare(inputs)
        return {name: value.cuda() if hasattr(value, "cuda") else value for name, value in prepared.items()}

    def run(self, prepared: Mapping[str, Any]) -> Any:
        self.torch.backends.cudnn.allow_tf32 = self.tf32
        return super().run(prepared)


def _peers(kernel: str, call: cases.Call, expected: Any, wrong: dict[str, str]) -> dict[str, Callable[[], Any]]:
    """PyTorch's convolution where it finds a GPU, in float32 and with its inputs rounded to TF32."""
    actions: dict[str, Callable[[], Any]] = {}
    if kernel != "conv2d" or not contenders.torch_on_device():
        return actions
    for name, tf32 in (("PyTorch (cuDNN)", False), ("PyTorch (cuDNN, TF32)", True)):
        layer = CudnnLayer(call.function, tf32)
        action = partial(layer.run, layer.prepare(call.inputs))
        found = action().cpu().numpy()
        rounded = TF32 / np.finfo(found.dtype).eps if tf32 and found.dtype == np.float32 else 0
        try:
            cases.compare(found, expected["out"], max(call.ulps, 64) + rounded, name)
        except AssertionError as error:
            wrong[name] = str(error)
        else:
            actions[name] = action
    return actions
