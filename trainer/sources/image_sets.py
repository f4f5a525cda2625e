"""Image sets that are published as IDX files: MNIST and Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import FileError
from trainer.options import Str
from trainer.sources.arrays import read_npz
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.downloading import Published, digest
from trainer.sources.finding import find, missing, roots, together
from trainer.sources.idx import pair

if TYPE_CHECKING:
    import numpy

FILES = tuple(f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1"))


class ImageSet(Source, abstract=True):
    """28 x 28 grey pictures of ten classes, 60,000 + 10,000, in four IDX files."""

    classes: ClassVar[tuple[str, ...]] = ()

    def folder_name(self) -> str:
        """Folder of the four files below each place."""
        raise NotImplementedError

    def fields(self) -> dict[str, Field]:
        return {"image": Field((28, 28), "uint8"), "label": Field((), "int64", self.classes)}

    def open(self, places: Places) -> Table:
        found = together(places, FILES, self.folder_name())
        if found is None:
            return self.fetched(places)
        return self.table(found)

    def fetched(self, places: Places) -> Table:
        """The set when no place has its four files.

        Raises:
            FileError: it can't be had; says where it was looked for.
        """
        raise NotImplementedError

    def table(self, found: list[Path]) -> Table:
        """The opened set from its four files."""
        train, test = pair(found[0], found[1]), pair(found[2], found[3])
        for path, rows in ((found[0], train), (found[2], test)):
            check(path, rows.columns["image"], rows.columns["label"])
        return Table(train, test, self.fields(), {p.name: digest(p) for p in found})

    def absent(self, places: Places, published: Published | None, also: str = "") -> FileError:
        """The error for a set that no place has."""
        where = ", ".join(str(root / self.folder_name()) for root in roots(places))
        return missing(f"{', '.join(FILES)}{also}", where, published)


def check(path: Path, x: Any, y: numpy.ndarray) -> None:
    """Refuse what is not as many bytes of 28 x 28 as class numbers.

    Raises:
        FileError: other shapes, types or class numbers.
    """
    if x.shape[1:] != (28, 28) or x.dtype != "uint8" or y.shape != x.shape[:1]:
        raise FileError(f"{path}: expected bytes of 28 x 28 and a label each, found {x.dtype} {x.shape}, {y.shape}")
    if len(y) and not 0 <= y.min() <= y.max() <= 9:
        raise FileError(f"{path}: expected labels from 0 to 9, found {y.min()} to {y.max()}")


class Mnist(ImageSet):
    """Handwritten digits (LeCun, Cortes, Burges): image 28 x 28 bytes, label 0 to 9."""

    folder: Str = "mnist"
    "Folder of the four files below the data folder."

    classes = tuple("0123456789")
    archive: ClassVar[Published] = Published(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    )
    "The same set as one .npz file, as Keras's loader fetches it."

    def folder_name(self) -> str:
        return self.folder

    def fetched(self, places: Places) -> Table:
        if self.folder != type(self).model_fields["folder"].default:
            raise self.absent(places, None)
        path = find(places, "mnist.npz", self.archive)
        arrays, parts = read_npz(path), []
        for part in ("train", "test"):
            x, y = arrays.get(f"x_{part}"), arrays.get(f"y_{part}")
            if x is None or y is None or y.dtype.kind not in "iu":
                raise FileError(f"{path}: expected x_train, y_train, x_test and y_test")
            check(path, x, y)
            parts.append(Rows({"image": x, "label": y.astype("int64")}))
        return Table(parts[0], parts[1], self.fields(), {path.name: digest(path)})


ZALANDO = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
    "b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion/"
)


class FashionMnist(ImageSet):
    """Zalando's pictures of clothes (Xiao et al., 2017): image 28 x 28 bytes, label 0 to 9."""

    folder: Str = "fashion-mnist"
    "Folder of the four files below the data folder."

    classes = (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    )  # fmt: skip
    digests: ClassVar[tuple[str, ...]] = (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    )
    "sha256 of the four files, in their order."

    def folder_name(self) -> str:
        return self.folder

    def fetched(self, places: Places) -> Table:
        if self.folder != type(self).model_fields["folder"].default or not places.download:
            raise self.absent(places, None, f" (published at {ZALANDO})")
        published = [Published(ZALANDO + name, sha256) for name, sha256 in zip(FILES, self.digests, strict=True)]
        return self.table([find(places, p.url.rpartition("/")[2], p, self.folder) for p in published])
