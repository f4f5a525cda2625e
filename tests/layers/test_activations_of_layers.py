"""glu, which halves the last axis, is refused by every layer, with a remedy; Keras infers a wrong shape for it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from trainer.block import problems_of
from trainer.layers.base import Layer

NEEDED: dict[str, dict[str, Any]] = {
    "Activation": {},
    "Dense": {"units": 4},
    "Conv1D": {"filters": 4, "kernel_size": 3},
    "Conv2D": {"filters": 4, "kernel_size": 3},
    "Conv3D": {"filters": 4, "kernel_size": 3},
    "Conv1DTranspose": {"filters": 4, "kernel_size": 3},
    "Conv2DTranspose": {"filters": 4, "kernel_size": 3},
    "Conv3DTranspose": {"filters": 4, "kernel_size": 3},
    "DepthwiseConv1D": {"kernel_size": 3},
    "DepthwiseConv2D": {"kernel_size": 3},
    "SeparableConv1D": {"filters": 4, "kernel_size": 3},
    "SeparableConv2D": {"filters": 4, "kernel_size": 3},
    "EinsumDense": {"equation": "ab,bc->ac", "output_shape": 3},
    "SimpleRNN": {"units": 4},
    "LSTM": {"units": 4},
    "GRU": {"units": 4},
    "SimpleRNNCell": {"units": 4},
    "LSTMCell": {"units": 4},
    "GRUCell": {"units": 4},
    "ConvLSTM1D": {"filters": 4, "kernel_size": 3},
    "ConvLSTM2D": {"filters": 4, "kernel_size": 3},
    "ConvLSTM3D": {"filters": 4, "kernel_size": 3},
}


def activations() -> list[tuple[str, str]]:
    """(layer, option) of every option of a layer that holds an activation."""
    options = ("activation", "recurrent_activation")
    return [(n, o) for n, final in sorted(Layer.catalogue.items()) for o in options if o in final.model_fields]


def test_every_layer_with_an_activation_is_here() -> None:
    Layer.spellings()
    assert {name for name, _ in activations()} == set(NEEDED)


@pytest.mark.parametrize("spec", ["glu", "Glu"])
@pytest.mark.parametrize(("name", "option"), [*((n, "activation") for n in NEEDED), ("LSTM", "recurrent_activation")])
def test_refuses_glu(name: str, option: str, spec: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {**NEEDED[name], option: spec}})
    (problem,) = problems_of(caught.value)
    assert problem.path == (name, option)
    assert "halves the last axis" in problem.message
    assert "silu" in problem.hint
    Layer.parse({name: {**NEEDED[name], option: "silu"}})


def test_keras_infers_a_wrong_shape_for_it() -> None:
    """Why: should this fail one day, Keras has mended it, and glu can be let in with its true shape."""
    x = np.ones((2, 6), "float32")
    for layer, inferred in ((keras.layers.Dense(4, activation="glu"), 4), (keras.layers.Activation("glu"), 6)):
        assert layer.compute_output_shape((None, 6)) == (None, inferred)
        assert tuple(layer(x).shape) == (2, inferred // 2)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="glu"), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
        model(x)
