"""Sequential and Model: models inside a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import field_validator

from trainer.activations.base import Activation
from trainer.errors import Path, RecipeError
from trainer.layers.base import Layer, Weights
from trainer.layers.graph import built
from trainer.layers.lines import Line, Lines
from trainer.layers.misfit import Misfit
from trainer.layers.nested import named
from trainer.layers.plan import Plan
from trainer.layers.wiring import ONE_INPUT, Wiring, hears_masks, wire
from trainer.options import Str, complaint, raise_all

if TYPE_CHECKING:
    from collections.abc import Iterator


class Composite(Layer, abstract=True, keras="keras.models"):
    """A model as a layer of another one; calling it again by name shares all its weights."""

    layers: Annotated[tuple[Any, ...], Lines]
    "Layers in order, each reading the one above it unless it names its `inputs`."

    takes_mask = True
    reads_several = True
    wires = True
    not_keras = ("dtype", "layers")

    @property
    def activation(self) -> Activation | None:
        """That of the layer which makes the only output, for checks of the loss."""
        lines: tuple[Line, ...] = self.layers
        return getattr(lines[-1], "activation", None)

    def held(self) -> list[Layer]:
        return [line for line in self.layers if isinstance(line, Layer)]

    def asked(self) -> tuple[str, ...] | None:
        """Names of the outputs; None for what the last line makes."""
        return None

    def arguments(self) -> tuple[str, ...]:
        return tuple(self.inputs) if isinstance(self.inputs, dict) else (ONE_INPUT,)

    def output_names(self) -> tuple[str, ...]:
        return self.asked() or ()

    def wiring(self, at: Path = ("model",)) -> Wiring:
        """Who reads what inside.

        Raises:
            RecipeError: with every mistake; paths go on from `at`, where this layer stands.
        """
        return wire(self.layers, self.arguments(), self.asked(), at, (*at, "inputs"))

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        return [tensors if len(tensors) > 1 else tensors[0]], {}

    def parts(self) -> Iterator[tuple[str, str, Layer]]:
        """(what the cell calls it by, its name, layer under that name) for each layer inside, in Keras's order."""
        for number, (name, layer) in enumerate(self.wiring().layers.items()):
            yield f"layer_{number}", name, named(layer, name)

    def build(self, plan: Plan, shape: Any) -> Any:
        shapes = shape if isinstance(shape, list) else [shape]
        takes = self.arguments()
        if len(shapes) != len(takes):
            hint = "write `inputs: {x: …, y: …}`, and x and y in the layers inside"
            message = f"expected {len(takes)} input{'s' * (len(takes) > 1)}, found {len(shapes)}"
            raise Misfit(message, hint if len(takes) == 1 else f"it reads {', '.join(takes)}", ("inputs",))
        try:
            wiring = self.wiring()
        except RecipeError as error:
            raise ValueError("; ".join(p.message for p in error.problems)) from None
        plans: dict[str, Plan] = {}
        made = built(wiring, dict(enumerate(shapes)), plans)
        plan.children |= {place: (layer, plans[name]) for place, name, layer in self.parts()}
        outputs = [made[number] for number in wiring.outputs.values()]
        return outputs if len(outputs) > 1 else outputs[0]

    def forward(self, w: Weights, x: Any, mask: Any = None) -> Any:
        # Inside a network the calls of the layers are made one by one; this is for layers that hold a model.
        wiring = self.wiring()
        cells = {name: (getattr(w, place), layer) for place, name, layer in self.parts()}
        values: dict[int, Any] = dict(enumerate(x if isinstance(x, list) else [x]))
        masks: dict[int, Any] = dict(enumerate(mask if isinstance(x, list) and mask else [mask]))
        for call in wiring.calls:
            cell, layer = cells[call.layer]
            given = [values[n] for n in call.inputs]
            seen = [masks.get(n) for n in call.inputs]
            one, hidden = (given[0], seen[0]) if len(given) == 1 else (given, seen)
            options = {**call.options, "mask": hidden} if hears_masks(layer, len(given)) else call.options
            values[call.output] = cell(one, **options)
            masks[call.output] = layer.compute_mask(one, hidden, **call.options)
            for number, (whole, which) in wiring.parts.items():
                if whole == call.output:
                    place = layer.part(which)
                    values[number], masks[number] = values[whole][place], (masks[whole] or {place: None})[place]
        outputs = [values[number] for number in wiring.outputs.values()]
        return outputs if len(outputs) > 1 else outputs[0]


class Sequential(Composite):
    """Layers one after the other, as one layer: each reads what the one before it made.

    https://keras.io/api/models/sequential/

    Shape: (batch, ...) -> what the last layer makes of it
    """

    keras_order = "layers trainable name ..."

    @field_validator("layers")
    @classmethod
    def _each_reads_the_one_before(cls, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        for index, line in enumerate(lines):
            if not isinstance(line, Layer) or line.inputs is not None:
                found = complaint("a Sequential is a chain: each layer reads the one above it", "write Model")
                raise_all([(found, (index,))])
        return lines

    def arguments(self) -> tuple[str, ...]:
        return (ONE_INPUT,)

    def keras_config(self) -> dict[str, Any]:
        # As another layer holds it; where it stands in a graph, its input's shape is written too.
        parts = [part.model_copy(update={"trainable": part.trainable and self.trainable}) for *_, part in self.parts()]
        return {**super().keras_config(), "layers": [part.to_keras() for part in parts]}


class Model(Composite):
    """A graph of layers as one layer.

    The layers inside name what they read by the keys of `inputs: {x: left, y: right}`, or by `input` when it is one.
    https://keras.io/api/models/model/

    Shape: (batch, ...), ... -> what its outputs are, a list where there are several
    """

    called_only = True
    keras_order = "layers inputs outputs name ..."
    outputs: tuple[Str, ...] | None = None
    "Names of the layers whose outputs the model returns; by default the last one's."

    def asked(self) -> tuple[str, ...] | None:
        return self.outputs
