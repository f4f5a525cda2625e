"""A stopped run taken up again: whether it can go on exactly, and from where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from trainer.errors import RunError
from trainer.recipe.document import dump
from trainer.recipe.schema import Recipe
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import ModelFile, read_model
from trainer.sources.columns import Table
from trainer.train.fingerprint import differences, fingerprint
from trainer.train.identity import check_data, recipe_digest, resolved
from trainer.train.log import RunLog
from trainer.train.state import state_of
from trainer.train.terms import Options


def check_unchanged(
    recipe: Recipe, record: Mapping[str, Any], options: Options, table: Table, device: torch.device
) -> None:
    """Refuse to go on where that makes no sense, or where what the numbers depend on has changed.

    Raises:
        RunError: says what is in the way.
    """
    if recipe.phases and options.epochs is not None:
        hint = "`trainer fit` the recipe again with more epochs in its last phase"
        raise RunError("--epochs can't extend a run with phases, which say their epochs themselves", hint=hint)
    if record.get("state") == "done" and options.epochs is None:
        raise RunError("the run is complete", hint="`--epochs N` extends it; `trainer report` draws its page anew")
    changed = check_data(record, table)
    changed += differences(record.get("environment", {}), fingerprint(device))
    if changed and not options.allow_change:
        hint = "`--allow-change` goes on all the same; the numbers may then differ"
        raise RunError(f"the run can't go on exactly: changed are {'; '.join(changed)}", hint=hint)


def last_checkpoint(directory: RunDirectory, options: Options, log: RunLog) -> tuple[ModelFile, dict[str, Any]] | None:
    """(the model, the state of the run) of its last checkpoint; None when it was stopped before the first one.

    Raises:
        RunError: it is beyond the epochs that are asked for.
    """
    data, warning = directory.load_checkpoint()
    if warning:
        log.say(warning)
    if data is None:
        return None
    model = read_model(data)
    saved = state_of(model)
    at = saved["training"]["position"]["epoch"] if saved["training"] else 0
    if options.epochs is not None and options.epochs <= at:
        raise RunError(f"--epochs {options.epochs}: the run is at epoch {at} already")
    return model, saved


def extend(directory: RunDirectory, recipe: Recipe) -> str:
    """Keep the new number of epochs in the run's recipe, so that it is this recipe that ran; its digest.

    Raises:
        RunError: the run has folds, whose finished ones would stay short.
    """
    if recipe.fit.kfold is not None:
        hint = "`trainer fit` the recipe again with --set fit.epochs=N"
        raise RunError("--epochs can't extend a run with folds, whose trainings must be equally long", hint=hint)
    directory.write("resolved.yaml", dump(resolved(recipe)).encode())
    return recipe_digest(directory)
