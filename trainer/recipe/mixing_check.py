"""Whether targets can follow rows that a layer mixes (MixUp, CutMix): a mean of two class numbers is another class."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainer.errors import Path, Problem
from trainer.layers.base import Layer
from trainer.layers.image_mix import Mixing
from trainer.losses.base import Loss


def mixing_problems(layers: Sequence[Layer], loss: Loss) -> Iterator[Problem]:
    """A problem for each layer that mixes rows whose targets are class numbers."""
    if not loss.counts:
        return
    for path in _mixing(layers, ("model", "layers")):
        message = f"{path[-1]} mixes targets, but those of {loss.recipe_name()} are class numbers, which can't be mixed"
        hint = "preprocess the target with {CategoryEncoding: {num_tokens: N, output_mode: one_hot}}"
        yield Problem(message, path, f"{hint} and take categorical_crossentropy", "loss", on_key=True)


def _mixing(layers: Sequence[Layer], path: Path) -> Iterator[Path]:
    for index, layer in enumerate(layers):
        here = (*path, index, type(layer).__name__)
        if isinstance(layer, Mixing):
            yield here
        yield from _mixing(getattr(layer, "layers", ()), (*here, "layers"))
