"""plot."""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.common import (
    DataOption,
    PluginsOption,
    RunsOption,
    SetOption,
    data_folder,
    put,
    reply,
)
from trainer.cli.inspecting import graph_of, loaded_of
from trainer.errors import EnvironmentFault, RecipeError, RunError

if TYPE_CHECKING:
    from trainer.report.diagram import Drawing
    from trainer.runs.directory import RunDirectory
    from trainer.runs.history import History


class What(StrEnum):
    """What is drawn."""

    curves = "curves"
    graph = "graph"


class Layout(StrEnum):
    """Who places the boxes of a graph."""

    auto = "auto"
    graphviz = "graphviz"
    builtin = "builtin"


def plot(
    targets: Annotated[list[str], typer.Argument(metavar="RECIPE|RUN", help="A recipe file, or runs.")],
    what: Annotated[
        What | None, typer.Option("--what", help="By default the graph of a recipe and the curves of runs.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE.svg|.png", help="Where to; by default plots/ of the run, or here."
        ),
    ] = None,
    layout: Annotated[
        Layout, typer.Option("--layout", help="Who places a graph's boxes; auto: Graphviz where it is installed.")
    ] = Layout.auto,
    expand: Annotated[bool, typer.Option("--expand", help="Draw models inside the model in frames.")] = False,
    sets: SetOption = None,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """Draw the model's graph, or curves of training; those of several runs lie over each other.

    Example: trainer plot recipes/mnist_cnn.yaml -o mnist_cnn.svg
    """
    recipes = [t for t in targets if is_recipe(t)]
    what = what or (What.graph if recipes else What.curves)
    check(what, targets, recipes, output)
    if what is What.curves:
        refuse_graph_flags(layout, expand, sets)
        found = curves(targets, runs, output)
    else:
        from trainer.report.diagram import draw
        from trainer.report.model_graph import of_graph

        loaded, folder = loaded_of(targets[0], sets or [], runs, plugins)
        drawing = draw(of_graph(graph_of(loaded, folder, data_folder(data)), expand=expand), layout.value)
        found = output or graph_place(targets[0], runs)
        save(found, picture(drawing, suffix(found)))
    put(str(found))
    reply({"what": what.value, "file": str(found), "of": targets})


def is_recipe(target: str) -> bool:
    """Whether a target is a recipe rather than a run, by the rule of `summary`."""
    return Path(target).is_file() or target.endswith((".yaml", ".yml"))


def check(what: What, targets: list[str], recipes: list[str], output: Path | None) -> None:
    """Refuse what can't be drawn before anything is opened.

    Raises:
        RecipeError: says what does not go together.
    """
    if what is What.curves and recipes:
        raise RecipeError(f"{recipes[0]} is a recipe, which has no curves", hint="`trainer fit` makes a run of it")
    if what is What.graph and len(targets) > 1:
        raise RecipeError(f"a graph is drawn of one recipe or run, found {len(targets)}", hint="plot them one by one")
    if output is not None:
        if output.suffix.lower() not in (".svg", ".png"):
            raise RecipeError(f'--output: expected a file name that ends in .svg or .png, found "{output}"')
        if not output.absolute().parent.is_dir():
            raise RecipeError(f"--output: there is no folder {output.absolute().parent}")


def refuse_graph_flags(layout: Layout, expand: bool, sets: list[str] | None) -> None:
    """Curves are what they are.

    Raises:
        RecipeError: a flag that only a graph takes.
    """
    given = {"--layout": layout is not Layout.auto, "--expand": expand, "--set": bool(sets)}
    for flag in (name for name, is_given in given.items() if is_given):
        raise RecipeError(f"{flag} is for graphs, not for curves", hint="add --what graph")


def suffix(path: Path) -> str:
    """`svg` or `png`."""
    return path.suffix.lower()[1:]


def picture(drawing: Drawing, kind: str) -> bytes:
    """A graph as the bytes of a file."""
    if kind == "svg":
        from trainer.report.svg import svg

        return svg(drawing).encode()
    need_matplotlib("a PNG", "SVG needs nothing: -o graph.svg, or ")
    from trainer.report.png import png

    return png(drawing)


def need_matplotlib(what: str, instead: str = "") -> None:
    """Curves and PNG are matplotlib's work.

    Raises:
        EnvironmentFault: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise EnvironmentFault(f"{what} needs matplotlib", hint=f"{instead}pip install 'recipe-trainer[plots]'")


def graph_place(target: str, runs: Path) -> Path:
    """Where a graph goes when no file is named: here for a recipe, under its plots for a run."""
    if is_recipe(target):
        return Path(Path(target).stem + ".svg")
    from trainer.runs.directory import RunDirectory

    return RunDirectory.find(runs, target).path / "plots" / "graph.svg"


def curves(targets: list[str], runs: Path, output: Path | None) -> Path:
    """Draw the curves of one run or of several; where they are."""
    from trainer.runs.directory import RunDirectory

    need_matplotlib("drawing curves")
    from trainer.report.plots import compared
    from trainer.report.plots import curves as alone

    directories = [RunDirectory.find(runs, target) for target in targets]
    # A run that is named twice is one run.
    histories = {directory.label: history(directory).values for directory in directories}
    place = output or (directories[0].path / "plots" / "curves.png" if len(histories) == 1 else Path("curves.png"))
    if len(histories) == 1:
        (label, values), *_ = histories.items()
        data = alone(values, title=label, format=suffix(place))
    else:
        data = compared(histories, format=suffix(place))
    save(place, data)
    return place


def history(directory: RunDirectory) -> History:
    """The history of a run.

    Raises:
        RunError: no epoch was finished yet.
    """
    from trainer.runs.history import History

    path = directory.path / "history.csv"
    found = History.from_csv(path.read_bytes()) if path.is_file() else History()
    if not found.epochs:
        raise RunError(
            f"{directory.label} has no finished epoch, so it has no curves", hint="--what graph draws its model"
        )
    return found


def save(path: Path, data: bytes) -> None:
    """Write the picture whole or not at all."""
    from trainer.runs.files import make_directory, write_atomic

    make_directory(path.absolute().parent)
    write_atomic(path, data)
