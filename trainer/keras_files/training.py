"""What `compile` was given, of every generation of Keras, in the form that today's files have.

A loss, a metric or an optimizer that is not known is left out with a note: it must not keep anybody from the model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainer.declare import Declared
from trainer.keras_files.reading import Reading, entry, plain
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.metrics.resolve import BY_SHAPE
from trainer.optimizers.base import Optimizer
from trainer.schedules.base import Schedule

Entry = dict[str, Any]

LOSSES = {
    "cosine_proximity": "CosineSimilarity",
    "cosine": "CosineSimilarity",
    "logcosh": "LogCosh",
    "kullback_leibler_divergence": "KLDivergence",
    "huber_loss": "Huber",
}
METRICS = {"cosine_proximity": "CosineSimilarity", "cosine": "CosineSimilarity", "logcosh": "LogCoshError"} | {
    "kullback_leibler_divergence": "KLDivergence",
    "MeanRelativeError": "",
}
"Names of old, beside those that the classes have; none where another thing has the name today."
_WRAPPERS = ("MeanMetricWrapper", "SumOverBatchSizeMetricWrapper", "LossFunctionWrapper")
EPSILON = 1e-7
"What an optimizer of Keras 2 meant by an epsilon of null."


def training_today(training: Entry | None, architecture: Entry, reading: Reading) -> Entry | None:
    """The training settings in today's form; None where the file has none."""
    if not isinstance(training, dict) or not ({"loss", "optimizer", "optimizer_config"} & set(training)):
        return None
    outputs = output_names(architecture)
    training = plain_outside(training)
    losses = _for_outputs(training.get("loss"), outputs, lambda x: _loss(x, reading))
    if training.get("sample_weight_mode"):
        reading.note("sample_weight_mode was left out: weights of steps are given with the data today")
    return {
        "loss": losses[0] if len(losses) == 1 else losses,
        "loss_weights": _loss_weights(training.get("loss_weights"), outputs),
        "metrics": _metrics(training.get("metrics"), outputs, reading),
        "weighted_metrics": _metrics(training.get("weighted_metrics"), outputs, reading),
        "run_eagerly": False,
        "steps_per_execution": training.get("steps_per_execution") or 1,
        "jit_compile": False,
        "optimizer_config": _optimizer(training.get("optimizer_config") or training.get("optimizer"), reading),
    }


def plain_outside(training: Entry) -> Entry:
    """The settings without TensorFlow's marks for arrays and tuples."""
    found = plain(training)
    assert isinstance(found, dict)
    return found


def output_names(architecture: Entry) -> list[str]:
    """Names of the model's outputs: of the layers that make them, or the keys that the model gives them."""
    config = architecture["config"]
    if architecture["class_name"] != "Functional":
        return ["output"]
    ends = config.get("output_layers") or []
    if isinstance(ends, dict):
        return list(ends)
    if ends and isinstance(ends[0], str):
        return [ends[0]]
    return [end[0] if isinstance(end, list) and end else "output" for end in ends]


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and "class_name" in value


def _for_outputs(value: Any, outputs: list[str], make: Callable[[Any], Any]) -> list[Any]:
    """Something for each output, from one for all, a list or a mapping."""
    if isinstance(value, dict) and not _is_object(value):
        return [make(value.get(name)) for name in outputs]
    if isinstance(value, list):
        values = [*value, *[None] * len(outputs)][: len(outputs)]
        return [make(v) for v in values]
    return [make(value) for _ in outputs]


def _loss_weights(value: Any, outputs: list[str]) -> list[float] | None:
    if isinstance(value, dict):
        value = [value.get(name, 1.0) for name in outputs]
    if not isinstance(value, list) or not all(isinstance(n, (int, float)) for n in value):
        return None
    weights = [float(n) for n in [*value, *[1.0] * len(outputs)][: len(outputs)]]
    return None if set(weights) == {1.0} else weights


def _loss(value: Any, reading: Reading) -> Any:
    """A loss as Keras 3 describes it; None where there is none, or it is not known."""
    kind, config = _kind_and_config(value)
    if kind is None:
        return None
    if config.get("reduction") in ("auto", None):
        config.pop("reduction", None)
    config.pop("fn", None)
    made = _known(Loss, LOSSES.get(kind, kind), config, reading)
    if made is not None and isinstance(value, str):
        made["config"] = {}
    return made


def _metrics(value: Any, outputs: list[str], reading: Reading) -> Any:
    """Metrics as Keras 3 describes them, a list of them for each output; words that stand for several stay words."""

    def some(found: Any, output: str) -> list[Any]:
        values = found if isinstance(found, list) else [found]
        flat = [v for x in values for v in (x if isinstance(x, list) else [x])]
        return [_bare(made, output) for v in flat if v is not None and (made := _metric(v, reading)) is not None]

    if not value:
        return None
    for_each = isinstance(value, dict) or any(isinstance(v, list) for v in value)
    if isinstance(value, list) and not reading.old and len(value) == len(outputs) > 1:
        for_each = True
    values = _for_outputs(value, outputs, lambda x: x) if for_each else [value] * len(outputs)
    made = [some(v, name if len(outputs) > 1 else "") for v, name in zip(values, outputs, strict=True)]
    if not any(made):
        return None
    return made[0] if len(made) == 1 else made


def _bare(metric: Any, output: str) -> Any:
    """The metric without the output's name, which tf.keras put before its own."""
    name = metric["config"].get("name") if isinstance(metric, dict) else None
    if not output or not isinstance(name, str) or not name.startswith(f"{output}_"):
        return metric
    return {**metric, "config": {**metric["config"], "name": name.removeprefix(f"{output}_")}}


def _metric(value: Any, reading: Reading) -> Any:
    kind, config = _kind_and_config(value)
    if kind in BY_SHAPE:
        return kind
    if kind in _WRAPPERS:
        function = config.pop("fn", None)
        function = function.get("config") if isinstance(function, dict) else function
        return _metric_of(function, config.get("name"), reading)
    if kind is None:
        return None
    if isinstance(value, str):
        return _metric_of(kind, kind, reading)
    if kind == "AUC" and config.get("thresholds") and len(config["thresholds"]) == config.get("num_thresholds", 0) - 2:
        config.pop("thresholds")
    return _known(Metric, METRICS.get(kind, kind), config, reading)


def _metric_of(function: Any, name: Any, reading: Reading) -> Any:
    """The metric that means a function over rows, under a name in logs."""
    if not isinstance(function, str):
        reading.note(f"the metric {name} is not known and was left out")
        return None
    final = Metric.spellings().get(METRICS.get(function, function))
    named = {"name": name} if isinstance(name, str) and final is not None and name != final.__name__ else {}
    return _known(Metric, METRICS.get(function, function), named, reading)


def _kind_and_config(value: Any) -> tuple[str | None, Entry]:
    """Class or name, and options, of a name, an object, or a function of a name."""
    if isinstance(value, str):
        return value, {}
    if not _is_object(value):
        return None, {}
    config = value.get("config")
    if value["class_name"] == "function" and isinstance(config, str):
        return config, {}
    kind = str(value["class_name"]).rpartition(">")[2]
    return kind, dict(config) if isinstance(config, dict) else {}


def _known(room: type[Declared], kind: str, config: Entry, reading: Reading) -> Entry | None:
    """The object, with the options that its class has."""
    found = room.spellings().get(kind)
    if found is None:
        reading.note(f"the {room.kind} {kind} is not known and was left out")
        return None
    options = {k: v for k, v in config.items() if k in found.options() and k != "dtype"}
    lost = [k for k, v in config.items() if k not in found.options() and v not in (None, False) and k != "dtype"]
    if lost:
        reading.note(f"{found.__name__}: {', '.join(lost)} was left out, which has no place today")
    made = entry(found.keras, found.__name__, options)
    return made if found.keras else {**made, "module": None, "registered_name": f"trainer>{found.__name__}"}


_OPTIMIZER_MARKS = ("is_legacy_optimizer", "jit_compile", "dynamic", "initial_scale", "dynamic_growth_steps")


def _optimizer(value: Any, reading: Reading) -> Entry | None:
    """An optimizer's class and options in today's words."""
    kind, config = _kind_and_config(value)
    if kind is None:
        return None
    inner = config.get("inner_optimizer") or (config.get("optimizer") if kind.startswith("LossScale") else None)
    if kind.startswith("LossScale") and reading.old and isinstance(inner, dict):
        reading.note("the optimizer is used without the scaling of its loss")
        return _optimizer(inner, reading)
    found = Optimizer.spellings().get(kind)
    if found is None:
        reading.note(f"the optimizer {kind} is not known and was left out")
        return None
    if not reading.old:
        registered = value.get("registered_name") if isinstance(value, dict) else None
        return {"class_name": registered or kind, "config": config}
    config = {k: v for k, v in config.items() if k not in _OPTIMIZER_MARKS}
    config["learning_rate"] = _rate(config.pop("lr", config.get("learning_rate")), config.pop("decay", 0.0), reading)
    if config["learning_rate"] is None:
        del config["learning_rate"]
    if "epsilon" in config and config["epsilon"] is None:
        config["epsilon"] = EPSILON
    if config.pop("schedule_decay", None) not in (None, 0.004):
        reading.note("Nadam: schedule_decay was left out, which is always 0.004 today")
    made = _known(Optimizer, kind, config, reading)
    return None if made is None else {"class_name": made["class_name"], "config": made["config"]}


def _rate(rate: Any, decay: Any, reading: Reading) -> Any:
    """A learning rate or a schedule; `decay` was the schedule rate / (1 + decay * step)."""
    if isinstance(rate, dict):
        kind, config = _kind_and_config(rate)
        found = Schedule.spellings().get(str(kind))
        if found is None:
            reading.note(f"the schedule {kind} is not known: the optimizer's own rate stands")
            return None
        return entry(found.keras, found.__name__, {k: v for k, v in config.items() if k in found.options()})
    if isinstance(decay, (int, float)) and decay and isinstance(rate, (int, float)):
        options = {"initial_learning_rate": rate, "decay_steps": 1, "decay_rate": decay, "staircase": False}
        return entry("keras.optimizers.schedules", "InverseTimeDecay", {**options, "name": "InverseTimeDecay"})
    return rate if isinstance(rate, (int, float)) else None
