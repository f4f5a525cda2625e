"""export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.common import DataOption, PluginsOption, RunsOption, options, put, reply, say
from trainer.cli.using import CheckpointOption, RunArgument
from trainer.errors import RecipeError
from trainer.keras_files.exporting import FORMS, Asked, form_of, place_for, refuse_existing, write
from trainer.keras_files.exporting import export as made_of

ToOption = Annotated[
    str,
    typer.Option(
        "--to", metavar="|".join(FORMS), help="; ".join(f"{word}: {form.words}" for word, form in FORMS.items())
    ),
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="File to write, or a folder; by default NAME with the ending.")
]
OptimizerOption = Annotated[
    bool | None,
    typer.Option(
        "--optimizer/--no-optimizer", help="Whether the optimizer's state goes along; by default to keras alone."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def export(
    run: RunArgument = "last",
    to: ToOption = "",
    output: OutputOption = None,
    optimizer: OptimizerOption = None,
    checkpoint: CheckpointOption = None,
    force: ForceOption = False,
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """Write a run's model for Keras, or as PyTorch source, ONNX or a program of torch.export.

    Example: trainer export last --to keras -o digits.keras
    """
    from trainer.runs.directory import RunDirectory
    from trainer.train.use import OpenRun

    if not to:
        raise RecipeError("export needs --to", hint=f"--to {' | '.join(FORMS)}")
    form = form_of(to)
    directory = RunDirectory.find_usable(runs, run)
    place = place_for(form, directory.path.parent.name, output)
    refuse_existing((place / form.inside,), force=force)
    opened = OpenRun(directory, options(runs, data, "none", "cpu", plugins=plugins), checkpoint)
    made = made_of(opened, to, Asked(place, optimizer))
    write(made, force=force)
    for line in made.lines:
        say(line)
    for note in made.notes:
        say(f"note: {note}")
    for path in made.files:
        put(str(path))
    files = {str(path): len(content) for path, content in made.files.items()}
    reply({"run": str(directory.path), "to": to, "files": files, "notes": list(made.notes), **made.figures})
