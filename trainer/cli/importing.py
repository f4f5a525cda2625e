"""import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.common import PluginsOption, RunsOption, console, options, put, reply, say, session
from trainer.errors import RecipeError
from trainer.wording import clean

if TYPE_CHECKING:
    from trainer.keras_files.import_table import Row
    from trainer.keras_files.importing import Imported
    from trainer.keras_files.parity import Parity

ShapeOption = Annotated[
    str | None,
    typer.Option("--shape", metavar="28,28,1", help="Shape of one row, for a model saved before it had seen any."),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", help="File of the weights, when FILE describes the model alone.")
]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file that declares a class Keras lacks; repeatable.")
]
TheanoOption = Annotated[
    bool, typer.Option("--theano", help="A Keras 1 model that was trained on Theano: its kernels are turned round.")
]
AgainstOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--check-against", metavar="INPUT.npz OUTPUT.npz", help="Hold predictions against these; exit 1 if not equal."
    ),
]
WithOption = Annotated[
    str | None,
    typer.Option("--check-with", metavar="PYTHON", help="Hold predictions against the Keras of this Python."),
]


def import_(
    file: Annotated[Path, typer.Argument(help="A model file of Keras: .h5, .keras, .weights.h5, .json, .yaml.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the run; by default the file's.")] = None,
    weights: WeightsOption = None,
    shape: ShapeOption = None,
    plugin: PluginOption = None,
    theano: TheanoOption = False,
    check_against: AgainstOption = None,
    check_with: WithOption = None,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
) -> None:
    """Make a run of a model file of Keras, of any release, without Keras: a recipe, weights, and what was mapped.

    Example: trainer import mnist.h5 --check-against rows.npz predictions.npz
    """
    from trainer.keras_files.opening import Opening

    sizes, opening = shape_of(shape), Opening(file)
    # While a child process looks at the file, torch is imported.
    from trainer.keras_files.importing import Asked, import_file

    asked = Asked(file, name, sizes, weights, tuple(plugin or ()), theano)
    chosen = options(runs, None, "none", "cpu", plugins=plugins)
    made = import_file(asked, chosen, opening)
    if not session.quiet:
        show(made)
    if session.quiet or not sys.stdout.isatty():
        put(str(made.directory))
    label = f"{made.directory.parent.name}/{made.directory.name}"
    say(f"{made.directory}: recipe.yaml, model.h5")
    say(f"trainer predict {label} rows.npz   with {arrays(made.inputs)}")
    found = held(made, asked.file, check_against, check_with, chosen)
    for parity in found:
        put(str(parity))
    if not found:
        say("not compared yet: --check-against INPUT.npz OUTPUT.npz, or --check-with an interpreter that has Keras")
    answer = {**vars(made), "rows": [vars(row) for row in made.rows], "parity": [vars(p) for p in found]}
    reply(answer, ok=all(p.holds for p in found))
    if not all(p.holds for p in found):
        raise typer.Exit(1)


def shape_of(text: str | None) -> tuple[int | None, ...] | None:
    """`28,28,1` as a shape; `?` or `null` stands for a size that is open.

    Raises:
        RecipeError: it is none.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.strip("()[]").split(",") if word.strip()]
    if not words or not all(w in ("?", "null", "None") or (w.isdecimal() and 0 < int(w) < 2**31) for w in words):
        raise RecipeError(f"--shape: expected sizes such as 28,28,1, found {clean(text)}", hint="? leaves a size open")
    return tuple(int(w) if w.isdecimal() else None for w in words)


def held(made: Imported, file: Path, against: Any, python: str | None, chosen: Any) -> list[Parity]:
    """Predictions held against what was asked for."""
    if against is None and python is None:
        return []
    from trainer.keras_files.parity import against_file, against_keras
    from trainer.runs.directory import RunDirectory
    from trainer.train.use import OpenRun

    run = OpenRun(RunDirectory(made.directory), chosen)
    found = [] if against is None else [against_file(run, *against)]
    return (
        found
        if python is None
        else [*found, against_keras(run, file, sys.executable if python == "python" else python)]
    )


def arrays(inputs: dict[str, list[int | None]]) -> str:
    """`x of (rows, 28, 28, 1)` for each input."""
    told = (
        f"{clean(n)} of (rows, {', '.join('?' if s is None else str(s) for s in shape)})" for n, shape in inputs.items()
    )
    return " and ".join(told)


def show(made: Imported) -> None:
    """The table of what was mapped, and what is to be known of it."""
    if not session.json:
        table(made.rows)
    version = f" of Keras {clean(made.version)}" if made.version else ""
    state = ", with the optimizer's state" if made.optimizer else ""
    put(f"{made.kind}{version}: {len(made.rows)} layers, {made.parameters:,} parameters{state}")
    for note in made.notes:
        say(f"note: {note}")
    for warning in made.warnings:
        say(f"warning: {warning}")


def table(rows: list[Row]) -> None:
    """The layers on standard output."""
    from rich import box
    from rich.table import Table

    shown = Table("Layer", "In the file", "Here", box=box.SIMPLE_HEAD)
    shown.add_column("Weights", justify="right")
    shown.add_column("Params", justify="right")
    for heading in ("Output", "Notes"):
        shown.add_column(heading)
    for row in rows:
        inside = "/" in row.layer and not row.shape
        counts = ("", "") if inside else (str(row.weights), f"{row.parameters:,}")
        shown.add_row(clean(row.layer), clean(row.there), row.here, *counts, row.shape, clean("; ".join(row.notes)))
    console().print(shown)
