"""Recipes for tests: text in, a built and trained model out, without the command line."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trainer.recipe.document import Document
from trainer.recipe.load import Loaded, recipe_of
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options, Outcome, fit
from trainer.train.use import OpenRun

Item = TypeVar("Item")

DIGITS = """
name: digits
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  targets: {label: {}}
  split: {test: {last: 300}}
  limit: 600
model:
  layers:
    - Dense: {units: 32, activation: relu}
    - Dropout: {rate: 0.3}
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {adam: {learning_rate: 0.01}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 4, batch_size: 32, validation_split: 0.25}
"""


def loaded(text: str = DIGITS, *sets: str) -> Loaded:
    """A checked recipe."""
    document = Document.parse(textwrap.dedent(text), "recipe.yaml").with_sets(list(sets))
    return recipe_of(document, "recipe", Path())


def trained(tmp_path: Path, text: str = DIGITS, *sets: str, **options: Any) -> Outcome:
    """A finished run under `tmp_path`."""
    return fit(loaded(text, *sets), Options(runs=tmp_path, device="cpu", **options), text.encode())


def directory_of(outcome: Outcome) -> RunDirectory:
    return RunDirectory(outcome.directory)


def only(of: Mapping[str, Item]) -> Item:
    """The one entry of a mapping by name."""
    (item,) = of.values()
    return item


def output(run: OpenRun, column: Any) -> np.ndarray:
    """What the only output of a run's model gives for raw rows of its only input."""
    return only(run.predict([column]))
