"""The one place with an unpickler: object arrays of lists of integers in the published imdb and reuters files.

The unpickler knows three names of numpy, and gives inert stand-ins for them: numpy's own code never sees the bytes.
Everything else in such a file is lists and numbers, which are opcodes; any other name is refused.
"""

from __future__ import annotations

import contextlib
import mmap
import pickle
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainer.errors import FileError

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
PER_BYTE = 64
"Memory that a byte of a pickle may come to: two bytes can be an integer of 28 bytes and its place in a list."
SPARE_BYTES = 256 << 20


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


def object_rows(stream: IO[bytes], length: int, shape: tuple[int, ...], name: str) -> list[array[int]]:
    """The rows of a one-dimensional object array of lists of integers, from a pickle of `length` bytes.

    Raises:
        FileError: anything else is in it, or it is damaged.
    """
    if len(shape) != 1:
        raise FileError(f"{name}: expected rows of lists, found an object array of shape {shape}")
    try:
        with _bounded(SPARE_BYTES + PER_BYTE * length):
            made = _Closed(stream).load()
            rows = made.rows if isinstance(made, _Array) else None
            if rows is None or len(rows) != shape[0] or not all(type(row) is list for row in rows):
                raise pickle.UnpicklingError(f"not {shape[0]} lists")
            return [array("q", row) for row in rows]
    except Exception as error:  # a damaged pickle can raise anything; nothing of it is run
        said = str(error)[:200] or type(error).__name__
        raise FileError(f"{name}: expected lists of integers: {said}") from None
