"""Modules: names, modes, state dicts and what happens when they do not fit."""

import numpy as np
import pytest

import minunet as mn
from minunet import nn


class Block(nn.Module):
    """Parameters, buffers and modules, in an order that is not the alphabet's."""

    def __init__(self, dtype=np.float32):
        rng = np.random.default_rng(0)
        self.second = nn.Conv2d(2, 3, 3, padding=1, rng=rng, dtype=dtype)
        self.norm = nn.BatchNorm2d(3, dtype=dtype)
        self.first = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 1, 1, bias=False, rng=rng, dtype=dtype))
        self.note = "no parameter"

    def forward(self, x):
        return self.first(self.norm(self.second(x)))


NAMES = [
    "second.weight",
    "second.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
    "first.1.weight",
]
BUFFERS = NAMES[4:7]
X = np.random.default_rng(0).standard_normal((2, 2, 4, 4)).astype(np.float32)


def snapshot(module):
    return {name: array.copy() for name, array in module.state_dict().items()}


def assert_unchanged(module, before):
    after = module.state_dict()
    assert list(after) == list(before)
    for name, array in after.items():
        assert array.dtype == before[name].dtype
        np.testing.assert_array_equal(array, before[name])


# ---------------------------------------------------------------------------------------- contents


def test_names_follow_the_order_of_assignment():
    block = Block()
    assert list(block.state_dict()) == NAMES
    assert [name for name, _ in block.named_parameters()] == [n for n in NAMES if n not in BUFFERS]
    assert block.parameters() == [p for _, p in block.named_parameters()]
    assert all(p.requires_grad for p in block.parameters())


def test_state_dict_holds_the_arrays_themselves():
    block = Block()
    assert block.state_dict()["second.weight"] is block.second.weight.data
    assert block.state_dict()["norm.running_mean"] is block.norm.running_mean


def test_modules_of_one_list():
    block = Block()
    assert [type(m).__name__ for m in block.modules()] == [
        "Block", "Conv2d", "BatchNorm2d", "Sequential", "ReLU", "Conv2d",
    ]  # fmt: skip
    assert isinstance(nn.ModuleList(nn.ReLU(), block)[1], Block)


def test_containers_compute_nothing():
    for module in (nn.ModuleList(nn.ReLU()), nn.Module()):
        with pytest.raises(TypeError, match=r"(ModuleList|Module) is a container"):
            module(X)


def test_zero_grad_forgets_all_gradients():
    block = Block()
    block(X).sum().backward()
    assert all(p.grad is not None for p in block.parameters())
    block.zero_grad()
    assert all(p.grad is None for p in block.parameters())


def test_modes_reach_all_modules():
    block = Block()
    assert all(m.training for m in block.modules())
    assert block.eval() is block
    assert not any(m.training for m in block.modules())
    assert block.train() is block
    assert all(m.training for m in block.modules())


def test_batch_norm_counts_its_batches_in_training_only():
    block = Block()
    block(X)
    block(X)
    assert block.norm.num_batches_tracked == 2
    before = snapshot(block)
    block.eval()(X)
    assert_unchanged(block, before)


def test_dropout_is_for_training_only():
    rng = np.random.default_rng(0)
    dropout = nn.Dropout(0.5, rng=rng)
    x = mn.Tensor(X)
    assert (dropout(x).data == 0).sum() > 10
    state = rng.bit_generator.state
    assert dropout.eval()(x) is x
    assert rng.bit_generator.state == state


def test_modules_take_arrays_and_tensors():
    block = Block().eval()
    np.testing.assert_array_equal(block(X).data, block(mn.Tensor(X)).data)


# ------------------------------------------------------------------------------------- state dicts


@pytest.mark.parametrize("before, after", [(np.float32, np.float64), (np.float64, np.float32)])
def test_loading_copies_and_takes_the_dtype(before, after):
    source, block = Block(after), Block(before)
    state = snapshot(source)
    state["norm.num_batches_tracked"] = np.array(7)
    for array in state.values():
        array += 1
    block.load_state_dict(state)
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == state[name].dtype
        assert not np.shares_memory(array, state[name])
    assert block.norm.weight.dtype == block(X.astype(after)).dtype == after
    block(X.astype(after)).sum().backward()
    assert block.second.weight.grad.dtype == after


def test_loading_keeps_the_tensors_and_forgets_their_gradients():
    """An optimiser that holds them goes on with the new numbers."""
    block = Block()
    parameters = block.parameters()
    block(X).sum().backward()
    block.load_state_dict(snapshot(Block()))
    assert all(a is b for a, b in zip(parameters, block.parameters(), strict=True))
    assert all(p.grad is None and p.requires_grad for p in parameters)


@pytest.mark.parametrize("counter", [5, np.int64(5), np.int32(5), np.array(5), np.array(5, np.int8)])
def test_integer_buffers_without_axes_are_accepted(counter):
    block = Block()
    block.load_state_dict({**snapshot(block), "norm.num_batches_tracked": counter})
    assert isinstance(block.norm.num_batches_tracked, np.ndarray)
    assert block.norm.num_batches_tracked.dtype == np.int64
    assert block.norm.num_batches_tracked == 5


def test_tensors_and_other_memory_orders_are_accepted():
    block = Block()
    state = snapshot(Block())
    state["second.weight"] = np.asfortranarray(state["second.weight"])
    state["second.bias"] = mn.Tensor(state["second.bias"])
    state["norm.weight"] = state["norm.weight"].astype(">f4")
    block.load_state_dict(dict(reversed(state.items())))
    assert list(block.state_dict()) == NAMES
    assert all(p.dtype.isnative for p in block.parameters())
    block(X).sum().backward()


def broken(**changes):
    """A state dict with entries changed, or removed (None)."""
    state = snapshot(Block())
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


FAULTS = {
    "missing": ({"second.bias": None}, ["missing: second.bias"]),
    "missing buffer": ({"norm.running_var": None}, ["missing: norm.running_var"]),
    "unexpected": ({"second.extra": np.ones(1, np.float32)}, ["unexpected: second.extra"]),
    "shape": ({"norm.bias": np.ones(4, np.float32)}, [r"norm.bias: expected shape \(3,\), found \(4,\)"]),
    "one axis more": (
        {"norm.num_batches_tracked": np.ones(1, int)},
        [r"norm.num_batches_tracked: expected shape \(\), found \(1,\)"],
    ),
    "integers": ({"norm.bias": np.ones(3, int)}, ["norm.bias: expected float32, found int64"]),
    "floating counter": (
        {"norm.num_batches_tracked": np.array(1, np.float32)},
        ["norm.num_batches_tracked: expected int64, found float32"],
    ),
    "mixed dtypes": ({"norm.bias": np.ones(3)}, ["one dtype, float32 or float64, found float32, float64"]),
    "text": ({"norm.bias": "abc"}, [r"norm.bias: expected shape \(3,\), found \(\)"]),
    "everything": (
        {"second.bias": None, "first.1.weight": None, "x": np.ones(1), "norm.bias": np.ones((3, 1), np.float32)},
        ["missing: second.bias", "missing: first.1.weight", "unexpected: x", "norm.bias: expected shape", "float64"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("changes, messages", FAULTS.values(), ids=FAULTS)
def test_a_state_that_does_not_fit_changes_nothing(changes, messages):
    block = Block()
    before = snapshot(block)
    for message in messages:
        with pytest.raises(ValueError, match=f"state_dict does not fit: .*{message}"):
            block.load_state_dict(broken(**changes))
        assert_unchanged(block, before)


def test_float16_is_not_a_dtype_to_compute_in():
    block = Block()
    before = snapshot(block)
    half = {n: a.astype(np.float16) if a.dtype.kind == "f" else a for n, a in before.items()}
    with pytest.raises(ValueError, match="float32 or float64, found float16"):
        block.load_state_dict(half)
    assert_unchanged(block, before)


# ---------------------------------------------------------------------------------- initialisation


def test_weights_have_the_spread_of_their_incoming_nodes():
    rng = np.random.default_rng(0)
    for module, std in [
        (nn.Conv2d(64, 128, 3, rng=rng), np.sqrt(2 / 576)),
        (nn.Conv2d(300, 200, 1, rng=rng), np.sqrt(2 / 300)),
        (nn.ConvTranspose2d(128, 64, 2, rng=rng), np.sqrt(2 / 128)),
    ]:
        weight = module.weight.data
        assert weight.dtype == np.float32
        # The standard error of a standard deviation is std / sqrt(2 n); six of them.
        assert abs(weight.std() - std) < 6 * std / np.sqrt(2 * weight.size)
        assert abs(weight.mean()) < 6 * std / np.sqrt(weight.size)
        assert not module.bias.data.any()


def test_batch_norm_starts_as_the_identity_of_normal_numbers():
    norm = nn.BatchNorm2d(3)
    assert (norm.weight.data == 1).all() and not norm.bias.data.any()
    assert not norm.running_mean.any() and (norm.running_var == 1).all()
    assert norm.num_batches_tracked.shape == () and norm.num_batches_tracked == 0
