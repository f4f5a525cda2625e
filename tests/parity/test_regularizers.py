"""Every regularizer against Keras: penalty, gradient, config and names."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src.regularizers import ALL_OBJECTS_DICT

from tests.parity.census import held
from tests.parity.harness import close
from trainer.errors import RecipeError
from trainer.regularizers.base import Regularizer

SPECS: list[Any] = [
    "l1",
    "l2",
    "l1l2",
    {"L1": {"l1": 0.3}},
    {"L2": {"l2": 1e-4}},
    {"L2": {"l2": 0}},
    *({"L1L2": {"l1": a, "l2": b}} for a in (0, 0.2) for b in (0, "1/255")),
]
ORTHOGONAL = [{"OrthogonalRegularizer": {"factor": f, "mode": m}} for f in (0.01, 2) for m in ("rows", "columns")]


def hold(spec: Any, x: np.ndarray) -> None:
    ours = Regularizer.parse(spec)
    held(ours, x.shape)
    theirs = keras.regularizers.deserialize(ours.to_keras())
    mine_x, their_x = (torch.from_numpy(x.astype("float32")).requires_grad_() for _ in range(2))
    mine, their = ours.penalty(mine_x), theirs(their_x)
    assert mine.shape == ()
    close(mine, their, f"{spec}", 1e-6)
    if their.requires_grad:
        mine.backward()
        their.backward()
        close(mine_x.grad, their_x.grad, f"{spec}: gradient", 1e-5)
    else:
        assert float(mine.detach()) == 0


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 3, 2, 6)])
def test_norms(spec: Any, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    hold(spec, x)
    hold(spec, x * 0)
    hold(spec, x * 100)


@pytest.mark.parametrize("spec", ORTHOGONAL, ids=str)
@pytest.mark.parametrize("shape", [(5, 4), (4, 9), (2, 2)])
def test_orthogonal(spec: Any, shape: tuple[int, ...]) -> None:
    hold(spec, np.random.default_rng(0).normal(size=shape))


def test_orthogonal_needs_a_matrix() -> None:
    with pytest.raises(RecipeError, match="needs a matrix"):
        Regularizer.parse("orthogonal_regularizer").penalty(torch.ones(2, 3, 4))


def test_orthogonal_rows_cost_nothing() -> None:
    assert float(Regularizer.parse("OrthogonalRegularizer").penalty(torch.eye(4))) == 0


def test_names_and_configs_are_keras() -> None:
    names = Regularizer.spellings()
    theirs = {n: c.__name__ for n, c in ALL_OBJECTS_DICT.items() if c is not keras.Regularizer}
    # Keras has l1_l2 as a function of that name, though its `get` does not know it.
    assert {n: c.__name__ for n, c in names.items() if n != "l1_l2"} == theirs
    assert names["l1_l2"].__name__ == keras.regularizers.l1_l2.__name__ == "L1L2"
    assert len(set(names.values())) == 4
    for c in set(names.values()):
        config = getattr(keras.regularizers, c.__name__)().get_config()
        # Keras keeps factors in float32, so its own config says 0.009999999776482582.
        assert c().keras_config() == {k: v if isinstance(v, str) else pytest.approx(v) for k, v in config.items()}
        assert list(c().keras_config()) == list(config)
