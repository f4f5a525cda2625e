"""A built layer: its weights, its phase and its random stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn

from trainer.layers.base import Blend, Layer
from trainer.layers.plan import Plan, WeightSpec
from trainer.losses.shaping import floating
from trainer.model.number_types import kept, typed
from trainer.regularizers.base import Regularizer
from trainer.streams import derive, mixed, stream


class Clock:
    """The position of training that random layers follow; the loop sets it before each step."""

    def __init__(self, seed: int):
        self.seed, self.step = seed, 0
        self.device = torch.device("cpu")
        "Where random numbers are drawn: where the network computes."
        self.penalties: list[torch.Tensor] | None = None
        "Penalties on what inner layers make in the pass that is under way."
        self.deals: Callable[[Cell, int | None], torch.Generator] | None = None
        "Who hands layers their random generators, in the pass that is under way; None lets each make its own."
        self.compiles = False
        "Whether layers may be compiled code of their own."
        self.masked = False
        "Whether there are masks in the network."
        self.joins = False
        "Whether they may be so together with the layer after them, where no gradient is wanted."
        self.mixings: list[Blend] | None = None
        "How targets follow the rows that layers mixed in the pass that is under way."


class Cell(nn.Module):
    """A built layer: its weights under Keras's names, its inner layers, its phase and its random stream."""

    def __init__(self, layer: Layer, plan: Plan, path: str, clock: Clock, trainable: bool = True):
        super().__init__()
        self.layer, self.path, self.clock = layer, path, clock
        self.acts = typed(layer)
        "The layer, between casts where it says a number type."
        self.trainable = trainable and layer.trainable
        self.specs = plan.weights
        self._stream = derive(clock.seed, "layer", path)
        self._asked = (-1, 0)
        for spec in plan.weights:
            value = kept(torch.from_numpy(first_values(spec, clock.seed, path)), layer)
            if spec.trainable:
                self.register_parameter(spec.name, nn.Parameter(value, requires_grad=self.trainable))
            else:
                self.register_buffer(spec.name, value)
        for name in plan.absent:
            self.__dict__[name] = None
        for name, shape in plan.states.items():
            known = [n for n in shape if n is not None]
            if len(known) < len(shape):
                raise ValueError(f"{path}: a stateful layer needs a batch of known size, found None")
            self.register_buffer(name, kept(torch.zeros(known), layer), persistent=False)
        self._kept = tuple(plan.states)
        for name, (inner, inner_plan) in plan.children.items():
            self.add_module(name, Cell(inner, inner_plan, f"{path}/{inner.name or name}", clock, self.trainable))

    @property
    def own(self) -> Cell:
        return self

    @property
    def compiles(self) -> bool:
        return self.clock.compiles

    @property
    def masked(self) -> bool:
        return self.clock.masked

    def generator(self, seed: int | None = None) -> torch.Generator:
        if self.clock.deals is not None:
            return self.clock.deals(self, seed)
        return torch.Generator(self.clock.device).manual_seed(self.draw_seed(seed))

    def draw_seed(self, seed: int | None = None) -> int:
        step = self.clock.step
        times = self._asked[1] + 1 if self._asked[0] == step else 0
        self._asked = (step, times)
        base = self._stream if seed is None else derive(seed, "layer")
        return mixed(base + times, step)

    def forget_draws(self) -> None:
        """As if no random numbers had been drawn in this step."""
        self._asked = (-1, 0)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.acts.forward(self, *args, **kwargs)
        penalty = getattr(self.layer, "activity_regularizer", None)
        if penalty is not None and self.clock.penalties is not None:
            self.clock.penalties.append(on_output(penalty, out))
        return out

    def mixes(self, blend: Blend) -> None:
        if self.clock.mixings is not None:
            self.clock.mixings.append(blend)

    def states(self) -> Iterator[tuple[str, torch.Tensor]]:
        """(path, tensor) of what is kept from call to call and is no weight."""
        yield from ((f"{self.path}/{name}", getattr(self, name)) for name in self._kept)
        for inner in self.children():
            assert isinstance(inner, Cell)
            yield from inner.states()

    def rows(self) -> Iterator[tuple[WeightSpec, str, torch.Tensor, bool]]:
        """(spec, path, tensor, trainable) of each weight, trainable ones first, as Keras lists them."""
        found = list(self._rows())
        yield from (r for r in found if r[3])
        yield from (r for r in found if not r[3])

    def _rows(self) -> Iterator[tuple[WeightSpec, str, torch.Tensor, bool]]:
        for spec in self.specs:
            path = "/".join(p for p in (self.path, spec.group, spec.name) if p)
            yield spec, path, getattr(self, spec.name), spec.trainable and self.trainable
        for inner in self.children():
            assert isinstance(inner, Cell)
            yield from inner._rows()


def on_output(regularizer: Regularizer, out: Any) -> torch.Tensor:
    """The penalty on what a layer made, a row; on all of several tensors, as in Keras."""
    made = [regularizer.penalty(floating(t)) / t.shape[0] for t in (out if isinstance(out, list) else [out])]
    return sum(made[1:], made[0])


_blank: ContextVar[bool] = ContextVar("blank", default=False)


@contextmanager
def blank() -> Iterator[None]:
    """Let weights begin as zeros, for whoever overwrites all of them: drawing takes time."""
    before = _blank.set(True)
    try:
        yield
    finally:
        _blank.reset(before)


def first_values(spec: WeightSpec, seed: int, path: str) -> np.ndarray:
    """A weight's first values: from the initializer's own seed, or the recipe's seed, the layer's path and the name."""
    if _blank.get():
        return np.zeros(spec.shape, spec.dtype)
    own = getattr(spec.initializer, "seed", None)
    random = stream(seed, "init", path, spec.name) if own is None else stream(own, "init")
    return np.array(spec.initializer.values(spec.shape, random), dtype=spec.dtype, order="C")
