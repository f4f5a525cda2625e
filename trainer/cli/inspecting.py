"""summary, weights, runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.common import (
    DataOption,
    PluginsOption,
    RunsOption,
    SetOption,
    console,
    data_folder,
    options,
    put,
    reply,
    say,
    session,
)
from trainer.errors import RecipeError, nearest
from trainer.wording import clean, number

if TYPE_CHECKING:
    from trainer.layers.graph import Graph
    from trainer.recipe.load import Loaded
    from trainer.recipe.schema import Recipe


def summary(
    target: Annotated[str, typer.Argument(help="A recipe file, or a run.")],
    sets: SetOption = None,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """The layer table with output shapes and parameters, as Keras prints it.

    Example: trainer summary recipes/mnist_cnn.yaml
    """
    from trainer.model.summary import bytes_text, summarize

    loaded, folder = loaded_of(target, sets or [], runs, plugins)
    made = summarize(graph_of(loaded, folder, data_folder(data)))
    if not session.json:
        table(made)
    put(f"Total params: {made.parameters:,} ({bytes_text(made.parameters)})")
    put(f"Trainable params: {made.trainable:,} ({bytes_text(made.trainable)})")
    put(f"Non-trainable params: {made.fixed:,} ({bytes_text(made.fixed)})")
    phases = trainable_in_phases(loaded.recipe)
    for name, count in phases.items():
        put(f"Trainable in {name[0].lower()}{name[1:]}: {count:,}")
    lines = [vars(line) for line in made.lines]
    found = {"layers": lines, "parameters": made.parameters, "trainable": made.trainable, "fixed": made.fixed}
    reply(found | ({"phases": phases} if phases else {}))


def trainable_in_phases(recipe: Recipe) -> dict[str, int]:
    """How many parameters each phase moves, as far as shapes are known without the data."""
    from trainer.model.summary import summarize
    from trainer.recipe.check import outlines
    from trainer.recipe.phases import phase_name

    graphs = [outline.graph for outline in outlines(recipe)] if recipe.phases else []
    named = ((phase_name(recipe.phases, number), graph) for number, graph in enumerate(graphs))
    return {name: summarize(graph).trainable for name, graph in named if graph is not None}


def table(made: Any) -> None:
    """The table on standard output."""
    from rich.table import Table

    rows = Table("Layer (type)", "Output Shape", title=f"Model: {clean(made.name)}")
    rows.add_column("Param #", justify="right")
    if not made.chain:
        rows.add_column("Connected to")
    for line in made.lines:
        reads = [] if made.chain else [clean(", ".join(line.connected)) or "-"]
        rows.add_row(f"{clean(line.name)} ({line.kind})", line.shape, f"{line.parameters:,}", *reads)
    console().print(rows)


def loaded_of(target: str, sets: list[str], runs: Path, plugins: bool) -> tuple[Loaded, Path]:
    """(the recipe of a file or a run, the folder that its paths count from)."""
    from trainer.recipe.load import load_recipe
    from trainer.runs.directory import RunDirectory, finder

    path = Path(target)
    if not path.is_file() and not target.endswith((".yaml", ".yml")):
        from trainer.train.identity import source_folder

        directory = RunDirectory.find(runs, target)
        path = directory.path / "resolved.yaml"
        return load_recipe(path, sets, allow_plugins=plugins), source_folder(directory)
    return load_recipe(path, sets, allow_plugins=plugins, find_run=finder(runs)), path.parent


def graph_of(loaded: Loaded, folder: Path, data: Path | None) -> Graph:
    """The graph with its shapes; the data are opened only when the recipe alone does not tell them."""
    if loaded.outline.graph is not None:
        return loaded.outline.graph
    say("the shapes depend on the data; opening them")
    from trainer.train.build import build, real_outlines
    from trainer.train.devices import choose_device
    from trainer.train.rows import divide
    from trainer.train.terms import Options, open_table

    table = open_table(loaded.recipe, folder, Options(data=data))
    rows = divide(loaded.recipe, table).train
    return build(loaded.recipe, real_outlines(loaded.recipe, table)[0], rows, choose_device("cpu")).graph


def weights(
    run: Annotated[str, typer.Argument(help="A run: its path, its name (the newest), or `last`.")] = "last",
    layer: Annotated[str | None, typer.Option("--layer", help="Only this layer.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Print the numbers too (long arrays are cut).")] = False,
    picture: Annotated[bool, typer.Option("--plot", help="Write histograms under the run's plots.")] = False,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """Weights and biases per layer: shapes, mean, spread, extremes, and the values.

    Example: trainer weights last --layer dense --values
    """
    import numpy as np

    from trainer.runs.directory import RunDirectory
    from trainer.runs.model_file import read_model
    from trainer.runs.saved import model_path
    from trainer.train.identity import source_folder
    from trainer.train.job import reloaded

    directory = RunDirectory.find_usable(runs, run)
    chosen = options(runs, data, "none", "cpu", plugins=plugins)
    graph = graph_of(reloaded(directory, chosen), source_folder(directory), data_folder(data))
    if layer is not None and layer not in graph.layers:
        hint = nearest(layer, graph.layers) or f"the layers are {', '.join(graph.layers)}"
        raise RecipeError(f'the model has no layer "{layer}"', hint=hint)
    found: dict[str, Any] = {}
    arrays = {}
    for name, held in read_model(model_path(directory, None)).weights.items():
        if layer is not None and name != layer:
            continue
        for path, array in zip(graph.weights_of(name), held, strict=True):
            arrays[path] = array
            found[path] = {"shape": list(array.shape), **statistics(array)}
    if not session.json:
        weight_table(found)
    if values:
        for key, array in arrays.items():
            put(f"{clean(key)}\n{np.array2string(array, precision=4, threshold=200)}")
            found[key]["values"] = array.tolist()
    if picture:
        from trainer.report.plots import distributions

        directory.write("plots/weights.png", distributions(arrays))
        say(f"histograms: {directory.path / 'plots' / 'weights.png'}")
    reply(found)


def statistics(array: Any) -> dict[str, float]:
    """Mean, standard deviation and extremes."""
    if array.size == 0:
        return {}
    low, high = float(array.min()), float(array.max())
    return {"mean": float(array.mean()), "std": float(array.std()), "min": low, "max": high}


def weight_table(found: dict[str, Any]) -> None:
    """The statistics on standard output."""
    from rich.table import Table

    rows = Table("Weight", "Shape")
    for heading in ("mean", "std", "min", "max"):
        rows.add_column(heading, justify="right")
    for name, facts in found.items():
        shape = "×".join(map(str, facts["shape"])) or "scalar"
        rows.add_row(clean(name), shape, *(number(facts[k]) for k in ("mean", "std", "min", "max") if k in facts))
    console().print(rows)


def report(
    run: Annotated[str, typer.Argument(help="A run: its path, its name (the newest), or `last`.")] = "last",
    runs: RunsOption = Path("runs"),
) -> None:
    """Write a run's curves and its page `report.html` again, and say where it is.

    Example: trainer report last
    """
    from trainer.runs.directory import RunDirectory
    from trainer.train.pictures import present

    directory = RunDirectory.find(runs, run)
    present(directory)
    put(str(directory.path / "report.html"))
    reply({"report": str(directory.path / "report.html")})


def runs(
    name: Annotated[str | None, typer.Argument(help="Only runs of this name.")] = None,
    root: RunsOption = Path("runs"),
) -> None:
    """List runs: state, epochs, test figures, time.

    Example: trainer runs digits
    """
    from rich.table import Table

    from trainer.errors import RunError
    from trainer.runs.directory import list_runs, run_names
    from trainer.runs.lock import is_held

    if name is not None and name not in run_names(root):
        raise RunError(f"there is no run {name!r} in {root}", hint=nearest(name, run_names(root)), code="unknown-run")
    rows = Table("Run", "State", "Best epoch", "Figures", "Seconds")
    found, lines = [], []
    for directory in list_runs(root, name):
        record = directory.record()
        if record.get("state") == "running" and not is_held(directory.path):
            record["state"] = "killed"
        figures = {k: v for k, v in record.get("figures", {}).items() if k.startswith(("test.", "folds."))}
        text = "  ".join(f"{k} {number(float(v))}" for k, v in figures.items())
        seconds = str(record.get("seconds", ""))
        best = record.get("best_epoch")
        cells = [clean(directory.label), str(record.get("state", "?")), str(best or ""), clean(text), seconds]
        rows.add_row(*cells)
        lines.append("\t".join(cells))
        found.append({"run": str(directory.path), **record})
    if sys.stdout.isatty() and not session.json:
        console().print(rows)
    else:
        for line in lines:
            put(line)
    reply(found)
