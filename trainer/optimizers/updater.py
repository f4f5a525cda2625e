"""An optimizer at work on a model: flat buffers, and what all optimizers share around their own `update`.

A step in Keras's order: gather (unscale, accumulate) gradients, clip, decay weights, update, average weights, project
them by their constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import FileError, RecipeError
from trainer.lazy import np, torch
from trainer.optimizers.base import Optimizer, Slots, UpdateRule
from trainer.optimizers.kernels import flatten, kernel
from trainer.optimizers.loss_scale import DynamicScale, LossScaleOptimizer
from trainer.schedules.base import ConstantRate

if TYPE_CHECKING:
    import numpy

    from trainer.layers.base import WeightSpec

SMALL = 1 << 16
"Up to so many weights a new gradient buffer a step is cheaper than Python's part in filling the kept one."


class Updater:
    """Moves weights by their gradients.

    The weights' tensors become views of one flat tensor, `weight`; whoever replaces them (`.to(device)`) must make a
    new Updater. `paths` names weights in `state()`; by default their number and name.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        weights: Sequence[tuple[WeightSpec, torch.Tensor]],
        paths: Sequence[str] | None = None,
    ):
        self.dynamic = DynamicScale(optimizer) if isinstance(optimizer, LossScaleOptimizer) else None
        rule = optimizer.inner_optimizer if isinstance(optimizer, LossScaleOptimizer) else optimizer
        if not isinstance(rule, UpdateRule):
            raise TypeError(f"{type(rule).__name__} is no update rule")
        self.optimizer = rule
        self.parameters = [tensor for _, tensor in weights]
        self.paths = list(paths) if paths is not None else [f"{i}/{spec.name}" for i, (spec, _) in enumerate(weights)]
        self.weight = _flat(self.parameters)
        self.sizes = [p.numel() for p in self.parameters]
        for parameter, piece in zip(self.parameters, self.weight.split(self.sizes), strict=True):
            parameter.data = piece.view(parameter.shape)
        self.slots: Slots = {}
        self._each: list[Slots] = [{} for _ in self.parameters]
        for name in rule.slots():
            self._make(name)
        self.average = torch.zeros_like(self.weight) if rule.use_ema else None
        self.swapped = False
        self.every = rule.gradient_accumulation_steps or 1
        self.accumulator = torch.zeros_like(self.weight) if self.every > 1 else None
        self._gradient = torch.empty_like(self.weight) if len(self.weight) > SMALL else None
        self._constraints = [(i, spec.constraint) for i, (spec, _) in enumerate(weights) if spec.constraint]
        self._clips = any((rule.clipnorm, rule.clipvalue, rule.global_clipnorm))
        self._rate = rule.learning_rate.rate(0) if isinstance(rule.learning_rate, ConstantRate) else None
        self.calls = 0

    def _make(self, name: str) -> None:
        """A slot as one flat tensor, and as a view of it for each weight that has it."""
        weights = zip(self.parameters, self.paths, strict=True)
        firsts = [self.optimizer.first(name, weight.detach(), path) for weight, path in weights]
        there = [(views, first) for views, first in zip(self._each, firsts, strict=True) if first is not None]
        flat = torch.cat([first.reshape(-1) for _, first in there]) if there else self.weight.new_empty(0)
        pieces = flat.split([first.numel() for _, first in there])
        for (views, first), piece in zip(there, pieces, strict=True):
            views[name] = piece.view(first.shape)
        self.slots[name] = flat

    @property
    def scale(self) -> float:
        """What the loss is multiplied by before gradients are computed; `apply` divides them by it."""
        if self.dynamic is not None:
            return self.dynamic.scale
        return self.optimizer.loss_scale_factor or 1.0

    @property
    def iterations(self) -> int:
        """Updates so far."""
        return self.calls // self.every

    @property
    def learning_rate(self) -> float:
        """The rate of the next update; a schedule follows the calls, also while gradients are accumulated (Keras)."""
        return self.optimizer.learning_rate.rate(self.calls) if self._rate is None else self._rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if self._rate is None:
            schedule = type(self.optimizer.learning_rate).__name__
            raise RecipeError(
                f"the learning rate follows {schedule} and can't be set",
                hint="write a number as learning_rate where a callback moves it",
                path=("compile", "optimizer"),
                code="learning-rate",
            )
        self._rate = float(rate)

    def apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """One step. A weight whose gradient is None stays as it is.

        `gradients` are those of the loss times `scale`. With a dynamic scale, a step with a gradient that is not
        finite changes nothing but the scale.

        Raises:
            RecipeError: no weight has a gradient.
        """
        finite = self.dynamic is None or _finite(gradients)
        if finite:
            self._apply(gradients)
        if self.dynamic is not None:
            self.dynamic.note(finite)

    def _apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        missing = [i for i, g in enumerate(gradients) if g is None]
        if missing:
            self._apply_partly(gradients, missing)
        else:
            self._move(self._gathered(gradients))
        if self.average is not None:
            self._average()
        for index, constraint in self._constraints:
            if index not in missing:
                tensor = self.parameters[index].data
                tensor.copy_(constraint.project(tensor))
        self.calls += 1

    def _apply_partly(self, gradients: Sequence[torch.Tensor | None], missing: list[int]) -> None:
        if len(missing) == len(gradients):
            hint = "the loss does not depend on any weight that may move"
            raise RecipeError("no weight has a gradient", hint=hint, path=("model",), code="no-gradient")
        pieces = [t for i in missing for t in (self.parameters[i].data, *self._each[i].values())]
        kept = [piece.clone() for piece in pieces]
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, gradients, strict=True)]
        self._move(self._gathered(filled))
        for piece, value in zip(pieces, kept, strict=True):
            piece.copy_(value)

    def _gathered(self, gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
        if self._gradient is None:
            flat = flatten()(gradients)
        else:
            flat = torch.cat([g.reshape(-1) for g in gradients if g is not None], out=self._gradient)
        return flat if self.scale == 1.0 else flat.div_(self.scale)

    def _move(self, gradient: torch.Tensor) -> None:
        if self.accumulator is not None:
            if (self.calls + 1) % self.every:
                self.accumulator.add_(gradient)
                return
            gradient.add_(self.accumulator).div_(self.every)
            self.accumulator.zero_()
        if self._clips:
            self._clip(gradient)
        rate, step = self.learning_rate, self.calls // self.every + 1
        if self.optimizer.flat:
            self._update(self.weight, gradient, self.slots, rate, step)
            return
        for parameter, piece, slots in zip(self.parameters, gradient.split(self.sizes), self._each, strict=True):
            self._update(parameter.data, piece.view(parameter.shape), slots, rate, step)

    def _update(self, weight: torch.Tensor, gradient: torch.Tensor, slots: Slots, rate: float, step: int) -> None:
        self.optimizer.decay(weight, slots, rate)
        self.optimizer.update(weight, gradient, slots, rate, step)

    def _clip(self, gradient: torch.Tensor) -> None:
        options = self.optimizer
        if options.clipvalue:
            gradient.clamp_(-options.clipvalue, options.clipvalue)
        elif options.global_clipnorm:
            norm = torch.linalg.vector_norm(gradient)
            # norm - norm: an infinite norm makes every gradient not-a-number, as in Keras, rather than 0.
            gradient.mul_(options.global_clipnorm / norm.clamp(min=options.global_clipnorm) + (norm - norm))
        elif options.clipnorm:
            pieces = gradient.split(self.sizes)
            norms = torch.stack(kernel("_foreach_norm")(pieces))
            kernel("_foreach_mul_")(pieces, (options.clipnorm / norms.clamp(min=options.clipnorm)).unbind())

    def _average(self) -> None:
        assert self.average is not None
        options, done = self.optimizer, self.iterations
        momentum = options.ema_momentum if done else 0.0
        self.average.mul_(momentum).add_(self.weight, alpha=1 - momentum)
        if options.ema_overwrite_frequency and (done + 1) % options.ema_overwrite_frequency == 0:
            self.weight.copy_(self.average)

    def finish(self) -> None:
        """The end of training: averaged weights (`use_ema`) take the weights' place."""
        if self.average is not None and self.calls and not self.swapped:
            self.weight.copy_(self.average)

    def swap(self) -> None:
        """Exchange the weights with their averages; a second time puts them back.

        Raises:
            RecipeError: there are no averages.
        """
        if self.average is None:
            path = ("compile", "optimizer")
            raise RecipeError("there are no averages of weights", hint="write use_ema: true", path=path, code="ema")
        kept = self.weight.clone()
        self.weight.copy_(self.average)
        self.average.copy_(kept)
        self.swapped = not self.swapped

    def _rows(self) -> dict[str, torch.Tensor]:
        """What is kept, by slot and weight, in the order of Keras's variables, as views of the flat tensors."""
        rows = {}
        for name, flat in (("average", self.average), ("gradient_accumulator", self.accumulator)):
            if flat is not None:
                for path, parameter, piece in zip(self.paths, self.parameters, flat.split(self.sizes), strict=True):
                    rows[f"{name}/{path}"] = piece.view(parameter.shape)
        names = list(self.slots)
        side_by_side = names[: self.optimizer.interleaved]
        for group in (side_by_side, *([n] for n in names[len(side_by_side) :])):
            for path, views in zip(self.paths, self._each, strict=True):
                rows |= {f"{name}/{path}": views[name] for name in group if name in views}
        return rows

    def _numbers(self) -> dict[str, numpy.ndarray]:
        """What is kept beside tensors."""
        found = {}
        if self.dynamic is not None:
            found["step_counter"] = np.array(self.dynamic.steps, dtype="int64")
            found["dynamic_scale"] = np.array(self.dynamic.scale, dtype="float64")
        found["iteration"] = np.array(self.calls, dtype="int64")
        if self._rate is not None:
            found["learning_rate"] = np.array(self._rate, dtype="float64")
        if self.swapped:
            found["swapped"] = np.array(True)
        return found

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything that going on exactly needs beside the weights: `iteration`, `learning_rate`, `SLOT/WEIGHT`."""
        return self._numbers() | {name: t.cpu().numpy().copy() for name, t in self._rows().items()}

    def load_state(self, saved: Mapping[str, numpy.ndarray]) -> None:
        """Go on from a state.

        Raises:
            FileError: it belongs to another optimizer or another model.
        """
        rows = self._rows()
        odd = (set(saved) ^ {*self._numbers(), *rows}) - {"swapped"}
        if odd:
            odd = ", ".join(sorted(odd)[:5])
            raise FileError(f"the optimizer's state does not belong to this model and optimizer: {odd}", code="state")
        for name, tensor in rows.items():
            value = np.asarray(saved[name])
            if value.shape != tuple(tensor.shape):
                message = f"{name} in the optimizer's state has shape {value.shape}, expected {tuple(tensor.shape)}"
                raise FileError(message, code="state")
        self.calls = int(saved["iteration"])
        self.swapped = "swapped" in saved
        if self._rate is not None:
            self._rate = float(saved["learning_rate"])
        if self.dynamic is not None:
            self.dynamic.scale, self.dynamic.steps = float(saved["dynamic_scale"]), int(saved["step_counter"])
        for name, tensor in rows.items():
            tensor.copy_(torch.from_numpy(np.array(saved[name])))


def _flat(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    kinds = {(p.dtype, p.device) for p in parameters}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise ValueError(f"expected trainable weights of one number type on one device, found {found}")
    return torch.cat([p.detach().reshape(-1) for p in parameters])


def _finite(gradients: Sequence[torch.Tensor | None]) -> bool:
    return bool(torch.stack([g.isfinite().all() for g in gradients if g is not None]).all())
