"""CIFAR-10 and CIFAR-100: small colour pictures, in pickles inside a .tar.gz file."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from trainer.errors import FileError
from trainer.lazy import np
from trainer.sources.base import Places, Source, is_file
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.downloading import Published, digest
from trainer.sources.finding import find, roots
from trainer.sources.opcodes import ByteArray, read_values

if TYPE_CHECKING:
    import numpy

TORONTO = "https://www.cs.toronto.edu/~kriz/"
MOST_BYTES = 256 << 20
"Unpacked, the published sets have 186 million bytes."
MOST_MEMBERS = 1000
SIDE = 32


@dataclass(frozen=True)
class Found:
    """Where a set is: a folder of its files, or the archive of that folder."""

    path: Path
    archive: bool


class CifarSet(Source, abstract=True):
    """32 x 32 colour pictures as bytes, 50,000 + 10,000."""

    published: ClassVar[Published]
    folder: ClassVar[str]
    "Folder of the files in the archive."
    unpacked: ClassVar[str]
    "Folder below Keras's cache into which the archive is unpacked."
    train: ClassVar[tuple[str, ...]]
    test: ClassVar[str]
    meta: ClassVar[str]
    "File with the names of the classes."

    def label_key(self) -> bytes:
        """Name of the labels in the files."""
        raise NotImplementedError

    def count(self) -> int:
        """Number of classes."""
        raise NotImplementedError

    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, as far as they are known without the files."""
        return None

    def fields(self) -> dict[str, Field]:
        return self._fields(self.classes())

    def _fields(self, classes: tuple[str, ...] | None) -> dict[str, Field]:
        return {"image": Field((SIDE, SIDE, 3), "uint8"), "label": Field((), "int64", classes)}

    def open(self, places: Places) -> Table:
        found = self.found(places)
        read, digests = {}, {}
        for name, where, data in self.files(found):
            read[name] = read_values(data, where)
            if name != self.meta:
                check(read[name], self.label_key(), self.count(), where)
            if not found.archive:
                digests[name] = digest(found.path / name)
        absent = [name for name in (*self.train, self.test) if name not in read]
        if absent:
            raise FileError(f"{found.path}: expected the file {self.folder}/{absent[0]} in it, found none")
        classes = self.classes() or self.names(read.get(self.meta, {}))
        train, test = (self.rows([read[name] for name in names]) for names in (self.train, (self.test,)))
        digests = digests or {found.path.name: digest(found.path)}
        return Table(train, test, self._fields(classes), digests)

    def found(self, places: Places) -> Found:
        """The set in the first place that has it, or downloaded.

        Raises:
            FileError: it is nowhere, and can't be downloaded.
        """
        name = self.published.url.rpartition("/")[2]
        for root in roots(places):
            for folder in (root / self.folder, root / self.unpacked / self.folder):
                if all(is_file(folder / file) for file in (*self.train, self.test)):
                    return Found(folder, archive=False)
            # The publisher's name, and those of Keras 3 and 2.
            for archive in (name, f"{self.unpacked}_archive", f"{self.folder}.tar.gz"):
                if is_file(root / archive):
                    return Found(root / archive, archive=True)
        return Found(find(places, name, self.published), archive=True)

    def files(self, found: Found) -> Iterator[tuple[str, str, bytes]]:
        """The files that belong to the set, each with its place in words.

        Raises:
            FileError: one can't be read, or is too large.
        """
        wanted = (*self.train, self.test, self.meta)
        if found.archive:
            names = {f"{self.folder}/{name}": name for name in wanted}
            for member, data in members(found.path, names):
                yield names[member], f"{found.path}: {member}", data
            return
        for path in (found.path / name for name in wanted):
            if path.name != self.meta or is_file(path):
                yield path.name, str(path), whole(path)

    def names(self, values: dict[bytes, Any]) -> tuple[str, ...] | None:
        """Names of the classes in the meta file; None when it has none, or not one for each."""
        told = values.get(self.label_key().removesuffix(b"s") + b"_names")
        if type(told) is not list or len(told) != self.count() or not all(type(n) is bytes for n in told):
            return None
        found = tuple(n.decode("utf-8", "replace") for n in told)
        return found if all(n.isprintable() and n for n in found) and len({*found}) == len(found) else None

    def rows(self, parts: list[dict[bytes, Any]]) -> Rows:
        """Pictures, channels last, and class numbers of files that `check` let pass."""
        labels = np.concatenate([np.asarray(part[self.label_key()], "int64") for part in parts])
        images = np.empty((len(labels), SIDE, SIDE, 3), "uint8")
        at = 0
        for part in parts:
            planes = _planes(part[b"data"])
            images[at : at + len(planes)] = planes.transpose(0, 2, 3, 1)
            at += len(planes)
        return Rows({"image": images, "label": labels})


def _planes(data: ByteArray) -> numpy.ndarray:
    """The red, green and blue plane of each picture."""
    flat = np.frombuffer(data.data or b"", "uint8")
    rows = flat.reshape(data.shape, order=data.order)
    return rows.reshape(-1, 3, SIDE, SIDE)


def check(values: dict[bytes, Any], key: bytes, count: int, where: str) -> None:
    """Refuse what is not rows of 3,072 bytes with a class number each.

    Raises:
        FileError: other shapes, or other class numbers.
    """
    data, labels = values.get(b"data"), values.get(key)
    if not isinstance(data, ByteArray) or type(labels) is not list:
        found = ", ".join(k[:40].decode("utf-8", "replace") for k in list(values)[:12]) or "nothing"
        raise FileError(f"{where}: expected an array data and a list {key.decode()}, found {found}")
    shape, bytes_ = (len(labels), 3 * SIDE * SIDE), len(data.data or b"")
    if not labels or data.shape != shape or bytes_ != shape[0] * shape[1]:
        message = f"expected 3072 bytes and a label for each picture, found {len(labels)} labels and"
        raise FileError(f"{where}: {message} {bytes_} bytes of shape {data.shape}")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < count:
            raise FileError(f"{where}: {key.decode()}[{row}]: expected a whole number from 0 to {count - 1}")


class _Counted(gzip.GzipFile):
    """A .gz file whose reading ends in an error beyond so many bytes."""

    left = MOST_BYTES

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(self.left + 1 if size is None or size < 0 else min(size, self.left + 1))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
        return data


_DAMAGE = (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, IndexError, KeyError, OverflowError)


def members(path: Path, names: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The plain files of exactly these names in a .tar.gz file, read in passing; nothing is written.

    Raises:
        FileError: no such archive, damaged, or unpacking to more than such a set has.
    """
    try:
        with _Counted(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count == MOST_MEMBERS:
                    raise ValueError(f"it has more than {MOST_MEMBERS} members")
                if member.name in names and member.isreg():
                    yield member.name, _member(archive, member)
    except _DAMAGE as error:
        raise FileError(f"{path}: expected a .tar.gz file, which this is not or no longer: {error}") from None


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None or not 0 <= member.size <= MOST_BYTES:
        raise ValueError(f"{member.name} is too large")
    data = stream.read(member.size)
    if len(data) != member.size:
        raise EOFError(f"{member.name} is cut")
    return data


def whole(path: Path) -> bytes:
    """The bytes of a file of bounded size.

    Raises:
        FileError: it can't be read, or is larger than any of such a set.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileError(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise FileError(f"{path}: expected at most {MOST_BYTES >> 20} MiB")
    return data


class Cifar10(CifarSet):
    """50,000 + 10,000 colour pictures of ten classes (Krizhevsky, 2009): image 32 x 32 x 3 bytes, label 0 to 9."""

    published = Published(
        TORONTO + "cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    )
    folder = "cifar-10-batches-py"
    unpacked = "cifar-10-batches-py-target"
    train = tuple(f"data_batch_{i}" for i in range(1, 6))
    test = "test_batch"
    meta = "batches.meta"

    def label_key(self) -> bytes:
        return b"labels"

    def count(self) -> int:
        return 10

    def classes(self) -> tuple[str, ...]:
        return ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Cifar100(CifarSet):
    """50,000 + 10,000 colour pictures of 100 classes in 20 groups (Krizhevsky, 2009): image 32 x 32 x 3 bytes."""

    label_mode: Literal["fine", "coarse"] = "fine"
    "fine: the 100 classes, label 0 to 99; coarse: their 20 groups, label 0 to 19."

    published = Published(
        TORONTO + "cifar-100-python.tar.gz", "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
    )
    folder = "cifar-100-python"
    unpacked = "cifar-100-python-target"
    train = ("train",)
    test = "test"
    meta = "meta"

    def label_key(self) -> bytes:
        return f"{self.label_mode}_labels".encode()

    def count(self) -> int:
        return 100 if self.label_mode == "fine" else 20
