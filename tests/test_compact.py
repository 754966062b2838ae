"""Model files in float16 and int8: small, as exact as they say, and as hard to deceive as the others."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minunet as mn
from minunet.data import Coding, Preprocessing
from minunet.model_files import compact
from minunet.model_files.weights import FileFormatError, load, parameter_shapes, read_tensors, save, write_tensors
from minunet.unet import UNet

both_formats = pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
both_kinds = pytest.mark.parametrize("kind", compact.KINDS)
TINY = float(np.finfo(np.float32).tiny)
HALF = 0.5 + 127 * 2.0**-23  # of a step, and the rounding of int8 * scale in float32


def build(**options):
    """A network with numbers of many sizes, those of batch norm far from 0 and 1."""
    model = UNet(**{"in_channels": 2, "out_channels": 3, "features": (3, 4), "padding": "same", "seed": 5, **options})
    rng = np.random.default_rng(6)
    state = {}
    for name, array in model.state_dict().items():
        values = rng.normal(size=array.shape) * np.exp(rng.normal(size=array.shape))
        state[name] = np.array(7) if array.ndim == 0 else values.astype(array.dtype)
        if name.endswith("running_var"):
            state[name] = np.exp(5 * rng.normal(size=array.shape) + 12).astype(array.dtype)  # over 65504
    model.load_state_dict(state)
    return model.eval()


def of_channels(name, weight):
    """(O, all else): what shares a scale."""
    up = name.startswith("ups.") and name.split(".")[2] == "weight"
    moved = np.moveaxis(weight, 1 if up else 0, 0)
    return moved.reshape(len(moved), -1)


# ------------------------------------------------------------------------------------------ what comes back


@both_formats
@both_kinds
@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("norm", [None, "batch"])
def test_what_is_loaded(tmp_path, suffix, kind, own, norm):
    model = build(norm=norm, dtype=own)
    model.preprocessing, model.coding = Preprocessing(2, "standardize"), Coding("indices", (0, 1, 2))
    path = tmp_path / f"m{suffix}"
    save(model, path, dtype=kind)
    loaded = load(path)
    assert loaded.architecture == {**model.architecture, "dtype": "float32"}
    assert (loaded.preprocessing, loaded.coding) == (model.preprocessing, model.coding)
    stored, _ = read_tensors(path)
    for name, array in model.state_dict().items():
        found = loaded.state_dict()[name]
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            np.testing.assert_array_equal(found, array.astype(found.dtype), err_msg=name)
        elif kind == "float16":
            assert stored[name].dtype == np.float16
            np.testing.assert_array_equal(found, array.astype(np.float16), err_msg=name)
        elif array.ndim == 4:
            assert stored[name].dtype == np.int8
            step = stored[f"{name}.scale"]
            each = of_channels(name, array)
            np.testing.assert_allclose(step, np.abs(each).max(axis=1) / 127, rtol=1e-6)
            error = np.abs(of_channels(name, found) - each)
            assert (error <= HALF * step[:, None]).all(), name
            assert error.max() > 0.1 * step.max()  # it is not the float32 weight in disguise
        else:
            np.testing.assert_array_equal(found, array.astype(np.float32), err_msg=name)


@both_kinds
def test_the_same_model_twice_gives_the_same_bytes_and_a_loaded_one_its_own(tmp_path, kind):
    """What was rounded once is not rounded again: a file that is loaded and saved holds the same weights."""
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save(build(norm="batch"), first, dtype=kind)
    save(build(norm="batch"), second, dtype=kind)
    assert first.read_bytes() == second.read_bytes()
    save(load(first), second, dtype=kind)
    one, other = load(first).state_dict(), load(second).state_dict()
    for name, array in one.items():
        np.testing.assert_allclose(other[name], array, rtol=3e-7, err_msg=name)


@both_kinds
def test_the_default_stays_exact_and_of_version_1(tmp_path, kind):
    for dtype, version in ((None, 1), ("float32", 1), ("float64", 1), (kind, 2)):
        save(build(), tmp_path / "m.npz", dtype=dtype)
        description = json.loads(read_tensors(tmp_path / "m.npz")[1]["minunet"])
        assert description["format_version"] == version
        assert description.get("stored") == (kind if version == 2 else None)


def test_a_file_of_version_1_in_float16_is_still_read(tmp_path):
    model = build(norm="batch")
    state = {name: np.clip(a, -9, 9) for name, a in model.state_dict().items()}
    tensors = {name: a if a.ndim == 0 else a.astype(np.float16) for name, a in state.items()}
    description = {"format_version": 1, "architecture": model.architecture, "preprocessing": None, "coding": None}
    write_tensors(tmp_path / "m.npz", tensors, {"minunet": json.dumps(description)})
    for name, array in load(tmp_path / "m.npz").state_dict().items():
        np.testing.assert_array_equal(array, tensors[name])


def test_sizes(tmp_path):
    """Of the common network the int8 file has about a quarter of the bytes, and fits the box."""
    model = UNet(1, 2, features=(16, 32, 64, 128), padding="same", norm="batch")
    save(model, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").stat().st_size
    for kind, share in (("float16", 0.505), ("int8", 0.26)):
        for suffix in (".safetensors", ".npz"):
            save(model, tmp_path / f"m{suffix}", dtype=kind)
            assert (tmp_path / f"m{suffix}").stat().st_size < share * whole + (30_000 if suffix == ".npz" else 0)
    assert (tmp_path / "m.safetensors").stat().st_size < 2_000_000


@both_kinds
def test_predictions_hardly_change(tmp_path, kind):
    model = UNet(1, 2, features=(8, 16), padding="same", norm="batch", seed=1).eval()
    image = np.random.default_rng(0).normal(size=(40, 56)).astype(np.float32)
    save(model, tmp_path / "m.npz", dtype=kind)
    with mn.use_backend("numpy"):
        difference = np.abs(mn.predict(load(tmp_path / "m.npz"), image) - mn.predict(model, image)).max()
    assert 0 < difference < (1e-3 if kind == "float16" else 0.05)


# ------------------------------------------------------------------------------------------ the arithmetic

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)
WEIGHTS = arrays(np.float32, array_shapes(min_dims=4, max_dims=4, max_side=3), elements=FLOATS)


@settings(max_examples=300)
@given(WEIGHTS, st.sampled_from(["final_conv.weight", "downs.0.conv.0.weight", "ups.0.weight", "ups.1.conv.0.weight"]))
def test_int8_is_off_by_half_a_step_at_most(weight, name):
    tensors = compact.narrow({name: weight}, "int8")
    steps, scale = tensors[name], tensors[f"{name}.scale"]
    assert steps.dtype == np.int8 and np.abs(steps.astype(int)).max() <= 127 and (scale >= TINY).all()
    found = compact.widen(tensors, "int8")
    assert found.keys() == {name} and found[name].dtype == np.float32
    expected = of_channels(name, weight)
    assert scale.shape == (len(expected),)
    error = np.abs(of_channels(name, found[name]).astype(np.float64) - expected)
    assert (error <= HALF * scale[:, None].astype(np.float64)).all()
    largest = np.abs(expected).max(axis=1)
    whole = largest > 127 * TINY  # such a channel uses all of its steps
    assert (np.abs(of_channels(name, steps).astype(int)).max(axis=1)[whole] == 127).all()


@settings(max_examples=200)
@given(arrays(np.float32, array_shapes(max_dims=4, max_side=4), elements=st.floats(-65504, 65504, width=32)))
def test_float16_is_off_by_half_a_unit_at_most(array):
    found = compact.widen(compact.narrow({"final_conv.weight": array}, "float16"), "float16")["final_conv.weight"]
    assert (np.abs(found - array) <= np.maximum(2.0**-11 * np.abs(array), 2.0**-25)).all()


@pytest.mark.parametrize("value", [0.0, 1e-45, -3e-40, 1e-38, 1.0, 1.7e38])
def test_channels_of_any_size(value):
    weight = np.full((2, 1, 3, 3), value, np.float32)
    weight[1] = [[0.5, -1, 0.25]] * 3
    tensors = compact.narrow({"w.weight": weight}, "int8")
    found = compact.widen(tensors, "int8")["w.weight"]
    assert np.isfinite(found).all()
    assert (np.abs(found[0] - weight[0]) <= HALF * tensors["w.weight.scale"][0]).all()
    np.testing.assert_allclose(found[1], weight[1], atol=0.5 / 127)


# ----------------------------------------------------------------------------------------- what is refused


def with_value(name, value, **options):
    model = build(norm="batch", **options)
    state = model.state_dict()
    state[name].flat[0] = value
    model.load_state_dict(state)
    return model


WEIGHT, VARIANCE, NORM = "downs.0.conv.0.weight", "downs.0.conv.1.running_var", "downs.0.conv.1.weight"


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("float16", WEIGHT, 65520, rf"{WEIGHT} has values that are too large for float16: up to 6.55e\+04, and 6.55"),
        ("float16", NORM, -1e9, rf"{NORM} has values that are too large for float16: up to 1e\+09"),
        ("int8", WEIGHT, np.nan, f"{WEIGHT} has values that are not finite, which int8 cannot hold"),
        ("int8", WEIGHT, -np.inf, f"{WEIGHT} has values that are not finite"),
        ("int8", WEIGHT, 3e38, rf"{WEIGHT} has values that are too large for scales of float32: up to 3e\+38"),
    ],
)
def test_values_that_do_not_fit(tmp_path, kind, name, value, message):
    with pytest.raises(ValueError, match=message):
        save(with_value(name, value), tmp_path / "m.npz", dtype=kind)
    assert not list(tmp_path.iterdir())


def test_values_of_a_float64_model_that_do_not_fit(tmp_path):
    for kind in compact.KINDS:
        with pytest.raises(ValueError, match=rf"{VARIANCE} has values that are too large for float32: up to 1e\+99"):
            save(with_value(VARIANCE, 1e99, dtype=np.float64), tmp_path / "m.npz", dtype=kind)
    assert not list(tmp_path.iterdir())


def test_what_fits_only_in_float32_does_not_stop_float16(tmp_path):
    save(with_value(VARIANCE, 1e30), tmp_path / "m.npz", dtype="float16")
    assert load(tmp_path / "m.npz").state_dict()[VARIANCE][0] == np.float32(1e30)


def parts(kind):
    model = build(norm="batch")
    description = {"format_version": 2, "stored": kind, "architecture": model.architecture,
                   "preprocessing": None, "coding": None}  # fmt: skip
    return compact.narrow(model.state_dict(), kind), description


def refuse(path, tensors, description, message):
    write_tensors(path, tensors, {"minunet": json.dumps(description)})
    with pytest.raises(FileFormatError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@both_formats
@both_kinds
def test_the_parts_are_sound(tmp_path, suffix, kind):
    tensors, description = parts(kind)
    write_tensors(tmp_path / f"m{suffix}", tensors, {"minunet": json.dumps(description)})
    assert load(tmp_path / f"m{suffix}").architecture == description["architecture"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, "expected the keys architecture, coding, format_version, preprocessing"),
        ({"format_version": 3}, "found the format version 3, expected 1 or 2; a file of a newer minunet"),
        ({"format_version": 2.0}, "found the format version 2.0"),
        ({"stored": "float32"}, "weights are stored as 'float32', expected float16 or int8"),
        ({"stored": ["int8"]}, r"weights are stored as \['int8'\]"),
        ({"stored": None}, "weights are stored as None"),
        ({"stored": "float16"}, "bottleneck.conv.0.weight.scale' is unexpected"),
    ],
)
def test_descriptions_that_are_wrong(tmp_path, change, message):
    tensors, description = parts("int8")
    refuse(tmp_path / "m.npz", tensors, description | change, message)


def test_a_description_without_its_kind(tmp_path):
    tensors, description = parts("int8")
    del description["stored"]
    refuse(tmp_path / "m.npz", tensors, description, "expected the keys .*, stored")


@both_kinds
def test_an_architecture_of_float64(tmp_path, kind):
    tensors, description = parts(kind)
    description["architecture"]["dtype"] = "float64"
    refuse(tmp_path / "m.npz", tensors, description, "the file is compact, of an architecture of float64")


def without(tensors, name):
    return {key: value for key, value in tensors.items() if key != name}


def replaced(tensors, name, value):
    return {**tensors, name: np.asarray(value)}


def scale(tensors, value):
    found = tensors[f"{WEIGHT}.scale"].copy()
    found[1] = value
    return replaced(tensors, f"{WEIGHT}.scale", found)


OTHER_TENSORS = {
    "no scale": (lambda t: without(t, f"{WEIGHT}.scale"), f"'{WEIGHT}.scale' is missing"),
    "no weight": (lambda t: without(t, WEIGHT), f"'{WEIGHT}' is missing"),
    "one scale more": (lambda t: replaced(t, f"{NORM}.scale", np.ones(3, np.float32)), f"'{NORM}.scale' is unexpected"),
    "scale of the wrong axis": (
        lambda t: replaced(t, f"{WEIGHT}.scale", np.ones(2, np.float32)),
        r"conv.0.weight.scale has the shape \(2,\) instead of \(3,\)",
    ),
    "one number": (lambda t: replaced(t, f"{WEIGHT}.scale", np.float32(1)), r"has the shape \(\) instead of \(3,\)"),
    "scales of float64": (
        lambda t: replaced(t, f"{WEIGHT}.scale", np.ones(3)),
        "weight.scale is of float64 instead of float32",
    ),
    "a weight of float32": (
        lambda t: replaced(t, WEIGHT, t[WEIGHT].astype(np.float32)),
        f"{WEIGHT} is of float32 instead of int8",
    ),
    "unsigned": (lambda t: replaced(t, WEIGHT, t[WEIGHT].view(np.uint8)), f"{WEIGHT} is of uint8 instead of int8"),
    "norm of int8": (lambda t: replaced(t, NORM, np.ones(3, np.int8)), f"{NORM} is of int8 instead of float32"),
    "counter of int32": (
        lambda t: replaced(t, "downs.0.conv.1.num_batches_tracked", np.int32(7)),
        "is of int32 instead of int64",
    ),
    "-128": (lambda t: replaced(t, WEIGHT, np.full((3, 2, 3, 3), -128, np.int8)), "has the value -128, expected -127"),
    **{
        f"scale {value}": (lambda t, v=value: scale(t, v), f"'{WEIGHT}.scale' has values that are no scales")
        for value in (0.0, -1.0, np.nan, np.inf, 1e-45, 3e38)
    },
}


@both_formats
@pytest.mark.parametrize("name", OTHER_TENSORS)
def test_tensors_that_do_not_fit(tmp_path, suffix, name):
    change, message = OTHER_TENSORS[name]
    tensors, description = parts("int8")
    refuse(tmp_path / f"m{suffix}", change(tensors), description, message)


def test_float16_with_statistics_of_float16(tmp_path):
    tensors, description = parts("float16")
    other = replaced(tensors, VARIANCE, np.ones(3, np.float16))
    refuse(tmp_path / "m.npz", other, description, f"{VARIANCE} is of float16 instead of float32")


@both_formats
@both_kinds
def test_random_damage(tmp_path, suffix, kind):
    """As of the other files: a weight may be another one, but nothing else goes wrong."""
    path = tmp_path / f"m{suffix}"
    model = build(in_channels=1, out_channels=1, features=(1,), norm="batch")
    save(model, path, dtype=kind)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [content[:length] for length in range(0, len(content), 97)]
    for _ in range(150):
        changed = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 6)):
            changed[at] = rng.integers(256)
        damaged.append(changed)
    for other in damaged:
        path.write_bytes(other)
        try:
            loaded = load(path)
        except FileFormatError:
            continue
        assert parameter_shapes(loaded.architecture).keys() == model.state_dict().keys()
