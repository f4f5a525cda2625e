"""InputLayer, and what an input that stands as a line of a list says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import model_validator

from trainer.errors import Path, RecipeError
from trainer.layers.base import DType, Layer, Weights
from trainer.layers.misfit import Misfit
from trainer.layers.plan import Plan
from trainer.options import PositiveInt, Rule, complaint
from trainer.shapes import Shape, clash, text

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
"Number types of inputs that hold whole numbers."
_TYPES = ("float32", *INTEGERS)


def _sizes(value: Any) -> tuple[int | None, ...]:
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if any(n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1) for n in sizes):
        raise ValueError
    return sizes


def _whole(value: Any) -> tuple[int | None, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError
    return _sizes(value)


def _type(value: Any) -> str | None:
    if value not in (None, *_TYPES):
        raise ValueError
    return value


_LIST = {"type": "array", "items": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}}
Sizes = Annotated[
    tuple[int | None, ...],
    Rule("a list of integers above 0, or null for sizes that are not known", _sizes, _LIST),
]
WholeSizes = Annotated[
    tuple[int | None, ...],
    Rule("a list that begins with the size of a batch, or null, such as [null, 28, 28]", _whole, _LIST),
]
InputType = Annotated[
    # The type that `Layer` gives the option is narrower, though an input's numbers are none of its choices.
    Any,
    Rule("one of " + ", ".join(_TYPES) + ", or null", _type, {"enum": [None, *_TYPES]}),
]


class InputLayer(Layer):
    """An input of the model, by its name, with what it must be; the data say all of that where it is left out.

    The first line of a chain, or wherever other layers are to read on from an input. What it says is held against the
    data before training: the shape after preprocessing, `fit.batch_size`, and, for a type of integers, that all values
    are whole numbers. https://keras.io/api/layers/core_layers/input/

    Shape: (batch, ...) -> (batch, ...)
    """

    shape: Sizes | None = None
    "Shape of one row."
    batch_size: PositiveInt | None = None
    "Rows of a batch, which must be fit.batch_size."
    dtype: InputType = None
    "Number type: float32, or one of integers, which asks for whole numbers; by default what the data have."
    batch_shape: WholeSizes | None = None
    "The shape with the rows of a batch before it, which null leaves open, instead of shape and batch_size."

    aliases = ("Input",)
    keras_order = "shape batch_size dtype batch_shape name ..."
    reads_integers = True
    is_input = True
    called_only = True
    not_keras = ("trainable",)

    @model_validator(mode="after")
    def _one_shape(self) -> InputLayer:
        if self.batch_shape is not None and (self.shape is not None or self.batch_size is not None):
            other = "shape" if self.shape is not None else "batch_size"
            raise complaint(f"expected {other} or batch_shape, found both", f"remove {other}: batch_shape says it too")
        if self.batch_size is not None and self.shape is None:
            raise complaint("batch_size needs a shape", "batch_shape: [32, 28, 28] says both")
        if self.inputs is not None:
            raise complaint("an input reads nothing", "remove its `inputs`")
        return self

    def whole_shape(self) -> Shape | None:
        """The shape with the batch; None where it is left open."""
        if self.batch_shape is not None:
            return self.batch_shape
        return None if self.shape is None else (self.batch_size, *self.shape)

    def shape_option(self) -> str:
        """Which option says the shape."""
        return "shape" if self.batch_shape is None else "batch_shape"

    def typed(self, dtype: DType) -> Self:
        return self

    def types(self) -> set[DType | None]:
        return {None}

    def keras_config(self) -> dict[str, Any]:
        whole = self.whole_shape()
        return {
            "batch_shape": None if whole is None else list(whole),
            "dtype": self.dtype or "float32",
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }

    def build(self, plan: Plan, shape: Shape) -> Shape:
        raise ValueError("an input stands in the list of a model's layers alone")

    def forward(self, w: Weights, x: Any) -> Any:
        raise NotImplementedError("a model takes its inputs itself")


@dataclass(frozen=True)
class Said:
    """A line of the list that says what an input must be."""

    layer: Layer
    path: Path

    def held(self, shape: Shape, at: Path | None) -> Shape:
        """The shape of the input, with sizes that only the line knows.

        Raises:
            RecipeError: the line says another one (a ValueError, when the model has no place `at` which it stands).
        """
        said = self.layer.whole_shape()
        if said is None:
            return shape
        if clash(said, shape):
            message = f"expected {text(shape)}, the shape of the input, found {text(said)}"
            path = (*self.path, self.layer.shape_option())
            if at is None:
                raise Misfit(message, "leave the shape out: what reaches the model says it", path[1:])
            raise RecipeError(message, path=path, hint="leave the shape out: the data say it", code="shape")
        return (shape[0], *(n or m for n, m in zip(shape[1:], said[1:], strict=True)))
