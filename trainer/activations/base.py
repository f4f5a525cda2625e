"""The kind `activation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.declare import Declared
from trainer.naming import snake_case

if TYPE_CHECKING:
    import torch


class Activation(Declared, kind="activation", room="trainer.activations", keras="keras.activations"):
    """A function between layers; Keras knows it by its snake-case name."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @classmethod
    def short(cls, value: Any) -> Any:
        return "linear" if value is None else value

    @classmethod
    def recipe_name(cls) -> str:
        return snake_case(cls.__name__)

    def to_keras(self) -> Any:
        return snake_case(type(self).__name__)
