"""EinsumDense, and the reading of its equation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from trainer.initializers.base import Initializer
from trainer.initializers.variance import Scaling
from trainer.layers.base import Weights
from trainer.layers.plan import Plan
from trainer.layers.sums import Kerneled, Summing, ask
from trainer.lazy import torch
from trainer.options import Rule, integer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

_FORMS = r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?"
_EQUATION = r"^(\.\.\.)?[a-zA-Z]+(\.\.\.)?,[a-zA-Z]+->(\.\.\.)?[a-zA-Z]+(\.\.\.)?$"


class Spec(NamedTuple):
    """An equation, taken apart: letters of the input's, kernel's and output's axes, and where the dots stand."""

    inputs: str
    kernel: str
    output: str
    dots: str
    "`left`, `right` or empty."


def parsed(equation: str) -> Spec:
    """The parts of `ab,bc->ac`, `...b,bc->...c` or `ab...,bc->ac...`.

    Raises:
        ValueError: the equation has another form.
    """
    found = re.fullmatch(_FORMS, equation)
    if found is None:
        raise ValueError(equation)
    left, inputs, right, kernel, out_left, output, out_right = found.groups()
    if left != out_left or right != out_right or (left and right) or (right and len(inputs) < 2):
        raise ValueError(equation)
    if any(len(set(letters)) < len(letters) for letters in (inputs, kernel, output)):
        raise ValueError(equation)
    return Spec(inputs, kernel, output, "left" if left else "right" if right else "")


def _equation(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    parsed(value)
    return value


def _letters(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("[a-zA-Z]+", value):
        raise ValueError
    return value


def _sizes(value: Any) -> tuple[int | None, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    sizes = tuple(None if v is None else integer(v) for v in values)
    if any(n is not None and n < 1 for n in sizes):
        raise ValueError
    return sizes


_SIZE = {"type": "integer", "minimum": 1}
Equation = Annotated[
    str,
    Rule(
        "an equation such as ab,bc->ac, ...b,bc->...c or ab...,bc->ac...",
        _equation,
        {"type": "string", "pattern": _EQUATION},
    ),
]
Letters = Annotated[str, Rule("letters of the output's axes", _letters, {"type": "string", "pattern": "^[a-zA-Z]+$"})]
Sizes = Annotated[
    tuple[int | None, ...],
    Rule(
        "an integer above 0, or a list of them and null",
        _sizes,
        {"anyOf": [_SIZE, {"type": "array", "items": {"anyOf": [_SIZE, {"type": "null"}]}}]},
    ),
]


class EinsumDense(Kerneled, Summing):
    """Fully connected along any axes: activation(einsum(equation, x, kernel) + bias).

    The equation names axes: those of the input, those of the kernel, and those of the output (`abc,cd->abd` is Dense
    on three axes). https://keras.io/api/layers/core_layers/einsum_dense/

    Shape: (batch, ...) -> (batch, ...output_shape)
    """

    equation: Equation
    "Axes of the input, of the kernel and of the output; `...` stands for any axes on one side."
    output_shape: Sizes
    "Sizes of the output's axes without the batch and those that `...` stands for; null where it need not be known."
    bias_axes: Letters | None = None
    "Letters of the output's axes along which the bias differs; no bias when null."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        spec = parsed(self.equation)
        dotted, sizes = self._sizes(spec, shape)
        kernel = tuple(sizes[letter] for letter in spec.kernel)
        if None in kernel:
            letter = spec.kernel[kernel.index(None)]
            where = "output_shape" if letter in spec.output else "the input"
            raise ValueError(f"the kernel's axis {letter} of {self.equation} needs a size in {where}")
        ask(plan, self, "kernel", kernel, initializer=self._first(spec))
        ask(plan, self, "bias", self._bias_shape(spec, sizes, len(dotted)), when=self.bias_axes is not None)
        named = tuple(sizes[letter] for letter in spec.output)
        return (*dotted, *named) if spec.dots == "left" else (*named, *dotted)

    def _sizes(self, spec: Spec, shape: Shape) -> tuple[Shape, dict[str, int | None]]:
        """(sizes of what the dots stand for, size of each letter).

        Raises:
            ValueError: the equation does not fit the input or `output_shape`.
        """
        count = len(shape) - len(spec.inputs)
        if count < 0 or (count and not spec.dots):
            raise ValueError(f"expected input with the axes of {self.equation}, found {text(shape)}")
        dotted = (shape[:count] if spec.dots == "left" else shape[len(shape) - count :]) if count else ()
        own = shape[count:] if spec.dots == "left" else shape[: len(spec.inputs)]
        # The batch is the first axis of all, which the dots may stand for.
        given = (() if spec.dots == "left" and count else (shape[0],)) + self.output_shape
        if len(given) != len(spec.output):
            wanted = len(spec.output) - (len(given) - len(self.output_shape))
            raise ValueError(f"output_shape needs {wanted} sizes for {self.equation}, found {len(self.output_shape)}")
        sizes = dict(zip(spec.inputs, own, strict=True))
        for letter, n in zip(spec.output, given, strict=True):
            if letter not in spec.inputs and letter not in spec.kernel:
                raise ValueError(f"the output's axis {letter} of {self.equation} is in neither input nor kernel")
            if letter in sizes and n is not None and n != sizes[letter]:
                raise ValueError(f"the input's axis {letter} has size {sizes[letter]}, but output_shape says {n}")
            sizes[letter] = n
        missing = [letter for letter in spec.kernel if letter not in sizes]
        if missing:
            raise ValueError(f"the kernel's axis {missing[0]} of {self.equation} is in neither input nor output")
        return dotted, sizes

    def _bias_shape(self, spec: Spec, sizes: dict[str, int | None], dotted: int) -> Shape:
        axes = self.bias_axes or ""
        beyond = [letter for letter in axes if letter not in spec.output]
        if beyond:
            raise ValueError(f"bias_axes must be axes of the output, found {beyond[0]} for {self.equation}")
        unknown = [letter for letter in axes if sizes[letter] is None]
        if unknown:
            raise ValueError(f"the bias's axis {unknown[0]} of {self.equation} needs a size in output_shape")
        first = min((spec.output.index(letter) for letter in axes), default=0)
        shape = tuple(sizes[letter] if letter in axes else 1 for letter in spec.output[first:])
        return shape + (1,) * dotted if spec.dots == "right" else shape

    def _first(self, spec: Spec) -> Initializer:
        """The kernel's initializer, told which axes are inputs and which are outputs."""
        start = self.kernel_initializer
        if not isinstance(start, Scaling) or start.input_axes is not None:
            return start
        outputs = tuple(i for i, letter in enumerate(spec.kernel) if letter in spec.output)
        inputs = tuple(i for i in range(len(spec.kernel)) if i not in outputs)
        return start.model_copy(update={"input_axes": inputs, "output_axes": outputs})

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        y = torch.einsum(self.equation, x, w.kernel)
        return self.activation(y if w.bias is None else y + w.bias)
