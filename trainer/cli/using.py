"""evaluate, predict."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.common import (
    DataOption,
    DeviceOption,
    PluginsOption,
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
    from rich.table import Table

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
    figures, predicted, truths = measure(opened, rows)
    for name, value in figures.items():
        put(f"{clean(name)} {number(value)}")
    result: dict[str, Any] = {"run": str(opened.directory.path), "rows": len(rows), "figures": figures}
    part = file.stem if file else split
    several = len(predicted) > 1
    for place, (output, made) in enumerate(predicted.items()):
        if opened.is_classifier(place) and not several_flags(opened, made.reshape(len(made), -1).shape[1], place):
            if several:
                put(f"{clean(output)}:")
            found = classes(opened, made, truths[place], f"{output}-{part}" if several else part, place)
            result |= {output: found} if several else found
    reply(result)


def measure(opened: OpenRun, rows: Any) -> tuple[dict[str, float], dict[str, numpy.ndarray], list[numpy.ndarray]]:
    """(loss and metrics, outputs by name, targets) on rows."""
    from trainer.train.scoring import evaluate as score

    built, fit = opened.built, opened.recipe.fit
    feed, kept = built.feed(rows), []
    size = fit.validation_batch_size or fit.batch_size
    figures = score(built.network, feed, built.objective, size, keep=kept)
    made = {n: np.concatenate(parts) for n, parts in zip(built.graph.outputs, zip(*kept, strict=True), strict=True)}
    return figures, made, [y.rows(slice(None)).cpu().numpy() for y in feed.ys]


def classes(
    opened: OpenRun, predicted: numpy.ndarray, truth: numpy.ndarray, part: str, place: int = 0
) -> dict[str, Any]:
    """Report per class and confusion matrix of an output, printed and drawn; `part` says of which rows."""
    from trainer.report.classes import class_report
    from trainer.train.predictions import choose, probabilities
    from trainer.train.rows import class_numbers

    if predicted.ndim > 2:
        return {}
    guessed, actual = choose(probabilities(opened, predicted, place)), class_numbers(truth)
    report = class_report(actual, guessed, opened.class_names(max(int(actual.max()), int(guessed.max())) + 1, place))
    if not session.quiet and not session.json:
        show(report)
    picture = draw(opened, report, part)
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
        matrix, unbounded = crossed(report), out.options.update(max_width=1 << 16)
        fits = out.measure(matrix, options=unbounded).maximum <= out.width
        out.print(matrix if fits else crossed(report, numbered=True))


def crossed(report: ClassReport, *, numbered: bool = False) -> Table:
    """The confusion matrix as a table; `numbered` writes numbers over the columns, and beside the names of the rows."""
    from rich import box
    from rich.table import Table

    names = [clean(name) for name in report.names]
    rows = [f"{i} {name}" for i, name in enumerate(names)] if numbered else names
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("truth \\ predicted", overflow="fold")
    for i, name in enumerate(names):
        table.add_column(str(i) if numbered else name, justify="right", no_wrap=True)
    for name, counts in zip(rows, report.matrix.tolist(), strict=True):
        table.add_row(name, *(str(c) if c else "·" for c in counts))
    return table


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
    int | None, typer.Option("--top-k", min=1, help="The K likeliest classes, or sequences, with their probabilities.")
]
DecodeOption = Annotated[
    str | None,
    typer.Option("--decode", metavar="greedy|beam", help="The sequence that a CTC model reads in each row."),
]
BeamOption = Annotated[
    int | None, typer.Option("--beam-width", min=1, help="Beginnings that --decode beam keeps; 100 by default.")
]
TemperatureOption = Annotated[float, typer.Option("--temperature", help="Sharpen (<1) or flatten (>1) probabilities.")]
LayerOption = Annotated[
    list[str] | None, typer.Option("--layer", help="What this layer makes instead of the model's output; repeatable.")
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
    decode: DecodeOption = None,
    beam_width: BeamOption = None,
    output: OutputOption = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """Predict for raw rows, in their order: CSV on standard output, or a file.

    Example: trainer predict last rows.csv --classes
    """
    import numpy as np

    from trainer.runs.directory import RunDirectory
    from trainer.train.predictions import Asked, columns_of, write
    from trainer.train.reading import read_inputs
    from trainer.train.use import OpenRun

    layers = layer or []
    asked = Asked(show_classes, proba, top_k, temperature, layers, decode, beam_width)
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
        found = [opened.predict(opened.built.columns(opened.rows(split)), layers)]
    else:
        found = [opened.predict(read_inputs(opened, name, content(name)), layers) for name in inputs or []]
    whole = output is not None and output.suffix == ".npz"
    made = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    table = columns_of(opened, made, asked, whole=whole)
    write(table, output, None if session.json else sys.stdout)
    count = len(next(iter(made.values())))
    if output is not None:
        say(f"{count} rows: {output}")
    reply({"rows": count, "output": str(output) if output else None, "columns": as_lists(table, output)})


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
