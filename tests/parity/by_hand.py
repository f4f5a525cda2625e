"""A model trained twice, by autograd and by the engine that has none: outputs, gradients, weights and states equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tests.parity.harness import as_numpy
from trainer.activations.base import Activation
from trainer.layers.graph import grown
from trainer.layers.lines import Lines
from trainer.layers.wiring import wire
from trainer.losses.base import Loss
from trainer.model.network import Network
from trainer.native.compiler import compiler
from trainer.optimizers.base import Optimizer
from trainer.optimizers.updater import Updater
from trainer.train import passes as engine
from trainer.train.direct import Direct
from trainer.train.feed import Batch
from trainer.train.objective import Goal, Objective
from trainer.train.scores import Seen
from trainer.train.scoring import Judged, judge

BATCH, STEPS = 4, 3
Arrays = Sequence[np.ndarray]


class Side:
    """One of the two: a network and its optimizer."""

    def __init__(
        self,
        lines: list[Any],
        shapes: Mapping[str, tuple[int | None, ...]],
        outputs: list[str],
        sets: Any,
        double: bool,
        dtype: Any = "float32",
    ):
        read = [Lines.line(line) for line in Lines.spelled(lines)]
        self.network = Network(grown(wire(read, list(shapes), outputs), shapes, dtype=dtype), seed=3).train()
        random = np.random.default_rng(7)
        with torch.no_grad():
            for spec, _, tensor, _ in self.network.rows():
                value = random.normal(0, max(1, np.prod(tensor.shape[:-1])) ** -0.5, tuple(tensor.shape))
                tensor.copy_(torch.from_numpy(np.abs(value) + 0.1 if "variance" in spec.name else value))
        if double:
            self.network.double()
        rows = [row for row in self.network.rows() if row[3]]
        weights = [(spec, tensor) for spec, _, tensor, _ in rows]
        self.updater = Updater(Optimizer.parse(sets), weights, [path for _, path, _, _ in rows])


class Islands:
    """What the engine leaves to autograd while this stands."""

    def __init__(self, monkeypatch: Any):
        self.found: list[str] = []
        plain = engine.island

        def island(p: Any, function: Any, *args: Any) -> Any:
            owner = function if isinstance(function, Activation) else function.func.__self__
            self.found.append(type(owner).__name__)
            return plain(p, function, *args)

        judged = engine.through_autograd

        def through_autograd(p: Any, loss: Loss, *args: Any) -> Any:
            self.found.append(type(loss).__name__)
            return judged(p, loss, *args)

        monkeypatch.setattr(engine, "island", island)
        monkeypatch.setattr(engine, "through_autograd", through_autograd)


def hold(
    lines: list[Any],
    xs: Mapping[str, np.ndarray],
    goals: Mapping[str, Goal],
    ys: Arrays,
    weights: Sequence[np.ndarray | None] | None = None,
    optimizer: Any = None,
    double: bool = True,
) -> None:
    """Some steps of both, in float32 and in float64; `xs` and `ys` hold the rows of all of them."""
    for precise in (False, True) if double else (False,):
        hold_steps(lines, xs, goals, ys, weights, optimizer, precise)


def hold_steps(
    lines: list[Any],
    xs: Mapping[str, np.ndarray],
    goals: Mapping[str, Goal],
    ys: Arrays,
    weights: Sequence[np.ndarray | None] | None,
    optimizer: Any,
    double: bool,
) -> None:
    """The steps in one number type, and with layers as compiled code where they can be."""
    optimizer = optimizer or {"SGD": {"learning_rate": 1e-3, "momentum": 0.9}}
    shapes = {name: (None, *x.shape[1:]) for name, x in xs.items()}
    plain, direct, compiled = (Side(lines, shapes, list(goals), optimizer, double) for _ in range(3))
    hold_sides(plain, direct, f"{lines}", xs, goals, ys, weights, double)
    if compiler() is not None and any(step.cell.layer.compiles(step.cell, None) for step in compiled.network.steps):
        plain = Side(lines, shapes, list(goals), optimizer, double)
        hold_sides(plain, compiled, f"{lines} compiled", xs, goals, ys, weights, double, compiles=True)


def hold_typed(
    lines: list[Any], xs: Mapping[str, np.ndarray], goals: Mapping[str, Goal], ys: Arrays, dtype: str
) -> None:
    """Some steps in a number type of the layers, whose roundings are the same but for the order of a few sums."""
    shapes = {name: (None, *x.shape[1:]) for name, x in xs.items()}
    optimizer = {"SGD": {"learning_rate": 1e-3, "momentum": 0.9}}
    plain, direct = (Side(lines, shapes, list(goals), optimizer, False, dtype) for _ in range(2))
    # A rounding may turn which of two numbers is the larger one, and with it the way of a gradient.
    room = 1e-6 if dtype == "float64" else 0.25
    hold_sides(plain, direct, f"{lines} {dtype}", xs, goals, ys, None, False, room=room)


def hold_sides(
    plain: Side,
    direct: Side,
    lines: str,
    xs: Mapping[str, np.ndarray],
    goals: Mapping[str, Goal],
    ys: Arrays,
    weights: Sequence[np.ndarray | None] | None,
    double: bool,
    *,
    compiles: bool = False,
    room: float | None = None,
) -> None:
    """Autograd's steps beside those without."""
    objective = Objective(dict(goals))
    with torch.no_grad():
        steps = Direct(direct.network, objective, direct.updater)
        direct.network.clock.compiles = compiles
        for step, batch in enumerate(batches(list(xs.values()), ys, weights or [None] * len(ys), double)):
            for side in (plain, direct):
                side.network.clock.step = step
            what = f"{lines} step {step}"
            with torch.enable_grad():
                judged = judge(plain.network, objective, batch)
            found = judged.gradients(plain.updater.parameters)
            plain.updater.apply(found)
            seen = steps.step(batch)
            assert seen is not None, f"{what}: left to autograd as a whole"
            for ours, theirs in zip(seen.outputs, judged.made.outputs, strict=True):
                alike(ours, theirs.float() if room else theirs, f"{what}: output", room=room)
            if room is None:
                hold_losses(seen, judged, list(goals.values()), what)
            written = [steps._views[id(parameter)] for parameter in direct.updater.parameters]
            largest = max(float(g.abs().max()) for g in found if g is not None)
            for path, ours, theirs in zip(direct.updater.paths, written, found, strict=True):
                assert theirs is not None
                alike(ours, theirs, f"{what}: gradient of {path}", 0.1 * largest, room)
            for (_, path, ours, _), (_, _, theirs, _) in zip(direct.network.rows(), plain.network.rows(), strict=True):
                alike(ours, theirs, f"{what}: {path}", room=room)


def hold_losses(seen: Seen, judged: Judged, goals: Sequence[Goal], what: str) -> None:
    """Each output's loss that does not follow from the output; with penalties where all are known."""
    for ours, theirs in zip(seen.losses, judged.values, strict=False):
        if ours is not None:
            alike(ours, theirs, f"{what}: loss")
    known = [loss * goal.weight for loss, goal in zip(seen.losses, goals, strict=True) if loss is not None]
    if len(known) == len(goals):
        alike(sum(known) + (0 if seen.rest is None else seen.rest), judged.value, f"{what}: loss with penalties")


def by_hand_alone(lines: list[Any], x: np.ndarray, y: np.ndarray, output: str) -> None:
    """The first step of the engine that has no autograd."""
    side = Side(lines, {"x": (None, *x.shape[1:])}, [output], "adam", False)
    steps, batch = (
        Direct(side.network, Objective({output: squared()}), side.updater),
        batches([x], [y], [None], False)[0],
    )
    with torch.no_grad():
        assert steps.step(batch) is not None


def batches(xs: Arrays, ys: Arrays, weights: Sequence[np.ndarray | None], double: bool) -> list[Batch]:
    """The rows, some at a time."""
    made = []
    for start in range(0, BATCH * STEPS, BATCH):
        rows = slice(start, start + BATCH)
        weighs = tuple([None if w is None else cut(w[rows], double) for w in weights])
        x, y = (tuple([cut(a[rows], double) for a in each]) for each in (xs, ys))
        made.append(Batch(x, y, weighs))
    return made


def cut(rows: np.ndarray, double: bool) -> torch.Tensor:
    """As a tensor, floating point in double precision if asked for."""
    made = torch.from_numpy(rows.copy())
    return made.double() if double and made.is_floating_point() else made


def alike(ours: Any, theirs: Any, what: str, least: float = 1e-2, room: float | None = None) -> None:
    """Equal but for rounding, by the scale, which is `least` or more."""
    a, b = as_numpy(ours), as_numpy(theirs.detach())
    tolerance = room or (1e-12 if a.dtype == b.dtype == np.float64 else 1e-5)
    assert a.shape == b.shape, what
    if a.size:
        scale = max(float(np.abs(b).max()), least)
        worst = float(np.abs(a - b).max())
        assert worst <= tolerance * scale, f"{what}: differs by {worst / scale:.2e} of the scale {scale:.3g}"


def normal(seed: int, *shape: int) -> np.ndarray:
    """Rows for all steps."""
    return np.random.default_rng(seed).normal(size=(BATCH * STEPS, *shape)).astype("float32")


def squared() -> Goal:
    """The loss of outputs that stand for nothing."""
    return Goal(Loss.parse("mse"))


def overriding(kind: Any) -> set[str]:
    """Names of the classes of a kind that know their own gradient."""
    return {c.__name__ for c in kind.spellings().values() if c.by_hand is not kind.by_hand}
