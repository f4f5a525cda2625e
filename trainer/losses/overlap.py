"""How far regions in pictures lie apart, for segmentation. https://keras.io/api/losses/regression_losses/

Without `axis` a whole batch has one value: a sample weight then weighs that value, as in Keras, and not its sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.losses.base import EPSILON, Loss
from trainer.losses.shaping import alike
from trainer.options import Axes, NonNegativeFloat

if TYPE_CHECKING:
    from torch import Tensor


class Overlap(Loss, abstract=True):
    """A loss made of the sum of target times output."""

    targets = "binary"
    fits = ("sigmoid", "softmax")

    def apart(self, y_true: Tensor, y_pred: Tensor, axis: int | tuple[int, ...] | None) -> Tensor:
        """1 less the share of overlap, along the axes."""
        raise NotImplementedError

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        alike(y_true, y_pred, type(self).__name__)
        return self.apart(y_true, y_pred, getattr(self, "axis", None))


class Dice(Overlap):
    """1 less twice the overlap of target and output by the sum of both: 1 - 2 sum(y p) / (sum(y) + sum(p))."""

    keras_order = "reduction name axis"

    axis: Axes | None = None
    "Axes that one value is summed over; by default all, the batch too: [1, 2, 3] gives each picture a value."

    def apart(self, y_true: Tensor, y_pred: Tensor, axis: int | tuple[int, ...] | None) -> Tensor:
        both = (y_true * y_pred).sum(axis)
        return 1 - 2.0 * both / (y_true.sum(axis) + y_pred.sum(axis) + EPSILON)


class Tversky(Overlap):
    """Dice with weights: 1 - o / (o + alpha sum(y (1 - p)) + beta sum((1 - y) p)), with the overlap o = sum(y p).

    Salehi et al., 2017, https://arxiv.org/abs/1706.05721. As in Keras, `alpha` weighs what was missed.
    """

    keras_order = "alpha beta reduction name axis"

    alpha: NonNegativeFloat = 0.5
    "Weight of what is in the target and missing in the output."
    beta: NonNegativeFloat = 0.5
    "Weight of what is in the output and missing in the target."
    axis: Axes | None = None
    "Axes that one value is summed over; by default all, the batch too: [1, 2, 3] gives each picture a value."

    def apart(self, y_true: Tensor, y_pred: Tensor, axis: int | tuple[int, ...] | None) -> Tensor:
        both = (y_true * y_pred).sum(axis)
        missed, wrong = ((1 - y_pred) * y_true).sum(axis), (y_pred * (1 - y_true)).sum(axis)
        return 1 - both / (both + missed * self.alpha + wrong * self.beta + EPSILON)
