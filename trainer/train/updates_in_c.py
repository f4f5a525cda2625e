"""An optimizer's update of all weights as C: clipped gradients, decay, the rule, averages, constraints."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from trainer.native.operations import Statements
from trainer.native.text import NotInC, number
from trainer.optimizers.base import StepNumbers, UpdateRule
from trainer.optimizers.updater import Updater
from trainer.program import Program


def update_in_c(updater: Updater, c: Statements) -> tuple[list[str], StepNumbers]:
    """C that moves all weights, after each line of which threads meet, and the numbers that it reads of a step.

    Raises:
        NotInC: there is none for these options.
    """
    rule = updater.optimizer
    found = rule.in_c() if updater.works_by_number(bare=True) else None
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
    if rule.use_ema:
        assert block.average is not None
        held["average"] = block.average
        statement = f"{statement} average = average * n{count} + w * n{count + 1}; if (n{count + 2}) w = average;"
        count, numbers_of = count + 3, _with_average(rule, numbers_of)
    reads = ", ".join(f"{name} = {c.pointer(tensor)}[i]" for name, tensor in held.items())
    writes = " ".join(f"{c.pointer(tensor)}[i] = {name};" for name, tensor in held.items() if name != "g")
    size = len(block.weight)
    loop = f"for (long i = FROM({size}); i < TO({size}); i++) {{ float {reads}; {statement} {writes} }}"
    step = ", ".join(f"n{k} = numbers[s * {count} + {k}]" for k in range(count))
    clips, projections = _clips(rule, gradient, block.sizes, c), _projections(updater, c)
    return [*clips, f"{{ const float {step}; {loop} }}", *projections], numbers_of


def _with_average(rule: UpdateRule, numbers_of: StepNumbers) -> StepNumbers:
    """Those of the update, then the shares of average and weights, and whether the average takes the weights' place."""
    every = rule.ema_overwrite_frequency

    def made(rates: np.ndarray, first: int) -> tuple[np.ndarray, ...]:
        steps = np.arange(first, first + len(rates))
        momentum = np.where(steps == 1, 0.0, rule.ema_momentum)
        overwrites = steps % every == 0 if every else np.zeros(len(rates))
        return (*numbers_of(rates, first), momentum, 1 - momentum, overwrites)

    return made


def _projections(updater: Updater, c: Statements) -> list[str]:
    """C that projects weights that have a constraint."""
    before, p = len(c.lines), Program({})
    for index, constraint in updater.constraints:
        weight = updater.parameters[index].detach()
        kept = weight.clone()
        constraint.by_hand(p, weight)
        weight.copy_(kept)
    for operation in p.operations:
        c.add(operation)
    made = c.lines[before:]
    del c.lines[before:]
    return made


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
