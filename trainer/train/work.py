"""A run at work in its directory: data, folds, training, test, and everything that the directory keeps."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import trainer
from trainer.errors import EnvironmentFault, RunError, TrainerError
from trainer.model.network import Network
from trainer.model.summary import summarize
from trainer.recipe.document import dump
from trainer.recipe.load import Loaded
from trainer.recipe.model import Weights
from trainer.recipe.outline import Outline
from trainer.recipe.phases import phase_name
from trainer.recipe.schema import Recipe
from trainer.report.model_graph import of_graph
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.runs.keras_config import training_config
from trainer.runs.model_file import ModelFile, model_bytes, read_model, weights_bytes
from trainer.sources.columns import Rows, Table
from trainer.sources.split import folds as fold_indices
from trainer.train.beginning import begin_with
from trainer.train.build import Built, build, real_outlines, step_work
from trainer.train.devices import choose_device, set_threads, settings_kept
from trainer.train.feed import read_column
from trainer.train.figures import best_epoch, final_figures, verdicts
from trainer.train.fingerprint import differences, fingerprint
from trainer.train.identity import check_data, recipe_digest, resolved
from trainer.train.log import RunLog, now
from trainer.train.loop import Training
from trainer.train.rows import Sets, check_class_weight, class_numbers, divide
from trainer.train.signals import Signals
from trainer.train.stages import from_epoch, go_on, hand_over, phase_line, placed, rehearse
from trainer.train.state import load_weights, state_of
from trainer.train.terms import Options, Outcome, open_table
from trainer.wording import figures as figures_text

CHECKPOINT_SHARE = 25
"A checkpoint is written at an epoch's end when this many times its own cost has passed since the last one."


class Job:
    """One run in its directory, fresh or taken up again."""

    def __init__(
        self, directory: RunDirectory, loaded: Loaded, options: Options, folder: Path | None, going_on: bool = False
    ):
        self.directory, self.loaded, self.options, self.folder = directory, loaded, options, folder
        self.recipe, self.going_on = loaded.recipe, going_on
        self.record: dict[str, Any] = {
            **directory.record(),
            "seed": loaded.recipe.seed,
            "description": loaded.recipe.description,
        }
        self.saved: dict[str, Any] = {}
        self.model: ModelFile | None = None
        self.log = RunLog(options.progress, directory.path / "log.txt")
        self.started = time.perf_counter()
        self.last_write, self.write_cost = time.perf_counter(), 0.0
        self.running = False
        self.fold: int | None = None
        self.stages, self.stage = self.recipe.stages(), 0
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
            # Where the record was written and the log can't be, the record says enough.
            with contextlib.suppress(EnvironmentFault):
                self.log.note(f"{state}: {error}")
            raise

    def _run(self) -> Outcome:
        recipe = self.recipe
        table = open_table(recipe, self.folder, self.options)
        self.outlines = real_outlines(recipe, table)
        outline = self.outlines[0]
        sets = divide(recipe, table)
        self.device = choose_device(self.options.device)
        if self.going_on:
            self._take_up(table)
        for number, stage in enumerate(self.stages):
            if stage.fit.class_weight is not None:
                with placed(recipe, number):
                    check_class_weight(stage.fit.class_weight, first_target(outline, sets.train))
        here = fingerprint(self.device)
        if not self.going_on:
            self.record |= {"data": table.digests, "environment": here}
            self.record |= {"plugins": self.loaded.plugins, "rows": _counts(sets), "created": now()}
        if self.going_on and self.options.epochs is not None:
            self._extend()
        self._note(state="running")
        self.running = True
        self.log.note(self._heading())
        fold_results = self._folds(outline, sets)
        if recipe.fit.kfold is not None and not recipe.fit.kfold.final:
            return self._finish(None, None, sets, fold_results)
        if recipe.fit.kfold is not None:
            self.log.say(f"Final fit on all {len(sets.train)} rows")
        built, training = self._train(sets)
        built.words = table.words
        return self._finish(built, training, sets, fold_results)

    def _train(self, sets: Sets) -> tuple[Built, Training]:
        """All phases one after the other, from where the run stands."""
        here = bool(self.saved) and self.saved["fold"] == self.fold
        first = self.saved.get("stage", 0) if here else 0
        began = self.saved["began"] if here else self.stages[0].fit.initial_epoch
        done: tuple[Built, Training] | None = None
        for number, stage in enumerate(self.stages[first:], first):
            self.stage, stage = number, from_epoch(stage, done[1].epoch if done else began)
            with placed(self.recipe, number):
                done = self._phase(stage, sets, done)
        assert done is not None
        return done

    def _phase(self, stage: Recipe, sets: Sets, before: tuple[Built, Training] | None) -> tuple[Built, Training]:
        """One phase, or the only training there is, after the one before."""
        here = bool(self.saved) and self.saved["fold"] == self.fold
        learned = self.saved["preprocessing"] if here else before[0].preprocessing() if before else None
        built = build(stage, self.outlines[self.stage], sets.train, self.device, learned)
        if before is not None:
            hand_over(before[0], built)
        elif not here:
            if self.fold in (None, 0):
                rehearse(self.recipe, self.outlines, sets.train, self.device, built.preprocessing())
            if stage.model.weights is not None:
                self._begin_with(built.network, stage.model.weights)
        training = self._training(stage, built, sets)
        if before is not None:
            go_on(before[1], training)
        if self.recipe.phases:
            self.log.say(phase_line(self.recipe, self.stage, stage))
        training.run()
        if training.stop_reason and self.stage < len(self.stages) - 1:
            self.log.say(f"{phase_name(self.recipe.phases, self.stage)} ends: {training.stop_reason}")
        return built, training

    def _begin_with(self, network: Network, asked: Weights) -> None:
        """Load the weights that the model begins with, and say what was loaded."""
        before = None if self.options.allow_change else self.record.get("weights")
        begun = begin_with(network, asked, self.options.runs, self.folder, before)
        self.log.say(f"Weights of {begun.file}: {begun.found}")
        self.log.note(begun.found.table())
        self.directory.write("transfer.txt", f"{begun.file}\n{begun.found.table()}\n".encode())
        self._note(weights=begun.record(), state="running")

    def _heading(self) -> str:
        rows = ", ".join(f"{count} {name}" for name, count in self.record["rows"].items())
        verb = "goes on with" if self.going_on else "fits"
        versions = f"trainer {trainer.__version__}, torch {self.record['environment']['torch']}"
        return f"{verb} {self.recipe.name}, seed {self.recipe.seed}, on {self.device} ({versions}); rows: {rows}"

    def _training(self, recipe: Recipe, built: Built, sets: Sets) -> Training:
        threads = self.record.get("threads") if self.going_on else None
        # One number for all phases: which of them a run was in when it stopped makes no difference then.
        most = max(stage.fit.batch_size for stage in self.stages)
        threads = set_threads(step_work(built.graph, most), threads)
        if threads != self.record.get("threads"):
            # On record before the first step, for they change the order of sums.
            self._note(threads=threads, state="running")
        train = built.training_feed(sets.train)
        validation = built.feed(sets.validation) if sets.validation is not None else None
        training = Training(
            built.network,
            built.objective,
            built.updater(),
            recipe.callbacks,
            recipe.fit,
            recipe.seed,
            train,
            validation,
            self.directory.path if self.fold is None else self.directory.path / f"folds/{self.fold + 1}",
            self.log,
            signalled=self.signals,
        )
        training.saves_first = self.stage > 0
        training.save_model = lambda path, weights_only: self._save_model(built, path, weights_only)
        training.checkpoint = lambda run, force: self._checkpoint(built, run, force)
        if self.saved and self.saved["fold"] == self.fold:
            assert self.model is not None
            load_weights(built, self.model)
            training.load_state(self.saved["training"])
            if self.options.epochs is not None and training.stop_reason:
                # Its recipe would stop there again.
                self._note(continued=f"epoch {training.epoch}: {training.stop_reason}", state="running")
                training.stop_reason = ""
            self.saved = {}
        return training

    def _folds(self, outline: Outline, sets: Sets) -> list[dict[str, Any]]:
        kfold = self.recipe.fit.kfold
        if kfold is None:
            return []
        groups = None
        if kfold.stratify:
            groups = class_numbers(first_target(outline, sets.train))
        parts = fold_indices(len(sets.train), kfold.folds, kfold.shuffle or kfold.stratify, self.recipe.seed, groups)
        for number, (train, held) in enumerate(parts):
            if number < len(self.finished_folds):
                continue
            self.fold = number
            self.log.say(f"Fold {number + 1}/{kfold.folds}: {len(train)} rows train, {len(held)} validate")
            fold_sets = Sets(sets.train.take(train), sets.train.take(held))
            _, training = self._train(fold_sets)
            self.finished_folds.append({"history": training.history, "values": training.validate()})
            self._write_fold(number, training)
        self.fold = None
        return self.finished_folds

    def _write_fold(self, number: int, training: Training) -> None:
        history = History.of(training.history_epochs, training.history)
        self.directory.write(f"folds/{number + 1}/history.csv", history.to_csv())

    def _take_up(self, table: Table) -> None:
        """Read the last checkpoint and refuse when what it depends on has changed."""
        if self.recipe.phases and self.options.epochs is not None:
            hint = "`trainer fit` the recipe again with more epochs in its last phase"
            raise RunError("--epochs can't extend a run with phases, which say their epochs themselves", hint=hint)
        if self.record.get("state") == "done" and self.options.epochs is None:
            raise RunError("the run is complete", hint="`--epochs N` extends it")
        changed = check_data(self.record, table)
        changed += differences(self.record.get("environment", {}), fingerprint(self.device))
        if changed and not self.options.allow_change:
            hint = "`--allow-change` goes on all the same; the numbers may then differ"
            raise RunError(f"the run can't go on exactly: changed are {'; '.join(changed)}", hint=hint)
        data, warning = self.directory.load_checkpoint()
        if warning:
            self.log.say(warning)
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
            "stage": self.stage,
            "began": built.recipe.fit.initial_epoch,
            "folds": self.finished_folds,
            "preprocessing": built.preprocessing(),
            "training": training.state() if training is not None else None,
        }
        described = training_config(built.optimizer, list(built.objective.goals.values()), built.graph.name)
        return model_bytes(built.network, described, state)

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
            self.record["layers"] = [vars(line) for line in summarize(built.graph).lines]
            self.record["graph"] = of_graph(built.graph).as_data()
            figures |= final_figures(built, training, sets)
        epochs = training.history_epochs if training is not None else []
        best = best_epoch(epochs, history)
        outcome = Outcome(self.directory.path, figures, history, 0.0, [f["history"] for f in folds])
        outcome.epochs, outcome.best_epoch = epochs, best
        outcome.stop_reason = training.stop_reason if training is not None else ""
        outcome.verdicts = verdicts(recipe.expect, figures)
        self.directory.write("history.csv", History.of(epochs, history).to_csv())
        expected = {n: {"holds": ok, "expected": words} for n, (ok, words) in outcome.verdicts.items()}
        metrics = {"figures": figures, "best_epoch": best, "expect": expected}
        self.directory.write("metrics.json", json.dumps(_finite(metrics), indent=2).encode())
        outcome.seconds = time.perf_counter() - self.started
        seconds = [round(s, 6) for s in training.epoch_seconds] if training is not None else []
        self._note(state="done", figures=figures, finished=now(), best_epoch=best, epoch_seconds=seconds)
        self.log.note(self._closing(outcome))
        return outcome

    def _closing(self, outcome: Outcome) -> str:
        shown = {k: v for k, v in outcome.figures.items() if k.startswith(("train.", "val.", "test.", "folds."))}
        stopped = f"{outcome.stop_reason}; " if outcome.stop_reason else ""
        return f"{stopped}done in {outcome.seconds:.1f} s" + (f": {figures_text(shown)}" if shown else "")

    def _note(self, **values: Any) -> None:
        """Write run.json anew with some values changed; the clock adds up over resumes."""
        before = self.record.get("seconds", 0.0) if self.going_on else 0.0
        self.record |= values
        if values.get("state") != "running":
            self.record.pop("error", None) if values.get("state") == "done" else None
            self.record["seconds"] = round(before + time.perf_counter() - self.started, 3)
        self.directory.write_record(_finite(self.record))


def first_target(outline: Outline, rows: Rows) -> np.ndarray:
    """The raw values of the first target."""
    known = next(iter(outline.targets.values()))
    return np.asarray(read_column(rows, known.feature, target=True))


def _counts(sets: Sets) -> dict[str, int]:
    named: dict[str, Rows | None] = {"train": sets.train, "validation": sets.validation, "test": sets.test}
    return {name: len(rows) for name, rows in named.items() if rows is not None}


def _finite(value: Any) -> Any:
    """JSON has no not-a-number: such values become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return value
