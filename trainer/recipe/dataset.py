"""The block `dataset`: where rows come from, what is read of them, and how they are divided."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import model_validator

from trainer.block import Block
from trainer.layers.base import Layer
from trainer.options import (
    Name,
    PositiveInt,
    Rule,
    Str,
    complaint,
    raise_all,
)
from trainer.sources.base import Source

MOST_COLUMNS = 100_000


def _columns(value: Any) -> tuple[str, ...]:
    """Column names from a name, a number, a range such as `0-7`, or a list of these."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    names: list[str] = []
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (int, str)) or part == "":
            raise TypeError
        span = re.fullmatch(r"(\d+)-(\d+)", part) if isinstance(part, str) else None
        wanted = range(int(span[1]), int(span[2]) + 1) if span else [part]
        if len(names) + len(wanted) > MOST_COLUMNS:
            raise ValueError
        names += map(str, wanted)
    if not names:
        raise ValueError
    return tuple(names)


_COLUMN = {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}
Columns = Annotated[
    tuple[str, ...],
    Rule(
        f"column names or numbers, or a range such as 0-7, at most {MOST_COLUMNS:,} of them",
        _columns,
        {"anyOf": [*_COLUMN["anyOf"], {"type": "array", "items": _COLUMN}]},
    ),
]


def _part(value: Any) -> Any:
    if isinstance(value, dict):
        ((where, count),) = value.items()
        if where not in ("first", "last") or isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError
        return {where: count}
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError
    if isinstance(value, float) and value >= 1:
        raise ValueError
    return value


Part = Annotated[
    Any,
    Rule(
        "a share between 0 and 1, a number of rows, {first: rows} or {last: rows}",
        _part,
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {
                    "type": "object",
                    "properties": {w: {"type": "integer", "minimum": 1} for w in ("first", "last")},
                    "maxProperties": 1,
                    "minProperties": 1,
                    "additionalProperties": False,
                },
            ]
        },
    ),
]


class Feature(Block):
    """One input or target of the model: which fields or columns it reads, and what is done to them first."""

    field: Str | None = None
    "Name of a field of the source (mnist has `image` and `label`); by default the name of this entry."
    columns: Columns | None = None
    "Columns of a table, side by side: names, numbers, or a range such as `0-7`."
    preprocess: tuple[Layer, ...] = ()
    "Keras preprocessing layers, in order; those that learn something are adapted on the training rows only."

    @model_validator(mode="after")
    def _one_of(self) -> Feature:
        if self.field is not None and self.columns is not None:
            raise ValueError("expected either field or columns, found both")
        return self


class Split(Block):
    """Rows held back from training."""

    test: Part | None = None
    "Rows for the test at the end: a share, a number, {first: rows} or {last: rows}; drawn with the recipe's seed."
    validation: Part | None = None
    "Rows for validation in every epoch, taken after the test rows; for Keras's rule use fit.validation_split."
    stratify: Str | None = None
    "Field or column whose classes keep their shares in every part (drawn parts only)."

    @model_validator(mode="after")
    def _something_to_stratify(self) -> Split:
        if self.stratify is not None and all(p is None or isinstance(p, dict) for p in (self.test, self.validation)):
            hint = "give test or validation as a share or a number, or remove stratify"
            raise_all([(complaint("nothing is drawn that could be stratified", hint), ("stratify",))])
        return self


class Dataset(Block):
    """Where rows come from and what the model reads of them."""

    source: Source
    "A named dataset (mnist, imdb, digits, …) or a file ({csv: {path: rows.csv}}, npz, idx)."
    inputs: dict[Name, Feature] | None = None
    "The model's inputs by name."
    targets: dict[Name, Feature] | None = None
    "What the model learns to predict, by name; where there are several, by the name of the output."
    columns: Columns | None = None
    "Short for one input: its columns."
    target: Columns | None = None
    "Short for one target: its field or column."
    preprocess: tuple[Layer, ...] = ()
    "Short for one input: its preprocessing."
    split: Split = Split()
    "Rows held back for test and validation."
    limit: PositiveInt | None = None
    "Use only the first rows of the training part (to try a recipe out)."

    @model_validator(mode="after")
    def _short_or_long(self) -> Dataset:
        short = {"columns": self.columns is not None, "preprocess": bool(self.preprocess)}
        for word in (w for w, given in short.items() if given and self.inputs is not None):
            raise_all(
                [(complaint(f"{word} is short for one input; here inputs are given", "move it into inputs"), (word,))]
            )
        if self.target is not None and self.targets is not None:
            raise_all([(complaint("target is short for one target; here targets are given too"), ("target",))])
        for word, given in (("inputs", self.inputs), ("targets", self.targets)):
            if given is not None and not given:
                raise_all([(complaint("expected at least one entry, found none"), (word,))])
        return self
