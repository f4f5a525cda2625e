"""Dense against Keras over its options and input ranks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.parity.harness import hold_layer

CASES = list(itertools.product([1, 7], ["linear", "relu"], [True, False], [(5,), (4, 3), (2, 4, 3)]))


@pytest.mark.parametrize(("units", "activation", "use_bias", "shape"), CASES)
def test_equals_keras(units: int, activation: str, use_bias: bool, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).normal(size=(6, *shape)).astype("float32")
    hold_layer({"Dense": {"units": units, "activation": activation, "use_bias": use_bias}}, x)
