"""Embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.constraints.base import Constraint
from trainer.errors import DataError
from trainer.initializers.base import Initializer
from trainer.initializers.random import RandomUniform
from trainer.layers.base import Layer, Plan, Weights
from trainer.lazy import F, torch
from trainer.options import Bool, PositiveInt
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor


class Embedding(Layer):
    """A vector for each integer: row `id` of a trained table.

    https://keras.io/api/layers/core_layers/embedding/

    Shape: (batch, ...) -> (batch, ..., output_dim)
    """

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

    def build(self, plan: Plan, shape: Shape) -> Shape:
        plan.weight(
            "embeddings",
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        return (*shape, self.output_dim)

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        """
        Raises:
            DataError: an id below 0 or beyond the vocabulary (on a CPU; a GPU stops with torch's own assertion).
        """
        ids = x if x.dtype in (torch.int32, torch.int64) else x.to(torch.int64)
        try:
            return F.embedding(ids, w.embeddings)
        except IndexError:
            raise self._out_of_range(ids) from None

    def _out_of_range(self, ids: Tensor) -> DataError:
        place = ((ids < 0) | (ids >= self.input_dim)).nonzero()[0]
        found = int(ids[tuple(place)])
        where = f"row {int(place[0])} of the batch" + (f", position {int(place[1])}" if len(place) > 1 else "")
        hint = f"input_dim: {found + 1} or more would take it" if found > 0 else "ids count from 0"
        return DataError(
            f"expected ids from 0 to {self.input_dim - 1} (Embedding.input_dim is {self.input_dim}), "
            f"found {found} in {where}",
            hint=hint,
            code="vocabulary",
        )

    def compute_mask(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        return x != 0 if self.mask_zero else None
