"""What random layers on pictures draw: the range, mean and variance of Keras's draws, anew for each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.parity.pictures import DRAWN, trained, twin_of
from trainer.layers.base import Layer

MANY = 20_000
SHAPE = (MANY, 3, 4, 3)
PER_BATCH = {
    "RandomCrop": ("top", "left"),
    "RandomElasticTransform": ("distortion_factor",),
    "RandomGaussianBlur": ("blur_factor",),
}
"Numbers that are drawn once for a whole batch."
EDGES: dict[str, list[dict[str, Any]]] = {
    "RandomBrightness": [{"factor": 0.3}, {"factor": [-0.1, 0.6], "value_range": [0, 1]}, {"factor": -0.3}],
    "RandomColorDegeneration": [{"factor": 0.3}, {"factor": [0.9, 0.2]}],
    "RandomContrast": [{"factor": 0.3}, {"factor": [0.2, 0.9]}],
    "RandomErasing": [{}, {"factor": [1, 1], "scale": 0.4, "fill_value": 3}, {"value_range": [-1, 1]}],
    "RandomFlip": [{}],
    "RandomGrayscale": [{}, {"factor": 0.9}],
    "RandomHue": [{"factor": 0.3}, {"factor": [0.2, 0.9]}],
    "RandomInvert": [{}, {"factor": [0.7, 0.9]}],
    "RandomPerspective": [{}, {"factor": [0.9, 1], "scale": 0.3}],
    "RandomPosterization": [{"factor": 5}, {"factor": [3, 8]}, {"factor": [4, 4]}, {"factor": 1}],
    "RandomRotation": [{"factor": 0.1}, {"factor": [-0.2, 0.3]}],
    "RandomSaturation": [{"factor": 0.3}, {"factor": [0.2, 0.8]}],
    "RandomSharpness": [{"factor": 0.3}, {"factor": [0.2, 0.8]}],
    "RandomShear": [{"x_factor": 0.2, "y_factor": 0.4}, {"x_factor": [0.1, 0.2], "y_factor": [0.6, 0.3]}],
    "RandomTranslation": [{"height_factor": 0.2, "width_factor": [-0.1, 0.6]}],
    "RandomZoom": [{"height_factor": 0.2}, {"height_factor": [-0.5, -0.2], "width_factor": 0.4}],
    "Solarization": [{"addition_factor": 0.3, "threshold_factor": 0.5}, {"threshold_factor": [0.4, 0.9]}],
}


def alike(ours: Any, theirs: Any, ends: Any, what: str) -> None:
    """Samples of one distribution: ends, mean and variance."""
    a, b = (np.asarray(v, "float64").ravel() for v in (ours, theirs))
    spread = max(b.std(), a.std(), 1e-9)
    width = max(b.max() - b.min(), 1e-6)
    error = spread * (1 / len(a) + 1 / len(b)) ** 0.5
    assert abs(a.mean() - b.mean()) < 5 * error + 1e-6 * width, f"{what}: mean {a.mean()}, Keras's {b.mean()}"
    assert abs(a.std() - b.std()) < 5 * error + 1e-6 * width, f"{what}: deviation {a.std()}, Keras's {b.std()}"
    if ends:
        assert abs(a.min() - b.min()) < ends * width, f"{what}: from {a.min()}, Keras's {b.min()}"
        assert abs(a.max() - b.max()) < ends * width, f"{what}: to {a.max()}, Keras's {b.max()}"


def both(name: str, options: dict[str, Any], shape: tuple[int, ...], seed: int) -> tuple[dict[str, Any], Any]:
    layer: Any = Layer.parse({name: options})
    twin: Any = twin_of(Layer.parse({name: {**options, "seed": seed}}))
    return layer.draw(torch.Generator().manual_seed(seed), shape), twin.get_random_transformation(torch.zeros(shape))


@pytest.mark.parametrize(("name", "options"), [(n, o) for n, found in EDGES.items() for o in found], ids=str)
def test_draws_for_each_picture(name: str, options: dict[str, Any]) -> None:
    ours, theirs = both(name, options, SHAPE, 7)
    theirs = {"should_apply": theirs} if name == "RandomGrayscale" else theirs
    for key, value in ours.items():
        if key == "start_points":
            continue
        # A mask has as many entries as a picture, which are no draws of their own.
        least = value.float().expand(SHAPE).mean((1, 2, 3)) if key == "batch_masks" else value
        most = theirs[key].float().mean((1, 2, 3)) if key == "batch_masks" else theirs[key]
        if key == "end_points":
            least, most = least[:, :, 0], most[:, :, 0]
        # A chosen factor u / (1 - u) has a long tail.
        alike(least, most, None if key in ("batch_masks", "fill_value") else 0.02, f"{name}.{key}")


@pytest.mark.parametrize("name", PER_BATCH)
def test_draws_for_a_batch(name: str) -> None:
    options = {"height": 3, "width": 5} if name == "RandomCrop" else {"factor": 0.8}
    made = [both(name, options, (2, 9, 8, 3), seed) for seed in range(1, 801)]
    for number, key in enumerate(PER_BATCH[name]):
        ours = np.stack([np.asarray(a[key], "float64") for a, _ in made])
        theirs = np.stack([np.asarray(b[number] if isinstance(b, tuple) else b[key], "float64") for _, b in made])
        if name == "RandomCrop":
            assert set(ours) == set(theirs) == set(range((9 - 3, 8 - 5)[number] + 1))
        alike(ours, theirs, 0.02, f"{name}.{key}")


@pytest.mark.parametrize("name", ["RandomElasticTransform", "RandomGaussianBlur"])
def test_who_is_chosen(name: str) -> None:
    ours, theirs = both(name, {"factor": [0.2, 0.9]}, (MANY, 1, 1, 1), 3)
    key = {"RandomElasticTransform": "apply_transform", "RandomGaussianBlur": "should_apply_blur"}[name]
    alike(ours[key], theirs[key], None, name)


def test_every_layer_is_drawn_from() -> None:
    assert {*EDGES, *PER_BATCH, "RandomColorJitter"} == set(DRAWN)


def test_jitter_draws_what_its_parts_draw() -> None:
    layer: Any = Layer.parse({"RandomColorJitter": {"contrast_factor": 0.3, "hue_factor": [0.1, 0.2]}})
    drawn = layer.draw(torch.Generator().manual_seed(1), SHAPE)
    assert list(drawn) == ["contrast", "hue"]
    contrast, hue = drawn["contrast"]["contrast_factor"], drawn["hue"]["factor"].abs() * 2
    assert (float(contrast.min()), float(contrast.max())) == pytest.approx((1, 1.3), abs=1e-3)
    assert (float(hue.min()), float(hue.max())) == pytest.approx((0.1, 0.2), abs=1e-3)


@pytest.mark.parametrize("name", DRAWN)
def test_each_step_draws_anew(name: str) -> None:
    """And the same again at the same step; a seed of its own leaves the recipe's out."""
    options = {
        "RandomCrop": {"height": 4, "width": 4},
        "RandomColorJitter": {"brightness_factor": 0.5},
        "RandomZoom": {"height_factor": 0.5},
        "RandomTranslation": {"height_factor": 0.5, "width_factor": 0.5},
        "RandomShear": {"x_factor": 0.5},
        "RandomPosterization": {"factor": 8},
        "Solarization": {"threshold_factor": 1.0},
        "RandomGrayscale": {},
        "RandomFlip": {},
    }.get(name, {"factor": 0.9})
    x = torch.rand(16, 12, 12, 3) * 255
    cell = trained({name: options}, x)[0]

    def made(step: int) -> torch.Tensor:
        cell.clock.step = step
        return cell(x)

    # A second call of a step is another one, as for a layer that is used twice.
    first, second, third = made(0), made(1), made(2)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert torch.equal(trained({name: options}, x)[2], trained({name: options}, x)[2])
