"""The one module that opens HDF5 files that may be anything: by content, with bounds, and with one kind of error.

Links are hard links, data stand in the file itself, filters are deflate, shuffle and fletcher32, and what a dataset
declares must be in proportion to the file, before any memory is taken.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.lazy import np

if TYPE_CHECKING:
    import h5py
    import numpy

SIGNATURE = b"\x89HDF\r\n\x1a\n"
FILTERS = {1: "deflate", 2: "shuffle", 3: "fletcher32"}
MOST_DEPTH = 64
MOST_OBJECTS = 200_000
MOST_STRINGS = 1_000_000
FREE_BYTES = 256 * 2**20
"Declared data below this are never a bomb."
MOST_EXPANSION = 20
"How many times the file's size may be declared; weights compress far less."

BFLOAT16_BYTES = 2


@dataclass(frozen=True)
class Section:
    """A file that stands inside another one as it is, such as a member of a zip archive that was stored."""

    path: Path
    start: int
    size: int

    def head(self) -> bytes:
        """Its first bytes."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(min(512, self.size))


class _Inside(io.RawIOBase):
    """A section to read as if it were a file."""

    def __init__(self, section: Section):
        self.section, self.at = section, 0
        self.handle = os.open(section.path, os.O_RDONLY | os.O_CLOEXEC)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.at = offset + (0, self.at, self.section.size)[whence]
        return self.at

    def readinto(self, buffer: Any) -> int:
        room = memoryview(buffer)[: max(0, self.section.size - self.at)]
        got = os.preadv(self.handle, [room], self.section.start + self.at)
        self.at += got
        return got

    def close(self) -> None:
        if not self.closed:
            os.close(self.handle)
        super().close()


# What h5py raises on files that are not in order, by its own account and by byte mutation.
BROKEN = (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


@contextmanager
def opened(source: bytes | Path | Section) -> Iterator[h5py.File]:
    """An HDF5 file, looked through before it is handed out.

    Raises:
        FileError: it is no HDF5 file, is damaged, or holds what is not let in. Errors of h5py inside the block too.
    """
    name = called(source)
    size = check_kind(source, name)
    import h5py

    try:
        with ExitStack() as stack:
            if isinstance(source, Path):
                file = h5py.File(source, "r", locking=False)
            else:
                inside = io.BytesIO(source) if isinstance(source, bytes) else _Inside(source)
                file = h5py.File(stack.enter_context(inside), "r")
            stack.enter_context(file)
            _check_tree(file, size)
            yield file
    except BROKEN as error:
        hint = "copy or download it again; the file is damaged or was not written to its end"
        raise FileError(f"{name}: expected a whole HDF5 file, found: {first_line(error)}", hint=hint) from error


def called(source: bytes | Path | Section) -> str:
    """What errors call a source."""
    if isinstance(source, Section):
        return str(source.path)
    return "the file" if isinstance(source, bytes) else str(source)


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, without the memory addresses and commas of HDF5's own."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def check_kind(source: bytes | Path | Section, name: str) -> int:
    """The size of an HDF5 file, told by its content and never by its name.

    Raises:
        FileError: it is something else; the message says what.
    """
    head, size = _head(source, name)
    if head.startswith(SIGNATURE):
        return size
    found, hint = described(head)
    raise FileError(f"{name}: expected an HDF5 file, found {found}", hint=hint)


def _head(source: bytes | Path | Section, name: str) -> tuple[bytes, int]:
    if isinstance(source, bytes):
        return source[:512], len(source)
    if isinstance(source, Section):
        return source.head(), source.size
    try:
        with open(source, "rb") as file:
            return file.read(512), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise FileError(f"there is no file {name}") from None
    except OSError as error:
        raise FileError(f"{name} can't be read: {error.strerror}") from error


def described(head: bytes) -> tuple[str, str]:
    """(what a file with these first bytes is, what to do)."""
    if not head:
        return "an empty file", "copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer", "`git lfs pull` fetches the file that it stands for"
    if head.startswith(b"PK\x03\x04"):
        return "a zip archive (a .keras file is one)", "`trainer import FILE` makes a run of it"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle", "a pickle runs code when it is read, so it is refused; save the model as HDF5"
    if head.startswith((b"\x89HDF", b"\xef\xbf\xbdHDF")):
        return "an HDF5 file that was changed as if it were text", "copy or download it again, in binary mode"
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page", "download the file itself, not the page about it"
    return "something else", "give a model file that Keras or this program wrote"


def _check_tree(file: h5py.File, size: int) -> None:
    """Go through every object once; refuse what could point elsewhere, go round in circles or swell up."""
    import h5py

    seen: set[tuple[int, int]] = set()
    room = max(FREE_BYTES, MOST_EXPANSION * size)
    waiting: list[tuple[h5py.Group, int]] = [(file, 0)]
    count = 0
    while waiting:
        group, depth = waiting.pop()
        address = h5py.h5g.get_objinfo(group.id).objno
        if address in seen or depth > MOST_DEPTH:
            raise FileError(f"{group.name}: expected a tree of groups, found a loop or a group within itself")
        seen.add(address)
        for name in group:
            count += 1
            if count > MOST_OBJECTS:
                raise FileError(f"expected at most {MOST_OBJECTS} objects in the file, found more")
            link = group.get(name, getlink=True)
            if type(link) is not h5py.HardLink:
                raise FileError(f"{group.name}: {name} is a {type(link).__name__}, and only hard links are followed")
            child = group[name]
            if isinstance(child, h5py.Group):
                waiting.append((child, depth + 1))
            else:
                room -= _check_dataset(child)
                if room < 0:
                    raise FileError(f"{child.name}: the file declares far more data than it can hold")


def _check_dataset(dataset: Any) -> int:
    """The bytes that reading a dataset takes."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        raise FileError(f"{dataset.name}: expected a group or a dataset, found a {type(dataset).__name__}")
    made = dataset.id.get_create_plist()
    if made.get_layout() == h5py.h5d.VIRTUAL or made.get_external_count():
        raise FileError(f"{dataset.name}: its data stand in other files, which are never opened")
    filters = {made.get_filter(i)[0] for i in range(made.get_nfilters())}
    if not filters <= set(FILTERS):
        raise FileError(f"{dataset.name}: expected only the filters {', '.join(FILTERS.values())}, found {filters}")
    kind = dataset.id.get_type()
    plain = (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.ENUM, h5py.h5t.STRING)
    half = kind.get_class() == h5py.h5t.OPAQUE and kind.get_size() == BFLOAT16_BYTES
    if (kind.get_class() not in plain and not half) or (kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()):
        raise FileError(f"{dataset.name}: expected numbers, found data of another type")
    if dataset.shape is None:
        raise FileError(f"{dataset.name}: expected an array, found a dataset without a shape")
    # A chunk is read whole, however little of the array stands in it.
    declared = max(math.prod(dataset.shape), math.prod(dataset.chunks or (0,))) * dataset.dtype.itemsize
    if declared and not filters and not dataset.chunks and declared > (stored := dataset.id.get_storage_size()):
        raise FileError(f"{dataset.name}: declares {declared} bytes and holds {stored}")
    return declared


def array(group: h5py.Group, path: str) -> numpy.ndarray:
    """The values of a dataset; bfloat16, which Keras writes as two bytes of no type, as float32."""
    import h5py

    found = group[path]
    if not isinstance(found, h5py.Dataset):
        raise FileError(f"{found.name}: expected an array, found a group")
    values = np.asarray(found[()])
    if values.dtype.kind == "V" and values.dtype.itemsize == BFLOAT16_BYTES:
        # The upper half of a float32.
        return (values.view("<u2").astype("uint32") << 16).view("float32")
    return values


def text(thing: h5py.Group, name: str) -> str | None:
    """A text attribute, None when there is none."""
    if name not in thing.attrs:
        return None
    _check_attribute(thing, name, 1)
    value = thing.attrs[name]
    value = value.decode() if isinstance(value, bytes) else value
    if not isinstance(value, str):
        raise FileError(f"{thing.name}: expected the attribute {name} to be text, found {type(value).__name__}")
    return value


def texts(thing: h5py.Group, name: str) -> list[str]:
    """A list of names in an attribute, or in `name0`, `name1`, … where it was too long for one."""
    if name in thing.attrs:
        return _texts(thing, name)
    found: list[str] = []
    number = 0
    while f"{name}{number}" in thing.attrs:
        found += _texts(thing, f"{name}{number}")
        number += 1
    if not number:
        raise FileError(f"{thing.name}: expected the attribute {name}, found none")
    return found


def _texts(thing: h5py.Group, name: str) -> list[str]:
    _check_attribute(thing, name, MOST_STRINGS)
    values = thing.attrs[name]
    names = [v.decode() if isinstance(v, bytes) else v for v in np.ravel(np.asarray(values)).tolist()]
    if not all(isinstance(v, str) for v in names):
        raise FileError(f"{thing.name}: expected the attribute {name} to be a list of names")
    return names


def _check_attribute(thing: h5py.Group, name: str, most: int) -> None:
    import h5py

    found = thing.attrs.get_id(name)
    count = math.prod(found.shape)
    if count > most or (count and found.get_type().get_class() != h5py.h5t.STRING):
        raise FileError(f"{thing.name}: expected the attribute {name} to be text")


def read_json(words: str | bytes, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileError: the text is something else.
    """
    try:
        value = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{what}: expected JSON, found {first_line(error)}") from None
    if not isinstance(value, dict):
        raise FileError(f"{what}: expected a JSON object, found {type(value).__name__}")
    return value


def read_through(file: h5py.File, slab: int = 32 * 2**20) -> None:
    """Read every attribute and every value once, a slab at a time, to find damage."""
    import h5py

    def visit(_: str, thing: Any) -> None:
        for name in thing.attrs:
            found = thing.attrs.get_id(name)
            if math.prod(found.shape) and found.get_storage_size() <= slab:
                thing.attrs[name]
        if isinstance(thing, h5py.Dataset) and thing.size:
            if not thing.shape:
                thing[()]
                return
            rows = max(1, slab // max(1, thing.nbytes // thing.shape[0]))
            for start in range(0, thing.shape[0], rows):
                thing[start : start + rows]

    visit("", file)
    file.visititems(visit)
