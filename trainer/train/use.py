"""A finished run put to use: its model and preprocessing opened again, raw rows read, predictions made."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import FileError, RunError, nearest
from trainer.losses.base import Loss
from trainer.model.cell import blank
from trainer.native.compiler import Uncompiled
from trainer.recipe.load import Loaded
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.runs.saved import model_source
from trainer.sources.columns import Column, Rows, Table
from trainer.switches import on
from trainer.train.build import Built, build, real_outlines
from trainer.train.compiled import compile_layers
from trainer.train.devices import choose_device, set_threads
from trainer.train.identity import check_data, source_folder
from trainer.train.job import reloaded
from trainer.train.rows import divide
from trainer.train.scoring import predict
from trainer.train.state import load_weights, state_of
from trainer.train.terms import Options, open_table
from trainer.train.unseen import IMPORTED, open_shapes, stand_in


class OpenRun:
    """A run whose model is ready to use."""

    def __init__(self, directory: RunDirectory, options: Options, checkpoint: str | None = None):
        self.directory, self.options = directory, options
        self.loaded: Loaded = reloaded(directory, options)
        self.recipe = self.loaded.recipe
        self.model = read_model(model_source(directory, checkpoint))
        self.state = state_of(self.model)
        self.folder = source_folder(directory)
        self.shapes: dict[str, tuple[int | None, ...]] = {}
        "Raw rows of inputs, where the recipe alone says them."
        stage = self.state.get("stage", 0)
        self.imported = directory.record().get("state") == IMPORTED
        if self.imported:
            outline = self.loaded.outline
            self.sets, self.shapes = stand_in(self.recipe, outline), open_shapes(outline)
            self.table = Table(self.sets.train)
        else:
            self.table = open_table(self.recipe, self.folder, options)
            self.sets = divide(self.recipe, self.table)
            outline = real_outlines(self.recipe, self.table)[stage]
        self.recipe = self.recipe.stages()[stage]
        sample = self.sets.train.take(slice(0, 1))
        self.device = choose_device(options.device)
        with blank():
            self.built: Built = build(self.recipe, outline, sample, self.device, self.state["preprocessing"])
        load_weights(self.built, self.model)
        set_threads(1 << 30)
        steps_by = directory.record().get("steps_by", "")
        if "compiled" in steps_by and on("compiled") and on("hand"):
            # As the run itself computed.
            with suppress(Uncompiled):
                compile_layers(self.built.network, alone=steps_by.startswith("autograd"), trains=False)

    def rows(self, split: str) -> Rows:
        """The rows of a part of the run's own data.

        Raises:
            RunError: the run has no such part.
        """
        if self.imported:
            hint = "--data FILE for an .npz file with arrays called as the recipe's inputs and targets"
            raise RunError("an imported model has no rows of its own", hint=hint)
        changed = check_data(self.directory.record(), self.table)
        if changed:
            hint = "`trainer fit` the recipe on the new data, or put the old back"
            raise RunError(
                f"these are not the rows that the run was made with: changed are {', '.join(changed)}", hint=hint
            )
        rows = getattr(self.sets, split, None)
        if rows is None:
            raise RunError(f"the run has no {split} rows", hint="--split train, or --data FILE for rows from elsewhere")
        return rows

    def predict(self, columns: Sequence[Column], layers: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """The model's outputs by name for raw inputs, row for row; `layers` asks for what these make instead."""
        want = [self._tensor(name) for name in layers] or None
        found = predict(self.built.network, self.built.slots(columns), want=want)
        return dict(zip(layers or self.built.graph.outputs, found, strict=True))

    def _tensor(self, layer: str) -> int:
        graph = self.built.graph
        number = graph.tensor(layer)
        if number is None:
            hint = nearest(layer, graph.layers) or f"the layers are {', '.join(graph.layers)}"
            raise RunError(f'the model has no layer "{layer}"', hint=hint)
        if isinstance(graph.shapes[number], list):
            count = len(graph.shapes[number])
            raise RunError(f"{layer} makes {count} tensors, but one is needed", hint="name a layer that reads them")
        return number

    def class_names(self, count: int, output: int = 0) -> list[str]:
        """Names of the classes of an output: the source's, or their numbers."""
        known = list(self.built.outline.targets.values())[output].classes
        if known is not None and len(known) >= count:
            return list(known[:count])
        return [str(n) for n in range(count)]

    def unit_name(self, output: int = 0) -> str:
        """What a single unit that chooses between two classes tells the chance of: the second one, or the target."""
        known = list(list(self.built.outline.targets.values())[output].classes or [])
        return known[1] if len(known) == 2 and not known[1].isdecimal() else self.target_name(output)

    def is_classifier(self, output: int = 0) -> bool:
        """Whether the loss of an output chooses among classes."""
        return self.loss(output).targets in ("one_hot", "integer", "binary")

    def loss(self, output: int = 0) -> Loss:
        """The loss of an output."""
        return list(self.built.objective.goals.values())[output].loss

    def target_name(self, output: int = 0) -> str:
        """Name of what an output is held against."""
        return list(self.built.outline.targets)[output]


def other_rows(run: OpenRun, file: Path, split: str = "train") -> Rows:
    """Rows of another file that looks like the run's own source: its test rows, where it has some and `split` asks.

    Raises:
        FileError: the source reads no such files.
    """
    source = run.recipe.dataset.source
    if "path" not in type(source).model_fields:
        raise FileError(
            f"{type(source).__name__.lower()} is a named data set; it reads no other file", hint="--split test"
        )
    moved = source.model_copy(update={"path": str(file.resolve())})
    table = run.loaded.recipe.dataset.model_copy(update={"source": moved}).source.open(
        replace_places(run.options, run.folder)
    )
    return table.train if split != "test" or table.test is None else table.test


def replace_places(options: Options, folder: Path) -> Any:
    """Where the files of a run are looked for."""
    from trainer.sources.base import Places

    return replace(Places(folder, options.data), download=options.download)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities made sharper (below 1) or flatter (above 1): exp(log(p) / T), normalised over the last axis."""
    logits = np.log(np.clip(probabilities.astype("float64"), 1e-300, None))
    logits -= logits.max(-1, keepdims=True)
    # Of a temperature next to 0 all but the largest may go to minus infinity, which stands for none; the smallest
    # numbers are 0 where denormals are.
    with np.errstate(over="ignore"):
        scaled = np.exp(logits / max(temperature, np.finfo("float64").tiny))
    return (scaled / scaled.sum(-1, keepdims=True)).astype(probabilities.dtype)
