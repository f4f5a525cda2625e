"""Keras's own forms of a run's model, and what is to be said of each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trainer.errors import RunError
from trainer.keras_files.exporting import Asked, Exported
from trainer.keras_files.writing import Compiled, archive_bytes, hdf5_bytes, json_bytes, weights_image
from trainer.lazy import np
from trainer.runs.keras_config import KERAS_VERSION, foreign, not_in_keras

if TYPE_CHECKING:
    from trainer.train.use import OpenRun

KERAS = f"Keras {KERAS_VERSION}"
NOT_IN_HDF5 = {"Lamb"}
"Optimizers that Keras has, and does not look for where it reads them from HDF5 files."


def archive(run: OpenRun, asked: Asked) -> Exported:
    """A `.keras` archive; with the optimizer's state unless it was asked for without."""
    compiled, notes = compiled_of(run, asked, usual=True)
    data = archive_bytes(run.built.network, _whole(run, compiled), saved=_finished(run))
    can = "opens it and predicts"
    if compiled is not None and compiled.state is None:
        can = "opens it, predicts, evaluates, and trains on with a fresh optimizer"
    elif compiled is not None:
        can = f"opens it, predicts, evaluates, and trains on from where {type(compiled.optimizer).__name__} stands"
    return _made(run, asked, data, f"{KERAS} {can}", notes, compiled)


def _whole(run: OpenRun, compiled: Compiled | None) -> Compiled | None:
    """With a fresh state where there is none, since Keras opens no archive of a compiled model without one."""
    if compiled is None or compiled.state is not None:
        return compiled
    if not any(trains for *_, trains in run.built.network.rows()):
        # There is nothing to have a state for, and Keras opens the file without these settings.
        return None
    fresh = run.built.updater().state()
    if compiled.learning_rate is not None:
        fresh["learning_rate"] = np.array(compiled.learning_rate)
    return replace(compiled, state=fresh)


def hdf5(run: OpenRun, asked: Asked) -> Exported:
    """A whole-model HDF5 file; with the optimizer's state where Keras 2 has it, when that was asked for."""
    compiled, notes = compiled_of(run, asked, usual=False)
    name = "" if compiled is None else type(compiled.optimizer).__name__
    if name in NOT_IN_HDF5 and asked.optimizer:
        raise RunError(f"--optimizer: {KERAS} finds no {name} in an .h5 file", hint="--to keras hands its state over")
    data = hdf5_bytes(run.built.network, compiled)
    can = "opens it and predicts"
    if compiled is not None and name in NOT_IN_HDF5:
        can = "opens it, predicts and evaluates"
        notes.append(f"{KERAS} finds no {name} in an .h5 file: `compile` the model there to train on, or --to keras")
    elif compiled is not None and compiled.state is None:
        can = "opens it, predicts, evaluates, and trains on with a fresh optimizer"
    elif compiled is not None:
        can = "opens it, predicts and evaluates"
        why = "with the optimizer's state in an .h5 file it can't `fit` (\"Unknown variable\"), with its own neither"
        notes.append(f"{KERAS}: {why}; --to keras hands the state over")
    return _made(run, asked, data, f"{KERAS} {can}", notes, compiled)


def weights(run: OpenRun, asked: Asked) -> Exported:
    """A `.weights.h5` file."""
    compiled, notes = compiled_of(run, asked, usual=False)
    state = compiled is not None and compiled.state is not None
    more = ", and the optimizer's state where it is compiled alike and built" if state else ""
    data = weights_image(run.built.network, compiled)
    return _made(run, asked, data, f"{KERAS}: `load_weights` of the same model takes them{more}", notes, compiled)


def architecture(run: OpenRun, asked: Asked) -> Exported:
    """The architecture as `to_json` writes it."""
    says = f"{KERAS}: `keras.models.model_from_json` makes the model, untrained"
    return _made(run, asked, json_bytes(run.built.graph), says, [], None)


def compiled_of(run: OpenRun, asked: Asked, *, usual: bool) -> tuple[Compiled | None, list[str]]:
    """What the model is trained with, and what is to be said of it; None where Keras has no such loss or optimizer.

    Raises:
        RunError: the optimizer's state was asked for and is not there.
    """
    built = run.built
    goals = list(built.objective.goals.values())
    lacking = [*dict.fromkeys(name for part in (built.optimizer, *(g.loss for g in goals)) for name in foreign(part))]
    training = run.state.get("training")
    state = None if training is None else training["optimizer"]
    wanted = usual if asked.optimizer is None else asked.optimizer
    if asked.optimizer and (state is None or lacking):
        why = f"Keras has no {', '.join(lacking)}" if lacking else "this file of the run holds none"
        raise RunError(f"--optimizer: the optimizer's state can't go along: {why}", hint="leave --optimizer out")
    if lacking:
        said = f"the file has no compile settings, since Keras has no {', '.join(lacking)}"
        return None, [f"{said}: `compile` it there to train on"]
    notes = []
    if wanted and state is None:
        notes.append("this file of the run has no optimizer's state: Keras trains on with a fresh one")
    unknown = [name for goal in goals for metric in (*goal.metrics, *goal.weighted_metrics) for name in foreign(metric)]
    if unknown:
        notes.append(f"Keras has no metric {', '.join(dict.fromkeys(unknown))}: left out")
    rate = None if state is None else state.get("learning_rate")
    return Compiled(built.optimizer, goals, state if wanted else None, None if rate is None else float(rate)), notes


def missing_from_keras(run: OpenRun) -> list[str]:
    """What Keras must be taught before it opens the file: classes of plugins."""
    lacking = not_in_keras(run.built.graph)
    if not lacking:
        return []
    how = 'register classes of these names there first: `@keras.saving.register_keras_serializable("trainer")`'
    if all("(LegacyHardSigmoid)" in one for one in lacking):
        how = 'give `load_model` custom_objects={"legacy_hard_sigmoid": lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)}'
    return [f"Keras has no {', '.join(lacking)}; {how}"]


def left_in_recipe(run: OpenRun) -> list[str]:
    """What stands before the model in the recipe, and so is not in a file of the model."""
    notes = []
    for name, pipeline in run.built.inputs.items():
        steps = [type(layer).__name__ for layer in pipeline.steps]
        if steps:
            said = f"not in the file: preprocessing of input {name} ({', '.join(steps)})"
            notes.append(f"{said}; the model takes rows as they are after it")
        drawn = [type(layer).__name__ for layer in pipeline.drawn]
        if drawn:
            notes.append(f"not in the file: {', '.join(drawn)} of input {name}, which act in training alone")
    for name, pipeline in run.built.targets.items():
        steps = [type(layer).__name__ for layer in pipeline.steps]
        if steps:
            notes.append(f"not in the file: preprocessing of target {name} ({', '.join(steps)})")
    return notes


def _made(run: OpenRun, asked: Asked, data: bytes, says: str, notes: list[str], compiled: Compiled | None) -> Exported:
    """A single file, with its size, what Keras does with it, and all that is to be noted."""
    network = run.built.network
    layers, parameters = len(network.graph.layers), sum(tensor.numel() for _, _, tensor, _ in network.rows())
    size = f"{asked.output}: {len(data):,} bytes, {layers:,} layers, {parameters:,} parameters"
    state = compiled is not None and compiled.state is not None
    figures: dict[str, Any] = {"layers": layers, "parameters": parameters, "optimizer": state}
    every = (*notes, *missing_from_keras(run), *left_in_recipe(run))
    return Exported({asked.output: data}, (size, says), every, figures)


def _finished(run: OpenRun) -> str:
    """When the run was done, as Keras writes times; so that exports of one run are equal."""
    try:
        found = datetime.fromisoformat(str(run.directory.record().get("finished")))
    except ValueError:
        return ""
    return found.strftime("%Y-%m-%d@%H:%M:%S")
