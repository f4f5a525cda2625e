"""Pipeline against Keras: forward, gradients, weights and their paths, masks, config."""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src import backend
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, random_weights
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.runs.keras_config import layer_entry

DENSE = {"Dense": {"units": 4, "activation": "tanh"}}
STEPS: list[Any] = [
    DENSE,
    {"Dense": {"units": 3, "use_bias": False, "name": "mine"}},
    {"BatchNormalization": {"momentum": 0.8}},
    {"LayerNormalization": {"trainable": False}},
    {"Activation": {"activation": "gelu"}},
    {"Dropout": {"rate": 0.0}},
    {"Pipeline": {"layers": [DENSE, DENSE]}},
    {"Rescaling": {"scale": 2.0}},
]


def spec_of(*layers: Any, **options: Any) -> dict[str, Any]:
    return {"Pipeline": {"layers": list(layers), **options}}


def drawn(seed: int) -> tuple[dict[str, Any], tuple[int, ...], bool]:
    """(layer, input shape, phase) of one configuration."""
    random = np.random.default_rng([8, seed])
    names = set()
    layers = []
    for index in random.integers(0, len(STEPS), int(random.integers(1, 6))):
        name = next(iter(STEPS[index].values())).get("name")
        if name is None or name not in names:
            layers.append(STEPS[index])
        names.add(name)
    shape = (6, 5) if random.random() < 0.5 else (6, 3, 5)
    return spec_of(*layers, trainable=bool(random.random() < 0.8)), shape, bool(random.random() < 0.5)


def twin_of(layer: Layer, x: torch.Tensor) -> Any:
    held(layer, x.shape)
    twin: Any = keras.layers.deserialize(layer.to_keras())
    twin(x)
    return twin


@pytest.mark.parametrize("seed", range(120))
def test_equals_keras(seed: int) -> None:
    spec, shape, training = drawn(seed)
    cell, out = cell_of(spec, (None, *shape[1:]))
    mine, other = (torch.from_numpy(normal(seed, *shape)).requires_grad_() for _ in range(2))
    twin = twin_of(cell.layer, other.detach())
    rows = list(cell.rows())
    variables = [*twin.trainable_weights, *twin.non_trainable_weights]
    variables = [v for v in variables if "seed_generator" not in v.path]
    assert [(s.name, tuple(t.shape), m) for s, _, t, m in rows] == [
        (v.name, tuple(v.shape), any(v is t for t in twin.trainable_weights)) for v in variables
    ]
    with torch.no_grad():
        for (_, _, tensor, _), value, variable in zip(rows, random_weights(cell, seed), variables, strict=True):
            tensor.copy_(torch.from_numpy(value))
            variable.assign(value)
    cell.train(training)
    ours, theirs = cell(mine), twin(other, training=training)
    close(ours, theirs, f"{spec}: output")
    assert tuple(ours.shape)[1:] == tuple(out)[1:]
    pull = torch.from_numpy(normal(seed + 1, *ours.shape))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    assert mine.grad is not None
    assert other.grad is not None
    largest = max(float(other.grad.abs().max()), 1e-3)
    assert float((mine.grad - other.grad).abs().max()) <= 2e-5 * largest
    for (_, path, tensor, moves), variable in zip(cell.rows(), variables, strict=True):
        close(tensor, variable.value, f"{spec}: {path} after the call")
        if moves:
            slope = float(variable.value.grad.abs().max())
            assert float((tensor.grad - variable.value.grad).abs().max()) <= 2e-5 * max(slope, largest)


def test_paths() -> None:
    cell, _ = cell_of(
        spec_of(DENSE, {"Dropout": {"rate": 0.5}}, DENSE, {"Dense": {"units": 2, "name": "last"}}), (None, 5)
    )
    assert [path for _, path, _, _ in cell.rows()][::2] == [
        "layer/dense/kernel",
        "layer/dense_1/kernel",
        "layer/last/kernel",
    ]


def test_masks() -> None:
    spec = spec_of({"Masking": {"mask_value": 0.0}}, DENSE, {"Dropout": {"rate": 0.0}})
    x = torch.from_numpy(normal(1, 4, 6, 5))
    x[:, 3:] = 0
    cell, _ = cell_of(spec, (None, 6, 5))
    theirs = twin_of(cell.layer, x)(x)
    close(cell.layer.compute_mask(x, None), backend.get_keras_mask(theirs), "mask")
    reads, _ = cell_of(spec_of({"Masking": {}}, {"SimpleRNN": {"units": 3}}), (None, 6, 5))
    shorter, _ = cell_of(spec_of({"SimpleRNN": {"units": 3}}), (None, 3, 5))
    shorter.load_state_dict({k.replace("layer_1", "layer_0"): v for k, v in reads.state_dict().items()})
    close(reads(x), shorter(x[:, :3]), "masked steps are left out", 1e-6)
    assert reads.layer.compute_mask(x, None) is None
    assert cell.layer.compute_mask(x, None).sum() == 12


@pytest.mark.parametrize("frozen", [False, True])
def test_config(frozen: bool) -> None:
    spec = spec_of(DENSE, {"Dense": {"units": 2, "name": "b", "trainable": False}}, name="whole", trainable=not frozen)
    layer = Layer.parse(spec)
    assert Layer.parse(layer.spec()) == layer
    entry = layer_entry("whole", layer)
    twin: Any = keras.layers.deserialize(json.loads(json.dumps(entry)))
    assert twin.name == "whole"
    assert [part.name for part in twin.layers] == ["dense", "b"]
    assert [part.trainable for part in twin.layers] == [not frozen, False]


def test_gives_what_a_network_asks_of_the_last_layer() -> None:
    layer: Any = Layer.parse(spec_of(DENSE, {"Dense": {"units": 2, "activation": "softmax"}}))
    assert layer.activation.recipe_name() == "softmax"


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([DENSE, {"Conv2D": {"filters": 2, "kernel_size": 3}}], "conv2d: expected input of shape"),
        ([DENSE, {"Masking": {}}], "masking: only the first layer of a Pipeline can make a mask"),
        ([DENSE, {"Pipeline": {"layers": [{"Masking": {}}]}}], "pipeline: only the first layer"),
    ],
)
def test_refuses_layers(layers: list[Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Layer.parse(spec_of(*layers)).build(Plan(), (None, 5))


@pytest.mark.parametrize("layers", [[], [{"Dense": {"units": 3, "name": "a"}}] * 2])
def test_refuses_options(layers: list[Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec_of(*layers))
    assert caught.value.errors()[0]["loc"] == ("Pipeline", "layers")
