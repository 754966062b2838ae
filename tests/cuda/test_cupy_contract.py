"""What CuPy itself makes of our calls, without a GPU: below it lies a driver that computes nothing and writes all down.

The stand-in of tests/cuda_emulator computes, but it is ours, and so as strict as we knew.  Here the true CuPy
dispatches NumPy's functions, lays out results, copies to and from the device, and packs the arguments of every launch.
Only its calls of the CUDA runtime and driver are replaced, before it is imported; therefore each test is a process of
its own.  No kernel is compiled and none runs: numbers mean nothing here.
"""

import ctypes
import itertools
import os
import re
import struct
import subprocess
import sys
import traceback
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import numpy as np
import pytest

pytestmark = pytest.mark.cuda_emulated

TO_DEVICE, TO_HOST = 1, 2  # kinds of copies, as CUDA numbers them
SIZES = {"index": 8, "int": 4, "float": 4, "double": 8, "bool": 1}  # bytes of a kernel's parameter
C_TYPES = {
    "intptr_t": ctypes.c_ssize_t, "size_t": ctypes.c_size_t, "int": ctypes.c_int, "unsigned int": ctypes.c_uint,
    "float": ctypes.c_float, "PyObject *": ctypes.py_object,
}  # fmt: skip
ARCHITECTURES = ({"features": (4, 8)}, {"features": (2, 4), "padding": "same", "norm": "batch"})
SCENARIOS = ("steps", "operations", "numbers", "orders", "layouts", "runs", "no_compiler")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cupy_takes_what_we_ask_of_it(scenario):
    if find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    if not any(_version(name).startswith("14.") for name in ("cupy-cuda13x", "cupy-cuda12x")):
        pytest.skip("the functions that are replaced are those of CuPy 14")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                                "CUPY_CACHE_IN_MEMORY": "1", "CUPY_ACCELERATORS": ""}  # fmt: skip
    done = subprocess.run([sys.executable, __file__, scenario], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


# ---------------------------------------------------------------------------------- the driver that writes down


class Driver:
    """Memory is the host's; copies are made; launches are kept in `launches` as (kernel, grid, block, addresses)."""

    def __init__(self):
        self.copies, self.waits, self.launches = Counter(), 0, []
        self.blocks, self.names, self.handles, self.kept = {}, {}, itertools.count(1), []

    def reset(self):
        self.copies, self.waits, self.launches = Counter(), 0, []

    def malloc(self, size, *_):
        block = ctypes.create_string_buffer(size + 512)
        address = -(-ctypes.addressof(block) // 512) * 512
        self.blocks[address] = block
        return address

    def free(self, address, *_):
        del self.blocks[address]
        return 0

    def holds(self, address):
        return any(start <= address <= start + len(block) for start, block in self.blocks.items())

    def copy(self, to, source, size, kind, *_):
        self.copies[kind] += 1
        ctypes.memset(to, 0, size) if kind == TO_HOST else ctypes.memmove(to, source, size)
        return 0

    def set(self, to, value, size, *_):
        ctypes.memset(to, value, size)
        return 0

    def wait(self, *_):
        self.waits += 1
        return 0

    def function(self, module, name, *_):
        handle = next(self.handles)
        self.names[handle] = name
        return handle

    def launch(self, function, *rest):
        grid, block, addresses = rest[:3], rest[3:6], rest[8]
        self.launches.append((self.names[function], grid, block, addresses))
        self.on_launch(*self.launches[-1])
        return 0

    def on_launch(self, *launch):
        pass

    def install(self):
        """Replace the functions that CuPy's compiled modules are about to look up."""
        from cupy_backends.cuda.api import driver, runtime

        none, handle = (lambda *_: 0), (lambda *_: next(self.handles))
        attributes = {75: 9, 76: 0, 16: 132}  # compute capability 9.0, multiprocessors
        of_runtime = {
            **dict.fromkeys(("malloc", "mallocAsync", "hostAlloc"), self.malloc),
            **dict.fromkeys(("free", "freeAsync", "freeHost"), self.free),
            **dict.fromkeys(("memcpy", "memcpyAsync"), self.copy),
            **dict.fromkeys(("memset", "memsetAsync"), self.set),
            **dict.fromkeys(("deviceSynchronize", "streamSynchronize", "eventSynchronize"), self.wait),
            **dict.fromkeys(("getDevice", "setDevice", "_ensure_context", "eventRecord", "eventDestroy", "eventQuery",
                             "check_status", "pointerGetMemoryType", "streamIsCapturing"), none),
            **dict.fromkeys(("eventCreate", "eventCreateWithFlags"), handle),
            **dict.fromkeys(("driverGetVersion", "runtimeGetVersion"), lambda *_: 13000),
            "getDeviceCount": lambda *_: 1,
            "deviceGetAttribute": lambda attribute, *_: attributes.get(attribute, 0),
            "memGetInfo": lambda *_: (1 << 33, 1 << 34),
        }  # fmt: skip
        of_driver = {"moduleLoadData": handle, "moduleUnload": none, "moduleGetFunction": self.function,
                     "launchKernel": self.launch, "ctxGetCurrent": lambda *_: 1}  # fmt: skip
        for module, functions in ((runtime, of_runtime), (driver, of_driver)):
            for name, function in functions.items():
                self._replace(module, name, function)
        from cupy.cuda import compiler, nvrtc

        nvrtc.getVersion = lambda: (13, 0)
        compiler._compile_using_nvrtc_no_warning = lambda *_: (b"not compiled", None)
        compiler._preprocess = lambda *_: ""

    def _replace(self, module, name, function):
        """A function that Cython exports: for Python by its name, for C by a capsule named after its signature."""

        def guarded(*arguments):
            try:
                return function(*arguments)
            except BaseException:  # nobody below could hand it on
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)

        api, python = module.__pyx_capi__, ctypes.pythonapi
        python.PyCapsule_GetName.restype, python.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
        python.PyCapsule_New.restype = ctypes.py_object
        python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        signature = python.PyCapsule_GetName(api[name])
        result, arguments = re.fullmatch(r"(.*?)\s*\((.*)\)", signature.decode()).groups()
        types = [part.replace("__pyx_skip_dispatch", "").strip() for part in arguments.split(",")]
        prototype = ctypes.PYFUNCTYPE(C_TYPES[result], *(C_TYPES[t] for t in types if t != "void"))
        callback = prototype(guarded)
        self.kept += [callback, signature]
        api[name] = python.PyCapsule_New(ctypes.cast(callback, ctypes.c_void_p), signature, None)
        if hasattr(module, name):
            setattr(module, name, guarded)


class Launches:
    """Holds every launch of ours against its arguments: what the device would read, byte for byte."""

    def __init__(self, driver):
        from minunet.kernels.cuda import launch

        self.driver, self.count, plain = driver, 0, launch.Source.launch

        def checked(source, kernel, dtype, grid, block, *arguments, shared=0):
            real = launch.REAL[np.dtype(dtype)]
            expected = source.converted(kernel, real, arguments)
            kinds = [kind.replace("real", real) for kind, _ in source.parameters[kernel]]
            driver.on_launch = lambda *found: self.compare(found, kernel, kinds, expected)
            before = self.count
            plain(source, kernel, dtype, grid, block, *arguments, shared=shared)
            assert self.count == before + 1, f"{kernel} was not launched"
            driver.on_launch = lambda *_: None

        launch.Source.launch = checked

    def compare(self, found, kernel, kinds, expected):
        name, _, _, addresses = found
        assert name == kernel
        places = (ctypes.c_void_p * len(kinds)).from_address(addresses)
        for kind, place, value in zip(kinds, places, expected, strict=True):
            data = ctypes.string_at(place, 8 if kind.endswith("*") else SIZES[kind])
            if isinstance(value, np.generic):
                assert data == value.tobytes(), f"{kernel}: {kind}"
            else:
                (address,) = struct.unpack("<Q", data)
                assert address == value.data.ptr, f"{kernel}: {kind}"
                assert value.size == 0 or self.driver.holds(address), f"{kernel}: {kind} is no address"
        self.count += 1


# ------------------------------------------------------------------------------------------------ the scenarios


def steps(driver, launches):
    """Training steps of both architectures: one transfer there, none back, and no wait."""
    import minunet as mn
    from minunet import device, optim
    from minunet.training.recipe import loss_function

    rng = np.random.default_rng(0)
    for options, dtype, loss in itertools.product(ARCHITECTURES, ("float32", "float64"), ("ce", "ce+dice", "bce")):
        classes = 1 if loss == "bce" else 2
        model = mn.UNet(1, classes, **options, dtype=dtype).to("cuda").train()
        optimizer = mn.SGD(model.parameters(), lr=0.1)
        x = rng.standard_normal((2, 1, 60, 76)).astype(dtype)
        target = rng.integers(0, 2, (2, *model.output_size((60, 76))))
        for _ in range(2):
            driver.reset()
            before = launches.count
            there = device.upload(x, target)
            optimizer.zero_grad()
            found = loss_function(loss, classes)(model(there[0]), there[1])
            found.backward()
            norm = optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            assert (driver.copies[TO_DEVICE], driver.copies[TO_HOST], driver.waits) == (1, 0, 0), driver.copies
            assert launches.count > before + 50
        assert found.shape == norm.shape == () and found.dtype == dtype and norm.dtype == np.float64
        assert {p.grad.dtype for p in model.parameters()} == {np.dtype(dtype)}


def operations(driver, launches):
    """Every operation, forwards and backwards, of arrays that come from the host; but matmul, which needs cuBLAS."""
    import minunet.functional as F

    def x(*shape):
        return F.to_device(ones(shape or (2, 3, 8, 8)))

    for y in (
        x() + x(), x() - x(), x() * x(), x() / x(), -x(), x() + x(1, 3, 1, 1), x().sum(axis=(0, 2)), x().mean(axis=1),
        x().reshape(2, -1), F.softmax(x()), F.sigmoid(x()), F.relu(x()), F.max_pool2d(x()), F.resize(x(), (5, 13)),
        F.dropout(x(), 0.5, np.random.default_rng(0)), F.conv2d(x(), x(5, 3, 3, 3), x(5), 1),
        F.conv2d_relu(F.conv2d_relu(x(), x(5, 3, 3, 3), x(5), again=True), x(4, 5, 3, 3), x(4), keep=False),
        F.conv_transpose2d(x(), x(3, 5, 2, 2), x(5)), F.concat([x(), x()]), F.center_crop(x(), (5, 4)),
        F.center_pad(x(), (9, 11)),
        F.batch_norm(x(), x(3), x(3), x(3).data, x(3).data, True),
        F.batch_norm_relu(x(), x(3), x(3), x(3).data, x(3).data, False),
        F.cross_entropy(x(), np.zeros((2, 8, 8), np.uint8), np.ones((2, 8, 8)), np.ones(3), ignore_index=255),
        F.dice_loss(x(), np.zeros((2, 8, 8), int)), F.dice_loss(x(2, 1, 8, 8), np.zeros((2, 1, 8, 8))),
        F.binary_cross_entropy_with_logits(x(2, 1, 8, 8), np.zeros((2, 1, 8, 8)), np.ones((2, 1, 8, 8))),
    ):  # fmt: skip
        driver.reset()
        y.sum().backward()
        assert driver.copies[TO_HOST] >= 1  # the gradients of what lies on the host


def ones(shape):
    from minunet.autograd import Tensor

    return Tensor(np.ones(shape, np.float32), requires_grad=True)


def numbers(driver, launches):
    """Python's numbers as operands, on either side: arrays without axes on the device, of the other's dtype."""
    import minunet.functional as F

    for operation in (
        lambda x: x + 1, lambda x: 1 + x, lambda x: x - 2.5, lambda x: 2.5 - x, lambda x: x * 2, lambda x: 2 * x,
        lambda x: x / 2, lambda x: 1 / x, lambda x: (x * x).mean(), lambda x: 1 - x.mean(),
    ):  # fmt: skip
        x = F.to_device(ones((2, 3)))
        driver.reset()
        y = operation(x)
        assert y.dtype == np.float32 and driver.copies[TO_DEVICE] == driver.waits == 0
        y.sum().backward()


def orders(driver, launches):
    """Memory orders that our code, and the stand-in, count on: computed results lie in C order, copies as they lay."""
    import cupy

    x = cupy.zeros((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2)
    for kept in (cupy.empty_like(x), np.zeros_like(x), np.full_like(x, 1), x.astype(np.float64), np.copy(x)):
        assert kept.transpose(0, 2, 3, 1).flags.c_contiguous
    for computed in (x + 1, np.maximum(x, 0), x * x, np.where(x > 0, x, 0), x.clip(0, 1), np.full_like(x, 1, order="C"),
                     x.copy(), np.exp(x)):  # fmt: skip
        assert computed.flags.c_contiguous
    assert np.add(x, x, out=cupy.empty_like(x)).transpose(0, 2, 3, 1).flags.c_contiguous
    view = x[:, 1:, 2:]
    assert view.base is x.base and view.data.ptr == x.data.ptr + 4 + 2 * 7 * 3 * 4
    same = cupy.ndarray(view.shape, view.dtype, view.data, view.strides)
    assert same.base is None and same.strides == view.strides and same.data.ptr == view.data.ptr


def layouts(driver, launches):
    """Every function of every variant, its arrays in every memory layout."""
    from minunet.kernels import KERNELS, cases
    from minunet.kernels.cuda import on_device

    for kernel in KERNELS:
        chosen = [case for case in cases.select("test", kernel) if case.dtype == "float32"][1:4]
        for case, layout, variant in itertools.product(chosen, cases.LAYOUTS, cases.device_variants(kernel)):
            module = KERNELS[kernel].load(variant.name)
            for call in cases.calls(case, "floats", layout):
                arrays = {name: a for name, a in call.inputs.items() if isinstance(a, np.ndarray)}
                arrays |= {name: cases.poisoned(*of, layout)[0] for name, of in call.outputs.items()}
                there = {name: cases.sent(a, cases.extent(a), False)[0] for name, a in arrays.items()}
                assert all(map(on_device, there.values()))
                driver.reset()
                getattr(module, call.function)(**{**call.inputs, **there})
                assert driver.waits == driver.copies[TO_HOST] == driver.copies[TO_DEVICE] == 0, (case, layout)


def runs(driver, launches):
    """A run with looks at validation images and checkpoints, prediction, and the way back to the host."""
    import tempfile
    import warnings
    from pathlib import Path

    import minunet as mn
    from minunet import device
    from minunet.data import cells, from_arrays
    from minunet.training import train

    # The numbers mean nothing; that none is finite is no reason to stop.
    train.Trainer._check_state = lambda self, done: None
    warnings.simplefilter("ignore")
    dataset = from_arrays(*cells(6, size=24, seed=3), target="instances")
    model = mn.UNet(1, 2, (2,), padding="same", norm="batch", dropout=0.3).to("cuda")
    recipe = {"steps": 3, "batch_size": 2, "crop": 16}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.safetensors"
        mn.fit(model, dataset.subset(range(4)), dataset.subset(range(4, 6)), checkpoint=file, **recipe)
        mn.fit(model, dataset.subset(range(4)), dataset.subset(range(4, 6)), checkpoint=file, resume=True, **recipe)
    assert mn.predict(model, np.zeros((50, 37), np.uint8)).shape == (2, 50, 37)
    assert model.to("cpu").device == "cpu"
    assert device.free_memory() > 0


def no_compiler(driver, launches):
    """NVRTC comes apart from CuPy: one line says what to install."""
    from cupy.cuda import nvrtc

    import minunet as mn
    from minunet.kernels import cuda

    def missing():
        raise RuntimeError('Failure finding "libnvrtc.so"\n  and where it was looked for')

    nvrtc.getVersion = missing
    assert not cuda.is_available()
    with pytest.raises(ImportError, match=r"finds no compiler .*; install it with: pip install nvidia-cuda-nvrtc") as e:
        mn.use_backend("cuda")
    assert "\n" not in str(e.value)


if __name__ == "__main__":
    hollow = Driver()
    hollow.install()
    try:
        globals()[sys.argv[1]](hollow, Launches(hollow))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # at a usual end CuPy would give memory back to a driver that Python has cleared away before
