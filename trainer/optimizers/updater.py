"""An optimizer at work on a model: flat buffers, and what all optimizers share around their own `update`.

A step in Keras's order: gather (unscale, accumulate) gradients, clip, decay weights, update, average weights, project
them by their constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError, RecipeError
from trainer.layers.arrays import as_numpy
from trainer.lazy import np, torch
from trainer.optimizers.base import Optimizer, UpdateRule
from trainer.optimizers.blocks import blocks_of
from trainer.optimizers.kernels import kernel
from trainer.optimizers.loss_scale import DynamicScale, LossScaleOptimizer, finite
from trainer.schedules.base import ConstantRate

if TYPE_CHECKING:
    import numpy

    from trainer.layers.plan import WeightSpec


class Updater:
    """Moves weights by their gradients.

    The weights' tensors become views of one flat tensor for each of their number types; whoever replaces them
    (`.to(device)`) must make a new Updater. `paths` names weights in `state()`; by default their number and name.
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
        self.blocks = blocks_of(rule, self.parameters, self.paths)
        self.swapped = False
        self.every = rule.gradient_accumulation_steps or 1
        self.constraints = [(i, spec.constraint) for i, (spec, _) in enumerate(weights) if spec.constraint]
        "(number of a weight, what it is projected by after each update)"
        self._clips = any((rule.clipnorm, rule.clipvalue, rule.global_clipnorm))
        self._rate = rule.learning_rate.rate(0) if isinstance(rule.learning_rate, ConstantRate) else None
        self.calls = 0

    @property
    def weight(self) -> torch.Tensor:
        """All weights as one tensor; where they are of one number type, overwriting it overwrites them."""
        return _one([block.weight for block in self.blocks])

    @property
    def average(self) -> torch.Tensor | None:
        """Their averages likewise, where they are kept."""
        return _one([b.average for b in self.blocks if b.average is not None]) if self.optimizer.use_ema else None

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

    def learning_rates(self, count: int) -> numpy.ndarray:
        """The rates of the next `count` updates."""
        if self._rate is not None:
            return np.full(count, self._rate)
        return np.array([self.optimizer.learning_rate.rate(self.calls + step) for step in range(count)])

    def gradients(self) -> list[torch.Tensor]:
        """Where a step may write the gradient of each weight, for `apply_written`; with weights of one number type."""
        (block,) = self.blocks
        self._written, pieces = block.gradient()
        return pieces

    def apply_written(self) -> None:
        """One step by what was written to `gradients()`, all of it, for a loss that is not scaled."""
        self._move([self._written])
        self._project([])

    def works_by_number(self, *, bare: bool = False) -> bool:
        """Whether what becomes of each number follows from it, its gradient and its slots alone.

        `bare`: but for what is done to gradients before (norms that are clipped) and to weights behind (averages,
        constraints).
        """
        rule = self.optimizer
        more = rule.clipnorm or rule.global_clipnorm or rule.use_ema or self.constraints
        whole = rule.gradient_accumulation_steps or (more and not bare)
        return rule.flat and not whole and self.dynamic is None and len(self.blocks) == 1

    def go_on_like(self, other: Updater) -> None:
        """Count steps on from where another one of the same optimizer stands."""
        self.calls, self._rate = other.calls, other._rate

    def apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        """One step. A weight whose gradient is None stays as it is.

        `gradients` are those of the loss times `scale`. With a dynamic scale, a step with a gradient that is not
        finite changes nothing but the scale.

        Raises:
            RecipeError: no weight has a gradient.
        """
        sound = self.dynamic is None or finite(gradients)
        if sound:
            self._apply(gradients)
        if self.dynamic is not None:
            self.dynamic.note(sound)

    def _apply(self, gradients: Sequence[torch.Tensor | None]) -> None:
        missing = [i for i, g in enumerate(gradients) if g is None]
        if missing:
            self._apply_partly(gradients, missing)
        else:
            self._move(self._gathered(gradients))
        self._project(missing)

    def _project(self, missing: Sequence[int]) -> None:
        """What follows the update; `missing` are weights that have no gradient."""
        if self.optimizer.use_ema:
            self._average()
        for index, constraint in self.constraints:
            if index not in missing:
                tensor = self.parameters[index].data
                tensor.copy_(constraint.project(tensor))
        self.calls += 1

    def _apply_partly(self, gradients: Sequence[torch.Tensor | None], missing: list[int]) -> None:
        if len(missing) == len(gradients):
            hint = "the loss does not depend on any weight that may move"
            raise RecipeError("no weight has a gradient", hint=hint, path=("model",), code="no-gradient")
        slots = self._in_order(block.each for block in self.blocks)
        pieces = [t for i in missing for t in (self.parameters[i].data, *slots[i].values())]
        kept = [piece.clone() for piece in pieces]
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, gradients, strict=True)]
        self._move(self._gathered(filled))
        for piece, value in zip(pieces, kept, strict=True):
            piece.copy_(value)

    def _gathered(self, gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
        """For each block its gradient as one tensor, as the loss has it without its scale."""
        if len(self.blocks) == 1:
            flat = [self.blocks[0].gathered(gradients)]
        else:
            flat = [block.gathered([gradients[i] for i in block.places]) for block in self.blocks]
        return flat if self.scale == 1.0 else [gradient.div_(self.scale) for gradient in flat]

    def _move(self, gradients: list[torch.Tensor]) -> None:
        if self.every > 1 and not self._collected(gradients):
            return
        if self._clips:
            self._clip(gradients)
        rate, step = self.learning_rate, self.calls // self.every + 1
        for block, gradient in zip(self.blocks, gradients, strict=True):
            block.move(gradient, rate, step)

    def _collected(self, gradients: list[torch.Tensor]) -> bool:
        """Whether these are the last gradients of an update; they are then the mean of all of them."""
        last = (self.calls + 1) % self.every == 0
        for block, gradient in zip(self.blocks, gradients, strict=True):
            assert block.accumulator is not None
            if last:
                gradient.add_(block.accumulator).div_(self.every)
                block.accumulator.zero_()
            else:
                block.accumulator.add_(gradient)
        return last

    def _clip(self, gradients: list[torch.Tensor]) -> None:
        options = self.optimizer
        if options.clipvalue:
            for gradient in gradients:
                gradient.clamp_(-options.clipvalue, options.clipvalue)
        elif options.global_clipnorm:
            norm = _norm(gradients)
            for gradient in gradients:
                # norm - norm: an infinite norm makes every gradient not-a-number, as in Keras, rather than 0.
                gradient.mul_(options.global_clipnorm / norm.clamp(min=options.global_clipnorm) + (norm - norm))
        elif options.clipnorm:
            for block, gradient in zip(self.blocks, gradients, strict=True):
                pieces, norms = block.norms(gradient)
                kernel("_foreach_mul_")(pieces, (options.clipnorm / norms.clamp(min=options.clipnorm)).unbind())

    def _average(self) -> None:
        options, done = self.optimizer, self.iterations
        momentum = options.ema_momentum if done else 0.0
        every = options.ema_overwrite_frequency
        for block in self.blocks:
            assert block.average is not None
            block.average.mul_(momentum).add_(block.weight, alpha=1 - momentum)
            if every and (done + 1) % every == 0:
                block.weight.copy_(block.average)

    def finish(self) -> None:
        """The end of training: averaged weights (`use_ema`) take the weights' place."""
        if self.optimizer.use_ema and self.calls and not self.swapped:
            for block in self.blocks:
                assert block.average is not None
                block.weight.copy_(block.average)

    def swap(self) -> None:
        """Exchange the weights with their averages; a second time puts them back.

        Raises:
            RecipeError: there are no averages.
        """
        for block in self.blocks:
            if block.average is None:
                path = ("compile", "optimizer")
                raise RecipeError("there are no averages of weights", hint="write use_ema: true", path=path, code="ema")
            kept = block.weight.clone()
            block.weight.copy_(block.average)
            block.average.copy_(kept)
        self.swapped = not self.swapped

    def _in_order(self, of_blocks: Iterable[Sequence[Any]]) -> list[Any]:
        """What the blocks have for each weight, in the order of all weights."""
        both = zip(self.blocks, of_blocks, strict=True)
        found = {place: thing for block, things in both for place, thing in zip(block.places, things, strict=True)}
        return [found[i] for i in range(len(self.parameters))]

    def _rows(self) -> dict[str, torch.Tensor]:
        """What is kept, by slot and weight, in the order of Keras's variables, as views of the flat tensors."""
        rows, each = {}, self._in_order(block.each for block in self.blocks)
        for name in self.blocks[0].shared():
            views = self._in_order(block.shared()[name] for block in self.blocks)
            rows |= {f"{name}/{path}": view for path, view in zip(self.paths, views, strict=True)}
        names = self.optimizer.slots()
        side_by_side = names[: self.optimizer.interleaved]
        for group in (side_by_side, *((n,) for n in names[len(side_by_side) :])):
            for path, views in zip(self.paths, each, strict=True):
                rows |= {f"{name}/{path}": views[name] for name in group if name in views}
        return rows

    def _numbers(self) -> dict[str, numpy.ndarray]:
        """What is kept beside tensors."""
        found = {} if self.dynamic is None else self.dynamic.numbers()
        found["iteration"] = np.array(self.calls, dtype="int64")
        if self._rate is not None:
            found["learning_rate"] = np.array(self._rate, dtype="float64")
        if self.swapped:
            found["swapped"] = np.array(True)
        return found

    def state(self, *, live: bool = False) -> dict[str, numpy.ndarray]:
        """Everything that going on exactly needs beside the weights: `iteration`, `learning_rate`, `SLOT/WEIGHT`.

        `live` slots may be the optimizer's own memory, which the next step changes.
        """
        rows = {name: as_numpy(tensor) for name, tensor in self._rows().items()}
        return self._numbers() | (rows if live else {name: values.copy() for name, values in rows.items()})

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
            self.dynamic.load(saved)
        for name, tensor in rows.items():
            tensor.copy_(torch.from_numpy(np.array(saved[name])))


def _one(flat: list[torch.Tensor]) -> torch.Tensor:
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """The norm of all of them together, in the widest of their number types."""
    norms = [torch.linalg.vector_norm(g) for g in gradients]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
