"""IDX files (.gz or plain), and the image sets that are published in them."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from trainer.errors import DataError, FileError
from trainer.lazy import np
from trainer.options import Str
from trainer.sources.arrays import read_npz
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.finding import Published, digest, find

if TYPE_CHECKING:
    import numpy

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MOST_BYTES = 4 << 30


def read_idx(path: Path) -> numpy.ndarray:
    """The array of an IDX file, plain or gzipped.

    Raises:
        FileError: not an IDX file, damaged, or not as long as its header says.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            return _read(stream, path)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path}: can't be read: {error}") from None


def _read(stream: object, path: Path) -> numpy.ndarray:
    read = stream.read  # pyright: ignore[reportAttributeAccessIssue]
    head = read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not 1 <= head[3] <= 8:
        raise FileError(f"{path}: expected an IDX file, found another beginning ({head[:4].hex() or 'nothing'})")
    sizes = read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise FileError(f"{path}: the file ends in its header")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    dtype = np.dtype(TYPES[head[2]])
    need = math.prod(shape) * dtype.itemsize
    if need > MOST_BYTES:
        raise FileError(f"{path}: the shape {shape} would take {need:,} bytes")
    parts, have = [], 0
    while have <= need and (block := read(min(1 << 20, need + 1 - have))):
        parts.append(block)
        have += len(block)
    if have != need:
        found = "more" if have > need else f"{have}"
        raise FileError(f"{path}: the shape {shape} needs {need} bytes, found {found}")
    return np.frombuffer(b"".join(parts), dtype).reshape(shape).astype(dtype.newbyteorder("="))


def pair(images: Path, labels: Path) -> Rows:
    """Images and their labels.

    Raises:
        DataError: not one label an image.
    """
    x, y = read_idx(images), read_idx(labels)
    if len(x) != len(y) or y.ndim != 1:
        raise DataError(f"{images.name} has {len(x)} rows, {labels.name} has shape {y.shape}")
    return Rows({"image": x, "label": y.astype("int64")})


class Idx(Source):
    """Images and labels in IDX files, as MNIST is published."""

    images: Str
    "File of the training images."
    labels: Str
    "File of the training labels."
    test_images: Str | None = None
    "File of the test images."
    test_labels: Str | None = None
    "File of the test labels."

    def open(self, places: Places) -> Table:
        def at(name: str) -> Path:
            return places.file(name)

        train = pair(at(self.images), at(self.labels))
        names = [self.images, self.labels]
        test = None
        if self.test_images and self.test_labels:
            test = pair(at(self.test_images), at(self.test_labels))
            names += [self.test_images, self.test_labels]
        shape = tuple(train.columns["image"].shape[1:])
        fields = {"image": Field(shape, str(train.columns["image"].dtype)), "label": Field((), "int64")}
        return Table(train, test, fields, {n: digest(at(n)) for n in names})


class ImageSet(Source, abstract=True):
    """28 x 28 grey pictures of ten classes, 60,000 + 10,000, in four IDX files."""

    classes: ClassVar[tuple[str, ...]] = ()
    archive: ClassVar[Published | None] = None
    "The same set as one .npz file, as Keras's loader fetches it."

    def folder_name(self) -> str:
        """Folder of the four files below each place."""
        raise NotImplementedError

    def fields(self) -> dict[str, Field]:
        return {"image": Field((28, 28), "uint8"), "label": Field((), "int64", self.classes)}

    def open(self, places: Places) -> Table:
        names = [f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]
        try:
            found = [find(places, name, (self.folder_name(),)) for name in names]
        except FileError:
            if self.archive is None:
                raise
            return self._from_archive(places)
        train, test = pair(found[0], found[1]), pair(found[2], found[3])
        return Table(train, test, self.fields(), {p.name: digest(p) for p in found})

    def _from_archive(self, places: Places) -> Table:
        path = find(places, f"{type(self).recipe_name()}.npz", (), self.archive)
        arrays = read_npz(path)
        parts = []
        for part in ("train", "test"):
            x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
            if x is None or y is None or x.ndim != 3 or len(x) != len(y):
                raise FileError(f"{path}: expected x_train, y_train, x_test and y_test")
            parts.append(Rows({"image": x, "label": y.astype("int64")}))
        return Table(parts[0], parts[1], self.fields(), {path.name: digest(path)})


class Mnist(ImageSet):
    """Handwritten digits (LeCun, Cortes, Burges): image 28 x 28 bytes, label 0 to 9."""

    folder: Str = "mnist"
    "Folder of the four files below the data folder."

    classes = tuple("0123456789")
    archive = Published(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    )

    def folder_name(self) -> str:
        return self.folder

    def _from_archive(self, places: Places) -> Table:
        if self.folder != "mnist":
            raise FileError(f"there is no folder {self.folder} with the four IDX files", hint="set --data")
        return super()._from_archive(places)


class FashionMnist(ImageSet):
    """Zalando's pictures of clothes (Xiao et al., 2017): image 28 x 28 bytes, label 0 to 9."""

    folder: Str = "fashion-mnist"
    "Folder of the four files below the data folder."

    classes = (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip

    def folder_name(self) -> str:
        return self.folder
