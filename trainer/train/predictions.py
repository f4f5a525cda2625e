"""What a prediction is written as: outputs, probabilities, classes or likeliest classes; CSV, JSONL, NPZ, Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from trainer.errors import EnvironmentFault, RecipeError
from trainer.losses.sequence import CTC
from trainer.recipe.loss_check import last_activation
from trainer.runs.files import write_atomic
from trainer.train.decoding import decoded_columns
from trainer.train.use import OpenRun, tempered

if TYPE_CHECKING:
    from numpy import ndarray

Columns = dict[str, "ndarray"]
BEAM_WIDTH = 100
"Keras's default."


@dataclass
class Asked:
    """What the user wants to see of each row."""

    classes: bool = False
    proba: bool = False
    top_k: int | None = None
    temperature: float = 1.0
    layers: Sequence[str] = ()
    decode: str | None = None
    "How the steps of a CTC model become a sequence: greedy or beam; then `top_k` is how many sequences."
    beam_width: int | None = None

    def check(self) -> None:
        """Refuse combinations that mean nothing.

        Raises:
            RecipeError: for example a temperature that is not above 0.
        """
        if self.decode not in (None, "greedy", "beam"):
            raise RecipeError(f'--decode: expected greedy or beam, found "{self.decode}"')
        if self.beam_width is not None and self.decode != "beam":
            raise RecipeError("--beam-width is for --decode beam")
        if self.decode and (self.classes or self.proba or self.layers or self.temperature != 1.0):
            message = "--decode gives sequences; of the other choices only --top-k goes with it, for several of them"
            raise RecipeError(message, hint="leave --classes, --proba, --temperature and --layer out")
        if not self.temperature > 0:
            raise RecipeError(f"--temperature: expected a number above 0, found {self.temperature:g}")
        if self.layers and self.chances:
            raise RecipeError("--layer gives a layer's output as it is; the other choices need the model's own output")
        if self.classes and self.top_k:
            raise RecipeError("choose either --classes or --top-k")

    @property
    def chances(self) -> bool:
        """Whether probabilities are needed."""
        return self.proba or self.classes or self.top_k is not None or self.temperature != 1.0


def columns_of(run: OpenRun, made: Mapping[str, ndarray], asked: Asked, *, whole: bool = False) -> Columns:
    """Named columns, one entry a row; `whole` asks for arrays in their own shape: of layers, of pictures, of series.

    Columns of a model with several outputs begin with the output's name, as do those of several layers.
    """
    if asked.layers:
        return _of_layers(made, whole=whole)
    if asked.decode and not any(isinstance(run.loss(i), CTC) for i in range(len(made))):
        losses = ", ".join(dict.fromkeys(type(run.loss(i)).__name__ for i in range(len(made))))
        message = f"--decode reads the steps of a model that learned with the loss CTC; this one learned with {losses}"
        raise RecipeError(message, hint="leave --decode out")
    if asked.chances and not any(run.is_classifier(i) for i in range(len(made))):
        raise RecipeError("the run predicts numbers, not classes", hint="leave --classes, --proba and --top-k out")
    found: Columns = {}
    for place, (name, outputs) in enumerate(made.items()):
        if whole and outputs.ndim > 2 and not asked.chances and not asked.decode:
            found[name if len(made) > 1 else run.target_name(place)] = outputs
            continue
        of_one = _of_output(run, place, outputs, asked)
        found |= of_one if len(made) == 1 else {_under(name, column): v for column, v in of_one.items()}
    return found


def _under(output: str, column: str) -> str:
    return column if column == output else f"{output}_{column}"


def _of_layers(made: Mapping[str, ndarray], *, whole: bool) -> Columns:
    if whole:
        return dict(made)
    flat = {name: values.reshape(len(values), -1) for name, values in made.items()}
    lead = {name: f"{name}_" if len(made) > 1 else "" for name in made}
    return {f"{lead[n]}y{i}": values[:, i] for n, values in flat.items() for i in range(values.shape[1])}


def _of_output(run: OpenRun, place: int, outputs: ndarray, asked: Asked) -> Columns:
    """The columns of one output; what is asked of classes leaves an output of numbers as it is."""
    flat = outputs.reshape(len(outputs), -1)
    if asked.decode and isinstance(run.loss(place), CTC):
        names = run.class_names(outputs.shape[-1], place)
        return decoded_columns(outputs, asked.decode, asked.beam_width or BEAM_WIDTH, asked.top_k or 1, names)
    if asked.decode:
        asked = Asked()
    if not run.is_classifier(place):
        names = [run.target_name(place)] if flat.shape[1] == 1 else None
        return {names[0] if names else f"y{i}": flat[:, i] for i in range(flat.shape[1])}
    chances = probabilities(run, outputs, place) if asked.chances else outputs
    each_alone = several_flags(run, flat.shape[1], place)
    if each_alone and (asked.classes or asked.top_k):
        message = f"each of the {flat.shape[1]} units says yes or no on its own, so there is no one class"
        raise RecipeError(message, hint="--proba gives the probability of each")
    if asked.temperature != 1.0:
        chances = _tempered(chances, asked.temperature, each_alone)
    if chances.ndim > 2 and not each_alone:
        return _at_places(run, chances, asked, place)
    if asked.classes:
        names = run.class_names(max(2, flat.shape[1]), place)
        return {"class": np.asarray([names[i] for i in choose(chances)], dtype=object)}
    if asked.top_k:
        return _top(run, chances, asked.top_k, place)
    flat = chances.reshape(len(chances), -1)
    names = run.class_names(flat.shape[1], place) if flat.shape[1] > 1 else [run.unit_name(place)]
    return {names[i]: flat[:, i] for i in range(flat.shape[1])}


def _at_places(run: OpenRun, chances: ndarray, asked: Asked, place: int) -> Columns:
    """The columns of an output that chooses a class at each of a row's places: `answer_0`, or `0_yes` and `0_no`."""
    names, target = run.class_names(chances.shape[-1], place), run.target_name(place)
    spots = ["_".join(map(str, spot)) for spot in np.ndindex(chances.shape[1:-1])]
    if asked.top_k:
        message = f"--top-k is for one class a row; here each row has {len(spots)} places with a class each"
        raise RecipeError(message, hint="--classes gives the class of each place, --proba all probabilities")
    each = chances.reshape(len(chances), len(spots), -1)
    if asked.classes:
        best = np.asarray(names, dtype=object)[each.argmax(-1)]
        return {f"{target}_{spot}": best[:, i] for i, spot in enumerate(spots)}
    return {f"{spot}_{name}": each[:, i, j] for i, spot in enumerate(spots) for j, name in enumerate(names)}


def probabilities(run: OpenRun, outputs: ndarray, place: int = 0) -> ndarray:
    """An output of the model as probabilities: unchanged after a sigmoid or softmax, made so from raw scores."""
    graph = run.built.graph
    if last_activation(graph, list(graph.outputs.values())[place]) in ("sigmoid", "softmax"):
        return outputs
    if run.loss(place).targets == "binary":
        return (1 / (1 + np.exp(-outputs.astype("float64")))).astype(outputs.dtype)
    scores = np.exp(outputs - outputs.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def several_flags(run: OpenRun, units: int, place: int = 0) -> bool:
    """Whether the outputs are several flags, any number of which may be set."""
    return run.loss(place).targets == "binary" and units > 1


def _tempered(chances: ndarray, temperature: float, each_alone: bool) -> ndarray:
    if chances.shape[-1] > 1 and not each_alone:
        return tempered(chances, temperature)
    return tempered(np.stack([1 - chances, chances], -1), temperature)[..., 1]


def choose(chances: ndarray) -> ndarray:
    """Class number of each row: the largest probability, or above one half for a single unit."""
    flat = chances.reshape(len(chances), -1)
    return flat.argmax(1) if flat.shape[1] > 1 else (flat[:, 0] > 0.5).astype("int64")


def _top(run: OpenRun, chances: ndarray, k: int, place: int) -> Columns:
    flat = chances.reshape(len(chances), -1)
    if flat.shape[1] == 1:
        flat = np.concatenate([1 - flat, flat], 1)
    if k > flat.shape[1]:
        raise RecipeError(f"--top-k: expected at most {flat.shape[1]}, the number of classes, found {k}")
    names = np.asarray(run.class_names(flat.shape[1], place), dtype=object)
    order = np.argsort(-flat, axis=1, kind="stable")[:, :k]
    columns: Columns = {}
    for rank in range(k):
        columns[f"class_{rank + 1}"] = names[order[:, rank]]
        columns[f"probability_{rank + 1}"] = np.take_along_axis(flat, order, 1)[:, rank]
    return columns


def write(columns: Columns, path: Path | None, stream: TextIO | None) -> None:
    """Write columns to a file by its ending, or as CSV to a stream.

    Raises:
        RecipeError: an ending that is not known.
        EnvironmentFault: Parquet without pyarrow.
    """
    if path is None:
        if stream is not None:
            stream.write(csv_text(columns))
        return
    writers = {".csv": _csv_bytes, ".jsonl": _json_lines, ".npz": _npz, ".parquet": _parquet}
    if path.suffix not in writers:
        raise RecipeError(f"{path}: expected a name that ends in .csv, .jsonl, .npz or .parquet")
    write_atomic(path, writers[path.suffix](columns))


def csv_text(columns: Columns) -> str:
    """CSV with a header; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_cell(name) for name in columns])
    for row in zip(*(c.tolist() for c in columns.values()), strict=True):
        writer.writerow([_cell(v) for v in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _csv_bytes(columns: Columns) -> bytes:
    return csv_text(columns).encode()


def _json_lines(columns: Columns) -> bytes:
    rows = zip(*(c.tolist() for c in columns.values()), strict=True)
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode()


def _npz(columns: Columns) -> bytes:
    out = io.BytesIO()
    arrays = {k: v.astype(str) if v.dtype == object else v for k, v in columns.items()}
    np.savez(out, **arrays)  # pyright: ignore[reportArgumentType]
    return out.getvalue()


def _parquet(columns: Columns) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EnvironmentFault("Parquet needs pyarrow", hint="pip install 'recipe-trainer[data]'") from None
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({k: list(v) for k, v in columns.items()}), out)
    return out.getvalue()
