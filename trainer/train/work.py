"""A run at work in its directory: data, folds, training, test, and everything that the directory keeps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trainer
from trainer.errors import EnvironmentFault, TrainerError
from trainer.model.network import Network
from trainer.model.summary import summarize
from trainer.recipe.load import Loaded
from trainer.recipe.model import Weights
from trainer.recipe.phases import phase_name
from trainer.recipe.schema import Recipe
from trainer.report.model_graph import of_graph
from trainer.runs.directory import RunDirectory
from trainer.runs.image import Image
from trainer.runs.model_file import ModelFile, model_pieces
from trainer.runs.weights_image import weights_pieces
from trainer.sources.columns import Table
from trainer.train.beginning import begin_with, optimizer_state
from trainer.train.build import Built, build, real_outlines
from trainer.train.closing import closing_line, finite, fold_figures, outcome_of, write_outcome, write_profile
from trainer.train.devices import choose_device, return_heap, set_threads, settings_kept, step_work
from trainer.train.figures import final_figures, verdicts
from trainer.train.fingerprint import fingerprint
from trainer.train.folds import Folds
from trainer.train.log import RunLog, Told, now
from trainer.train.loop import Training
from trainer.train.profile import Profile
from trainer.train.profiled import Profiled
from trainer.train.rows import Sets, check_class_weight, divide, first_target, fold_sets
from trainer.train.signals import Signals
from trainer.train.stages import Memory, from_epoch, go_on, hand_over, phase_line, placed, rehearse
from trainer.train.state import load_weights
from trainer.train.stepping import jit_compile, steps_noted
from trainer.train.taking_up import check_unchanged, extend, last_checkpoint
from trainer.train.terms import Options, Outcome, open_table

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
        self.apart: Told | None = None
        "Of a process that trains folds for the run's own."
        self.started = time.perf_counter()
        self.last_write, self.write_cost = time.perf_counter(), 0.0
        self.profile = Profile() if options.profile else None
        self.running = False
        self.signals: Callable[[], int] = lambda: 0
        self.fold: int | None = None
        self.stages, self.stage = self.recipe.stages(), 0
        self.folds = Folds(self)
        self.memory = Memory(self.recipe.callbacks)

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
            self.note(state=state, error=str(error))
            # Where the record was written and the log can't be, the record says enough.
            with contextlib.suppress(EnvironmentFault):
                self.log.note(f"{state}: {error}")
                if self.profile is not None:
                    write_profile(self.directory, self.profile, time.perf_counter() - self.started)
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
            # The engine as well: a run that is killed before its first step goes on with the same one.
            self.record |= {"data": table.digests, "environment": here, "engine": self.options.engine}
            self.record |= {"plugins": self.loaded.plugins, "rows": sets.counts(), "created": now()}
        if self.going_on and self.options.epochs is not None:
            self.record["recipe"] = extend(self.directory, self.recipe)
        self.note(state="running")
        self.running = True
        self.log.note(self._heading())
        fold_results = self.folds.run(fold_sets(recipe, outline, sets))
        if recipe.fit.kfold is not None and not recipe.fit.kfold.final:
            return self._finish(None, None, sets, fold_results)
        if recipe.fit.kfold is not None:
            self.log.say(f"Final fit on all {len(sets.train)} rows")
        built, training = self.train(sets)
        built.words = table.words
        return self._finish(built, training, sets, fold_results)

    def train(self, sets: Sets) -> tuple[Built, Training]:
        """All phases one after the other, from where the run stands."""
        here = bool(self.saved) and self.saved["fold"] == self.fold
        first = self.saved.get("stage", 0) if here else 0
        began = self.saved["began"] if here else self.stages[0].fit.initial_epoch
        if not here:
            self.memory = Memory(self.recipe.callbacks)
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
        training = self.start(stage, built, sets)
        if before is not None:
            go_on(before[1], training)
        elif not here and stage.model.weights is not None and stage.model.weights.optimizer:
            state = optimizer_state(stage.model.weights, self.options.runs, self.folder)
            training.updater.load_state(state)
            self.log.say(f"The optimizer goes on from step {int(state['iteration']):,}")
        self.memory.hand_to(training, fresh=before is None)
        if self.recipe.phases:
            self.log.say(phase_line(self.recipe, self.stage, stage))
        try:
            training.run()
        finally:
            # Whoever looks now finds what callbacks have saved.
            self.directory.settle()
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
        self.note(weights=begun.record(), state="running")

    def _heading(self) -> str:
        rows = ", ".join(f"{count} {name}" for name, count in self.record["rows"].items())
        verb = "goes on with" if self.going_on else "fits"
        versions = f"trainer {trainer.__version__}, torch {self.record['environment']['torch']}"
        return f"{verb} {self.recipe.name}, seed {self.recipe.seed}, on {self.device} ({versions}); rows: {rows}"

    def start(self, recipe: Recipe, built: Built, sets: Sets) -> Training:
        """The training of a phase, where the run stands in it; no step is taken yet."""
        threads = self.record.get("threads") if self.going_on else None
        # One number for all phases: which of them a run was in when it stopped makes no difference then.
        most = max(stage.fit.batch_size for stage in self.stages)
        threads = set_threads(step_work(built.graph, most), threads)
        if threads != self.record.get("threads"):
            # On record before the first step, for they change the order of sums.
            self.note(threads=threads, state="running")
        train = built.training_feed(sets.train)
        validation = built.feed(sets.validation) if sets.validation is not None else None
        made = Training if self.profile is None else partial(Profiled, profile=self.profile)
        training = made(
            built.network,
            built.objective,
            built.updater(),
            recipe.callbacks,
            recipe.fit,
            recipe.seed,
            train,
            validation,
            self.directory.path if self.fold is None else self.directory.folder(f"folds/{self.fold + 1}"),
            self.log,
            signalled=self.signals,
            steps_per_execution=recipe.compile.steps_per_execution,
            engine=self.record.get("engine", "plain"),
            jit_compile=jit_compile(self.record, self.recipe, self.stage),
        )
        # What it took to make all that is of no use to steps.
        return_heap()
        changes = steps_noted(self.record, self.recipe, self.stage, training)
        if changes:
            self.note(**changes, state="running")
        # Threads of the process that this may be a copy of are not here.
        assert self.apart is None or threads == 1
        # From here on all folds go as this one does.
        self.folds.let_others_begin()
        training.saves_first = self.stage > 0
        training.save_model = lambda path, weights_only: self._save_model(built, path, weights_only)
        training.checkpoint = lambda run, force: self.keep(built, run, force)
        if self.saved and self.saved["fold"] == self.fold:
            assert self.model is not None
            load_weights(built, self.model)
            training.load_state(self.saved["training"])
            if self.options.epochs is not None and training.stop_reason:
                # Its recipe would stop there again.
                self.note(continued=f"epoch {training.epoch}: {training.stop_reason}", state="running")
                training.stop_reason = ""
            self.saved = {}
        elif self.stage == 0 and (self.going_on or self.folds.begun_elsewhere(self.fold)):
            for callback in training.callbacks:
                callback.forget(training.directory)
        return training

    def _take_up(self, table: Table) -> None:
        """Go on from the last checkpoint, where there is one."""
        check_unchanged(self.recipe, self.record, self.options, table, self.device)
        found = last_checkpoint(self.directory, self.options, self.log)
        if found is not None:
            self.model, self.saved = found
            self.folds.load_state(self.saved)
            self.memory.load_state(self.saved.get("memory", {}))

    def keep(self, built: Built, training: Training, force: bool) -> None:
        """Write a checkpoint, by `force` or when it is time for one."""
        since = time.perf_counter() - self.last_write
        if self.apart is not None:
            return
        if not force and since < max(self.options.checkpoint_every, CHECKPOINT_SHARE * self.write_cost):
            return
        began = time.perf_counter()
        data = self._model_pieces(built, training)
        self.directory.save_checkpoint(data, training.epoch, training.batch)
        self.last_write = time.perf_counter()
        self.write_cost = self.last_write - began

    def _model_pieces(self, built: Built, training: Training | None) -> Image:
        state = {
            "fold": self.fold,
            "stage": self.stage,
            "began": built.recipe.fit.initial_epoch,
            # A model that a callback writes says nothing of other folds.
            **(self.folds.state() if training is not None else {"folds": []}),
            "preprocessing": built.preprocessing(),
            "memory": self.memory.state(built.recipe.callbacks),
            "training": training.state(live=True) if training is not None else None,
        }
        return model_pieces(built.network, built.description, state)

    def _save_model(self, built: Built, path: str, weights_only: bool) -> None:
        data = weights_pieces(built.network) if weights_only else self._model_pieces(built, None)
        self.directory.write_soon(path if self.fold is None else f"folds/{self.fold + 1}/{path}", data)

    def _finish(
        self, built: Built | None, training: Training | None, sets: Sets, folds: list[dict[str, Any]]
    ) -> Outcome:
        """Write what the run came to."""
        figures = fold_figures(folds)
        if built is not None and training is not None:
            self.directory.write("model.h5", self._model_pieces(built, training))
            self.record["layers"] = [vars(line) for line in summarize(built.graph).lines]
            self.record["graph"] = of_graph(built.graph).as_data()
            figures |= final_figures(built, training, sets)
        outcome = outcome_of(self.directory.path, training, figures, [f["history"] for f in folds])
        outcome.verdicts = verdicts(self.recipe.expect, figures)
        write_outcome(self.directory, outcome)
        outcome.seconds = time.perf_counter() - self.started
        if self.profile is not None:
            outcome.profile = write_profile(self.directory, self.profile, outcome.seconds)
        seconds = [round(s, 6) for s in training.epoch_seconds] if training is not None else []
        if self.folds.seconds:
            self.record["fold_seconds"] = self.folds.seconds
        self.note(state="done", figures=figures, finished=now(), best_epoch=outcome.best_epoch, epoch_seconds=seconds)
        self.log.note(closing_line(outcome))
        return outcome

    def note(self, **values: Any) -> None:
        """Write run.json anew with some values changed; the clock adds up over resumes."""
        before = self.record.get("seconds", 0.0) if self.going_on else 0.0
        self.record |= values
        if self.apart is not None:
            return
        if values.get("state") != "running":
            self.record.pop("error", None) if values.get("state") == "done" else None
            self.record["seconds"] = round(before + time.perf_counter() - self.started, 3)
        self.directory.write_record(finite(self.record))
