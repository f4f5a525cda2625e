"""Every optimizer against Keras: 200 steps on equal gradients under every shared option, and training of a model."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import close
from trainer.constraints.base import Constraint
from trainer.errors import FileError, RecipeError
from trainer.initializers.constant import Zeros
from trainer.layers.base import WeightSpec
from trainer.optimizers.base import Optimizer
from trainer.optimizers.powers import BLOCK, adam_correction, nesterov_momenta, power
from trainer.optimizers.updater import SMALL, Updater

# Keras's Nadam warns of its own use of numpy.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation", "ignore:Exception encountered when calling Cond"
)
SHAPES = [(3, 4), (4,), (2, 3, 2), (1,)]
OWN: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.8, "nesterov": True, "learning_rate": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"rho": 0.8, "epsilon": 1e-3, "learning_rate": 0.01}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5}),
    ("Adam", {}),
    ("Adam", {"learning_rate": 0.1, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-4}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"beta_1": 0.0}),
    ("AdamW", {}),
    ("AdamW", {"weight_decay": 0.1, "amsgrad": True}),
    ("Adagrad", {"learning_rate": 0.1}),
    ("Adagrad", {"initial_accumulator_value": 0.0}),
    ("Adadelta", {"learning_rate": 1.0, "rho": 0.9}),
    ("Adamax", {"learning_rate": 0.01}),
    ("Nadam", {}),
    ("Lion", {"learning_rate": 1e-4}),
]
SHARED: list[dict[str, Any]] = [
    {"weight_decay": 0.05},
    {"clipnorm": 0.5},
    {"clipvalue": 0.1},
    {"global_clipnorm": 0.7},
    {"use_ema": True},
    {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 7},
    {"gradient_accumulation_steps": 4},
    {"gradient_accumulation_steps": 3, "clipnorm": 0.3, "weight_decay": 0.01},
    {"gradient_accumulation_steps": 2, "use_ema": True, "ema_overwrite_frequency": 5},
    {"learning_rate": {"ExponentialDecay": {"initial_learning_rate": 0.05, "decay_steps": 20, "decay_rate": 0.7}}},
]
NAMES = ["SGD", "RMSprop", "Adam", "AdamW", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion"]


def updater_of(spec: Any, shapes: list[tuple[int, ...]] = SHAPES) -> Updater:
    """Our optimizer on weights that are always the same."""
    random = np.random.default_rng(5)
    specs = [WeightSpec(f"w{i}", s, Zeros()) for i, s in enumerate(shapes)]
    values = [torch.from_numpy(random.normal(0, 1, s).astype("float32")) for s in shapes]
    return Updater(Optimizer.parse(spec), list(zip(specs, values, strict=True)))


class Pair:
    """Our optimizer and Keras's on equal weights."""

    def __init__(self, spec: Any, shapes: list[tuple[int, ...]] = SHAPES, constraints: dict[int, str] | None = None):
        random = np.random.default_rng(5)
        values = [random.normal(0, 1, s).astype("float32") for s in shapes]
        kept = {i: Constraint.parse(name) for i, name in (constraints or {}).items()}
        self.parameters = [torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values]
        specs = [WeightSpec(f"w{i}", s, Zeros(), constraint=kept.get(i)) for i, s in enumerate(shapes)]
        self.ours = Updater(Optimizer.parse(spec), list(zip(specs, self.parameters, strict=True)))
        self.variables = [keras.Variable(v) for v in values]
        for i, constraint in kept.items():
            self.variables[i].constraint = keras.constraints.deserialize(constraint.to_keras())
        self.theirs = keras.optimizers.deserialize(self.ours.optimizer.to_keras())
        self.theirs.build(self.variables)

    def step(self, gradients: list[np.ndarray | None]) -> None:
        given = [None if g is None else torch.from_numpy(g) for g in gradients]
        self.ours.apply([None if g is None else g.clone() for g in given])
        with torch.no_grad():
            self.theirs.apply([None if g is None else g.clone() for g in given], self.variables)

    def hold(self, what: str) -> None:
        for i, (mine, variable) in enumerate(zip(self.parameters, self.variables, strict=True)):
            close(mine, variable.value, f"{self.ours.optimizer!r}: weight {i} {what}")


def gradients(step: int, shapes: list[tuple[int, ...]] = SHAPES) -> list[np.ndarray]:
    """Gradients of many sizes, some of them 0, the same for the same step."""
    random = np.random.default_rng(step)
    size = 10.0 ** random.uniform(-6, 1)
    return [(random.normal(0.1, size, s) * random.integers(0, 4, s).clip(0, 1)).astype("float32") for s in shapes]


def run(pair: Pair, steps: int = 200) -> None:
    for step in range(steps):
        pair.step(gradients(step))
        if step < 3 or step % 20 == 19:
            pair.hold(f"after step {step + 1}")
    pair.ours.finish()
    pair.theirs.finalize_variable_values(pair.variables)
    pair.hold("at the end")


@pytest.mark.parametrize(("name", "options"), OWN)
def test_own_options(name: str, options: dict[str, Any]) -> None:
    run(Pair({name: options}))


@pytest.mark.parametrize("options", SHARED, ids=lambda o: "-".join(o))
@pytest.mark.parametrize("name", NAMES)
def test_shared_options(name: str, options: dict[str, Any]) -> None:
    run(Pair({name: options}), 60 if "gradient_accumulation_steps" not in options else 120)


@pytest.mark.parametrize("options", SHARED, ids=lambda o: "-".join(o))
def test_constraints(options: dict[str, Any]) -> None:
    run(Pair({"Adam": {"learning_rate": 0.1, **options}}, constraints={0: "NonNeg", 2: "MaxNorm"}), 40)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(("name", "options"), list(itertools.product(["SGD", "Adam"], [{}, *SHARED])))
def test_weights_without_a_gradient_stay(name: str, options: dict[str, Any]) -> None:
    pair = Pair({name: {"weight_decay": 0.1, **options}}, constraints={1: "NonNeg"})
    for step in range(30):
        pair.step([None if (step + i) % 3 == 0 and i < 2 else g for i, g in enumerate(gradients(step))])
        pair.hold(f"after step {step + 1}")


def test_infinite_gradients_under_a_global_norm() -> None:
    pair = Pair({"SGD": {"global_clipnorm": 1.0}})
    pair.step([np.full(s, np.inf, "float32") if i == 0 else np.ones(s, "float32") for i, s in enumerate(SHAPES)])
    assert all(np.isnan(p.detach().numpy()).all() for p in pair.parameters)
    pair.hold("after an infinite gradient")


def test_many_weights() -> None:
    """Beyond SMALL the gradients go into one kept buffer."""
    shapes = [(SMALL // 64, 65), (3,)]
    for options in ({}, {"clipnorm": 1.0}, {"gradient_accumulation_steps": 2}):
        pair = Pair({"Adam": options}, shapes)
        for step in range(4):
            pair.step(gradients(step, shapes))
        pair.hold("after 4 steps")


@pytest.mark.parametrize(
    "spec",
    [
        *({name: options} for name, options in OWN),
        {"Adam": {"use_ema": True, "gradient_accumulation_steps": 2, "amsgrad": True}},
        {
            "SGD": {
                "learning_rate": {
                    "ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5}
                }
            }
        },
    ],
)
def test_state_is_keras_variables_in_order(spec: dict[str, Any]) -> None:
    pair = Pair(spec)
    for step in range(5):
        pair.step(gradients(step))
    state = pair.ours.state()
    theirs = list(pair.theirs.variables)
    if "Nadam" in spec:
        product = theirs.pop()
        close(np.float32(nesterov_momenta(0.9, 5)[2]), product.value, "product of momenta")
    names = [v.path.split("/")[-1] for v in theirs]
    assert [n.split("/")[0] for n in state] == [_slot(n) for n in names]
    for (name, value), variable in zip(state.items(), theirs, strict=True):
        close(value.astype("float32"), variable.value.float(), name)


def _slot(name: str) -> str:
    return name if name in ("iteration", "learning_rate") else name.split("_", 2)[-1] if "variable" in name else name


@pytest.mark.parametrize("options", [{}, *SHARED], ids=lambda o: "-".join(o))
@pytest.mark.parametrize("name", NAMES)
def test_going_on_from_a_state_is_exact(name: str, options: dict[str, Any]) -> None:
    whole, first, second = (updater_of({name: options}) for _ in range(3))

    def move(updater: Updater, start: int, stop: int) -> None:
        for step in range(start, stop):
            updater.apply([torch.from_numpy(g) for g in gradients(step)])

    move(whole, 0, 11)
    move(first, 0, 5)
    second.load_state(first.state())
    second.weight.copy_(first.weight)
    move(second, 5, 11)
    assert torch.equal(whole.weight, second.weight)
    mine, other = whole.state(), second.state()
    assert list(mine) == list(other)
    assert all(np.array_equal(mine[k], other[k]) for k in mine)


def test_states_that_belong_elsewhere() -> None:
    adam, sgd, small = Pair("adam").ours, Pair("sgd").ours, Pair("adam", [(2, 4), *SHAPES[1:]]).ours
    with pytest.raises(FileError, match="does not belong"):
        sgd.load_state(adam.state())
    with pytest.raises(FileError, match=r"momentum/0/w0 .* has shape \(2, 4\), expected \(3, 4\)"):
        adam.load_state(small.state())


def test_learning_rate_can_be_set_when_it_is_a_number() -> None:
    pair = Pair({"Adam": {"learning_rate": 0.01}})
    for step in range(6):
        if step == 3:
            pair.ours.learning_rate = 0.5
            pair.theirs.learning_rate = 0.5
        pair.step(gradients(step))
    pair.hold("after the rate was set")
    assert pair.ours.learning_rate == 0.5
    assert Updater.learning_rate.fset is not None
    fixed = Pair({"SGD": SHARED[-1]}).ours
    with pytest.raises(RecipeError, match="follows ExponentialDecay and can't be set"):
        fixed.learning_rate = 0.1


def test_schedules_follow_calls_and_steps_follow_updates() -> None:
    updater = Pair({"Adam": {**SHARED[-1], "gradient_accumulation_steps": 3}})
    for step in range(7):
        updater.step(gradients(step))
        assert updater.ours.learning_rate == pytest.approx(float(updater.theirs.learning_rate), rel=1e-6)
        assert updater.ours.iterations == int(updater.theirs.iterations)
    updater.hold("after 7 calls")


def test_no_gradient_at_all() -> None:
    with pytest.raises(RecipeError, match="no weight has a gradient"):
        Pair("sgd").ours.apply([None] * 4)


def test_powers_are_keras_float32() -> None:
    for step in (1, 2, 3, 10, 999, BLOCK - 1, BLOCK, BLOCK + 1, 50_000):
        now = torch.tensor(float(step))
        first, second = (torch.pow(torch.tensor(b), now) for b in (0.9, 0.999))
        assert power(0.999, step) == float(second)
        expected = float(torch.sqrt(1 - second) / (1 - first))
        assert adam_correction(0.9, 0.999, step) == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("name", NAMES)
def test_training_a_model(name: str) -> None:
    """100 steps from equal weights on equal batches, the gradients following from the weights."""
    random = np.random.default_rng(0)
    shapes = [(6, 8), (8,), (8, 3), (3,)]
    pair = Pair(name, shapes)
    for step in range(100):
        x = torch.from_numpy(random.normal(size=(16, 6)).astype("float32"))
        y = torch.from_numpy(random.integers(0, 3, 16))
        found = []
        for weights in (pair.parameters, [v.value for v in pair.variables]):
            k1, b1, k2, b2 = weights
            loss = torch.nn.functional.cross_entropy(torch.tanh(x @ k1 + b1) @ k2 + b2, y)
            found.append(torch.autograd.grad(loss, weights))
        pair.ours.apply(found[0])
        with torch.no_grad():
            pair.theirs.apply(list(found[1]), pair.variables)
        if step % 10 == 9:
            pair.hold(f"after step {step + 1}")


def test_weights_are_views_of_one_tensor() -> None:
    updater = Pair("sgd").ours
    updater.weight.fill_(2.0)
    assert all((p == 2).all() for p in updater.parameters)
    assert [tuple(p.shape) for p in updater.parameters] == SHAPES
    mixed = [(WeightSpec("w", (2,), Zeros()), torch.zeros(2, dtype=t)) for t in (torch.float32, torch.float64)]
    with pytest.raises(ValueError, match="one number type"):
        Updater(Optimizer.parse("sgd"), mixed)


def test_names_and_catalogue() -> None:
    assert set(NAMES) == set(Optimizer.catalogue)
    for name in NAMES:
        for spelling in (name, name.lower()):
            ours = type(Optimizer.parse(spelling)).__name__
            assert ours == name == type(keras.optimizers.get(spelling)).__name__
        theirs = keras.optimizers.get(name).get_config()
        mine = keras.optimizers.deserialize(Optimizer.parse(name).to_keras()).get_config()
        for key, value in mine.items():
            assert key == "name" or value == pytest.approx(theirs[key]), key


@pytest.mark.parametrize(
    "options",
    [
        {"clipnorm": 1, "clipvalue": 1},
        {"gradient_accumulation_steps": 1},
        {"ema_momentum": 2},
        {"beta_1": 1.5},
        {"lr": 1},
    ],
)
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|no option"):
        Optimizer.parse({"Adam": options})
