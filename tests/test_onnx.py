"""ONNX files against minunet: in ONNX Runtime and in ONNX's own reference, in all forms of the network."""

import json
import sys

import numpy as np
import pytest

import minunet as mn
from minunet.cli import main
from minunet.data import Coding, Preprocessing
from minunet.data.preprocessing import NORMALIZATIONS
from minunet.errors import UsageError
from minunet.extras import MissingExtra

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
from onnx_cases import LIMIT, RUNTIMES, error, errors, run  # noqa: E402

from minunet.export.onnx import network  # noqa: E402

each_runtime = pytest.mark.parametrize("runtime", RUNTIMES)


def logits(model, x):
    with mn.no_grad():
        return model(x).data


def sides(value):
    return [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]


@pytest.fixture
def model():
    """One whose logits of a constant image are not all zero."""
    model = mn.UNet(3, 2, (2, 3), "same", "batch", seed=3).eval()
    for module in (model.final_conv, *(layer for down in model.downs for layer in list(down.conv)[1::3])):
        module.bias.data += np.linspace(0.1, 0.3, len(module.bias.data), dtype=np.float32)
    return model


@pytest.mark.parametrize("seed", range(12))
def test_generated(seed):
    found = errors(seed, levels=3)
    assert {runtime: e for runtime, e in found.items() if e > LIMIT} == {}


def test_the_error_is_seen(model):
    """What the other tests rely on: a small wrong in one weight is an error, and so is NaN."""
    x = np.random.default_rng(0).standard_normal((1, 3, 9, 8)).astype(np.float32)
    right = logits(model, x)
    model.final_conv.weight.data[0, 0] += 1e-3
    for runtime in RUNTIMES:
        assert error(run(network(model), runtime, x), right) > 10 * LIMIT
    assert error(right * np.float32("nan"), right) == error(right[:, :1], right) == float("inf")


@each_runtime
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_one_file_for_all_sizes(padding, runtime, tmp_path):
    """Rows and columns that halving drops at the top, further down, at both and at none; several images."""
    model = mn.UNet(1, 1, (2, 3), padding, seed=1).eval()
    mn.export(model, tmp_path / "model.onnx", "onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    for n, h, w in ((1, 4, 5), (2, 6, 7), (1, 8, 9), (3, 10, 11)) if padding == "same" else ((1, 44, 48), (2, 52, 44)):
        x = np.random.default_rng(h).standard_normal((n, 1, h, w)).astype(np.float32)
        assert error(run(proto, runtime, x), logits(model, x)) <= LIMIT


@each_runtime
@pytest.mark.parametrize("free", [True, False])
def test_padded_skips(runtime, free):
    model = mn.UNet(1, 1, (2, 3), "same", seed=1, skip_fit="pad").eval()
    model.final_conv.bias.data += 0.25
    for size in ((6, 7), (10, 11), (8, 12)):
        x = np.random.default_rng(size[0]).standard_normal((2, 1, *size)).astype(np.float32)
        proto = network(model, None if free else size)
        onnx.checker.check_model(proto, full_check=True)
        assert error(run(proto, runtime, x), logits(model, x)) <= LIMIT


@each_runtime
def test_an_illegal_size_is_no_silent_error(runtime):
    model = mn.UNet(1, 1, (2, 3), "valid", seed=1).eval()
    for size in ((46, 44), (45, 44), (44, 47)):
        with pytest.raises(Exception, match=r"(?i)concat"):
            run(network(model), runtime, np.zeros((1, 1, *size), np.float32))


def test_sides_and_operators(model):
    free, fixed, even = network(model), network(model, (9, 6)), network(model, (8, 4), batch=2)
    assert sides(free.graph.input[0]) == ["batch", 3, "height", "width"]
    assert sides(free.graph.output[0]) == ["batch", 2, "height", "width"]
    assert sides(fixed.graph.input[0]) == ["batch", 3, 9, 6]
    assert sides(fixed.graph.output[0]) == ["batch", 2, 9, 6]
    assert sides(even.graph.output[0]) == [2, 2, 8, 4]
    resizes = [sum(node.op_type == "Resize" for node in proto.graph.node) for proto in (free, fixed, even)]
    assert resizes == [2, 2, 0]
    kinds = {node.op_type for node in free.graph.node}
    assert "BatchNormalization" not in kinds
    valid = network(mn.UNet(1, 2, (2, 3), "valid"))
    assert sides(valid.graph.output[0]) == ["batch", 2, "logits_height", "logits_width"]
    assert sides(network(mn.UNet(1, 2, (2, 3), "valid"), (44, 52)).graph.output[0]) == ["batch", 2, 4, 12]


@pytest.mark.parametrize("size", [None, (44, 52)])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("raw", [None, "uint8", "float32"])
def test_all_shapes_are_inferred_strictly(padding, raw, size):
    model = mn.UNet(2, 3, (2, 3), padding, "batch")
    model.preprocessing = Preprocessing(2, "standardize")
    proto = network(model, size, raw=raw)
    onnx.checker.check_model(proto, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    assert {value.name for value in inferred.graph.value_info} >= {node.name for node in proto.graph.node[:-1]}
    if size is not None:  # and every side but the number of images is known
        assert all(isinstance(side, int) for value in inferred.graph.value_info
                   if value.name.startswith(("downs", "ups", "bottleneck", "skips"))
                   for side in sides(value)[1:])  # fmt: skip


@each_runtime
@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_preprocessing_inside(model, runtime, normalize, dtype):
    """Each image of the batch by itself; a faint contrast on a large mean, and none at all, included."""
    model.preprocessing = Preprocessing(3, normalize)
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (4, 3, 10, 9))
    images[1] = 7
    images[2] = 200 + images[2] % 2
    if dtype == "float32":
        images[3] = 60000 + images[3] % 5
    proto = network(model, raw=dtype)
    found = run(proto, runtime, images.astype(dtype))
    for image, own in zip(images.astype(dtype), found, strict=True):
        assert error(own, logits(model, model.preprocessing(image)[None])[0]) <= LIMIT


def test_without_known_preprocessing_the_image_is_taken_as_it_is(model):
    image = np.random.default_rng(0).integers(0, 9, (1, 3, 8, 8)).astype(np.uint8)
    found = run(network(model, raw="uint8"), "ONNX Runtime", image)
    assert error(found, logits(model, image.astype(np.float32))) <= LIMIT


def test_float64_models_are_written_in_float32():
    model = mn.UNet(1, 2, (2, 3), "same", "batch", dtype=np.float64, seed=2).eval()
    x = np.random.default_rng(0).standard_normal((1, 1, 9, 8))
    found = run(network(model), "ONNX Runtime", x.astype(np.float32))
    assert error(found, logits(model, x).astype(np.float32)) <= LIMIT


def test_a_model_in_training_mode_is_written_as_it_evaluates(model):
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    expected = logits(model, x)
    assert error(run(network(model.train()), "ONNX Runtime", x), expected) <= LIMIT
    assert model.training


def test_metadata(model, tmp_path):
    model.preprocessing, model.coding = Preprocessing(3, "standardize"), Coding("levels", (0, 128, 255))
    lines = mn.export(model, tmp_path / "m.onnx", "onnx", size=(8, 12), with_preprocessing="uint8")
    proto = onnx.load(tmp_path / "m.onnx")
    found = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    assert found == {
        "format_version": 1,
        "architecture": model.architecture,
        "preprocessing": {"channels": 3, "normalize": "standardize"},
        "coding": model.coding.to_json(),
        "preprocessing_inside": True,
    }
    assert (proto.producer_name, proto.producer_version) == ("minunet", mn.__version__)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 21)]
    assert lines == [
        f"{tmp_path / 'm.onnx'}: {(tmp_path / 'm.onnx').stat().st_size:,} bytes, ONNX opset 21",
        "image: uint8 (batch, 3, 8, 12), raw image; its preparation: standardize",
        "logits: float32 (batch, 2, 8, 12), what softmax or sigmoid takes",
    ]


def test_same_model_same_bytes(model, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        mn.export(model, tmp_path / name, "onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "x.onnx", "--size", "3x8"), "an image of 3 x 8 px is too small: 2 levels need at least 4 px a side"),
        (("--out", "x.bin"), "x.bin: found the suffix '.bin', expected .onnx"),
        (("--out", "x.onnx", "--dtype", "float16"), "--dtype: not an option of onnx, which has --size, --with-preproc"),
        (("--out", "no/x.onnx"), "no is no folder, so x.onnx cannot be written"),
    ],
)
def test_refused(model, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    mn.save(model, "m.npz")
    assert main(["export", "m.npz", "--to", "onnx", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["m.npz"]


def test_refused_in_python(model, tmp_path):
    with pytest.raises(UsageError, match="with_preprocessing is 'int8', expected float32 or uint8"):
        mn.export(model, tmp_path / "x.onnx", "onnx", with_preprocessing="int8")
    for size in (8, (8,), (8, 8, 8)):
        with pytest.raises(UsageError, match=r"size must be \(height, width\), found"):
            mn.export(model, tmp_path / "x.onnx", "onnx", size=size)
    valid = mn.UNet(1, 1, (2, 3), "valid")
    with pytest.raises(UsageError, match="the legal sides nearest to 46 are 44 and 48"):
        mn.export(valid, tmp_path / "x.onnx", "onnx", size=(46, 44))
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_in_a_file_is_refused(model, tmp_path, monkeypatch):
    bytes_of_weights = 4 * sum(parameter.data.size for parameter in model.parameters())
    monkeypatch.setattr(sys.modules["minunet.export.onnx"], "LARGEST", bytes_of_weights - 1)
    with pytest.raises(UsageError, match="larger than the 2 GB"):
        mn.export(model, tmp_path / "x.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_command(model, tmp_path, capsys):
    mn.save(model, tmp_path / "m.npz")
    out = tmp_path / "x.onnx"
    assert main(["export", str(tmp_path / "m.npz"), "--to", "onnx", "--out", str(out), "--with-preprocessing"]) == 0
    assert "image: float32 (batch, 3, height, width), raw image" in capsys.readouterr().out
    onnx.checker.check_model(out, full_check=True)


def test_without_the_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"^onnx is not installed; install it with: .*minunet\[onnx\]"):
        mn.export(model, tmp_path / "x.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []
