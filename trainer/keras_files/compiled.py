"""What `compile` was given, as a recipe writes it; what can't be said there is left out with a note."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from trainer.declare import Declared
from trainer.errors import Problem
from trainer.keras_files.values import Reader, brief, is_object
from trainer.layers.base import Layer
from trainer.losses.base import Loss
from trainer.metrics.base import Metric
from trainer.metrics.resolve import BY_SHAPE
from trainer.naming import snake_case
from trainer.optimizers.base import Optimizer
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.optimizers.multi import MultiOptimizer
from trainer.recipe.compile import MetricUse
from trainer.wording import clean

FALLBACK = "mse"
"A loss that takes any output."
BY_ACTIVATION = {"softmax": "categorical_crossentropy", "sigmoid": "binary_crossentropy"}
"The usual loss of an output, by the activation that makes it."


@dataclass
class Compiled:
    """The block `compile` of a recipe."""

    block: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    from_file: bool = False
    "Whether the file says how the model was trained."

    def simpler(self, problems: Sequence[Problem]) -> bool:
        """Leave out what a recipe refuses; false where something else than this block is refused."""
        keys = {str(p.path[1]) if p.path[:1] == ("compile",) and len(p.path) > 1 else "" for p in problems}
        if not keys <= set(self.block):
            return False
        for key in sorted(keys):
            why = next(p.message for p in problems if p.path[1] == key)
            self.notes.append(f"{key} of the file was left out: {clean(why)}")
            if key == "loss":
                loss = self.block["loss"]
                self.block["loss"] = dict.fromkeys(loss, FALLBACK) if isinstance(loss, dict) else FALLBACK
            else:
                del self.block[key]
        return True


def compiled(
    training: Mapping[str, Any] | None, outputs: Sequence[str], keys: Sequence[str], makers: Sequence[Layer | None]
) -> Compiled:
    """The block of a training config; `keys` are the outputs' names in the file, `makers` the layers that make them.

    A file without one, and losses that are code, get the usual loss of the output.
    """
    return _Compile(training or {}, outputs, keys, makers).made(bool(training))


class _Compile:
    def __init__(
        self,
        training: Mapping[str, Any],
        outputs: Sequence[str],
        keys: Sequence[str],
        makers: Sequence[Layer | None],
    ):
        self.training, self.outputs, self.keys, self.makers = training, outputs, keys, makers
        self.notes: list[str] = []

    def made(self, said: bool) -> Compiled:
        block: dict[str, Any] = {}
        optimizer = self._optimizer()
        if optimizer is not None:
            block["optimizer"] = optimizer
        losses = [self._loss(value, i) for i, value in enumerate(self._each("loss"))]
        block["loss"] = self._together(losses)
        weights = self._weights(losses)
        if weights is not None:
            block["loss_weights"] = weights
        for key in ("metrics", "weighted_metrics"):
            metrics = [self._metrics(value, key) for value in self._each(key, several=True)]
            if any(metrics):
                block[key] = self._together(metrics, drop=True)
        if self.training.get("steps_per_execution") not in (None, 1):
            block["steps_per_execution"] = self.training["steps_per_execution"]
        return Compiled(block, self.notes, said)

    def _optimizer(self) -> Any:
        described = self.training.get("optimizer_config") or self.training.get("optimizer")
        if described is None:
            return None
        made = self._object(Optimizer, described, "the optimizer")
        if made is None:
            return None
        bare = _bare(made)
        return _word(Optimizer, bare) or brief(bare)

    def _object(self, kind: type[Declared], value: Any, what: str) -> Any:
        """A declared object; None, with a note, when there is none here."""
        reader = Reader()
        try:
            made = reader.object(kind, value, what)
        except (TypeError, ValueError, ArithmeticError):
            made = None
        if made is None or reader.problems or reader.unknown:
            found = [*reader.unknown, *(p.message for p in reader.problems)] or [_called(value)]
            self.notes.append(f"{what} was left out: {clean(found[0])[:160]} is not known here")
            return None
        return made

    def _each(self, key: str, *, several: bool = False) -> list[Any]:
        """An entry for each output."""
        value = self.training.get(key)
        count = len(self.outputs)
        if isinstance(value, dict) and not is_object(value):
            places = [value.get(k, value.get(o)) for k, o in zip(self._keys(), self.outputs, strict=True)]
            known = {*self._keys(), *self.outputs}
            for name in (n for n in value if n not in known):
                self.notes.append(f"{key} of {clean(name)} was left out: no output has that name")
            return places
        if isinstance(value, list) and (not several or (count > 1 and any(isinstance(v, list) for v in value))):
            return [*value, *[None] * count][:count]
        if several and count > 1 and isinstance(value, list) and len(value) == count:
            return value
        return [value] * count if count == 1 or key == "loss" else [value, *[None] * (count - 1)]

    def _keys(self) -> list[str]:
        return [*self.keys, *self.outputs[len(self.keys) :]][: len(self.outputs)]

    def _loss(self, value: Any, index: int) -> Any:
        """The loss of an output; the usual one where the file has none."""
        if value is not None:
            made = self._spelled(Loss, value, f"the loss of {self.outputs[index]}")
            if made is not None:
                return made
        layer = self.makers[index] if index < len(self.makers) else None
        activation = getattr(layer, "activation", None)
        name = activation.recipe_name() if activation is not None else ""
        return BY_ACTIVATION.get(name, FALLBACK)

    def _spelled(self, kind: type[Declared], value: Any, what: str) -> Any:
        """A loss or metric by the word that the file has for it, or by its options."""
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, str) and kind is Metric and value in BY_SHAPE:
            return value
        if isinstance(value, str) and (kind.known(value) is not None or value in kind.spellings()):
            return value
        made = self._object(kind, _unwrapped(value), what)
        if made is None:
            return None
        bare = made.model_copy(update=_nameless(made))
        return _word(kind, made) or _word(kind, bare) or brief(bare)

    def _weights(self, losses: Sequence[Any]) -> Any:
        """Factors of the losses; 0 for an output that the file has no loss for."""
        value = self.training.get("loss_weights")
        each = self._each("loss_weights") if value is not None else [None] * len(self.outputs)
        without = [v is None for v in self._each("loss")] if self.training else [False] * len(self.outputs)
        made = [
            0.0 if none and len(losses) > 1 else float(w) if isinstance(w, (int, float)) else 1.0
            for w, none in zip(each, without, strict=True)
        ]
        return None if set(made) == {1.0} else self._together(made)

    def _metrics(self, value: Any, key: str) -> list[Any]:
        items = value if isinstance(value, list) else [] if value is None else [value]
        found = [self._spelled(Metric, item, f"a metric ({_called(item)})") for item in items]
        unlike: list[Any] = []
        for metric in found:
            if metric is not None and metric not in unlike:
                unlike.append(metric)
        return unlike

    def _together(self, each: list[Any], *, drop: bool = False) -> Any:
        """One entry where there is one output, else a mapping by the outputs' names."""
        if len(self.outputs) == 1:
            return each[0]
        named = dict(zip(self.outputs, each, strict=True))
        return {n: v for n, v in named.items() if v} if drop else named


def _bare(optimizer: Optimizer) -> Optimizer:
    """An optimizer, and those inside, without names that say no more than the class."""
    more: dict[str, Any] = {}
    if isinstance(optimizer, LossScaleOptimizer):
        more = {"inner_optimizer": _bare(optimizer.inner_optimizer)}
    if isinstance(optimizer, MultiOptimizer):
        given = optimizer.optimizer_map
        rules = {pattern: _bare(rule) for pattern, rule in given.optimizer_map.items()}
        inner = {"default_optimizer": _bare(given.default_optimizer), "optimizer_map": rules}
        more = {"optimizer_map": given.model_copy(update=inner)}
    return optimizer.model_copy(update={**_nameless(optimizer), **more})


def _unwrapped(value: Any) -> Any:
    """The function of a metric that wraps one."""
    if is_object(value) and value["class_name"] in ("MeanMetricWrapper", "LossFunctionWrapper"):
        config = value.get("config")
        return config.get("fn", value) if isinstance(config, dict) else value
    return value


def _nameless(made: Any) -> dict[str, Any]:
    """A name that says no more than the class is left out."""
    name = getattr(made, "name", None)
    plain = getattr(made, "default_name", None)
    kind = type(made)
    usual = {snake_case(kind.__name__), kind.__name__, kind.__name__.lower(), plain() if plain else None}
    if issubclass(kind, Optimizer) and isinstance(name, str):
        # Keras numbers those that a program makes.
        name = re.sub(r"_\d+$", "", name)
    return {"name": kind.model_fields["name"].get_default()} if name in usual and "name" in kind.model_fields else {}


def _word(kind: type[Declared], made: Any) -> str | None:
    """The short word that means just this: `mae` for a MeanAbsoluteError of that name, `adam` for a plain Adam."""
    read = MetricUse.read if kind is Metric else kind.parse
    for word in (getattr(made, "name", None), snake_case(type(made).__name__)):
        if isinstance(word, str) and word not in BY_SHAPE and kind.spellings().get(word) is type(made):
            with suppress(ValidationError):
                if read(word) == (read(made) if kind is Metric else made):
                    return word
    return None


def _called(value: Any) -> str:
    """What a loss or metric is called in a file."""
    if is_object(value):
        config = value.get("config")
        told = config if isinstance(config, str) else config.get("name") if isinstance(config, dict) else None
        return clean(str(told or value["class_name"])[:60])
    return clean(str(value)[:60])
