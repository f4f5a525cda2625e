"""The kind `activation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.declare import Declared
from trainer.naming import snake_case

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from trainer.program import Program

    Back = Callable[[torch.Tensor], torch.Tensor]
    "Adds the operations that take a gradient back."


class Activation(Declared, kind="activation", room="trainer.activations", keras="keras.activations"):
    """A function between layers; Keras knows it by its snake-case name."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def by_hand(self, p: Program, x: torch.Tensor) -> tuple[torch.Tensor, Back] | None:
        """What the activation makes of `x`, as operations of a program, and those that take a gradient back.

        Both may overwrite what they are given. None for an activation that leaves its gradient to autograd.
        """
        return None

    @classmethod
    def short(cls, value: Any) -> Any:
        return "linear" if value is None else value

    @classmethod
    def recipe_name(cls) -> str:
        return snake_case(cls.__name__)

    def to_keras(self) -> Any:
        name = snake_case(type(self).__name__)
        if self.keras:
            return name
        # As Keras describes functions that are not its own; a reader must be given one of that name.
        return {"module": "builtins", "class_name": "function", "config": name, "registered_name": "function"}
