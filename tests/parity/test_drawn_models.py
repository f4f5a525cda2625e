"""Drawn models trained beside real Keras: histories, weights and predictions."""

from __future__ import annotations

import pytest

from tests.drawn_models import Drawn
from tests.parity.fitting import hold_history
from tests.train.recipes import loaded

FEW, MANY = 30, 800

pytestmark = [
    # Keras's own: numpy's newer way to make arrays of torch's tensors, convolutions that know no masks, units that are
    # too few for a softmax.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning"),
]


@pytest.mark.parametrize("seed", [pytest.param(n, marks=() if n < FEW else pytest.mark.long) for n in range(MANY)])
def test_trains_as_keras(seed: int) -> None:
    # A bias in front of a BatchNormalization has no gradient but rounding.
    hold_history(loaded(Drawn(seed, noise=False).text), tolerance=1e-4, weights=1e-3, least=0.01)
