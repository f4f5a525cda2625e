"""What parts of a recipe say of each other, where it can't both be so."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence

from trainer.errors import Path, Problem, RecipeError, nearest
from trainer.layers.base import Layer
from trainer.layers.graph import Graph
from trainer.optimizers.base import Optimizer
from trainer.optimizers.loss_scale import LossScaleOptimizer
from trainer.optimizers.multi import MultiOptimizer
from trainer.recipe.features import feature_path
from trainer.recipe.outline import Outline
from trainer.recipe.parts import Parts

_Problems = Generator[Problem, None, str | None]
OPTIMIZER: Path = ("compile", "optimizer")
MOST_SCALE = 0.1
"A Rescaling by less brings pixels of 0 to 255 to other values."


def disagreements(parts: Parts, outline: Outline | None) -> list[Problem]:
    """A problem for each of them."""
    found: list[Problem] = list(_averages(parts))
    if outline is not None:
        found += [*_batches(parts, outline), *_shuffled(parts, outline), *_ranges(parts, outline)]
        if parts.compile is not None and outline.graph is not None:
            found += pattern_problems(parts.compile.optimizer, outline.graph)
    return found


def _batches(parts: Parts, outline: Outline) -> Iterator[Problem]:
    """Inputs that say another number of rows than `fit`."""
    for said in outline.wiring.said.values():
        rows = (said.layer.whole_shape() or (None,))[0]
        if rows is not None and parts.batch_size is not None and rows != parts.batch_size:
            shape = said.layer.shape_option()
            option = "batch_size" if shape == "shape" else shape
            message = f"expected batches of {parts.batch_size} rows, as fit.batch_size says, found {rows}"
            hint = "leave it out here, or set fit.batch_size"
            yield Problem(message, (*said.path, option), hint, "shape")


def _shuffled(parts: Parts, outline: Outline) -> Iterator[Problem]:
    """Layers whose rows go on where those of the batch before ended, while rows come in an order drawn anew."""
    if not parts.shuffles:
        return
    for name, layer in outline.wiring.layers.items():
        if _is_stateful(layer):
            message = f"{name} is stateful: each row goes on from a row of the batch before, but fit.shuffle mixes them"
            yield Problem(message, ("fit", "shuffle"), "fit: {shuffle: false}", "stateful")
            return


def _is_stateful(layer: Layer) -> bool:
    return bool(getattr(layer, "stateful", False)) or any(map(_is_stateful, layer.held()))


def _averages(parts: Parts) -> Iterator[Problem]:
    """Callbacks that need the averages of weights that the optimizer does not keep."""
    optimizer = parts.compile.optimizer if parts.compile is not None else None
    if optimizer is None or any(getattr(rule, "use_ema", False) for rule in _rules(optimizer)):
        return
    for index, callback in parts.callbacks:
        if callback.needs_averages:
            name, kind = type(callback).__name__, type(optimizer).__name__
            message = f"{name} judges moving averages of the weights, and {kind} keeps none"
            hint = f"optimizer: {{{kind}: {{use_ema: true}}}}"
            yield Problem(message, ("callbacks", index, name), hint, "ema", on_key=True)


def _rules(optimizer: Optimizer) -> list[object]:
    """An optimizer and those inside."""
    inner = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
    return [optimizer, inner, *(inner.rules() if isinstance(inner, MultiOptimizer) else ())]


def pattern_problems(optimizer: Optimizer | None, graph: Graph) -> Iterator[Problem]:
    """Expressions of a MultiOptimizer that fit no weight, and weights that several fit."""
    scaled = isinstance(optimizer, LossScaleOptimizer)
    several = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
    if not isinstance(several, MultiOptimizer):
        return
    steps = ("LossScaleOptimizer", "inner_optimizer") if scaled else ()
    at = (*OPTIMIZER, *steps, "MultiOptimizer", "optimizer_map", "optimizer_map")
    paths = list(graph.weight_paths())
    for pattern in several.optimizer_map.optimizer_map:
        if pattern not in paths and not any(re.fullmatch(pattern, path) for path in paths):
            message = f'"{pattern}" fits the whole path of no weight'
            yield Problem(message, (*at, pattern), _meant(pattern, paths), "optimizer-map", on_key=True)
    for path in paths:
        try:
            several.optimizer_map.which(path)
        except RecipeError as error:
            yield Problem(error.problems[0].message, at, error.problems[0].hint, "optimizer-map", on_key=True)
            return


def _meant(pattern: str, paths: Sequence[str]) -> str:
    """The hint for an expression that fits nothing."""
    plain = pattern.removesuffix(".*").rstrip("/")
    if any(path.startswith(f"{plain}/") for path in paths):
        return f"did you mean {plain}/.*?"
    whole = {f"{path.partition('/')[0]}/.*" for path in paths}
    found = nearest(pattern, [*sorted(whole), *paths])
    return found or f"there are {', '.join(paths[:6])}{', …' if len(paths) > 6 else ''}"


def _ranges(parts: Parts, outline: Outline) -> Iterator[Problem]:
    """Layers for pixels from 0 to 255, as by default, behind one that makes other values of them."""
    assert parts.dataset is not None
    before: str | None = None
    for name, known in outline.inputs.items():
        path = (*feature_path(parts.dataset, "inputs", name), "preprocess")
        before = yield from _in_turn(known.feature.preprocess, path)
    if parts.model is not None and len(outline.inputs) == 1:
        yield from _in_turn(parts.model.layers, ("model", "layers"), before)


def _in_turn(layers: Sequence[object], path: Path, before: str | None = None) -> _Problems:
    """Problems of one list; returns the name of the layer that left pixels at other values than 0 to 255."""
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            continue
        name = type(layer).__name__
        if before is not None and "value_range" in type(layer).model_fields:
            if "value_range" not in layer.model_fields_set:
                message = f"{name} takes pixels for values from 0 to 255 by default; {before} before it makes others"
                hint = f"say value_range, such as [0, 1] (or [0, 255] if that is so), or put {name} before {before}"
                yield Problem(message, (*path, index, name), hint, "value-range", on_key=True)
        elif _moves_values(layer):
            before = name
    return before


def _moves_values(layer: Layer) -> bool:
    scale = getattr(layer, "scale", None) if type(layer).__name__ == "Rescaling" else None
    scales = scale if isinstance(scale, (tuple, list)) else (scale,)
    small = any(isinstance(n, (int, float)) and abs(n) < MOST_SCALE for n in scales)
    return small or type(layer).__name__ == "Normalization"
