"""Tables: NPZ files, and the named sets that are tables."""

from __future__ import annotations

import csv as csv_text
from typing import Any, ClassVar, Literal

from trainer.errors import DataError, FileError
from trainer.lazy import np
from trainer.options import ProperFraction, Str
from trainer.sources.arrays import read_npz
from trainer.sources.base import LoaderSeed, Places, Source
from trainer.sources.columns import Field, Rows, Table
from trainer.sources.downloading import Published, digest
from trainer.sources.finding import find


class Npz(Source):
    """Arrays of an .npz file as columns; x_train, y_train, x_test, y_test become train and test rows of x and y."""

    path: Str
    "The file, counted from the recipe's folder or the data folder."

    def open(self, places: Places) -> Table:
        path = places.file(self.path)
        arrays = read_npz(path)
        parts = {p: {n.removesuffix(f"_{p}"): a for n, a in arrays.items() if n.endswith(f"_{p}")} for p in PARTS}
        train = parts["train"] or {n: a for n, a in arrays.items() if not n.endswith("_test")}
        for name, columns in (("train", train), ("test", parts["test"])):
            lengths = {n: len(a) if a.ndim else -1 for n, a in columns.items()}
            if len(set(lengths.values())) > 1 or -1 in lengths.values():
                found = ", ".join(f"{n}: {v}" for n, v in lengths.items())
                raise DataError(f"{path}: expected {name} arrays of equal length, found {found}")
        if not train:
            raise DataError(f"{path}: expected training arrays, found {', '.join(arrays)}")
        fields = {n: Field(tuple(a.shape[1:]), str(a.dtype)) for n, a in train.items()}
        test = Rows(parts["test"]) if parts["test"] else None
        return Table(Rows(train), test, fields, {path.name: digest(path)})


PARTS = ("train", "test")


KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"


class Houses(Source, abstract=True):
    """House prices and what goes with them, in one .npz file, shuffled and split as Keras's loaders do it."""

    published: ClassVar[Published]
    width: ClassVar[int]

    test_split: ProperFraction = 0.2
    "The last share of the shuffled rows is the test part."
    seed: LoaderSeed = 113
    "Seed of the shuffling (numpy's RandomState, as Keras's loader does it)."

    def fields(self) -> dict[str, Field]:
        return {"features": Field((self.width,), "float32"), "price": Field((), "float32")}

    def most(self) -> int | None:
        """How many of the file's rows are taken, None for all."""
        return None

    def open(self, places: Places) -> Table:
        path = find(places, self.published.url.rpartition("/")[2], self.published)
        arrays = read_npz(path)
        x, y = arrays.get("x"), arrays.get("y")
        if x is None or y is None or x.shape[1:] != (self.width,) or y.shape != x.shape[:1] or x.dtype.kind != "f":
            raise FileError(f"{path}: expected x with {self.width} columns and y")
        if y.dtype.kind not in "fiu":
            raise FileError(f"{path}: expected numbers in y, found the type {y.dtype}")
        order = np.arange(len(x[: self.most()]))
        np.random.RandomState(self.seed).shuffle(order)
        x, y = x[order].astype("float32"), y[order].astype("float32")
        at = int(len(x) * (1 - self.test_split))
        train, test = Rows({"features": x[:at], "price": y[:at]}), Rows({"features": x[at:], "price": y[at:]})
        return Table(train, test if len(test) else None, self.fields(), {path.name: digest(path)})


class BostonHousing(Houses):
    """Boston house prices, 404 + 102 rows of 13 measurements (Harrison and Rubinfeld, 1978); price in 1,000 dollars."""

    published = Published(
        KERAS + "boston_housing.npz", "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5"
    )
    width = 13


class CaliforniaHousing(Houses):
    """Median house prices of 20,640 Californian districts in dollars (Pace and Barry, 1997), with eight measurements.

    The features, in order: median income, house age, rooms and bedrooms a household, population, people a household,
    latitude, longitude.
    """

    keras_order = "version test_split"

    version: Literal["large", "small"] = "large"
    "small takes the first 600 rows of the file only."

    published = Published(
        KERAS + "california_housing.npz", "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f"
    )
    width = 8

    def most(self) -> int | None:
        return 600 if self.version == "small" else None


class PimaIndiansDiabetes(Source):
    """768 Pima women: eight measurements, and whether diabetes began within five years (Smith et al., 1988)."""

    def fields(self) -> dict[str, Field]:
        named = {str(i): Field((), "float32") for i in range(8)}
        return {**named, "8": Field((), "int64", ("healthy", "diabetic"))}

    def open(self, places: Places) -> Table:
        published = Published(
            "https://raw.githubusercontent.com/jbrownlee/Datasets/"
            "d20fcb6402ae34e653d4513b00f39257bb37ed7f/pima-indians-diabetes.csv",
            "6bfe5d0f379d17a0e0819b996407e3c09bf80febd4287f2ed212190dfff154af",
        )
        path = find(places, "pima-indians-diabetes.csv", published)
        try:
            lines = [row for row in csv_text.reader(path.read_text(encoding="ascii").splitlines()) if row]
            values = np.asarray([[float(v) for v in row] for row in lines], "float32")
        except (ValueError, OSError, csv_text.Error) as error:
            raise FileError(f"{path}: expected nine numbers a row: {error}") from None
        if values.ndim != 2 or values.shape[1] != 9 or not np.isfinite(values).all():
            raise FileError(f"{path}: expected nine finite numbers a row, found the shape {values.shape}")
        columns: dict[str, Any] = {str(i): values[:, i] for i in range(8)}
        columns["8"] = values[:, 8].astype("int64")
        return Table(Rows(columns), None, self.fields(), {path.name: digest(path)})
