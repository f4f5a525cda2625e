"""Losses of embeddings, whose classes are known by comparison. https://keras.io/api/losses/metric_losses/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.lazy import F, torch
from trainer.losses.base import Loss
from trainer.options import Bool, Float

if TYPE_CHECKING:
    from torch import Tensor


class Circle(Loss):
    """Pulls embeddings of one class together and others apart, each pair the more the further it is from its place.

    softplus(logsumexp(gamma a_p (d - m)) + logsumexp(gamma a_n (1 - m - d))) over the other samples of the batch, d
    being 1 less the product of two embeddings (give them length 1: UnitNormalization), a_p = m + d and a_n = 1 + m - d
    the weights of pairs of one class and of two. The mean is over the samples whose value is above 0.
    Sun et al., 2020, https://arxiv.org/abs/2002.10857.

    Shape: target (batch,) or (batch, 1), class numbers; output (batch, features)
    """

    targets = "groups"
    skips_zeros = True

    gamma: Float = 80.0
    "Scale of the distances."
    margin: Float = 0.4
    "m: how far pairs of one class may be apart, and how much closer than 1 those of two."
    remove_diagonal: Bool = True
    "Whether a sample is no pair with itself."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if y_pred.dim() != 2 or y_true.numel() != len(y_pred):
            found = f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            message = f"Circle needs a target of shape (batch,) and an output of shape (batch, features), found {found}"
            raise DataError(message, code="shape")
        label = y_true.reshape(-1, 1).to(torch.int32)
        same = label == label.T
        other = ~same
        if self.remove_diagonal:
            same = same & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
        nothing = torch.zeros((), dtype=y_pred.dtype, device=y_pred.device)
        # `maximum` rather than `clamp`: at a tie it gives half the gradient, as Keras's does.
        distance = torch.maximum(1 - y_pred @ y_pred.T, nothing)
        near = torch.maximum((self.margin + distance) * same, nothing)
        far = torch.maximum((1 + self.margin - distance) * other, nothing)
        pulled = -self.gamma * near * (self.margin - distance)
        pushed = self.gamma * far * (1 - self.margin - distance)
        return F.softplus(_total(pulled, same) + _total(pushed, other))


def _total(values: Tensor, kept: Tensor) -> Tensor:
    return torch.logsumexp(torch.where(kept, values, float("-inf")), 1)
