"""IDX files, gzipped or plain."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import model_validator

from trainer.errors import DataError, FileError
from trainer.lazy import np
from trainer.options import Str, complaint, raise_all
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.downloading import digest

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
    try:
        return np.frombuffer(b"".join(parts), dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except (ValueError, OverflowError):
        raise FileError(f"{path}: the shape {shape} can't be") from None


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

    @model_validator(mode="after")
    def _test_pair(self) -> Idx:
        for given, lacking in (("test_images", "test_labels"), ("test_labels", "test_images")):
            if getattr(self, given) is not None and getattr(self, lacking) is None:
                raise_all([(complaint(f"{given} needs {lacking}", f"add {lacking}, or leave both out"), (given,))])
        return self

    def open(self, places: Places) -> Table:
        train = pair(places.file(self.images), places.file(self.labels))
        names = [self.images, self.labels]
        test = None
        if self.test_images is not None and self.test_labels is not None:
            test = pair(places.file(self.test_images), places.file(self.test_labels))
            names += [self.test_images, self.test_labels]
        shape = tuple(train.columns["image"].shape[1:])
        fields = {"image": Field(shape, str(train.columns["image"].dtype)), "label": Field((), "int64")}
        return Table(train, test, fields, {n: digest(places.file(n)) for n in names})
