"""mn.save and mn.load: what goes in comes out, and nothing else gets in."""

import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import traced

from minunet.data import Coding, Preprocessing
from minunet.model_files.tensor_file import DTYPES
from minunet.model_files.weights import (
    FileFormatError,
    load,
    parameter_shapes,
    read_tensors,
    save,
    write_tensors,
)
from minunet.nn import Dropout
from minunet.unet import UNet

SUFFIXES = (".safetensors", ".npz")
both_formats = pytest.mark.parametrize("suffix", SUFFIXES)


def build(**options):
    defaults = {"in_channels": 2, "out_channels": 3, "features": (3, 4), "seed": 5}
    model = UNet(**{**defaults, **options})
    rng = np.random.default_rng(6)
    state = {  # batch norm and biases at values that a mistake would show
        name: np.array(7, array.dtype) if array.ndim == 0
        else rng.normal(size=array.shape).astype(array.dtype)
        for name, array in model.state_dict().items()
    }  # fmt: skip
    model.load_state_dict(state)
    return model


def assert_same_state(a, b):
    one, other = a.state_dict(), b.state_dict()
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@both_formats
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("padding", "norm"), [("valid", None), ("same", "batch")])
def test_round_trip(tmp_path, suffix, dtype, padding, norm):
    model = build(padding=padding, norm=norm, dropout=0.25, dtype=dtype)
    model.preprocessing = Preprocessing(channels=2, normalize="standardize")
    model.coding = Coding("colors", ((0, 0, 0), (255, 0, 0), (1, 2, 3)))
    save(model, tmp_path / f"model{suffix}")
    loaded = load(tmp_path / f"model{suffix}")
    assert_same_state(loaded, model)
    assert loaded.architecture == model.architecture
    assert loaded.preprocessing == model.preprocessing
    assert loaded.coding == model.coding
    assert model.training and not loaded.training
    assert os.listdir(tmp_path) == [f"model{suffix}"]


@both_formats
def test_loaded_model_computes_the_same(tmp_path, suffix):
    model = build(padding="same", norm="batch")
    state = model.state_dict()
    model.load_state_dict({k: abs(v) if k.endswith("running_var") else v for k, v in state.items()})
    model.eval()
    x = np.random.default_rng(1).normal(size=(2, 2, 16, 24)).astype(np.float32)
    expected = model(x).numpy()
    save(model, str(tmp_path / f"model{suffix}"))
    np.testing.assert_array_equal(load(str(tmp_path / f"model{suffix}"))(x).numpy(), expected)


@both_formats
def test_defaults_and_no_coding(tmp_path, suffix):
    model = build()
    save(model, tmp_path / f"model{suffix}")
    loaded = load(tmp_path / f"model{suffix}")
    assert loaded.coding is None and loaded.preprocessing is None


@both_formats
@pytest.mark.parametrize("stored", [None, np.float32, np.dtype(np.float64)])
@pytest.mark.parametrize("own", [np.float32, np.float64])
def test_dtype_of_the_file(tmp_path, suffix, stored, own):
    model = build(padding="same", norm="batch", dtype=own)
    path = tmp_path / f"model{suffix}"
    save(model, path, dtype=stored)
    assert model.dtype == own
    tensors, _ = read_tensors(path)
    computed = np.dtype(own if stored is None else stored)
    assert {a.dtype for a in tensors.values() if a.ndim} == {computed}
    loaded = load(path)
    assert loaded.dtype == computed and loaded.architecture["dtype"] == computed.name
    for name, array in model.state_dict().items():
        expected = array if array.ndim == 0 else array.astype(computed)
        np.testing.assert_array_equal(loaded.state_dict()[name], expected)


@both_formats
def test_padded_skips_are_remembered_and_checked(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    save(build(padding="same", skip_fit="pad"), path)
    assert load(path).skip_fit == "pad"
    tensors, metadata = read_tensors(path)
    pad = '"skip_fit": "pad"'
    for wrong in ('"skip_fit": "crop"', '"skip_fit": ["pad"]', f'{pad}, "up": "mean"', f'{pad}, "skip": 1'):
        write_tensors(path, tensors, {"minunet": metadata["minunet"].replace(pad, wrong)})
        with pytest.raises(FileFormatError, match=r"the (skip_fit|up|architecture)"):
            load(path)
    write_tensors(path, tensors, {"minunet": metadata["minunet"].replace('"same"', '"valid"')})
    with pytest.raises(FileFormatError, match="is for padding 'same'"):
        load(path)


def test_values_that_do_not_fit_in_the_dtype(tmp_path):
    model = build()
    state = model.state_dict()
    state["final_conv.bias"] = np.array([1e5, 0, np.inf], np.float32)
    model.load_state_dict(state)
    with pytest.raises(ValueError, match=r"final_conv\.bias has values .* too large for float16"):
        save(model, tmp_path / "model.npz", dtype=np.float16)
    assert not list(tmp_path.iterdir())
    save(model, tmp_path / "model.npz")  # an infinity of its own is kept


@pytest.mark.parametrize("dtype", [np.int16, complex, "U1", object, "int4"])
def test_dtypes_that_a_model_cannot_have(tmp_path, dtype):
    with pytest.raises(ValueError, match="expected float16, float32, float64 or int8"):
        save(build(), tmp_path / "model.npz", dtype=dtype)


@pytest.mark.parametrize("name", ["model", "model.pt", "model.npz.bak", ".npz"])
def test_other_suffixes(tmp_path, name):
    for attempt in (lambda: save(build(), tmp_path / name), lambda: load(tmp_path / name)):
        with pytest.raises(FileFormatError, match=r"found the suffix .* expected \.safetensors or"):
            attempt()
    assert not list(tmp_path.iterdir())


def test_suffix_in_capitals(tmp_path):
    save(build(), tmp_path / "MODEL.NPZ")
    assert_same_state(load(tmp_path / "MODEL.NPZ"), build())


@both_formats
def test_missing_file(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=f"model{suffix}"):
        load(tmp_path / f"model{suffix}")


@pytest.mark.parametrize("name", ["model", "model.pt"])
def test_missing_file_of_another_suffix(tmp_path, name):
    with pytest.raises(FileFormatError, match=rf"{name}: no such file; and found the suffix"):
        load(tmp_path / name)
    with pytest.raises(FileFormatError, match=rf"{name}: found the suffix"):
        save(build(), tmp_path / name)


@both_formats
def test_folder_instead_of_a_file(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.mkdir()
    with pytest.raises(FileFormatError, match="found a folder or a device, expected a model file"):
        load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.npz")
    with pytest.raises(FileFormatError, match="found a folder or a device"):
        load(tmp_path / "model.npz")


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save(build(), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(build(seed=9), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name", ["__metadata__", "a\0b"])
@both_formats
def test_names_that_no_tensor_can_have(tmp_path, suffix, name):
    with pytest.raises(ValueError, match="a tensor cannot have the name"):
        write_tensors(tmp_path / f"m{suffix}", {name: np.zeros(1)})


@pytest.mark.parametrize("dtype", [object, complex, "U3", "M8[s]", [("a", "f4")], np.longdouble])
@both_formats
def test_dtypes_that_are_not_written(tmp_path, suffix, dtype):
    with pytest.raises(ValueError, match=r"tensor x has the dtype .* which files do not hold"):
        write_tensors(tmp_path / f"m{suffix}", {"x": np.zeros(1, dtype)})
    assert not list(tmp_path.iterdir())


def test_formats_convert_into_each_other(tmp_path):
    arrays = {name: np.arange(5).astype(dtype) for name, dtype in DTYPES.items()}
    write_tensors(tmp_path / "a.npz", arrays, {"k": "v"})
    write_tensors(tmp_path / "b.safetensors", *read_tensors(tmp_path / "a.npz"))
    tensors, metadata = read_tensors(tmp_path / "b.safetensors")
    assert metadata == {"k": "v"} and tensors.keys() == arrays.keys()
    assert all(tensors[k].dtype == a.dtype and (tensors[k] == a).all() for k, a in arrays.items())


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("features", [(2,), (3, 5), (5, 3, 4), (2, 2, 2, 2, 2)])
def test_shapes_are_those_of_the_network(norm, padding, features):
    model = UNet(3, 2, features=features, norm=norm, padding=padding)
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert parameter_shapes(model.architecture) == shapes


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "features", "norm", "count"),
    [
        (1, 2, (64, 128, 256, 512), None, 31_030_658),
        (1, 1, (64, 128, 256, 512), None, 31_030_593),
        (3, 1, (64, 128, 256, 512), "batch", 31_037_633),
        (1, 1, (32, 64, 128, 256), "batch", 7_762_465),
        (1, 1, (16, 32, 64, 128), "batch", 1_942_289),
    ],
)
def test_parameter_counts_of_known_networks(in_channels, out_channels, features, norm, count):
    shapes = parameter_shapes(
        {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "features": list(features),
            "norm": norm,
        }
    )
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    assert count == sum(int(np.prod(s)) for n, s in shapes.items() if not n.endswith(buffers))


# What a hostile or damaged model file may hold: a sound one is taken apart, changed, and written.


def parts(**options):
    """(tensors, description) of a sound model."""
    model = build(**{"padding": "same", "norm": "batch", **options})
    description = {
        "format_version": 1,
        "architecture": model.architecture,
        "preprocessing": Preprocessing().to_json(),
        "coding": None,
    }
    return {name: np.array(a) for name, a in model.state_dict().items()}, description


def refuse(path, tensors, description, message):
    """Write the file, see that `load` refuses it, and return the peak of the memory meanwhile."""
    text = description if isinstance(description, str) else json.dumps(description)
    write_tensors(path, tensors, {"minunet": text})
    with traced.peak() as taken:
        with pytest.raises(FileFormatError, match=message) as caught:
            load(path)
        peak = taken()
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(path))
    return peak


@both_formats
def test_the_parts_are_sound(tmp_path, suffix):
    tensors, description = parts()
    write_tensors(tmp_path / f"m{suffix}", tensors, {"minunet": json.dumps(description)})
    assert load(tmp_path / f"m{suffix}").architecture == description["architecture"]


@both_formats
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("in_channels", 0),
        ("in_channels", True),
        ("in_channels", 2.0),
        ("in_channels", "2"),
        ("out_channels", -3),
        ("out_channels", None),
        ("features", []),
        ("features", 3),
        ("features", "34"),
        ("features", [3, 0]),
        ("features", [3, 4.0]),
        ("features", [3, True]),
        ("features", [3, 2**31]),
        ("features", [[3, 4]]),
        ("features", {"0": 3}),
        ("padding", "full"),
        ("padding", None),
        ("padding", ["same"]),
        ("norm", "layer"),
        ("norm", False),
        ("dropout", 1),
        ("dropout", -0.1),
        ("dropout", "0"),
        ("dropout", False),
        ("dtype", "float16"),
        ("dtype", "object"),
        ("dtype", None),
    ],
)
def test_architecture_out_of_range(tmp_path, suffix, key, value):
    tensors, description = parts()
    description["architecture"][key] = value
    refuse(tmp_path / f"m{suffix}", tensors, description, f"the architecture has the {key} ")


@both_formats
@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([100_000, 200_000], "the tensors do not fit the architecture"),
        ([2**30, 2**31 - 1], "the tensors do not fit the architecture"),
        ([2**31 - 1] * 9, "the tensors do not fit the architecture"),
        ([1] * 100_000, "found 66 tensors for a network of 100000 levels"),
    ],
)
def test_small_file_cannot_ask_for_a_large_network(tmp_path, suffix, features, message):
    tensors, description = parts()
    description["architecture"]["features"] = features
    path = tmp_path / f"m{suffix}"
    peak = refuse(path, tensors, description, message)
    assert peak < 500_000 + 40 * path.stat().st_size


def test_network_is_not_built_before_the_tensors_fit(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("built")

    tensors, description = parts()
    monkeypatch.setattr("minunet.model_files.weights.UNet", fail)
    description["architecture"]["out_channels"] = 4
    refuse(
        tmp_path / "m.npz",
        tensors,
        description,
        r"final_conv\.bias has the shape \(3,\) instead of \(4,\)",
    )


def without(mapping, key):
    return {k: v for k, v in mapping.items() if k != key}


def cast(tensors, dtype):
    """All weights in another dtype, the counters (0-d) as they are."""
    return {name: a if a.ndim == 0 else a.astype(dtype) for name, a in tensors.items()}


BIAS, WEIGHT, COUNTER = (
    "final_conv.bias",
    "downs.0.conv.0.weight",
    "downs.0.conv.1.num_batches_tracked",
)
OTHER_TENSORS = {
    "one missing": (lambda t: without(t, BIAS), "'final_conv.bias' is missing$"),
    "one more": (lambda t: {**t, "extra": np.zeros(1)}, "'extra' is unexpected"),
    "other names": (lambda t: {f"m.{k}": v for k, v in t.items()}, r"\(and 129 more faults\)$"),
    "none": (lambda t: {}, "found 0 tensors for a network of 2 levels"),
    "one axis less": (
        lambda t: {**t, BIAS: t[BIAS].sum()},
        r"final_conv\.bias has the shape \(\) instead of \(3,\)$",
    ),
    "axes swapped": (
        lambda t: {**t, WEIGHT: t[WEIGHT].swapaxes(0, 1)},
        r"has the shape \(2, 3, 3, 3\) instead of \(3, 2, 3, 3\)$",
    ),
    "one in float16": (
        lambda t: {**t, BIAS: t[BIAS].astype(np.float16)},
        "of float16 and float32 in an architecture of float32",
    ),
    "one of integers": (
        lambda t: {**t, BIAS: t[BIAS].astype(np.int32)},
        "of float32 and int32 in an architecture of float32",
    ),
    "all in float64": (lambda t: cast(t, np.float64), "expected all of float32 or all of float16"),
    "all in int8": (lambda t: cast(t, np.int8), "expected all of float32 or all of float16"),
    "all boolean": (lambda t: cast(t, bool), "weights are of bool in an architecture of float32"),
    "counter with a fraction": (
        lambda t: {**t, COUNTER: np.array(1.5)},
        "num_batches_tracked' is of float64 instead of an integer",
    ),
}


@both_formats
@pytest.mark.parametrize("name", OTHER_TENSORS)
def test_tensors_that_do_not_fit(tmp_path, suffix, name):
    change, message = OTHER_TENSORS[name]
    tensors, description = parts()
    message = message if message.startswith("found") else f"the tensors do not fit .*{message}"
    refuse(tmp_path / f"m{suffix}", change(tensors), description, message)


def json_with(old, new):
    """The description's text, one part replaced."""
    return lambda d: json.dumps(d).replace(old, new)


def with_architecture(change):
    return lambda d: {**d, "architecture": change(d["architecture"])}


VERSION = "found the format version {}, expected 1 or 2; a file of a newer minunet needs"
NO_JSON = "the description of the network is not valid JSON"
COLORS = [[0, 0, 0], [0, 0, [1]]]
OTHER_DESCRIPTIONS = {
    "a list": (lambda d: [d], VERSION.format("None")),
    "no version": (lambda d: without(d, "format_version"), VERSION.format("None")),
    "version 3": (lambda d: {**d, "format_version": 3}, VERSION.format("3")),
    "version 0": (lambda d: {**d, "format_version": 0}, VERSION.format("0")),
    "version true": (lambda d: {**d, "format_version": True}, VERSION.format("True")),
    "version 1.0": (lambda d: {**d, "format_version": 1.0}, VERSION.format("1.0")),
    "long version": (lambda d: {**d, "format_version": "9" * 10_000}, VERSION.format("'9+.*9'")),
    "no coding": (lambda d: without(d, "coding"), "expected the keys architecture, coding, form"),
    "code": (lambda d: {**d, "code": "exit()"}, r"found the description \['architecture', 'code'"),
    "no architecture": (lambda d: {**d, "architecture": None}, "found the architecture None"),
    "another architecture": (
        with_architecture(lambda a: {**a, "pool": "mean"}),
        "found the architecture .* expected the keys dropout, dtype, features",
    ),
    "half an architecture": (
        with_architecture(lambda a: without(a, "dropout")),
        "found the architecture .* expected the keys dropout, dtype, features",
    ),
    "preprocessing a number": (lambda d: {**d, "preprocessing": 3}, "preprocessing"),
    "many of them": (lambda d: {**d, "preprocessing": [[]] * 99_999}, "preprocessing"),
    "channels true": (json_with('"channels": null', '"channels": true'), "True"),
    "normalize a list": (json_with('"none"', '["none"]'), "normalize"),
    "coding a number": (lambda d: {**d, "coding": 3}, "coding"),
    "coding of no kind": (lambda d: {**d, "coding": {"kind": [], "values": []}}, "coding"),
    "values no list": (lambda d: {**d, "coding": {"kind": "levels", "values": {}}}, "coding"),
    "a large level": (lambda d: {**d, "coding": {"kind": "levels", "values": [0, 1e9]}}, "levels"),
    "nested colours": (lambda d: {**d, "coding": {"kind": "colors", "values": COLORS}}, "colors"),
    "text cut off": (lambda d: json.dumps(d)[:-1], NO_JSON),
    "no text": (lambda d: "", NO_JSON),
    "half a pair": (lambda d: '"\\ud800"', NO_JSON),
    "deep nesting": (lambda d: "[" * 100_000, "nested too deeply"),
    "two codings": (json_with('"coding"', '"coding": 1, "coding"'), "'coding' stands there twice"),
    "dropout NaN": (json_with('"dropout": 0.0', '"dropout": NaN'), "'NaN' is not finite"),
    "dropout 1e999": (json_with('"dropout": 0.0', '"dropout": 1e999'), "'1e999' is not finite"),
    "5000 digits": (json_with("[3, 4]", "[3, " + "4" * 5000 + "]"), "is out of range"),
}


@both_formats
@pytest.mark.parametrize("name", OTHER_DESCRIPTIONS)
def test_descriptions_that_are_wrong(tmp_path, suffix, name):
    change, message = OTHER_DESCRIPTIONS[name]
    tensors, description = parts()
    refuse(tmp_path / f"m{suffix}", tensors, change(description), message)


@both_formats
def test_any_depth_of_nesting(tmp_path, suffix):
    """Around the limit of the interpreter some step or other gives up: always as a clear error."""
    _, description = parts()
    for depth in range(0, 1100, 11):
        for key in ("preprocessing", "coding", "architecture"):
            nested = "[" * depth + "1" + "]" * depth
            text = json.dumps({**description, key: "HERE"}).replace('"HERE"', nested)
            write_tensors(tmp_path / f"m{suffix}", {}, {"minunet": text})
            with pytest.raises(FileFormatError):
                load(tmp_path / f"m{suffix}")


@both_formats
def test_tensors_without_a_description(tmp_path, suffix):
    write_tensors(tmp_path / f"m{suffix}", {"x": np.zeros(3)}, {"format": "pt"})
    with pytest.raises(FileFormatError, match="found tensors without a description of the network"):
        load(tmp_path / f"m{suffix}")


@both_formats
def test_each_format_under_the_suffix_of_the_other(tmp_path, suffix):
    other = next(s for s in SUFFIXES if s != suffix)
    save(build(), tmp_path / f"m{suffix}")
    os.rename(tmp_path / f"m{suffix}", tmp_path / f"m{other}")
    with pytest.raises(FileFormatError, match="expected a"):
        load(tmp_path / f"m{other}")


class Bomb:
    """Its pickle runs code when it is loaded."""

    def __reduce__(self):
        return os._exit, (3,)


@both_formats
def test_pickles_are_never_loaded(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"final_conv.bias": Bomb()}, protocol))
        with pytest.raises(FileFormatError):
            load(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Bomb()))
    with pytest.raises(FileFormatError):
        load(path)
    with open(path, "wb") as plain:
        np.savez(plain, **{"final_conv.bias": np.array([Bomb()], object)})
    with pytest.raises(FileFormatError):
        load(path)


@both_formats
def test_every_truncation_of_a_model(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    save(build(in_channels=1, out_channels=1, features=(1,)), path)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError):
            load(path)


@both_formats
def test_a_network_that_is_loaded_draws_no_weights(tmp_path, suffix):
    """They would take time, and memory beside that of the file's own."""
    save(build(dropout=0.5), tmp_path / f"m{suffix}")
    dropout = next(module for module in load(tmp_path / f"m{suffix}").modules() if isinstance(module, Dropout))
    assert dropout.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


@both_formats
def test_random_damage_to_a_model(tmp_path, suffix):
    """A .safetensors has no checksum: damaged weights may load, but nothing else goes wrong."""
    path = tmp_path / f"m{suffix}"
    model = build(in_channels=1, out_channels=1, features=(1,))
    save(model, path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(0, len(content), rng.integers(1, 6)):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except FileFormatError:
            continue
        assert parameter_shapes(loaded.architecture).keys() == model.state_dict().keys()
