"""HDF5 files as bytes, from a listing of what they hold.

HDF5 takes milliseconds to lay out a small file, and a run writes the same one over and over with other numbers in it.
So a file is laid out with zeros, which is kept for small ones, and the numbers are then put where they belong.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainer.cache import Kept, key_of

if TYPE_CHECKING:
    import h5py

HEADER_LIMIT = 64_512
"Bytes that an attribute may take; longer lists of names are cut into numbered ones."
SMALL = 4 << 20
"Bytes of numbers up to which a layout is kept."
TINY = 1 << 20
"Bytes of a layout up to which it is kept for later processes."
LAYOUTS = Kept("layouts", ".layout", 100)


class _Group(NamedTuple):
    place: str


class _Words(NamedTuple):
    """An attribute: text of any length, bytes, or a list of names."""

    place: str
    name: str
    value: str | bytes | tuple[bytes, ...]


class _Mark(NamedTuple):
    """An attribute of so many bytes that change from file to file."""

    place: str
    name: str
    size: int


class _Array(NamedTuple):
    place: str
    dtype: str
    shape: tuple[int, ...]


_Entry = _Group | _Words | _Mark | _Array


class Listing:
    """What an HDF5 file is to hold, in the order in which it is made; equal listings give equal bytes."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._values: list[Any] = []
        "What goes to the marks and arrays, in their order."

    def group(self, place: str) -> None:
        """A group."""
        self._entries.append(_Group(place))

    def words(self, place: str, name: str, value: str | bytes) -> None:
        """An attribute that stays the same from file to file."""
        self._entries.append(_Words(place, name, value))

    def mark(self, place: str, name: str, value: bytes) -> None:
        """An attribute of one length whose value changes from file to file."""
        self._entries.append(_Mark(place, name, len(value)))
        self._values.append(value)

    def names(self, place: str, name: str, values: Sequence[str]) -> None:
        """A list of names as an attribute, cut up where that is too long."""
        self._entries += [_Words(place, key, part) for key, part in cut(name, values).items()]

    def array(self, place: str, values: np.ndarray) -> None:
        """A dataset."""
        self._entries.append(_Array(place, values.dtype.str, values.shape))
        self._values.append(values)

    def image(self) -> bytes:
        """The file."""
        entries = tuple(self._entries)
        small = sum(np.asarray(value).nbytes for value in self._values) <= SMALL
        file, places = _kept_layout(entries) if small else _layout(entries)
        file = io.BytesIO(file) if isinstance(file, bytes) else file
        with file.getbuffer() as room:
            for value, place in zip(self._values, places, strict=True):
                given = value if isinstance(value, bytes) else _raw(value)
                room[place : place + len(given)] = given
        return file.getvalue()


def _raw(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def cut(name: str, values: Sequence[str]) -> dict[str, tuple[bytes, ...]]:
    """A list of names, or `name0`, `name1`, … when one object header can't hold it."""
    encoded = [v.encode() for v in values]
    longest = max(map(len, encoded), default=0)
    if len(encoded) * longest <= HEADER_LIMIT:
        return {name: tuple(encoded)}
    count = math.ceil(len(encoded) * longest / HEADER_LIMIT)
    while -(-len(encoded) // count) * longest > HEADER_LIMIT:
        count += 1
    return {f"{name}{i}": tuple(part.tolist()) for i, part in enumerate(np.array_split(np.asarray(encoded), count))}


def _layout(entries: Sequence[_Entry]) -> tuple[io.BytesIO, list[int]]:
    """A file with zeros for numbers, and where the value of each mark and array begins."""
    import h5py

    image = io.BytesIO()
    found: dict[_Entry, int] = {}
    with h5py.File(image, "w") as file:
        for entry in entries:
            if isinstance(entry, _Group):
                file.create_group(entry.place)
            elif isinstance(entry, _Array):
                made = file.create_dataset(entry.place, data=np.zeros(entry.shape, entry.dtype))
                found[entry] = made.id.get_offset() or 0
            else:
                _write_words(file, entry)
    found |= {entry: image.getvalue().index(_stand_in(entry)) for entry in entries if isinstance(entry, _Mark)}
    return image, [found[entry] for entry in entries if entry in found]


def _write_words(file: h5py.File, entry: _Words | _Mark) -> None:
    place = file[entry.place or "/"]
    if isinstance(entry, _Mark):
        place.attrs[entry.name] = np.bytes_(_stand_in(entry))
    else:
        place.attrs[entry.name] = list(entry.value) if isinstance(entry.value, tuple) else entry.value


def _stand_in(mark: _Mark) -> bytes:
    """Bytes that stand nowhere else in a layout."""
    digest = hashlib.sha256(f"{mark.place}@{mark.name}".encode()).hexdigest().encode()
    return (digest * (1 + mark.size // len(digest)))[: mark.size]


@functools.lru_cache(2)
def _kept_layout(entries: tuple[_Entry, ...]) -> tuple[bytes, list[int]]:
    """A layout of this process or of an earlier one: loading HDF5 takes as long as the epochs of a small model."""
    key = key_of(Path(__file__).read_bytes(), version("h5py"), repr(entries))
    known = LAYOUTS.find(key)
    if known is not None:
        places, _, file = known.partition(b"\n")
        return file, json.loads(places)
    laid, found = _layout(entries)
    file = laid.getvalue()
    if len(file) <= TINY:
        LAYOUTS.keep(key, json.dumps(found).encode() + b"\n" + file)
    return file, found
