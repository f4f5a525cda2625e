"""Every constraint against Keras: projected weights, configs and names."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src.constraints import ALL_OBJECTS_DICT
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.harness import close
from trainer.constraints.base import Constraint

AXES: list[Any] = [0, 1, -1, [0], [0, 1], [-1, 0]]
SPECS: list[Any] = [
    "non_neg",
    "max_norm",
    "unit_norm",
    "min_max_norm",
    *({"MaxNorm": {"max_value": m, "axis": a}} for m in (0, 0.5, 3) for a in AXES),
    *({"UnitNorm": {"axis": a}} for a in AXES),
    *({"MinMaxNorm": {"min_value": 0.8, "max_value": 1.2, "rate": r, "axis": a}} for r in (0, 0.3, 1) for a in AXES),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("shape", [(5, 4), (3, 3, 2, 6)])
def test_equals_keras(spec: Any, shape: tuple[int, ...]) -> None:
    ours = Constraint.parse(spec)
    held(ours, shape)
    theirs = keras.constraints.deserialize(ours.to_keras())
    random = np.random.default_rng(0)
    for scale in (0.0, 1e-8, 0.1, 1, 50):
        weight = torch.from_numpy((scale * random.normal(size=shape)).astype("float32"))
        weight[0] = 0
        before = weight.clone()
        projected = ours.project(weight)
        close(projected, theirs(weight), f"{spec} at {scale}", 1e-6)
        assert projected.shape == weight.shape
        assert torch.equal(weight, before)


def test_conv_axes() -> None:
    """[0, 1, 2] bounds each filter."""
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 3, 4, 6)).astype("float32"))
    lengths = Constraint.parse({"MaxNorm": {"axis": [0, 1, 2]}}).project(weight).flatten(0, 2).norm(dim=0)
    np.testing.assert_allclose(lengths.numpy(), 2, rtol=1e-5)


def test_axis_is_an_axis() -> None:
    for axis in ("0", 0.5, True, []):
        with pytest.raises(ValidationError, match="an axis or a list of axes"):
            Constraint.parse({"MaxNorm": {"axis": axis}})


def test_names_and_configs_are_keras() -> None:
    names = Constraint.spellings()
    theirs = {n: c.__name__ for n, c in ALL_OBJECTS_DICT.items() if c.__name__ != "Constraint"}
    assert {n: c.__name__ for n, c in names.items()} == theirs
    assert len(set(names.values())) == 4
    for c in set(names.values()):
        config = getattr(keras.constraints, c.__name__)().get_config()
        assert c().keras_config() == config
        assert list(c().keras_config()) == list(config)
