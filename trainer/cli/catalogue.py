"""init, explain, list, schema."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.common import console, put, reply, say, session
from trainer.wording import clean

if TYPE_CHECKING:
    from trainer.recipe.explanation import Explanation


def explain(
    name: Annotated[str, typer.Argument(help="A layer, loss, … or a key such as fit.batch_size.")],
) -> None:
    """What a name or key means: arguments, types, defaults, shapes, and a line to copy.

    Example: trainer explain Dense
    """
    from trainer.recipe.explanation import explain as meanings

    found = meanings(name)
    for meaning in found:
        if not session.json:
            show(meaning)
    reply([{**vars(m), "options": [vars(o) for o in m.options]} for m in found])


def show(meaning: Explanation) -> None:
    """One meaning on standard output."""
    put(f"{meaning.name}: {meaning.what}")
    if meaning.text:
        put("\n" + meaning.text)
    if meaning.aliases:
        put("\nalso: " + ", ".join(meaning.aliases))
    for option in meaning.options:
        given = "required" if option.default is None else f"by default {option.default}"
        put(f"\n  {option.name}: {option.type}; {given}\n{indent(option.text, ' ' * 6)}")
    if meaning.example:
        put(f"\nexample, under {' or '.join(meaning.under)}:\n  {meaning.example}")


def list_names(
    kind: Annotated[str, typer.Argument(help="layers, losses, metrics, optimizers, callbacks, sources, …")],
) -> None:
    """Everything of a kind, each with its one-line meaning.

    Example: trainer list layers
    """
    from rich.table import Table

    from trainer.recipe.explanation import listed

    found = listed(kind)
    table, longest = Table.grid(padding=(0, 2)), max(len(name) for name, _ in found)
    for name, line in found:
        table.add_row(name, clean(line))
    if sys.stdout.isatty() and not session.json:
        console().print(table)
    else:
        # A line each, for grep.
        put("\n".join(f"{name:{longest}}  {clean(line)}" for name, line in found))
    reply(dict(found))


def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.")] = None,
) -> None:
    """The recipe language as JSON Schema (draft 07), for completion and checks in an editor.

    Example: trainer schema -o recipe.schema.json
    """
    from trainer.recipe.json_schema import json_schema

    made = json_schema()
    if output is not None:
        output.write_text(json_text.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(f"schema: {output}")
    else:
        put(json_text.dumps(made, indent=1, ensure_ascii=False))
    reply(made if output is None else {"file": str(output)})


def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    csv: Annotated[Path | None, typer.Option("--csv", help="Write a recipe for this table.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="The column to predict; by default the last.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a first recipe: for a CSV file, or the handwritten digits that need no download.

    Example: trainer init wine.yaml --csv wine.csv --target quality
    """
    from trainer.errors import RecipeError
    from trainer.recipe.beginning import for_csv, for_digits
    from trainer.runs.files import write_atomic

    if path.exists() and not force:
        raise RecipeError(f"{path} exists", hint="choose another name, or --force")
    text = for_digits(path) if csv is None else for_csv(csv, path, target)
    write_atomic(path, text.encode())
    say(f"next: trainer fit {path}")
    put(str(path))
    reply({"recipe": str(path)})
