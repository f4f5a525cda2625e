"""The line to copy that `trainer explain` ends with is valid as it stands, and plugins get one too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_catalogue import EVERY
from trainer.declare import Declared
from trainer.layers.base import Layer
from trainer.metrics.base import Metric
from trainer.optimizers.base import Optimizer
from trainer.options import PositiveInt
from trainer.recipe.document import load
from trainer.recipe.examples import example
from trainer.recipe.explanation import explain, listed
from trainer.recipe.schema import Recipe


def recipe_with(line: str, under: str) -> str:
    """A recipe that has the line in that block."""
    blocks = {"dataset": "source: digits", "compile": "loss: mse", under: line}
    if under == "compile" and not line.startswith("loss: "):
        blocks["compile"] = f"loss: mse\n  {line}"
    if under == "dataset" and not line.startswith("source: "):
        blocks["dataset"] = f"source: digits\n  {line}"
    written = f"dataset:\n  {blocks['dataset']}\n"
    written += f"  preprocess:\n    {line}\n" if under == "dataset.preprocess" else ""
    written += f"model:\n  layers:\n    {blocks.get('model.layers', '- Flatten')}\n"
    written += f"compile:\n  {blocks['compile']}\n"
    written += f"  metrics:\n    {line}\n" if under == "compile.metrics" else ""
    return written + (f"callbacks:\n  {line}\n" if under == "callbacks" else "")


def read(tmp_path: Path, text: str) -> Recipe:
    """The text through YAML and schema, as a recipe's is."""
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    value = load(tmp_path / "recipe.yaml").value
    assert isinstance(value, dict)
    return Recipe.read(value)


def parts(value: Any) -> Iterator[Declared]:
    """Everything declared inside a value."""
    if isinstance(value, Declared):
        yield value
    if isinstance(value, (tuple, list)):
        for one in value:
            yield from parts(one)
    elif isinstance(value, dict):
        yield from parts(list(value.values()))
    elif hasattr(type(value), "model_fields"):
        yield from parts([getattr(value, name) for name in type(value).model_fields])


@pytest.mark.parametrize(("kind", "final"), EVERY)
def test_line_is_valid_and_uses_the_name(kind: type[Declared], final: type[Declared], tmp_path: Path) -> None:
    (meaning,) = [m for m in explain(final.recipe_name()) if m.what.endswith(kind.kind)]
    assert "..." not in meaning.example
    assert meaning.under or final.__name__ == "Glu", "no layer takes glu"
    for under in meaning.under:
        used = {type(part) for part in parts(read(tmp_path, recipe_with(meaning.example, under)))}
        assert final in used, meaning.example


@pytest.mark.parametrize(
    ("name", "line", "under"),
    [
        ("Dense", "- Dense: {units: 64, activation: relu}", ("model.layers",)),
        ("Flatten", "- Flatten", ("model.layers", "dataset.preprocess")),
        ("StringLookup", "- StringLookup: {output_mode: one_hot}", ("dataset.preprocess",)),
        ("TimeDistributed", "- TimeDistributed: {layer: {Dense: {units: 8}}}", ("model.layers",)),
        ("LSTMCell", "- RNN: {cell: {LSTMCell: {units: 64}}}", ("model.layers",)),
        ("AUC", "- AUC", ("compile.metrics",)),
        ("acc", "- acc", ("compile.metrics",)),
        ("HeNormal", "- Dense: {units: 64, kernel_initializer: HeNormal}", ("model.layers",)),
        ("L2", "- Dense: {units: 64, kernel_regularizer: {L2: {l2: 1e-4}}}", ("model.layers",)),
    ],
)
def test_line_reads_as_a_person_writes_it(name: str, line: str, under: tuple[str, ...]) -> None:
    (meaning,) = explain(name)
    assert (meaning.example, meaning.under) == (line, under)


def test_lines_of_plugins_go_by_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layer, "catalogue", dict(Layer.catalogue))
    monkeypatch.setattr(Metric, "catalogue", dict(Metric.catalogue))

    class Sandwiched(Layer):
        """Between two slices."""

        slices: PositiveInt
        "How many."
        butter: float
        "How much."
        inner: Layer
        "What is between."
        by: Optimizer
        "Who made it."

    options = "slices: 1, butter: 0.5, inner: {Dense: {units: 8}}, by: adam"
    assert example(Sandwiched).line == f"- Sandwiched: {{{options}}}"


def test_lists_hold_no_addresses() -> None:
    lines = [line for _, line in listed("layers") + listed("activations") + listed("initializers")]
    assert len(lines) > 170
    assert not [line for line in lines if "http" in line or not line.strip()]
    assert dict(listed("activations"))["elu"] == "x where x > 0, else exp(x) - 1 (Clevert et al., 2016)"
