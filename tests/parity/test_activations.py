"""Every activation against Keras: values and gradients over edge values, names, and the count."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import torch

from tests.parity.census import held
from tests.parity.harness import close
from trainer.activations.base import Activation
from trainer.naming import snake_case

EDGES = [0.0, -0.0, *(s * v for v in (1e-30, 1e-6, 0.5, 1, 2, 3, 5.99, 6, 6.01, 20, 20.5, 80, 1e4) for s in (1, -1))]
SPREAD = np.random.default_rng(5).normal(0, 3, (40, 28))
NAMES = sorted({snake_case(c.__name__) for c in Activation.spellings().values()})
OWN = {"legacy_hard_sigmoid": lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)}
"Functions of older Kerases, as these had them, that Keras has no name for today."
LEFT_OUT = {"threshold", "get", "serialize", "deserialize"}


def keras_names() -> set[str]:
    return {n for n, f in vars(keras.activations).items() if inspect.isfunction(f)} - LEFT_OUT


def both(name: str, x: np.ndarray) -> None:
    ours_x, their_x = (torch.from_numpy(x.astype("float32")).requires_grad_() for _ in range(2))
    ours, theirs = Activation.parse(name)(ours_x), (OWN.get(name) or getattr(keras.activations, name))(their_x)
    held(Activation.parse(name), x.shape)
    assert torch.isfinite(theirs).all(), f"{name}: Keras overflows here, which hides every other difference"
    close(ours, theirs, name, 1e-6)
    pull = torch.from_numpy(np.random.default_rng(1).normal(size=tuple(ours.shape)).astype("float32"))
    for out in (ours, theirs):
        if out.requires_grad:
            (out * pull).sum().backward()
    close(ours_x.grad, their_x.grad, f"{name}: gradient", 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name: str) -> None:
    # exp overflows at 1e4; infinities are Keras's too, but have no scale to compare by.
    edges = [e for e in EDGES if name != "exponential" or abs(e) < 60]
    both(name, SPREAD)
    both(name, SPREAD[:, :2] * 1e-3)
    both(name, np.array([edges]))
    for value in edges:
        both(name, np.array([[value, 0.25]]))
    both(name, np.zeros((3, 4)))
    both(name, SPREAD.reshape(2, 20, 4, 7)[..., :6])


def test_every_name_of_keras() -> None:
    names = set(Activation.spellings())
    assert keras_names() <= names
    assert len(keras_names()) == 31
    assert len(NAMES) == 30
    assert {n for n in names if n.islower()} == keras_names() | set(OWN)


def test_keras_reads_what_we_write() -> None:
    for name in NAMES:
        ours = Activation.parse(name)
        theirs = OWN.get(name) or getattr(keras.activations, name)
        with keras.saving.CustomObjectScope(OWN):
            assert keras.activations.get(ours.to_keras()) is theirs
        assert ours.spec() == name
        assert type(Activation.parse(ours.spec())) is type(ours)


def test_aliases_and_null() -> None:
    assert Activation.parse("swish").spec() == "silu"
    assert Activation.parse("hard_swish").spec() == "hard_silu"
    assert Activation.parse(None).spec() == "linear"
