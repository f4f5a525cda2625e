"""A penalty on rows or columns that point the same way."""

from __future__ import annotations

from typing import Literal

from trainer.errors import RecipeError
from trainer.lazy import torch
from trainer.options import NonNegativeFloat
from trainer.regularizers.base import Regularizer
from trainer.shapes import text


class OrthogonalRegularizer(Regularizer):
    """factor times the mean |cosine| over all pairs of rows (or columns) of a matrix.

    https://keras.io/api/layers/regularizers/

    Raises:
        RecipeError: what it is put on has not two axes.
    """

    factor: NonNegativeFloat = 0.01
    "Factor of the mean."
    mode: Literal["rows", "columns"] = "rows"
    "What should be orthogonal to each other: the rows of the matrix or its columns."

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() != 2:
            raise RecipeError(
                f"OrthogonalRegularizer needs a matrix, found a tensor of shape {text(tuple(x.shape))}",
                hint="put it on the kernel of a Dense layer, or use L2",
            )
        vectors = x if self.mode == "rows" else x.T
        # A vector of zeros has no direction: Keras bounds 1 / length by 1 / epsilon.
        unit = vectors * torch.clamp(vectors.square().sum(1, keepdim=True).rsqrt(), max=1e7)
        cosines = unit @ unit.T
        size = len(cosines)
        off_diagonal = cosines * (1 - torch.eye(size, dtype=x.dtype, device=x.device))
        return self.factor * 0.5 * off_diagonal.abs().sum() / (size * (size - 1.0) / 2.0)
