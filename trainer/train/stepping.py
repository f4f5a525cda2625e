"""How the steps of a run are taken, kept on record: going on another way would move the last digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from trainer.errors import RecipeError
from trainer.recipe.schema import Recipe
from trainer.switches import on
from trainer.train.loop import Training
from trainer.train.recorded import TAPES


def jit_compile(record: Mapping[str, Any], recipe: Recipe, stage: int) -> bool | Literal["layers"] | None:
    """Whether the steps of a phase are compiled: as the run began, or else as the recipe says; None to choose."""
    asked = recipe.compile.jit_compile
    found = record.get("jit_compile", {}).get(str(stage), None if asked == "auto" else bool(asked))
    # So said runs whose layers alone were compiled before there was a word for it.
    began_by_layers = str(stage) in record.get("jit_compile", {}) and "layers compiled" in record.get("steps_by", "")
    return "layers" if found is True and began_by_layers else found


def steps_noted(record: Mapping[str, Any], recipe: Recipe, stage: int, training: Training) -> dict[str, Any]:
    """What of a run's record changes by how a phase takes its steps.

    Raises:
        RecipeError: they were to be compiled and can't be.
    """
    begun, compiled = record.get("jit_compile", {}), _is_compiled(training)
    wanted = on("recorded" if training.train.device.type in TAPES else "compiled") and training.engine != "plain"
    if jit_compile(record, recipe, stage) and not compiled and wanted:
        if str(stage) not in begun:
            message = f"the steps of this model can't be compiled: {training.uncompiled_since}"
            hint = "jit_compile: auto compiles where it can"
            raise RecipeError(message, hint=hint, path=("compile", "jit_compile"), code="jit-compile")
        training.say(f"Steps were compiled so far and no longer are, since {training.uncompiled_since}")
    by = _words(training)
    if by == record.get("steps_by") and begun.get(str(stage)) == compiled:
        return {}
    return {"steps_by": by, "jit_compile": {**begun, str(stage): compiled}}


def _is_compiled(training: Training) -> bool | Literal["layers"]:
    """Whether steps are compiled code or recorded, or some layers in them compiled."""
    whole = bool(training.compiled or training.recorded)
    return "layers" if training.network.clock.compiles and not whole else whole


def _words(training: Training) -> str:
    """How gradients come about."""
    if training.compiled is not None:
        return "compiled code"
    if training.recorded is not None:
        return "a recorded graph of kernels"
    some = ", some layers compiled" if training.network.clock.compiles else ""
    if not training.autograd_since:
        return f"operations in a row{some}"
    unrecorded = training.train.device.type in TAPES and training.engine != "plain"
    more = f"; not recorded, since {training.uncompiled_since}" if unrecorded else ""
    return f"autograd, since {training.autograd_since}{more}{some}"
