"""Noises, spatial and alpha dropouts and ActivityRegularization: Keras's identity, statistics, steps and seeds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, hold_layer
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan
from trainer.model.network import Network

FORMATS = ["channels_last", "channels_first"]
RANDOM = [
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], tuple[int, ...]]:
    """(options, input shape) of one configuration."""
    random = np.random.default_rng([RANDOM.index(name), seed])
    spatial = int(name[-2]) if name.startswith("Spatial") else None
    rank = spatial + 2 if spatial else int(random.integers(2, 6))
    shape = (4, *(int(n) for n in random.integers(2, 5, rank - 1)))
    options: dict[str, Any] = {"stddev" if name == "GaussianNoise" else "rate": float(random.choice([0.0, 0.2, 0.7]))}
    if random.random() < 0.5:
        options["seed"] = int(random.integers(10))
    if spatial in (2, 3):
        options["data_format"] = str(random.choice(FORMATS))
    if name == "AlphaDropout" and random.random() < 0.5:
        options["noise_shape"] = [None if random.random() < 0.6 else 1 for _ in shape]
    return options, shape


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", RANDOM)
def test_prediction_is_keras_s_identity(name: str, seed: int) -> None:
    """And training too, where nothing is dropped."""
    options, shape = drawn(name, seed)
    mask = np.random.default_rng(seed).random(shape[:2]) < 0.5 if len(shape) == 3 else None
    nothing = 0 in (options.get("rate"), options.get("stddev"))
    hold_layer({name: options}, normal(seed, *shape), training=nothing and bool(seed % 2), mask=mask)


def made(spec: Any, x: torch.Tensor, step: int = 0, training: bool = True) -> torch.Tensor:
    cell, shape = cell_of(spec, (None, *x.shape[1:]))
    assert tuple(shape) == (None, *x.shape[1:])
    cell.train(training)
    cell.clock.step = step
    return cell(x)


def keras_s(spec: Any, x: torch.Tensor) -> torch.Tensor:
    return keras.layers.deserialize(Layer.parse(spec).to_keras())(x, training=True)


SPECS = [
    {"AlphaDropout": {"rate": 0.3}},
    {"GaussianDropout": {"rate": 0.3}},
    {"GaussianNoise": {"stddev": 0.3}},
]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("name", ["AlphaDropout", "GaussianDropout", "GaussianNoise"])
def test_statistics_are_keras_s(name: str, rate: float) -> None:
    """Mean, variance, quantiles of what 200,000 equal entries become; Keras draws as many."""
    spec = {name: {"stddev" if name == "GaussianNoise" else "rate": rate, "seed": 5}}
    x = torch.full((400, 500), 0.7)
    ours, theirs = made(spec, x), keras_s(spec, x)
    spread = float(theirs.std())
    # Six standard deviations of a mean of 200,000 are 0.0134 spreads; of two of them 0.019.
    assert abs(float(ours.mean() - theirs.mean())) < 0.02 * spread
    assert abs(float(ours.std() / theirs.std()) - 1) < 0.03
    if name == "AlphaDropout":
        values = [torch.unique(v) for v in (ours, theirs)]
        close(values[0], values[1], "the two values")
    else:
        marks = torch.tensor([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
        quantiles = [torch.quantile(v.flatten()[:100_000], marks) for v in (ours, theirs)]
        assert float((quantiles[0] - quantiles[1]).abs().max()) < 0.05 * spread


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6])
def test_alpha_dropout_keeps_mean_and_variance(rate: float) -> None:
    x = torch.from_numpy(normal(1, 500, 600))
    out = made({"AlphaDropout": {"rate": rate}}, x)
    assert abs(float(out.mean())) < 0.01
    assert abs(float(out.var()) - 1) < 0.02


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_entries_are_drawn_each_by_itself(spec: Any) -> None:
    out = made(spec, torch.full((300, 400), 0.7))
    spread = float(out.std())
    assert float(out.mean(1).std()) < 1.3 * spread / 20
    assert float(out.mean(0).std()) < 1.3 * spread / 300**0.5


@pytest.mark.parametrize("noise", [[None, 1, None], [1, None, None], [None, None, 1], [64, 1, 6]])
def test_alpha_dropout_shares_draws_along_axes_of_one(noise: list[int | None]) -> None:
    out = made({"AlphaDropout": {"rate": 0.5, "noise_shape": noise}}, torch.ones(64, 50, 6))
    for axis, n in enumerate(noise):
        assert bool((out != out.narrow(axis, 0, 1)).any()) == (n != 1), f"axis {axis} of {noise}"


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_spatial_dropout_takes_whole_channels(axes: int, data_format: str, rate: float) -> None:
    if axes == 1 and data_format == "channels_first":
        return
    first = data_format == "channels_first"
    options: dict[str, Any] = {"rate": rate} | ({} if axes == 1 else {"data_format": data_format})
    inner = (3,) * axes
    x = torch.ones(200, 100, *inner) if first else torch.ones(200, *inner, 100)
    out = made({f"SpatialDropout{axes}D": options}, x)
    out = out.flatten(2) if first else out.flatten(1, -2).transpose(1, 2)
    assert torch.equal(out, out[..., :1].expand_as(out))
    kept = out[..., 0] != 0
    # 20,000 draws: six standard deviations of their mean are 0.021.
    assert abs(1 - float(kept.float().mean()) - rate) < 0.022
    if rate < 1:
        torch.testing.assert_close(out[..., 0][kept], torch.full((int(kept.sum()),), 1 / (1 - rate)))


@pytest.mark.parametrize("spec", [*SPECS, *({f"SpatialDropout{n}D": {"rate": 0.5}} for n in (1, 2, 3))], ids=str)
def test_step_and_seed(spec: Any) -> None:
    ((name, options),) = spec.items()
    x = torch.ones(8, 5, 6) if name == "SpatialDropout1D" else torch.ones(8, 5, 5, 6)
    x = torch.ones(8, 3, 3, 3, 6) if name == "SpatialDropout3D" else x
    assert torch.equal(made(spec, x, 3), made(spec, x, 3))
    assert not torch.equal(made(spec, x, 3), made(spec, x, 4))
    seeded = [made({name: {**options, "seed": s}}, x) for s in (1, 1, 2)]
    assert torch.equal(seeded[0], seeded[1])
    assert not torch.equal(seeded[0], seeded[2])
    assert made(spec, x, training=False) is x


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradient_is_what_was_drawn(spec: Any) -> None:
    """The same step draws the same: two inputs show the factor."""
    x = torch.from_numpy(normal(2, 20, 30)).requires_grad_()
    slope = torch.autograd.grad(made(spec, x).sum(), x)[0]
    factor = made(spec, torch.ones(20, 30)) - made(spec, torch.zeros(20, 30))
    torch.testing.assert_close(slope, factor)


@pytest.mark.parametrize("spec", [*SPECS, {"SpatialDropout2D": {"rate": 0.5}}], ids=str)
def test_keeps_the_type(spec: Any) -> None:
    assert made(spec, torch.ones(3, 4, 4, 2, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("seed", range(60))
def test_activity_regularization_equals_keras(seed: int) -> None:
    """x goes through, and the network counts Keras's penalty, in training and in evaluation."""
    random = np.random.default_rng([12, seed])
    shape = tuple(int(n) for n in random.integers(1, 5, int(random.integers(2, 5))))
    options = {"l1": float(random.choice([0.0, 0.25, 1.0])), "l2": float(random.choice([0.0, 0.25, 1.0]))}
    x = normal(seed, *shape)
    mask = random.random(shape[:2]) < 0.5 if len(shape) == 3 else None
    spec = {"ActivityRegularization": options}
    hold_layer(spec, x, training=bool(seed % 2), mask=mask)
    network = Network(chain([Layer.parse(spec)], {"x": (None, *shape[1:])}))
    network.train(bool(seed % 2))
    given, theirs = (torch.from_numpy(x).requires_grad_() for _ in range(2))
    (penalty,) = network.run(given).penalties
    twin = keras.layers.deserialize(Layer.parse(spec).to_keras())
    twin(theirs, training=bool(seed % 2))
    (loss,) = twin.losses
    close(penalty, loss, "penalty")
    if options["l1"] or options["l2"]:
        close(torch.autograd.grad(penalty, given)[0], torch.autograd.grad(loss, theirs)[0], "gradient")


CONFIGS = [
    {"AlphaDropout": {"rate": 0.25}},
    {"AlphaDropout": {"rate": 0.5, "noise_shape": [None, 1, 3], "seed": 7}},
    {"GaussianDropout": {"rate": 0.5, "seed": 3, "name": "g.d", "trainable": False}},
    {"GaussianNoise": {"stddev": 0.5, "seed": 3}},
    {"SpatialDropout1D": {"rate": 0.5, "seed": 3, "name": "s.d"}},
    {"SpatialDropout2D": {"rate": 0.5, "data_format": "channels_first"}},
    {"SpatialDropout3D": {"rate": 0.5, "data_format": None, "seed": 1}},
    "ActivityRegularization",
    {"ActivityRegularization": {"l1": 0.25, "l2": 0.5, "name": "a"}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"AlphaDropout": {"rate": 0.5, "noise_shape": [None, 1]}}, (None, 3, 4), "noise_shape"),
        ({"SpatialDropout1D": {"rate": 0.5}}, (None, 3), r"\(batch, length, channels\)"),
        ({"SpatialDropout2D": {"rate": 0.5}}, (None, 3, 4), r"\(batch, height, width, channels\)"),
        ({"SpatialDropout3D": {"rate": 0.5, "data_format": "channels_first"}}, (None, 3), r"\(batch, channels, depth"),
    ],
)
def test_refuses_input(spec: Any, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("AlphaDropout", "rate", 1), ("GaussianDropout", "rate", 1.0), ("GaussianNoise", "stddev", 1.5),
        ("SpatialDropout1D", "rate", -0.1), ("SpatialDropout2D", "data_format", "channels"),
        ("ActivityRegularization", "l1", -1), ("AlphaDropout", "noise_shape", [0]),
    ],
)  # fmt: skip
def test_refuses_options(name: str, option: str, value: Any) -> None:
    needed = {"ActivityRegularization": {}, "GaussianNoise": {"stddev": 0.5}}.get(name, {"rate": 0.5})
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {**needed, option: value}})
    assert problems_of(caught.value)[0].path == (name, option)
