"""Layers that hold another layer: its name in paths and files, and the base of wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from trainer.activations.base import Activation
from trainer.layers.base import Layer
from trainer.naming import snake_case

AnyLayer = TypeVar("AnyLayer", bound=Layer)


def named(layer: AnyLayer, name: str | None = None) -> AnyLayer:
    """The layer under `name`, or under its own or Keras's name for it when none is given."""
    return layer.model_copy(update={"name": name or inner_name(layer)})


def described(layer: Layer, name: str, holder: Layer) -> Any:
    """The inner layer as Keras's serialized object: frozen when its holder is, since Keras does not look up there."""
    return layer.model_copy(update={"name": name, "trainable": layer.trainable and holder.trainable}).to_keras()


def inner_name(layer: Layer) -> str:
    """The layer's name, which is its class in snake case unless it has one."""
    return layer.name or snake_case(type(layer).__name__)


def inner_names(layers: Sequence[Layer]) -> list[str]:
    """A name for each of several layers side by side, `_1`, `_2`, … from the second of a class on."""
    names: list[str] = []
    for layer in layers:
        name, number = inner_name(layer), 0
        while layer.name is None and name in {*names, *(other.name for other in layers)}:
            number += 1
            name = f"{snake_case(type(layer).__name__)}_{number}"
        names.append(name)
    return names


class Wrapper(Layer, abstract=True):
    """A layer that applies another one in a way of its own.

    https://keras.io/api/layers/core_layers/
    """

    layer: Layer
    "The layer that is applied."

    takes_mask = True
    supports_masking = True

    @property
    def activation(self) -> Activation | None:
        """The inner layer's, for checks of the loss."""
        return getattr(self.layer, "activation", None)

    def keras_config(self) -> dict[str, Any]:
        return {**super().keras_config(), "layer": described(self.layer, inner_name(self.layer), self)}
