"""An optimizer at work on a model: flat buffers, and what all optimizers share around their own `update`.

A step in Keras's order: gather (and accumulate) gradients, clip, decay weights, update, average weights, project them
by their constraints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.errors import FileError, RecipeError
from trainer.lazy import np, torch
from trainer.optimizers.base import Optimizer
from trainer.optimizers.kernels import flatten, kernel
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
        self.optimizer = optimizer
        self.parameters = [tensor for _, tensor in weights]
        self.paths = list(paths) if paths is not None else [f"{i}/{spec.name}" for i, (spec, _) in enumerate(weights)]
        self.weight = _flat(self.parameters)
        self.sizes = [p.numel() for p in self.parameters]
        for parameter, piece in zip(self.parameters, self.weight.split(self.sizes), strict=True):
            parameter.data = piece.view(parameter.shape)
        names = optimizer.slots()
        self.slots = {name: torch.full_like(self.weight, optimizer.first(name)) for name in names}
        self.average = torch.zeros_like(self.weight) if optimizer.use_ema else None
        self.every = optimizer.gradient_accumulation_steps or 1
        self.accumulator = torch.zeros_like(self.weight) if self.every > 1 else None
        self._gradient = torch.empty_like(self.weight) if len(self.weight) > SMALL else None
        self._constraints = [(i, spec.constraint) for i, (spec, _) in enumerate(weights) if spec.constraint]
        self._clips = any((optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm))
        constant = isinstance(optimizer.learning_rate, ConstantRate)
        self._rate = optimizer.learning_rate.rate(0) if constant else None
        self.calls = 0

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

        Raises:
            RecipeError: no weight has a gradient.
        """
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
        pieces = [t.split(self.sizes)[i] for t in (self.weight, *self.slots.values()) for i in missing]
        kept = [piece.clone() for piece in pieces]
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, gradients, strict=True)]
        self._move(self._gathered(filled))
        for piece, value in zip(pieces, kept, strict=True):
            piece.copy_(value)

    def _gathered(self, gradients: Sequence[torch.Tensor | None]) -> torch.Tensor:
        if self._gradient is None:
            return flatten()(gradients)
        return torch.cat([g.reshape(-1) for g in gradients if g is not None], out=self._gradient)

    def _move(self, gradient: torch.Tensor) -> None:
        if self.accumulator is not None:
            if (self.calls + 1) % self.every:
                self.accumulator.add_(gradient)
                return
            gradient.add_(self.accumulator).div_(self.every)
            self.accumulator.zero_()
        if self._clips:
            self._clip(gradient)
        rate = self.learning_rate
        if self.optimizer.weight_decay:
            self.weight.mul_(1 - self.optimizer.weight_decay * rate)
        self.optimizer.update(self.weight, gradient, self.slots, rate, self.calls // self.every + 1)

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
        if self.average is not None and self.calls:
            self.weight.copy_(self.average)

    def _rows(self) -> dict[str, torch.Tensor]:
        """What is kept, by slot and weight, in the order of Keras's variables, as views of the flat tensors."""
        flat = {"average": self.average, "gradient_accumulator": self.accumulator, **self.slots}
        pieces = {name: t.split(self.sizes) for name, t in flat.items() if t is not None}
        side_by_side = list(self.slots)[: self.optimizer.interleaved]
        alone = [[name] for name in self.slots if name not in side_by_side]
        groups = [[name] for name in ("average", "gradient_accumulator") if name in pieces] + [side_by_side, *alone]
        return {
            f"{name}/{path}": pieces[name][i].view(self.parameters[i].shape)
            for group in groups
            for i, path in enumerate(self.paths)
            for name in group
        }

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything that going on exactly needs beside the weights: `iteration`, `learning_rate`, `SLOT/WEIGHT`."""
        state = {"iteration": np.array(self.calls, dtype="int64")}
        if self._rate is not None:
            state["learning_rate"] = np.array(self._rate, dtype="float64")
        return state | {name: t.cpu().numpy().copy() for name, t in self._rows().items()}

    def load_state(self, saved: Mapping[str, numpy.ndarray]) -> None:
        """Go on from a state.

        Raises:
            FileError: it belongs to another optimizer or another model.
        """
        rows = self._rows()
        expected = {"iteration", *rows} | ({"learning_rate"} if self._rate is not None else set())
        if set(saved) != expected:
            odd = ", ".join(sorted(set(saved) ^ expected)[:5])
            raise FileError(f"the optimizer's state does not belong to this model and optimizer: {odd}", code="state")
        for name, tensor in rows.items():
            value = np.asarray(saved[name])
            if value.shape != tuple(tensor.shape):
                message = f"{name} in the optimizer's state has shape {value.shape}, expected {tuple(tensor.shape)}"
                raise FileError(message, code="state")
        self.calls = int(saved["iteration"])
        if self._rate is not None:
            self._rate = float(saved["learning_rate"])
        for name, tensor in rows.items():
            tensor.copy_(torch.from_numpy(np.array(saved[name])))


def _flat(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
    kinds = {(p.dtype, p.device) for p in parameters}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds)) or "none"
        raise ValueError(f"expected trainable weights of one number type on one device, found {found}")
    return torch.cat([p.detach().reshape(-1) for p in parameters])
