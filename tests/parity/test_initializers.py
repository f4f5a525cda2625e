"""Every initializer against Keras: distribution of the draws, structure, configs, names and the count."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.initializers import ALL_OBJECTS_DICT
from keras.src.initializers.random_initializers import compute_fans
from pydantic import ValidationError
from scipy.stats import kstest

from tests.parity.census import held
from tests.parity.harness import as_numpy
from trainer.initializers.base import Initializer, fans
from trainer.initializers.constant import Identity
from trainer.initializers.random import Orthogonal, TruncatedNormal, truncated
from trainer.initializers.stft import STFT
from trainer.initializers.variance import TRUNCATED_STDDEV, GlorotUniform, Scaling
from trainer.streams import stream

SHAPES = [(300, 200), (3, 3, 16, 96), (40_000,), (5, 64, 100)]
MODES = ["fan_in", "fan_out", "fan_avg"]
SPREADS = ["truncated_normal", "untruncated_normal", "uniform", "normal"]
SPECS: list[Any] = [
    *({"VarianceScaling": {"scale": 0.7, "mode": m, "distribution": d}} for m in MODES for d in SPREADS),
    {"VarianceScaling": {"scale": 3, "mode": "fan_avg", "input_axes": [0], "output_axes": [-1]}},
    {"GlorotUniform": {"input_axes": [-1], "output_axes": [-1, 0]}},
    *(f"{who}_{how}" for who in ("glorot", "he", "lecun") for how in ("normal", "uniform")),
    "random_normal",
    {"RandomNormal": {"mean": 2, "stddev": 0.3}},
    "random_uniform",
    {"RandomUniform": {"minval": -3, "maxval": 1}},
    "truncated_normal",
    {"TruncatedNormal": {"mean": -1, "stddev": 2}},
]


def keras_draw(ours: Initializer, shape: tuple[int, ...], seed: int) -> np.ndarray:
    held(ours, shape)
    config = ours.to_keras()
    config["config"]["seed"] = seed
    twin = keras.initializers.deserialize(config)
    return as_numpy(twin(shape, "float32"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_draws_as_keras_draws(spec: Any, shape: tuple[int, ...]) -> None:
    ours = Initializer.parse(spec)
    mine = np.asarray(ours.values(shape, stream(3, "init")))
    theirs = keras_draw(ours, shape, 11)
    assert mine.shape == shape
    assert kstest(mine.ravel(), theirs.ravel()).pvalue > 1e-3
    width = theirs.std() / math.sqrt(theirs.size)
    assert abs(mine.mean() - theirs.mean()) < 6 * width
    assert mine.std() == pytest.approx(theirs.std(), rel=0.02)


def test_the_distribution_test_can_fail() -> None:
    ours = Initializer.parse("glorot_uniform").values((300, 200), stream(3, "init"))
    theirs = keras_draw(Initializer.parse("glorot_uniform"), (300, 200), 11)
    assert kstest(ours.ravel() * 1.03, theirs.ravel()).pvalue < 1e-3


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (5, 3, 4), (2, 5, 3, 4), (2, 2, 5, 3, 4)])
def test_fans(shape: tuple[int, ...]) -> None:
    assert fans(shape) == compute_fans(shape)
    assert GlorotUniform().fans(shape) == compute_fans(shape)


def test_fans_by_axes() -> None:
    scaling = GlorotUniform(input_axes=(0, 2), output_axes=(-1,))
    assert scaling.fans((2, 3, 5, 7)) == compute_fans((2, 3, 5, 7), [0, 2], [-1]) == (10, 7)
    with pytest.raises(ValueError, match="found axis 2"):
        scaling.fans((2, 3))
    with pytest.raises(ValidationError, match="go together"):
        Initializer.parse({"GlorotUniform": {"input_axes": [0]}})


@pytest.mark.parametrize("shape", [(300, 200), (3, 3, 8, 40)])
def test_ranges_and_variance(shape: tuple[int, ...]) -> None:
    fan_in, fan_out = fans(shape)
    for name, limit, variance in [
        ("glorot_uniform", math.sqrt(6 / (fan_in + fan_out)), 2 / (fan_in + fan_out)),
        ("he_uniform", math.sqrt(6 / fan_in), 2 / fan_in),
        ("lecun_uniform", math.sqrt(3 / fan_in), 1 / fan_in),
        ("glorot_normal", 2 * math.sqrt(2 / (fan_in + fan_out)) / TRUNCATED_STDDEV, 2 / (fan_in + fan_out)),
        ("he_normal", 2 * math.sqrt(2 / fan_in) / TRUNCATED_STDDEV, 2 / fan_in),
        ("lecun_normal", 2 * math.sqrt(1 / fan_in) / TRUNCATED_STDDEV, 1 / fan_in),
    ]:
        values = Initializer.parse(name).values(shape, stream(0, name))
        assert np.abs(values).max() <= limit
        assert np.abs(values).max() > 0.99 * limit
        assert values.var() == pytest.approx(variance, rel=0.05)


def test_truncation() -> None:
    values = truncated((200, 1000), stream(1))
    assert 1.99 < np.abs(values).max() <= 2
    assert values.std() == pytest.approx(TRUNCATED_STDDEV, rel=5e-3)
    assert abs(truncated((), stream(1))) <= 2
    wide = TruncatedNormal(mean=10.0, stddev=3.0).values((1000, 100), stream(2))
    assert wide.min() >= 4
    assert wide.max() <= 16


@pytest.mark.parametrize("shape", [(6, 6), (10, 4), (4, 10), (3, 3, 4, 8), (2, 2, 30)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    values = Orthogonal(gain=1.7).values(shape, stream(0, "o"))
    assert values.shape == shape
    for q in (values, keras_draw(Orthogonal(gain=1.7), shape, 5)):
        flat = q.reshape(-1, shape[-1])
        small = flat @ flat.T if flat.shape[0] < flat.shape[1] else flat.T @ flat
        np.testing.assert_allclose(small, 1.7**2 * np.eye(len(small)), atol=1e-5)
    with pytest.raises(ValueError, match="two axes"):
        Orthogonal().values((5,), stream(0))


def test_orthogonal_is_uniform_over_rotations() -> None:
    """Without R's signs the first entry of Q would never be positive."""
    random = stream(0)
    first = [Orthogonal().values((3, 3), random)[0, 0] for _ in range(2000)]
    # The entries of a Haar-distributed 3x3 rotation are uniform on [-1, 1].
    assert kstest(first, "uniform", (-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("spec", "shape"),
    [("zeros", (3, 4)), ("ones", (5,)), ({"Constant": {"value": 0.3}}, (2, 3)), ("constant", (4,))]
    + [({"Identity": {"gain": g}}, s) for g in (1, -2.5) for s in ((3, 3), (2, 5), (5, 2))],
)
def test_those_that_draw_nothing(spec: Any, shape: tuple[int, ...]) -> None:
    ours = Initializer.parse(spec)
    held(ours, shape)
    twin = keras.initializers.deserialize(ours.to_keras())
    np.testing.assert_array_equal(ours.values(shape, stream(0)), as_numpy(twin(shape, "float32")))


def test_identity_needs_a_matrix() -> None:
    with pytest.raises(ValueError, match="makes a matrix"):
        Initializer.parse("identity").values((3, 3, 3), stream(0))


def test_same_stream_same_values() -> None:
    for c in set(Initializer.spellings().values()):
        shape = (4, 1, 3) if c is STFT else (4, 4)
        a, b = (c().values(shape, stream(9, "x")) for _ in range(2))
        np.testing.assert_array_equal(a, b)


def test_names_and_configs_are_keras() -> None:
    names = Initializer.spellings()
    theirs = {n: c for n, c in ALL_OBJECTS_DICT.items() if c.__name__ != "Initializer"}
    assert {n: c.__name__ for n, c in names.items()} == {n: c.__name__ for n, c in theirs.items()}
    finals = set(names.values())
    assert len(finals) == 16
    assert sum(issubclass(c, Scaling) for c in finals) == 7
    # Keras's Identity reads a gain but forgets to write it, so its own file loses it; ours keeps it.
    assert keras.initializers.Identity(gain=2).get_config() == {}
    for c in finals - {Identity}:
        assert c().keras_config() == getattr(keras.initializers, c.__name__)().get_config()
