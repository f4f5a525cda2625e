"""fit, resume."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.common import (
    DataOption,
    DeviceOption,
    PluginsOption,
    ProfileOption,
    ProgressOption,
    RunsOption,
    SetOption,
    console,
    options,
    put,
    reply,
    say,
    session,
)
from trainer.cli.draughtsman import Draughtsman
from trainer.cli.profiling import show
from trainer.errors import RecipeError
from trainer.wording import number

if TYPE_CHECKING:
    from trainer.train.job import Outcome


def fit(
    recipe: Annotated[Path, typer.Argument(help="The recipe file.")],
    sets: SetOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Short for --set fit.epochs=N.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run's folder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build everything, train one batch, keep nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the newest run of this recipe if it was stopped.")
    ] = False,
    profile: ProfileOption = False,
    device: DeviceOption = "auto",
    engine: Annotated[
        str, typer.Option("--engine", metavar="auto|plain", help="plain leaves every gradient to autograd.")
    ] = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    progress: ProgressOption = "auto",
) -> None:
    """Train a recipe, evaluate it on the test rows, and write the run.

    Example: trainer fit recipes/digits.yaml --set fit.epochs=5
    """
    from trainer.recipe.load import load_recipe
    from trainer.runs.directory import finder

    if engine not in ("auto", "plain"):
        raise RecipeError(f'--engine: expected auto or plain, found "{engine}"')
    if profile and dry_run:
        raise RecipeError("--profile can't stand beside --dry-run", hint="--epochs 1 trains one epoch")
    if resume and (dry_run or epochs is not None):
        hint = "`trainer resume RUN --epochs N` extends a run"
        raise RecipeError(f"--resume can't stand beside {'--dry-run' if dry_run else '--epochs'}", hint=hint)
    changes = [*(sets or []), *([] if epochs is None else [f"fit.epochs={epochs}"])]
    loaded = load_recipe(recipe, changes, allow_plugins=plugins, find_run=finder(runs))
    if epochs is not None and loaded.recipe.phases and all(phase.fit.epochs for phase in loaded.recipe.phases):
        hint = f"--set phases[0].fit.epochs={epochs}"
        raise RecipeError("--epochs changes nothing: each phase says its own epochs", hint=hint)
    if dry_run:
        from trainer.train.trial import trial

        chosen = options(runs, data, progress, device, plugins=plugins, name=name)
        done = trial(loaded, chosen, recipe.parent)
        losses = ", ".join(map(number, done.get("phases", [done["loss"]])))
        each = "of each phase " if "phases" in done else ""
        say(f"one batch {each}trained: loss {losses}, {done['parameters']} parameters, nothing kept")
        reply(done)
        return
    with Draughtsman(session.ahead) as draughtsman:
        # Only now, so that both get ready at a time.
        from trainer.train.job import fit as train
        from trainer.train.job import go_on_or_fit

        chosen = options(runs, data, progress, device, plugins=plugins, name=name, engine=engine, profile=profile)
        outcome = (go_on_or_fit if resume else train)(loaded, chosen, recipe.read_bytes(), recipe.parent)
        finish(outcome, draughtsman)


def resume(
    run: Annotated[str, typer.Argument(help="A run: its path, its name (the newest), or `last`.")] = "last",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Train to this epoch instead.")] = None,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Go on though data or versions differ (numbers may too).")
    ] = False,
    profile: ProfileOption = False,
    device: DeviceOption = "auto",
    plugins: PluginsOption = True,
    runs: RunsOption = Path("runs"),
    data: DataOption = None,
    progress: ProgressOption = "auto",
) -> None:
    """Go on with a run exactly where it stopped, or extend it.

    Example: trainer resume last --epochs 20
    """
    from trainer.runs.directory import RunDirectory

    directory = RunDirectory.find(runs, run)
    with Draughtsman(session.ahead) as draughtsman:
        from trainer.train.job import resume as go_on

        asked = {"allow_change": allow_change, "epochs": epochs, "profile": profile}
        chosen = options(runs, data, progress, device, plugins=plugins, **asked)
        finish(go_on(directory, chosen), draughtsman)


def finish(outcome: Outcome, draughtsman: Draughtsman) -> None:
    """Plots, the page, the closing panel, the run's path on standard output, and exit 1 when an expectation fails."""
    from trainer.runs.directory import RunDirectory
    from trainer.train.pictures import can_draw

    draughtsman.present(RunDirectory(outcome.directory))
    if not can_draw():
        say("no curves: matplotlib is not installed (the extra `plots`)")
    if not session.quiet and not session.json:
        if outcome.profile:
            show(outcome.profile)
        panel(outcome)
    if session.quiet or not sys.stdout.isatty():
        put(str(outcome.directory))
    reply(
        {
            "run": str(outcome.directory),
            "figures": outcome.figures,
            "best_epoch": outcome.best_epoch,
            "seconds": round(outcome.seconds, 3),
            "expect": {k: ok for k, (ok, _) in outcome.verdicts.items()},
            **({"profile": outcome.profile} if outcome.profile else {}),
        },
        ok=outcome.holds,
    )
    if not outcome.holds:
        raise typer.Exit(1)


def panel(outcome: Outcome) -> None:
    """What came out, at a glance."""
    from rich.panel import Panel
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    figures = outcome.figures
    for word in ("test", "val", "folds"):
        found = {k: v for k, v in figures.items() if k.startswith(word + ".")}
        if found:
            table.add_row(word, "  ".join(f"{k.split('.', 1)[1]} {number(v)}" for k, v in found.items()))
    if outcome.best_epoch is not None:
        row = outcome.epochs.index(outcome.best_epoch - 1)
        best = {k: v[row] for k, v in outcome.history.items() if k.startswith("val_") and v[row] == v[row]}
        table.add_row(
            "best val_loss", f"epoch {outcome.best_epoch}  " + "  ".join(f"{k} {number(v)}" for k, v in best.items())
        )
    for name, (ok, words) in outcome.verdicts.items():
        whole = name in ("parameters", "epochs")
        found = "absent" if name not in figures else f"{figures[name]:,.0f}" if whole else number(figures[name])
        table.add_row("expected", f"{'✓' if ok else '✗'} {name} {words}: {found}")
    if outcome.stop_reason:
        table.add_row("stopped", outcome.stop_reason)
    table.add_row("time", f"{outcome.seconds:.1f} s")
    table.add_row("run", str(outcome.directory))
    console(err=True).print(Panel(table, title="done", expand=False))
