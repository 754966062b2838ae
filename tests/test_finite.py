"""The first value that is not finite is found, in its layer and direction, and no trace of the step stays."""

import numpy as np
import pytest

import minunet as mn
from minunet import functional as F
from minunet.data import cells, from_arrays
from minunet.errors import WorkFailed
from minunet.training import checkpoint
from minunet.training.finite import first_nonfinite
from minunet.training.train import Recipe, Trainer


@pytest.fixture(scope="module")
def data():
    dataset = from_arrays(*cells(4, size=16, seed=3), target="instances")
    return dataset.subset(range(3)), dataset.subset([3])


@pytest.fixture(autouse=True)
def numpy_kernels():
    with mn.use_backend("numpy"), np.errstate(all="ignore"):  # overflows are what is tested here
        yield


def network(**options):
    return mn.UNet(1, 2, **{"features": (2, 4), "padding": "same", "norm": "batch", "seed": 1} | options)


def fault_of(model, loss=F.cross_entropy, value=0.5):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 1, 16, 16)).astype(np.float32) * value
    return first_nonfinite(model, loss, x, rng.integers(0, 2, (2, 16, 16)))


def test_a_sound_network_has_no_fault():
    assert fault_of(network()) is None
    assert fault_of(network(norm=None, dropout=0.5)) is None


NAMES = [name for name, _ in network().named_parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_nan_is_found_in_its_layer(name):
    model = network()
    dict(model.named_parameters())[name].data.flat[0] = np.nan
    fault = fault_of(model)
    layer, part = name.rpartition(".")[::2]
    assert fault.where.startswith(f"{layer} (") and fault.direction == "forward"
    assert fault.found == "NaN" and fault.spoilt == name
    assert f"its {part} holds NaN" in fault.evidence and "its input is finite" in fault.evidence


def test_an_overflow_on_the_way_forward():
    model = network(norm=None)
    weights = dict(model.named_parameters())
    weights["downs.1.conv.2.weight"].data[...] = 3e38
    fault = fault_of(model)
    assert str(fault).startswith(
        "the first infinite value comes from downs.1.conv.2 (convolution and relu), forward: its input is finite, up to"
    )
    assert fault.spoilt is None and "its weight is finite, up to 3e+38" in fault.evidence


def test_an_overflow_only_on_the_way_back():
    """Forwards all is finite: the huge weights see a zero. Backwards they meet the gradient."""
    model = network(norm=None)
    weights = dict(model.named_parameters())
    for name in ("ups.3.conv.0", "ups.3.conv.2"):  # nothing comes through forwards but the second one's bias
        weights[f"{name}.weight"].data[...] = 0
    weights["ups.3.conv.0.bias"].data[...] = 1e-30
    weights["ups.3.conv.2.bias"].data[...] = 1
    weights["ups.3.conv.2.weight"].data[...] = 2e30
    weights["final_conv.weight"].data[...] = [[[[2e12]], [[2e12]]], [[[-2e12]], [[-2e12]]]]
    fault = fault_of(model)
    assert fault.where == "ups.3.conv.2 (convolution and relu)" and fault.direction == "backward"
    assert "the gradient of its input is not finite; the gradient that came in is finite" in fault.evidence


def test_gradients_whose_sum_overflows():
    model = network(norm=None)
    for _, parameter in model.named_parameters():
        parameter.data[...] = 0  # forwards all is 0
    fault = fault_of(model, lambda logits, target: F.sum(logits * 2e38) + F.sum(logits * 2e38))
    assert fault.where == "final_conv (convolution)" and fault.direction == "backward"
    assert "gradients that are finite each have a sum that is not" in fault.evidence


@pytest.mark.parametrize("loss, words", [("ce", "cross entropy"), ("dice", "softmax")])
def test_a_fault_in_the_loss(loss, words):
    model = network(norm=None)
    dict(model.named_parameters())["final_conv.bias"].data[:] = 3e38, -3e38
    fault = fault_of(model, F.cross_entropy if loss == "ce" else F.dice_loss)
    assert fault is None or fault.where == f"the loss ({words})"
    assert fault is not None or loss == "dice"


def test_the_search_leaves_functional_as_it_was():
    record = F.record
    model = network()
    model.final_conv.weight.data[...] = np.nan
    assert fault_of(model) is not None
    assert F.record is record


# -------------------------------------------------------------------------------------- in the training


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("lr", [1e30, 1e39])  # too large for the next step's activations, and for the weights
def test_no_warning_comes_before_the_error(data, backend, norm, lr):
    if backend == "numba":
        pytest.importorskip("numba", reason="numba is not installed")
    with mn.use_backend(backend), np.errstate(all="raise", under="ignore"), pytest.raises(WorkFailed, match="finite"):
        mn.fit(network(norm=norm), data[0], steps=8, lr=lr, warmup=0)


def test_warnings_elsewhere_are_left_alone(data):
    trainer = Trainer(network(), *data, Recipe(batch_size=2))
    with np.errstate(over="raise"):
        trainer.step(0, 0.1)
        with pytest.raises(FloatingPointError):
            np.float32(1e30) * np.float32(1e30)


def test_training_names_layer_direction_and_remedy(data):
    model = network(norm=None)
    with pytest.raises(WorkFailed) as caught:
        mn.fit(model, *data, steps=30, lr=1e20, clip=None, warmup=0)
    message = str(caught.value)
    assert "no longer finite at step 2 (learning rate 9.97e+19): the first " in message
    assert "(convolution and relu), forward: its input is finite, up to" in message
    assert message.endswith("Try a lower --lr than 1e+20, and look for odd values in the images")


def test_a_weight_that_was_nan_from_the_start(data):
    model = network()
    dict(model.named_parameters())["downs.1.conv.3.weight"].data[0] = np.nan
    for validation in (data[1], None):
        with pytest.raises(WorkFailed) as caught:
            mn.fit(model, data[0], validation, steps=3)
        message = str(caught.value)
        assert "the first NaN comes from downs.1.conv.3 (convolution), forward: " in message
        assert message.endswith("downs.1.conv.3.weight was so from the start: begin with another model")


def test_images_that_hold_nan_are_named(data):
    broken = data[0].subset(range(3))
    broken.images[1] = np.full_like(broken.images[1], np.nan)
    with pytest.raises(WorkFailed, match=r"The images hold NaN or infinite values \(image0001\): mend them"):
        mn.fit(network(), broken, steps=3)


def plant(model, name, value=np.nan):
    dict(model.named_parameters())[name].data.flat[0] = value


def test_the_last_good_checkpoint_stays(data, tmp_path, monkeypatch):
    """A weight is spoilt in mid-run: neither the step, nor the look after it, nor Ctrl-C, writes a checkpoint of it."""
    for where in ("progress", "interrupt"):
        path, model, good = tmp_path / f"{where}.safetensors", network(), []

        def progress(done, loss, path=path, model=model, good=good, where=where):
            if done == 4:
                good.append(path.read_bytes())
                plant(model, "bottleneck.conv.0.weight")
                if where == "interrupt":
                    raise KeyboardInterrupt

        with pytest.raises(WorkFailed, match=r"bottleneck\.conv\.0 \(convolution\), forward: .*its weight holds NaN"):
            mn.fit(model, *data, steps=12, batch_size=1, checkpoint=path, progress=progress)
        assert path.read_bytes() == good[0]
        assert checkpoint.read(path).done == 3


def test_running_estimates_are_looked_at_too(data):
    model = network()

    def report(record):
        if record["step"] == 2:
            model.bottleneck.conv.__dict__["1"].running_var[0] = np.inf

    with pytest.raises(WorkFailed, match=r"bottleneck\.conv\.1\.running_var is not finite after 3 steps"):
        mn.fit(model, *data, steps=6, report=report)


def test_gradients_are_looked_at_without_a_limit_for_them_too(data, monkeypatch):
    backward = mn.Tensor.backward

    def spoil(tensor):
        backward(tensor)
        model.final_conv.weight.grad[...] = np.inf

    model = network()
    monkeypatch.setattr(mn.Tensor, "backward", spoil)
    with pytest.raises(WorkFailed, match="the gradient is no longer finite at step 1"):
        mn.fit(model, data[0], steps=1, clip=None)


def test_a_failed_step_leaves_no_trace(data):
    """Neither in the weights, nor in batch norm's estimates, nor in dropout's random numbers."""
    model = network(dropout=0.5)
    trainer = Trainer(model, *data, Recipe())
    trainer.step(0, 0.01)
    plant(model, "final_conv.weight")
    state = {name: array.copy() for name, array in model.state_dict().items()}
    generator = str(checkpoint._random_state(model))
    with pytest.raises(WorkFailed):
        trainer.step(1, 0.01)
    assert str(checkpoint._random_state(model)) == generator
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)
