"""The recipe as frozen blocks: what may stand where, with Keras's words and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import field_validator, model_validator
from pydantic_core import core_schema

from trainer.callbacks.base import Callback
from trainer.declare import Block, raise_all
from trainer.layers.base import DType, Layer
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.metrics.resolve import BY_SHAPE
from trainer.optimizers.base import Optimizer
from trainer.optimizers.rmsprop import RMSprop
from trainer.options import (
    Bool,
    Name,
    NonNegativeInt,
    PositiveInt,
    ProperFraction,
    Rule,
    Str,
    complaint,
    ints,
    number,
    shown,
)
from trainer.recipe.dataset import Dataset
from trainer.recipe.expectation import Expectation


class Model(Block):
    """The layer stack."""

    layers: tuple[Layer, ...]
    "Layers in order, each reading the one above it."
    dtype: DType = "float32"
    """Number type of layers that say none: float32, float64, or mixed_bfloat16 and mixed_float16, which compute in half
    precision on weights kept in float32 (and, for mixed_float16, scale the loss so that small gradients are kept)."""
    input_shape: Annotated[tuple[int, ...], ints()] | None = None
    "Shape of one row of the input; only needed when the source can't tell it before it is opened."

    @field_validator("layers")
    @classmethod
    def _some(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        if not layers:
            raise_all([(complaint("expected at least one layer, found an empty list"), ())])
        return layers


class MetricUse:
    """A metric as a recipe names it: `accuracy` and `crossentropy` stay words until the shapes are known."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.read)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [{"enum": sorted(BY_SHAPE)}, {"trainer-kind": "metric"}]}

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


def _loss_weight(value: Any) -> float:
    (value,) = value if isinstance(value, (list, tuple)) else [value]
    return number(value)


LossWeights = Annotated[
    float,
    Rule(
        "a number, or a list of one number",
        _loss_weight,
        {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 1}]},
    ),
]


class Compile(Block):
    """What `model.compile` takes."""

    optimizer: Optimizer = RMSprop()
    "Update rule: a name, or {Adam: {learning_rate: 1e-3}}."
    loss: Loss
    "What training minimises."
    loss_weights: LossWeights | None = None
    "Factor of the loss (not of penalties): a number."
    metrics: Annotated[tuple[Annotated[Any, MetricUse], ...], "metrics"] = ()
    "What is reported beside the loss; every row counts alike, whatever its weight."
    weighted_metrics: Annotated[tuple[Annotated[Any, MetricUse], ...], "metrics"] = ()
    """What is reported with rows weighed by fit.sample_weight and fit.class_weight; a metric that stands under
    `metrics` too is called `weighted_accuracy` in logs."""

    @field_validator("metrics", "weighted_metrics")
    @classmethod
    def _differ(cls, metrics: tuple[Any, ...]) -> tuple[Any, ...]:
        _unlike(log_names(metrics))
        return metrics

    @model_validator(mode="after")
    def _differ_too(self) -> Compile:
        _unlike(self.log_names(), len(self.metrics), ("weighted_metrics",))
        return self

    def log_names(self) -> list[str]:
        """Names in logs of the metrics, then of the weighted ones."""
        return log_names(self.metrics, self.weighted_metrics)


def _unlike(names: list[str], first: int = 0, path: tuple[str, ...] = ()) -> None:
    for index, name in enumerate(names[first:], first):
        if name in names[:index] or name == "loss":
            found = complaint(f"two metrics are called {shown(name)}", "give one of them a `name`")
            raise_all([(found, (*path, index - first))])


class Folds(Block):
    """K-fold cross-validation over the training rows."""

    folds: Annotated[int, Rule("an integer of 2 or more", lambda v: _least_two(v), {"type": "integer", "minimum": 2})]
    "Number of folds; each is the validation set once."
    shuffle: Bool = False
    "Draw the folds instead of taking them in order."
    stratify: Bool = False
    "Keep the shares of the target's classes in every fold (implies drawing)."
    final: Bool = True
    "Train on all training rows afterwards; that model is the run's."


def _least_two(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise ValueError
    return value


def _class_weight(value: Any) -> Any:
    if value == "balanced":
        return value
    if not isinstance(value, dict):
        raise TypeError
    weights = {}
    for label, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0:
            raise ValueError
        weights[int(label)] = float(weight)
    return weights


ClassWeight = Annotated[
    Any,
    Rule(
        "balanced, or a mapping from class number to weight",
        _class_weight,
        {
            "anyOf": [
                {"const": "balanced"},
                {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            ]
        },
    ),
]


class Fit(Block):
    """What `model.fit` takes."""

    epochs: PositiveInt = 1
    "Passes over the training rows."
    batch_size: PositiveInt = 32
    "Rows a step."
    validation_split: ProperFraction = 0.0
    "The last share of the training rows, before any shuffling, is held out for validation."
    shuffle: Bool = True
    "Draw the order of the training rows anew in every epoch."
    class_weight: ClassWeight | None = None
    """Weight of each class in the loss and weighted_metrics of training: {0: 1.0, 1: 5.0}, or balanced
    (rows / (classes * rows of the class))."""
    sample_weight: Str | None = None
    """Field or column that weighs each row in the loss and weighted_metrics, in validation and test too. In training
    it multiplies with class_weight, where Keras refuses the two together."""
    steps_per_epoch: PositiveInt | None = None
    "Steps that make an epoch; by default one pass over the rows. Further rows follow in the next epoch."
    initial_epoch: NonNegativeInt = 0
    "Number of the first epoch (to continue a schedule)."
    validation_freq: PositiveInt = 1
    "Validate every so many epochs."
    validation_batch_size: PositiveInt | None = None
    "Rows a step in validation and test; by default batch_size."
    validation_steps: PositiveInt | None = None
    "Validate on that many batches only."
    kfold: Folds | None = None
    "Cross-validation instead of one validation set."

    @model_validator(mode="after")
    def _fits(self) -> Fit:
        if self.kfold and self.validation_split:
            message = "kfold makes its own validation sets; validation_split can't stand beside it"
            raise_all([(complaint(message, "remove validation_split"), ("validation_split",))])
        if self.initial_epoch >= self.epochs:
            message = f"initial_epoch {self.initial_epoch} leaves nothing to do when epochs is {self.epochs}"
            raise_all([(complaint(message), ("initial_epoch",))])
        return self


class Recipe(Block):
    """One run."""

    name: Name = "recipe"
    "Name of the run's folder; by default the file's name."
    seed: NonNegativeInt = 0
    "Where all random numbers come from."
    description: Str = ""
    "What the recipe is about."
    plugins: tuple[Str, ...] = ()
    "Python files beside the recipe that declare layers, losses, metrics or callbacks of yours."
    dataset: Dataset
    "Where rows come from and what the model reads of them."
    model: Model
    "The layer stack."
    compile: Compile
    "Optimizer, loss, metrics."
    fit: Fit = Fit()
    "Epochs, batches, validation."
    callbacks: tuple[Callback, ...] = ()
    "What happens around epochs and batches, in order."
    expect: dict[Str, Expectation] = {}
    """Figures that the run must reach: test.METRIC, val.METRIC, train.METRIC, history.METRIC.last|best,
    folds.METRIC.mean|std, parameters, epochs."""

    @model_validator(mode="after")
    def _one_validation_set(self) -> Recipe:
        if self.dataset.split.validation is not None and self.fit.validation_split:
            message = "dataset.split.validation holds validation rows back already"
            raise_all([(complaint(message, "remove one of the two"), ("fit", "validation_split"))])
        return self
