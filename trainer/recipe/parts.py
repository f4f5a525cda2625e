"""What is sound of a recipe, so that the rest of a faulty one is checked too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from trainer.callbacks.base import Callback
from trainer.layers.lines import Lines
from trainer.optimizers.base import Optimizer
from trainer.recipe.compile import Compile, LossUse, MetricsUse
from trainer.recipe.dataset import Dataset
from trainer.recipe.model import Model
from trainer.recipe.schema import Recipe


@dataclass
class Parts:
    """What is sound of a recipe, so that the rest of a faulty one is checked too; None where something is not."""

    name: str = "recipe"
    dataset: Dataset | None = None
    model: Model | None = None
    "With the layers up to the first faulty one."
    outputs: tuple[str, ...] | None = None
    "Names of the outputs, when the model says them."
    whole: bool = False
    "Whether the model has all of its layers."
    compile: Compile | None = None
    metrics_sound: bool = False
    sample_weight: Any = None
    class_weight: bool = False
    validates: bool = False
    folds: bool = False
    callbacks: list[tuple[int, Callback]] = field(default_factory=list)
    expect: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    shuffles: bool = False

    @classmethod
    def of(cls, recipe: Recipe) -> Parts:
        """All parts of a sound recipe."""
        fit, split = recipe.fit, recipe.dataset.split
        validates = bool(fit.validation_split) or split.validation is not None
        return cls(
            recipe.name,
            recipe.dataset,
            recipe.model,
            recipe.model.outputs,
            True,
            recipe.compile,
            True,
            fit.sample_weight,
            fit.class_weight is not None,
            validates or (fit.kfold is not None and not fit.kfold.final),
            fit.kfold is not None,
            list(enumerate(recipe.callbacks)),
            dict(recipe.expect),
            fit.batch_size,
            fit.shuffle,
        )

    @classmethod
    def salvaged(cls, value: dict[str, Any]) -> Parts:
        """What can be read of a faulty recipe."""
        compiled, fit, model, dataset = (_mapping(value.get(k)) for k in ("compile", "fit", "model", "dataset"))
        metrics = {word: _sound(MetricsUse.either, compiled.get(word, ())) for word in ("metrics", "weighted_metrics")}
        lines = [_sound(Lines.line, v) for v in _sound(Lines.spelled, _list(model.get("layers"))) or ()]
        good = tuple(itertools.takewhile(lambda line: line is not None, lines))
        rest = _sound(Model.read, {**{k: v for k, v in model.items() if k != "layers"}, "layers": ["Flatten"]})
        callbacks = [(i, _sound(Callback.parse, v)) for i, v in enumerate(_list(value.get("callbacks")))]
        weight = fit.get("sample_weight")
        return cls(
            dataset=_sound(Dataset.read, value.get("dataset")),
            model=rest.model_copy(update={"layers": good}) if rest is not None and good else None,
            outputs=rest.outputs if rest is not None else None,
            whole=bool(lines) and len(good) == len(lines),
            compile=Compile.model_construct(
                optimizer=_sound(Optimizer.parse, compiled.get("optimizer")),
                loss=_sound(LossUse.either, compiled.get("loss")),
                loss_weights=None,
                metrics=metrics["metrics"] or (),
                weighted_metrics=metrics["weighted_metrics"] or (),
            ),
            # In phases, other metrics may be logged than `compile` says.
            metrics_sound=None not in metrics.values() and not value.get("phases"),
            sample_weight=weight if isinstance(weight, str) else None,
            class_weight=fit.get("class_weight") is not None,
            validates=bool(fit.get("validation_split"))
            or bool(_mapping(dataset.get("split")).get("validation"))
            or _mapping(fit.get("kfold")).get("final") is False,
            folds=bool(fit.get("kfold")),
            callbacks=[(i, c) for i, c in callbacks if c is not None],
            expect={k: v for k, v in _mapping(value.get("expect")).items() if isinstance(k, str)},
        )


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _sound(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (ValidationError, PydanticCustomError):
        return None
