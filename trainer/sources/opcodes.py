"""Pickles read as data: the opcodes of the published CIFAR files on a stack of our own, with no unpickler.

They hold dicts, lists, texts, whole numbers and arrays of bytes. A name in such a file is compared and never looked up;
steps and bytes are counted, and only texts are keys, so that nothing in it takes long or much memory.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from trainer.errors import FileError

MOST_STEPS = 1_000_000
"Opcodes above this number are damage; the largest of the published files has about 200,000."
_RECONSTRUCT = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_NAMES = (*_RECONSTRUCT, "numpy ndarray", "numpy dtype")


class _Odd(Exception):
    """What none of the published files has."""


@dataclass
class ByteArray:
    """An array of unsigned bytes as it was pickled."""

    shape: tuple[int, ...] = ()
    order: Literal["C", "F"] = "C"
    data: bytes | None = None


@dataclass(frozen=True)
class _Name:
    text: str


@dataclass(frozen=True)
class _Type:
    name: Any


class _Machine:
    """The stack and the memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        "What lies under each open mark."
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def text(self, value: str | bytes) -> None:
        self.stack.append(value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass"))

    def name(self, text: str) -> None:
        if text not in _NAMES:
            raise _Odd(f"{text.replace(' ', '.', 1)} is not an array, a list, a text or a number")
        self.stack.append(_Name(text))

    def stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module.decode()} {name.decode()}")

    def put(self, at: int | None) -> None:
        self.memo[len(self.memo) if at is None else at] = self.stack[-1]

    def whole_tuple(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def tuple_of(self, length: int) -> None:
        if len(self.stack) < length:
            raise _Odd("a tuple of more than there is")
        made = tuple(self.stack[-length:])
        self.stack[-length:] = [made]

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Odd("entries for what is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        keys = items[::2]
        if type(self.stack[-1]) is not dict or len(items) % 2 or not all(type(k) is bytes for k in keys):
            raise _Odd("a dict whose keys are no texts")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def call(self, _: Any) -> None:
        """An array or a dtype before its state."""
        told, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or type(told) is not tuple or called.text == "numpy ndarray":
            raise _Odd("a call of something else than an array")
        self.stack.append(ByteArray() if called.text in _RECONSTRUCT else _Type(told[0]))

    def set_state(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            return  # byte order and flags, which mean nothing for bytes
        if not isinstance(target, ByteArray):
            raise _Odd("a state for what is no array")
        _version, shape, kind, fortran, data = state
        if not isinstance(kind, _Type) or kind.name not in (b"u1", b"|u1") or type(data) is not bytes:
            raise _Odd("an array of something else than bytes")
        if type(shape) is not tuple or not all(type(n) is int for n in shape):
            raise _Odd("an array without a shape")
        target.shape, target.order, target.data = shape, "F" if fortran else "C", data


_Step = Callable[[_Machine, Any], None]


def _pushed(value: Any) -> _Step:
    return lambda m, _: m.stack.append(value)


_TEXTS: dict[str, _Step] = {
    # Python 2's texts are bytes, which pickletools shows as the characters of the same numbers.
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), lambda m, v: m.text(v.encode("latin-1"))),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINUNICODE", "SHORT_BINUNICODE"), _Machine.text),
}
_STEPS: dict[str, _Step] = {
    **_TEXTS,
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda m, _: None),
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), lambda m, v: m.stack.append(v)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, at: m.stack.append(m.memo[at])),
    "NONE": _pushed(None),
    "NEWTRUE": _pushed(True),
    "NEWFALSE": _pushed(False),
    "EMPTY_TUPLE": _pushed(()),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.whole_tuple,
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "APPEND": lambda m, _: m.extend([m.stack.pop()]),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda m, _: m.update(m.since_mark()),
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
}
_DAMAGE = (_Odd, ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError)


def read_values(data: bytes, name: str) -> dict[bytes, Any]:
    """The dict of a pickle: bytes for texts, ints, lists, dicts, tuples and `ByteArray`.

    Raises:
        FileError: anything else is in it, or it is damaged.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            # Odd escapes in the texts of the oldest protocol.
            warnings.simplefilter("ignore")
            for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                if count == MOST_STEPS:
                    raise _Odd(f"more than {MOST_STEPS:,} steps")
                if opcode.name not in _STEPS:
                    raise _Odd(f"the opcode {opcode.name}")
                _STEPS[opcode.name](machine, argument)
        made = machine.stack.pop()
        if type(made) is not dict or machine.stack or machine.below:
            raise _Odd("not one dict")
    except _DAMAGE as error:
        said = str(error)[:200] or type(error).__name__
        raise FileError(f"{name}: expected a pickled dict of pictures or names: {said}") from None
    return made
