"""The kind `regularizer`."""

from __future__ import annotations

from trainer.declare import Declared
from trainer.lazy import torch


class Regularizer(Declared, kind="regularizer", room="trainer.regularizers", keras="keras.regularizers"):
    """A penalty on a weight or an output that is added to the loss."""

    def penalty(self, x: torch.Tensor) -> torch.Tensor:
        """A scalar tensor."""
        raise NotImplementedError

    def factors(self) -> tuple[float, float] | None:
        """(l1, l2) of a penalty l1 sum(|x|) + l2 sum(x^2); None for any other one."""
        return None

    def slope(self, x: torch.Tensor) -> torch.Tensor:
        """Gradient of the penalty with respect to `x`."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(self.penalty(leaf), leaf)[0]
