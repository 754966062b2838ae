"""Model files with something wrong in them: what reads them may only raise FileFormatError, and must stay small.

    python tests/mutated_files.py [--count 100000] [--seed 0] [--kind zip|stream|npz|safetensors]

reads that many files, each mutated at a few places, and prints how many were refused, and the most memory that one
took. The test suite reads 1,000. Half of the mutations of archives are made before their checksums, by which others are
mostly found.
"""

import argparse
import io
import json
import os
import random
import re
import sys
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from torch_files import Pickler, Storage, Tensor, archive, state_of, streamed

import minunet as mn

FACTOR, ROOM = 4, 64 * 2**20  # at most 4 times the file, and 64 MB
INTERESTING = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\x7f", b"\x80", b"\0"]
DTYPES = (None, "float16", "int8")
OPCODES = [bytes([c]) for c in b"\x80\x95(NKMJGXU)t]ae}suqrhjcRbQ.0oi\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x8c\x93\x94"]
TOKENS = {
    "pickle": [*OPCODES, b"cos\nx\n", b"ctorch\nHalfStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"}q\0h\0"],
    "json": [b"1e9", b"-1", b"null", b"true", b"[]", b"{}", b'"', b"0", b"99999999999", b"F16", b"BF16", b"I8", b","],
    "npy": [b"<f8", b"|O8", b"(9999999,)", b"True", b"-1", b"()", b",", b"'"],
}


def mutated(content, rng, tokens):
    """The content with one to four changes: bytes set, cut, dropped, inserted, moved, or replaced by telling ones."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        size = rng.choice((1, 1, 4, rng.randrange(1, 40)))
        how = rng.randrange(7)
        if how == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif how == 1 and rng.random() < 0.3:
            del content[at:]
        elif how == 2:
            del content[at : at + size]
        elif how == 3:
            content[at:at] = rng.randbytes(size)
        elif how == 4:
            start = rng.randrange(len(content) + 1)
            content[at : at + size] = content[start : start + size]
        else:
            token = rng.choice(INTERESTING + tokens)
            content[at : at + (len(token) if how == 5 else 0)] = token
    return bytes(content)


def _model():
    return mn.UNet(1, 1, (2,), padding="same", norm="batch")


@cache
def _parts():
    """What a zip archive of PyTorch holds."""
    expanded = Tensor(Storage(np.ones(4, np.float16)), 1, (2, 3), (0, 1))
    buffer = io.BytesIO()
    pickler = Pickler(buffer, 2, str)
    pickler.dump({"state_dict": state_of(_model().state_dict()), "epoch": 3, "expanded": expanded})
    parts = {"archive/data.pkl": buffer.getvalue(), "archive/byteorder": b"little"}
    return parts | {f"archive/data/{i}": s.numbers.tobytes() for i, s in enumerate(pickler.storages)}


@cache
def _streamed():
    return streamed(state_of(_model().state_dict()))


def _zip(rng):
    parts = _parts()
    if rng.random() < 0.7:
        name = "archive/data.pkl" if rng.random() < 0.9 else rng.choice(list(parts))
        return archive(parts | {name: mutated(parts[name], rng, TOKENS["pickle"])})
    return mutated(archive(parts), rng, [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"archive/data.pkl"])


def _stream(rng):
    return mutated(_streamed(), rng, TOKENS["pickle"])


def _safetensors(rng):
    content = _saved(".safetensors", rng.choice(DTYPES))
    if rng.random() < 0.5:
        return mutated(content, rng, TOKENS["json"])
    length = 8 + int.from_bytes(content[:8], "little")
    header = mutated(content[8:length], rng, TOKENS["json"])
    return len(header).to_bytes(8, "little") + header + content[length:]


def _npz(rng):
    content = _saved(".npz", rng.choice(DTYPES))
    if rng.random() < 0.5:
        return mutated(content, rng, [b"PK\1\2", b"PK\3\4", b"PK\5\6"])
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    name = rng.choice(["__metadata__.npy", *parts])
    changed = mutated(parts[name], rng, TOKENS["json"] if name.startswith("__") else TOKENS["npy"])
    if name.startswith("__"):  # the header of the array made right again, so that the JSON is what is read
        text = re.sub(rb"^.*?\n", b"", changed, count=1, flags=re.S)
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.frombuffer(text, np.uint8))
        changed = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for key, part in (parts | {name: changed}).items():
            file.writestr(zipfile.ZipInfo(key), part)
    return buffer.getvalue()


@cache
def _saved(suffix, dtype):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        mn.save(_model(), path, dtype)
        return path.read_bytes()


KINDS = {
    "zip": (_zip, ".pth", mn.load_torch),
    "stream": (_stream, ".pth", mn.load_torch),
    "safetensors": (_safetensors, ".safetensors", mn.load),
    "a state_dict in safetensors": (_safetensors, ".safetensors", mn.load_torch),
    "npz": (_npz, ".npz", mn.load),
}


def read_mutated(folder, kind, seed):
    """("loaded" or "refused", bytes that it took) of one mutated file; anything but FileFormatError gets out."""
    make, suffix, load = KINDS[kind]
    path = Path(folder) / f"mutated{suffix}"
    path.write_bytes(make(random.Random(seed)))
    size = os.path.getsize(path)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        load(path)
        outcome = "loaded"
    except mn.FileFormatError:
        outcome = "refused"
    taken = tracemalloc.get_traced_memory()[1] - before
    if taken > FACTOR * size + ROOM:
        raise AssertionError(f"seed {seed} of {kind}: {taken} bytes for a file of {size}")
    return outcome, taken


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else list(KINDS)
    outcomes, most = Counter(), Counter()
    tracemalloc.start()
    with tempfile.TemporaryDirectory() as folder, mn.use_backend("numpy"):
        for i in range(options.count):
            kind, seed = kinds[i % len(kinds)], options.seed + i
            try:
                outcome, taken = read_mutated(folder, kind, seed)
            except BaseException:
                print(f"seed {seed} of {kind}:", file=sys.stderr)
                raise
            outcomes[f"{kind}, {outcome}"] += 1
            most[kind] = max(most[kind], taken)
    print(json.dumps({"files": options.count, **outcomes, "most bytes": most}, indent=1))


if __name__ == "__main__":
    main()
