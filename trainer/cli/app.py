"""`trainer VERB RECIPE|RUN`: the commands, and the one place where errors are printed and the program exits."""

from __future__ import annotations

import gc
import json
import sys
import traceback
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from trainer import __version__
from trainer.cli import catalogue, drawing, exporting, fitting, generating, importing, inspecting, judging, using
from trainer.cli.common import command, envelope, session
from trainer.cli.crowd import crowded
from trainer.errors import Problem, TrainerError, path_text
from trainer.wording import clean

GARBAGE = 50_000
"New objects after which Python looks for garbage, 700 by default."

app = typer.Typer(
    name="trainer",
    help="Train Keras-style models on PyTorch from one YAML file.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = {
    "fit": (fitting.fit, "Train a recipe and write the run."),
    "resume": (fitting.resume, "Go on with a run exactly, or extend it."),
    "reproduce": (judging.reproduce, "Train again: does the same come out?"),
    "evaluate": (using.evaluate, "Loss, metrics, a report per class."),
    "predict": (using.predict, "Predict for raw rows."),
    "generate": (generating.generate, "Go on with a text."),
    "import": (importing.import_, "Make a run of a Keras model file."),
    "export": (exporting.export, "Write a model for Keras and others."),
    "validate": (judging.validate, "Check recipes: every error at once."),
    "summary": (inspecting.summary, "The table of layers."),
    "weights": (inspecting.weights, "Weights per layer and their statistics."),
    "plot": (drawing.plot, "Draw the graph, or curves of runs."),
    "report": (inspecting.report, "One HTML page of a run."),
    "runs": (inspecting.runs, "List runs with their figures."),
    "init": (catalogue.init, "Write a first recipe."),
    "explain": (catalogue.explain, "What a name or key means."),
    "list": (catalogue.list_names, "Everything of a kind, a line each."),
    "schema": (catalogue.schema, "JSON Schema for editors."),
}
for _name, (_function, _short) in COMMANDS.items():
    app.command(_name, short_help=_short)(command(_function))


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Train Keras-style models on PyTorch from one YAML file."""
    if version:
        print(__version__)
        raise typer.Exit
    session.command = context.invoked_subcommand or ""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    # Python looks for garbage all the time that modules load, and once more through all of torch at the end: 0.5 s.
    gc.set_threshold(GARBAGE)
    session.ahead, session.crowded = True, crowded()
    code = run(arguments)
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit code."""
    session.json = session.debug = session.quiet = False
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="trainer", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as error:
        return error.exit_code
    except TyperException as error:
        return _fail([Problem(error.format_message(), code="usage", hint=_help(error))], 2)
    except TrainerError as error:
        return _fail(error.problems, error.exit_code, error)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        problem = Problem(f"{where}{error.strerror or error}", hint="look at the path and its rights", code="system")
        return _fail([problem], 4, error)
    except MemoryError as error:
        return _fail([Problem("out of memory", hint="a smaller batch_size or fewer units", code="memory")], 4, error)
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    signal = getattr(error, "signal", None)
    if type(error).__name__ == "Stopped" and isinstance(signal, int):
        print(f"stopped by signal {signal}; `trainer resume last` goes on", file=sys.stderr)
        return 128 + signal
    hint = "`--debug` shows where; please report it with the recipe"
    return _fail([Problem(f"a bug of ours: {type(error).__name__}: {error}", hint=hint, code="bug")], 101, error)


def _help(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "trainer --help"


def _fail(problems: list[Problem], code: int, error: BaseException | None = None) -> int:
    if session.debug and error is not None:
        traceback.print_exception(error)
    if session.json:
        print(json.dumps(envelope(None, ok=False, errors=[as_json(p) for p in problems]), ensure_ascii=False))
        return code
    for problem in problems:
        print("\n".join(clean(line) for line in str(problem).split("\n")), file=sys.stderr)
    if len(problems) > 1:
        print(f"{len(problems)} problems", file=sys.stderr)
    return code


def as_json(problem: Problem) -> dict[str, Any]:
    """A problem as `--json` prints it."""
    place = problem.place
    return {
        "code": problem.code,
        "message": problem.message,
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
        "path": path_text(problem.path),
        "hint": problem.hint,
    }
