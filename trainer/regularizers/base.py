"""The kind `regularizer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.declare import Declared

if TYPE_CHECKING:
    import torch


class Regularizer(Declared, kind="regularizer", room="trainer.regularizers", keras="keras.regularizers"):
    """A penalty on a weight or an output that is added to the loss."""

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        """A scalar tensor."""
        raise NotImplementedError
