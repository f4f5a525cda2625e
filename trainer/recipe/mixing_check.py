"""Whether targets can follow rows that a layer mixes (MixUp, CutMix): a mean of two class numbers is another class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.errors import Path, Problem
from trainer.layers.base import Layer
from trainer.losses.base import Loss


def mixing_problems(layers: Sequence[object], loss: Loss, at: Path) -> Iterator[Problem]:
    """A problem for each layer that mixes rows whose targets are class numbers; `at` is where the layers stand."""
    if not loss.counts:
        return
    for path in _mixing(layers, at):
        message = f"{path[-1]} mixes targets, but those of {loss.recipe_name()} are class numbers, which can't be mixed"
        hint = "preprocess the target with {CategoryEncoding: {num_tokens: N, output_mode: one_hot}}"
        yield Problem(message, path, f"{hint} and take categorical_crossentropy", "loss", on_key=True)


def _mixing(layers: Sequence[object], path: Path) -> Iterator[Path]:
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            continue  # One that is called again has been looked at.
        here = (*path, index, type(layer).__name__)
        if layer.mixes_targets:
            yield here
        yield from _mixing(getattr(layer, "layers", ()), (*here, "layers"))
