"""Twins in double precision, for tests that use the fixture `keras_in_double`."""

from __future__ import annotations

from typing import Any

import keras
import torch

from tests.parity.census import held
from tests.parity.harness import random_weights
from trainer.layers.base import Layer
from trainer.model.cell import Cell


def twin_in_double(layer: Layer, shape: tuple[int | None, ...]) -> Any:
    twin = keras.layers.deserialize(layer.to_keras())
    twin.build(shape)
    held(layer, shape, "double")
    return twin


def variables(twin: Any) -> list[Any]:
    found = (*twin.trainable_weights, *twin.non_trainable_weights)
    return [v for v in found if "seed_generator" not in v.path]


def equal_weights(cell: Cell, twin: Any) -> None:
    for (_, _, tensor, _), value, variable in zip(cell.rows(), random_weights(cell), variables(twin), strict=True):
        tensor.data.copy_(torch.from_numpy(value))
        variable.assign(value.astype("float64"))
