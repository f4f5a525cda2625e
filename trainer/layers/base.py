"""The kind `layer`, and what `forward` is handed; `plan.py` is what `build` fills in.

A layer is frozen options. `build(plan, shape) -> shape` is its only shape arithmetic and needs no torch;
`forward(w, x)` computes with the weights `w` that the builder made from the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, Self

from pydantic import field_validator

from trainer.activations.base import Activation
from trainer.activations.vector import Glu
from trainer.block import Block
from trainer.declare import Declared
from trainer.errors import Path
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.options import Bool, Name, Rule, complaint
from trainer.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy import ndarray
    from torch import Tensor

    from trainer.program import Program, Pull


Blend = Callable[["torch.Tensor"], "torch.Tensor"]

DType = Literal["float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]


def _inputs(value: Any) -> Any:
    """The names that a layer reads: a tuple, or a mapping from an argument's name to a tuple."""
    if isinstance(value, dict):
        if not value or not all(isinstance(k, str) for k in value):
            raise ValueError
        return {key: _names(v) for key, v in value.items()}
    return _names(value)


def _names(value: Any) -> tuple[str, ...]:
    names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not names or not all(isinstance(n, str) and n for n in names):
        raise ValueError
    return names


_NAMES = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
Inputs = Annotated[
    Any,
    Rule(
        "the name of a layer or of an input of the model, or a list of them",
        _inputs,
        {"anyOf": [*_NAMES["anyOf"], {"type": "object", "additionalProperties": _NAMES, "minProperties": 1}]},
    ),
]


class Words(NamedTuple):
    """Vectors that are looked up in a table: what each is made into need be made only once, however often it comes."""

    table: Tensor
    "(words, features)"
    ids: Tensor
    "(batch, time), int64, in a row; all of them are in the table."
    mask: Tensor | None
    "Which of them count, if not all do."
    rounded: bool = False
    "Whether they are rounded to bfloat16 once they are found."


class Weights(Protocol):
    """What `forward` is handed: the plan's weights as attributes, the phase, and this layer's random stream."""

    training: bool

    @property
    def compiles(self) -> bool:
        """Whether the layer may be compiled code of its own."""
        ...

    @property
    def masked(self) -> bool:
        """Whether there are masks in the layer's network."""
        ...

    def generator(self, seed: int | None = None) -> torch.Generator:
        """This layer's generator, seeded for the current step (from `seed`, when the layer has one of its own)."""
        ...

    def draw_seed(self, seed: int | None = None) -> int:
        """The seed that `generator` would have, for a layer that keeps a generator."""
        ...

    def mixes(self, blend: Blend) -> None:
        """Say that this pass mixes rows: `blend` does the same to their targets, or to weights of rows."""
        ...

    @property
    def own(self) -> Weights:
        """The weights as they are kept, to be overwritten; the others may be copies in the type of the computation."""
        ...

    def __getattr__(self, name: str) -> Any: ...


class Layer(Declared, kind="layer", room="trainer.layers", keras="keras.layers"):
    """A step of the model, from a tensor to a tensor."""

    snake_names: ClassVar[bool] = False
    takes_mask: ClassVar[bool] = False
    "Whether `forward` has a `mask` argument."
    supports_masking: ClassVar[bool] = False
    "Whether a mask may reach the layer and passes it by unchanged (Keras's flag); otherwise it ends there."
    preprocessing: ClassVar[bool] = False
    "Whether the layer may stand under a feature's `preprocess`."
    reads_integers: ClassVar[bool] = False
    "Whether integer input stays as it is; the model casts it to float32 otherwise, as Keras does."
    activates_last: ClassVar[bool] = False
    "Whether `forward` ends in the option `activation`, so that a loss may look at the scores before it."
    draws: ClassVar[bool] = False
    "Whether training draws anew for each batch; under `preprocess` such a layer acts on batches, in training alone."
    mixes_targets: ClassVar[bool] = False
    "Whether training mixes rows, and with them their targets."
    fitted: ClassVar[bool] = False
    "Whether the layer is adapted to training rows before use (`adapt`)."
    reads_several: ClassVar[bool] = False
    "Whether the layer takes a list of inputs."
    computes_in_full: ClassVar[bool] = False
    "Whether a mixed number type is that of input and output alone, and the layer computes in float32."
    casts_inside: ClassVar[bool] = False
    "Whether `by_hand` takes its input in the layer's number type as it comes, whatever the layer computes in."
    compiles_typed: ClassVar[bool] = False
    "Whether the layer may be compiled code under a number type of its own too: one that keeps weights in float32."
    compiles_back: ClassVar[bool] = False
    "Whether what `compiles` names is for the way back alone."
    more_inside: ClassVar[bool] = False
    "Whether more comes about in `forward` than what it gives: numbers of every step, or of every pair of steps."
    looks_up: ClassVar[bool] = False
    "Whether a step reads few of the layer's weights: rows of a table."
    across_rows: ClassVar[bool] = False
    "Whether what a row becomes depends on the rows that it comes with (beyond statistics that are weights)."
    rewrites: ClassVar[bool] = False
    "Whether a pass in training writes over weights that training moves."
    reads_ragged: ClassVar[bool] = False
    "Whether the layer takes rows of unequal length (`forward_ragged`)."
    wires: ClassVar[bool] = False
    "Whether the layer is a model in itself, whose layers say what they read."
    side_by_side: ClassVar[bool] = False
    "Whether `by_hand` also serves several copies of the model at once (`Program.copies`)."
    is_input: ClassVar[bool] = False
    "Whether the layer stands for an input of the model (`whole_shape` is what it must be)."
    call_options: ClassVar[type[Block] | None] = None
    "What a later call may say beside its inputs; `build`, `forward` and `compute_mask` take it as keywords."
    types_its_output: ClassVar[bool] = False
    "Whether the layer itself sees to the number type of what it makes."
    called_only: ClassVar[bool] = False
    "Whether the layer can only be called in a model, not be held by another layer."

    name: Name | None = None
    "Name of the layer; by default the class name in snake case with a running number."
    trainable: Bool = True
    "Whether training moves the layer's weights."
    dtype: DType | None = None
    """Number type of weights and computation; by default the model's. A mixed one computes in half precision on weights
    kept in float32. Float inputs are cast to the type of the computation, and the output has it."""
    inputs: Inputs | None = None
    """What the layer reads: the name of another layer or of an input of the model, or a list of them; by default what
    the line above makes. Where a layer makes several tensors, `lstm/1` is one of them, counted from 0."""

    @field_validator("activation", "recurrent_activation", check_fields=False)
    @classmethod
    def _keeps_the_shape(cls, value: Activation) -> Activation:
        """Keras infers the unhalved shape for glu, so there no layer with weights of its own can follow one."""
        if isinstance(value, Glu):
            raise complaint(
                f"{cls.__name__} can't have glu, which halves the last axis: the shapes that follow would be wrong",
                "silu is a gate too, x * sigmoid(x), and keeps the shape",
            )
        return value

    def typed(self, dtype: DType) -> Self:
        """The layer, and the layers that it holds, with this number type where they say none."""
        found = {n: _typed(getattr(self, n), dtype) for n in type(self).model_fields}
        return self.model_copy(update={**found, "dtype": self.dtype or dtype})

    def types(self) -> set[DType | None]:
        """The number types that the layer, and the layers that it holds, say."""
        found: set[DType | None] = {self.dtype}
        for layer in self.held():
            found |= layer.types()
        return found

    def by_rows(self) -> Self:
        """The layer as it acts under a feature's `preprocess`: on each row by itself."""
        return self

    def held(self) -> list[Layer]:
        """The layers that this one holds in its options."""
        return [layer for n in type(self).model_fields for layer in _held(getattr(self, n))]

    def arguments(self) -> tuple[str, ...]:
        """Names of the inputs of a layer that gives them some, in the order of its list of inputs."""
        return ()

    def output_names(self) -> tuple[str, ...]:
        """Names of the tensors of a layer that makes several and gives them names."""
        return ()

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        """(positional arguments, keyword arguments) with which Keras calls the layer on these tensors."""
        return [tensors if self.reads_several else tensors[0]], {}

    def whole_shape(self) -> Shape | None:
        """For layers that say `is_input`: the shape with the batch; None where it is left open."""
        raise NotImplementedError

    def shape_option(self) -> str:
        """For layers that say `is_input`: the option that says the shape."""
        raise NotImplementedError

    def wiring(self, at: Path = ("model",)) -> Any:
        """For layers that say `wires`: who reads what inside; paths of mistakes go on from `at`."""
        raise NotImplementedError

    def part(self, which: int | str) -> int:
        """Which of the tensors that the layer makes is meant by a number, or by one of `output_names`."""
        return self.output_names().index(which) if isinstance(which, str) else which

    def keras_config(self) -> dict[str, Any]:
        """Keras's, with the number type as its policy; without, when the layer says none."""
        config = super().keras_config()
        config.pop("inputs", None)
        dtype = config.pop("dtype", None)
        return config if dtype is None else {**config, "dtype": policy(dtype)}

    def build(self, plan: Plan, shape: Any) -> Any:
        """Ask `plan` for weights; the output's Shape. `shape` is the input's Shape. Several are a list of them.

        Raises:
            ValueError: the layer can't take that input; the message says what it takes.
        """
        return shape

    def forward(self, w: Weights, x: Any) -> Any:
        """The output for the input tensor `x`. Several are a list of tensors."""
        raise NotImplementedError

    def by_hand(self, p: Program, w: Weights, x: Any) -> tuple[Any, Pull] | None:
        """What `forward` gives in training, as operations of a program, and the way back from its gradient.

        `x`, which is not to be overwritten, and what is made stay the same tensors in every run of the program. None
        for a layer, or options of it, that leave their gradient to autograd.
        """
        return None

    def by_hand_masked(self, p: Program, w: Weights, x: Any, mask: Any) -> tuple[Any, Pull] | None:
        """`by_hand` for a layer that hears masks, where what it reads has one; of several inputs, some have one.

        The mask stays the same tensor in every run, too. None for what leaves its gradient to autograd.
        """
        return None

    def mask_by_hand(self, p: Program, x: Any, mask: Any, **options: Any) -> Any:
        """What `compute_mask` gives, as operations of a program."""
        made = self.compute_mask(x, mask, **options)
        if made is None or any(made is own for own in (mask if isinstance(mask, list) else [mask])):
            return made
        p.do(lambda: made.copy_(self.compute_mask(x, mask, **options)))
        return made

    def by_hand_with(
        self, p: Program, w: Weights, x: Any, after: Layer, its: Weights, mask: Tensor | None
    ) -> tuple[Any, Pull] | None:
        """`by_hand` of this layer and of the one that alone reads what it makes, as one; None where each goes alone.

        `its` are the weights of the layer `after`; `mask` is that of what lies between them, if it has one.
        """
        return None

    def forward_with(self, w: Weights, x: Any, after: Layer, its: Weights, mask: Tensor | None) -> Any | None:
        """`forward` of this layer and of the one that alone reads what it makes, as one piece of compiled code.

        No gradient is wanted. None where each goes alone.
        """
        return None

    def looked_up_by_hand(self, p: Program, w: Weights, words: Words) -> tuple[Any, Pull] | None:
        """`by_hand` for vectors of a table, with the way back to it; None where they are to be looked up first."""
        return None

    def looked_up(self, w: Weights, words: Words) -> Any | None:
        """`forward` for vectors of a table where no gradient is wanted; see `looked_up_by_hand`."""
        return None

    def compiles(self, w: Weights, after: Layer | None) -> str:
        """The header under `native/` that has the layer as compiled code, for a Program that says `compiles`; or none.

        `after` is the layer that alone reads what this one makes.
        """
        return ""

    def compiles_for_autograd(self, w: Weights, masked: bool, trains: bool) -> str:
        """The header under `native/` that `forward` calls where `w` says `compiles`; or none.

        `masked`: there may be a mask; whether there is one shows when a batch comes. `trains`: there is a way back.
        """
        return ""

    def computes_in(self, w: Weights, dtype: torch.dtype) -> torch.dtype:
        """What the layer computes in, between casts from and to `dtype`, the number type that it is told."""
        return torch.promote_types(dtype, torch.float32) if self.computes_in_full else dtype

    def words_in(self, w: Weights, dtype: torch.dtype) -> torch.dtype:
        """`computes_in` where vectors are looked up by the layer itself."""
        return self.computes_in(w, dtype)

    def adapt(self, batches: Iterable[ndarray], shape: Shape) -> dict[str, ndarray]:
        """The weights, by name, that these training rows give; for layers that say `fitted`."""
        raise NotImplementedError

    def forward_ragged(self, w: Weights, values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """The output for rows values[offsets[i]:offsets[i + 1]]; for layers that say `reads_ragged`."""
        raise NotImplementedError

    def starts_mask(self) -> bool:
        """Whether `compute_mask` may make a mask where no input has one."""
        return type(self).compute_mask is not Layer.compute_mask

    def compute_mask(self, x: Any, mask: Any) -> Any:
        """The mask (batch, time) that goes on with the output, or None."""
        return mask if self.supports_masking else None


def policy(name: DType) -> dict[str, Any]:
    """Keras's description of a number type."""
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": None}


def _held(value: Any) -> list[Layer]:
    return [v for v in (value if isinstance(value, (tuple, list)) else (value,)) if isinstance(v, Layer)]


def _typed(value: Any, dtype: DType) -> Any:
    if isinstance(value, Layer):
        return value.typed(dtype)
    return type(value)(_typed(v, dtype) for v in value) if isinstance(value, (tuple, list)) and _held(value) else value


def need_rank(shape: Shape, rank: int, what: str) -> None:
    """Refuse an input of another rank, in words that say what the axes should be.

    Raises:
        ValueError: `shape` has not `rank` axes.
    """
    if len(shape) != rank:
        from trainer.shapes import text

        raise ValueError(f"expected input of shape {what}, found {text(shape)}")
