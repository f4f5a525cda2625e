"""The pictures of a finished run; without matplotlib there are none, and that is said."""

from __future__ import annotations

import importlib.util

from trainer.runs.files import write_atomic
from trainer.train.job import Outcome


def draw(outcome: Outcome) -> list[str]:
    """Write curves of the run (and of its folds, raw and smoothed) under `plots/`; the files' names."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    from trainer.report.plots import curves, fold_curves

    folder = outcome.directory / "plots"
    folder.mkdir(exist_ok=True)
    made = {"curves.png": curves(outcome.history)}
    if outcome.folds:
        made["folds.png"] = fold_curves(outcome.folds)
        made["folds-smoothed.png"] = fold_curves(outcome.folds, smoothed=True)
    for name, data in made.items():
        write_atomic(folder / name, data)
    return list(made)
