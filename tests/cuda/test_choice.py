"""Where the arrays lie decides which variants run, and nothing is moved without being asked."""

import numpy as np
import pytest
from cuda_emulator import emulated

import minunet as mn
from minunet import kernels
from minunet.kernels import KERNELS

pytestmark = pytest.mark.cuda_emulated

X = np.arange(-6, 6, dtype=np.float32).reshape(1, 1, 3, 4)


@pytest.fixture
def cupy():
    with emulated("fast") as cupy:
        yield cupy


def test_arrays_on_the_device_stay_there(cupy):
    for backend in ("numpy", "cuda"):
        with mn.use_backend(backend):
            y = kernels.relu.forward(cupy.asarray(X))
            assert kernels.on_device(y)
            np.testing.assert_array_equal(cupy.asnumpy(y), np.maximum(X, 0))


def test_arrays_on_the_host_are_refused_where_the_gpu_was_asked_for(cupy):
    with mn.use_backend("cuda"), pytest.raises(TypeError, match='relu: the backend in force is "cuda", but'):
        kernels.relu.forward(X)
    assert not kernels.on_device(kernels.relu.forward(X))


def test_arrays_here_and_there_are_refused(cupy):
    with pytest.raises(TypeError, match="relu: some of the arrays lie on the GPU and some do not"):
        kernels.relu.forward(cupy.asarray(X), out=np.empty_like(X))


def test_an_override_counts_where_its_backend_computes(cupy):
    kernel = KERNELS["conv2d"]
    here = dict(x=X, weight=np.ones((1, 1, 1, 1), np.float32), out=np.empty_like(X))
    there = {name: cupy.asarray(array) for name, array in here.items()}
    with mn.use_backend("numpy"):
        assert (kernel.choose(here), kernel.choose(there)) == ("im2col", "cuda_implicit")
        with kernels.use(conv2d="cuda_tensor"):
            assert (kernel.choose(here), kernel.choose(there)) == ("im2col", "cuda_tensor")
        with kernels.use(conv2d="reference"):
            assert (kernel.choose(here), kernel.choose(there)) == ("reference", "cuda_implicit")


def test_tensor_cores_are_off_by_default(cupy):
    weight = cupy.asarray(np.ones((64, 64, 3, 3), np.float32))
    for policy in ("fast", "exact"):
        with mn.policy(policy):
            assert KERNELS["conv2d"].choose(dict(x=cupy.asarray(X), weight=weight)) == "cuda_implicit"


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (4,)])
def test_helpers_around_the_kernels_work_on_the_device(cupy, shape):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, *shape)).astype(np.float32)
    there = [cupy.asarray(array) for array in (a, b)]
    np.testing.assert_array_equal(cupy.asnumpy(kernels.add(*there)), a + b)
    np.testing.assert_array_equal(cupy.asnumpy(kernels.copy(there[0])), a)
    if len(shape) == 4:
        cropped = kernels.crop(there[0], (3, 4))
        np.testing.assert_array_equal(cupy.asnumpy(cropped), a[:, :, 1:4, 1:5])
        around = kernels.surround(cropped, (1, 1, 1, 2))
        expected = np.zeros_like(a)
        expected[:, :, 1:4, 1:5] = a[:, :, 1:4, 1:5]
        np.testing.assert_array_equal(cupy.asnumpy(around), expected)
        np.testing.assert_array_equal(cupy.asnumpy(kernels.join(there)), np.concatenate([a, b], axis=1))
        np.testing.assert_array_equal(cupy.asnumpy(kernels.channel_sums(there[0])), a.sum(axis=(0, 2, 3)))
        np.testing.assert_array_equal(cupy.asnumpy(kernels.relu.passes(there[0])), a > 0)


def test_halves_of_one_array_are_joined_without_a_copy(cupy):
    joint = kernels.empty((2, 6, 3, 5), np.float32, cupy.asarray(X))
    joint[...] = 1
    joined = kernels.join([joint[:, :3], joint[:, 3:]])
    assert joined.data.ptr == joint.data.ptr and joined.shape == joint.shape and joined.strides == joint.strides
    other = kernels.join([joint[:, 3:], joint[:, :3]])
    assert other.data.ptr != joint.data.ptr
