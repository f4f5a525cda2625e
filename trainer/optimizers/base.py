"""The kind `optimizer`, and update rules: a final owns `update` and its named slots, their base what all of them share.

Weights, gradients and slots are one flat tensor each, so an update is a few operations whatever the number of layers;
rules that look at a weight's shape are handed views of them, weight by weight. `trainer.optimizers.updater.Updater`
makes these tensors and does what the shared options say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import model_validator

from trainer.declare import Declared
from trainer.lazy import torch
from trainer.naming import names_in
from trainer.options import Bool, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Rule, Str, integer
from trainer.schedules.base import ConstantRate, Schedule

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

Slots = dict[str, "Tensor"]
StepNumbers = Callable[["numpy.ndarray", int], "tuple[numpy.ndarray, ...]"]
"From the learning rates of some updates and the number of the first of them to the numbers that they read."

SHARED = (
    "clipnorm clipvalue global_clipnorm use_ema ema_momentum ema_overwrite_frequency loss_scale_factor "
    "gradient_accumulation_steps name"
)
"The last of the options that all rules share, in Keras's order."


def _two_or_more(value: object) -> int:
    if integer(value) < 2:
        raise ValueError
    return integer(value)


def by_rates(rates: numpy.ndarray, first: int) -> tuple[numpy.ndarray]:
    """The numbers of an update that reads the rate alone."""
    return (rates,)


class Optimizer(Declared, kind="optimizer", room="trainer.optimizers", keras="keras.optimizers"):
    """What moves weights by their gradients."""

    snake_names: ClassVar[bool] = False

    name: Str | None = None
    "Name of the optimizer; by default the class name in snake case."

    @classmethod
    def find(cls, name: str) -> type[Self]:
        """The final class of that name, in capitals or not, as in Keras (`RMSProp`, `ADAM`)."""
        small = name.lower()
        finals = {word.lower(): word for word, place in names_in(cls.room).items() if word == place.final}
        found = cls.known(finals.get(small, ""))
        return found if found is not None else super().find(small if small in cls.spellings() else name)


class UpdateRule(Optimizer, abstract=True):
    """An update rule, with the options that all of them share."""

    interleaved: ClassVar[int] = 1
    "How many of the first slots Keras lists weight by weight; the others follow slot by slot."
    flat: ClassVar[bool] = True
    "Whether `update` takes all weights as one tensor; otherwise it is called for each weight, in its shape."
    one_pass: ClassVar[bool] = False
    "Whether `update` goes through its tensors once, so that large ones need not be cut into pieces that caches hold."
    keras_order = f"learning_rate ... weight_decay {SHARED}"

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
    loss_scale_factor: PositiveFloat | None = None
    "The loss is multiplied by it before gradients are computed, and they are divided by it (for half precision)."
    gradient_accumulation_steps: (
        Annotated[int, Rule("an integer of 2 or more", _two_or_more, {"type": "integer", "minimum": 2})] | None
    ) = None
    "Update once in so many steps, with the mean of their gradients."

    @model_validator(mode="after")
    def _one_clip(self) -> UpdateRule:
        given = [n for n in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"expected one of clipnorm, clipvalue and global_clipnorm, found {' and '.join(given)}")
        return self

    def slots(self) -> tuple[str, ...]:
        """Names of what the rule keeps for each weight (Keras's names and order)."""
        return ()

    def first(self, slot: str, weight: Tensor, path: str) -> Tensor | None:
        """What a slot of a weight starts with, of the weight's shape unless `update` goes weight by weight.

        None when this weight has no such slot (only weight by weight).
        """
        return torch.zeros_like(weight)

    def decay(self, weight: Tensor, slots: Slots, rate: float) -> None:
        """Take off a share of the weights in place, before the update."""
        if self.weight_decay:
            weight.mul_(1 - self.weight_decay * rate)

    def update(self, weight: Tensor, gradient: Tensor, slots: Slots, rate: float, step: int) -> None:
        """Move `weight` in place. `gradient` may be overwritten; `step` counts updates from 1."""
        raise NotImplementedError

    def in_c(self) -> tuple[str, StepNumbers] | None:
        """`update` as C for one number, and what it reads of each update; None where the rule has none.

        The statement moves `w` by `g` and the slots by their names; it reads the numbers of the update as n0, n1, …
        """
        return None
