"""Options that commands share, how they speak, and how an answer leaves the program."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli.ahead import make_ready
from trainer.wording import clean

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.train.job import Options
    from trainer.train.progress import Progress


@dataclass
class Session:
    """What the handler of errors must know of the command that ran."""

    command: str = ""
    json: bool = False
    debug: bool = False
    quiet: bool = False
    ahead: bool = False
    "Whether the program does nothing but this command, so that it may prepare what comes at its end."
    crowded: bool = False
    "Whether other programs computed when it began."
    lines: list[str] = field(default_factory=list)


session = Session()


def _remember(name: str) -> Any:
    def remember(value: bool) -> bool:
        setattr(session, name, value)
        return value

    return remember


SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the recipe; may be repeated.")
]
RunsOption = Annotated[Path, typer.Option("--runs", envvar="TRAINER_RUNS", help="Folder that holds the runs.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="TRAINER_DATA", help="Folder in which data sets are looked for first.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object on standard output.", callback=_remember("json"))
]
QuietOption = Annotated[
    bool, typer.Option("-q", "--quiet", help="Say nothing but the answer.", callback=_remember("quiet"))
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show Python's traceback with an error.", callback=_remember("debug"))
]
ProgressOption = Annotated[
    str, typer.Option("--progress", metavar="auto|bar|plain|none", help="How training shows itself.")
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.")]
ProfileOption = Annotated[
    bool, typer.Option("--profile", help="Say where the time of a step went, and what to change.")
]
PluginsOption = Annotated[
    bool, typer.Option("--plugins/--no-plugins", help="Whether a recipe may run Python files beside it.")
]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """A function as a command with the options that all of them have: --json, --quiet and --debug."""
    signature = inspect.signature(function, eval_str=True)
    common = {"json": JsonOption, "quiet": QuietOption, "debug": DebugOption}
    kind = inspect.Parameter.KEYWORD_ONLY
    added = [inspect.Parameter(name, kind, default=False, annotation=option) for name, option in common.items()]

    @functools.wraps(function)
    def with_common(**given: Any) -> None:
        if session.ahead:
            make_ready(session.command, session.crowded)
        # The session has them: their callbacks noted them there.
        function(**{name: value for name, value in given.items() if name not in common})

    made: Any = with_common
    made.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])
    made.__annotations__ = {name: p.annotation for name, p in made.__signature__.parameters.items()}
    return with_common


def console(*, err: bool = False) -> Console:
    """A rich console that takes no markup from data; colours only on a terminal and without NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else 100
    return Console(stderr=err, markup=False, highlight=False, soft_wrap=not stream.isatty(), width=width)


def say(text: str) -> None:
    """A line for the user, on standard error; silent under --quiet and --json."""
    if not session.quiet and not session.json:
        print(clean(text), file=sys.stderr, flush=True)


def put(text: str) -> None:
    """A line of data, on standard output."""
    if not session.json:
        print(text, flush=True)


def reply(result: Any, *, ok: bool = True) -> None:
    """The command's result as JSON, when asked for."""
    if session.json:
        print(json.dumps(envelope(result, ok=ok), ensure_ascii=False, allow_nan=False, default=str), flush=True)


def envelope(result: Any, *, ok: bool, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """The one JSON object that every command prints under --json."""
    from trainer import __version__

    plain = _finite(result)
    return {"ok": ok, "command": session.command, "version": __version__, "result": plain, "errors": errors or []}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def data_folder(data: Path | None) -> Path | None:
    """The data folder, None when it is not set (an empty variable counts as not set)."""
    return None if data is None or str(data) in ("", ".") else data


def options(
    runs: Path, data: Path | None, progress: str = "auto", device: str = "auto", *, plugins: bool = True, **more: Any
) -> Options:
    """How a run is carried out, from the flags of a command."""
    from trainer.train.job import Options

    made = Options(runs=runs, data=data_folder(data), device=device, progress=shown(progress), **more)
    made.allow_plugins = plugins
    return made


def shown(how: str) -> Progress:
    """Whoever shows training: a bar on a terminal, lines in a pipe or under CI, nothing under --quiet or --json."""
    from trainer.cli.progress import Bar, Lines
    from trainer.errors import RecipeError
    from trainer.train.progress import Quiet

    if how not in ("auto", "bar", "plain", "none"):
        raise RecipeError(f'--progress: expected auto, bar, plain or none, found "{how}"')
    if how == "auto":
        how = "bar" if sys.stderr.isatty() and not os.environ.get("CI") else "plain"
    if session.quiet or session.json or how == "none":
        return Quiet()
    return Bar(console(err=True)) if how == "bar" else Lines()
