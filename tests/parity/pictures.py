"""What the parity tests of layers on pictures share: options drawn at random, and what Keras calls our draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch

from tests.parity.census import held
from tests.parity.harness import cell_of
from trainer.layers.base import Layer
from trainer.model.cell import Cell

Random = np.random.Generator
Options = dict[str, Any]
RANGES = [(0, 255), (0, 1), (-1, 1)]


def factor(random: Random, least: float, most: float) -> Any:
    """A number, or two of them in either order."""
    pair = [round(float(v), 3) for v in random.uniform(least, most, 2)]
    return pair if random.random() < 0.5 else pair[0]


def ranged(random: Random) -> Options:
    return {"value_range": list(RANGES[int(random.integers(3))])}


def warp(random: Random) -> Options:
    return {
        "fill_mode": str(random.choice(["reflect", "wrap", "constant", "nearest"])),
        "interpolation": str(random.choice(["bilinear", "nearest"])),
        "fill_value": float(random.choice([0.0, 100.0])),
    }


def optional(random: Random, name: str, value: Any) -> Options:
    return {name: value} if random.random() < 0.6 else {}


def erasing(random: Random) -> Options:
    fill = [None, 0.5, [0.1, 0.6, 0.9]][int(random.integers(3))]
    return {"factor": factor(random, 0.3, 1), "scale": factor(random, 0.05, 1), "fill_value": fill, **ranged(random)}


def jitter(random: Random) -> Options:
    found = ranged(random)
    for name in ("brightness", "contrast", "saturation", "hue"):
        found |= optional(random, f"{name}_factor", factor(random, 0, 0.9))
    return found


def elastic(random: Random) -> Options:
    found = {"factor": factor(random, 0.3, 1), "scale": factor(random, 0.1, 1), **warp(random), **ranged(random)}
    return found | {"fill_mode": str(random.choice(["constant", "nearest", "wrap", "mirror", "reflect"]))}


DRAWN: dict[str, Callable[[Random], Options]] = {
    "RandomBrightness": lambda r: {"factor": factor(r, -1, 1), **ranged(r)},
    "RandomColorDegeneration": lambda r: {"factor": factor(r, -1, 1), **ranged(r)},
    "RandomColorJitter": jitter,
    "RandomContrast": lambda r: {"factor": factor(r, 0, 1), **ranged(r)},
    "RandomCrop": lambda r: {"height": int(r.integers(1, 10)), "width": int(r.integers(1, 10))},
    "RandomElasticTransform": elastic,
    "RandomErasing": erasing,
    "RandomFlip": lambda r: {"mode": str(r.choice(["horizontal", "vertical", "horizontal_and_vertical"]))},
    "RandomGaussianBlur": lambda r: {
        "factor": factor(r, 0.3, 1),
        "kernel_size": int(r.choice([1, 3, 5])),
        "sigma": factor(r, 0.1, 1),
        **ranged(r),
    },
    "RandomGrayscale": lambda r: {"factor": float(r.uniform())},
    "RandomHue": lambda r: {"factor": factor(r, 0, 1), **ranged(r)},
    "RandomInvert": lambda r: {"factor": factor(r, 0, 1), **ranged(r)},
    "RandomPerspective": lambda r: {
        "factor": factor(r, 0.3, 1),
        "scale": float(r.uniform(0, 0.8)),
        "interpolation": str(r.choice(["bilinear", "nearest"])),
        "fill_value": float(r.choice([0.0, 100.0])),
    },
    "RandomPosterization": lambda r: {
        "factor": [int(v) for v in r.integers(1, 9, 2)] if r.random() < 0.5 else int(r.integers(1, 9)),
        **ranged(r),
    },
    "RandomRotation": lambda r: {"factor": factor(r, -1, 1), **warp(r)},
    "RandomSaturation": lambda r: {"factor": factor(r, -1, 0.9), **ranged(r)},
    "RandomSharpness": lambda r: {"factor": factor(r, 0, 1), **ranged(r)},
    "RandomShear": lambda r: {"x_factor": factor(r, 0, 1), "y_factor": factor(r, 0, 1), **warp(r)},
    "RandomTranslation": lambda r: {"height_factor": factor(r, -1, 1), "width_factor": factor(r, -1, 1), **warp(r)},
    "RandomZoom": lambda r: {
        "height_factor": factor(r, -0.9, 1),
        **optional(r, "width_factor", factor(r, -0.9, 1)),
        **warp(r),
    },
    "Solarization": lambda r: {"addition_factor": factor(r, 0, 1), "threshold_factor": factor(r, 0, 1), **ranged(r)},
}
"Options of every random layer."
COLOURS = {"RandomColorDegeneration", "RandomColorJitter", "RandomHue", "RandomSaturation", "RandomErasing"}
"Layers that are held with three channels."
NO_FORMAT = {"RandomBrightness", "RandomContrast", "Solarization", "AutoContrast"}
"Layers of channels last alone, as in Keras."


def config(name: str, seed: int) -> tuple[Any, np.ndarray]:
    """(spec, pictures) of one configuration; the pictures have values in the layer's range, some at its ends."""
    random = np.random.default_rng([sum(name.encode()), seed])
    options = DRAWN[name](random)
    channels = (
        3 if name in COLOURS else int(random.choice([1, 3]) if name == "RandomGrayscale" else random.integers(1, 5))
    )
    batch, height, width = int(random.integers(1, 5)), *(int(n) for n in random.integers(2, 12, 2))
    shape = (batch, height, width, channels)
    if name not in NO_FORMAT and random.random() < 0.4:
        options["data_format"] = "channels_first"
        shape = (batch, channels, height, width)
    low, high = options.get("value_range", (0, 255))
    x = random.uniform(0, 1, shape)
    x = np.where(random.random(shape) < 0.1, np.round(x), x) * (high - low) + low
    return {name: options}, x.astype("float32")


def first(layer: Layer) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_first"


def last_shape(layer: Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as the layer's two halves see it."""
    return (shape[0], *shape[2:], shape[1]) if first(layer) else shape


def trained(spec: Any, x: torch.Tensor) -> tuple[Cell, Any, torch.Tensor]:
    """(our layer in training, what it draws at the first step, its output then)."""
    cell, shape = cell_of(spec, (None, *x.shape[1:]))
    layer: Any = cell.layer
    drawn = layer.draw(cell.generator(layer.seed), last_shape(layer, tuple(x.shape)))
    cell = cell_of(spec, (None, *x.shape[1:]))[0].train()
    out = cell(x)
    assert tuple(out.shape)[1:] == tuple(shape)[1:]
    return cell, drawn, out


def for_keras(layer: Any, twin: Any, drawn: dict[str, Any], shape: tuple[int, ...]) -> Any:
    """Our draws as the transformation that Keras's layer takes."""
    name, batch = type(layer).__name__, shape[0]
    if name == "RandomCrop":
        return int(drawn["top"]), int(drawn["left"])
    if name == "RandomGrayscale":
        return drawn["should_apply"]
    if name == "RandomRotation":
        height, width = last_shape(layer, shape)[1:3]
        none, one = torch.zeros(batch), torch.ones(batch)
        matrix = twin._compute_affine_matrix(0.5, 0.5, drawn["angle"], none, none, one, none, none, height, width)
        return {"rotation_matrix": matrix}
    if name == "RandomErasing":
        found = {k: v.expand(last_shape(layer, shape)) for k, v in drawn.items() if k != "apply_erasing"}
        if first(layer):
            found = {k: v.permute(0, 3, 1, 2) for k, v in found.items()}
        return {**found, "apply_erasing": drawn["apply_erasing"]}
    if name == "RandomElasticTransform":
        return {**{k: v for k, v in drawn.items() if k != "noise"}, "seed": None}
    return {k: v.clone() for k, v in drawn.items() if isinstance(v, torch.Tensor)}


def twin_of(layer: Layer) -> Any:
    held(layer)
    return keras.layers.deserialize(layer.to_keras())
