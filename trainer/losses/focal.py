"""Cross-entropies that look away from what is right already. https://keras.io/api/losses/probabilistic_losses/

Lin et al., 2017, https://arxiv.org/abs/1708.02002.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.lazy import torch
from trainer.losses.base import EPSILON
from trainer.losses.crossentropy import OfClasses, OfFlags, binary_crossentropy, smoothed_flags, spread
from trainer.losses.shaping import alike
from trainer.options import Bool, Float

if TYPE_CHECKING:
    from torch import Tensor


class BinaryFocalCrossentropy(OfFlags):
    """Cross-entropy of 0/1 flags, each times (1 - probability of the right flag)^gamma."""

    apply_class_balancing: Bool = False
    "Whether targets 1 are weighted by `alpha` and targets 0 by 1 - `alpha`."
    alpha: Float = 0.25
    "Weight of targets 1 (with `apply_class_balancing`)."
    gamma: Float = 2.0
    "Exponent: the larger it is, the less what is nearly right counts; with 0 this is the cross-entropy."

    keras_order = "apply_class_balancing alpha gamma"

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        flags = smoothed_flags(y_true, self.label_smoothing)
        p = y_pred.sigmoid() if self.from_logits else y_pred
        right = flags * p + (1 - flags) * (1 - p)
        found = torch.pow(1.0 - right, self.gamma) * binary_crossentropy(flags, p)
        if self.apply_class_balancing:
            found = (flags * self.alpha + (1 - flags) * (1 - self.alpha)) * found
        return found.mean(self.axis)


class CategoricalFocalCrossentropy(OfClasses):
    """Cross-entropy of one-hot targets, each term times alpha (1 - p)^gamma: -sum(alpha (1 - p)^gamma y log p)."""

    alpha: Float = 0.25
    "Factor of all classes."
    gamma: Float = 2.0
    "Exponent: the larger it is, the less what is nearly right counts."

    keras_order = "alpha gamma"

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        alike(y_true, y_pred, "categorical_focal_crossentropy")
        if self.label_smoothing:
            y_true = spread(y_true, self.label_smoothing)
        p = y_pred.softmax(self.axis) if self.from_logits else y_pred
        p = torch.clip(p / p.sum(self.axis, keepdim=True), EPSILON, 1.0 - EPSILON)
        factor = torch.pow(1.0 - p, self.gamma) * self.alpha
        return (factor * (-y_true * p.log())).sum(self.axis)
