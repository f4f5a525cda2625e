"""The folds of a run: trained by several processes, side by side in one, or one after the other."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainer.runs.history import History
from trainer.train.build import Built, build
from trainer.train.devices import step_work, threads_for
from trainer.train.fold_processes import FoldProcesses, FoldResult, processes
from trainer.train.log import Told
from trainer.train.loop import Training
from trainer.train.progress import Quiet, Stopped
from trainer.train.rows import Sets
from trainer.train.stages import placed
from trainer.train.together import Together, goes_beside, in_step

if TYPE_CHECKING:
    from trainer.train.work import Job


class Folds:
    """The folds of a run, and what those came to that are finished."""

    def __init__(self, job: Job):
        """`job` trains one."""
        self.job = job
        self.finished: list[dict[str, Any]] = []
        "History and values of the first folds, in their order."
        self.seconds: list[float] = []
        "Of the folds that were trained since the run went on."
        self.ahead: dict[int, FoldResult] = {}
        "Folds that other processes had finished, beyond those in their order, when the run stopped."
        self.others: FoldProcesses | None = None
        "Processes that train folds for this one."

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        ahead = {**self.ahead, **(self.others.finished() if self.others is not None else {})}
        return {"folds": self.finished, "ahead": {str(number): result.as_data() for number, result in ahead.items()}}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take up what a checkpoint kept."""
        self.finished = saved["folds"]
        self.ahead = {int(number): FoldResult.of_data(result) for number, result in saved.get("ahead", {}).items()}

    def let_others_begin(self) -> None:
        """Where other processes help: all is decided that holds for every fold."""
        if self.others is not None and self.job.apart is None:
            self.others.begin()

    def begun_elsewhere(self, number: int | None) -> bool:
        """Whether another process may have begun a fold that is this one's after all."""
        if self.others is None or number is None or self.job.apart is not None:
            return False
        return self.others.was_shared(number)

    def run(self, folds: list[Sets]) -> list[dict[str, Any]]:
        """Train what folds are left: by several processes, or side by side where they can go so, or one by one."""
        first = len(self.finished)
        # A run that goes on does so as it began: the last digits are others side by side.
        beside = self.job.record.get("folds_side_by_side") if self.job.going_on else None
        count = 1 if beside else self._processes(folds[first:])
        fresh = not first and not self.job.saved
        if count == 1 and fresh and beside is not False and self._side_by_side(folds):
            return self.finished
        if folds and fresh:
            self.job.note(folds_side_by_side=False, state="running")
        left = [number for number in range(first, len(folds)) if number not in self.ahead]
        own: tuple[Built, Training] | None = None
        train = lambda number: self._apart(number, folds[number])  # noqa: E731
        with FoldProcesses(train, left, min(count, max(1, len(left))), self.job.signals) as self.others:
            for number, fold in enumerate(folds[first:], first):
                rows = f"{len(fold.train)} rows train, {len(fold.validation or ())} validate"
                self.job.log.say(f"Fold {number + 1}/{len(folds)}: {rows}")
                done = self.ahead.pop(number, None) or self._from_others(number, own)
                if done is None:
                    self.job.fold = number
                    own = self.job.train(fold)
                    self._finish(FoldResult.of(own[1]))
                    continue
                self.job.log.tell(done.told)
                self._finish(done)
                if own is not None:
                    self.job.keep(*own, force=False)
        self.job.fold = self.others = None
        return self.finished

    def _from_others(self, number: int, own: tuple[Built, Training] | None) -> FoldResult | None:
        """What another process made of a fold; None when it is this one's to train."""
        assert self.others is not None
        try:
            return self.others.result(number)
        except Stopped:
            if own is not None:
                self.job.keep(*own, force=True)
            raise

    def _processes(self, folds: list[Sets]) -> int:
        """How many processes train the folds that are left."""
        fits = [stage.fit for stage in self.job.stages]
        alone = len(folds) < 2 or len(fits) > 1 or self.job.device.type != "cpu" or self.job.profile is not None
        # What holds for all folds is decided in the first; a plugin may keep something beside its memory.
        outward = any(c.in_order or not type(c).__module__.startswith("trainer.") for c in self.job.recipe.callbacks)
        if alone or outward or self.job.recipe.model.weights or self.job.outlines[0].graph is None:
            return 1
        work = step_work(self.job.outlines[0].graph, fits[0].batch_size)
        if threads_for(work, self.job.record.get("threads") if self.job.going_on else None) > 1:
            return 1
        rows = sum(len(fold.train) for fold in folds)
        raw = max(fold.train.nbytes for fold in folds)
        return processes(len(folds), rows // fits[0].batch_size * (fits[0].epochs - fits[0].initial_epoch), raw)

    def _apart(self, number: int, fold: Sets) -> FoldResult:
        """A fold trained in a process of its own, which leaves all but the fold's folder to the run's."""
        assert self.others is not None
        signals, others = self.job.signals, self.others
        self.job.fold, self.finished = number, []
        self.job.log = self.job.apart = Told()
        self.job.signals = lambda: signals() or (signal.SIGTERM if others.orphaned() else 0)
        return replace(FoldResult.of(self.job.train(fold)[1]), told=self.job.apart.lines)

    def _finish(self, done: FoldResult) -> None:
        number = len(self.finished) + 1
        self.finished.append({"history": done.history, "values": done.values})
        self.seconds.append(done.seconds)
        history = History.of(done.epochs, done.history)
        self.job.directory.write(f"folds/{number}/history.csv", history.to_csv())

    def _side_by_side(self, folds: list[Sets]) -> bool:
        """Train all folds at once; nothing is done where they can't go together."""
        trainings: list[Training] = []
        for number, fold in enumerate(folds if len(self.job.stages) == 1 and not self.job.recipe.model.weights else []):
            self.job.fold = number
            with placed(self.job.recipe, 0):
                built = build(self.job.recipe, self.job.outlines[0], fold.train, self.job.device)
                trainings.append(self.job.start(self.job.recipe, built, fold))
            if not goes_beside(trainings[0], len(folds)):
                break
        self.job.fold = None
        if len(trainings) < max(len(folds), 2) or not in_step(trainings):
            return False
        for training in trainings:
            training.checkpoint, training.progress = _no_checkpoint, Quiet()
            for callback in training.callbacks if self.job.going_on else ():
                callback.forget(training.directory)
        self.job.note(folds_side_by_side=True, state="running")
        rows = ", ".join(str(len(fold.train)) for fold in folds)
        self.job.log.say(f"{len(folds)} folds side by side: {rows} rows train; shown are means")
        Together(trainings, self.job.log).run()
        for training in trainings:
            self._finish(FoldResult.of(training))
        return True


def _no_checkpoint(training: Training, force: bool) -> None:
    """Folds side by side are kept when all of them are done."""
