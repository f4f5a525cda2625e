"""What a finished run came to: figures that `expect` can name, and whether they are as expected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from trainer.callbacks.base import better
from trainer.errors import RecipeError
from trainer.model.summary import summarize
from trainer.naming import snake_case
from trainer.recipe.expectation import Expectation
from trainer.recipe.schema import Recipe
from trainer.train.build import Built
from trainer.train.feed import Feed
from trainer.train.loop import Training
from trainer.train.rows import Sets
from trainer.train.scoring import evaluate


def final_figures(built: Built, training: Training, sets: Sets) -> dict[str, float]:
    """Everything that `expect` can name of a finished training, but for folds."""
    fit_options = built.recipe.fit
    size = fit_options.validation_batch_size or fit_options.batch_size
    training.train.let_go()
    # One after the other: a set's rows go before the next one's are made.
    parts: dict[str, Callable[[], Feed | None]] = {
        "train": lambda: built.feed(sets.train) if _needs(built.recipe, "train.") else None,
        "val": lambda: training.validation,
        "test": lambda: built.feed(sets.test) if sets.test is not None else None,
    }
    figures: dict[str, float] = {
        "parameters": summarize(built.graph).parameters,
        "epochs": len(training.history_epochs),
    }
    for name, rows in parts.items():
        feed = rows()
        if feed is not None:
            found = evaluate(built.network, feed, built.objective, size)
            figures |= {f"{name}.{k}": v for k, v in found.items()}
        del feed
    kinds = {name: snake_case(type(metric).__name__) for name, _, metric, _ in built.objective.metrics}
    for name, values in training.history.items():
        known = [v for v in values if not math.isnan(v)]
        if known:
            figures[f"history.{name}.last"] = known[-1]
            larger = larger_is_better(kinds.get(name.removeprefix("val_"), name))
            figures[f"history.{name}.best"] = (max if larger else min)(known)
    return figures


def _needs(recipe: Recipe, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in recipe.expect)


def larger_is_better(name: str) -> bool:
    """Whether the best value of a quantity is its largest, by Keras's rule; where none is known, its smallest."""
    try:
        return better("auto", name) > 0
    except RecipeError:
        return False


def best_epoch(epochs: Sequence[int], history: Mapping[str, list[float]]) -> int | None:
    """Number (from 1) of the epoch with the smallest validation loss, or None without validation.

    `epochs` are the numbers (from 0) of the history's rows.
    """
    known = [(v, e) for v, e in zip(history.get("val_loss", []), epochs, strict=False) if not math.isnan(v)]
    return min(known)[1] + 1 if known else None


def verdicts(expect: Mapping[str, Expectation], figures: Mapping[str, float]) -> dict[str, tuple[bool, str]]:
    """Which expectations of a single run hold; one whose figure the run does not have fails."""
    found = {}
    for name, bounds in expect.items():
        words = bounds.words()
        if words:
            found[name] = (name in figures and bounds.holds(figures[name]), words)
    return found
