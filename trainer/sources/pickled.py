"""The one place with an unpickler: object arrays of lists of integers in the published imdb and reuters files.

The unpickler knows three names of numpy, and gives inert stand-ins for them: numpy's own code never sees the bytes.
Everything else in such a file is lists and numbers, which are opcodes; any other name is refused. The opcodes are gone
through first: those that make dicts, sets and objects are not let in, so that nothing the file builds is ever hashed
(a tuple of tuples of a few hundred bytes can take 2^100 steps to hash). On the way rows of numbers become numbers, one
row at a time, since lists of all of them would take ten times the memory of the array that they become.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import pickle
import re
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainer.errors import FileError
from trainer.lazy import np
from trainer.sources.columns import Ragged

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
PER_BYTE = 64
"Memory that a byte of a pickle may come to: two bytes can be an integer of 28 bytes and its place in a list."
SPARE_BYTES = 256 << 20
_NUMBER = rb"(?:K.|M..|J....)"
_KEPT = rb"(?:q.|r...\x00|\x94)"
"An entry of the memo, among its first 2^24."
_FRAMES = rb"(?:\x95.{8})*+"
"How many bytes follow in one piece, which nothing depends on; may stand between any two opcodes."


def _rows_with(between: bytes) -> re.Pattern[bytes]:
    """A list of whole numbers to which nothing is added later: how it is kept, and its numbers."""
    numbers = rb"(?:" + _NUMBER + between + rb")"
    parts = (rb"\]", rb"(" + _KEPT + rb"?+)", rb"((?:\(", numbers + rb"*+e", rb")*+(?:" + numbers + rb"a", rb")?+)")
    return re.compile(between.join(parts) + rb"(?=[])aehjltb])", re.DOTALL)


_ROW, _FRAMED_ROW = _rows_with(b""), _rows_with(_FRAMES)
_UNFRAMED = re.compile(rb"(" + _NUMBER + rb"|[(ea])|\x95.{8}", re.DOTALL)
_RUN = re.compile(rb"(?:M..|[Kh\x80].|[()laetRbN\x85-\x89\x93]|J....|j...\x00|" + _KEPT + rb")++", re.DOTALL)
"Opcodes of fixed length: whole numbers, tuples, a call, a state, entries of the memo; and lists that are no row."
_LENGTHS = {**dict.fromkeys(b"\x8aUC\x8c", 1), **dict.fromkeys(b"TBX", 4)}
"Bytes of the length that follows the opcode of a long number, a text or bytes."
_LINES = re.compile(rb"c[^\n]*+\n[^\n]*+\n")
"A name."
_FRAME = 9
"Bytes of a frame's beginning."


class _Array:
    """Stands in for an array: keeps the list that it is given."""

    def __init__(self, *told: Any):
        self.rows: Any = None

    def __setstate__(self, state: Any) -> None:
        _version, _shape, kind, _fortran, rows = state
        if not isinstance(kind, _Type) or kind.told[:1] not in (("O",), ("O8",)) or type(rows) is not list:
            raise pickle.UnpicklingError("an array of something else than lists")
        self.rows = rows


class _Type:
    """Stands in for a dtype: keeps its name."""

    def __init__(self, *told: Any):
        self.told = told

    def __setstate__(self, state: Any) -> None:
        """Byte order and flags, which mean nothing for objects."""


class _Row:
    """Stands in for a list of numbers: keeps which one."""

    __slots__ = ("number",)

    def __init__(self, number: int):
        self.number = number


class _Closed(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        # Asked for by an opcode that no file may have: only `_Parts` writes it.
        return _Row(pid)

    def find_class(self, module: str, name: str) -> Any:
        # Classes, and both have __setstate__: a pickle can't change them, as it could a function.
        if (module in _ARRAY_MODULES and name == "_reconstruct") or (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Type
        raise pickle.UnpicklingError(f"{module}.{name} is not an array, a list or a number")


@contextlib.contextmanager
def _bounded(more: int) -> Iterator[None]:
    """Let this process grow by `more` bytes at most: an unpickler that is told of entry 2^32 would make room for it."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [pages * mmap.PAGESIZE + more, *(b for b in (soft, hard) if b != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Parts:
    """A pickle in two parts: rows of numbers, and all else, where the rows have numbers of their own.

    Raises:
        pickle.UnpicklingError: an opcode is not for lists and numbers, or the end is missing.
    """

    def __init__(self, data: bytes | memoryview):
        self.numbers, self.ends, self.rest = array("i"), array("q", [0]), bytearray()
        self.opened, at, code = False, 0, None
        while code != pickle.STOP[0]:
            if at >= len(data):
                raise pickle.UnpicklingError("the end is missing")
            code = data[at]
            # The first list is the one of all rows.
            at = (self.opened and self._row(data, at)) or self._other(data, at, code)

    def _row(self, data: bytes | memoryview, at: int) -> int:
        """Where the row that stands here ends; 0 where there is none."""
        found, framed = _ROW.match(data, at), False
        if found is None:
            found, framed = _FRAMED_ROW.match(data, at), True
        if found is None:
            return 0
        numbers = _UNFRAMED.sub(rb"\1", found[2]) if framed else found[2]
        self.rest += b"J" + struct.pack("<i", len(self.ends) - 1) + b"Q" + found[1]
        self.add(pickle.loads(b"]" + numbers + b"."))
        return found.end()

    def _other(self, data: bytes | memoryview, at: int, code: int) -> int:
        """Where the opcodes that stand here end."""
        if code == pickle.FRAME[0]:
            return at + _FRAME
        if run := _RUN.match(data, at):
            end = run.end()
        elif code in b"].":
            self.opened, end = True, at + 1
        elif code == pickle.GLOBAL[0]:
            # A missing line end is found as the missing end of all.
            found = _LINES.match(data, at)
            end = found.end() if found else len(data)
        elif code in _LENGTHS:
            start = at + 1 + _LENGTHS[code]
            end = start + int.from_bytes(data[at + 1 : start], "little")
        else:
            raise pickle.UnpicklingError(f"the opcode {bytes((code,))!r}, which lists of integers have no use for")
        self.rest += data[at:end]
        return end

    def add(self, row: list[int]) -> int:
        """Which row it is, from now on."""
        try:
            self.numbers.fromlist(row)
        except OverflowError:
            try:
                self.numbers = array("q", [*self.numbers, *row])
            except OverflowError:
                raise pickle.UnpicklingError("a number of more than 64 bits") from None
        self.ends.append(len(self.numbers))
        return len(self.ends) - 2

    def rows(self, made: Any, count: int) -> Ragged:
        """The rows of an array as it was unpickled."""
        rows = made.rows if isinstance(made, _Array) else None
        if rows is None or len(rows) != count or not all(type(row) in (_Row, list) for row in rows):
            raise pickle.UnpicklingError(f"not {count} lists")
        order = [row.number if isinstance(row, _Row) else self.add(row) for row in rows]
        found = Ragged(np.asarray(self.numbers), np.asarray(self.ends))
        return found if order == list(range(len(found))) else found.take(np.asarray(order, "int64"))


def object_rows(data: bytes | memoryview, shape: tuple[int, ...], name: str) -> Ragged:
    """The rows of a one-dimensional object array of lists of integers, from a pickle.

    Raises:
        FileError: anything else is in it, or it is damaged.
    """
    if len(shape) != 1:
        raise FileError(f"{name}: expected rows of lists, found an object array of shape {shape}")
    try:
        with _bounded(SPARE_BYTES + PER_BYTE * len(data)):
            parts = _Parts(data)
            return parts.rows(_Closed(io.BytesIO(parts.rest)).load(), shape[0])
    except Exception as error:  # a damaged pickle can raise anything; nothing of it is run
        said = str(error)[:200] or type(error).__name__
        raise FileError(f"{name}: expected lists of integers: {said}") from None
