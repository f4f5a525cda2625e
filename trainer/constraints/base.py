"""The kind `constraint`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.declare import Declared

if TYPE_CHECKING:
    import torch

    from trainer.program import Program


class Constraint(Declared, kind="constraint", room="trainer.constraints", keras="keras.constraints"):
    """A projection of a weight, applied after each update."""

    def project(self, weight: torch.Tensor) -> torch.Tensor:
        """The projected weight, of the same shape (Keras's axis order)."""
        raise NotImplementedError

    def by_hand(self, p: Program, weight: torch.Tensor) -> None:
        """`project` as operations of a program, which overwrite the weight."""
        p.do(lambda: weight.copy_(self.project(weight)))
