"""The small real sets that scikit-learn carries; nothing to download."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import EnvironmentFault
from trainer.lazy import np
from trainer.sources.base import Places, Source
from trainer.sources.columns import Field, Rows, Table

if TYPE_CHECKING:
    import numpy


class Bundled(Source, abstract=True):
    """A set inside scikit-learn: `features` of fixed width and a `label` or `target`."""

    width: ClassVar[tuple[int, ...]]
    input_name: ClassVar[str] = "features"
    classes: ClassVar[tuple[str, ...] | None]
    file: ClassVar[str] = ""
    "Its file there, when that holds the rows as they are, the target last."
    heading: ClassVar[int] = 1
    "Lines before the rows."
    rows: ClassVar[int] = 0

    def fields(self) -> dict[str, Field]:
        if self.classes is None:
            return {self.input_name: Field(self.width), "target": Field()}
        return {self.input_name: Field(self.width), "label": Field((), "int64", self.classes)}

    def open(self, places: Places) -> Table:
        data, target = self._read() or self._loaded()
        x: numpy.ndarray = np.ascontiguousarray(data.reshape(-1, *self.width), "float32")
        last = list(self.fields())[1]
        y = np.asarray(target, "float32" if self.classes is None else "int64")
        found = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        return Table(Rows({self.input_name: x, last: y}), None, self.fields(), {type(self).recipe_name(): found})

    def _read(self) -> tuple[numpy.ndarray, numpy.ndarray] | None:
        """(data, target) straight from scikit-learn's file (its import takes a second); None if it is another one."""
        package = importlib.util.find_spec("sklearn")
        path = Path(package.origin or "").parent / "datasets" / "data" / self.file if package and self.file else None
        if path is None or not path.is_file():
            return None
        text = path.read_bytes()
        lines = (gzip.decompress(text) if path.suffix == ".gz" else text).decode().splitlines()
        try:
            values = np.loadtxt(lines, delimiter=",", skiprows=self.heading)
        except ValueError:
            return None
        known = values.shape == (self.rows, math.prod(self.width) + 1)
        return (values[:, :-1], values[:, -1]) if known else None

    def _loaded(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        name = type(self).recipe_name()
        try:
            from sklearn import datasets
        except ImportError:
            raise EnvironmentFault(
                f"{name} comes with scikit-learn", hint="pip install 'recipe-trainer[sklearn]'"
            ) from None
        loaded: Any = getattr(datasets, f"load_{name}")()
        return loaded.data, loaded.target


class Digits(Bundled):
    """1,797 handwritten digits of 8 x 8 pixels with values from 0 to 16; fields image and label."""

    width = (8, 8)
    input_name = "image"
    classes = tuple("0123456789")
    file, heading, rows = "digits.csv.gz", 0, 1797


class BreastCancer(Bundled):
    """569 tumours, 30 measurements each; label 1 is benign."""

    width = (30,)
    classes = ("malignant", "benign")
    file, rows = "breast_cancer.csv", 569


class Wine(Bundled):
    """178 wines of three growers, 13 measurements each."""

    width = (13,)
    classes = ("class_0", "class_1", "class_2")
    file, rows = "wine_data.csv", 178


class Iris(Bundled):
    """150 irises of three species, four measurements each (Fisher, 1936)."""

    width = (4,)
    classes = ("setosa", "versicolor", "virginica")
    file, rows = "iris.csv", 150


class Diabetes(Bundled):
    """442 patients, ten measurements each; target is the progress of the disease after a year."""

    width = (10,)
    classes = None
