"""A pickle read by a machine that executes nothing.

A pickle is a program for a machine with a stack, a memo and marks. Python's own machine imports and calls whatever the
program names. This one has the opcodes that lists, dicts, numbers, texts and tensors need; a name must stand in the
caller's table, and what is "called" is the caller's own function of that name. Everything else is refused.

The opcodes, with what they do, are those of Python's module pickletools.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from minunet.model_files.tensor_file import FileFormatError, short

SIZE_LIMIT = 2**22  # bytes of one pickle; a U-Net's state_dict takes some ten thousand
STEP_LIMIT = 2**18  # opcodes; each makes at most some hundred bytes
PROTOCOLS = range(2, 6)
LONGEST = 16  # bytes of a whole number


class Name(NamedTuple):
    """A name in a pickle, "module.name": no more than that."""

    text: str


class Read(NamedTuple):
    """What a pickle holds, and how many bytes it takes."""

    value: Any
    length: int


def unpickle(
    content: bytes, calls: Mapping[str, Callable[..., Any]], names: frozenset[str], persistent: Callable[[Any], Any]
) -> Read:
    """The value of the pickle that `content` begins with.

    calls: functions by the names that the pickle may call.  names: what else it may name, which gives a `Name`.
    persistent: from the id of an object that is stored elsewhere to that object.
    All of these raise FileFormatError for arguments that do not fit, and so does this for everything that is not a
    whole pickle of such values.
    """
    machine = _Machine(content[:SIZE_LIMIT], calls, names, persistent)
    try:
        return Read(machine.run(), machine.at)
    except (IndexError, struct.error):  # of an empty stack, or of missing bytes
        raise FileFormatError("found a pickle that is damaged or cut off") from None


class _Machine:
    def __init__(self, content: bytes, calls, names, persistent) -> None:
        self.content, self.at = content, 0
        self.calls, self.names, self.persistent = calls, names, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(STEP_LIMIT):
            opcode = self.content[self.at]
            self.at += 1
            if opcode == _STOP:
                return self.stack.pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise FileFormatError(f"found the pickle opcode {bytes([opcode])!r}, which no state_dict needs")
            step(self)
        raise FileFormatError(f"found a pickle of more than {STEP_LIMIT} steps, expected a state_dict")

    # -- the program's bytes

    def take(self, count: int) -> bytes:
        taken = self.content[self.at : self.at + count]
        if len(taken) != count:
            raise IndexError
        self.at += count
        return taken

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.take(form.size))[0]

    def line(self) -> str:
        end = self.content.find(b"\n", self.at)
        if end < 0:
            raise IndexError
        return _text(self.take(end + 1 - self.at)[:-1])

    # -- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise FileFormatError(f"found {short(self.stack[-1])} in a pickle where a {kind.__name__} belongs")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        if start > len(self.stack):
            raise IndexError
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    # -- opcodes that need more than a line

    def protocol(self) -> None:
        found = self.take(1)[0]
        if found not in PROTOCOLS:
            raise FileFormatError(f"found a pickle of protocol {found}, expected 2 to 5")

    def long(self) -> None:
        count = self.take(1)[0]
        if count > LONGEST:
            raise FileFormatError(f"found a number of {count} bytes in a pickle, expected at most {LONGEST}")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.calls and full not in self.names:
            raise FileFormatError(
                f"found {short(full)} in its pickle, expected a state_dict: texts, numbers and tensors. A whole model, "
                "or another object, cannot be read without executing what the file says. In PyTorch, save the weights "
                "alone: torch.save(model.state_dict(), path)"
            )
        self.push(Name(full))

    def stack_global(self) -> None:
        name, module = self.pop(str), self.pop(str)
        self.name(module, name)

    def reduce(self) -> None:
        arguments, name = self.pop(tuple), self.pop(Name)
        call = self.calls.get(name.text)
        if call is None:
            raise FileFormatError(f"found a call of {name.text} in a pickle")
        self.push(call(*arguments))

    def build(self) -> None:
        self.stack.pop()  # attributes of an OrderedDict, which nothing here needs
        self.push(self.pop(dict))

    def append(self, values: list[Any]) -> None:
        target = self.pop(list)
        target.extend(values)
        self.push(target)

    def set_items(self, items: list[Any]) -> None:
        target = self.pop(dict)
        if len(items) % 2:
            raise FileFormatError("found a key without a value in a pickle")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # others may cost more to hash than the stack is deep
                raise FileFormatError(f"found the key {short(key)} in a pickle, expected a text or a number")
            target[key] = value
        self.push(target)

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise IndexError
        self.push(self.memo[index])


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(f"found the text {short(content)} in a pickle, expected UTF-8") from None


_U1, _U2, _U4 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")
_STOP = ord(".")
_STEPS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _Machine.protocol,
    0x95: lambda m: m.take(8),  # FRAME: how long the next part is
    ord("("): lambda m: m.marks.append(len(m.stack)),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number(_U1)),
    ord("M"): lambda m: m.push(m.number(_U2)),
    ord("J"): lambda m: m.push(m.number(_I4)),
    ord("G"): lambda m: m.push(m.number(_F8)),
    0x8A: _Machine.long,
    ord("X"): lambda m: m.push(_text(m.take(m.number(_U4)))),
    0x8C: lambda m: m.push(_text(m.take(m.number(_U1)))),
    ord("U"): lambda m: m.push(_text(m.take(m.number(_U1)))),  # a text of Python 2
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.push(tuple(m.last(1))),
    0x86: lambda m: m.push(tuple(m.last(2))),
    0x87: lambda m: m.push(tuple(m.last(3))),
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.append(m.last(1)),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("}"): lambda m: m.push({}),
    ord("s"): lambda m: m.set_items(m.last(2)),
    ord("u"): lambda m: m.set_items(m.since_mark()),
    ord("q"): lambda m: m.put(m.number(_U1)),
    ord("r"): lambda m: m.put(m.number(_U4)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.number(_U1)),
    ord("j"): lambda m: m.get(m.number(_U4)),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: _Machine.stack_global,
    ord("R"): _Machine.reduce,
    ord("b"): _Machine.build,
    ord("Q"): lambda m: m.push(m.persistent(m.stack.pop())),
}
