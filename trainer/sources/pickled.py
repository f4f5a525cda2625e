"""The one place that meets a pickle: object arrays of lists of numbers in the published imdb and reuters files.

Its unpickler knows numpy's array and dtype, and lists and numbers, which are opcodes; any other name is refused.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

from trainer.errors import FileError
from trainer.lazy import np

_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Closed(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name == "_reconstruct":
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not an array, a list or a number")


def _reconstruct(kind: Any, shape: Any, code: Any) -> Any:
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("not an array that numpy wrote")
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def object_rows(stream: IO[bytes], shape: tuple[int, ...], name: str) -> list[Any]:
    """The rows of a one-dimensional object array of lists.

    Raises:
        FileError: anything else is in it, or it is damaged.
    """
    if len(shape) != 1:
        raise FileError(f"{name}: expected rows of lists, found an object array of shape {shape}")
    try:
        rows = _Closed(stream).load()
        made = rows.tolist()
    except Exception as error:  # a damaged pickle can raise anything; nothing of it is run
        raise FileError(f"{name}: expected lists of numbers: {error}") from None
    if len(made) != shape[0] or not all(isinstance(r, list) for r in made):
        raise FileError(f"{name}: expected {shape[0]} lists of numbers")
    return made
