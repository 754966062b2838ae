"""Our .npz against NumPy's, and against archives that mean harm.

Ours is the stricter one: only stored entries (np.savez, not np.savez_compressed), nothing before,
between or behind them, no duplicates, no objects, at most 2 GB.
"""

import io
import json
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest
import traced
from hypothesis import given, settings
from hypothesis import strategies as st

from minunet.model_files.tensor_file import DTYPES, JSON_LIMIT, FileFormatError
from minunet.model_files.weights import read_tensors, write_tensors

MANY = {f"every.{d.name}": np.arange(-3, 9).astype(d).reshape(2, 3, 2) for d in DTYPES.values()} | {
    "scalar": np.array(2.5, np.float32),
    "counter": np.array(7),
    "empty": np.empty((3, 0, 2)),
    "vector": np.arange(5, dtype=np.float32),
    "ünïcode/🔬": np.ones(1, np.uint8),
    "channels last": np.arange(210, dtype=np.float32).reshape(2, 5, 7, 3).transpose(0, 3, 1, 2),
    "every other": np.arange(20, dtype=np.float32)[::-2],
    "special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324]),
}
TEXTS = {"minunet": '{"a": 1}', "ä": "\n text"}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a
    )


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def npy_of(header, data=b"\0" * 8, version=b"\1\0"):
    """An .npy file of any header text."""
    text = header.encode() + b"\n"
    width = "<H" if version == b"\1\0" else "<L"
    return b"\x93NUMPY" + version + struct.pack(width, len(text)) + text + data


def archive(entries, compression=zipfile.ZIP_STORED):
    """A zip archive of (name, content) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in entries:
            with warnings.catch_warnings(action="ignore"):  # of a duplicate name
                file.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def one(content, name="x.npy"):
    return archive([(name, content)])


def claim(data=b"\0" * 8, **claims):
    """An archive of one array whose header claims what it likes."""
    return one(npy_of(header(**claims), data))


def patch(content, signature, offset, value):
    """Overwrite bytes of the first record with this signature."""
    at = content.index(signature) + offset
    return content[:at] + value + content[at + len(value) :]


def header(descr="'<f4'", fortran="False", shape="(2,)"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"


def test_round_trip(tmp_path):
    path = tmp_path / "m.npz"
    write_tensors(path, MANY, TEXTS)
    tensors, metadata = read_tensors(path)
    assert same(tensors, MANY) and metadata == TEXTS
    assert list(tensors) == list(MANY)
    assert all(a.flags.writeable and a.flags.aligned for a in tensors.values())


def test_numpy_reads_ours(tmp_path):
    path = tmp_path / "m.npz"
    write_tensors(path, MANY, TEXTS)
    with np.load(path) as loaded:
        found = dict(loaded)
    assert json.loads(found.pop("__metadata__").tobytes()) == TEXTS
    assert same(found, MANY)


@pytest.mark.parametrize("order", ["C", "F"])
def test_we_read_numpys(tmp_path, order):
    path = tmp_path / "m.npz"
    arrays = {name: np.array(a, order=order) for name, a in MANY.items()}
    np.savez(path, **arrays)
    tensors, metadata = read_tensors(path)
    assert same(tensors, MANY) and metadata == {}


def test_big_endian_and_later_headers(tmp_path):
    path = tmp_path / "m.npz"
    entries = [(f"v{v}.npy", npy(np.array([1.5, -2], ">f4"), version=(v, 0))) for v in (1, 2, 3)]
    path.write_bytes(archive(entries))
    tensors, _ = read_tensors(path)
    assert [a.tolist() for a in tensors.values()] == [[1.5, -2]] * 3
    assert all(a.dtype == np.float32 and a.dtype.isnative for a in tensors.values())


def test_nothing_at_all(tmp_path):
    path = tmp_path / "m.npz"
    write_tensors(path, {})
    assert read_tensors(path) == ({}, {})


def test_same_tensors_give_the_same_bytes(tmp_path):
    write_tensors(tmp_path / "a.npz", MANY, TEXTS)
    write_tensors(tmp_path / "b.npz", MANY, TEXTS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_does_not_fit_is_not_written(tmp_path):
    path = tmp_path / "m.npz"
    with pytest.raises(ValueError, match=r"at most 2 GB .* save as \.safetensors"):
        write_tensors(path, {"x": np.broadcast_to(np.float32(0), (2**29,))})
    with pytest.raises(ValueError, match="the metadata takes 1"):
        write_tensors(path, {}, {"a": "x" * JSON_LIMIT})
    assert not list(tmp_path.iterdir())


class Bomb:
    """Its pickle runs code when it is loaded."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def streamed():
    """What zipfile writes where it cannot seek: sizes behind the data."""

    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as file, file.open("x.npy", "w") as entry:
        entry.write(npy(np.zeros(2)))
    return pipe.getvalue()


def overlapping(count=200):
    """Many directory entries, one array: the small bomb that unpacks to a large one."""
    one = archive([("aaaa.npy", npy(np.zeros(2**15)))])
    end = one.index(b"PK\5\6")
    central = one.index(b"PK\1\2")
    entry = one[central:end]
    directory = entry + b"".join(entry.replace(b"aaaa", b"%04d" % i) for i in range(1, count))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), central, 0)
    return one[:central] + directory + tail


X = npy(np.zeros(2, np.float32))
GOOD = archive([("x.npy", X)])
TWO = archive([("x.npy", X), ("y.npy", X)])
PLAIN = "expected an .npy array of plain numbers"
HOSTILE = {
    "empty file": (b"", "found 0 bytes that start with b''"),
    "text": (b"weights, weights, weights\n", "do not end like a zip"),
    "single .npy": (X, r"start with b'\\x93NUMPY.*expected a whole .npz"),
    "pickle": (pickle.dumps(Bomb()) + b"\0" * 30, "do not end like a zip"),
    "cut off": (GOOD[:-1], "do not end like a zip"),
    "half": (GOOD[: len(GOOD) // 2], "do not end like a zip"),
    "appended": (GOOD + b"!", "do not end like a zip"),
    "in front": (b"#!/bin/sh\n" + GOOD, "do not end like a zip"),
    "comment": (GOOD[:-2] + b"\2\0hi", "do not end like a zip"),
    "more entries said": (patch(GOOD, b"PK\5\6", 8, b"\2\0\2\0"), "the zip directory is damaged"),
    "fewer entries said": (patch(TWO, b"PK\5\6", 8, b"\1\0\1\0"), "does not match the entries"),
    "65535 entries said": (patch(GOOD, b"PK\5\6", 8, b"\xff" * 4), "the zip directory is damaged"),
    "directory damaged": (patch(GOOD, b"PK\1\2", 2, b"!"), "the zip directory is damaged"),
    "directory lies elsewhere": (patch(GOOD, b"PK\5\6", 16, b"\1"), "do not end like a zip"),
    "PyTorch checkpoint": (
        one(pickle.dumps(Bomb()), "archive/data.pkl"),
        "found the entry 'archive/data.pkl', expected .npy arrays only",
    ),
    "compressed": (
        archive([("x.npy", X)], zipfile.ZIP_DEFLATED),
        "b'x.npy' is compressed.*not np.savez_compressed",
    ),
    "encrypted": (patch(GOOD, b"PK\1\2", 8, b"\1"), "is compressed, encrypted, streamed"),
    "newer zip": (patch(GOOD, b"PK\1\2", 6, b"\x40"), "is compressed, .* or of a newer zip"),
    "streamed": (streamed(), "is compressed, encrypted, streamed"),
    "sizes differ": (
        patch(GOOD, b"PK\1\2", 24, b"\xff" * 3),
        "is compressed, encrypted, streamed",
    ),
    "4 GB said": (
        patch(patch(GOOD, b"PK\1\2", 20, b"\xff" * 4), b"PK\1\2", 24, b"\xff" * 4),
        "does not lie where the zip directory says",
    ),
    "size too small": (
        patch(patch(GOOD, b"PK\1\2", 20, b"\1"), b"PK\1\2", 24, b"\1"),
        "is damaged: its checksum differs",
    ),
    "duplicate": (archive([("x.npy", X), ("x.npy", X)]), "'x.npy' stands there twice"),
    "overlapping": (overlapping(), "b'0001.npy' does not lie where the zip directory says"),
    "other name": (patch(GOOD, b"PK\1\2", 46, b"z"), "b'z.npy' does not match the zip directory"),
    "local record damaged": (b"pk" + GOOD[2:], "does not match the zip directory"),
    "name not UTF-8": (GOOD.replace(b"x.npy", b"\xff.npy"), r"b'\\xff.npy' is not UTF-8"),
    "data damaged": (GOOD.replace(X, X[:-1] + b"!"), "b'x.npy' is damaged: its checksum differs"),
    "no magic": (one(b"nothing"), "starts with b'nothing'"),
    "empty entry": (one(b""), "starts with b''"),
    "unknown .npy version": (
        one(X.replace(b"Y\1\0", b"Y\4\0")),
        "'x.npy' starts with b.*expected an .npy array",
    ),
    "header beyond entry": (
        one(X.replace(b"v\0{", b"\xff\xff{")),
        "'x.npy' starts with b.*expected an .npy array",
    ),
    "4 GB header": (
        one(b"\x93NUMPY\2\0\xff\xff\xff\xff{}"),
        "'x.npy' starts with b.*expected an .npy array",
    ),
    "objects": (one(npy(np.array([Bomb()], object))), r"'\|O'.*objects are never read"),
    "records": (one(npy(np.zeros(2, [("a", "f4")]))), PLAIN),
    "texts": (one(npy(np.array(["a"]))), PLAIN),
    "complex": (one(npy(np.zeros(1, complex))), PLAIN),
    "dates": (one(npy(np.zeros(1, "M8[s]"))), PLAIN),
    "long double": (claim(descr="'<f16'"), PLAIN),
    "code in the header": (claim(descr="__import__('os')"), PLAIN),
    "nested header": (one(npy_of("(" * 60_000)), PLAIN),
    "negative side": (claim(shape="(-2,)"), PLAIN),
    "side is a float": (claim(shape="(2.0,)"), PLAIN),
    "side is a bool": (claim(shape="(True,)"), PLAIN),
    "shape is a number": (claim(shape="(2)"), PLAIN),
    "shape is a list": (claim(shape="[2,]"), PLAIN),
    "fortran is a number": (claim(fortran="1"), PLAIN),
    "two shapes": (one(npy_of(header().replace("}", "'shape': (2,), }"))), PLAIN),
    "side of 30 digits": (claim(shape="(" + "9" * 30 + ",)"), PLAIN),
    "product overflows to 8": (claim(shape=f"({2**62}, {2**62}, 2)"), "the impossible shape"),
    "product overflows, times 0": (claim(b"", shape=f"({2**62}, 9, 0)"), "the impossible shape"),
    "33 dimensions": (claim(shape="(" + "1, " * 32 + "2)"), "the impossible shape"),
    "1 GiB in a small entry": (
        claim(b"", shape=f"({2**28},)"),
        "has 0 bytes of data, expected 1073741824",
    ),
    "too little data": (claim(shape="(3,)"), "8 bytes of data, expected 12"),
    "too much data": (claim(shape="(1,)"), "8 bytes of data, expected 4"),
    "boolean 2": (claim(b"\1\2", descr="'|b1'"), "found a boolean that is neither 0 nor 1"),
    "metadata is text": (one(npy(np.array("a")), "__metadata__.npy"), PLAIN),
    "metadata of floats": (one(X, "__metadata__.npy"), "the metadata is not valid JSON"),
    "metadata not JSON": (one(npy(np.zeros(3, np.uint8)), "__metadata__.npy"), "not valid JSON"),
    "metadata a list": (
        one(npy(np.frombuffer(b"[]", np.uint8)), "__metadata__.npy"),
        r"found the metadata \[\], expected texts by name",
    ),
    "metadata too long": (
        one(npy(np.zeros(JSON_LIMIT + 1, np.uint8)), "__metadata__.npy"),
        "the metadata has 1048577 bytes, expected at most 1048576",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path, name):
    content, message = HOSTILE[name]
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with traced.peak() as taken:
        with pytest.raises(FileFormatError, match=message) as caught:
            read_tensors(path)
        peak = taken()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 + len(str(path))
    assert peak < 200_000 + 5 * len(content)


def test_reading_takes_the_memory_of_the_tensors(tmp_path):
    path = tmp_path / "m.npz"
    write_tensors(path, {f"t{i}": np.zeros(2**18, np.float32) for i in range(8)})
    with traced.peak() as taken:
        tensors, _ = read_tensors(path)
        peak = taken()
    assert len(tensors) == 8 and peak < 2**20 * 1.2 + path.stat().st_size


SOUND = archive(
    [
        ("x.npy", npy(np.arange(4, dtype=np.float32).reshape(2, 2))),
        ("n.npy", npy(np.array(3))),
        ("f.npy", npy(np.asfortranarray(np.arange(6.0).reshape(2, 3)))),
    ]
)


def read_by_both(path):
    """(ours, NumPy's), None for refused; any error of ours but FileFormatError gets out."""
    try:
        ours = read_tensors(path)[0]
    except FileFormatError:
        ours = None
    try:
        with np.load(path, allow_pickle=False) as loaded:
            theirs = dict(loaded)
    except Exception:  # zipfile and NumPy raise many kinds
        theirs = None
    return ours, theirs


def test_the_file_that_is_mutated_is_sound(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(SOUND)
    ours, theirs = read_by_both(path)
    assert len(ours) == 3 and same(ours, theirs)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_archives_against_numpy(tmp_path_factory, data):
    content = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["set", "cut", "drop", "insert"]))
        if how == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[max(at, 1) :]
        elif how == "drop" and len(content) > 30:
            del content[at : at + data.draw(st.integers(1, 20))]
        else:
            content[at:at] = data.draw(st.binary(max_size=9))
    path = tmp_path_factory.mktemp("mutated") / "m.npz"
    path.write_bytes(content)
    ours, theirs = read_by_both(path)
    if ours is not None:
        assert theirs is not None, "we read what NumPy refuses"
        assert same(ours, theirs)
    path.unlink()


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), min_size=1, max_size=3))
def test_mutated_arrays_in_sound_archives(tmp_path_factory, changes):
    """The checksum fits here, so that the reader of .npy headers is what is tested."""
    content = bytearray(npy_of(header(shape="(2, 1)")))
    for at, value in changes:
        content[at] = value
    path = tmp_path_factory.mktemp("mutated") / "m.npz"
    path.write_bytes(archive([("x.npy", bytes(content))]))
    ours, theirs = read_by_both(path)
    if ours is not None:
        assert theirs is not None, "we read what NumPy refuses"
        assert same(ours, theirs)
    path.unlink()
