"""The small real sets that scikit-learn carries; nothing to download."""

from __future__ import annotations

import hashlib
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

    def fields(self) -> dict[str, Field]:
        if self.classes is None:
            return {self.input_name: Field(self.width), "target": Field()}
        return {self.input_name: Field(self.width), "label": Field((), "int64", self.classes)}

    def open(self, places: Places) -> Table:
        try:
            from sklearn import datasets
        except ImportError:
            name = type(self).recipe_name()
            raise EnvironmentFault(
                f"{name} comes with scikit-learn", hint="pip install 'recipe-trainer[sklearn]'"
            ) from None
        loaded: Any = getattr(datasets, f"load_{type(self).recipe_name()}")()
        x: numpy.ndarray = np.ascontiguousarray(loaded.data.reshape(-1, *self.width), "float32")
        last = list(self.fields())[1]
        y = np.asarray(loaded.target, "float32" if self.classes is None else "int64")
        found = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        return Table(Rows({self.input_name: x, last: y}), None, self.fields(), {type(self).recipe_name(): found})


class Digits(Bundled):
    """1,797 handwritten digits of 8 x 8 pixels with values from 0 to 16; fields image and label."""

    width = (8, 8)
    input_name = "image"
    classes = tuple("0123456789")


class BreastCancer(Bundled):
    """569 tumours, 30 measurements each; label 1 is benign."""

    width = (30,)
    classes = ("malignant", "benign")


class Wine(Bundled):
    """178 wines of three growers, 13 measurements each."""

    width = (13,)
    classes = ("class_0", "class_1", "class_2")


class Iris(Bundled):
    """150 irises of three species, four measurements each (Fisher, 1936)."""

    width = (4,)
    classes = ("setosa", "versicolor", "virginica")


class Diabetes(Bundled):
    """442 patients, ten measurements each; target is the progress of the disease after a year."""

    width = (10,)
    classes = None
