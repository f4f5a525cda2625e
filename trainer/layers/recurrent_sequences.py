"""What every layer that reads a sequence step by step shares: its outputs, first and last states, masks, direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from trainer.errors import RecipeError
from trainer.layers.base import Layer, Weights
from trainer.layers.plan import Plan
from trainer.layers.recurrent_steps import States
from trainer.lazy import torch
from trainer.options import Bool
from trainer.program import Reverse
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program


class Sequenced(Layer, abstract=True):
    """A layer that reads a sequence step by step and carries a state along.

    Its input is the sequence, or a list of the sequence and first states; zeros are the first states otherwise.
    """

    return_sequences: Bool = False
    "Whether the output holds the output of every step, or of the last one only."
    return_state: Bool = False
    "Whether the last states follow the output, as a list of tensors."
    go_backwards: Bool = False
    "Whether the sequence is read from its end; the output then stands in the order of reading."
    stateful: Bool = False
    "Whether row i of a batch goes on from the last state of row i of the batch before (then set fit.shuffle: false)."
    unroll: Bool = False
    "For Keras, which can lay the steps out one by one: equal numbers; the number of steps must be known."
    zero_output_for_mask: Bool = False
    "Whether the output of a masked step is zero, or that of the step before."

    takes_mask = True
    supports_masking = True
    reads_several = True
    more_inside = True

    def plan_step(self, plan: Plan, shape: Shape) -> tuple[Shape, list[Shape]]:
        """Ask for the weights; the shapes of a step's output and of the states."""
        raise NotImplementedError

    def through(
        self, w: Weights, x: Tensor, mask: Tensor | None, start: States | None, every: bool, final: bool
    ) -> tuple[Tensor, States]:
        """(outputs of all steps or of the last one, last states if `final`), from `start`, or from zeros."""
        raise NotImplementedError

    def state_count(self) -> int:
        """How many tensors the state is."""
        raise NotImplementedError

    def arguments(self) -> tuple[str, ...]:
        return ("sequences", "initial_state")

    def keras_call(self, tensors: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        return tensors[:1], {"initial_state": tensors[1:]} if len(tensors) > 1 else {}

    def build(self, plan: Plan, shape: Any) -> Any:
        sequence, given = first_and_rest(shape)
        output, states = self.plan_step(plan, sequence)
        if self.unroll and sequence[1] is None:
            raise ValueError("unroll needs a known number of steps, found None; leave unroll out")
        check_given(given, states)
        if self.stateful:
            for number, state in enumerate(states):
                plan.state(f"state_{number}", state)
        if self.return_sequences:
            output = (output[0], sequence[1], *output[1:])
        return [output, *states] if self.return_state else output

    def forward(self, w: Weights, x: Any, mask: Any = None) -> Any:
        """
        Raises:
            RecipeError: a stateful layer is given another number of rows than before, or the mask is not one of steps.
        """
        x, given = first_and_rest(x)
        mask = first_and_rest(mask)[0]
        if mask is not None and mask.dim() != 2:
            raise RecipeError(
                f"{type(self).__name__}: expected a mask of shape (batch, time), found {mask.dim()} axes",
                hint="turn the mask off (mask_zero: false) before this layer",
            )
        if self.go_backwards:
            x, mask = x.flip(1), None if mask is None else mask.flip(1)
        start = tuple(given) or (self._kept(w, x) if self.stateful else None)
        out, states = self.through(w, x, mask, start, self.return_sequences, self.return_state or self.stateful)
        if self.stateful:
            with torch.no_grad():
                for number, state in enumerate(states):
                    getattr(w, f"state_{number}").copy_(state)
        out = self.zeros_where_masked(out, mask)
        return [out, *states] if self.return_state else out

    def zeros_where_masked(self, out: Tensor, mask: Tensor | None) -> Tensor:
        """Outputs with zeros at masked steps, where that is said; the mask goes in the direction of the outputs."""
        if mask is None or not self.zero_output_for_mask:
            return out
        seen = mask if self.return_sequences else mask[:, -1]
        return out.masked_fill(~seen.reshape(*seen.shape, *(1,) * (out.dim() - seen.dim())), 0)

    def _kept(self, w: Weights, x: Tensor) -> States:
        """Copies of the states that the batch before left; they are overwritten at the end of this one."""
        kept = tuple(getattr(w, f"state_{number}") for number in range(self.state_count()))
        if len(kept[0]) != len(x):
            raise RecipeError(
                f"{type(self).__name__} is stateful: expected {len(kept[0])} rows as in every batch, found {len(x)}",
                hint="choose a batch_size that divides the number of rows, or cut the set off with dataset.limit",
            )
        return tuple(state.to(x.dtype, copy=True) for state in kept)

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: Any, mask: Any) -> Any:
        goes_on = first_and_rest(mask)[0] if self.return_sequences else None
        return [goes_on, *(None,) * self.state_count()] if self.return_state else goes_on


def several_given(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether these are several inputs; a shape is a tuple, several are a list."""
    return isinstance(value, list)


def first_and_rest(value: Any) -> tuple[Any, list[Any]]:
    """The sequence (its shape, its mask) and what else was given."""
    return (value[0], list(value[1:])) if several_given(value) else (value, [])


def turned(p: Program, sequence: Tensor) -> Tensor:
    """A sequence (batch, time, ...) from its end, as an operation of a program."""
    into = torch.empty_like(sequence, memory_format=torch.contiguous_format)
    p.add(Reverse(into, sequence))
    return into


def check_given(given: Sequence[Shape], states: Sequence[Shape]) -> None:
    """Refuse first states of another number or shape.

    Raises:
        ValueError: says which shapes are expected.
    """
    if not given:
        return
    fits = len(given) == len(states) and all(
        len(a) == len(b) and all(m is None or n is None or m == n for m, n in zip(a, b, strict=True))
        for a, b in zip(given, states, strict=True)
    )
    if not fits:
        wanted, found = (" and ".join(map(text, shapes)) for shapes in (states, given))
        raise ValueError(f"expected first states of shape {wanted}, found {found}")
