"""The end of a run: what it came to, and the files that say it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.train.advice import advice
from trainer.train.figures import best_epoch
from trainer.train.loop import Training
from trainer.train.profile import Profile
from trainer.train.terms import Outcome
from trainer.wording import figures as figures_text


def fold_figures(folds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean and standard deviation of what was measured over the folds."""
    figures: dict[str, float] = {}
    for name in folds[0]["values"] if folds else []:
        values = [fold["values"][name] for fold in folds]
        figures[f"folds.{name}.mean"] = float(np.mean(values))
        figures[f"folds.{name}.std"] = float(np.std(values))
    return figures


def outcome_of(
    place: Path, training: Training | None, figures: dict[str, float], folds: list[dict[str, list[float]]]
) -> Outcome:
    """What a run in a directory came to; one of folds alone has no training at its end."""
    if training is None:
        return Outcome(place, figures, {}, 0.0, folds)
    outcome = Outcome(place, figures, training.history, 0.0, folds)
    outcome.epochs, outcome.stop_reason = training.history_epochs, training.stop_reason
    outcome.best_epoch = best_epoch(outcome.epochs, outcome.history)
    return outcome


def write_outcome(directory: RunDirectory, outcome: Outcome) -> None:
    """Write history.csv and metrics.json."""
    directory.write("history.csv", History.of(outcome.epochs, outcome.history).to_csv())
    expected = {n: {"holds": ok, "expected": words} for n, (ok, words) in outcome.verdicts.items()}
    metrics = {"figures": outcome.figures, "best_epoch": outcome.best_epoch, "expect": expected}
    directory.write("metrics.json", json.dumps(finite(metrics), indent=2).encode())


def write_profile(directory: RunDirectory, profile: Profile, seconds: float) -> dict[str, Any]:
    """Write profile.json for a run of so many seconds; what it holds."""
    figures = profile.figures()
    data = {**figures.as_data(), "run_seconds": round(seconds, 6), "advice": advice(figures)}
    directory.write("profile.json", json.dumps(data, indent=2).encode() + b"\n")
    return data


def closing_line(outcome: Outcome) -> str:
    """The last line of a run's log."""
    shown = {k: v for k, v in outcome.figures.items() if k.startswith(("train.", "val.", "test.", "folds."))}
    stopped = f"{outcome.stop_reason}; " if outcome.stop_reason else ""
    return f"{stopped}done in {outcome.seconds:.1f} s" + (f": {figures_text(shown)}" if shown else "")


def finite(value: Any) -> Any:
    """JSON has no not-a-number: such values become text."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return value
