"""CTC: sequences whose positions are not known. https://keras.io/api/losses/probabilistic_losses/#ctc-class"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.lazy import F, torch
from trainer.losses.base import Loss

if TYPE_CHECKING:
    from torch import Tensor


class CTC(Loss):
    """-log of the probability of the target summed over all ways to stretch it to the output's length.

    Class 0 is the blank between symbols, so symbols count from 1 and 0 fills shorter targets up. The output is raw
    scores. A target that is longer than the output has an infinite loss. Graves et al., 2006.

    Shape: target (batch, symbols), class numbers; output (batch, steps, classes)
    """

    targets = "integer"
    takes_scores = True

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        if y_pred.dim() != 3 or y_true.dim() != 2 or len(y_true) != len(y_pred):
            found = f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}"
            wanted = "a target of shape (batch, symbols) and an output of shape (batch, steps, classes)"
            raise DataError(f"CTC needs {wanted}, found {found}", code="shape")
        steps = torch.full((len(y_pred),), y_pred.shape[1], dtype=torch.int32, device=y_pred.device)
        symbols = (y_true != 0).sum(-1, dtype=torch.int32)
        log_p = F.log_softmax(y_pred.transpose(0, 1), -1)
        return F.ctc_loss(log_p, y_true.long(), steps, symbols, blank=0, reduction="none")
