"""mn.load_torch against PyTorch: its own files of its own networks, and what it makes of ours."""

import io

import numpy as np
import pytest
from test_load_torch import FEATURES, SIZE, SMALL, distance, run
from torch_files import Tensor, state_of, streamed, zipped

import minunet as mn
import minunet.functional as F
from minunet.model_files.tensor_file import FileFormatError

torch = pytest.importorskip("torch", reason="compares with PyTorch")
torch_layouts = pytest.importorskip("torch_layouts")
torch_models = pytest.importorskip("torch_models")

NETWORKS = {
    "article": lambda: torch_models.build("article", 3, 2, FEATURES),
    "starred": lambda: torch_layouts.Starred(3, 2, FEATURES),
    "starred, with biases": lambda: torch_layouts.Starred(3, 2, FEATURES, bias=True),
    "starred, bilinear": lambda: torch_layouts.Starred(3, 2, FEATURES, bilinear=True),
    "hub": lambda: torch_layouts.Hub(3, 1, FEATURES),
}
each_network = pytest.mark.parametrize("name", NETWORKS)
both_formats = pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "stream"])


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def image(dtype, size=SIZE, channels=3):
    return np.random.default_rng(1).standard_normal((2, channels, *size)).astype(dtype)


def logits_of(model, x):
    options = {"logits": True} if isinstance(model, torch_layouts.Hub) else {}
    with torch.no_grad():
        return model(torch.from_numpy(x), **options).numpy()


def saved(tmp_path, value, zip_format=True, **options):
    path = tmp_path / "model.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zip_format, **options)
    return path


@each_network
@both_formats
@pytest.mark.parametrize("dtype, within", [("float64", 1e-12), ("float32", 1e-5)])
def test_every_layout(tmp_path, name, zip_format, dtype, within, backend):
    theirs = torch_layouts.settled(NETWORKS[name](), getattr(torch, dtype))
    ours = mn.load_torch(saved(tmp_path, theirs.state_dict(), zip_format))
    x = image(dtype, (24, 32) if name == "hub" else SIZE)
    assert distance(ours, x, logits_of(theirs, x)) < within


def test_the_largest_layout_has_118_entries(tmp_path):
    theirs = torch_layouts.settled(torch_layouts.Starred(1, 2, (4, 8, 16, 32)))
    assert len(theirs.state_dict()) == 118
    ours = mn.load_torch(saved(tmp_path, theirs.state_dict() | {"mask_values": [0, 1]}))
    x = image("float32", (53, 67), 1)
    assert distance(ours, x, logits_of(theirs, x)) < 1e-5


@both_formats
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_checkpoints_of_trainings(tmp_path, zip_format, protocol):
    """As scripts write them: wrapped, through DataParallel, with an optimizer, parameters that need gradients."""
    theirs = NETWORKS["starred"]()
    parallel = torch.nn.DataParallel(theirs)
    moments = {i: {"step": torch.tensor(1.0), "exp_avg": p.data.clone()} for i, p in enumerate(theirs.parameters())}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": list(moments)}]}
    state = {f"module.{name}": value for name, value in theirs.state_dict(keep_vars=True).items()}
    assert parallel.state_dict().keys() == state.keys()
    checkpoint = {"epoch": 3, "model_state_dict": state, "optimizer": optimizer, "best": 0.5,
                  "device": torch.device("cpu"), "shape": torch.Size((3, 4))}  # fmt: skip
    ours = mn.load_torch(saved(tmp_path, checkpoint, zip_format, pickle_protocol=protocol))
    x = image("float32")
    assert distance(ours, x, logits_of(theirs.eval(), x)) < 1e-5


@both_formats
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits(tmp_path, zip_format, dtype):
    theirs = torch_layouts.settled(NETWORKS["hub"](), getattr(torch, dtype))
    ours = mn.load_torch(saved(tmp_path, theirs.state_dict(), zip_format))
    x = image("float32", (16, 24))
    assert distance(ours, x, logits_of(theirs.float(), x)) < 1e-5


def test_views(tmp_path):
    """Channels-last weights, and all of them slices of one storage."""
    theirs = torch_layouts.settled(NETWORKS["article"]()).to(memory_format=torch.channels_last)
    state = theirs.state_dict()
    assert not state["final_conv.weight"].is_contiguous() or not state["downs.1.conv.0.weight"].is_contiguous()
    x = image("float32")
    assert distance(mn.load_torch(saved(tmp_path, state)), x, logits_of(theirs, x)) < 1e-5
    floats = {name: value for name, value in state.items() if value.ndim}
    joined, at = torch.cat([value.flatten() for value in floats.values()]), 0
    for name, value in floats.items():
        state[name] = joined[at : at + value.numel()].view(value.shape)
        at += value.numel()
    assert distance(mn.load_torch(saved(tmp_path, state)), x, logits_of(theirs, x)) < 1e-5


def test_what_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"found 'torch_layouts\.Hub' in its pickle.*torch\.save\(model\.state"):
        mn.load_torch(saved(tmp_path, NETWORKS["hub"]()))
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 2, 3)), tmp_path / "script.pt")
    with pytest.raises(FileFormatError, match="__torch__"):
        mn.load_torch(tmp_path / "script.pt")


def test_the_files_that_tests_write_are_files_of_pytorch():
    states = {
        "plain": state_of(SMALL),
        "bfloat16": {"a": Tensor.bfloat16(np.arange(6, dtype=np.float32).reshape(2, 3))},
        "parameter": {"a": Tensor.of(np.arange(6.0))},
    }
    states["parameter"]["a"].parameter = True
    for state in states.values():
        for content in (zipped(state), streamed(state)):
            found = torch.load(io.BytesIO(content), weights_only=True)
            assert found.keys() == state.keys()
    found = torch.load(io.BytesIO(zipped(state_of(SMALL))), weights_only=True)
    for name, array in SMALL.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


@each_network
def test_the_networks_of_the_tests_are_those_of_pytorch(name):
    """tests/layouts.py against tests/torch_layouts.py: the same names, shapes and numbers."""
    state, x, logits = run(name, channels=(3, 1 if name == "hub" else 2))
    theirs = NETWORKS[name]().double().eval()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    np.testing.assert_allclose(logits_of(theirs, x), logits, rtol=0, atol=1e-12 * np.abs(logits).max())


def test_a_model_of_the_article_saved_here_loads_there(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="reads .safetensors for PyTorch")
    ours = mn.load_torch(saved(tmp_path, torch_layouts.settled(NETWORKS["article"]()).state_dict()))
    mn.save(ours, tmp_path / "model.safetensors")
    theirs = NETWORKS["article"]().eval()
    theirs.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"), strict=True)
    x = image("float32")
    assert distance(ours, x, logits_of(theirs, x)) < 1e-5


def test_training_goes_on_as_in_pytorch(tmp_path, backend):
    """Gradients with padded skips, and what the removed biases would have changed: nothing but their own."""
    theirs = torch_layouts.settled(NETWORKS["starred, with biases"](), torch.float64)
    ours = mn.load_torch(saved(tmp_path, theirs.state_dict())).train()
    x, g = image("float64"), np.random.default_rng(2).standard_normal((2, 2, *SIZE))
    F.sum(ours(x) * g).backward()
    (theirs.train()(torch.from_numpy(x)) * torch.from_numpy(g)).sum().backward()
    mine, its = dict(ours.named_parameters()), dict(theirs.named_parameters())
    for name, same in (("downs.0.conv.0.weight", "inc.double_conv.0.weight"), ("ups.4.weight", "up3.up.weight"),
                       ("ups.1.conv.0.weight", "up1.conv.double_conv.0.weight")):  # fmt: skip
        expected = its[same].grad.numpy()
        assert np.linalg.norm(mine[name].grad - expected) < 1e-9 * np.linalg.norm(expected)
    # The biases are in the running means: training moves these by the means of what has no bias.
    ours.eval(), theirs.eval()
    assert distance(ours, x, logits_of(theirs, x)) < 1e-12
