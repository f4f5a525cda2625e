"""The block `model`: layers, how they are connected, and the weights that they begin with."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from trainer.block import Block
from trainer.layers.base import DType, Layer
from trainer.layers.lines import Lines
from trainer.options import (
    Bool,
    Rule,
    Str,
    complaint,
    ints,
    raise_all,
)
from trainer.recipe.blocks import LayerBlock


def _shapes(value: Any) -> dict[str, tuple[int | None, ...]]:
    if not isinstance(value, dict) or not value:
        raise TypeError
    return {str(name): _shape(shape) for name, shape in value.items()}


def _shape(value: Any) -> tuple[int | None, ...]:
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if any(n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1) for n in sizes):
        raise ValueError
    return sizes


_SIZE = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
Shapes = Annotated[
    dict[str, tuple[int | None, ...]],
    Rule(
        "a mapping from the name of an input to the shape of one row of it, such as {picture: [32, 32, 3]}",
        _shapes,
        {"type": "object", "additionalProperties": {"type": "array", "items": _SIZE}, "minProperties": 1},
    ),
]


def _output_names(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError
    return names


OutputNames = Annotated[
    tuple[str, ...],
    Rule(
        "the name of a layer, or a list of them",
        _output_names,
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]},
    ),
]


def _patterns(value: Any) -> tuple[str, ...]:
    return () if value in ([], ()) else _output_names(value)


Patterns = Annotated[
    tuple[str, ...],
    Rule(
        "the name of a layer or a pattern such as conv*, or a list of them",
        _patterns,
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    ),
]


class Weights(Block):
    """Weights that the model begins with."""

    from_: Str = Field(alias="from")
    "A run (its path, its name, or `last`), or a file: .h5 or .weights.h5."
    by_name: Bool = False
    "Take the layers of equal names, instead of all layers with weights in their order."
    skip_mismatch: Bool = False
    "Leave what does not fit as it is, instead of refusing the file."
    only: OutputNames | None = None
    "Layers that are taken out of the file: names, or patterns such as `conv*`; by default all."
    optimizer: Bool = False
    """Begin with the state of the run's optimizer too (its moments and its count of steps), so that training goes on as
    if it had not ended; the model must have just the run's weights."""


class Base(Block):
    """A trained stack that the model begins with."""

    from_: Str = Field(alias="from")
    "A run: its path, its name, or `last`."
    until: Str
    "The last layer that is taken; what comes after it is left behind."
    trainable: Bool = True
    """Whether training moves the stack's weights; false is the same as naming its layers under model.frozen, in whose
    place a phase may name others."""


class Model(Block):
    """The layers and how they are connected."""

    inputs: Shapes | None = None
    "Inputs of the dataset that the model reads, with the shape of one row after preprocessing; by default all."
    blocks: dict[Str, LayerBlock] | None = None
    "Lists of layers with parameters, by name: `layers` use them as if they were layers."
    layers: Annotated[tuple[Any, ...], Lines]
    "Layers in order, each reading the one above it unless it names its `inputs`."
    outputs: OutputNames | None = None
    "Names of the layers whose outputs the model returns; by default the last one's."
    base: Base | None = None
    "Layers of a trained run, with their weights, before those of `layers`."
    weights: Weights | None = None
    "Weights to begin with, from another run or file."
    frozen: Patterns | None = None
    "Layers that training does not move: names, or patterns such as `conv*`; the same as trainable: false on each."
    dtype: DType = "float32"
    """Number type of layers that say none: float32, float64, or mixed_bfloat16 and mixed_float16, which compute in half
    precision on weights kept in float32 (and, for mixed_float16, scale the loss so that small gradients are kept)."""
    input_shape: Annotated[tuple[int, ...], ints()] | None = None
    "Shape of one row of the only input; only needed when the source can't tell it before it is opened."

    @model_validator(mode="after")
    def _one_way_to_say_shapes(self) -> Model:
        if self.inputs is not None and self.input_shape is not None:
            message = "input_shape is short for the shape of one input; here inputs are given"
            raise_all([(complaint(message, "remove input_shape"), ("input_shape",))])
        return self

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> Model:
        if self.base is not None and self.weights is not None:
            message = "a model with a base begins with the weights of its base"
            raise_all([(complaint(message, "remove weights"), ("weights",))])
        return self

    def held(self) -> list[Layer]:
        """The layers, without the lines that call one again."""
        return [line for line in self.layers if isinstance(line, Layer)]
