"""Muon. https://keras.io/api/optimizers/muon/"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from trainer.lazy import torch
from trainer.optimizers.base import SHARED, Slots, UpdateRule
from trainer.optimizers.powers import adam_correction
from trainer.options import Bool, Float, Fraction, NonNegativeFloat, NonNegativeInt, PositiveFloat, Rule

if TYPE_CHECKING:
    from torch import Tensor


def _patterns(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise ValueError
    try:
        return tuple(v for v in value if re.compile(v))
    except re.error:
        raise ValueError from None


_SCHEMA = {"type": "array", "items": {"type": "string"}}


class Muon(UpdateRule):
    """Steps of matrices made orthogonal, so that all their directions are learned equally fast; AdamW for the rest.

    A step is the momentum brought near the closest orthogonal matrix by Newton-Schulz iterations. Weights that are no
    matrices, embeddings and excluded layers (best the last one) follow AdamW. Jordan, 2024,
    https://kellerjordan.github.io/posts/muon/; Liu et al., 2025, https://arxiv.org/abs/2502.16982.
    """

    aliases = ("muon",)
    # The options that all rules share stand between AdamW's and Muon's.
    keras_order = f"learning_rate adam_beta_1 adam_beta_2 adam_weight_decay epsilon weight_decay {SHARED}"
    flat: ClassVar[bool] = False
    interleaved: ClassVar[int] = 2

    adam_beta_1: Fraction = 0.9
    "AdamW: decay of the running mean of the gradient."
    adam_beta_2: Fraction = 0.999
    "AdamW: decay of the running mean of its square."
    adam_weight_decay: NonNegativeFloat | None = 0.004
    "AdamW: share of each weight, times the learning rate, that is taken off it before the update."
    epsilon: PositiveFloat = 1e-7
    "AdamW: added to the divisor, against division by zero."
    weight_decay: NonNegativeFloat | None = 0.004
    "Muon: share of each weight, times the learning rate, that is taken off it before the update."
    exclude_layers: Annotated[tuple[str, ...], Rule("a list of regular expressions", _patterns, _SCHEMA)] | None = None
    "Regular expressions; weights in whose path (`dense_1/kernel`) one is found follow AdamW."
    exclude_embeddings: Bool = True
    'Whether weights with "embedding" in their path follow AdamW.'
    muon_a: Float = 3.4445
    "Newton-Schulz: factor of X in aX + b(XX')X + c(XX')^2 X."
    muon_b: Float = -4.775
    "Newton-Schulz: factor of (XX')X."
    muon_c: Float = 2.0315
    "Newton-Schulz: factor of (XX')^2 X."
    adam_lr_ratio: PositiveFloat = 1.0
    "AdamW: factor of the learning rate."
    momentum: Fraction = 0.95
    "Muon: share of the old momentum in the new one."
    ns_steps: NonNegativeInt = 5
    "Newton-Schulz: number of iterations."
    nesterov: Bool = True
    "Muon: whether the step looks ahead."
    rms_rate: PositiveFloat | None = 0.2
    "Muon: factor of the step, with the root of the longer side, so that rates for Adam fit; null for neither."

    def slots(self) -> tuple[str, ...]:
        return ("momentum", "velocity")

    def first(self, slot: str, weight: Tensor, path: str) -> Tensor | None:
        return torch.zeros_like(weight) if slot == "momentum" or self.by_adam(weight, path) else None

    def by_adam(self, weight: Tensor, path: str) -> bool:
        """Whether a weight follows AdamW."""
        if weight.dim() != 2 or (self.exclude_embeddings and "embedding" in path.lower()):
            return True
        return any(re.search(pattern, path) for pattern in self.exclude_layers or ())

    def decay(self, weight: Tensor, slots: Slots, rate: float) -> None:
        share = self.adam_weight_decay if "velocity" in slots else self.weight_decay
        if share:
            weight.mul_(1 - share * rate)

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        if "velocity" in slots:
            self._adam(weight, gradient, slots, rate * self.adam_lr_ratio, step)
            return
        mean = slots["momentum"].mul_(self.momentum).add_(gradient)
        move = self.orthogonal(gradient.add_(mean, alpha=self.momentum) if self.nesterov else mean)
        if self.rms_rate is not None:
            rate *= max(weight.shape) ** 0.5 * self.rms_rate
        weight.sub_(move, alpha=rate)

    def _adam(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        mean, square = slots["momentum"], slots["velocity"]
        mean.lerp_(gradient, 1 - self.adam_beta_1)
        square.mul_(self.adam_beta_2).addcmul_(gradient, gradient, value=1 - self.adam_beta_2)
        alpha = rate * adam_correction(self.adam_beta_1, self.adam_beta_2, step)
        weight.addcdiv_(mean, square.sqrt().add_(self.epsilon), value=-alpha)

    def orthogonal(self, x: Tensor) -> Tensor:
        """A matrix near the orthogonal one that is closest to x; its singular values come near 1, not to it."""
        high = x.shape[0] > x.shape[1]
        x = x.T if high else x
        x = x / (torch.linalg.matrix_norm(x) + 1e-7)
        for _ in range(self.ns_steps):
            squared = x @ x.T
            x = self.muon_a * x + (self.muon_b * squared + self.muon_c * squared @ squared) @ x
        return x.T if high else x
