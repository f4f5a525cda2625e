"""A whole run: data, folds, training, test, and everything that the run directory keeps."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import DataError, RecipeError, RunError, TrainerError
from trainer.recipe.document import dump
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.schema import Recipe
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.keras_config import training_config
from trainer.runs.lock import RunLock
from trainer.runs.model_file import ModelFile, model_bytes, read_model, weights_bytes
from trainer.sources.base import Places
from trainer.sources.columns import Rows, Table
from trainer.sources.split import folds as fold_indices
from trainer.train.build import Built, build, real_outline, step_work
from trainer.train.devices import choose_device, set_threads, settings_kept
from trainer.train.feed import read_column
from trainer.train.figures import best_epoch, final_figures, verdicts
from trainer.train.fingerprint import differences, fingerprint
from trainer.train.identity import check_data, check_recipe, recipe_digest, source_folder
from trainer.train.loop import Progress, Quiet, Training
from trainer.train.rows import Sets, check_class_weight, class_numbers, divide
from trainer.train.signals import Signals
from trainer.train.state import load_weights, state_of

CHECKPOINT_SHARE = 25
"A checkpoint is written at an epoch's end when this many times its own cost has passed since the last one."
CHECKPOINT_LEAST = 2.0
"Seconds between checkpoints at epoch ends, at least."


@dataclass
class Options:
    """How a run is carried out; nothing here changes its numbers on one device."""

    runs: Path = Path("runs")
    data: Path | None = None
    device: str = "auto"
    name: str | None = None
    progress: Progress = field(default_factory=Quiet)
    download: bool = True
    checkpoint_every: float = CHECKPOINT_LEAST
    allow_change: bool = False
    epochs: int | None = None
    allow_plugins: bool = True


@dataclass
class Outcome:
    """What a run came to."""

    directory: Path
    figures: dict[str, float]
    "Everything that `expect` can name, with its value."
    history: dict[str, list[float]]
    seconds: float
    folds: list[dict[str, list[float]]] = field(default_factory=list)
    verdicts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    "Expected figure to (holds, what was expected)."
    epochs: list[int] = field(default_factory=list)
    "Numbers (from 0) of the epochs in the history."
    best_epoch: int | None = None
    stop_reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether every expectation holds."""
        return all(ok for ok, _ in self.verdicts.values())


def open_table(recipe: Recipe, folder: Path | None, options: Options) -> Table:
    """The rows of a recipe's source."""
    return recipe.dataset.source.open(Places(folder, options.data, options.download))


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
        write_recipe(directory, loaded, recipe_text, plugins or folder or Path())
        place = {"folder": str((folder or Path()).resolve()), "recipe": recipe_digest(directory)}
        directory.write_record({**directory.record(), **place})
        try:
            return Job(directory, loaded, options, folder).run()
        except (RecipeError, DataError) as error:
            # What only the rows could show still has a line in the recipe.
            raise loaded.document.locate(error) if any(p.path for p in error.problems) else error from None


def write_recipe(directory: RunDirectory, loaded: Loaded, text: bytes, folder: Path) -> None:
    """Keep the recipe as given, with every value written out, and the plugins that it runs."""
    directory.write("recipe.yaml", text)
    directory.write("resolved.yaml", dump(resolved(loaded.recipe)).encode())
    for name in loaded.plugins:
        directory.write(name, (folder / name).read_bytes())


def resolved(recipe: Recipe) -> dict[str, Any]:
    """The recipe as a plain value with every default written out; it reads back to the same recipe."""
    from trainer.declare import plain

    return plain(recipe)


def resume(directory: RunDirectory, options: Options) -> Outcome:
    """Go on with a run from its last checkpoint, exactly.

    Raises:
        RunError: the run is complete, or recipe, data or environment are no longer the same.
    """
    with RunLock(directory.path):
        record = directory.record()
        # Without an environment on record, the run ended before its data were read.
        begun = "environment" in record
        check_recipe(directory, record, options.allow_change)
        loaded = reloaded(directory, options)
        return Job(directory, loaded, options, source_folder(directory), going_on=begun).run()


def reloaded(directory: RunDirectory, options: Options) -> Loaded:
    """The recipe of a run, with `--epochs` applied."""
    sets = [] if options.epochs is None else [f"fit.epochs={options.epochs}"]
    path = directory.path / "resolved.yaml"
    if not path.exists():
        raise RunError("the run was stopped before its recipe was written", hint="`trainer fit` the recipe again")
    return load_recipe(path, sets, allow_plugins=options.allow_plugins, plugin_folder=directory.path)


class Job:
    """One run in its directory, fresh or taken up again."""

    def __init__(
        self, directory: RunDirectory, loaded: Loaded, options: Options, folder: Path | None, going_on: bool = False
    ):
        self.directory, self.loaded, self.options, self.folder = directory, loaded, options, folder
        self.recipe, self.going_on = loaded.recipe, going_on
        self.record: dict[str, Any] = {**directory.record(), "seed": loaded.recipe.seed}
        self.saved: dict[str, Any] = {}
        self.model: ModelFile | None = None
        self.started = time.perf_counter()
        self.last_write, self.write_cost = time.perf_counter(), 0.0
        self.running = False
        self.fold: int | None = None
        self.finished_folds: list[dict[str, Any]] = []

    def run(self) -> Outcome:
        """Everything from data to metrics."""
        try:
            with Signals() as signals, settings_kept():
                self.signals = signals
                return self._run()
        except BaseException as error:
            if self.going_on and not self.running:
                # Refused before anything was done: the run stays what it was.
                raise
            state = "interrupted" if not isinstance(error, TrainerError) else "failed"
            self._note(state=state, error=str(error))
            raise

    def _run(self) -> Outcome:
        recipe = self.recipe
        table = open_table(recipe, self.folder, self.options)
        outline = real_outline(recipe, table)
        sets = divide(recipe, table)
        self.device = choose_device(self.options.device)
        if self.going_on:
            self._take_up(table)
        if recipe.fit.class_weight is not None:
            y = read_column(sets.train, outline.target, target=True)
            check_class_weight(recipe.fit.class_weight, np.asarray(y))
        here = fingerprint(self.device)
        if not self.going_on:
            self.record |= {"data": table.digests, "environment": here}
            self.record |= {"plugins": self.loaded.plugins, "rows": _counts(sets), "created": _now()}
        if self.going_on and self.options.epochs is not None:
            self._extend()
        self._note(state="running")
        self.running = True
        fold_results = self._folds(outline, sets)
        if recipe.fit.kfold is not None and not recipe.fit.kfold.final:
            return self._finish(None, None, sets, fold_results)
        if recipe.fit.kfold is not None:
            self.options.progress.say(f"Final fit on all {len(sets.train)} rows")
        built = build(recipe, outline, sets.train, self.device, self._preprocessing())
        built.words = table.words
        training = self._training(built, sets)
        training.run()
        return self._finish(built, training, sets, fold_results)

    def _preprocessing(self) -> dict[str, Any] | None:
        return self.saved["preprocessing"] if self.saved and self.saved["fold"] == self.fold else None

    def _training(self, built: Built, sets: Sets) -> Training:
        recipe = self.recipe
        threads = self.record.get("threads") if self.going_on else None
        threads = set_threads(step_work(built.graph, recipe.fit.batch_size), threads)
        if threads != self.record.get("threads"):
            # On record before the first step, for they change the order of sums.
            self._note(threads=threads, state="running")
        train = built.training_feed(sets.train)
        validation = built.feed(sets.validation) if sets.validation is not None else None
        training = Training(
            built.network,
            built.loss,
            built.metrics,
            built.updater(),
            recipe.callbacks,
            recipe.fit,
            recipe.seed,
            train,
            validation,
            self.directory.path if self.fold is None else self.directory.path / f"folds/{self.fold + 1}",
            self.options.progress,
            signalled=self.signals,
        )
        training.save_model = lambda path, weights_only: self._save_model(built, path, weights_only)
        training.checkpoint = lambda run, force: self._checkpoint(built, run, force)
        if self.saved and self.saved["fold"] == self.fold:
            assert self.model is not None
            load_weights(built, self.model)
            training.load_state(self.saved["training"])
            if self.options.epochs is not None:
                training.stop_reason = ""
            self.saved = {}
        return training

    def _folds(self, outline: Any, sets: Sets) -> list[dict[str, Any]]:
        kfold = self.recipe.fit.kfold
        if kfold is None:
            return []
        groups = None
        if kfold.stratify:
            groups = class_numbers(np.asarray(read_column(sets.train, outline.target, target=True)))
        parts = fold_indices(len(sets.train), kfold.folds, kfold.shuffle or kfold.stratify, self.recipe.seed, groups)
        for number, (train, held) in enumerate(parts):
            if number < len(self.finished_folds):
                continue
            self.fold = number
            self.options.progress.say(f"Fold {number + 1}/{kfold.folds}: {len(train)} rows train, {len(held)} validate")
            fold_sets = Sets(sets.train.take(train), sets.train.take(held))
            built = build(self.recipe, outline, fold_sets.train, self.device, self._preprocessing())
            training = self._training(built, fold_sets)
            training.run()
            self.finished_folds.append({"history": training.history, "values": training.validate()})
            self._write_fold(number, training)
        self.fold = None
        return self.finished_folds

    def _write_fold(self, number: int, training: Training) -> None:
        history = History.of(training.history_epochs, training.history)
        self.directory.write(f"folds/{number + 1}/history.csv", history.to_csv())

    def _take_up(self, table: Table) -> None:
        """Read the last checkpoint and refuse when what it depends on has changed."""
        if self.record.get("state") == "done" and self.options.epochs is None:
            raise RunError("the run is complete", hint="`--epochs N` extends it")
        changed = check_data(self.record, table)
        changed += differences(self.record.get("environment", {}), fingerprint(self.device))
        if changed and not self.options.allow_change:
            hint = "`--allow-change` goes on all the same; the numbers may then differ"
            raise RunError(f"the run can't go on exactly: changed are {'; '.join(changed)}", hint=hint)
        data, warning = self.directory.load_checkpoint()
        if warning:
            self.options.progress.say(warning)
        if data is None:
            return
        self.model = read_model(data)
        self.saved = state_of(self.model)
        at = self.saved["training"]["position"]["epoch"] if self.saved["training"] else 0
        if self.options.epochs is not None and self.options.epochs <= at:
            raise RunError(f"--epochs {self.options.epochs}: the run is at epoch {at} already")
        self.finished_folds = self.saved["folds"]

    def _extend(self) -> None:
        """Keep the new number of epochs in the run's recipe, so that it is this recipe that ran.

        Raises:
            RunError: the run has folds, whose finished ones would stay short.
        """
        if self.recipe.fit.kfold is not None:
            hint = "`trainer fit` the recipe again with --set fit.epochs=N"
            raise RunError("--epochs can't extend a run with folds, whose trainings must be equally long", hint=hint)
        self.directory.write("resolved.yaml", dump(resolved(self.recipe)).encode())
        self.record["recipe"] = recipe_digest(self.directory)

    def _checkpoint(self, built: Built, training: Training, force: bool) -> None:
        since = time.perf_counter() - self.last_write
        if not force and since < max(self.options.checkpoint_every, CHECKPOINT_SHARE * self.write_cost):
            return
        began = time.perf_counter()
        data = self._model_bytes(built, training)
        self.directory.save_checkpoint(data, training.epoch, training.batch)
        self.last_write = time.perf_counter()
        self.write_cost = self.last_write - began

    def _model_bytes(self, built: Built, training: Training | None) -> bytes:
        state = {
            "fold": self.fold,
            "folds": self.finished_folds,
            "preprocessing": built.preprocessing(),
            "training": training.state() if training is not None else None,
        }
        return model_bytes(
            built.network, training_config(built.recipe.compile.optimizer, built.loss, built.metrics), state
        )

    def _save_model(self, built: Built, path: str, weights_only: bool) -> None:
        data = weights_bytes(built.network) if weights_only else self._model_bytes(built, None)
        self.directory.write(path if self.fold is None else f"folds/{self.fold + 1}/{path}", data)

    def _finish(
        self, built: Built | None, training: Training | None, sets: Sets, folds: list[dict[str, Any]]
    ) -> Outcome:
        recipe = self.recipe
        history = training.history if training is not None else {}
        figures: dict[str, float] = {}
        for name in folds[0]["values"] if folds else []:
            values = [f["values"][name] for f in folds]
            figures[f"folds.{name}.mean"] = float(np.mean(values))
            figures[f"folds.{name}.std"] = float(np.std(values))
        if built is not None and training is not None:
            self.directory.write("model.h5", self._model_bytes(built, training))
            figures |= final_figures(built, training, sets)
        epochs = training.history_epochs if training is not None else []
        best = best_epoch(epochs, history)
        outcome = Outcome(self.directory.path, figures, history, 0.0, [f["history"] for f in folds])
        outcome.epochs, outcome.best_epoch = epochs, best
        outcome.stop_reason = training.stop_reason if training is not None else ""
        outcome.verdicts = verdicts(recipe.expect, figures)
        self.directory.write("history.csv", History.of(epochs, history).to_csv())
        metrics = {"figures": figures, "best_epoch": best, "expect": {n: ok for n, (ok, _) in outcome.verdicts.items()}}
        self.directory.write("metrics.json", json.dumps(_finite(metrics), indent=2).encode())
        outcome.seconds = time.perf_counter() - self.started
        seconds = [round(s, 6) for s in training.epoch_seconds] if training is not None else []
        self._note(state="done", figures=figures, finished=_now(), best_epoch=best, epoch_seconds=seconds)
        return outcome

    def _note(self, **values: Any) -> None:
        """Write run.json anew with some values changed; the clock adds up over resumes."""
        before = self.record.get("seconds", 0.0) if self.going_on else 0.0
        self.record |= values
        if values.get("state") != "running":
            self.record.pop("error", None) if values.get("state") == "done" else None
            self.record["seconds"] = round(before + time.perf_counter() - self.started, 3)
        self.directory.write_record(_finite(self.record))


def _counts(sets: Sets) -> dict[str, int]:
    named: dict[str, Rows | None] = {"train": sets.train, "validation": sets.validation, "test": sets.test}
    return {name: len(rows) for name, rows in named.items() if rows is not None}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _finite(value: Any) -> Any:
    """JSON has no not-a-number: such values become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
