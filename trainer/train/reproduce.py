"""Training again, and holding what comes out against what was expected or what came out before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from trainer.errors import Path, RecipeError, path_text
from trainer.recipe.document import load
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.overrides import at
from trainer.recipe.rewriting import rewritten
from trainer.runs.directory import RunDirectory, finder
from trainer.runs.files import write_atomic
from trainer.train.beginning import check_recorded
from trainer.train.identity import source_folder
from trainer.train.job import Options, Outcome
from trainer.train.seeds import train_seeds

AGAIN = ("parameters", "epochs", "test.", "val.", "folds.", "history.")
SAME = 1e-6
"Relative distance within which a run's own figures count as reproduced on the same versions."


@dataclass
class Verdict:
    """Whether one figure came out."""

    target: str
    figure: str
    holds: bool
    expected: str
    found: str
    measured: tuple[float, ...] = ()
    "The figure for each seed."
    on_mean: bool = False
    "Whether it is the mean that was expected."


def reproduce_one(target: str, options: Options, seeds: int, sets: Sequence[str]) -> list[Verdict]:
    """Train a recipe (or the recipe of a run) once per seed and judge it.

    Raises:
        RecipeError: the recipe expects nothing, so nothing can be judged.
    """
    path = FilePath(target)
    if path.is_file():
        loaded = load_recipe(path, sets, allow_plugins=options.allow_plugins, find_run=finder(options.runs))
        folder, plugins, before = path.parent, path.parent, None
        if not loaded.recipe.expect:
            raise RecipeError(
                f"{target} expects nothing", hint="add `expect: {test.accuracy: {min: 0.9}}`, or reproduce a run of it"
            )
    elif target.endswith((".yaml", ".yml")):
        raise RecipeError(f"there is no file {target}")
    else:
        if seeds > 1:
            hint = "give the recipe itself, with an expect section"
            raise RecipeError(f"--seeds {seeds}: a run is trained again with its own seed only", hint=hint)
        directory = RunDirectory.find(options.runs, target)
        path, folder, plugins = directory.path / "resolved.yaml", source_folder(directory), directory.path
        loaded = load_recipe(path, sets, allow_plugins=options.allow_plugins)
        before = directory.record().get("figures")
        stopped = directory.record().get("continued")
        if stopped:
            hint = "reproduce the recipe, with the callback that stopped it taken out"
            raise RecipeError(f"{target} went on after a stop that its recipe would make again ({stopped})", hint=hint)
        if not any(flag.startswith("model.") for flag in sets):
            weights = loaded.recipe.model.weights
            check_recorded(directory.record().get("weights"), weights, options.runs, folder)
    outcomes = train_seeds(loaded, seeds, options, path.read_bytes(), folder, plugins)
    if before is not None:
        figures = {n: float(v) for n, v in before.items() if n.startswith(AGAIN)}
        return [_again(target, name, value, outcomes[0]) for name, value in figures.items()]
    return judged(target, loaded, outcomes)


def judged(target: str, loaded: Loaded, outcomes: list[Outcome]) -> list[Verdict]:
    """Each expectation for every seed, and those on the mean."""
    found = []
    for name, bounds in loaded.recipe.expect.items():
        values = [o.figures.get(name, float("nan")) for o in outcomes]
        spread = f"{np.mean(values):.4f}" + (f" ± {np.std(values):.4f}" if len(values) > 1 else "")
        detail = spread + (f" ({', '.join(f'{v:.4f}' for v in values)})" if len(values) > 1 else "")
        if bounds.words():
            found.append(
                Verdict(target, name, all(bounds.holds(v) for v in values), bounds.words(), detail, tuple(values))
            )
        if bounds.mean is not None and len(values) > 1:
            holds = bounds.mean.holds(float(np.mean(values)))
            found.append(Verdict(target, f"mean {name}", holds, bounds.mean.words(), spread, tuple(values), True))
    return found


def _again(target: str, name: str, before: float, outcome: Outcome) -> Verdict:
    now = outcome.figures.get(name, float("nan"))
    holds = abs(now - before) <= SAME * max(abs(before), 1e-12) or (now != now and before != before)
    return Verdict(target, name, holds, f"{before:.6g} again", f"{now:.6g}")


def updated(target: str, verdicts: Sequence[Verdict]) -> dict[str, tuple[float, float]]:
    """Move what a recipe file expects to what was measured, where it did not hold; `path: (before, after)`.

    A `min` or `max` moves to the worst seed, rounded outwards to the decimals that it has; a `value` to the mean.

    Raises:
        RecipeError: a figure is absent or not finite, or its bound does not stand in the file itself.
    """
    document = load(target)
    changes: dict[Path, float] = {}
    for verdict in verdicts:
        if not verdict.holds:
            changes |= _moved(document.value["expect"], verdict)
    if changes:
        write_atomic(FilePath(target), rewritten(document, changes).encode())
    return {path_text(path): (float(at(document.value, path)), value) for path, value in changes.items()}


def _moved(expect: dict[str, Any], verdict: Verdict) -> dict[Path, float]:
    values = [float(np.mean(verdict.measured))] if verdict.on_mean else list(verdict.measured)
    if not values or not all(math.isfinite(v) for v in values):
        raise RecipeError(f"{verdict.figure} has no value that could be expected", path=("expect",))
    name = verdict.figure.removeprefix("mean ") if verdict.on_mean else verdict.figure
    path: Path = ("expect", name, "mean") if verdict.on_mean else ("expect", name)
    bounds = expect[name]["mean"] if verdict.on_mean else expect[name]
    moved = {}
    if "min" in bounds and min(values) < float(bounds["min"]):
        moved[(*path, "min")] = _rounded(min(values), bounds["min"], math.floor)
    if "max" in bounds and max(values) > float(bounds["max"]):
        moved[(*path, "max")] = _rounded(max(values), bounds["max"], math.ceil)
    if "value" in bounds and not moved:
        moved[(*path, "value")] = _rounded(float(np.mean(values)), bounds["value"], round)
    return moved


def _rounded(value: float, like: float, way: Callable[[float], float]) -> float:
    """To as many decimals as the number that it replaces has, but three at least."""
    decimals = max(3, len(f"{like:.12g}".partition(".")[2]))
    return way(value * 10**decimals) / 10**decimals


def junit_xml(verdicts: Sequence[Verdict]) -> bytes:
    """The verdicts as JUnit XML, one test case each."""
    failed = sum(not v.holds for v in verdicts)
    suite = ElementTree.Element("testsuite", name="reproduce", tests=str(len(verdicts)), failures=str(failed))
    for verdict in verdicts:
        case = ElementTree.SubElement(suite, "testcase", classname=verdict.target, name=verdict.figure)
        if not verdict.holds:
            ElementTree.SubElement(case, "failure", message=f"expected {verdict.expected}, found {verdict.found}")
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
