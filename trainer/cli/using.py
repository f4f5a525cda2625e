"""evaluate, predict."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.common import (
    DebugOption,
    DeviceOption,
    JsonOption,
    PluginsOption,
    QuietOption,
    RunsOption,
    console,
    options,
    put,
    reply,
    say,
    session,
)
from trainer.errors import DataError, FileError, RecipeError
from trainer.lazy import np
from trainer.wording import clean, number

if TYPE_CHECKING:
    import numpy

    from trainer.report.classes import ClassReport
    from trainer.train.use import OpenRun

RunArgument = Annotated[str, typer.Argument(help="A run: its path, its name (the newest), or `last`.")]
CheckpointOption = Annotated[
    str | None, typer.Option("--checkpoint", metavar="last|best|FILE", help="Which saved model; by default the last.")
]
EvaluateData = Annotated[
    Path | None,
    typer.Option("--data", envvar="TRAINER_DATA", help="A file of rows like the run's own, or the data folder."),
]


def evaluate(
    run: RunArgument = "last",
    data: EvaluateData = None,
    split: Annotated[str, typer.Option("--split", metavar="test|validation|train", help="Which rows.")] = "test",
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Loss and metrics of a run on rows; for classes a report each and the confusion matrix, also as a picture.

    Example: trainer evaluate last --split test
    """
    if split not in ("test", "validation", "train"):
        raise RecipeError(f'--split: expected test, validation or train, found "{split}"')
    from trainer.runs.directory import RunDirectory
    from trainer.train.predictions import several_flags
    from trainer.train.use import OpenRun, other_rows

    file = data if data is not None and data.is_file() else None
    folder = Path(os.environ["TRAINER_DATA"]) if file and os.environ.get("TRAINER_DATA") else None
    chosen = options(runs, folder if file else data, "none", device, plugins=plugins)
    opened = OpenRun(RunDirectory.find_usable(runs, run), chosen, checkpoint)
    rows = other_rows(opened, file, split) if file else opened.rows(split)
    figures, predicted, truth = measure(opened, rows)
    for name, value in figures.items():
        put(f"{clean(name)} {number(value)}")
    result: dict[str, Any] = {"run": str(opened.directory.path), "rows": len(rows), "figures": figures}
    if opened.is_classifier() and not several_flags(opened, predicted.reshape(len(predicted), -1).shape[1]):
        result |= classes(opened, predicted, truth, file.stem if file else split)
    reply(result)


def measure(opened: OpenRun, rows: Any) -> tuple[dict[str, float], numpy.ndarray, numpy.ndarray]:
    """(loss and metrics, outputs, targets) on rows."""
    from trainer.train.scoring import evaluate as score

    built, fit = opened.built, opened.recipe.fit
    feed, kept = built.feed(rows), []
    size = fit.validation_batch_size or fit.batch_size
    figures = score(built.network, feed, built.objective, size, keep=kept)
    return figures, np.concatenate(kept), feed.y.rows(slice(None)).cpu().numpy()


def classes(opened: OpenRun, predicted: numpy.ndarray, truth: numpy.ndarray, split: str) -> dict[str, Any]:
    """Report per class and confusion matrix, printed and drawn."""
    from trainer.report.classes import class_report
    from trainer.train.predictions import choose, probabilities
    from trainer.train.rows import class_numbers

    guessed, actual = choose(probabilities(opened, predicted)), class_numbers(truth)
    if predicted.ndim > 2:
        return {}
    report = class_report(actual, guessed, opened.class_names(max(int(actual.max()), int(guessed.max())) + 1))
    if not session.quiet and not session.json:
        show(report)
    picture = draw(opened, report, split)
    if picture:
        from trainer.report.page import page

        opened.directory.write("report.html", page(opened.directory))
        say(f"confusion matrix: {picture}")
    return {"classes": list(report.names), "confusion": report.matrix.tolist(), "picture": picture}


def show(report: ClassReport) -> None:
    """The report as tables on the terminal."""
    from rich import box
    from rich.table import Table

    table = Table("class", box=box.SIMPLE_HEAD)
    for heading in ("precision", "recall", "f1", "rows"):
        table.add_column(heading, justify="right")
    for row in report.rows():
        table.add_row(clean(row[0]), *(f"{v:.4f}" for v in row[1:4]), str(row[4]))
    out = console()
    out.print(table)
    if len(report.names) <= 12:
        matrix = Table("truth \\ predicted", box=box.SIMPLE_HEAD)
        for name in report.names:
            matrix.add_column(clean(name)[:10], justify="right")
        for name, counts in zip(report.names, report.matrix.tolist(), strict=True):
            matrix.add_row(clean(name), *(str(c) if c else "·" for c in counts))
        out.print(matrix)


def draw(opened: OpenRun, report: ClassReport, split: str) -> str | None:
    """The confusion matrix as a picture under the run's plots; None without matplotlib."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        return None
    from trainer.report.plots import confusion

    name = f"plots/confusion-{split}.png"
    opened.directory.write(name, confusion(report.matrix, list(report.names)))
    return str(opened.directory.path / name)


SplitChoice = Annotated[
    str | None, typer.Option("--split", help="Rows of the run's own data: test, validation or train.")
]
ClassesOption = Annotated[bool, typer.Option("--classes", help="The class of each row instead of the outputs.")]
ProbaOption = Annotated[bool, typer.Option("--proba", help="Probabilities, also from a model that ends in raw scores.")]
TopOption = Annotated[
    int | None, typer.Option("--top-k", min=1, help="The K likeliest classes with their probabilities.")
]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Sharpen (<1) or flatten (>1) probabilities.")]
LayerOption = Annotated[
    str | None, typer.Option("--layer", help="What this layer makes instead of the model's output.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write: .csv, .jsonl, .npz or .parquet.")
]


def predict(
    run: RunArgument,
    inputs: Annotated[list[str] | None, typer.Argument(help="Files of raw rows, or `-` for standard input.")] = None,
    split: SplitChoice = None,
    show_classes: ClassesOption = False,
    proba: ProbaOption = False,
    top_k: TopOption = None,
    temperature: TemperatureOption = 1.0,
    layer: LayerOption = None,
    output: OutputOption = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: Annotated[Path | None, typer.Option("--data", envvar="TRAINER_DATA", help="The data folder.")] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Predict for raw rows, in their order: CSV on standard output, or a file.

    Example: trainer predict last rows.csv --classes
    """
    import numpy as np

    from trainer.runs.directory import RunDirectory
    from trainer.train.feed import read_column
    from trainer.train.predictions import Asked, columns_of, write
    from trainer.train.use import OpenRun, read_input

    asked = Asked(show_classes, proba, top_k, temperature, layer)
    asked.check()
    if split is not None and inputs:
        raise RecipeError(f"predict takes either files of rows or --split {split}, not both")
    if not inputs and split is None:
        raise RecipeError("predict needs files of rows, or --split", hint="trainer predict last rows.csv")
    if split not in (None, "test", "validation", "train"):
        raise RecipeError(f'--split: expected test, validation or train, found "{split}"')
    opened = OpenRun(
        RunDirectory.find_usable(runs, run), options(runs, data, "none", device, plugins=plugins), checkpoint
    )
    if split is not None:
        found = [opened.predict(read_column(opened.rows(split), opened.built.outline.input), layer)]
    else:
        found = [opened.predict(read_input(opened, name, content(name)), layer) for name in inputs or []]
    whole = output is not None and output.suffix == ".npz"
    table = columns_of(opened, np.concatenate(found), asked, whole=whole)
    write(table, output, None if session.json else sys.stdout)
    if output is not None:
        say(f"{sum(map(len, found))} rows: {output}")
    reply({"rows": sum(map(len, found)), "output": str(output) if output else None, "columns": as_lists(table, output)})


def as_lists(table: dict[str, Any], output: Path | None) -> Any:
    """The predictions themselves in the JSON answer, unless a file holds them."""
    return None if output is not None or not session.json else {k: v.tolist() for k, v in table.items()}


def content(name: str) -> bytes:
    """A file's bytes, or standard input's for `-`.

    Raises:
        FileError: there is no such file.
    """
    if name == "-":
        return sys.stdin.buffer.read()
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise FileError(f"{name}: {error.strerror}") from None
    if not data:
        raise DataError(f"{name}: the file is empty")
    return data
