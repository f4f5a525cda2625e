"""What all normalizations share: gamma and beta, and the way back by torch's own kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Ones, Zeros
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.layers.sums import ask
from trainer.options import Bool
from trainer.program import native
from trainer.regularizers.base import Regularizer
from trainer.shapes import text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program


class Normalizing(Layer, abstract=True):
    """A layer that brings values to mean 0 and variance 1, then scales and shifts them as training finds best."""

    computes_in_full = True
    # What only one of the layers has stands among the options of all.
    keras_order = (
        "groups axis momentum epsilon center scale beta_initializer gamma_initializer moving_mean_initializer "
        "moving_variance_initializer beta_regularizer gamma_regularizer beta_constraint gamma_constraint "
        "renorm renorm_clipping renorm_momentum synchronized"
    )

    center: Bool = True
    "Whether `beta` is added."
    scale: Bool = True
    "Whether `gamma` multiplies."
    beta_initializer: Initializer = Zeros()
    "First values of beta."
    gamma_initializer: Initializer = Ones()
    "First values of gamma."
    beta_regularizer: Regularizer | None = None
    "Penalty on beta."
    gamma_regularizer: Regularizer | None = None
    "Penalty on gamma."
    beta_constraint: Constraint | None = None
    "Projection of beta after each update."
    gamma_constraint: Constraint | None = None
    "Projection of gamma after each update."

    supports_masking = True

    def ask(self, plan: Plan, shape: tuple[int | None, ...]) -> None:
        """Ask for gamma and beta of `shape`.

        Raises:
            ValueError: a size is unknown.
        """
        if None in shape:
            raise ValueError(f"the normalized axes must have known sizes, found {text(shape)}")
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            ask(plan, self, name, shape, when=wanted)


def normalized_back(
    p: Program, name: str, slope: Tensor, known: Sequence[Any], weights: Sequence[Tensor | None], wanted: bool
) -> None:
    """One of torch's own ways back through a normalization; the input's gradient takes the place of `slope`."""
    takes = [slope.copy_ if wanted else None, *(None if t is None else p.receiver(t) for t in weights)]
    asked = [take is not None for take in takes]

    def back() -> None:
        for take, found in zip(takes, native(name)(slope, *known, asked), strict=True):
            if take is not None:
                take(found)

    if any(asked):
        p.do(back)


def scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """gamma * x + beta, each laid out in `shape` to broadcast."""
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)
