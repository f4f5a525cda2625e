"""validate, reproduce."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.common import (
    DataOption,
    DeviceOption,
    PluginsOption,
    ProgressOption,
    RunsOption,
    SetOption,
    options,
    put,
    reply,
    say,
    session,
)
from trainer.errors import Problem, RecipeError, TrainerError
from trainer.wording import clean

if TYPE_CHECKING:
    from trainer.train.reproduce import Verdict


class Format(StrEnum):
    """How `validate` prints what it found."""

    text = "text"
    json = "json"
    github = "github"


def validate(
    recipes: Annotated[list[Path], typer.Argument(help="Recipe files.")],
    sets: SetOption = None,
    output_format: Annotated[
        Format, typer.Option("--output-format", help="text, json, or GitHub annotations.")
    ] = Format.text,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
) -> None:
    """Check recipes: every error at once, with shapes inferred layer by layer; needs neither torch nor data.

    Example: trainer validate recipes/*.yaml
    """
    from trainer.recipe.load import load_recipe
    from trainer.runs.directory import finder

    session.json = session.json or output_format is Format.json
    problems: list[Problem] = []
    sound = []
    for recipe in recipes:
        try:
            loaded = load_recipe(recipe, sets or [], allow_plugins=plugins, find_run=finder(runs))
        except RecipeError as error:
            problems += error.problems
            continue
        graph = loaded.outline.graph
        shapes = "" if graph is None else f", output {', '.join(map(str, graph.output_shapes))}"
        sound.append({"recipe": str(recipe), "layers": len(loaded.recipe.model.layers)})
        count = len(loaded.recipe.model.layers)
        say(f"{recipe}: sound, {count} {'layer' if count == 1 else 'layers'}{shapes}")
        if graph is None:
            say(f"{recipe}: shapes will be known when the data are opened; model.input_shape tells them now")
    if problems and output_format is Format.github:
        for problem in problems:
            put(annotation(problem))
        raise typer.Exit(2)
    if problems:
        raise RecipeError(*problems)
    reply({"recipes": sound})


def annotation(problem: Problem) -> str:
    """A problem as a workflow command, which shows it at its line of a pull request."""
    place = problem.place
    where = f" file={place.file},line={place.line},col={place.column}" if place else ""
    message = problem.message + (f" (try: {problem.hint})" if problem.hint else "")
    return f"::error{where}::" + clean(message).replace("%", "%25").replace("\n", "%0A")


def reproduce(
    targets: Annotated[list[str], typer.Argument(help="Recipe files or runs.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Train with so many seeds, for mean and spread.")] = 1,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write the verdicts as JUnit XML.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write what was measured into the recipe where it expects otherwise.")
    ] = False,
    sets: SetOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    progress: ProgressOption = "none",
) -> None:
    """Train again and hold the result against `expect` (a run: against its own figures); exit 1 when the answer is no.

    Example: trainer reproduce recipes/pima.yaml --seeds 3
    """
    from trainer.runs.files import write_atomic
    from trainer.train.reproduce import junit_xml, reproduce_one, updated

    if junit is not None and not junit.absolute().parent.is_dir():
        raise RecipeError(f"--junit: there is no folder {junit.absolute().parent}")
    if update:
        refuse_update(targets, sets)
    verdicts: list[Verdict] = []
    answers: list[dict[str, Any]] = []
    for target in targets:
        say(f"reproducing {target}")
        chosen = options(runs, data, progress, device, plugins=plugins)
        try:
            found = reproduce_one(target, chosen, seeds, sets or [])
        except TrainerError as error:
            if len(targets) == 1:
                raise
            from trainer.train.reproduce import Verdict as Made

            found = [Made(target, "runs", False, "to finish", str(error))]
        verdicts += found
        for verdict in found:
            put(f"{'ok  ' if verdict.holds else 'FAIL'} {target} {verdict.figure} {verdict.expected}: {verdict.found}")
            answers.append(vars(verdict))
        if update:
            for path, (before, after) in updated(target, found).items():
                put(f"     {target} {path}: {before:g} -> {after:g}")
    if junit is not None:
        write_atomic(junit, junit_xml(verdicts))
    failed = [v for v in verdicts if not v.holds]
    put(f"{len(verdicts) - len(failed)} of {len(verdicts)} expectations hold")
    reply({"verdicts": answers}, ok=not failed or update)
    if failed and not update:
        raise typer.Exit(1)


def refuse_update(targets: list[str], sets: list[str] | None) -> None:
    """`--update` writes into recipe files, what they say themselves.

    Raises:
        RecipeError: a target is a run, or flags change the recipe.
    """
    if sets:
        raise RecipeError("--update can't stand beside --set: the figures would not be the recipe's own")
    for target in targets:
        if not Path(target).is_file():
            raise RecipeError(f"--update: {target} is no recipe file; the figures of a run are what they are")
