"""SpectralNormalization against Keras: kernels over many steps, masks, frozen layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src import backend
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import named, normal
from tests.parity.harness import cell_of, close, hold_layer
from trainer.layers.base import Layer
from trainer.layers.plan import Plan

INNER: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"Dense": {"units": 3, "activation": "tanh"}}, (5, 4)),
    ({"Dense": {"units": 6, "use_bias": False}}, (5, 3, 4)),
    ({"Dense": {"units": 1, "kernel_regularizer": "L2"}}, (5, 4)),
    ({"Conv1D": {"filters": 3, "kernel_size": 2}}, (5, 6, 2)),
    ({"Conv2D": {"filters": 3, "kernel_size": [2, 3], "padding": "same", "activation": "relu"}}, (5, 6, 5, 2)),
    ({"EinsumDense": {"equation": "abc,cde->abde", "output_shape": [None, 2, 3], "bias_axes": "e"}}, (5, 3, 4)),
]


def spec_of(inner: Any, **options: Any) -> dict[str, Any]:
    return {"SpectralNormalization": {"layer": inner, **options}}


def drawn(seed: int) -> tuple[dict[str, Any], tuple[int, ...], bool]:
    """(layer, input shape, phase) of one configuration."""
    random = np.random.default_rng([9, seed])
    inner, shape = INNER[int(random.integers(len(INNER)))]
    ((name, options),) = inner.items()
    if random.random() < 0.2:
        options = {**options, "trainable": False}
    if random.random() < 0.3:
        options = {**options, "name": "inside"}
    more: dict[str, Any] = {"power_iterations": int(random.integers(1, 4))}
    if random.random() < 0.2:
        more["trainable"] = False
    return spec_of({name: options}, **more), shape, bool(random.random() < 0.7)


@pytest.mark.parametrize("seed", range(80))
def test_equals_keras(seed: int) -> None:
    spec, shape, training = drawn(seed)
    x = np.random.default_rng(seed).normal(size=shape).astype("float32")
    hold_layer(spec, x, training=training, seed=seed, tolerance=2e-5)


@pytest.mark.parametrize(("inner", "shape"), INNER)
@pytest.mark.parametrize("frozen", [False, True])
def test_paths_and_order_of_weights(inner: Any, shape: tuple[int, ...], frozen: bool) -> None:
    cell, _ = cell_of(spec_of(inner, trainable=not frozen), (None, *shape[1:]))
    twin = keras.layers.deserialize(cell.layer.to_keras())
    ((name, _),) = inner.items()
    twin.layer.name = "einsum_dense" if name == "EinsumDense" else name.lower()
    twin.build((None, *shape[1:]))
    theirs = [v.path.split("/", 1)[1] for v in (*twin.trainable_weights, *twin.non_trainable_weights)]
    assert [path.split("/", 1)[1] for _, path, _, _ in cell.rows()] == theirs


def test_over_steps() -> None:
    """The kernel's largest singular value goes to 1 and stays; a kernel of zeros is left alone."""
    cell, _ = cell_of(spec_of({"Dense": {"units": 6}}), (None, 8))
    twin = keras.layers.deserialize(cell.layer.to_keras())
    twin.build((None, 8))
    variables = (*twin.trainable_weights, *twin.non_trainable_weights)
    for (_, _, tensor, _), variable in zip(cell.rows(), variables, strict=True):
        variable.assign(tensor.detach().numpy())
    for step in range(40):
        x = torch.from_numpy(normal(step, 5, 8))
        cell.train(step % 6 != 5)
        close(cell(x), twin(x, training=step % 6 != 5), f"step {step}", 2e-5)
        for (_, path, tensor, _), variable in zip(cell.rows(), variables, strict=True):
            close(tensor, variable.value, path, 2e-5)
    kernel = named(cell)["kernel"]
    assert abs(float(torch.linalg.matrix_norm(kernel.detach(), 2)) - 1) < 1e-3
    vector = named(cell)["vector_u"].clone()
    kernel.data.zero_()
    cell.train()
    cell(torch.ones(2, 8))
    assert torch.equal(kernel, torch.zeros_like(kernel))
    assert torch.equal(named(cell)["vector_u"], vector)


def test_embeddings() -> None:
    """Keras gives the output the type of the input: ids come as float32 here, as a Sequential's do."""
    spec = spec_of({"Embedding": {"input_dim": 7, "output_dim": 3, "mask_zero": True}})
    cell, _ = cell_of(spec, (None, 4))
    twin = keras.layers.deserialize(cell.layer.to_keras())
    twin.build((None, 4))
    for (_, _, tensor, _), variable in zip(cell.rows(), twin.weights, strict=True):
        variable.assign(tensor.detach().numpy())
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 7, (5, 4)).astype("float32"))
    cell.train()
    their = twin(ids, training=True)
    close(cell(ids), their, "output")
    close(cell.layer.compute_mask(ids, None), backend.get_keras_mask(their), "mask")


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_the_inner_layer_passes_its_mask_on() -> None:
    cell, _ = cell_of(spec_of({"Dense": {"units": 3}}), (None, 4, 2))
    twin = keras.layers.deserialize(cell.layer.to_keras())
    x, mask = torch.ones(5, 4, 2), torch.from_numpy(np.random.default_rng(1).random((5, 4)) < 0.5)
    backend.set_keras_mask(x, mask)
    close(cell.layer.compute_mask(x, mask), backend.get_keras_mask(twin(x)), "mask")
    assert cell(x, mask=mask).shape == (5, 4, 3)


def test_gives_what_a_network_asks_of_the_last_layer() -> None:
    inner = {"Dense": {"units": 3, "activation": "softmax", "activity_regularizer": {"L2": {"l2": 0.5}}}}
    layer: Any = Layer.parse(spec_of(inner))
    assert layer.activation.recipe_name() == "softmax"
    assert layer.activity_regularizer.l2 == 0.5
    twin = keras.layers.deserialize(layer.to_keras())
    x = torch.from_numpy(normal(1, 5, 4))
    out = twin(x)
    close(layer.activity_regularizer.penalty(out) / 5, twin.losses[0], "penalty")


CONFIGS = [
    spec_of({"Dense": {"units": 3, "kernel_initializer": {"HeNormal": {"seed": 1}}, "name": "inner"}}),
    spec_of({"Conv2D": {"filters": 2, "kernel_size": 3, "name": "c"}}, power_iterations=3, name="s.n", trainable=False),
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    layer = Layer.parse(spec)
    hold_config(spec, "layer")
    inner = keras.layers.deserialize(layer.to_keras()).layer
    ((_, options),) = spec["SpectralNormalization"]["layer"].items()
    assert inner.name == options["name"]
    assert type(inner).__name__ == next(iter(spec["SpectralNormalization"]["layer"]))


@pytest.mark.parametrize(
    ("inner", "shape"),
    [("BatchNormalization", (None, 3)), ({"LSTM": {"units": 2}}, (None, 4, 3)), ("Flatten", (None, 3))],
)
def test_refuses_layers_without_a_kernel(inner: Any, shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="expected a layer with a kernel or embeddings, found"):
        Layer.parse(spec_of(inner)).build(Plan(), shape)
    with pytest.raises(ValueError, match="has no attribute 'kernel'"):
        keras.layers.SpectralNormalization(keras.layers.deserialize(Layer.parse(inner).to_keras())).build(shape)


@pytest.mark.parametrize("options", [{"power_iterations": 0}, {"layer": "Dence"}, {"layer": {"Dense": {"units": -1}}}])
def test_refuses_options(options: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"SpectralNormalization": {"layer": {"Dense": {"units": 3}}, **options}})
    assert caught.value.errors()[0]["loc"][:2] == ("SpectralNormalization", next(iter(options)))
