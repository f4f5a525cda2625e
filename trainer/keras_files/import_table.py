"""What is said of an imported model: the table of its layers, and the comment at the head of its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.keras_files.opening import Opened
from trainer.keras_files.recipe import Translation
from trainer.model.summary import summarize
from trainer.runs.directory import RunDirectory
from trainer.train.build import Built


@dataclass
class Row:
    """A layer of the table that an import prints."""

    layer: str
    "As the file calls it, with the models around it."
    there: str
    "Its class in the file."
    here: str
    "Its class here."
    weights: int
    parameters: int
    shape: str
    "Of what it makes."
    notes: tuple[str, ...] = ()


def rows_of(built: Built, made: Translation) -> list[Row]:
    """The table, in the file's order."""
    lines = {line.name: line for line in summarize(built.graph).lines}
    weights = {name: sum(1 for _ in built.network.cell(name).rows()) for name in built.graph.layers}
    rows = []
    for row in made.rows:
        line = lines.get(row.name) if len(row.path) == 1 else None
        known = (weights[row.name], line.parameters, line.shape) if line is not None else (0, 0, "")
        rows.append(Row("/".join(row.path), row.kind, row.here, *known, tuple(row.notes)))
    return rows


def header_of(
    file: Path, opened: Opened, made: Translation, notes: Sequence[str], digest: str, directory: RunDirectory
) -> list[str]:
    """The comment at the head of the recipe."""
    keras = f"Keras {opened.version}" if opened.version else "Keras"
    backend = f" on {opened.backend}" if opened.backend else ""
    dataset = made.recipe["dataset"]
    arrays = ", ".join([*dataset["inputs"], *dataset["targets"]])
    path = dataset["source"]["npz"]["path"]
    proposed = [] if made.compiled.from_file else ["The file does not say how it was trained: compile is a proposal."]
    return [
        f"Imported from {file.name}: {opened.kind} of {keras}{backend}, sha256 {digest[:16]}.",
        f"  trainer predict {directory.label} rows.npz",
        f"To train it on, let dataset.source have rows: {path} with the arrays {arrays}, or any other source.",
        f"  trainer fit {directory.path / 'recipe.yaml'}",
        *proposed,
        *(f"Note: {note}" for note in notes),
    ]
