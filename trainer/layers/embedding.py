"""Embedding and ReversibleEmbedding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from trainer.block import Block
from trainer.constraints.base import Constraint
from trainer.errors import DataError
from trainer.initializers.base import Initializer
from trainer.initializers.random import RandomUniform
from trainer.layers.base import DType, Layer, Weights, Words
from trainer.layers.plan import Plan
from trainer.layers.sums import ask
from trainer.lazy import F, torch
from trainer.native.calls import Call, Run
from trainer.options import Bool, PositiveFloat, PositiveInt
from trainer.program import AddUp, Known, LookUp
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape
from trainer.switches import on

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull


HEADER = "rows.h"
LANES = 16
"Numbers of a vector that a thread takes at a time."
_ROUNDED = "mixed_bfloat16"


class Table(Layer, abstract=True):
    """Has a vector for each integer."""

    input_dim: PositiveInt
    "Size of the vocabulary; ids go from 0 to one less."
    output_dim: PositiveInt
    "Size of the vectors."
    embeddings_initializer: Initializer = RandomUniform()
    "First values of the table."
    embeddings_regularizer: Regularizer | None = None
    "Penalty on the table."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."
    embeddings_constraint: Constraint | None = None
    "Projection of the table after each update."
    mask_zero: Bool = False
    "Whether id 0 is padding, which the layers after this one skip; the words then begin at 1."

    reads_integers = True

    def starts_mask(self) -> bool:
        return self.mask_zero

    def _rows(self, w: Weights, x: Tensor, find: Callable[[Tensor, Tensor], Tensor] | None = None) -> Tensor:
        """The vectors of ids, as `find` finds them in the table; by default torch does.

        Raises:
            DataError: an id below 0 or beyond the vocabulary (on a CPU; a GPU stops with torch's own assertion).
        """
        ids = x if x.dtype in (torch.int32, torch.int64) else x.to(torch.int64)
        try:
            return (find or F.embedding)(ids, w.embeddings)
        except IndexError:
            raise self._out_of_range(ids) from None

    def _out_of_range(self, ids: Tensor) -> DataError:
        place = ((ids < 0) | (ids >= self.input_dim)).nonzero()[0]
        found = int(ids[tuple(place)])
        where = f"row {int(place[0])} of the batch" + (f", position {int(place[1])}" if len(place) > 1 else "")
        hint = f"input_dim: {int(ids.max()) + 1} or more would take it" if found > 0 else "ids count from 0"
        name = type(self).__name__
        return DataError(
            f"expected ids from 0 to {self.input_dim - 1} ({name}.input_dim is {self.input_dim}), "
            f"found {found} in {where}",
            hint=hint,
            code="vocabulary",
        )


class Embedding(Table):
    """A vector for each integer: row `id` of a trained table.

    https://keras.io/api/layers/core_layers/embedding/

    Shape: (batch, ...) -> (batch, ..., output_dim)
    """

    compiles_typed = True
    compiles_back = True
    looks_up = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        ask(plan, self, "embeddings", (self.input_dim, self.output_dim))
        return (*shape, self.output_dim)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        by_threads = w.compiles and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return self._rows(w, x, _function() if by_threads and self.compiles(w, None) else None)

    def mask_by_hand(self, p: Program, x: Tensor, mask: Tensor | None, **options: Any) -> Tensor | None:
        return p.make(torch.ne, x, 0) if self.mask_zero else None

    def by_hand_with(
        self, p: Program, w: Weights, x: Tensor, after: Layer, its: Weights, mask: Tensor | None
    ) -> tuple[Any, Pull] | None:
        if not self._handed_on(w, x, after):
            return None
        ids = x
        if x.dtype != torch.int64:
            ids = x.to(torch.int64)
            p.do(ids.copy_, x)
        ids = p.laid(ids)
        p.add(Known(ids, self.input_dim, self._out_of_range))
        return after.looked_up_by_hand(p, its, self._words(w, ids, mask))

    def forward_with(self, w: Weights, x: Tensor, after: Layer, its: Weights, mask: Tensor | None) -> Any | None:
        if not self._handed_on(w, x, after):
            return None
        ids = x.to(torch.int64).contiguous()
        Known(ids, self.input_dim, self._out_of_range)()
        return after.looked_up(its, self._words(w, ids, mask))

    def _handed_on(self, w: Weights, x: Tensor, after: Layer) -> bool:
        """Whether the layer after this one may take ids instead of vectors."""
        table = w.embeddings
        plain = table.dtype == torch.float32 and table.device.type == "cpu" and table.is_contiguous()
        known = self.dtype == after.dtype and self.dtype in (None, "float32", _ROUNDED)
        return plain and known and x.numel() > 0 and on("lookup")

    def _words(self, w: Weights, ids: Tensor, mask: Tensor | None) -> Words:
        return Words(w.embeddings, ids, mask, rounded=self.dtype == _ROUNDED)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        whole = x.dtype in (torch.int32, torch.int64)
        ids = x if whole else x.to(torch.int64)
        if not whole:
            p.do(ids.copy_, x)
        flat = p.laid(ids).view(-1)
        made = w.embeddings.new_empty(len(flat), self.output_dim)

        def pull(slope: Tensor, wanted: bool) -> None:
            vectors = p.laid(slope).view(-1, self.output_dim)
            plain = vectors.dtype == torch.float32 and flat.dtype == torch.int64
            by_threads = p.compiles and plain and self.compiles(w, None)
            added_up = added_up_by_threads if by_threads else AddUp
            p.fill(w.embeddings, lambda into: p.add(added_up(into, vectors, flat)))

        p.add(LookUp(made, w.embeddings, flat, lambda _: self._out_of_range(ids)))
        return made.view(*x.shape, self.output_dim), pull

    def computes_in(self, w: Weights, dtype: torch.dtype) -> torch.dtype:
        """As the table is kept: vectors are rounded once they are found, which gives the same for less."""
        return w.embeddings.dtype

    def compiles(self, w: Weights, after: Layer | None) -> str:
        """For the way back alone."""
        plain = w.embeddings.dtype == torch.float32 and w.embeddings.device.type == "cpu"
        plain = plain and w.embeddings.requires_grad and w.embeddings.is_contiguous()
        return HEADER if plain and self.output_dim % LANES == 0 else ""

    def compiles_for_autograd(self, w: Weights, masked: bool, trains: bool) -> str:
        return self.compiles(w, None) if trains else ""

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        return x != 0 if self.mask_zero else None


@functools.cache
def _function() -> Any:
    """`F.embedding` whose way back is compiled code; made at first use because its base class needs torch."""
    from torch.autograd.function import Function, once_differentiable

    class LookUp(Function):
        @staticmethod
        def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
            ctx.save_for_backward(ids)
            ctx.count = len(table)
            return F.embedding(ids, table)

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
            (slopes,), (ids,) = gradients, ctx.saved_tensors
            vectors, flat = slopes.contiguous().view(-1, slopes.shape[-1]), ids.to(torch.int64).flatten().contiguous()
            made = vectors.new_empty(ctx.count, vectors.shape[1])
            added_up_by_threads(made, vectors, flat)()
            return None, made

    return LookUp.apply


def added_up_by_threads(into: Tensor, vectors: Tensor, ids: Tensor) -> Run:
    """`AddUp` by all threads, as compiled code; the ids are known to be good."""
    sizes = {"vectors": len(vectors), "ids": len(into), "width": vectors.shape[1]}
    call = Call(HEADER, sizes, ("x", "places", "sums"))
    call.hold(x=vectors, places=ids, sums=into)
    return Run(call, "rows_added_up")


class Reversal(Block):
    """What a later call of a ReversibleEmbedding may say."""

    reverse: Bool = False
    "Whether vectors are turned into scores of ids, instead of ids into vectors."


class ReversibleEmbedding(Table):
    """A vector for each integer and, called again with `reverse: true`, a score for each integer from a vector.

    scores = x * transpose(embeddings), or x * reverse_embeddings when the weights are not tied; with logit_soft_cap c,
    c * tanh(scores / c). A language model begins and ends with it:

        - ReversibleEmbedding: {name: embed, input_dim: 8000, output_dim: 128}
        - …
        - embed: {reverse: true}

    https://keras.io/api/layers/core_layers/reversible_embedding/, Press and Wolf 2016,
    https://arxiv.org/abs/1608.05859

    Shape: (batch, ...) -> (batch, ..., output_dim), and in reverse (batch, ..., output_dim) -> (batch, ..., input_dim)
    """

    tie_weights: Bool = True
    "Whether the way back uses the same table; otherwise it has weights of its own."
    reverse_dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None
    "Number type in which scores are computed, and which they have; by default that of the layer's computations."
    logit_soft_cap: PositiveFloat | None = None
    "Scores stay between this number and its negative."

    keras_order = (
        "input_dim output_dim tie_weights embeddings_initializer embeddings_regularizer embeddings_constraint "
        "mask_zero reverse_dtype logit_soft_cap ..."
    )
    call_options = Reversal
    types_its_output = True

    def types(self) -> set[DType | None]:
        # Scores of another type are cast by the layers that read them, as by those after one of another type.
        return super().types() | ({self.reverse_dtype} if self.reverse_dtype is not None else set())

    def build(self, plan: Plan, shape: Shape, reverse: bool = False) -> Shape:
        ask(plan, self, "embeddings", (self.input_dim, self.output_dim))
        back = (self.output_dim, self.input_dim)
        plan.weight("reverse_embeddings", back, self.embeddings_initializer, when=not self.tie_weights)
        if not reverse:
            return (*shape, self.output_dim)
        if shape[-1] != self.output_dim:
            raise ValueError(f"in reverse it reads vectors of output_dim, {self.output_dim}; found {shape[-1]}")
        return (*shape[:-1], self.input_dim)

    def forward(self, w: Weights, x: Tensor, reverse: bool = False) -> Tensor:
        if not reverse:
            return self._rows(w, x)
        kernel = w.embeddings.T if self.tie_weights else w.reverse_embeddings
        # As in Keras, vectors come as they are, whatever the layer's number type.
        said = self.reverse_dtype
        dtype = torch.promote_types(x.dtype, kernel.dtype) if said is None else getattr(torch, said)
        scores = x.to(dtype) @ kernel.to(dtype)
        cap = self.logit_soft_cap
        return scores if cap is None else torch.tanh(scores / cap) * cap

    def compute_mask(self, x: Tensor, mask: Tensor | None, reverse: bool = False) -> Tensor | None:
        return x != 0 if self.mask_zero and not reverse else None
