"""Writes checkpoints as PyTorch does, without PyTorch, so that reading them is tested where it is not installed.

tests/test_load_torch.py holds these files against PyTorch's own where it is.
"""

import io
import pickle
import struct
import zlib
from collections import OrderedDict

import numpy as np

KINDS = {
    "float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int", "int16": "Short",
    "int8": "Char", "uint8": "Byte", "bool": "Bool",
}  # fmt: skip
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
ALIGNMENT = 64


class Global:
    """A name in a pickle; called in Python it does nothing."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *_):
        raise AssertionError("a name was called")


class Storage:
    """A row of numbers, called `kind` ("Float", ...): what `numbers` hold, or bits of bfloat16."""

    def __init__(self, numbers, kind=None, device="cpu"):
        self.numbers, self.device = np.ascontiguousarray(numbers).reshape(-1), device
        self.kind = kind or KINDS[self.numbers.dtype.name]


class Tensor:
    """A view of a storage; strides and offset in numbers."""

    def __init__(self, storage, offset, shape, strides, parameter=False):
        self.storage, self.offset, self.shape, self.strides = storage, offset, tuple(shape), tuple(strides)
        self.parameter = parameter

    @classmethod
    def of(cls, array, device="cpu"):
        """A tensor with a storage of its own."""
        array = np.array(array, order="C")
        return cls(Storage(array, device=device), 0, array.shape, [s // array.itemsize for s in array.strides])

    @classmethod
    def bfloat16(cls, array):
        """Of the upper half of each float32."""
        tensor = cls.of(array)
        tensor.storage = Storage((tensor.storage.numbers.view(np.uint32) >> 16).astype(np.uint16), "BFloat16")
        return tensor


class Pickler(pickle._Pickler):
    """Python's own, but for names that need not exist, tensors, and storages, which are noted and left out."""

    def __init__(self, file, protocol, key, last=()):
        super().__init__(file, protocol)
        self.storages, self.key, self.last = [], key, last

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        if not any(obj is known for known in self.storages):
            self.storages.append(obj)
        position = next(i for i, known in enumerate(self.storages) if known is obj)
        return ("storage", Global("torch", f"{obj.kind}Storage"), self.key(position), obj.device, len(obj.numbers),
                *self.last)  # fmt: skip

    def reducer_override(self, obj):
        if type(obj) is not Tensor:
            return NotImplemented
        arguments = (obj.storage, obj.offset, obj.shape, obj.strides, False, OrderedDict())
        if not obj.parameter:
            return Global("torch._utils", "_rebuild_tensor_v2"), arguments
        plain = Tensor(obj.storage, obj.offset, obj.shape, obj.strides)
        return Global("torch._utils", "_rebuild_parameter"), (plain, True, OrderedDict())


def zipped(value, protocol=2, order="<", folder="archive"):
    """The bytes of `torch.save(value)` since 1.6."""
    buffer = io.BytesIO()
    pickler = Pickler(buffer, protocol, str)
    pickler.dump(value)
    entries = {"data.pkl": buffer.getvalue(), "byteorder": b"little" if order == "<" else b"big"}
    for i, storage in enumerate(pickler.storages):
        entries[f"data/{i}"] = storage.numbers.astype(storage.numbers.dtype.newbyteorder(order)).tobytes()
    return archive({f"{folder}/{name}": content for name, content in (entries | {"version": b"3\n"}).items()})


def archive(entries, method=0):
    """A zip archive as PyTorch writes it: sizes behind the data, which are aligned, and the records of zip64."""
    content, directory = b"", b""
    for name, data in entries.items():
        start, crc, raw = len(content), zlib.crc32(data), name.encode()
        padding = -(start + 30 + len(raw) + 4) % ALIGNMENT
        content += struct.pack("<4s5H3L2H", b"PK\3\4", 0, 0x808, method, 0, 0, 0, 0, 0, len(raw), 4 + padding) + raw
        content += struct.pack("<2sH", b"FB", padding) + b"Z" * padding + data
        content += struct.pack("<4s3L", b"PK\7\x08", crc, len(data), len(data))
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0, 0, 0x808, method, 0, 0, crc, len(data), len(data),
                                 len(raw), 0, 0, 0, 0, 0, start) + raw  # fmt: skip
    count, length, at = len(entries), len(directory), len(content)
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x31E, 45, 0, 0, count, count, length, at)
    large += struct.pack("<4sLQL", b"PK\6\7", 0, at + length, 1)
    return content + directory + large + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, at, 0)


def streamed(value, protocol=2):
    """The bytes of `torch.save(value)` before 1.6."""
    buffer = io.BytesIO()
    for fact in (MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}):
        pickle.dump(fact, buffer, protocol)
    pickler = Pickler(buffer, protocol, lambda i: str(94_000_000 + 64 * i), last=(None,))
    pickler.dump(value)
    pickle.dump([pickler.key(i) for i in range(len(pickler.storages))], buffer, protocol)
    for storage in pickler.storages:
        buffer.write(struct.pack("<q", len(storage.numbers)) + storage.numbers.tobytes())
    return buffer.getvalue()


def state_of(arrays, **options):
    """An OrderedDict of tensors, as `state_dict()` gives it."""
    return OrderedDict((name, Tensor.of(array, **options)) for name, array in arrays.items())
