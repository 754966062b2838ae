"""What lies on a GPU, what moves there and back, and that nothing else does; over the stand-in for CuPy."""

import numpy as np
import pytest
from cuda_emulator import emulated

import minunet as mn
import minunet.functional as F
from minunet import device, kernels, optim
from minunet.gradient_check import OPERATIONS, checks
from minunet.training import estimate

pytestmark = pytest.mark.cuda_emulated


@pytest.fixture
def cupy():
    with emulated(build="fast") as cupy:
        cupy.transfers.reset()
        yield cupy


@pytest.fixture
def on_gpu(cupy):
    with mn.use_backend("cuda"):
        yield cupy


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def network(**options):
    shape = {"features": (2, 4), "padding": "same", "norm": "batch", "dropout": 0.25, "seed": 3}
    return mn.UNet(1, 3, **shape | options)


def pictures(rng, shape, dtype=np.float32):
    """Numbers that lie channels-last."""
    n, c, h, w = shape
    return rng.standard_normal((n, h, w, c)).astype(dtype).transpose(0, 3, 1, 2)


# ------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_comes_back_as_it_was(cupy, rng, shape, order):
    array = np.asarray(rng.standard_normal(shape), order=order)
    there = device.move(array, "cuda")
    assert device.of(there) == "cuda" and device.of(array) == "cpu"
    assert there.strides == array.strides
    back = device.to_host(there)
    np.testing.assert_array_equal(back, array, strict=True)
    assert back.strides == array.strides


def test_an_empty_array_moves_too(cupy):
    back = device.to_host(device.move(np.empty((0, 2)), "cuda"))
    assert back.shape == (0, 2) and back.dtype == np.float64


def test_what_lies_there_is_not_copied(cupy, rng):
    array = pictures(rng, (1, 2, 3, 4))
    there = device.move(array, "cuda")
    assert device.move(there, "cuda") is there and device.beside(there, there) is there
    assert device.move(array, "cpu") is array and device.to_host(array) is array


def test_a_batch_goes_in_one_copy(cupy, rng):
    x, target = rng.standard_normal((2, 3, 5, 7)).astype(np.float32), rng.integers(0, 3, (2, 5, 7))
    weight = rng.standard_normal(11)
    there = device.upload(x, target, weight)
    assert cupy.transfers.to_device == 1
    for array, sent in zip((x, target, weight), there, strict=True):
        np.testing.assert_array_equal(device.to_host(sent), array, strict=True)
    assert there[0].strides[1] == x.itemsize  # channels-last, so that no kernel has to copy it
    assert all(a.__cuda_array_interface__["data"][0] % 16 == 0 for a in there)


def test_numbers_come_in_one_transfer(cupy):
    values = [1.5, cupy.asarray(np.float32(0.1)), 2, cupy.asarray(np.array(True))]
    assert device.numbers(values) == [1.5, float(np.float32(0.1)), 2.0, 1.0]
    assert cupy.transfers.to_host == 1
    assert device.numbers([1.0, np.float32(2)]) == [1.0, 2.0]
    assert cupy.transfers.to_host == 1


# --------------------------------------------------------------------------------------------------- models


def test_a_model_goes_there_and_back(cupy, rng):
    model = network()
    for parameter in model.parameters():
        parameter.grad = rng.standard_normal(parameter.shape).astype(np.float32)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    gradients = [parameter.grad.copy() for parameter in model.parameters()]
    tensors = model.parameters()
    assert model.device == "cpu"
    assert model.to("cuda") is model and model.device == "cuda"
    for name, array in model.state_dict().items():
        assert kernels.on_device(array) != name.endswith("num_batches_tracked")
    assert all(kernels.on_device(parameter.grad) for parameter in model.parameters())
    assert all(one is other for one, other in zip(model.parameters(), tensors, strict=True))
    model.to("cpu")
    assert model.device == "cpu"
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name], strict=True)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient, strict=True)


def test_no_other_device(cupy):
    with pytest.raises(ValueError, match=r"'cuda:1' is not known; there are: cpu, cuda"):
        network().to("cuda:1")


def test_models_are_made_on_the_device_in_force(cupy, tmp_path):
    mn.save(network(), tmp_path / "model.npz")
    with mn.use_backend("cuda"):
        assert network().device == "cuda"
        assert mn.load(tmp_path / "model.npz").device == "cuda"
    assert network().device == "cpu"
    assert mn.load(tmp_path / "model.npz").device == "cpu"


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_model_is_saved_from_the_device_as_from_the_host(cupy, tmp_path, suffix):
    model = network()
    mn.save(model, tmp_path / f"host.{suffix}")
    mn.save(model.to("cuda"), tmp_path / f"device.{suffix}")
    assert (tmp_path / f"host.{suffix}").read_bytes() == (tmp_path / f"device.{suffix}").read_bytes()


@pytest.mark.parametrize("source", ["cpu", "cuda"])
@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_state_dict_does_not_move_the_model(cupy, source, target):
    origin, model = network(seed=8).to(source), network().to(target)
    model.load_state_dict(origin.state_dict())
    assert model.device == target
    assert not any(np.shares_memory(a, b) for a, b in zip(*(arrays(m) for m in (model, origin)), strict=True))
    expected, found = origin.to("cpu").state_dict(), model.to("cpu").state_dict()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def arrays(model):
    """What lies on the host of a model's parameters."""
    return [p.data if isinstance(p.data, np.ndarray) else np.zeros(1) for p in model.parameters()]


def test_a_state_dict_of_another_shape_is_refused(cupy):
    model = network().to("cuda")
    with pytest.raises(ValueError, match="expected shape"):
        model.load_state_dict(network(features=(2, 5)).to("cuda").state_dict())
    assert model.device == "cuda"


def test_a_model_shows_itself(cupy):
    model = network().to("cuda")
    assert repr(model) == repr(network())
    assert repr(model.final_conv) == repr(network().final_conv)
    assert "running_mean 2" in repr(model.downs[0].conv)
    assert repr(model.final_conv.bias) == repr(network().final_conv.bias)


def test_memory_is_asked_for_where_the_model_lies(cupy, monkeypatch):
    monkeypatch.setattr(estimate, "available", lambda: 123)
    model = network()
    assert estimate.room(model) == 123
    assert estimate.room(model.to("cuda")) == cupy.cuda.runtime.memGetInfo()[0]


def test_only_the_cpu_is_explained(cupy):
    with pytest.raises(ValueError, match="explain measures the CPU"):
        mn.explain(network().to("cuda"), (8, 8))


# ----------------------------------------------------------------------------------------------- operations


def test_host_arrays_are_moved_by_an_operation_of_their_own(on_gpu, rng):
    a, b = mn.Tensor(rng.standard_normal((2, 3)), requires_grad=True), rng.standard_normal(3)
    y = F.multiply(a, b)
    assert kernels.on_device(y.data)
    assert [parent.name for parent, _ in y.node.edges] == ["to_device"]
    y.sum().backward()
    np.testing.assert_array_equal(a.grad, np.broadcast_to(b, (2, 3)), strict=True)  # on the host, as a is


def test_what_lies_there_is_recorded_as_it_is(on_gpu):
    x = mn.Tensor(on_gpu.zeros((2, 2), np.float32))
    assert F.to_device(x) is x


def test_inputs_in_two_places_are_refused(cupy, rng):
    x = rng.standard_normal((2, 3))
    with pytest.raises(TypeError, match=r"^add: some inputs lie on the GPU and some on the host"):
        F.add(device.move(x, "cuda"), x)


def test_numbers_become_arrays_without_a_transfer(cupy, rng):
    x = device.move(rng.standard_normal((2, 3)), "cuda")
    cupy.transfers.reset()
    y = (2 * F.mean(x) + 1) / 3
    assert cupy.transfers.to_device == cupy.transfers.to_host == cupy.transfers.synchronizations == 0
    assert y.dtype == np.float64 and y.item() == pytest.approx((2 * device.to_host(x).mean() + 1) / 3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradients_of_operations(on_gpu, name):
    checks()[name]()


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # 0 / 0 where no pixel counts, not used
def test_gradients_of_kernels(on_gpu):
    """One case of every kernel; the kernels' own tests have all of them."""
    found = {}
    for name, check in checks().items():
        if name not in OPERATIONS:
            found.setdefault(name.partition("-")[0], check)
    assert found.keys() >= {"conv2d", "conv_transpose2d", "max_pool2d", "relu", "resize", "batch_norm", "cross_entropy"}
    for check in found.values():
        check()


def test_gradcheck_of_arrays_on_the_device(cupy, rng):
    x = device.move(rng.standard_normal((2, 3)), "cuda")
    assert mn.gradcheck(F.multiply, x, x)
    with pytest.raises(AssertionError, match="gradients differ"):
        mn.gradcheck(lambda a: F.record("wrong", 2 * a.data, (a,), (lambda g: 2.001 * g,)), x)


def test_dropout_drops_what_it_drops_on_the_host(cupy, rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    expected = F.dropout(x, 0.5, np.random.default_rng(1)).data
    found = F.dropout(device.move(x, "cuda"), 0.5, np.random.default_rng(1)).data
    np.testing.assert_array_equal(device.to_host(found), expected)


@pytest.mark.parametrize("place", ["cpu", "cuda"])
@pytest.mark.parametrize("training", [True, False])
def test_running_estimates_stay_where_they_are(on_gpu, rng, place, training):
    x = rng.standard_normal((2, 3, 4, 5))
    estimates = [np.full(3, 0.5), np.full(3, 2.0)]
    with mn.use_backend("numpy"):
        expected = [a.copy() for a in estimates]
        y = F.batch_norm(x, np.ones(3), np.zeros(3), *expected, training)
    moved = [device.move(a, place) for a in estimates]
    found = F.batch_norm(x, np.ones(3), np.zeros(3), *moved, training)
    np.testing.assert_allclose(device.to_host(found.data), y.data, rtol=1e-12, atol=1e-14)
    for one, other in zip(moved, expected, strict=True):
        assert device.of(one) == place
        np.testing.assert_allclose(device.to_host(one), other, rtol=1e-12)


# --------------------------------------------------------------------------------------------------- losses

SHAPE = (2, 3, 4, 5)


def loss_and_gradient(loss, logits, *arguments, **options):
    tensor = mn.Tensor(logits, requires_grad=True)
    value = loss(tensor, *arguments, **options)
    value.backward(device.beside(np.ones(value.shape), logits))
    return device.to_host(value.data), device.to_host(tensor.grad)


def assert_as_on_the_host(loss, logits, *arguments, **options):
    """The loss and its gradient are the host's, for arguments on the host, and for those on the device."""
    expected = loss_and_gradient(loss, logits, *arguments, **options)
    there = device.move(logits, "cuda")
    for place in ("cpu", "cuda"):
        moved = [device.move(a, place) for a in arguments]
        named = {k: device.move(v, place) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        for found, value in zip(loss_and_gradient(loss, there, *moved, **named), expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", ["none", "some", "all"])
def test_cross_entropy_is_that_of_the_host(cupy, rng, reduction, ignored):
    target = rng.integers(0, 3, (2, 4, 5))
    if ignored != "none":
        target[..., 0 if ignored == "some" else slice(None)] = 255
    weight = np.exp(rng.standard_normal(target.shape))
    options = {"class_weight": np.array([0.5, 1, 3]), "ignore_index": 255, "reduction": reduction}
    with np.errstate(invalid="ignore"):  # the emulated 0 / 0 of a division that is not used
        assert_as_on_the_host(F.cross_entropy, rng.standard_normal(SHAPE), target, weight=weight, **options)
        assert_as_on_the_host(
            F.cross_entropy, rng.standard_normal(SHAPE), target, ignore_index=255, reduction=reduction
        )


def test_binary_cross_entropy_is_that_of_the_host(cupy, rng):
    logits, target, weight = rng.standard_normal((2, 1, 4, 5)), rng.random((2, 1, 4, 5)), rng.random((2, 1, 4, 5))
    assert_as_on_the_host(F.binary_cross_entropy_with_logits, logits, target)
    assert_as_on_the_host(F.binary_cross_entropy_with_logits, logits, target, weight=weight)


def test_dice_loss_is_that_of_the_host(cupy, rng):
    assert_as_on_the_host(F.dice_loss, rng.standard_normal(SHAPE), rng.integers(0, 3, (2, 4, 5)))
    assert_as_on_the_host(F.dice_loss, rng.standard_normal((2, 1, 4, 5)), rng.random((2, 1, 4, 5)))


@pytest.mark.parametrize("loss", [F.cross_entropy, F.dice_loss])
@pytest.mark.parametrize("wrong", [3, -1, 255])
def test_targets_are_checked_on_the_host_and_give_nan_on_the_device(cupy, rng, loss, wrong):
    logits, target = device.move(rng.standard_normal(SHAPE), "cuda"), rng.integers(0, 3, (2, 4, 5))
    target[1, 2, 3] = wrong
    with pytest.raises(ValueError, match=f"found {wrong}"):
        loss(logits, target)
    assert np.isnan(loss(logits, device.move(target, "cuda")).item())


def test_the_losses_of_targets_on_the_device_never_wait(cupy, rng):
    logits, single = (device.move(rng.standard_normal(shape), "cuda") for shape in (SHAPE, (2, 1, 4, 5)))
    target, share = device.move(rng.integers(0, 3, (2, 4, 5)), "cuda"), device.move(rng.random((2, 1, 4, 5)), "cuda")
    cupy.transfers.reset()
    for loss, z, t, options in (
        (F.cross_entropy, logits, target, {"ignore_index": 2}),
        (F.dice_loss, logits, target, {}),
        (F.dice_loss, single, share, {}),
        (F.binary_cross_entropy_with_logits, single, share, {"weight": share}),
    ):
        loss(mn.Tensor(z, requires_grad=True), t, **options).backward()
    assert cupy.transfers.to_device == cupy.transfers.to_host == cupy.transfers.synchronizations == 0


# ---------------------------------------------------------------------------------------------------- steps


def parameters(rng, place):
    made = [mn.Tensor(device.move(rng.standard_normal(shape), place), requires_grad=True) for shape in ((3, 2), (5,))]
    for p in made:
        p.grad = device.move(rng.standard_normal(p.shape), place)
    return made


@pytest.mark.parametrize("max_norm", [0.5, 100.0, np.inf])
def test_gradients_are_clipped_as_on_the_host(cupy, max_norm):
    host, there = (parameters(np.random.default_rng(2), place) for place in ("cpu", "cuda"))
    expected = optim.clip_grad_norm(host, max_norm)
    cupy.transfers.reset()
    norm = optim.clip_grad_norm(there, max_norm)
    assert cupy.transfers.to_device == cupy.transfers.to_host == cupy.transfers.synchronizations == 0
    assert float(norm) == pytest.approx(expected, rel=1e-14)
    for one, other in zip(there, host, strict=True):
        np.testing.assert_allclose(device.to_host(one.grad), other.grad, rtol=1e-14)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_left_alone(cupy, odd):
    there = parameters(np.random.default_rng(2), "cuda")
    there[0].grad[0, 0] = odd
    before = [device.to_host(p.grad) for p in there]
    assert not np.isfinite(float(optim.clip_grad_norm(there, 1.0)))
    for p, gradient in zip(there, before, strict=True):
        np.testing.assert_array_equal(device.to_host(p.grad), gradient)


def test_velocities_follow_their_parameters(cupy):
    def steps(places):
        made = parameters(np.random.default_rng(2), "cpu")
        optimizer = mn.SGD(made, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
        for place in places:
            for p in made:
                p.data, p.grad = device.move(p.data, place), device.move(p.grad, place)
            optimizer.step()
            assert all(device.of(v) == place for v in optimizer.velocities)
        return [device.to_host(p.data) for p in made]

    for found, expected in zip(steps(["cpu", "cuda", "cuda", "cpu"]), steps(["cpu"] * 4), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


# ------------------------------------------------------------------------------------------- whole networks


@pytest.mark.parametrize("shape", [{"padding": "valid", "norm": None, "dropout": 0}, {}], ids=["valid", "same"])
@pytest.mark.parametrize("training", [True, False])
def test_a_network_computes_what_it_computes_on_the_host(cupy, rng, shape, training):
    model = network(dtype=np.float64, **shape)
    side = 44 if model.padding == "valid" else 11
    images = rng.standard_normal((2, 1, side, side))
    state = {name: array.copy() for name, array in model.state_dict().items()}

    def run():
        model.load_state_dict(state)
        model.train(training)
        for module in model.modules():
            if hasattr(module, "rng"):
                module.rng.bit_generator.state = np.random.default_rng(1).bit_generator.state
        with mn.no_grad():
            return device.to_host(model(images).data), [device.to_host(a) for a in model.state_dict().values()]

    expected, estimates = run()
    model.to("cuda")
    found, moved = run()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    for one, other in zip(moved, estimates, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_model_of_the_host_is_computed_on_the_device_in_force(cupy, rng):
    model = network(dtype=np.float64).eval()
    images = rng.standard_normal((1, 1, 11, 8))
    expected = model(images).data
    with mn.use_backend("cuda"):
        logits = model(images)
        F.mean(logits).backward()
    assert model.device == "cpu" and kernels.on_device(logits.data)
    assert all(isinstance(parameter.grad, np.ndarray) for parameter in model.parameters())
    np.testing.assert_allclose(device.to_host(logits.data), expected, rtol=1e-9, atol=1e-12)


def test_a_tensor_of_the_host_gets_its_gradient_there(cupy, rng):
    model = network(dtype=np.float64, norm=None).eval().to("cuda")
    x = mn.Tensor(rng.standard_normal((1, 1, 8, 8)), requires_grad=True)
    F.mean(model(x)).backward()
    assert isinstance(x.grad, np.ndarray) and x.grad.any()


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_prediction_goes_there_once_and_comes_back_once(cupy, rng, outputs):
    model = mn.UNet(1, outputs, (2, 4), padding="same", norm="batch", dtype=np.float64)
    image = rng.integers(0, 255, (13, 17)).astype(np.uint8)
    expected = mn.predict(model, image)
    model.to("cuda")
    cupy.transfers.reset()
    found = mn.predict(model, image)
    assert (cupy.transfers.to_device, cupy.transfers.to_host) == (1, 1)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_tiles_take_the_same_way(cupy, rng, padding, tmp_path):
    """One transfer there and one back a tile; the mean over flips and rotations is made on the host."""
    model = mn.UNet(1, 2, (2, 4), padding=padding, dtype=np.float64)
    image = rng.integers(0, 255, (21, 18)).astype(np.uint8)
    expected, turned = mn.predict(model, image), mn.predict(model, image, tta=True)
    np.save(tmp_path / "a.npy", image)
    model.to("cuda")
    cupy.transfers.reset()
    found = mn.predict(model, image, tile=12)
    assert (cupy.transfers.to_device, cupy.transfers.to_host) == (4, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mn.predict(model, image, tile=12, tta=True), turned, rtol=1e-9, atol=1e-12)
    mn.predict_large(model, tmp_path / "a.npy", tmp_path / "o.npy", tmp_path / "p.npy", tile=12)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), expected, atol=1e-6)
