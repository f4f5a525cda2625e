"""Holds a layer's config against the one that real Keras writes after reading ours."""

from __future__ import annotations

import json
from typing import Any

import keras

from trainer.layers.base import Layer


def hold_config(spec: Any, *leave_out: str) -> None:
    """Our config reads back from its spec, and Keras, given it, writes the same values under the same names."""
    layer = Layer.parse(spec)
    assert Layer.parse(layer.spec()) == layer
    ours = json.loads(json.dumps(layer.keras_config()))
    theirs = json.loads(json.dumps(keras.layers.deserialize(layer.to_keras()).get_config()))
    skip = {"dtype", "name", *leave_out}
    assert {k: v for k, v in ours.items() if k not in skip} == {k: v for k, v in theirs.items() if k not in skip}
    if layer.name:
        assert theirs["name"] == layer.name
