"""The kind `optimizer`: a final owns `update` and its named slots; the root owns what all of them share.

Weights, gradients and slots are one flat tensor each, so an update is a few operations whatever the number of layers.
`trainer.optimizers.updater.Updater` makes these tensors and does what the shared options say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import model_validator

from trainer.declare import Declared
from trainer.options import Bool, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Rule, Str, integer
from trainer.schedules.base import ConstantRate, Schedule

if TYPE_CHECKING:
    import torch

Slots = dict[str, "torch.Tensor"]


def _two_or_more(value: object) -> int:
    if integer(value) < 2:
        raise ValueError
    return integer(value)


class Optimizer(Declared, kind="optimizer", room="trainer.optimizers", keras="keras.optimizers"):
    """An update rule."""

    snake_names: ClassVar[bool] = False
    interleaved: ClassVar[int] = 1
    "How many of the first slots Keras lists weight by weight; the others follow slot by slot."

    learning_rate: Schedule = ConstantRate(learning_rate=0.001)
    "Step size: a number or a schedule."
    weight_decay: NonNegativeFloat | None = None
    "Share of each weight, times the learning rate, that is taken off it before the update."
    clipnorm: PositiveFloat | None = None
    "Largest norm that the gradient of one weight may have; a longer one is shortened to it."
    clipvalue: PositiveFloat | None = None
    "Largest size that one number of a gradient may have."
    global_clipnorm: PositiveFloat | None = None
    "Largest norm that all gradients together may have; longer ones are shortened by one factor."
    use_ema: Bool = False
    "Whether a moving average of the weights is kept, which takes their place at the end of training."
    ema_momentum: Fraction = 0.99
    "Share of the old average in the new one."
    ema_overwrite_frequency: PositiveInt | None = None
    "Put the averages in the weights' place every so many steps as well."
    gradient_accumulation_steps: (
        Annotated[int, Rule("an integer of 2 or more", _two_or_more, {"type": "integer", "minimum": 2})] | None
    ) = None
    "Update once in so many steps, with the mean of their gradients."
    name: Str | None = None
    "Name of the optimizer; by default the class name in snake case."

    @model_validator(mode="after")
    def _one_clip(self) -> Optimizer:
        given = [n for n in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"expected one of clipnorm, clipvalue and global_clipnorm, found {' and '.join(given)}")
        return self

    @classmethod
    def options(cls) -> list[str]:
        own = [n for n in cls.model_fields if cls.field_owner(n) is not Optimizer and n != "learning_rate"]
        return ["learning_rate", *own, *(n for n in cls.model_fields if n not in (*own, "learning_rate"))]

    def slots(self) -> tuple[str, ...]:
        """Names of the tensors, each as large as the weights, that the rule keeps (Keras's names and order)."""
        return ()

    def first(self, slot: str) -> float:
        """The value that a slot starts with."""
        return 0.0

    def update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        """Move `weight` in place. `gradient` may be overwritten; `step` counts updates from 1."""
        raise NotImplementedError
