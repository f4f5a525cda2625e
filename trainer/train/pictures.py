"""What a person looks at in a run's directory: curves and the page; made from its files, so at any time again."""

from __future__ import annotations

import importlib.util

from trainer.report.page import page
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History


def present(directory: RunDirectory) -> None:
    """Write `plots/*.png` (where matplotlib is installed) and `report.html`."""
    draw(directory)
    directory.write("report.html", page(directory))


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(directory: RunDirectory) -> None:
    """Write curves of the run, and of its folds, raw and smoothed, under `plots/`."""
    if not can_draw():
        return
    from trainer.report.plots import curves, fold_curves

    made = {}
    history = _history(directory, "history.csv")
    if history.epochs:
        made["curves.png"] = curves(history.values)
    folds = [_history(directory, f"folds/{number}/history.csv") for number in _folds(directory)]
    if folds:
        made["folds.png"] = fold_curves([f.values for f in folds])
        made["folds-smoothed.png"] = fold_curves([f.values for f in folds], smoothed=True)
    for name, data in made.items():
        directory.write(f"plots/{name}", data)


def _folds(directory: RunDirectory) -> list[int]:
    """Numbers, from 1, of the folds that are finished."""
    found = directory.path.glob("folds/*/history.csv")
    return sorted(int(path.parent.name) for path in found if path.parent.name.isdecimal())


def _history(directory: RunDirectory, name: str) -> History:
    path = directory.path / name
    return History.from_csv(path.read_bytes()) if path.is_file() else History()
