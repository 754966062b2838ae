"""State dicts of PyTorch's networks, copied in, must behave as in PyTorch.

float64: logits, loss and every parameter's gradient within 1e-9 of the tensor's norm.  float32: logits and loss
within 1e-4, the gradient of all parameters together with a cosine of at least 0.999 (one ReLU decided otherwise moves
single ones by 1e-3 and more, between any two correct implementations).
"""

import numpy as np
import pytest
from golden.cases import ARCHITECTURES, batch, loss, network

import minunet as mn

torch = pytest.importorskip("torch", reason="compares with PyTorch")
torch_models = pytest.importorskip("torch_models")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def both(architecture, channels, features, n, size, weighted, dtype, training):
    """Results of minunet and of PyTorch from one state and batch: (logits, loss, gradients, state after) each."""
    ours = network(architecture, *channels, features, dtype, seed=5).train(training)
    theirs = torch_models.build(architecture, *channels, features).train(training)
    torch_models.load(theirs, ours.state_dict())
    x, target, weight = batch(ours, n, size, weighted, np.random.default_rng(6))

    logits = ours(x)
    value = loss(logits, target, weight)
    value.backward()
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    mine = (logits.data, value.data, gradients, ours.state_dict())

    x, target, weight = torch_models.tensors(x, target, weight)
    logits = theirs(x)
    value = torch_models.loss(logits, target, weight)
    value.backward()
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    state = {name: t.detach().numpy() for name, t in theirs.state_dict().items()}
    return mine, (logits.detach().numpy(), value.detach().numpy(), gradients, state)


def distance(a, b):
    """|a - b| relative to |b|."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def cosine(a, b):
    a, b = (np.concatenate([g[name].reshape(-1).astype(np.float64) for name in a]) for g in (a, b))
    return a @ b / (np.linalg.norm(a) * np.linalg.norm(b))


CASES = {
    "article, 3 to 1": ("article", (3, 1), (4, 7, 8), 2, (37, 47), False),
    "article, 1 to 2": ("article", (1, 2), (4, 8), 2, (22, 19), False),
    "article, 1 to 2, weights": ("article", (1, 2), (4, 8), 1, (24, 32), True),
    "paper": ("paper", (1, 2), (4, 8), 2, (44, 56), False),
    "paper, weights": ("paper", (1, 2), (4, 7, 8), 1, (108, 92), True),
    "paper, 3 to 1, weights": ("paper", (3, 1), (5, 8), 1, (60, 52), True),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])


@each_case
@each_mode
def test_float64(case, training, backend):
    (logits, value, gradients, state), (logits_t, value_t, gradients_t, state_t) = both(*case, np.float64, training)
    assert distance(logits, logits_t) < 1e-9
    assert distance(value, value_t) < 1e-9
    assert gradients.keys() == gradients_t.keys()
    far = {n: distance(gradients[n], gradients_t[n]) for n in gradients}
    assert {n: d for n, d in far.items() if d >= 1e-9} == {}
    for name, array in state.items():  # batch norm's estimates and counters move in training, in the same way
        np.testing.assert_allclose(array, state_t[name], rtol=1e-12, atol=1e-12, err_msg=name)


@each_case
@each_mode
def test_float32(case, training, backend):
    (logits, value, gradients, state), (logits_t, value_t, gradients_t, state_t) = both(*case, np.float32, training)
    np.testing.assert_allclose(logits, logits_t, rtol=0, atol=1e-4)
    np.testing.assert_allclose(value, value_t, rtol=0, atol=1e-4)
    assert cosine(gradients, gradients_t) >= 0.999
    for name, array in state.items():
        assert array.dtype == state_t[name].dtype
        np.testing.assert_allclose(array, state_t[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_state_of_torch_goes_in_and_comes_back(architecture):
    """As a user would do it: {name: tensor.numpy()} into load_state_dict, and our arrays back into PyTorch."""
    theirs = torch_models.build(architecture, 3, 2, (3, 4)).eval()
    ours = mn.UNet(3, 2, (3, 4), **ARCHITECTURES[architecture])
    ours.load_state_dict({name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((1, 3, 44, 52)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.eval()(x).data, expected, rtol=0, atol=1e-4)
    for name, tensor in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], tensor.numpy())
    again = torch_models.build(architecture, 3, 2, (3, 4)).eval()
    torch_models.load(again, ours.state_dict())
    with torch.no_grad():
        assert torch.equal(again(torch.from_numpy(x)), torch.from_numpy(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_saved_model_loads_in_torch(architecture, dtype, tmp_path):
    """As a user of PyTorch would load it: the file by the safetensors library, strictly, without us in between."""
    load_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").load_file
    ours = network(architecture, 3, 2, (3, 4), dtype, seed=5)
    x = np.random.default_rng(0).standard_normal((2, 3, 44, 52)).astype(dtype)
    with mn.no_grad():
        ours.train()(x)  # moves the estimates and counters of batch norm
        expected = ours.eval()(x).data
    mn.save(ours, tmp_path / "model.safetensors")

    theirs = torch_models.build(architecture, 3, 2, (3, 4)).to(torch.from_numpy(x).dtype).eval()
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"), strict=True)
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(theirs.state_dict()[name].numpy(), array, strict=True)
    with torch.no_grad():
        found = theirs(torch.from_numpy(x)).numpy()
    assert distance(found, expected) < (1e-5 if dtype == np.float32 else 1e-12)
