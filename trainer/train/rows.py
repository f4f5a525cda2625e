"""Which rows train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.errors import DataError, Problem
from trainer.recipe.outline import Outline
from trainer.recipe.schema import Recipe
from trainer.sources.columns import Rows, Table
from trainer.sources.split import folds as fold_indices
from trainer.sources.split import split_rows, validation_tail
from trainer.streams import derive
from trainer.train.pipeline import read_column


@dataclass(frozen=True)
class Sets:
    """The rows of a run, by their use."""

    train: Rows
    validation: Rows | None = None
    test: Rows | None = None

    def counts(self) -> dict[str, int]:
        """Number of rows of each part that there is."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: len(rows) for name, rows in named.items() if rows is not None}


def count_of(part: Any, rows: int) -> int:
    """How many rows a share or a number means."""
    return round(part * rows) if isinstance(part, float) else int(part)


def divide(recipe: Recipe, table: Table) -> Sets:
    """Training, validation and test rows of a recipe, in that order of precedence: test first, then validation.

    Raises:
        DataError: a part would be empty or larger than what there is.
    """
    split, rows, test = recipe.dataset.split, table.train, table.test
    if split.test is not None:
        rows, test = part_off(recipe, rows, split.test, "test")
    if recipe.dataset.limit is not None:
        rows = rows.take(slice(0, recipe.dataset.limit))
    validation = None
    if split.validation is not None:
        rows, validation = part_off(recipe, rows, split.validation, "validation")
    if recipe.fit.validation_split:
        at = validation_tail(len(rows), recipe.fit.validation_split)
        rows, validation = rows.take(slice(0, at)), rows.take(slice(at, None))
    if len(rows) == 0:
        raise DataError("there are no training rows", hint="check the source, and what split and limit leave over")
    return Sets(rows, validation, test)


def part_off(recipe: Recipe, rows: Rows, part: Any, use: str) -> tuple[Rows, Rows]:
    """(what remains, the part): the first or last rows, or rows drawn with the recipe's seed."""
    n = len(rows)
    count = next(iter(part.values())) if isinstance(part, dict) else count_of(part, n)
    if not 0 < count < n:
        raise DataError(f"split.{use} asks for {count} of {n} rows", path=("dataset", "split", use))
    if isinstance(part, dict):
        where = next(iter(part))
        at = count if where == "first" else n - count
        head, tail = rows.take(slice(0, at)), rows.take(slice(at, None))
        return (tail, head) if where == "first" else (head, tail)
    name = recipe.dataset.split.stratify
    if name is not None and name not in rows.columns:
        raise DataError(f'the rows have no column "{name}"', path=("dataset", "split", "stratify"))
    groups = rows.column(name) if name is not None else None
    kept, drawn = split_rows(n, count, derive(recipe.seed, "split", use), groups)
    return rows.take(kept), rows.take(drawn)


def first_target(outline: Outline, rows: Rows) -> np.ndarray:
    """The raw values of the first target."""
    known = next(iter(outline.targets.values()))
    return np.asarray(read_column(rows, known.feature, target=True))


def class_numbers(y: np.ndarray) -> np.ndarray:
    """Class of each row of a target: the position of the 1 in one-hot rows, else the rounded number (Keras's rule).

    Classes that are texts still are numbered in alphabetical order.
    """
    if y.dtype.kind in "OUS":
        return np.unique(y.reshape(len(y), -1)[:, 0].astype(str), return_inverse=True)[1].astype("int64")
    if y.ndim > 1 and y.shape[-1] > 1:
        return y.argmax(-1).reshape(len(y), -1)[:, 0]
    return np.rint(y.reshape(len(y), -1)[:, 0]).astype("int64")


def check_class_weight(asked: Any, y: np.ndarray) -> None:
    """Refuse weights of classes that no training row has (of all of them: a fold may lack a class).

    Raises:
        DataError: names the class.
    """
    if y.dtype.kind in "OUS":
        # Their numbers are known once the vocabulary is.
        return
    unknown = sorted(set(asked) - set(class_numbers(y).tolist())) if isinstance(asked, dict) else []
    if unknown:
        message = f"class_weight names class {unknown[0]}, which no training row has"
        known = ", ".join(map(str, sorted(set(class_numbers(y).tolist()))[:12]))
        place = ("fit", "class_weight", unknown[0])
        raise DataError(Problem(message, place, f"the classes are {known}", "class-weight", on_key=True))


def check_class_names(asked: Any, names: Sequence[str] | None) -> None:
    """Refuse weights of classes that a target's vocabulary does not have.

    Raises:
        DataError: names the class.
    """
    unknown = sorted(n for n in asked if not 0 <= n < len(names)) if isinstance(asked, dict) and names else []
    if unknown:
        message = f"class_weight names class {unknown[0]}, but the target has {len(names or ())} classes"
        known = ", ".join(f"{i} ({n})" for i, n in enumerate((names or ())[:8]))
        place = ("fit", "class_weight", unknown[0])
        raise DataError(Problem(message, place, f"they are {known}", "class-weight", on_key=True))


def class_weights(asked: Any, y: np.ndarray) -> np.ndarray:
    """Weight of each row from the weight of its class; 1 for a class without one."""
    classes = class_numbers(y)
    present, counts = np.unique(classes, return_counts=True)
    if asked == "balanced":
        by_class = dict(zip(present.tolist(), (len(y) / (len(present) * counts)).tolist(), strict=True))
    else:
        by_class = {**dict.fromkeys(present.tolist(), 1.0), **asked}
    return np.asarray([by_class[c] for c in classes.tolist()], "float32")


def fold_sets(recipe: Recipe, outline: Outline, sets: Sets) -> list[Sets]:
    """The rows of each fold; none without folds."""
    kfold = recipe.fit.kfold
    if kfold is None:
        return []
    groups = class_numbers(first_target(outline, sets.train)) if kfold.stratify else None
    parts = fold_indices(len(sets.train), kfold.folds, kfold.shuffle or kfold.stratify, recipe.seed, groups)
    return [Sets(sets.train.take(train), sets.train.take(held)) for train, held in parts]
