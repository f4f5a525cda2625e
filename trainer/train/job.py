"""A recipe becomes a run, and a stopped run goes on."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import DataError, FileError, RecipeError, RunError
from trainer.recipe.document import dump
from trainer.recipe.load import Loaded, load_recipe
from trainer.runs.directory import RunDirectory, list_runs
from trainer.runs.lock import RunLock
from trainer.train.identity import check_recipe, digest_of, is_written, resolved, source_folder
from trainer.train.terms import Options, Outcome
from trainer.train.unseen import IMPORTED
from trainer.train.work import Job

__all__ = ["Options", "Outcome", "fit", "go_on_or_fit", "reloaded", "resume"]


def fit(
    loaded: Loaded, options: Options, recipe_text: bytes, folder: Path | None = None, plugins: Path | None = None
) -> Outcome:
    """Train a recipe into a new run directory.

    Relative paths of data go from `folder`, those of plugins from `plugins` or else from `folder`.

    Raises:
        TrainerError: with the problem; the directory says `failed` and keeps its last checkpoint.
    """
    directory = RunDirectory.create(options.runs, options.name or loaded.recipe.name)
    with RunLock(directory.path):
        place = {"folder": str((folder or Path()).resolve()), "recipe": digest_of(_written_out(loaded))}
        directory.write_record({**directory.record(), **place})
        write_recipe(directory, loaded, recipe_text, plugins or folder or Path())
        try:
            return Job(directory, loaded, options, folder).run()
        except (RecipeError, DataError, FileError, RunError) as error:
            # What only the rows could show still has a line in the recipe.
            raise loaded.document.locate(error) if any(p.path for p in error.problems) else error from None


def go_on_or_fit(loaded: Loaded, options: Options, recipe_text: bytes, folder: Path) -> Outcome:
    """Go on with the newest run of this very recipe when it is not complete; train into a new run otherwise.

    Raises:
        RunError: another process is at it, or what it depends on is no longer the same.
    """
    found = list_runs(options.runs, options.name or loaded.recipe.name)
    if found:
        newest, digest = found[-1], digest_of(_written_out(loaded))
        record, written = newest.record(), is_written(newest)
        if record.get("recipe") == digest and record.get("state") != "done" and written:
            options.progress.say(f"going on with {newest.path}")
            return resume(newest, options)
        why = "has another recipe" if record.get("recipe") != digest else "is complete" if written else _UNWRITTEN
        options.progress.say(f"{newest.path} {why}; a new run begins")
    return fit(loaded, options, recipe_text, folder)


_UNWRITTEN = "was stopped before its recipe was written"


def _written_out(loaded: Loaded) -> bytes:
    return dump(resolved(loaded.recipe)).encode()


def write_recipe(directory: RunDirectory, loaded: Loaded, text: bytes, folder: Path) -> None:
    """Keep the recipe as given, with every value written out, and the plugins that it runs."""
    directory.write("recipe.yaml", text)
    for name in loaded.plugins:
        directory.write(name, (folder / name).read_bytes())
    directory.write("resolved.yaml", _written_out(loaded))


def resume(directory: RunDirectory, options: Options) -> Outcome:
    """Go on with a run from its last checkpoint, exactly.

    Raises:
        RunError: the run is complete, or recipe, data or environment are no longer the same.
    """
    with RunLock(directory.path):
        record = directory.record()
        if record.get("state") == IMPORTED:
            hint = f"give its dataset rows, then `trainer fit {directory.path / 'recipe.yaml'}`"
            raise RunError("the model was imported, so that there is no training to go on with", hint=hint)
        # Without an environment on record, the run ended before its data were read.
        begun = "environment" in record
        check_recipe(directory, record, options.allow_change)
        loaded = reloaded(directory, options)
        return Job(directory, loaded, options, source_folder(directory), going_on=begun).run()


def reloaded(directory: RunDirectory, options: Options) -> Loaded:
    """The recipe of a run, with `--epochs` applied."""
    sets = [] if options.epochs is None else [f"fit.epochs={options.epochs}"]
    if not is_written(directory):
        raise RunError(f"the run {_UNWRITTEN}", hint="`trainer fit` the recipe again")
    return load_recipe(
        directory.path / "resolved.yaml", sets, allow_plugins=options.allow_plugins, plugin_folder=directory.path
    )
