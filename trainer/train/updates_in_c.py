"""An optimizer's update of all weights as C: clipped gradients, decay, the rule."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from trainer.native.operations import Statements
from trainer.native.text import NotInC, number
from trainer.optimizers.base import StepNumbers, UpdateRule
from trainer.optimizers.updater import Updater


def update_in_c(updater: Updater, c: Statements) -> tuple[list[str], str, StepNumbers]:
    """C that clips gradients, after each line of which threads meet; C that moves all weights; the numbers that the
    latter reads of a step.

    Raises:
        NotInC: there is none for these options.
    """
    rule = updater.optimizer
    found = rule.in_c() if updater.works_by_number(clipped=True) else None
    if found is None or type(rule).decay is not UpdateRule.decay:
        raise NotInC(f"{type(rule).__name__} with these options")
    statement, numbers_of = found
    (block,) = updater.blocks
    gradient = block.gradient()[0]
    held = {"w": block.weight, "g": gradient, **block.slots}
    if any(tensor.dtype != torch.float32 for tensor in held.values()):
        raise NotInC(f"weights of type {block.weight.dtype}")
    count, decay = len(numbers_of(np.ones(1), 1)), rule.weight_decay
    if decay:
        own, statement = numbers_of, f"w *= n{count}; {statement}"
        count, numbers_of = count + 1, lambda rates, first: (*own(rates, first), 1 - decay * rates)
    if rule.clipvalue:
        most = number(rule.clipvalue)
        statement = f"g = g < -{most} ? -{most} : g > {most} ? {most} : g; {statement}"
    reads = ", ".join(f"{name} = {c.pointer(tensor)}[i]" for name, tensor in held.items())
    writes = " ".join(f"{c.pointer(tensor)}[i] = {name};" for name, tensor in held.items() if name != "g")
    size = len(block.weight)
    loop = f"for (long i = FROM({size}); i < TO({size}); i++) {{ float {reads}; {statement} {writes} }}"
    step = ", ".join(f"n{k} = numbers[s * {count} + {k}]" for k in range(count))
    return list(_clips(rule, gradient, block.sizes, c)), f"{{ const float {step}; {loop} }}", numbers_of


def _clips(rule: UpdateRule, gradient: Tensor, sizes: list[int], c: Statements) -> Iterator[str]:
    """C that brings norms down to those that the rule allows: of each weight's gradient, or of all together."""
    if rule.global_clipnorm:
        # norm - norm: an infinite norm makes every gradient not-a-number, as in Keras, rather than 0.
        yield from _brought_to(rule.global_clipnorm, " + (norm - norm)", gradient, c)
    elif rule.clipnorm:
        for piece in gradient.split(sizes):
            yield from _brought_to(rule.clipnorm, "", piece, c)


def _brought_to(most: float, more: str, gradient: Tensor, c: Statements) -> Iterator[str]:
    squares, at, size, least = c.sums_of(gradient, 0, 1), c.pointer(gradient), gradient.numel(), number(most)
    yield squares.line
    factor = f"float norm = sqrtf({squares.total}), by = {least} / (norm < {least} ? {least} : norm){more};"
    yield f"{{ {factor} for (long i = FROM({size}); i < TO({size}); i++) {at}[i] *= by; }}"
