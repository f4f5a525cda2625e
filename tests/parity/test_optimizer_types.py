"""Optimizers over weights of several number types, and of half precision, against Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.harness import close
from tests.parity.optimizers import twin
from trainer.block import problems_of
from trainer.constraints.base import Constraint
from trainer.errors import FileError
from trainer.initializers.constant import Zeros
from trainer.layers.plan import WeightSpec
from trainer.optimizers.base import Optimizer
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters, updater_of

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SHAPES = [(3, 4), (4,), (2, 3, 2), (5,), (1,)]
BOTH = ["float32", "float64", "float64", "float32", "float64"]
NAMES = ["a/kernel", "a/bias", "b/kernel", "b/bias", "c/scale"]
RULES: list[dict[str, Any]] = [
    {"SGD": {"momentum": 0.9}},
    {"SGD": {"momentum": 0.8, "nesterov": True}},
    {"Adam": {"learning_rate": 0.01}},
    {"AdamW": {"learning_rate": 0.01, "weight_decay": 0.05}},
    {"RMSprop": {"centered": True, "momentum": 0.5}},
    {"Muon": {}},
]
SHARED: list[dict[str, Any]] = [
    {},
    {"global_clipnorm": 0.7},
    {"clipnorm": 0.5},
    {"clipvalue": 0.1},
    {"weight_decay": 0.05, "use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 7},
    {"gradient_accumulation_steps": 3, "global_clipnorm": 0.3, "use_ema": True},
    {"loss_scale_factor": 64.0},
]


class Pair:
    """Our optimizer and Keras's on equal weights of those number types."""

    def __init__(self, spec: Any, dtypes: Sequence[str], constrained: bool = False):
        random = np.random.default_rng(5)
        drawn = [torch.from_numpy(random.normal(0, 1, s)) for s in SHAPES]
        self.dtypes = [getattr(torch, d) for d in dtypes]
        self.parameters = [torch.nn.Parameter(v.to(d)) for v, d in zip(drawn, self.dtypes, strict=True)]
        kept = {2: Constraint.parse("NonNeg")} if constrained else {}
        specs = [
            WeightSpec(n, s, Zeros(), constraint=kept.get(i))
            for i, (n, s) in enumerate(zip(NAMES, SHAPES, strict=True))
        ]
        self.optimizer = Optimizer.parse(spec)
        held(self.optimizer, dtypes)
        self.ours = updater_of(self.optimizer, list(zip(specs, self.parameters, strict=True)), NAMES)
        self.variables = []
        for name, parameter, dtype in zip(NAMES, self.parameters, dtypes, strict=True):
            with keras.name_scope(name.split("/")[0]):
                value = parameter.detach().clone()
                self.variables.append(keras.Variable(value, dtype=dtype, name=name.split("/")[1]))
        for i, constraint in kept.items():
            self.variables[i].constraint = keras.constraints.deserialize(constraint.to_keras())
        self.theirs = twin(self.optimizer)
        self.theirs.build(self.variables)

    def gradients(self, step: int) -> list[torch.Tensor]:
        """Gradients of many sizes, the same for the same step."""
        random = np.random.default_rng(step)
        size = 10.0 ** random.uniform(-3, 1)
        drawn = [torch.from_numpy(random.normal(0.1, size, s)) for s in SHAPES]
        return [g.to(d) for g, d in zip(drawn, self.dtypes, strict=True)]

    def step(self, gradients: Sequence[torch.Tensor | None]) -> None:
        with torch.no_grad():
            self.ours.apply([None if g is None else g.clone() for g in gradients])
            self.theirs.apply([None if g is None else g.clone() for g in gradients], self.variables)

    def run(self, steps: int, tolerance: float = 1e-5) -> None:
        for step in range(steps):
            self.step(self.gradients(step))
            if step < 3 or step % 10 == 9:
                self.hold(f"after step {step + 1}", tolerance)
        self.ours.finish()
        self.theirs.finalize_variable_values(self.variables)
        self.hold("at the end", tolerance)

    def hold(self, what: str, tolerance: float = 1e-5) -> None:
        for name, mine, variable in zip(NAMES, self.parameters, self.variables, strict=True):
            assert str(mine.dtype).removeprefix("torch.") == variable.dtype
            close(mine.double(), variable.value.double(), f"{self.optimizer!r}: {name} {what}", tolerance)


@pytest.mark.usefixtures("keras_in_double")
@pytest.mark.parametrize("shared", SHARED, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_weights_of_two_types(rule: dict[str, Any], shared: dict[str, Any]) -> None:
    ((name, options),) = rule.items()
    pair = Pair({name: {**options, **shared}}, BOTH, constrained=True)
    pair.run(50)
    assert isinstance(pair.ours, Updater)
    assert [block.weight.dtype for block in pair.ours.blocks] == [torch.float32, torch.float64]
    assert pair.ours.weight.dtype == torch.float64


@pytest.mark.usefixtures("keras_in_double")
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_weights_of_two_types_without_a_gradient_stay(rule: dict[str, Any]) -> None:
    """Also where a whole type has none."""
    pair = Pair(rule, BOTH)
    gone = [{1}, {1, 2, 4}, {0, 3}, {0, 1, 2, 3}]
    for step in range(12):
        pair.step([None if i in gone[step % 4] else g for i, g in enumerate(pair.gradients(step))])
        pair.hold(f"after step {step + 1}")


@pytest.mark.usefixtures("keras_in_double")
def test_the_norm_is_of_all_weights_together() -> None:
    pair = Pair({"SGD": {"global_clipnorm": 1.0, "learning_rate": 1.0}}, BOTH)
    before = [p.detach().double().clone() for p in pair.parameters]
    pair.step([100 * g for g in pair.gradients(1)])
    moved = torch.cat([(p.detach().double() - b).reshape(-1) for p, b in zip(pair.parameters, before, strict=True)])
    assert float(moved.norm()) == pytest.approx(1.0, rel=1e-6)
    pair.hold("after a clipped step")


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("dtypes", [BOTH, ["float16"] * 5, ["bfloat16"] * 5, ["bfloat16", *BOTH[1:]]], ids="-".join)
def test_going_on_from_a_state_is_exact(rule: dict[str, Any], dtypes: list[str]) -> None:
    ((name, options),) = rule.items()
    shared = {"gradient_accumulation_steps": 2, "use_ema": True, "global_clipnorm": 1.0}
    whole, first, second = (Pair({name: {**options, **shared}}, dtypes) for _ in range(3))
    for step in range(11):
        whole.ours.apply(whole.gradients(step))
        if step < 5:
            first.ours.apply(first.gradients(step))
    second.ours.load_state(first.ours.state())
    for mine, other in zip(second.parameters, first.parameters, strict=True):
        mine.data.copy_(other.data)
    for step in range(5, 11):
        second.ours.apply(second.gradients(step))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, second.parameters, strict=True))
    mine, other = whole.ours.state(), second.ours.state()
    assert list(mine) == list(other)
    assert all(np.array_equal(mine[k], other[k]) for k in mine)


@pytest.mark.usefixtures("keras_in_double")
@pytest.mark.parametrize("rule", RULES[:-1], ids=str)
def test_state_is_keras_variables_in_order(rule: dict[str, Any]) -> None:
    ((name, options),) = rule.items()
    pair = Pair({name: {**options, "use_ema": True, "gradient_accumulation_steps": 2}}, BOTH)
    for step in range(5):
        pair.step(pair.gradients(step))
    for (slot, value), variable in zip(pair.ours.state().items(), pair.theirs.variables, strict=True):
        if "/" in slot:
            assert variable.path.split("/")[-1].endswith(slot.split("/")[0])
            assert str(value.dtype) == variable.dtype
        close(value.astype("float64"), variable.value.double(), slot)


# Numbers that both types have exactly: Keras takes them into the weights' type, ours keeps them apart from it.
EXACT: dict[str, float] = {"beta_1": 0.75, "beta_2": 0.875, "epsilon": 2.0**-6, "learning_rate": 2.0**-4}
HALF: list[dict[str, Any]] = [
    {"SGD": {"learning_rate": 2.0**-4}},
    {"SGD": {"learning_rate": 2.0**-4, "momentum": 0.75, "nesterov": True}},
    {"Adam": EXACT},
    {"Adam": {**EXACT, "amsgrad": True, "clipnorm": 1.0}},
    {"AdamW": {**EXACT, "weight_decay": 2.0**-5, "global_clipnorm": 1.0}},
    {"RMSprop": {"learning_rate": 2.0**-4, "rho": 0.875, "epsilon": 2.0**-6, "momentum": 0.5}},
    {"Adamax": EXACT},
    {"Adagrad": {"learning_rate": 2.0**-4, "use_ema": True, "ema_momentum": 0.75}},
    {"Lion": {"learning_rate": 2.0**-6, "beta_1": 0.75, "beta_2": 0.875, "gradient_accumulation_steps": 2}},
]
ROOM = {"float16": 5e-3, "bfloat16": 4e-2}


@pytest.mark.parametrize("dtype", ROOM)
@pytest.mark.parametrize("rule", HALF, ids=str)
def test_ten_steps_in_half_precision(rule: dict[str, Any], dtype: str) -> None:
    pair = Pair(rule, [dtype] * 5)
    before = [p.detach().clone() for p in pair.parameters]
    pair.run(10, ROOM[dtype])
    assert not any(torch.equal(a, b) for a, b in zip(before, pair.parameters, strict=True))
    kept = [v for v in pair.theirs.variables if v.shape]
    assert {v.dtype for v in kept} <= {dtype}
    assert isinstance(pair.ours, Updater)
    assert {t.dtype for block in pair.ours.blocks for t in block.slots.values()} <= {getattr(torch, dtype)}


SEVERAL = {
    "MultiOptimizer": {
        "optimizer_map": {
            "default_optimizer": {"Adam": {"learning_rate": 0.01}},
            "optimizer_map": {"a/.*": {"SGD": {"momentum": 0.5, "loss_scale_factor": 5.0}}},
        },
        "loss_scale_factor": 3.0,
    }
}


@pytest.mark.parametrize("growth", [2, 5])
def test_loss_scaling_of_several_optimizers(growth: int) -> None:
    """One scale around them all: a gradient that is not finite, anywhere, stops every one of them."""
    spec = {"inner_optimizer": SEVERAL, "initial_scale": 16.0, "dynamic_growth_steps": growth}
    pair = Pair({"LossScaleOptimizer": spec}, ["float32"] * 5)
    assert isinstance(pair.ours, Updaters)
    assert pair.ours.dynamic is not None
    scales = []
    for step in range(30):
        gradients = [g * pair.ours.scale for g in pair.gradients(step)]
        if step % 7 == 3:
            gradients[step % 5].view(-1)[0] = np.inf if step % 2 else np.nan
        pair.step(gradients)
        assert pair.ours.scale == float(pair.theirs.dynamic_scale.value)
        assert pair.ours.dynamic.steps == int(pair.theirs.step_counter.value)
        assert pair.ours.iterations == int(pair.theirs.iterations.value)
        pair.hold(f"after step {step + 1}")
        scales.append(pair.ours.scale)
    assert len(set(scales)) >= 2
    again = Pair({"LossScaleOptimizer": spec}, ["float32"] * 5)
    again.ours.load_state(pair.ours.state())
    assert again.ours.scale == pair.ours.scale
    assert all(np.array_equal(v, pair.ours.state()[k]) for k, v in again.ours.state().items())
    with pytest.raises(FileError, match="dynamic_scale, step_counter"):
        Pair(SEVERAL, ["float32"] * 5).ours.load_state(pair.ours.state())


def test_a_scale_within_a_scale_is_refused() -> None:
    inner = {"LossScaleOptimizer": {"inner_optimizer": "adam"}}
    with pytest.raises(ValidationError) as raised:
        Optimizer.parse({"LossScaleOptimizer": {"inner_optimizer": inner}})
    ((path, message, *_),) = [(p.path, p.message) for p in problems_of(raised.value)]
    assert path[-1] == "inner_optimizer"
    assert message.startswith("LossScaleOptimizer can't have another one inside")
