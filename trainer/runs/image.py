"""HDF5 files as bytes, from a listing of what they hold.

HDF5 takes milliseconds to lay out a small file, and a run writes the same one over and over with other numbers in it.
So a file is laid out without its numbers, which is kept, and the numbers are then put where they belong. A file of
large arrays is never whole in memory: it comes in pieces, from the arrays as they are.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
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
"Bytes up to which a file is put together as one piece."
TINY = 1 << 20
"Bytes of a layout, without what it leaves free, up to which it is kept for later processes."
LAYOUTS = Kept("layouts", ".layout", 100)
SLAB = 1 << 20
"Bytes of a piece of an array; smaller arrays are one."
PAGE = 4096


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

    def image(self) -> Image:
        """The file, which holds the arrays that were listed as they are when it is read."""
        entries = tuple(self._entries)
        layout, places = _kept_layout(entries)
        return Image(layout, list(zip(places, self._values, strict=True)))


class Image:
    """The bytes of a file in pieces, in order; as many times as they are asked for."""

    def __init__(self, layout: bytes | Sparse, values: Sequence[tuple[int, bytes | np.ndarray]]):
        self._layout = layout
        self._values = sorted(((place, v) for place, v in values if np.asarray(v).nbytes), key=lambda found: found[0])

    def __len__(self) -> int:
        return len(self._layout)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter((b"".join(self._pieces()),)) if len(self) <= SMALL else self._pieces()

    def _pieces(self) -> Iterator[bytes | memoryview]:
        at = 0
        for place, value in self._values:
            yield self._layout[at:place]
            at = place
            for piece in slabs(value):
                yield piece
                at += len(piece)
        yield self._layout[at : len(self)]

    def __bytes__(self) -> bytes:
        return b"".join(self)


def slabs(values: bytes | np.ndarray) -> Iterator[bytes | memoryview]:
    """The bytes of an array in its order, no more than a slab of them, or a row, copied at a time."""
    if isinstance(values, bytes) or not values.ndim:
        yield values if isinstance(values, bytes) else values.tobytes()
        return
    if values.flags.c_contiguous:
        held = values.reshape(-1).view(np.uint8).data
        yield from (held[start : start + SLAB] for start in range(0, len(held), SLAB))
        return
    rows = max(1, SLAB * len(values) // max(1, values.nbytes))
    for start in range(0, len(values), rows):
        yield np.ascontiguousarray(values[start : start + rows]).reshape(-1).view(np.uint8).data


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


class Sparse(io.RawIOBase):
    """A file in memory of which only the pages exist that were written to; elsewhere are zeros."""

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        self._size = self._at = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def __len__(self) -> int:
        return self._size

    def packed(self) -> bytes:
        """What `unpack` makes it of."""
        return json.dumps([self._size, list(self._pages)]).encode() + b"\n" + b"".join(self._pages.values())

    @classmethod
    def unpack(cls, data: bytes) -> Sparse:
        """The file that was `packed`."""
        head, _, pages = data.partition(b"\n")
        made = cls()
        made._size, numbers = json.loads(head)
        made._pages = {n: bytearray(pages[i * PAGE : (i + 1) * PAGE]) for i, n in enumerate(numbers)}
        return made

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        pieces = []
        while start < stop:
            number, inside = divmod(start, PAGE)
            count = min(PAGE - inside, stop - start)
            page = self._pages.get(number)
            pieces.append(bytes(count) if page is None else bytes(page[inside : inside + count]))
            start += count
        return b"".join(pieces)

    def index(self, what: bytes) -> int:
        """Where these bytes, which were written, begin."""
        for number in sorted(self._pages):
            found = self[number * PAGE : (number + 1) * PAGE + len(what) - 1].find(what)
            if found >= 0:
                return number * PAGE + found
        raise ValueError("not there")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        if size < self._size:
            raise OSError("a layout grows")
        self._size = size
        return size

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer).cast("B")
        found = self[self._at : self._at + len(room)]
        room[: len(found)] = found
        self._at += len(found)
        return len(found)

    def write(self, data: Any) -> int:
        given = memoryview(data).cast("B")
        done = 0
        while done < len(given):
            number, inside = divmod(self._at + done, PAGE)
            piece = given[done : done + PAGE - inside]
            self._pages.setdefault(number, bytearray(PAGE))[inside : inside + len(piece)] = piece
            done += len(piece)
        self._at += done
        self._size = max(self._size, self._at)
        return done


def _layout(entries: Sequence[_Entry]) -> tuple[Sparse, list[int]]:
    """A file with zeros for numbers, and where the value of each mark and array begins."""
    import h5py

    image = Sparse()
    found: dict[_Entry, int] = {}
    with h5py.File(image, "w") as file:
        for entry in entries:
            if isinstance(entry, _Group):
                file.create_group(entry.place)
            elif isinstance(entry, _Array):
                made = file.create_dataset(entry.place, entry.shape, entry.dtype)
                if made.size:
                    # With one number HDF5 makes room for all of them.
                    made[(0,) * len(entry.shape)] = 0
                found[entry] = made.id.get_offset() or 0
            else:
                _write_words(file, entry)
    found |= {entry: image.index(_stand_in(entry)) for entry in entries if isinstance(entry, _Mark)}
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
def _kept_layout(entries: tuple[_Entry, ...]) -> tuple[bytes | Sparse, list[int]]:
    """A layout of this process or of an earlier one: loading HDF5 takes as long as the epochs of a small model."""
    key = key_of(Path(__file__).read_bytes(), version("h5py"), repr(entries))
    known = LAYOUTS.find(key)
    if known is not None:
        found, _, packed = known.partition(b"\n")
        laid, places = Sparse.unpack(packed), json.loads(found)
    else:
        laid, places = _layout(entries)
        packed = laid.packed()
        if len(packed) <= TINY:
            LAYOUTS.keep(key, json.dumps(places).encode() + b"\n" + packed)
    return laid[:] if len(laid) <= SMALL else laid, places
