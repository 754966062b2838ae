"""Our .safetensors against the `safetensors` library, and against files that mean harm.

Where the two differ, ours is the stricter one: it refuses duplicate names (the library takes the
last), headers over 1 MiB (the library: 100 MB), unknown keys in a tensor's description, metadata
null, more than 32 dimensions and booleans other than 0 and 1. Both refuse dtypes that NumPy lacks
(F8); but BF16, which the library reads for frameworks only, is widened here. Else ours never reads what the library
refuses.
"""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
import traced
from hypothesis import given, settings
from hypothesis import strategies as st

from minunet.model_files.tensor_file import DTYPES, JSON_LIMIT, FileFormatError
from minunet.model_files.weights import read_tensors, write_tensors


def example(dtype):
    return np.arange(-3, 9).astype(dtype).reshape(2, 3, 2)


def pack(header, data=b""):
    """A file from a header (a dict, or text as it is) and the bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


MANY = {f"every.{name}": example(dtype) for name, dtype in DTYPES.items()} | {
    "scalar": np.float32(2.5),
    "counter": np.array(7, np.int64),
    "empty": np.empty((3, 0, 2), np.float64),
    "empty bytes": np.empty(0, np.uint8),
    'ünïcode "quoted" \\ 🔬': np.ones(1, np.uint8),
    "channels last": np.ones((2, 5, 7, 3), np.float32).transpose(0, 3, 1, 2) * np.arange(3).reshape(3, 1, 1),
    "every other": np.arange(20, dtype=np.float32)[::-2],
    "broadcast": np.broadcast_to(np.float32(1), (3, 4)),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
}
MANY = {name: np.asarray(array) for name, array in MANY.items()}
TEXTS = {"minunet": '{"a": 1}', "ä": "\n\0 text"}


def test_round_trip(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, MANY, TEXTS)
    tensors, metadata = read_tensors(path)
    assert same(tensors, MANY) and metadata == TEXTS
    for array in tensors.values():
        assert array.flags.writeable and array.flags.aligned and array.flags.c_contiguous


def test_library_reads_ours(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, MANY, TEXTS)
    assert same(safetensors.numpy.load_file(path), MANY)
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == TEXTS


def test_we_read_the_librarys(tmp_path):
    path = tmp_path / "m.safetensors"
    contiguous = {name: np.array(a, order="C") for name, a in MANY.items()}
    safetensors.numpy.save_file(contiguous, path, TEXTS)
    tensors, metadata = read_tensors(path)
    assert same(tensors, MANY) and metadata == TEXTS


def test_nothing_at_all(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, {})
    assert read_tensors(path) == ({}, {})


def test_big_endian_arrays_keep_their_values(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, {"x": np.array([1.5, -2], ">f4"), "n": np.array([258], ">i2")})
    tensors, _ = read_tensors(path)
    assert tensors["x"].tolist() == [1.5, -2] and tensors["x"].dtype == np.float32
    assert tensors["n"].tolist() == [258] and tensors["n"].dtype.isnative


def test_every_tensor_is_aligned_in_the_file(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, MANY, TEXTS)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    del header["__metadata__"]
    for e in header.values():
        assert e["data_offsets"][0] % DTYPES[e["dtype"]].itemsize == 0


def test_same_tensors_give_the_same_bytes(tmp_path):
    write_tensors(tmp_path / "a.safetensors", MANY, TEXTS)
    write_tensors(tmp_path / "b.safetensors", MANY, TEXTS)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_too_much_metadata_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"names and metadata take 1\d+ bytes, at most 1048576"):
        write_tensors(tmp_path / "m.safetensors", {}, {"a": "x" * JSON_LIMIT})
    assert not list(tmp_path.iterdir())


F4 = b"\0" * 8  # the data of entry()
ENTRY = "tensor 'a' is described by {.*}, expected a dtype among F64, .*BOOL, BF16, a shape, and data_off"
HOSTILE = {
    "empty file": (b"", r"found 0 bytes that start with b'', expected a \.safetensors file"),
    "three bytes": (b"\1\0\0", r"expected a \.safetensors file: 8 bytes with the length"),
    "text": (b"import numpy as np\n" * 9, "found 171 bytes that start with b'import n', expected"),
    "zip": (b"PK\3\4" + b"\0" * 80, "found 84 bytes that start with b'PK"),
    "pickle": (
        b"\x80\2}q\0." + b"\0" * 80,
        r"found 86 bytes that start with .* expected a \.safetensors file",
    ),
    "header of 2**60 bytes": (struct.pack("<Q", 2**60) + b"{}", "found 10 bytes that start with"),
    "header of 2**64 - 1 bytes": (
        b"\xff" * 8 + b"{}",
        r"expected a \.safetensors file: 8 bytes with the length",
    ),
    "header of 0 bytes": (b"\0" * 16, r"expected a \.safetensors file: 8 bytes with the length"),
    "header cut off": (pack({"a": entry()})[:30], "found 30 bytes that start with"),
    "header over the limit": (pack(b"{" + b" " * JSON_LIMIT + b"}"), "expected a .safetensors"),
    "header is a list": (pack(b"[1]"), "then the header, a JSON object"),
    "header after a space": (pack(b' {"a":1}'), "then the header, a JSON object"),
    "half JSON": (pack(b'{"a": '), "the header is not valid JSON"),
    "two JSONs": (pack(b"{}{}"), "the header is not valid JSON: Extra data"),
    "not UTF-8": (pack(b'{"\xff": 1}'), "the header is not valid JSON.*utf-8"),
    "UTF-16": (pack("{}".encode("utf-16")), "then the header, a JSON object"),
    "half a surrogate pair": (
        pack(b'{"__metadata__": {"a": "\\ud800"}}'),
        "not valid JSON.*surrog",
    ),
    "nested": (pack(b'{"a":' + b"[" * 500_000), "nested too deeply"),
    "nested and closed": (pack(b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}"), "nested too deeply"),
    "duplicate tensors": (
        pack(json.dumps({"a": entry(), "b": entry()}).replace('"b"', '"a"').encode(), F4),
        "the key 'a' stands there twice",
    ),
    "duplicate dtype": (
        pack(json.dumps({"a": entry()}).replace('"F32"', '"F32", "dtype": "F32"').encode(), F4),
        "the key 'dtype' stands there twice",
    ),
    "duplicate metadata": (pack(b'{"__metadata__":{"a":"1","a":"1"}}'), "'a' stands there twice"),
    "number of 5000 digits": (pack(b'{"a":' + b"9" * 5000 + b"}"), "out of range"),
    "NaN": (pack(b'{"a": NaN}'), "the number 'NaN' is not finite"),
    "1e999": (pack(b'{"a": 1e999}'), "the number '1e999' is not finite"),
    "metadata is a list": (pack({"__metadata__": ["a"]}), r"found the metadata \['a'\]"),
    "metadata of numbers": (pack({"__metadata__": {"a": 1}}), "found the metadata {'a': 1}"),
    "metadata is null": (pack({"__metadata__": None}), "found the metadata None"),
    "tensor is a number": (pack({"a": 1}), "tensor 'a' is described by 1"),
    "no shape": (
        pack({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, F4),
        ENTRY,
    ),
    "more keys": (pack({"a": {**entry(), "pickle": 1}}, F4), ENTRY),
    "unknown dtype": (
        pack({"a": entry("F8_E4M3", (8,))}, F4),
        ENTRY,
    ),
    "dtype is a list": (pack({"a": entry(["F32"])}, F4), ENTRY),
    "shape is a number": (pack({"a": {**entry(), "shape": 2}}, F4), ENTRY),
    "negative side": (pack({"a": entry(shape=(-1, -2))}, F4), ENTRY),
    "minus zero": (pack(b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}'), "'-0' is out"),
    "side is a float": (pack({"a": entry(shape=(2.0,))}, F4), ENTRY),
    "side is a bool": (pack({"a": entry(shape=(True, 2))}, F4), ENTRY),
    "side is null": (pack({"a": entry(shape=(None,))}, F4), ENTRY),
    "product overflows to 8": (pack({"a": entry(shape=(2**62, 2**62, 2))}, F4), ENTRY),
    "product overflows, times 0": (
        pack({"a": entry(shape=(2**62, 9, 0), offsets=(0, 0))}),
        ENTRY,
    ),
    "33 dimensions": (
        pack({"a": entry(shape=(1,) * 32 + (2,))}, F4),
        ENTRY,
    ),
    "million dimensions": (pack({"a": entry(shape=(1,) * 300_000)}, F4), ENTRY),
    "1 TB": (pack({"a": entry(shape=(2**38,), offsets=(0, 2**40))}, F4), "the file is cut off"),
    "shape larger than offsets": (pack({"a": entry(shape=(3,))}, F4), ENTRY),
    "shape smaller than offsets": (pack({"a": entry(shape=(1,))}, F4), ENTRY),
    "offsets backwards": (pack({"a": entry(offsets=(8, 0))}, F4), ENTRY),
    "offsets negative": (pack({"a": entry(offsets=(-8, 0))}, F4), "starts at byte -8, expected 0"),
    "offsets floats": (pack({"a": entry(offsets=(0.0, 8.0))}, F4), ENTRY),
    "offsets bools": (pack({"a": entry("U8", (1,), (False, True))}, b"\0"), ENTRY),
    "offsets texts": (pack({"a": entry(offsets=("0", "8"))}, F4), ENTRY),
    "one offset": (pack({"a": entry(offsets=(0,))}, F4), ENTRY),
    "three offsets": (pack({"a": entry(offsets=(0, 4, 8))}, F4), ENTRY),
    "offset far outside": (pack({"a": entry(offsets=(10**18, 10**18 + 8))}, F4), "leaves a gap"),
    "overlap": (
        pack({"a": entry(), "b": entry(offsets=(4, 12))}, F4 + F4[:4]),
        "starts at byte 4, expected 8: it overlaps",
    ),
    "same place": (pack({"a": entry(), "b": entry()}, F4), "it overlaps the one before it"),
    "gap at the start": (pack({"a": entry(offsets=(4, 12))}, F4 + F4), "leaves a gap"),
    "gap": (
        pack({"a": entry(), "b": entry(offsets=(9, 17))}, F4 * 3),
        "expected 8: it leaves a gap",
    ),
    "cut off": (pack({"a": entry()}, F4[:-1]), "found 7 bytes after the header, expected 8"),
    "trailing byte": (pack({"a": entry()}, F4 + b"!"), "found 9 bytes .* something was appended"),
    "boolean 2": (
        pack({"a": entry("BOOL", (2,), (0, 2))}, b"\1\2"),
        "found a boolean that is neither 0 nor 1",
    ),
}
LIBRARY_READS = {
    "duplicate tensors",
    "duplicate metadata",
    "header over the limit",
    "more keys",
    "metadata is null",
    "33 dimensions",
    "boolean 2",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path, name):
    content, message = HOSTILE[name]
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", HOSTILE)
def test_refusing_costs_little_memory(tmp_path, name):
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[name][0])
    with traced.peak() as taken:
        with pytest.raises(FileFormatError):
            read_tensors(path)
        peak = taken()
    assert peak < 200_000 + 40 * path.stat().st_size


def test_reading_takes_the_memory_of_the_tensors(tmp_path):
    path = tmp_path / "m.safetensors"
    write_tensors(path, {f"t{i}": np.zeros(2**18, np.float32) for i in range(8)})
    with traced.peak() as taken:
        tensors, _ = read_tensors(path)
        peak = taken()
    assert len(tensors) == 8 and peak < 1.05 * path.stat().st_size


SOUND = pack(
    {
        "__metadata__": {"k": "v"},
        "a": entry(),
        "flag": entry("BOOL", (1,), (8, 9)),
        "n": entry("U8", (), (9, 10)),
        "none": entry("I64", (0, 3), (10, 10)),
        "b": entry("F16", (2, 3), (10, 22)),
    },
    bytes(range(8)) + b"\1" + bytes(13),
)
TOKENS = [b"1e1", b"true", b"null", *(bytes([c]) for c in b'0-9"{}[], \0')]

mutation = st.one_of(
    st.tuples(st.just("set"), st.integers(0, len(SOUND) - 1), st.integers(0, 255)),
    st.tuples(st.just("token"), st.integers(8, len(SOUND) - 1), st.sampled_from(TOKENS)),
    st.tuples(st.just("cut"), st.integers(0, len(SOUND) - 1), st.none()),
    st.tuples(st.just("drop"), st.integers(0, len(SOUND) - 1), st.integers(1, 30)),
    st.tuples(st.just("insert"), st.integers(0, len(SOUND)), st.binary(min_size=1, max_size=9)),
)


def mutate(content, how, at, what):
    if how == "set":
        return content[:at] + bytes([what]) + content[at + 1 :]
    if how == "token":
        return content[:at] + what + content[at + len(what) :]
    if how == "cut":
        return content[:at]
    if how == "drop":
        return content[:at] + content[at + what :]
    return content[:at] + what + content[at:]


def read_by_both(path):
    """(ours, the library's), None for refused; any error of ours but FileFormatError gets out."""
    try:
        ours = read_tensors(path)[0]
    except FileFormatError:
        ours = None
    try:
        theirs = safetensors.numpy.load_file(path)
    except Exception:  # the library raises its own, KeyError, ValueError ...: all refusals
        theirs = None
    return ours, theirs


def test_the_file_that_is_mutated_is_sound(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(SOUND)
    ours, theirs = read_by_both(path)
    assert len(ours) == 5 and same(ours, theirs)


@pytest.mark.parametrize("name", HOSTILE)
def test_library_refuses_them_too(tmp_path, name):
    path = tmp_path / "m.safetensors"
    path.write_bytes(HOSTILE[name][0])
    ours, theirs = read_by_both(path)
    assert ours is None and (theirs is not None) == (name in LIBRARY_READS)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.lists(mutation, min_size=1, max_size=3))
def test_mutated_files_against_the_library(tmp_path_factory, mutations):
    content = SOUND
    for m in mutations:
        content = mutate(content, *m)
    path = tmp_path_factory.mktemp("mutated") / "m.safetensors"
    path.write_bytes(content)
    ours, theirs = read_by_both(path)
    if ours is not None:
        assert theirs is not None, "we read what the library refuses"
        assert same(ours, theirs)
    path.unlink()


def test_every_single_bit_flip_and_truncation(tmp_path):
    path = tmp_path / "m.safetensors"
    damaged = [SOUND[:n] for n in range(len(SOUND))]
    for at in range(len(SOUND)):
        damaged += [mutate(SOUND, "set", at, SOUND[at] ^ (1 << bit)) for bit in range(8)]
    for content in damaged:
        path.write_bytes(content)
        ours, theirs = read_by_both(path)
        assert ours is None or (theirs is not None and same(ours, theirs))
