"""generate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.common import (
    DataOption,
    DeviceOption,
    PluginsOption,
    RunsOption,
    options,
    reply,
    say,
    session,
)
from trainer.cli.using import CheckpointOption, RunArgument
from trainer.errors import RecipeError
from trainer.wording import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT = 0.5
"Small models misspell words at 1."
PromptOption = Annotated[
    str | None, typer.Option("--prompt", help="The text to go on from; by default one drawn from the run's own text.")
]
TemperaturesOption = Annotated[
    list[float] | None,
    typer.Option(
        "--temperature",
        help="1 draws as the model learned, below 1 safer, above 1 bolder, 0 is --greedy; 0.5 by default; repeatable.",
    ),
]


def generate(
    run: RunArgument = "last",
    prompt: PromptOption = None,
    length: Annotated[int, typer.Option("--length", min=1, help="Characters or words to write.")] = 400,
    temperature: TemperaturesOption = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Take the likeliest instead of drawing.")] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the draws; by default the run's.")] = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
) -> None:
    """Go on with a text, a character or word at a time, by a run that learned from one; the same seed, the same text.

    Example: trainer generate last --prompt "justice is" --temperature 0.2 --temperature 1
    """
    heats = asked(temperature or [], greedy=greedy)
    from trainer.runs.directory import RunDirectory
    from trainer.train.generating import Writer
    from trainer.train.use import OpenRun

    chosen = options(runs, data, "none", device, plugins=plugins)
    opened = OpenRun(RunDirectory.find_usable(runs, run), chosen, checkpoint)
    writer = Writer(opened)
    seed = opened.recipe.seed if seed is None else seed
    prompt = writer.drawn(seed) if prompt is None else prompt
    texts = []
    for heat in heats:
        pieces = writer.write(prompt, length, heat, seed)
        if len(heats) > 1:
            say(f"temperature {heat:g}:" if heat else "greedy:")
        texts.append({"temperature": heat, "text": "".join(pieces) if session.json else shown(prompt, pieces)})
        if len(heats) > 1 and len(texts) < len(heats) and not session.json:
            print(flush=True)
    reply({"run": str(opened.directory.path), "seed": seed, "prompt": prompt, "texts": texts})


def asked(temperatures: list[float], *, greedy: bool) -> list[float]:
    """The temperatures to write at, 0 for the likeliest symbols.

    Raises:
        RecipeError: one is below 0, or is given beside --greedy.
    """
    if greedy and temperatures:
        raise RecipeError("choose either --greedy or --temperature", hint="--temperature 0 is greedy too")
    bad = next((t for t in temperatures if not t >= 0), None)
    if bad is not None:
        raise RecipeError(f"--temperature: expected a number of 0 or more, found {bad:g}")
    return [0.0] if greedy else temperatures or [DEFAULT]


def shown(prompt: str, pieces: Iterable[str]) -> str:
    """Write a text to standard output as it is made; on a terminal, characters that would steer it are made visible."""
    steers = sys.stdout.isatty()
    written = []
    sys.stdout.write(clean(prompt) if steers else prompt)
    for piece in pieces:
        sys.stdout.write(clean(piece) if steers else piece)
        sys.stdout.flush()
        written.append(piece)
    print(flush=True)
    return "".join(written)
