"""Names that a recipe watches and expects, against those that its training produces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.callbacks.base import Callback, better
from trainer.errors import Problem, RecipeError, nearest
from trainer.recipe.compile import logged
from trainer.recipe.parts import Parts
from trainer.schedules.base import ConstantRate


class NameCheck:
    """Holds callbacks and expectations of a recipe against what its history will hold."""

    def __init__(self, parts: Parts, outputs: tuple[str, ...], problems: list[Problem]):
        self.parts, self.outputs, self.problems = parts, outputs, problems

    def log_names(self) -> list[str]:
        """Names that the history of this recipe will hold."""
        names = ["loss"]
        if self.parts.compile is not None:
            names = logged(self.parts.compile.goals(self.outputs))
        if self.parts.validates:
            names += [f"val_{n}" for n in names]
        return [*names, "learning_rate"]

    def watched(self) -> None:
        """Hold what callbacks monitor and set against what there is."""
        names = self.log_names()
        for index, callback in self.parts.callbacks:
            self._rate_moves(index, callback)
            watched = callback.monitored()
            if watched is None:
                continue
            if watched in names:
                self._direction(index, callback, watched)
                continue
            hint = nearest(watched, names)
            if watched.startswith("val_") and "val_loss" not in names:
                hint = "nothing is held out for validation; add fit.validation_split or dataset.split.validation"
                if self.parts.folds:
                    hint = "the final fit of a k-fold run has no validation set; watch a training value"
            path = ("callbacks", index, type(callback).__name__, "monitor")
            message = f'nothing produces "{watched}"; the logs hold {", ".join(names)}'
            self.problems.append(Problem(message, path, hint, "monitor"))

    def _rate_moves(self, index: int, callback: Callback) -> None:
        optimizer = self.parts.compile.optimizer if self.parts.compile is not None else None
        rate = getattr(optimizer, "learning_rate", None)
        if callback.sets_learning_rate and rate is not None and not isinstance(rate, ConstantRate):
            name, schedule = type(callback).__name__, type(rate).__name__
            message = f"{name} sets the learning rate, which follows {schedule} already"
            hint = f"write a number as learning_rate, or remove {name}"
            self.problems.append(Problem(message, ("callbacks", index), hint, "learning-rate"))

    def _direction(self, index: int, callback: Callback, watched: str) -> None:
        try:
            better(getattr(callback, "mode", "min"), watched)
        except RecipeError as error:
            path = ("callbacks", index, type(callback).__name__, "monitor")
            self.problems += [replace(p, path=path) for p in error.problems]

    def expected(self, asked: Mapping[str, Any], history: Sequence[str]) -> None:
        """Hold the names of what is expected against what a run produces; `history` are all names in its history."""
        metrics = [n for n in self.log_names() if not n.startswith("val_") and n != "learning_rate"]
        good = ["parameters", "epochs"]
        good += [f"{part}.{m}" for part in ("test", "val", "train") for m in metrics]
        good += [f"history.{m}.{end}" for m in history for end in ("last", "best")]
        good += [f"folds.{m}.{what}" for m in metrics for what in ("mean", "std")]
        for name in asked:
            if name not in good:
                hint = nearest(name, good) or "test.METRIC, val.METRIC, train.METRIC, history.METRIC.last, parameters"
                self.problems.append(Problem(f'no run produces "{name}"', ("expect", name), hint, "expect", None, True))
            elif name.startswith(("val.", "history.val_")) and not self.parts.validates:
                message = f'"{name}" needs validation rows'
                hint = "add fit.validation_split or dataset.split.validation"
                self.problems.append(Problem(message, ("expect", name), hint, "expect", None, True))
            elif name.startswith("folds.") and not self.parts.folds:
                message = f'"{name}" needs folds'
                self.problems.append(Problem(message, ("expect", name), "add fit.kfold", "expect", None, True))
