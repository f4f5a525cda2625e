"""BatchNormalization and LayerNormalization against Keras over drawn configurations, phases, masks and many steps."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import MASKS, mask_of, named
from tests.parity.harness import cell_of, close, hold_layer, random_weights, twin_of
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.model.cell import Cell

CASES = range(120)
NOT_OURS = ("synchronized", "rms_scaling")


def rows(*shape: int, seed: int = 1) -> np.ndarray:
    """Values whose features differ in mean and spread."""
    random = np.random.default_rng(seed)
    features = random.normal(0.5, 1, shape[-1]), random.uniform(0.5, 2, shape[-1])
    return (random.normal(size=shape) * features[1] + features[0]).astype("float32")


def drawn_batch_norm(seed: int) -> tuple[dict[str, Any], tuple[int, ...], bool, str | None]:
    """(options, input shape, phase, kind of mask) of one configuration."""
    random = np.random.default_rng([1, seed])
    rank = int(random.integers(2, 6))
    shape = (int(random.integers(6, 10)), *(int(n) for n in random.integers(2, 5, rank - 1)))
    masked = str(random.choice(MASKS)) if rank == 3 and random.random() < 0.7 else None
    axis = -1 if masked or random.random() < 0.4 else int(random.integers(1, rank))
    options = {
        "axis": axis - rank if random.random() < 0.5 and axis > 0 else axis,
        "momentum": float(random.choice([0.99, 0.9, 0.5, 0.0, 1.0])),
        "epsilon": float(random.choice([1e-3, 1e-5, 0.1])),
        "center": bool(random.random() < 0.7),
        "scale": bool(random.random() < 0.7),
        "trainable": bool(random.random() < 0.85),
    }
    return options, shape, bool(random.random() < 0.7), masked


@pytest.mark.parametrize("seed", CASES)
def test_batch_normalization_equals_keras(seed: int) -> None:
    options, shape, training, masked = drawn_batch_norm(seed)
    mask = mask_of(masked, shape[0], shape[1], np.random.default_rng(seed)) if masked else None
    hold_layer({"BatchNormalization": options}, rows(*shape, seed=seed), training=training, mask=mask, seed=seed)


def test_the_draw_of_batch_normalization_reaches_every_corner() -> None:
    found = [drawn_batch_norm(seed) for seed in CASES]
    assert {len(shape) for _, shape, _, _ in found} == {2, 3, 4, 5}
    assert {masked for *_, training, masked in found if training} == {None, *MASKS}
    assert len({(o["axis"], len(s)) for o, s, _, _ in found}) > 12
    assert len({(o["center"], o["scale"], o["trainable"], training) for o, _, training, _ in found}) == 16


@pytest.fixture
def keras_without_torch_s_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on torch hands axes that follow one another to a kernel that takes the last ones.

    Axis 1 of (batch, 3, 5) fails there, and of (batch, 5, 5) it normalizes axis 2. Its general form, which the other
    backends run, is right.
    """
    monkeypatch.setattr("keras.src.ops.nn.is_continuous_axis", lambda axis: False)


@pytest.mark.parametrize("seed", range(80))
@pytest.mark.usefixtures("keras_without_torch_s_kernel")
def test_layer_normalization_equals_keras(seed: int) -> None:
    random = np.random.default_rng([2, seed])
    rank = int(random.integers(2, 6))
    count = int(random.integers(1, rank))
    axes = [int(a) for a in random.permutation(np.arange(1, rank))[:count]]
    axes = [a - rank if random.random() < 0.3 else a for a in axes]
    if count > 1:
        # Keras sorts before it counts from the end: of mixed signs it makes another order of gamma's axes.
        axes = [a % rank for a in axes] if random.random() < 0.5 else [a % rank - rank for a in axes]
    options = {
        "axis": axes[0] if count == 1 and random.random() < 0.5 else axes,
        "epsilon": float(random.choice([1e-3, 1e-5, 0.1])),
        "center": bool(random.random() < 0.7),
        "scale": bool(random.random() < 0.7),
    }
    shape = (4, *(int(n) for n in random.integers(4, 7, rank - 1)))
    mask = random.random(shape[:2]) < 0.5 if rank == 3 else None
    x = random.normal(size=shape).astype("float32")
    hold_layer({"LayerNormalization": options}, x, training=bool(seed % 2), mask=mask, seed=seed, tolerance=2e-5)


@pytest.mark.parametrize("axis", [-1, [-1], [1, 2], [2, 1], [-2, -1], [-1, -2]])
def test_layer_normalization_equals_torch_s_kernel_in_keras(axis: int | list[int]) -> None:
    hold_layer({"LayerNormalization": {"axis": axis}}, rows(4, 5, 6), tolerance=2e-5)


class Pair:
    """Our BatchNormalization and Keras's, equal weights."""

    def __init__(self, options: dict[str, Any], shape: tuple[int | None, ...]):
        self.cell: Cell = cell_of({"BatchNormalization": options}, shape)[0]
        self.twin = twin_of(self.cell.layer, shape)
        variables = (*self.twin.trainable_weights, *self.twin.non_trainable_weights)
        self.both = [(path, tensor, v) for (_, path, tensor, _), v in zip(self.cell.rows(), variables, strict=True)]
        for (_, tensor, variable), value in zip(self.both, random_weights(self.cell), strict=True):
            tensor.data.copy_(torch.from_numpy(value))
            variable.assign(value)

    def call(self, x: np.ndarray, training: bool, mask: np.ndarray | None = None) -> None:
        given = torch.from_numpy(x)
        keep = None if mask is None else torch.from_numpy(mask)
        self.cell.train(training)
        close(self.cell(given, mask=keep), self.twin(given, training=training, mask=keep), "output")
        for path, tensor, variable in self.both:
            close(tensor, variable.value, path)


@pytest.mark.parametrize("kind", [None, *MASKS])
@pytest.mark.parametrize("momentum", [0.99, 0.6])
def test_moving_statistics_over_steps(kind: str | None, momentum: float) -> None:
    pair = Pair({"momentum": momentum}, (None, 7, 3))
    random = np.random.default_rng(3)
    for step in range(30):
        x = rows(5 + step % 3, 7, 3, seed=step) * 3 + step / 10
        pair.call(x, step % 7 != 6, None if kind is None else mask_of(kind, len(x), 7, random))
    pair.call(rows(4, 7, 3), False)


def test_batch_of_one_row_has_no_variance() -> None:
    pair = Pair({"momentum": 0.5}, (None, 3))
    pair.call(rows(1, 3), True)
    close(
        pair.cell(torch.from_numpy(rows(1, 3))), np.broadcast_to(named(pair.cell)["beta"].detach(), (1, 3)), "only beta"
    )


@pytest.mark.parametrize("offset", [0, 100, 3000])
@pytest.mark.parametrize("masked", [True, False])
def test_a_large_offset_keeps_the_variance(offset: int, masked: bool) -> None:
    """Variance as the mean square less the squared mean, Keras's way on torch, would be rounding here."""
    cell, _ = cell_of({"BatchNormalization": {"momentum": 0.0}}, (None, 8, 4))
    cell.train()
    x = rows(64, 8, 4) + np.float32(offset)
    out = cell(torch.from_numpy(x), mask=torch.ones(64, 8, dtype=torch.bool) if masked else None)
    exact = x.astype("float64")
    mean, variance = exact.mean((0, 1)), exact.var((0, 1))
    close(named(cell)["moving_variance"], variance, "variance", 1e-5 + offset * 3e-7)
    close(out, (exact - mean) / np.sqrt(variance + 1e-3), "output", 1e-5 + offset * 3e-7)
    cell.eval()
    close(cell(torch.from_numpy(x)), (exact - mean) / np.sqrt(variance + 1e-3), "prediction", 1e-5 + offset * 3e-7)


def test_all_steps_masked_gives_finite_numbers() -> None:
    pair = Pair({"momentum": 0.5}, (None, 4, 3))
    pair.call(rows(3, 4, 3), True, np.zeros((3, 4), bool))
    assert torch.isfinite(named(pair.cell)["moving_variance"]).all()


def test_statistics_carry_no_gradient() -> None:
    cell, _ = cell_of("BatchNormalization", (None, 3))
    cell.train()
    cell(torch.from_numpy(rows(5, 3)).requires_grad_())
    assert not named(cell)["moving_mean"].requires_grad
    assert not named(cell)["moving_variance"].requires_grad


CONFIGS = [
    "BatchNormalization",
    {"BatchNormalization": {"axis": 1, "momentum": 0.5, "epsilon": 1e-5, "center": False, "name": "bn.a"}},
    {
        "BatchNormalization": {
            "scale": True,
            "beta_initializer": {"Constant": {"value": 0.5}},
            "gamma_initializer": "HeNormal",
            "moving_mean_initializer": "Ones",
            "moving_variance_initializer": {"Constant": {"value": 2}},
            "beta_regularizer": {"L2": {"l2": 0.1}},
            "gamma_regularizer": {"L1": {"l1": 0.5}},
            "beta_constraint": "NonNeg",
            "gamma_constraint": {"MaxNorm": {"max_value": 3}},
            "trainable": False,
        }
    },
    "LayerNormalization",
    {"LayerNormalization": {"axis": [1, 2], "epsilon": 1e-6, "scale": False, "name": "ln"}},
    {"LayerNormalization": {"axis": -2, "beta_initializer": "Ones", "gamma_regularizer": "L2"}},
    {
        "LayerNormalization": {
            "beta_regularizer": {"L1": {"l1": 0.25}},
            "gamma_constraint": "NonNeg",
            "beta_constraint": "UnitNorm",
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec, *NOT_OURS)


def test_synchronized_on_one_device() -> None:
    """Keras refuses the option on torch, so it reads our file without; the numbers are those of the plain layer."""
    for options in ({}, {"renorm": True}):
        cells = [cell_of({"BatchNormalization": {**options, "synchronized": s}}, (None, 3))[0] for s in (False, True)]
        x = torch.from_numpy(rows(6, 3))
        assert torch.equal(*(cell.train()(x) for cell in cells))
        for tensor, other in zip(named(cells[0]).values(), named(cells[1]).values(), strict=True):
            assert torch.equal(tensor, other)
        assert keras.layers.deserialize(cells[1].layer.to_keras()).synchronized is False
    with pytest.raises(ValueError, match="only supported"):
        keras.layers.BatchNormalization(synchronized=True)


def test_weights_carry_what_acts_on_them() -> None:
    plan = Plan()
    Layer.parse(CONFIGS[2]).build(plan, (None, 9, 2))
    assert [(w.name, w.shape, w.trainable) for w in plan.weights] == [
        ("gamma", (2,), True),
        ("beta", (2,), True),
        ("moving_mean", (2,), False),
        ("moving_variance", (2,), False),
    ]
    acting = [
        [type(v).__name__ for v in (w.initializer, w.regularizer, w.constraint) if v is not None] for w in plan.weights
    ]
    assert acting == [["HeNormal", "L1", "MaxNorm"], ["Constant", "L2", "NonNeg"], ["Ones"], ["Constant"]]
    cell = Cell(Layer.parse(CONFIGS[2]), plan, "bn", cell_of("Identity", (None, 2))[0].clock)
    assert named(cell)["moving_variance"].tolist() == [2, 2]
    assert named(cell)["moving_mean"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"BatchNormalization": {"axis": 2}}, (None, 3), r"expected an axis of the input \(None, 3\), found 2"),
        ({"BatchNormalization": {"axis": -3}}, (None, 3), r"expected an axis of the input \(None, 3\), found -3"),
        ({"BatchNormalization": {"axis": 0}}, (None, 3), "found the batch"),
        ({"BatchNormalization": {"axis": -2}}, (None, 3), "found the batch"),
        ("BatchNormalization", (None, 3, None), "known sizes"),
        ({"LayerNormalization": {"axis": [1, 3]}}, (None, 3, 2), "found 3"),
        ({"LayerNormalization": {"axis": [2, 2]}}, (None, 3, 2), "each axis once"),
        ({"LayerNormalization": {"axis": [1, 2]}}, (None, None, 2), "known sizes"),
        ("LayerNormalization", (None,), "found the batch"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


def test_refuses_a_mask_of_other_axes() -> None:
    cell, _ = cell_of("BatchNormalization", (None, 4, 5, 3))
    with pytest.raises(RecipeError, match="one axis less"):
        cell(torch.zeros(2, 4, 5, 3), mask=torch.ones(2, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("BatchNormalization", "axis", [1]),
        ("BatchNormalization", "momentum", 1.5),
        ("BatchNormalization", "epsilon", 0),
        ("BatchNormalization", "synchronized", 1),
        ("LayerNormalization", "axis", [-1, 1]),
        ("LayerNormalization", "axis", []),
        ("LayerNormalization", "axis", "last"),
        ("LayerNormalization", "epsilon", -1),
    ],
)
def test_refuses_options(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {option: value}})
    assert caught.value.errors()[0]["loc"][:2] == (name, option)
