"""The block `compile`: optimizer, losses and metrics, for each output where there are several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ValidationError, model_validator
from pydantic_core import core_schema

from trainer.block import Block, raise_under
from trainer.declare import KIND_MARK
from trainer.layers.base import DType
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.metrics.resolve import BY_SHAPE
from trainer.optimizers.base import Optimizer
from trainer.optimizers.rmsprop import RMSprop
from trainer.options import (
    PositiveInt,
    Rule,
    complaint,
    number,
    raise_all,
    shown,
)

PRECISIONS: dict[str, DType] = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
"Word for what layers compute in, to the number type that does."


class MetricUse:
    """A metric as a recipe names it: `accuracy` and `crossentropy` stay words until the shapes are known."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.read)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return cls.json()

    @staticmethod
    def json() -> dict[str, Any]:
        """The JSON Schema."""
        return {"anyOf": [{"enum": sorted(BY_SHAPE)}, {KIND_MARK: "metric"}]}

    @staticmethod
    def read(value: Any) -> Any:
        """The word itself, or the metric with its name in logs filled in (the short name, when one was written)."""
        if isinstance(value, str) and value in BY_SHAPE:
            return value
        metric = Metric.parse(value)
        if metric.name is None and isinstance(value, str):
            return metric.model_copy(update={"name": value if value not in Metric.catalogue else metric.default_name()})
        return metric if metric.name else metric.model_copy(update={"name": metric.default_name()})


def log_names(metrics: Sequence[Any], weighted: Sequence[Any] = ()) -> list[str]:
    """Names of metrics in logs; a weighted one that is there without weights too is `weighted_NAME`, as in Keras."""
    plain, more = ([m if isinstance(m, str) else str(m.name) for m in part] for part in (metrics, weighted))
    return plain + [f"weighted_{name}" if name in plain else name for name in more]


def _loss_weight(value: Any) -> float | dict[str, float]:
    if isinstance(value, dict):
        if not value or not all(isinstance(k, str) for k in value):
            raise ValueError
        return {k: number(v) for k, v in value.items()}
    (value,) = value if isinstance(value, (list, tuple)) else [value]
    return number(value)


_NUMBER = {"type": "number"}
LossWeights = Annotated[
    float | dict[str, float],
    Rule(
        "a number, a list of one number, or a mapping from the name of an output to a number",
        _loss_weight,
        {
            "anyOf": [
                _NUMBER,
                {"type": "array", "items": _NUMBER, "minItems": 1, "maxItems": 1},
                {"type": "object", "additionalProperties": _NUMBER, "minProperties": 1},
            ]
        },
    ),
]


def _auto_or_bool(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError
    return value


AutoOrBool = Annotated[bool | str, Rule("auto, true or false", _auto_or_bool, {"enum": ["auto", True, False]})]


class PerOutput:
    """What may be written once, or under the name of each output."""

    read: Callable[[Any], Any]
    schema: ClassVar[dict[str, Any]] = {}
    "JSON Schema of what is written once."
    one: ClassVar[dict[str, Any]] = {}
    "JSON Schema of what is written for an output, where that is another."

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.either)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        mapping = {"type": "object", "additionalProperties": cls.one or cls.schema, "minProperties": 1}
        return {"anyOf": [cls.schema, mapping]}

    @classmethod
    def is_mapping(cls, value: Any) -> bool:
        """Whether a value is one entry for each output."""
        raise NotImplementedError

    @classmethod
    def either(cls, value: Any) -> Any:
        """One entry, or a dict of them by output."""
        if not cls.is_mapping(value):
            return cls.read(value)
        return {name: under(name, cls.read, entry) for name, entry in value.items()}


def under(place: Any, read: Callable[[Any], Any], value: Any) -> Any:
    """What `read` makes of a value; problems say that it stands at `place`, the name of an output or a number."""
    if not isinstance(place, (str, int)):
        raise_all([(complaint(f"expected the name of an output, found {shown(place)}", on_key=True), ())])
    try:
        return read(value)
    except ValidationError as error:
        raise_under((place,), error)


class LossUse(PerOutput):
    """A loss, or one for each output."""

    read = staticmethod(Loss.parse)
    schema: ClassVar[dict[str, Any]] = {KIND_MARK: "loss"}

    @classmethod
    def is_mapping(cls, value: Any) -> bool:
        if not isinstance(value, dict) or not value:
            return False
        if len(value) > 1:
            return True
        ((name, entry),) = value.items()
        if Loss.known(str(name)) is not None or name in Loss.catalogue:
            return False
        thing = next(iter(entry)) if isinstance(entry, dict) and len(entry) == 1 else entry
        return isinstance(thing, (str, Loss)) and (
            not isinstance(entry, dict) or Loss.known(str(thing)) is not None or thing in Loss.catalogue
        )


def _metric_list(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    made = tuple(under(i, MetricUse.read, item) for i, item in enumerate(items))
    _unlike(log_names(made))
    return made


class MetricsUse(PerOutput):
    """A list of metrics, or one for each output."""

    read = staticmethod(_metric_list)
    schema: ClassVar[dict[str, Any]] = {"type": "array", "items": MetricUse.json()}
    one: ClassVar[dict[str, Any]] = {"anyOf": [schema, MetricUse.json()]}

    @classmethod
    def is_mapping(cls, value: Any) -> bool:
        if not isinstance(value, dict):
            return False
        ((name, entry),) = value.items() if len(value) == 1 else [("", [])]
        is_metric = Metric.known(str(name)) is not None or name in Metric.catalogue
        return not (is_metric and isinstance(entry, (dict, type(None))))

    @classmethod
    def either(cls, value: Any) -> Any:
        """A tuple of metrics, or a dict of them by output."""
        if not isinstance(value, (list, tuple)) and not cls.is_mapping(value):
            raise_all([(complaint(f"expected a list, found {shown(value)}"), ())])
        return super().either(value)


class Compile(Block):
    """What `model.compile` takes."""

    optimizer: Optimizer = RMSprop()
    "Update rule: a name, or {Adam: {learning_rate: 1e-3}}."
    loss: Annotated[Any, LossUse]
    "What training minimises; for a model with several outputs one for each by name, or one for all."
    loss_weights: LossWeights | None = None
    "Factor of the loss (not of penalties): a number, or one for each output by name."
    metrics: Annotated[Any, MetricsUse] = ()
    """What is reported beside the loss, for each output by name where there are several; every row counts alike,
    whatever its weight."""
    weighted_metrics: Annotated[Any, MetricsUse] = ()
    """What is reported with rows weighed by fit.sample_weight and fit.class_weight; a metric that stands under
    `metrics` too is called `weighted_accuracy` in logs."""

    steps_per_execution: PositiveInt = 1
    """Steps between looks of callbacks that look at batches (TerminateOnNaN, TensorBoard, ModelCheckpoint with a number
    as save_freq) and between redraws of the progress bar; a number such as 32 saves their time in models of small
    steps."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """What layers compute in that say no number type of their own, on weights kept in float32: `bfloat16` is short for
    `model: {dtype: mixed_bfloat16}`. On a processor that multiplies such numbers it pays for dense layers and
    convolutions; LSTM, GRU and SimpleRNN, where they are compiled, read and give bfloat16 but compute in float32."""
    jit_compile: AutoOrBool = "auto"
    """Whether steps are compiled to machine code by the system's C compiler, whole or, where that can't be, in
    recurrent layers, convolutions before a MaxPooling, BatchNormalization and the way back from an Embedding; on a GPU,
    whether they are recorded as a CUDA graph. `auto` does so when there are enough steps; `true` refuses a model of
    which nothing can be compiled, or recorded."""

    @model_validator(mode="after")
    def _differ_too(self) -> Compile:
        for output, goal in self.goals(self.outputs_named()).items():
            path = ("weighted_metrics", output) if isinstance(self.weighted_metrics, dict) else ("weighted_metrics",)
            _unlike(goal.log_names(), len(goal.metrics), path)
        return self

    def outputs_named(self) -> tuple[str, ...]:
        """The outputs that are named here; one without a name where none is."""
        named = [name for part in self._parts() if isinstance(part, dict) for name in part]
        return tuple(dict.fromkeys(named)) or ("",)

    def goals(self, outputs: Sequence[str]) -> dict[str, Goal]:
        """What is asked of each output; those that an entry leaves out have the default."""
        made = {}
        for name in outputs:
            loss, weight, metrics, weighted = (_of(part, name) for part in self._parts())
            made[name] = Goal(loss, metrics or (), weighted or (), 1.0 if weight is None else weight)
        return made

    def _parts(self) -> tuple[Any, ...]:
        return self.loss, self.loss_weights, self.metrics, self.weighted_metrics


def _of(part: Any, output: str) -> Any:
    return part.get(output) if isinstance(part, dict) else part


@dataclass(frozen=True)
class Goal:
    """What `compile` asks of one output."""

    loss: Loss | None
    metrics: tuple[Any, ...] = ()
    weighted_metrics: tuple[Any, ...] = ()
    weight: float = 1.0

    def log_names(self) -> list[str]:
        """Names in logs of the metrics, then of the weighted ones."""
        return log_names(self.metrics, self.weighted_metrics)


def logged(goals: Mapping[str, Goal]) -> list[str]:
    """Names in logs of losses and metrics; those of several outputs begin with the output's name, as in Keras."""
    if len(goals) == 1:
        return ["loss", *(n for goal in goals.values() for n in goal.log_names())]
    losses = [f"{output}_loss" for output in goals]
    return ["loss", *losses, *(f"{output}_{n}" for output, goal in goals.items() for n in goal.log_names())]


def _unlike(names: list[str], first: int = 0, path: tuple[str, ...] = ()) -> None:
    for index, name in enumerate(names[first:], first):
        if name in names[:index] or name == "loss":
            found = complaint(f"two metrics are called {shown(name)}", "give one of them a `name`")
            raise_all([(found, (*path, index - first))])
