"""GroupNormalization, RMSNormalization, UnitNormalization and BatchNormalization's renorm against Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import MASKS, mask_of, named
from tests.parity.harness import cell_of, close, hold_layer, random_weights, twin_of
from trainer.layers.base import Layer
from trainer.layers.plan import Plan


def rows(*shape: int, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * random.uniform(0.5, 2, shape[-1]) + random.normal(0.5, 1, shape[-1])).astype(
        "float32"
    )


def drawn_groups(seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape) of one configuration."""
    random = np.random.default_rng([4, seed])
    rank = int(random.integers(2, 6))
    axis = int(random.integers(1, rank))
    groups, each = int(random.integers(1, 4)), int(random.integers(1, 4))
    shape = [4, *(int(n) for n in random.integers(2, 5, rank - 1))]
    shape[axis] = groups * each
    options = {
        "groups": -1 if random.random() < 0.2 else groups,
        "axis": axis - rank if random.random() < 0.5 else axis,
        "epsilon": float(random.choice([1e-3, 1e-5, 0.1])),
        "center": bool(random.random() < 0.7),
        "scale": bool(random.random() < 0.7),
    }
    return options, tuple(shape)


@pytest.mark.parametrize("seed", range(100))
def test_group_normalization_equals_keras(seed: int) -> None:
    options, shape = drawn_groups(seed)
    mask = np.random.default_rng(seed).random(shape[:2]) < 0.5 if len(shape) == 3 else None
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    if values_in_a_group(options, shape) < 4:
        # Little is left of so few values, and less of their gradient: Keras's x * inv - mean * inv is rounding there.
        return hold_forward({"GroupNormalization": options}, x)
    return hold_layer({"GroupNormalization": options}, x, mask=mask, seed=seed, tolerance=5e-5)


def values_in_a_group(options: dict[str, Any], shape: tuple[int, ...]) -> int:
    features = shape[options["axis"]]
    groups = features if options["groups"] < 0 else options["groups"]
    return int(np.prod(shape[1:])) // groups


def hold_forward(spec: Any, x: np.ndarray) -> None:
    cell, _ = cell_of(spec, (None, *x.shape[1:]))
    twin = twin_of(cell.layer, (None, *x.shape[1:]))
    for (_, _, tensor, _), value, variable in zip(cell.rows(), random_weights(cell), twin.weights, strict=True):
        tensor.data.copy_(torch.from_numpy(value))
        variable.assign(value)
    torch.testing.assert_close(cell(torch.from_numpy(x)), twin(torch.from_numpy(x)), atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize("shape", [(9, 6), (9, 8, 6), (9, 8, 4, 6), (9, 4, 3, 2, 6)])
def test_groups_of_an_input_that_wants_no_gradient(shape: tuple[int, ...]) -> None:
    """As the first layer: there torch's kernel crashes on a CPU, so weights stand outside of it."""
    cell, _ = cell_of({"GroupNormalization": {"groups": 3}}, (None, *shape[1:]))
    x, found = torch.from_numpy(rows(*shape)), {}
    for wants in (True, False):
        cell.zero_grad()
        (cell(x.clone().requires_grad_(wants)) * x).sum().backward()
        found[wants] = [tensor.grad.clone() for tensor in named(cell).values() if tensor.grad is not None]
    assert len(found[False]) == 2
    torch.testing.assert_close(found[False], found[True], atol=1e-3, rtol=1e-4)


def test_the_draw_of_groups_reaches_every_corner() -> None:
    found = [drawn_groups(seed) for seed in range(100)]
    assert sum(values_in_a_group(*f) >= 4 for f in found) >= 60
    assert len({(o["groups"] < 0, o["center"], o["scale"]) for o, _ in found}) == 8
    assert {len(s) for _, s in found} == {2, 3, 4, 5}


@pytest.fixture
def keras_without_torch_s_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras on torch hands neighbouring axes to a kernel that takes the last ones; its general form is right."""
    monkeypatch.setattr("keras.src.ops.nn.is_continuous_axis", lambda axis: False)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("kernel", [True, False])
def test_rms_normalization_equals_keras_over_the_last_axes(
    seed: int, kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kernel:
        monkeypatch.setattr("keras.src.ops.nn.is_continuous_axis", lambda axis: False)
    random = np.random.default_rng([5, seed])
    rank = int(random.integers(2, 6))
    count = int(random.integers(1, rank))
    axes = list(range(rank - count, rank))
    axes = [a - rank for a in axes] if random.random() < 0.5 else axes
    options = {"axis": axes[0] if count == 1 else axes, "epsilon": float(random.choice([1e-6, 1e-3, 0.1]))}
    shape = (4, *(int(n) for n in random.integers(2, 6, rank - 1)))
    mask = random.random(shape[:2]) < 0.5 if rank == 3 else None
    hold_layer({"RMSNormalization": options}, rows(*shape, seed=seed), mask=mask, seed=seed, tolerance=2e-5)


@pytest.mark.parametrize(
    ("axis", "shape"), [(1, (4, 3, 5)), ([1, 2], (4, 3, 2, 5)), ([1, 3], (4, 3, 2, 5)), (2, (4, 5, 5, 5))]
)
@pytest.mark.usefixtures("keras_without_torch_s_kernel")
def test_rms_normalization_over_other_axes(axis: Any, shape: tuple[int, ...]) -> None:
    """Keras lays the scale along the last axes whichever are normalized; with a scale of ones it is right."""
    x = rows(*shape)
    cell, _ = cell_of({"RMSNormalization": {"axis": axis}}, (None, *shape[1:]))
    twin = twin_of(cell.layer, (None, *shape[1:]))
    axes = tuple(np.atleast_1d(axis))
    exact = x.astype("float64")
    exact = exact / np.sqrt((exact**2).mean(axes, keepdims=True) + 1e-6)
    close(cell(torch.from_numpy(x)), exact, "ones")
    twin.scale.assign(np.ones(twin.scale.shape))
    if all(n in (1, m) for n, m in zip(twin.scale.shape[::-1], shape[::-1], strict=False)):
        close(twin(torch.from_numpy(x)), exact, "ones in Keras")
    scale = np.random.default_rng(1).normal(size=tuple(named(cell)["scale"].shape)).astype("float32")
    named(cell)["scale"].data.copy_(torch.from_numpy(scale))
    laid = scale.reshape([n if a in axes else 1 for a, n in enumerate(shape)])
    close(cell(torch.from_numpy(x)), exact * laid, "scale")


@pytest.mark.parametrize("seed", range(60))
def test_unit_normalization_equals_keras(seed: int) -> None:
    random = np.random.default_rng([6, seed])
    rank = int(random.integers(2, 6))
    count = int(random.integers(1, rank))
    axes = [int(a) for a in random.permutation(np.arange(1, rank))[:count]]
    axes = [a - rank if random.random() < 0.5 else a for a in axes]
    shape = (4, *(int(n) for n in random.integers(2, 6, rank - 1)))
    mask = random.random(shape[:2]) < 0.5 if rank == 3 else None
    spec = {"UnitNormalization": {"axis": axes[0] if count == 1 and random.random() < 0.5 else axes}}
    hold_layer(spec, rows(*shape, seed=seed), mask=mask, seed=seed)


def test_a_row_of_zeros_stays_one_with_a_gradient() -> None:
    """Keras's 1 / sqrt(0) leaves NaN in the gradient."""
    cell, _ = cell_of("UnitNormalization", (None, 3))
    x = torch.zeros(2, 3, requires_grad=True)
    out = cell(x)
    assert torch.equal(out, torch.zeros(2, 3))
    assert torch.isfinite(torch.autograd.grad(out.sum(), x)[0]).all()


def drawn_renorm(seed: int) -> tuple[dict[str, Any], tuple[int, ...], str | None]:
    """(options, input shape, kind of mask) of one configuration."""
    random = np.random.default_rng([7, seed])
    rank = int(random.integers(2, 5))
    shape = (int(random.integers(6, 10)), *(int(n) for n in random.integers(2, 5, rank - 1)))
    masked = str(random.choice(MASKS)) if rank == 3 and random.random() < 0.6 else None
    limits = {"rmin": 0.5, "rmax": 1.5, "dmax": 0.3}
    clipping: Any = {k: v for k, v in limits.items() if random.random() < 0.6}
    options = {
        "renorm": True,
        "renorm_clipping": None if random.random() < 0.2 else clipping,
        "renorm_momentum": float(random.choice([0.99, 0.5])),
        "axis": -1 if masked or random.random() < 0.5 else 1,
        "momentum": float(random.choice([0.99, 0.5])),
        "center": bool(random.random() < 0.7),
        "scale": bool(random.random() < 0.7),
        "trainable": bool(random.random() < 0.85),
    }
    return options, shape, masked


@pytest.mark.parametrize("seed", range(80))
def test_renorm_equals_keras(seed: int) -> None:
    options, shape, masked = drawn_renorm(seed)
    mask = mask_of(masked, shape[0], shape[1], np.random.default_rng(seed)) if masked else None
    spec = {"BatchNormalization": options}
    hold_layer(spec, rows(*shape, seed=seed), training=seed % 4 > 0, mask=mask, seed=seed, tolerance=2e-5)


@pytest.mark.parametrize("limits", [None, {"rmax": 2.0, "rmin": 0.5, "dmax": 1.0}])
def test_renorm_over_steps(limits: Any) -> None:
    spec = {"BatchNormalization": {"renorm": True, "renorm_clipping": limits, "momentum": 0.9, "renorm_momentum": 0.8}}
    cell, _ = cell_of(spec, (None, 3))
    twin = twin_of(cell.layer, (None, 3))
    for step in range(30):
        x = torch.from_numpy(rows(6, 3, seed=step) * 2 + step / 10)
        cell.train(step % 5 != 4)
        close(cell(x), twin(x, training=step % 5 != 4), f"step {step}")
        for (_, path, tensor, _), variable in zip(
            cell.rows(), (*twin.trainable_weights, *twin.non_trainable_weights), strict=True
        ):
            close(tensor, variable.value, path)


def test_deviations_start_as_roots_of_the_variance() -> None:
    spec = {"BatchNormalization": {"renorm": True, "moving_variance_initializer": {"Constant": {"value": 4}}}}
    cell, _ = cell_of(spec, (None, 2))
    for name, value in (("moving_variance", 4), ("moving_stddev", 2), ("renorm_stddev", 2), ("renorm_mean", 0)):
        assert named(cell)[name].tolist() == [value] * 2
    seeded = {"RandomUniform": {"minval": 1, "maxval": 2, "seed": 3}}
    made = cell_of({"BatchNormalization": {"renorm": True, "moving_variance_initializer": seeded}}, (None, 4))[0]
    torch.testing.assert_close(named(made)["moving_stddev"] ** 2, named(made)["moving_variance"])


CONFIGS = [
    "GroupNormalization",
    {
        "GroupNormalization": {
            "groups": -1,
            "axis": 1,
            "epsilon": 1e-5,
            "center": False,
            "gamma_initializer": "HeNormal",
            "beta_regularizer": {"L1": {"l1": 0.25}},
            "gamma_regularizer": {"L2": {"l2": 0.5}},
            "gamma_constraint": "NonNeg",
            "name": "g.n",
            "trainable": False,
        }
    },
    "RMSNormalization",
    {"RMSNormalization": {"axis": [1, 2], "epsilon": 1e-3}},
    "UnitNormalization",
    {"UnitNormalization": {"axis": [1, -1], "name": "u"}},
    {"BatchNormalization": {"renorm": True, "renorm_clipping": {"rmax": 3.0, "dmax": 5.0}, "renorm_momentum": 0.5}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec, "synchronized")


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"GroupNormalization": {"groups": 4}}, (None, 6), "groups must divide the 6 features of the input, found 4"),
        ("GroupNormalization", (None, 6), "found 32"),
        ({"GroupNormalization": {"axis": 0}}, (None, 6), "found the batch"),
        ("GroupNormalization", (None, 3, None), "known sizes"),
        ({"RMSNormalization": {"axis": 3}}, (None, 6), "found 3"),
        ("RMSNormalization", (None, None), "known sizes"),
        ({"UnitNormalization": {"axis": [1, -1]}}, (None, 6), "each axis once"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("GroupNormalization", "groups", 0),
        ("GroupNormalization", "groups", -2),
        ("RMSNormalization", "axis", []),
        ("RMSNormalization", "axis", [1, -1]),
        ("BatchNormalization", "renorm_clipping", {"rmax": 1, "rmin": 2}),
        ("BatchNormalization", "renorm_clipping", {"dmax": -1}),
        ("BatchNormalization", "renorm_clipping", {"max": 1}),
    ],
)
def test_refuses_options(name: str, option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {option: value}})
    assert caught.value.errors()[0]["loc"][:2] == (name, option)
