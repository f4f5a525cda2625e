"""The one place with an unpickler: object arrays of lists of integers in the published imdb and reuters files.

The unpickler knows three names of numpy, and gives inert stand-ins for them: numpy's own code never sees the bytes.
Everything else in such a file is lists and numbers, which are opcodes; any other name is refused. The opcodes are gone
through first: those that make dicts, sets and objects are not let in, so that nothing the file builds is ever hashed
(a tuple of tuples of a few hundred bytes can take 2^100 steps to hash).
"""

from __future__ import annotations

import contextlib
import io
import mmap
import pickle
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainer.errors import FileError
from trainer.lazy import np
from trainer.sources.columns import Ragged

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
PER_BYTE = 64
"Memory that a byte of a pickle may come to: two bytes can be an integer of 28 bytes and its place in a list."
SPARE_BYTES = 256 << 20
_RUN = re.compile(
    rb"(?:M..|[Kqh\x80].|[()\]laetRbN\x85-\x89\x93\x94]|J....|[rj]...\x00|\x95.{8})*+",
    re.DOTALL,
)
"Opcodes of fixed length: whole numbers, lists, tuples, a call, a state, a frame, the first 2^24 entries of the memo."
_LENGTHS = {**dict.fromkeys(b"\x8aUC\x8c", 1), **dict.fromkeys(b"TBX", 4)}
"Bytes of the length that follows the opcode of a long number, a text or bytes."


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


class _Closed(pickle.Unpickler):
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


def _check_opcodes(data: bytes) -> None:
    """Go through the opcodes without doing what they say.

    Raises:
        pickle.UnpicklingError: one is not for lists and numbers, or the end is missing.
    """
    at = 0
    while (at := _end_of_run(data, at)) < len(data):
        code = data[at]
        if code == pickle.STOP[0]:
            return
        if code == pickle.GLOBAL[0]:
            # Two lines; a missing line end is found as the missing end of all.
            at = data.find(b"\n", data.find(b"\n", at) + 1 or len(data)) + 1 or len(data)
        elif code in _LENGTHS:
            start = at + 1 + _LENGTHS[code]
            at = start + int.from_bytes(data[at + 1 : start], "little")
        else:
            raise pickle.UnpicklingError(f"the opcode {data[at : at + 1]!r}, which lists of integers have no use for")
    raise pickle.UnpicklingError("the end is missing")


def _end_of_run(data: bytes, start: int) -> int:
    run = _RUN.match(data, start)
    return run.end() if run else start


def _end_to_end(rows: list[list[int]]) -> array[int]:
    """All numbers of the rows, each of 32 bits if that does."""
    for kind in "iq":
        made = array(kind)
        try:
            for row in rows:
                made.fromlist(row)
        except OverflowError:
            continue
        return made
    raise pickle.UnpicklingError("a number of more than 64 bits")


def object_rows(stream: IO[bytes], length: int, shape: tuple[int, ...], name: str) -> Ragged:
    """The rows of a one-dimensional object array of lists of integers, from a pickle of `length` bytes.

    Raises:
        FileError: anything else is in it, or it is damaged.
    """
    if len(shape) != 1:
        raise FileError(f"{name}: expected rows of lists, found an object array of shape {shape}")
    try:
        data = stream.read(length)
        _check_opcodes(data)
        with _bounded(SPARE_BYTES + PER_BYTE * length):
            made = _Closed(io.BytesIO(data)).load()
            rows = made.rows if isinstance(made, _Array) else None
            if rows is None or len(rows) != shape[0] or not all(type(row) is list for row in rows):
                raise pickle.UnpicklingError(f"not {shape[0]} lists")
            offsets = np.zeros(len(rows) + 1, "int64")
            np.cumsum([len(row) for row in rows], out=offsets[1:])
            return Ragged(np.asarray(_end_to_end(rows)), offsets)
    except Exception as error:  # a damaged pickle can raise anything; nothing of it is run
        said = str(error)[:200] or type(error).__name__
        raise FileError(f"{name}: expected lists of integers: {said}") from None
