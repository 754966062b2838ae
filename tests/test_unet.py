"""The network: layers, names, sizes, initialisation, and its gradient as a whole."""

import json
import re
import warnings

import numpy as np
import pytest
from golden.cases import ARCHITECTURES, batch, loss, network

import minunet as mn
import minunet.functional as F
from minunet import nn
from minunet.display.info import info, layers
from minunet.kernels import arrays
from minunet.model_files.weights import parameter_shapes
from minunet.unet import legal_sides

FULL = (64, 128, 256, 512)
PAPER, ARTICLE = ARCHITECTURES["paper"], ARCHITECTURES["article"]


@pytest.fixture
def numpy_backend():
    """For shapes and modes, which are no business of the kernels."""
    with mn.use_backend("numpy"):
        yield


def image(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# -------------------------------------------------------------------------------- layers and names


@pytest.mark.parametrize(
    "count, channels, features, architecture",
    [
        (31_030_658, (1, 2), FULL, PAPER),
        (31_030_593, (1, 1), FULL, PAPER),
        (31_037_633, (3, 1), FULL, ARTICLE),
        (31_036_481, (1, 1), FULL, ARTICLE),
        (7_762_465, (1, 1), (32, 64, 128, 256), ARTICLE),
        (1_942_289, (1, 1), (16, 32, 64, 128), ARTICLE),
    ],
)
def test_number_of_parameters(count, channels, features, architecture, monkeypatch):
    # The counts need no random numbers.
    monkeypatch.setattr(nn, "normal", lambda _, shape, __, d: mn.Tensor(np.empty(shape, d), requires_grad=True))
    model = mn.UNet(*channels, features, **architecture)
    assert sum(p.data.size for p in model.parameters()) == count
    assert f"{count:,} parameters" in repr(model)


def expected_entries(architecture, in_channels, out_channels, features):
    """{name: shape} as PyTorch's code of the same network has them."""
    entries = {}

    def double_conv(prefix, c, o):
        if architecture == "paper":
            for position, incoming in (("0", c), ("2", o)):
                entries[f"{prefix}.conv.{position}.weight"] = (o, incoming, 3, 3)
                entries[f"{prefix}.conv.{position}.bias"] = (o,)
            return
        for position, incoming in ((0, c), (3, o)):
            entries[f"{prefix}.conv.{position}.weight"] = (o, incoming, 3, 3)
            for name in ("weight", "bias", "running_mean", "running_var"):
                entries[f"{prefix}.conv.{position + 1}.{name}"] = (o,)
            entries[f"{prefix}.conv.{position + 1}.num_batches_tracked"] = ()

    c = in_channels
    for i, f in enumerate(features):
        double_conv(f"downs.{i}", c, f)
        c = f
    double_conv("bottleneck", c, 2 * c)
    c *= 2
    for i, f in enumerate(reversed(features)):
        entries[f"ups.{2 * i}.weight"], entries[f"ups.{2 * i}.bias"] = (c, f, 2, 2), (f,)
        double_conv(f"ups.{2 * i + 1}", 2 * f, f)
        c = f
    entries["final_conv.weight"], entries["final_conv.bias"] = (out_channels, c, 1, 1), (out_channels,)
    return entries


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("features", [(2, 4, 8, 16), (5,), (3, 7, 2)], ids=str)
def test_names_and_shapes(architecture, features):
    model = mn.UNet(3, 2, features, **ARCHITECTURES[architecture])
    found = {name: array.shape for name, array in model.state_dict().items()}
    assert found == expected_entries(architecture, 3, 2, features)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    trained = {name for name, _ in model.named_parameters()}
    assert trained == {name for name in found if not name.endswith(buffers)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_names_are_those_of_torch(architecture):
    torch_models = pytest.importorskip("torch_models", reason="compares with PyTorch", exc_type=ImportError)
    model = mn.UNet(3, 2, (3, 5), **ARCHITECTURES[architecture])
    theirs = torch_models.build(architecture, 3, 2, (3, 5)).state_dict()
    assert {n: a.shape for n, a in model.state_dict().items()} == {n: tuple(t.shape) for n, t in theirs.items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("levels", [1, 3])
def test_dropout_stands_at_the_end_of_the_contracting_path(architecture, levels):
    features = (4, 6, 8)[:levels]
    model = mn.UNet(features=features, dropout=0.5, **architecture)
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert len(dropouts) == 2
    for block, dropout in zip((model.downs[levels - 1], model.bottleneck), dropouts, strict=True):
        *_, relu, last = block.conv
        assert isinstance(relu, nn.ReLU) and last is dropout and dropout.p == 0.5
    plain = mn.UNet(features=features, **architecture)
    assert not any(isinstance(m, nn.Dropout) for m in plain.modules())
    assert list(plain.state_dict()) == list(model.state_dict())


def test_dropout_works_in_training_only(numpy_backend):
    model = mn.UNet(1, 2, (4, 8), dropout=0.5)
    x = image(1, 1, 44, 44)
    assert (model(x).data != model(x).data).any()
    model.eval()
    np.testing.assert_array_equal(model(x).data, model(x).data)
    plain = mn.UNet(1, 2, (4, 8))
    plain.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(model(x).data, plain(x).data)


# ----------------------------------------------------------------------------------- initialisation


def test_spread_of_the_weights():
    """N(0, sqrt(2 / incoming nodes)): 0.0589 for 3 x 3 over 64 channels."""
    for architecture in (PAPER, ARTICLE):
        model = mn.UNet(1, 2, (64, 80), **architecture)
        for name, parameter in model.named_parameters():
            weight = parameter.data
            if weight.ndim < 4:
                one = model.norm and name.endswith("weight")
                assert (weight == (1 if one else 0)).all(), name
                continue
            up = re.fullmatch(r"ups\.\d*[02468]\.weight", name)
            std = np.sqrt(2 / (weight.shape[0] if up else weight[0].size))
            assert abs(weight.std() - std) < 6 * std / np.sqrt(2 * weight.size), name
            assert abs(weight.mean()) < 6 * std / np.sqrt(weight.size), name
        second = model.downs[0].conv
        weight = getattr(second, "3" if model.norm else "2").weight.data
        assert weight.shape == (64, 64, 3, 3)
        assert weight.std() == pytest.approx(0.0589, rel=0.02)


def test_the_seed_decides_everything(numpy_backend):
    x = image(1, 1, 44, 44)
    runs = []
    for seed in (0, 0, 1):
        model = mn.UNet(1, 2, (4, 8), dropout=0.5, seed=seed)
        runs.append([*model.state_dict().values(), model(x).data, model(x).data])
    for first, second in zip(*runs[:2], strict=True):
        np.testing.assert_array_equal(first, second)
    assert (runs[0][0] != runs[2][0]).any() and (runs[0][-1] != runs[2][-1]).any()


def test_both_precisions_start_from_the_same_numbers():
    a, b = (mn.UNet(1, 2, (4, 8), dtype=d).state_dict() for d in (np.float32, np.float64))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name].astype(np.float32))


# -------------------------------------------------------------------------------------------- sizes


def test_sizes_of_the_paper():
    model = mn.UNet(1, 2, (1, 1, 1, 1))
    assert model.levels == 4
    assert model.output_size((572, 572)) == (388, 388)
    assert model.output_size((188, 572)) == (4, 388)
    for k in range(8, 40):
        assert model.output_size((16 * k + 60, 188)) == (16 * k + 60 - 184, 4)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_legal_sides(levels):
    """Against walking through the layers side by side."""

    def walk(side):
        for _ in range(levels):
            side -= 4
            if side < 2 or side % 2:
                return None
            side //= 2
        side -= 4
        if side < 1:
            return None
        for _ in range(levels):
            side = 2 * side - 4
            if side < 1:
                return None
        return side

    model = mn.UNet(1, 1, (1,) * levels)
    legal = {side: walk(side) for side in range(1, 30 * 2**levels) if walk(side) is not None}
    assert min(legal) == 12 * 2**levels - (4 if levels > 1 else 6)
    for side in range(1, 28 * 2**levels):
        if side in legal:
            assert legal_sides(side, levels) == [side]
            assert model.output_size((side, min(legal))) == (legal[side], legal[min(legal)])
            continue
        nearest = [max((s for s in legal if s < side), default=None), min(s for s in legal if s > side)]
        nearest = [s for s in nearest if s is not None]
        assert legal_sides(side, levels) == nearest
        with pytest.raises(ValueError, match=f"nearest to {side} are {' and '.join(map(str, nearest))}"):
            model.output_size((min(legal), side))


@pytest.mark.parametrize(
    "size, message",
    [
        ((512, 572), "512 x 572 px does not fit .* 4 levels: .* nearest to 512 are 508 and 524"),
        ((572, 570), "572 x 570 px .* nearest to 570 are 556 and 572"),
        ((100, 572), "100 x 572 px .* nearest to 100 are 188"),
    ],
)
def test_errors_name_the_nearest_sizes(size, message):
    model = mn.UNet(1, 2, (1, 1, 1, 1))
    with pytest.raises(ValueError, match=message):
        model(np.zeros((1, 1, *size)))


def test_valid_padding_end_to_end(numpy_backend):
    model = mn.UNet(2, 3, (1, 2, 1, 3))
    assert model(image(1, 2, 188, 204)).shape == (1, 3, 4, 20)
    assert mn.UNet(1, 2, (1, 1, 1, 1))(image(1, 1, 572, 572)).shape == (1, 2, 388, 388)


def test_the_check_of_the_article(numpy_backend):
    x = image(3, 1, 161, 161)
    assert mn.UNet(1, 1, (2, 3, 4, 5), **ARTICLE)(x).shape == x.shape


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (19, 31), (16, 47), (33, 32), (63, 18)])
def test_same_padding_takes_any_size_from_16_up(size, numpy_backend):
    model = mn.UNet(3, 2, (2, 3, 1, 5), **ARTICLE)
    x = mn.Tensor(image(2, 3, *size), requires_grad=True)
    y = model(x)
    assert y.shape == (2, 2, *size) == (2, 2, *model.output_size(size))
    F.cross_entropy(y, np.zeros((2, *size), int)).backward()
    assert all(np.isfinite(p.grad).all() for p in (x, *model.parameters()))
    assert model.eval()(x.data[:1]).shape == (1, 2, *size)


def test_too_small_for_same_padding(numpy_backend):
    model = mn.UNet(1, 1, (2, 2, 2, 2), **ARTICLE)
    with pytest.raises(ValueError, match="15 x 16 px is too small: 4 levels need at least 16 px a side"):
        model(image(2, 1, 15, 16))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(image(1, 1, 16, 16))
    assert model.eval()(image(1, 1, 16, 16)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("features", [(1,), (7,), (3, 1), (2, 9, 4), (5, 5, 5, 5, 5)], ids=str)
@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_any_features(features, architecture, numpy_backend):
    model = mn.UNet(3, 5, features, **architecture)
    side = 12 * 2 ** len(features) - 4
    assert model(image(1, 3, side, side)).shape == (1, 5, *model.output_size((side, side)))


@pytest.mark.parametrize("combination", [("same", None), ("valid", "batch")], ids=str)
def test_the_other_combinations(combination, numpy_backend):
    padding, norm = combination
    model = mn.UNet(1, 2, (2, 4), padding, norm, dropout=0.3)
    x = image(2, 1, 44, 48)
    y = model(x)
    assert y.shape == (2, 2, *model.output_size((44, 48)))
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# ------------------------------------------------------------------------------- inputs and errors


def test_arrays_take_the_models_dtype(numpy_backend):
    model = mn.UNet(1, 2, (2,), **ARTICLE)
    x = np.arange(64).reshape(1, 1, 8, 8)
    np.testing.assert_array_equal(model(x.astype(np.uint8)).data, model(x.astype(np.float64)).data)
    assert model(x.tolist()).dtype == np.float32


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (1, 2, 8, 8), (1, 1, 1, 8, 8)])
def test_images_of_another_shape(shape):
    with pytest.raises(ValueError, match=rf"images \(N, 1, H, W\), found shape {re.escape(str(shape))}"):
        mn.UNet(1, 1, (2,), **ARTICLE)(np.zeros(shape))


def test_tensors_of_another_dtype():
    with pytest.raises(TypeError, match="computes in float32, found a Tensor of float64"):
        mn.UNet(1, 1, (2,), **ARTICLE)(mn.Tensor(np.zeros((1, 1, 8, 8))))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"features": ()}, "features must name at least one level"),
        ({"features": (4, 0)}, "features must be positive integers, found 0"),
        ({"features": (4.5,)}, "features must be positive integers, found 4.5"),
        ({"in_channels": 0}, "in_channels must be positive integers, found 0"),
        ({"out_channels": -1}, "out_channels must be positive integers, found -1"),
        ({"in_channels": True}, "in_channels must be positive integers, found True"),
        ({"padding": "reflect"}, "padding must be 'valid' or 'same', found 'reflect'"),
        ({"norm": "group"}, "norm must be None or 'batch', found 'group'"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, found 1.0"),
        ({"dropout": float("nan")}, "dropout must be at least 0 and below 1, found nan"),
        ({"dtype": np.float16}, "dtype must be float32 or float64, found float16"),
        ({"dtype": "int64"}, "dtype must be float32 or float64, found int64"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        mn.UNet(**arguments)


# -------------------------------------------------------------------------------------- state dict


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_architecture_and_state_make_the_same_model(architecture, dtype, numpy_backend):
    model = network(architecture, 2, 3, (3, 4), np.dtype(dtype))
    again = mn.UNet(**json.loads(json.dumps(model.architecture)))
    again.load_state_dict(model.state_dict())
    assert again.architecture == model.architecture
    assert again.dtype == dtype
    x = image(1, 2, 44, 48)
    np.testing.assert_array_equal(again.eval()(x).data, model.eval()(x).data)


def test_a_float64_state_makes_a_float64_model(numpy_backend):
    model = mn.UNet(1, 2, (2,), **ARTICLE)
    model.load_state_dict(mn.UNet(1, 2, (2,), **ARTICLE, dtype=np.float64).state_dict())
    assert model.dtype == np.float64
    assert model.architecture["dtype"] == "float64"
    assert model(image(1, 1, 8, 8)).dtype == np.float64
    assert all(a.dtype == (np.int64 if n.endswith("tracked") else np.float64) for n, a in model.state_dict().items())


# ------------------------------------------------------------------- the gradient of the whole network


def substitute(model, tensors):
    """Put these Tensors in the places of the model's parameters."""
    for (name, _), tensor in zip(model.named_parameters(), tensors, strict=True):
        *path, last = name.split(".")
        module = model
        for part in path:
            module = getattr(module, part)
        setattr(module, last, tensor)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "architecture, size, dropout", [("paper", (44, 48), 0.5), ("article", (13, 10), 0.0)], ids=["paper", "article"]
)
def test_gradient_of_the_whole_network(architecture, size, dropout, training, backend):
    """Every parameter and the image, in float64, against differences."""
    model = mn.UNet(2, 3, (3, 5), **ARCHITECTURES[architecture], dropout=dropout, dtype=np.float64)
    model.load_state_dict(network(architecture, 2, 3, (3, 5), np.float64, seed=1).state_dict())
    model.train(training)
    x, target, weight = batch(model, 2, size, True, np.random.default_rng(2))
    generators = [m.rng for m in model.modules() if isinstance(m, nn.Dropout)]

    def fn(x, *parameters):
        substitute(model, parameters)
        for generator in generators:  # the same places drop out each time
            generator.bit_generator.state = np.random.default_rng(3).bit_generator.state
        return loss(model(x), target, weight)

    assert mn.gradcheck(fn, x, *(p.data for p in model.parameters()), directions=1)


# ----------------------------------------------------------------------------- bits and threads


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_number_comes_from_fresh_memory(architecture, backend):
    """Whatever stands in the arrays that the kernels are given to fill, a step of training is the same."""

    def poisoned():
        with arrays.poison():
            return training_step(architecture, (76, 92))

    results = [training_step(architecture, (76, 92)), poisoned()]
    for name, array in results[0].items():
        np.testing.assert_array_equal(array, results[1][name], err_msg=name)
        assert np.isfinite(array).all(), name


def training_step(architecture, size=(236, 188)):
    """Logits, loss, gradients, and what a step makes of the state; 236 x 188 px are more than any block."""
    model = network(architecture, 1, 2, (16, 32), np.float32)
    x, target, weight = batch(model, 1, size, True, np.random.default_rng(0))
    logits = model(x)
    value = loss(logits, target, weight)
    value.backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters()}
    optimiser = mn.SGD(model.parameters(), lr=0.01, nesterov=True, weight_decay=1e-4)
    mn.optim.clip_grad_norm(model.parameters(), 0.1)
    optimiser.step()
    return {"logits": logits.data, "loss": value.data, **gradients, **model.state_dict()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bits_do_not_depend_on_the_number_of_threads(architecture, backend):
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="sets the threads of NumPy's BLAS")
    from minunet.kernels import threads

    if threads.available() < 2:
        pytest.skip("needs two cores")
    results = []
    try:
        with threadpoolctl.threadpool_limits():  # gives back what set_num_threads changes
            for n in (1, 2):
                mn.set_num_threads(n)
                results.append(training_step(architecture))
    finally:
        threads._count.clear()
    different = [name for name, array in results[0].items() if array.tobytes() != results[1][name].tobytes()]
    assert different == []


# -------------------------------------------------------------------------------------- padded skips


def test_padded_skips_are_what_they_say(numpy_backend):
    """An up path that is smaller than its skip, with zeros at the right and the bottom: one level, written out."""
    model = mn.UNet(1, 1, (2,), padding="same", skip_fit="pad", dtype=np.float64, seed=1).eval()
    x = image(1, 1, 5, 7, dtype=np.float64)
    skip = model.downs[0](mn.Tensor(x))
    up = model.ups[0](model.bottleneck(F.max_pool2d(skip, 2)))
    assert up.shape == (1, 2, 4, 6)
    joint = F.concat([skip, np.pad(up.data, ((0, 0), (0, 0), (0, 1), (0, 1)))])
    expected = model.final_conv(model.ups[1](joint)).data
    np.testing.assert_allclose(model(x).data, expected, rtol=1e-12, atol=1e-14)
    resized = mn.UNet(1, 1, (2,), padding="same", dtype=np.float64, seed=1).eval()
    assert np.abs(resized(x).data - expected).max() > 1e-3 * np.abs(expected).max()
    np.testing.assert_array_equal(resized(x[..., :4, :6]).data, model(x[..., :4, :6]).data)


def test_gradients_with_padded_skips(backend):
    model = mn.UNet(1, 2, (2, 3), padding="same", norm="batch", skip_fit="pad", dtype=np.float64, seed=2).train()
    x = mn.Tensor(image(2, 1, 11, 14, dtype=np.float64), requires_grad=True)
    g = image(2, 2, 11, 14, dtype=np.float64, seed=1)
    assert mn.gradcheck(lambda x, *_: F.sum(model(x) * g), x, *model.parameters())


def test_padded_skips_in_architecture_and_messages():
    model = mn.UNet(1, 2, (2,), padding="same", skip_fit="pad")
    assert model.architecture["skip_fit"] == "pad" and "skip_fit='pad'" in repr(model)
    assert mn.UNet(**model.architecture).architecture == json.loads(json.dumps(model.architecture))
    assert "skip_fit" not in mn.UNet(1, 2, (2,), padding="same").architecture
    with pytest.raises(ValueError, match="skip_fit must be 'resize' or 'pad', found 'crop'"):
        mn.UNet(skip_fit="crop", padding="same")
    with pytest.raises(ValueError, match="skip_fit='pad' is for padding 'same'"):
        mn.UNet(skip_fit="pad")


# -------------------------------------------------------------------------------------- bilinear up path


def test_a_bilinear_up_path_is_what_it_says(numpy_backend):
    """Two levels, written out: doubled maps beside their skips, and channels that fall before the next doubling."""
    model = mn.UNet(1, 1, (2, 3), padding="same", up="bilinear", dtype=np.float64, seed=1).eval()
    x = image(1, 1, 8, 12, dtype=np.float64)
    skips = [model.downs[0](mn.Tensor(x))]
    skips.append(model.downs[1](F.max_pool2d(skips[0], 2)))
    y = model.bottleneck(F.max_pool2d(skips[1], 2))
    for step, channels in enumerate((3, 2)):
        assert y.shape[1] == channels
        skip = skips.pop()
        y = model.ups[2 * step + 1](F.concat([skip, F.resize(y, skip.shape[2:], align_corners=True)]))
    np.testing.assert_allclose(model(x).data, model.final_conv(y).data, rtol=1e-12, atol=1e-14)


def test_the_bilinear_network_of_the_halved_channels():
    """The most-starred U-Net's, whose parameters are counted there."""
    model = mn.UNet(3, 2, (64, 128, 256, 512), padding="same", norm="batch", up="bilinear")
    assert sum(p.data.size for p in model.parameters()) == 17_262_977 + 65 * 1
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert shapes == parameter_shapes(model.architecture)
    assert shapes["bottleneck.conv.3.weight"] == (512, 512, 3, 3)
    assert shapes["ups.1.conv.0.weight"] == (512, 1024, 3, 3) and shapes["ups.1.conv.3.weight"] == (256, 512, 3, 3)
    assert shapes["ups.7.conv.3.weight"] == (64, 64, 3, 3) and "ups.0.weight" not in shapes


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_gradients_with_a_bilinear_up_path(fit, backend):
    options = {"padding": "same", "norm": "batch", "skip_fit": fit, "up": "bilinear", "dtype": np.float64}
    model = mn.UNet(1, 2, (2, 3), **options, seed=2).train()
    x = mn.Tensor(image(2, 1, 11, 14, dtype=np.float64), requires_grad=True)
    g = image(2, 2, 11, 14, dtype=np.float64, seed=1)
    assert mn.gradcheck(lambda x, *_: F.sum(model(x) * g), x, *model.parameters())


def test_a_bilinear_up_path_in_architecture_messages_and_tables():
    model = mn.UNet(1, 2, (2, 3), padding="same", up="bilinear", seed=1).eval()
    assert model.architecture["up"] == "bilinear" and "up='bilinear'" in repr(model)
    assert mn.UNet(**model.architecture).architecture == json.loads(json.dumps(model.architecture))
    assert "up" not in mn.UNet(1, 2, (2,)).architecture
    with pytest.raises(ValueError, match="up must be 'transpose' or 'bilinear', found 'nearest'"):
        mn.UNet(up="nearest")
    table = layers(model, (16, 20))
    assert sum(layer.parameters for layer in table) == sum(p.data.size for p in model.parameters())
    assert [layer.shape for layer in table if layer.kind == "bilinear x2"] == [(3, 8, 10), (2, 16, 20)]
    assert "bilinear up path" in info(model) and "ups.2" in str(mn.explain(model, (21, 18)))


def test_tiles_of_a_bilinear_network_are_near_the_whole_and_say_so():
    model = mn.UNet(1, 2, (2, 3), padding="same", up="bilinear", seed=3).eval()
    picture = image(45, 38)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = mn.predict(model, picture)
        np.testing.assert_allclose(mn.predict(model, picture, tile=48), whole, rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match="in tiles this network's numbers differ a little"):
        tiled = mn.predict(model, picture, tile=16)
    assert 0 < np.abs(tiled - whole).max() < 0.05


def test_padded_skips_in_prediction_and_explanation():
    """predict continues an image to where nothing is padded: so tiles and the whole agree, and with resized skips."""
    models = [mn.UNet(1, 2, (2, 3), padding="same", skip_fit=fit, seed=3).eval() for fit in ("pad", "resize")]
    picture = image(45, 38)
    with mn.policy("exact"):
        whole, resized = (mn.predict(model, picture) for model in models)
        np.testing.assert_array_equal(whole, resized)
        np.testing.assert_allclose(mn.predict(models[0], picture, tile=16), whole, rtol=0, atol=1e-5)
    assert "ups.2" in str(mn.explain(models[0], (21, 18)))
