"""Pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from trainer.activations.base import Activation
from trainer.layers.base import Layer, Weights
from trainer.layers.nested import inner_names, named
from trainer.layers.plan import Plan
from trainer.options import complaint
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Pipeline(Layer):
    """Several layers as one: each reads what the one before it made.

    https://keras.io/api/layers/preprocessing_layers/

    Shape: (batch, ...) -> what the last layer makes of it
    """

    layers: tuple[Layer, ...]
    "The layers, the first to read the input first."

    takes_mask = True
    not_keras = ("trainable", "dtype")

    @field_validator("layers")
    @classmethod
    def _one_or_more(cls, value: tuple[Layer, ...]) -> tuple[Layer, ...]:
        if not value:
            raise complaint("expected at least one layer, found none")
        given = [layer.name for layer in value if layer.name]
        if len(set(given)) < len(given):
            raise complaint("two of the layers have one name", "give each a name of its own, or none")
        return value

    @property
    def activation(self) -> Activation | None:
        """The last layer's, for checks of the loss."""
        return getattr(self.layers[-1], "activation", None)

    def parts(self) -> Iterator[tuple[str, Layer]]:
        """(what `forward` calls it by, layer under its name in paths) for each of them."""
        for number, (layer, name) in enumerate(zip(self.layers, inner_names(self.layers), strict=True)):
            yield f"layer_{number}", named(layer, name)

    def keras_config(self) -> dict[str, Any]:
        # Keras's Pipeline can't be frozen by its config, but its layers can.
        parts = [part.model_copy(update={"trainable": part.trainable and self.trainable}) for _, part in self.parts()]
        return {**super().keras_config(), "layers": [part.to_keras() for part in parts]}

    def build(self, plan: Plan, shape: Shape) -> Any:
        made: Any = shape
        for number, (place, part) in enumerate(self.parts()):
            if isinstance(made, list) and not part.reads_several:
                raise ValueError(f"{part.name}: expected one tensor, found a list of {len(made)}")
            if number and part.starts_mask():
                raise ValueError(f"{part.name}: only the first layer of a Pipeline can make a mask of its input")
            try:
                made = plan.child(place, part, made)
            except ValueError as error:
                raise ValueError(f"{part.name}: {error}") from None
        return made

    def forward(self, w: Weights, x: Any, mask: Tensor | None = None) -> Any:
        for place, part in self.parts():
            made = getattr(w, place)(x, mask=mask) if part.takes_mask else getattr(w, place)(x)
            mask, x = part.compute_mask(x, mask), made
        return x

    def starts_mask(self) -> bool:
        return self.layers[0].starts_mask()

    def compute_mask(self, x: Any, mask: Any) -> Any:
        # Beyond the first layer no mask depends on values, which are gone by now.
        for layer in self.layers:
            mask = layer.compute_mask(x, mask)
        return mask
