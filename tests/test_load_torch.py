"""mn.load_torch without PyTorch: both file formats, every layout, and files that mean harm.

The files are made by torch_files.py and the networks by layouts.py. What PyTorch itself makes of them, and its own
files, are in test_load_torch_parity.py.
"""

import io
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import layouts
import numpy as np
import pytest
import traced
from torch_files import Global, Storage, Tensor, archive, state_of, streamed, zipped

import minunet as mn
from minunet.cli import main
from minunet.model_files.pytorch.unpickle import STEP_LIMIT, unpickle
from minunet.model_files.pytorch.views import CALLS, NAMES, persistent
from minunet.model_files.tensor_file import FileFormatError
from minunet.model_files.weights import write_tensors

FORMATS = {"zip": zipped, "stream": streamed}
both_formats = pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
FEATURES = (3, 4, 5)
SIZE = (29, 22)  # odd at two levels

NETWORKS = {
    "article": (layouts.article, {}, SIZE),
    "starred": (layouts.starred, {}, SIZE),
    "starred, with biases": (layouts.starred, {"bias": True}, SIZE),
    "starred, bilinear": (layouts.starred, {"bilinear": True}, SIZE),
    "hub": (layouts.hub, {}, (24, 32)),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


@pytest.fixture(autouse=True)
def numpy_backend():
    """What is tested is which weight goes where."""
    with mn.use_backend("numpy"):
        yield


def run(name, dtype=np.float64, channels=(2, 1), features=FEATURES):
    """(state, image, logits) of a layout."""
    network, options, size = NETWORKS[name]
    parameters = layouts.Parameters(dtype)
    x = parameters.rng.standard_normal((1, channels[0], *size)).astype(dtype)
    with mn.no_grad():
        logits = network(parameters, mn.Tensor(x), channels[1], features, **options).data
    return parameters.state, x, logits


def loaded(tmp_path, content, *arguments, suffix=".pth", **options):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    return mn.load_torch(path, *arguments, **options)


def distance(model, x, logits):
    """The largest difference, relative to the largest logit."""
    with mn.no_grad():
        return np.abs(model(x).data - logits).max() / np.abs(logits).max()


SMALL, X, LOGITS = run("article", np.float32, features=(2,))


def assert_same(model, state):
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name], err_msg=name)


# ----------------------------------------------------------------------------------------------- layouts


@each_network
@both_formats
@pytest.mark.parametrize("dtype, within", [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_every_layout_computes_what_its_network_does(tmp_path, name, write, dtype, within):
    state, x, logits = run(name, dtype)
    model = loaded(tmp_path, write(state_of(state)))
    assert model.dtype == dtype and not model.training
    assert model.features == FEATURES and (model.in_channels, model.out_channels) == (2, 1)
    assert model.skip_fit == ("pad" if name.startswith("starred") else "resize") and model.padding == "same"
    assert model.up == ("bilinear" if name.endswith("bilinear") else "transpose")
    assert distance(model, x, logits) < within
    mn.save(model, tmp_path / "again.npz")
    assert_same(mn.load(tmp_path / "again.npz"), model.state_dict())


@each_network
def test_a_layout_as_safetensors(tmp_path, name):
    state, x, logits = run(name)
    write_tensors(tmp_path / "model.safetensors", {f"module.{n}": a for n, a in state.items()})
    assert distance(mn.load_torch(tmp_path / "model.safetensors"), x, logits) < 1e-12


def test_a_model_file_of_minunet_stays_what_it_is(tmp_path):
    model = mn.UNet(1, 2, (2, 3))
    mn.save(model, tmp_path / "model.safetensors")
    assert mn.load_torch(tmp_path / "model.safetensors").padding == "valid"
    with pytest.raises(FileFormatError, match=r"state_dict of PyTorch is read by mn\.load_torch"):
        write_tensors(tmp_path / "plain.safetensors", model.state_dict())
        mn.load(tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "architecture",
    [
        {"padding": "valid"},
        {"padding": "same"},
        {"padding": "same", "skip_fit": "pad"},
        {"padding": "same", "up": "bilinear"},
    ],
)
def test_what_a_state_dict_cannot_tell_is_told(tmp_path, architecture):
    model = mn.UNet(1, 2, (2, 3), **architecture)
    content = zipped(state_of(model.state_dict()))
    again = loaded(tmp_path, content, **architecture)
    assert_same(again, model.state_dict())
    assert again.architecture == model.architecture
    with pytest.raises(FileFormatError, match="padding='valid'"):
        loaded(tmp_path, content)


def test_two_outputs_behind_a_sigmoid_are_told(tmp_path):
    state, x, logits = run("hub", channels=(1, 2))
    with pytest.warns(UserWarning, match="sigmoid for each output"):
        model = loaded(tmp_path, zipped(state_of(state)))
    assert distance(model, x, logits) < 1e-12


def test_up_convolutions_that_are_missing_do_not_make_a_bilinear_network(tmp_path):
    state, _, _ = run("starred")
    state = {name: array for name, array in state.items() if ".up." not in name}
    with pytest.raises(FileFormatError, match=r"bottleneck\.conv\.0\.weight has the shape \(10, 5, 3, 3\) instead"):
        loaded(tmp_path, zipped(state_of(state)))


# ---------------------------------------------------------------------------- where the state_dict lies

WRAPPED = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"epoch": 3, "loss": 0.25, "state_dict": s, "name": "unet", "best": None},
    "model_state_dict": lambda s: {"optimizer": {"state": {0: {"step": 2}}, "param_groups": []}, "model_state_dict": s},
    "model": lambda s: {"model": s, "args": [1, (2, True)]},
    "two wrappers": lambda s: {"state": 1, "model": {"state_dict": s}},
    "module.": lambda s: OrderedDict((f"module.{name}", t) for name, t in s.items()),
    "two prefixes": lambda s: {"state_dict": OrderedDict((f"module.model.{name}", t) for name, t in s.items())},
    "mask_values": lambda s: OrderedDict([*s.items(), ("mask_values", [0, 255])]),
    "optimizer's tensors": lambda s: {"state_dict": s, "optimizer": state_of({"a": np.zeros(1000)})},
    "a device": lambda s: {"net": s, "a": Called("torch", "Size", (3, 4)), "b": Called("torch", "device", "cuda", 0)},
}


class Called:
    def __init__(self, module, name, *arguments):
        self.reduced = Global(module, name), arguments

    def __reduce__(self):
        return self.reduced


@both_formats
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_where_the_state_dict_lies(tmp_path, write, wrap):
    assert_same(loaded(tmp_path, write(wrap(state_of(SMALL, device="cuda:1")))), SMALL)


@both_formats
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(tmp_path, write, protocol):
    assert_same(loaded(tmp_path, write(state_of(SMALL), protocol)), SMALL)


def test_parameters_and_counters_that_are_missing(tmp_path):
    state = state_of({name: a for name, a in SMALL.items() if not name.endswith("tracked")})
    for tensor in state.values():
        tensor.parameter = True
    model = loaded(tmp_path, streamed(state))
    assert_same(model, SMALL | {name: 0 for name in SMALL if name.endswith("tracked")})


# ------------------------------------------------------------------------------------ storages and views


@both_formats
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sixteen_bits_are_widened(tmp_path, write, kind):
    short = {n: a if a.ndim == 0 else a.astype(np.float16).astype(np.float32) for n, a in SMALL.items()}
    if kind == "bfloat16":
        short = {n: a if a.ndim == 0 else (a.view(np.uint32) & 0xFFFF0000).view(np.float32) for n, a in SMALL.items()}
    cast = Tensor.bfloat16 if kind == "bfloat16" else lambda a: Tensor.of(a.astype(np.float16))
    model = loaded(tmp_path, write({n: Tensor.of(a) if a.ndim == 0 else cast(a) for n, a in short.items()}))
    assert model.dtype == np.float32
    assert_same(model, short)


def test_bfloat16_in_safetensors(tmp_path):
    short = {n: a if a.ndim == 0 else (a.view(np.uint32) & 0xFFFF0000).view(np.float32) for n, a in SMALL.items()}
    header, content = {}, b""
    for name, a in short.items():
        data = (a if a.ndim == 0 else (a.view(np.uint32) >> 16).astype(np.uint16)).tobytes()
        offsets = (len(content), len(content) + len(data))
        header[name] = {"dtype": "BF16" if a.ndim else "I64", "shape": a.shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    assert_same(loaded(tmp_path, struct.pack("<Q", len(text)) + text + content, suffix=".safetensors"), short)


def test_the_other_byte_order(tmp_path):
    assert_same(loaded(tmp_path, zipped(state_of(SMALL), order=">")), SMALL)


@both_formats
def test_views_of_shared_storages(tmp_path, write):
    """All tensors in one storage, each with its offset; the 4-d ones channels-last; one expanded with a stride of 0."""
    name = "downs.0.conv.1.bias"
    state = SMALL | {name: np.full_like(SMALL[name], 0.5)}
    parts = [a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in state.values() if a.ndim]
    storage = Storage(np.concatenate([p.ravel() for p in parts]), device="cuda:0")
    tensors, offset = {}, 0
    for key, a in state.items():
        if a.ndim == 0:
            tensors[key] = Tensor.of(a)
            continue
        strides = [1]
        if a.ndim == 4:
            _, c, h, w = a.shape
            strides = [h * w * c, 1, w * c, c]
        tensors[key] = Tensor(storage, offset, a.shape, [0] if key == name else strides)
        offset += a.size
    assert_same(loaded(tmp_path, write(tensors)), state)


@both_formats
def test_a_small_file_cannot_ask_for_a_large_network(tmp_path, write):
    """Strides of 0 make 31 million parameters of one number; and a storage may be shared by a thousand tensors."""
    big = mn.model_files.weights.parameter_shapes(
        {"in_channels": 3, "out_channels": 1, "features": [64, 128, 256, 512], "norm": "batch"}
    )
    one = Storage(np.ones(1, np.float32))
    tensors = {n: Tensor(one, 0, s, [0] * len(s)) if s else Tensor.of(np.array(1)) for n, s in big.items()}
    shared = Storage(np.ones(2**16, np.float32))
    many = dict(state_of(SMALL)) | {f"extra.{i}": Tensor(shared, 0, (2**16,), (1,)) for i in range(1000)}
    for value in (tensors, many):
        content = write(value)
        tracemalloc.start()
        try:
            with pytest.raises(FileFormatError, match=r"the tensors have \d+ numbers, and the file holds \d+"):
                loaded(tmp_path, content)
            assert tracemalloc.get_traced_memory()[1] < 3 * len(content) + 2**21
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_loading_takes_little_more_than_the_model(tmp_path, kind):
    """At most four times the file, of which a file of 16 bits has two in the model itself."""
    model = mn.UNet(1, 1, (48, 96), padding="same", norm="batch")
    casts = {"float32": Tensor.of, "float16": lambda a: Tensor.of(a.astype(np.float16)), "bfloat16": Tensor.bfloat16}
    state = {n: casts[kind](a) if a.ndim else Tensor.of(a) for n, a in model.state_dict().items()}
    content = zipped(state)
    del model, state
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with traced.peak() as taken:
        mn.load_torch(path)
        peak = taken()
    assert peak < 4 * len(content) + 2**22


# ------------------------------------------------------------------------------------------------ mapping


def renamed():
    return {f"unknown/{name}": array for name, array in SMALL.items()}


@pytest.mark.parametrize("as_function", [False, True])
def test_a_mapping(tmp_path, as_function):
    names = {f"unknown/{name}": name for name in SMALL} | {"aux": None}
    state = state_of(renamed() | {"aux": np.zeros(3, np.float32)})
    mapping = names.get if as_function else names
    assert_same(loaded(tmp_path, zipped(state), mapping), SMALL)
    model = loaded(tmp_path, zipped(state), mapping, skip_fit="pad")
    assert model.skip_fit == "pad" and model.padding == "same"


def test_every_fault_of_a_mapping_is_listed(tmp_path):
    names = {f"unknown/{name}": name for name in SMALL}
    del names["unknown/ups.0.bias"], names["unknown/final_conv.bias"]
    state = renamed()
    state["unknown/ups.0.weight"] = state["unknown/ups.0.weight"][:, :1]
    with pytest.raises(FileFormatError) as caught:
        loaded(tmp_path, zipped(state_of(state)), names)
    for part in ("missing: ups.0.bias (2,)", "missing: final_conv.bias (1,)", "unexpected: 'unknown/ups.0.bias' (2,)",
                 "unexpected: 'unknown/final_conv.bias' (1,)",
                 "ups.0.weight has the shape (4, 1, 2, 2) instead of (4, 2, 2, 2)"):  # fmt: skip
        assert part in str(caught.value)


def test_two_names_for_one(tmp_path):
    with pytest.raises(FileFormatError, match=r"two entries are mapped to 'final_conv\.bias'"):
        loaded(tmp_path, zipped(state_of(renamed())), lambda name: "final_conv.bias")


def test_names_that_are_not_recognised(tmp_path):
    with pytest.raises(FileFormatError, match=r"24 tensors of a network that is not recognised, .* mapping=") as caught:
        loaded(tmp_path, zipped(state_of(dict(list(renamed().items())[:24]))))
    assert str(caught.value).startswith(str(tmp_path / "model.pth"))


def test_dtypes_that_a_model_cannot_have(tmp_path):
    for dtype in (np.int8, np.float64):
        state = SMALL | {"final_conv.bias": np.zeros(1, dtype)}
        with pytest.raises(FileFormatError, match="weights are of"):
            loaded(tmp_path, zipped(state_of(state)))


# ------------------------------------------------------------------------------------------ the machine


def plain(content):
    found = unpickle(content, CALLS, NAMES, persistent)
    return found.value, found.length


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_machine_reads_what_python_writes(protocol):
    shared = [1, 2]
    value = {
        "numbers": [0, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**40, -(2**90), 0.1, float("inf"), True, None],
        "texts": ["", "ä", "x" * 300, "🔬"],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        5: [shared, shared, {}, []],
        "many": list(range(3000)),
        "keys": {f"{i}": i for i in range(2000)},
    }
    content = pickle.dumps(value, protocol)
    found, length = plain(content + b"behind")
    assert found == value and length == len(content)
    assert found[5][0] is found[5][1]


HARM = {
    "os.system": "os system",
    "exec": "builtins exec",
    "a model": "unet.model UNet",
    "a nearly known name": "torch._utils _rebuild_tensor_v2.__globals__",
    "a module of the table": "collections Counter",
}


@both_formats
@pytest.mark.parametrize("name", HARM.values(), ids=HARM)
def test_a_name_that_is_not_in_the_table_is_refused_with_the_remedy(tmp_path, write, name):
    value = {"state_dict": state_of(SMALL), "x": Called(*name.split(" "), "raise SystemExit")}
    with pytest.raises(FileFormatError, match=r"torch\.save\(model\.state_dict\(\), path\)") as caught:
        loaded(tmp_path, write(value))
    assert repr(name.replace(" ", ".")) in str(caught.value)


def program(*parts):
    return b"\x80\x02" + b"".join(parts) + b"."


MANY_TUPLES = b")" + b"\x85" * 100_000
PROGRAMS = {
    "empty": (b"", "damaged or cut off"),
    "no stop": (b"\x80\x02N", "damaged or cut off"),
    "empty stack": (b"\x80\x02.", "damaged or cut off"),
    "protocol 0": (pickle.dumps([1.5], 0), "opcode b'\\(|opcode b'l'"),
    "protocol 6": (b"\x80\x06N.", "protocol 6, expected 2 to 5"),
    "an instance": (program(b"(i__main__\nX\n"), "opcode b'i'"),
    "a new object": (program(b"ccollections\nOrderedDict\n)\x81"), "opcode b'.x81'"),
    "an extension": (program(b"\x82\x01"), "opcode b'.x82'"),
    "a set": (pickle.dumps({1, 2}, 4), "opcode b'.x8f'"),
    "bytes": (pickle.dumps(b"x", 4), "opcode b'C'"),
    "call of a type": (program(b"ctorch\nFloatStorage\n)R"), "a call of torch.FloatStorage"),
    "call of a number": (program(b"K\1)R"), "found 1 in a pickle where a Name belongs"),
    "arguments not a tuple": (program(b"ccollections\nOrderedDict\nNR"), "found None .* where a tuple belongs"),
    "a filled OrderedDict": (program(b"ccollections\nOrderedDict\n]\x85R"), "expected an empty one"),
    "attributes of a list": (program(b"]}b"), r"found \[\] .* where a dict belongs"),
    "items of a number": (program(b"K\1K\1K\1s"), "where a dict belongs"),
    "append to a tuple": (program(b")K\1a"), "where a list belongs"),
    "odd items": (program(b"}(K\1u"), "a key without a value"),
    "a tuple as key": (program(b"}" + MANY_TUPLES + b"Ns"), r"the key \(.*\) in a pickle, expected a text or a number"),
    "a float as key": (program(b"}G" + bytes(8) + b"Ns"), "the key 0.0 in a pickle"),
    "mark beneath": (program(b"N(0"), "opcode b'0'"),
    "no mark": (program(b"Nt"), "damaged or cut off"),
    "memo that is not there": (program(b"h\7"), "damaged or cut off"),
    "too few for a tuple": (program(b"N\x87"), "damaged or cut off"),
    "text beyond the end": (program(b"X\xff\xff\xff\xff"), "damaged or cut off"),
    "text not UTF-8": (program(b"X\1\0\0\0\xff"), "expected UTF-8"),
    "number of 200 bytes": (program(b"\x8a\xc8" + bytes(200)), "a number of 200 bytes"),
    "endless": (b"\x80\x02" + b"N" * (STEP_LIMIT + 9), f"more than {STEP_LIMIT} steps"),
    "reference to nothing": (program(b"NQ"), "found the reference None"),
    "reference to another thing": (program(b"(X\6\0\0\0moduleNNNNtQ"), "expected one to a storage"),
    "a device of nothing": (program(b"ctorch\ndevice\n)R"), r"found a torch.device of \(\)"),
    "a parameter of None": (program(b"ctorch._utils\n_rebuild_parameter\nN\x85R"), r"a parameter of \(None,\)"),
    "a tensor of nothing": (program(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), r"a tensor of \(\)"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_that_are_refused(name):
    content, message = PROGRAMS[name]
    with pytest.raises(FileFormatError, match=message) as caught:
        plain(content)
    assert len(str(caught.value)) < 400


def test_the_largest_pickle_takes_little_memory():
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError, match="steps"):
            plain(b"\x80\x02" + b"}\x94" * STEP_LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------ tensors that lie

ONE = np.ones(6, np.float32)
LIES = {
    "beyond its storage": Tensor(Storage(ONE), 1, (2, 3), (3, 1)),
    "offset beyond": Tensor(Storage(ONE), 6, (1,), (1,)),
    "scalar beyond": Tensor(Storage(ONE), 6, (), ()),
    "negative offset": Tensor(Storage(ONE), -1, (2,), (1,)),
    "negative stride": Tensor(Storage(ONE), 5, (2,), (-1,)),
    "negative side": Tensor(Storage(ONE), 0, (-2,), (1,)),
    "two sides, one stride": Tensor(Storage(ONE), 0, (2, 3), (1,)),
    "a side that is a float": Tensor(Storage(ONE), 0, (2.0,), (1,)),
    "a side that is a bool": Tensor(Storage(ONE), 0, (True,), (1,)),
    "a stride of 2**100": Tensor(Storage(ONE), 0, (2,), (2**100,)),
}


@both_formats
@pytest.mark.parametrize("tensor", LIES.values(), ids=LIES)
def test_tensors_that_lie(tmp_path, write, tensor):
    with pytest.raises(FileFormatError, match="does not lie within its storage"):
        loaded(tmp_path, write({"downs.0.conv.0.weight": tensor}))


def test_impossible_shapes_and_odd_ones(tmp_path):
    with pytest.raises(FileFormatError, match="impossible shape"):
        loaded(tmp_path, zipped({"a": Tensor(Storage(ONE), 0, (2**62, 2**62), (0, 0))}))
    with pytest.raises(FileFormatError, match="impossible shape"):
        loaded(tmp_path, zipped({"a": Tensor(Storage(ONE), 0, (1,) * 33, (1,) * 33)}))
    for shape, strides in (((0, 7), (2**90, 1)), ((1, 6), (2**90, 1))):  # strides that are never taken
        with pytest.raises(FileFormatError, match="not recognised"):
            loaded(tmp_path, zipped({"a": Tensor(Storage(ONE), 0, shape, strides)}))


# --------------------------------------------------------------------------------------- files that lie


class Bomb:
    """Its pickle runs code when it is loaded."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


GOOD = zipped(state_of(SMALL))
OLD = streamed(state_of(SMALL))


def compressed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickle.dumps({}, 2))
    return buffer.getvalue()


def overlapping(count=500):
    """Many directory entries for the same bytes."""
    one = archive({"archive/data/0000": bytes(2**15)})
    at, end = one.index(b"PK\1\2"), one.index(b"PK\6\6")
    entries = b"".join(one[at:end].replace(b"0000", b"%04d" % i) for i in range(count))
    tail = b"PK\5\6" + bytes(4) + count.to_bytes(2, "little") * 2
    return one[:at] + entries + tail + len(entries).to_bytes(4, "little") + at.to_bytes(4, "little") + bytes(2)


HOSTILE = {
    "empty": (b"", "found 0 bytes that start with b''"),
    "text": (b"weights\n", "expected a file that torch.save wrote"),
    "tar": (b"sys_info" + bytes(600), "expected a file that torch.save wrote"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "expected a file that torch.save wrote"),
    "a plain pickle of tensors": (pickle.dumps({"a": [1.0]}, 2), "found a pickle, expected a file of PyTorch"),
    "a plain pickle that runs code": (pickle.dumps(Bomb(), 4), r"found 'builtins\.exec' in its pickle"),
    "zip: pickle that runs code": (archive({"a/data.pkl": pickle.dumps(Bomb(), 2)}), r"found '__builtin__\.exec'"),
    "zip: cut off": (GOOD[:-1], "the file is cut off or damaged"),
    "zip: half": (GOOD[: len(GOOD) // 2], "the file is cut off or damaged"),
    "zip: in front": (b"PK\3\4" + GOOD, "the file is cut off or damaged"),
    "zip: behind": (GOOD + b"!", "the file is cut off or damaged"),
    "zip: compressed": (compressed(), "b'archive/data.pkl' is compressed or encrypted"),
    "zip: encrypted": (GOOD.replace(b"PK\1\2\0\0\0\0\x08", b"PK\1\2\0\0\0\0\x09"), "is compressed or encrypted"),
    "zip: overlapping": (overlapping(), "does not match the zip directory"),
    "zip: no pickle": (archive({"archive/version": b"3"}), "expected one of a PyTorch checkpoint, with one data.pkl"),
    "zip: two pickles": (archive({"a/data.pkl": b"", "b/data.pkl": b""}), "with one data.pkl"),
    "zip: .npz": (archive({"x.npy": b""}), "expected one of a PyTorch checkpoint"),
    "zip: pickle too large": (archive({"a/data.pkl": bytes(2**22 + 1)}), "at most 4194304 bytes"),
    "zip: pickle damaged": (GOOD.replace(b"final_conv", b"fanil_conv"), "data.pkl' is damaged: its checksum differs"),
    "zip: storage damaged": (GOOD.replace(SMALL["final_conv.weight"].tobytes(), bytes(8)), "damaged: its checksum"),
    "zip: storage missing": (GOOD.replace(b"data/3", b"data/x"), r"the entry 'archive/data/\d+' is missing"),
    "zip: byte order": (GOOD.replace(b"little", b"litter"), "byteorder' is damaged"),
    "zip: local name": (GOOD.replace(b"archive/data/0", b"archive/data/y", 1), "does not match the zip directory"),
    "stream: cut off": (OLD[:-1], "the file is cut off, or goes on"),
    "stream: behind": (OLD + b"!", "the file is cut off, or goes on"),
    "stream: pickles cut off": (OLD[:200], "damaged or cut off"),
    "stream: another key": (OLD.replace(b"94000064", b"94009964", 1), "expected those of the storages"),
    "stream: another length": (OLD.replace(b"\1\0\0\0\0\0\0\0", b"\2\0\0\0\0\0\0\0"), "has 2 numbers, expected 1"),
    "a tensor": (zipped(Tensor.of(np.ones(3))), "expected a state_dict"),
    "a number": (zipped(5), "found 5, expected a state_dict"),
    "no tensors": (zipped({"epoch": 3, "weights": {"a": 1}}), r"no state_dict among the keys \['a'\]"),
    "wrapped in itself": (archive({"a/data.pkl": program(b"}q\0X\5\0\0\0modelh\0s")}), "no state_dict among the keys"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path, name):
    content, message = HOSTILE[name]
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with traced.peak() as taken:
        with pytest.raises(FileFormatError, match=message) as caught:
            mn.load_torch(path)
        peak = taken()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700 + len(str(path))
    assert peak < 400_000 + 4 * len(content)


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="found a folder or a device"):
        mn.load_torch(tmp_path)
    with pytest.raises(FileNotFoundError):
        mn.load_torch(tmp_path / "missing.pth")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pth")
        with pytest.raises(FileFormatError, match="found a folder or a device"):
            mn.load_torch(tmp_path / "pipe.pth")


# -------------------------------------------------------------------------------------- the command line


def test_info_shows_a_checkpoint_and_the_others_say_how_to_convert_it(tmp_path, capsys):
    path = tmp_path / "model.pth"
    path.write_bytes(zipped(state_of(run("starred")[0])))
    assert main(["info", str(path), "--size", "32x32"]) == 0
    assert "features 3,4,5, padding same, skips padded, norm batch" in capsys.readouterr().out
    np.save(tmp_path / "image.npy", np.zeros((16, 16), np.float32))
    for command in (["predict", str(path), str(tmp_path / "image.npy"), "--out", str(tmp_path / "out")],
                    ["evaluate", str(path), str(tmp_path), str(tmp_path)]):  # fmt: skip
        assert main(command) == 2
        assert "mn.save(mn.load_torch(" in capsys.readouterr().err
    path.write_bytes(b"text")
    assert main(["info", str(path)]) == 2
    assert "expected a file that torch.save wrote" in capsys.readouterr().err
