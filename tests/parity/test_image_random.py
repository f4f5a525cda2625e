"""Random layers on pictures beside real Keras: equal outputs for equal draws, and draws of equal distributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.parity.harness import close
from tests.parity.pictures import DRAWN, config, first, for_keras, trained, twin_of
from trainer.layers import image_sampling
from trainer.layers.base import Layer
from trainer.layers.image_base import RandomImageLayer


@pytest.fixture
def between_pixels(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Collects where coordinates lie half-way between two pixels, and the nearest one is a matter of rounding."""
    found: list[torch.Tensor] = []
    original = image_sampling._around

    def spy(at: torch.Tensor, interpolation: str) -> Any:
        if interpolation == "nearest":
            found.append(((at - at.floor()) - 0.5).abs() < 1e-3)
        return original(at, interpolation)

    monkeypatch.setattr(image_sampling, "_around", spy)
    return found


def keras_draws(twin: Any, drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's layer, made to draw what ours did where it draws while it transforms."""
    if "noise" in drawn:
        noise = [n.clone() for n in drawn["noise"]]
        monkeypatch.setattr(torch, "normal", lambda *_, **__: noise.pop(0))
    for part in ("brightness", "contrast", "saturation", "hue"):
        inner = getattr(twin, f"random_{part}", None)
        if inner is not None:
            monkeypatch.setattr(inner, "get_random_transformation", lambda *_, p=part, **__: dict(drawn[p]))


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("name", DRAWN)
def test_equal_draws_give_equal_pictures(
    name: str, seed: int, between_pixels: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, pictures = config(name, seed)
    ours_x, their_x = (torch.from_numpy(pictures.copy()).requires_grad_() for _ in range(2))
    cell, drawn, ours = trained(spec, ours_x)
    twin = twin_of(cell.layer)
    keras_draws(twin, drawn, monkeypatch)
    transformation = for_keras(cell.layer, twin, drawn, tuple(pictures.shape))
    # The parts of Keras's jitter always take the channels for last.
    turned = name == "RandomColorJitter" and first(cell.layer)
    # Keras's brightness writes into what it is given.
    given = (their_x * 1).permute(0, 2, 3, 1) if turned else their_x * 1
    theirs = twin.transform_images(given, transformation, training=True)
    theirs = theirs.permute(0, 3, 1, 2) if turned else theirs
    inferred = twin.compute_output_shape((None, *pictures.shape[1:]))
    assert (None, *ours.shape[1:]) == tuple(inferred)
    same = certain(between_pixels, ours, first(cell.layer))
    close(ours * same, theirs * same, f"{spec}")
    assert theirs.requires_grad == ours.requires_grad
    if ours.requires_grad:
        pull = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(ours.shape)).astype("float32")) * same
        (ours * pull).sum().backward()
        (theirs * pull).sum().backward()
        hold_slopes(name, spec, ours_x.grad, their_x.grad)


def hold_slopes(name: str, spec: Any, ours: Any, theirs: Any) -> None:
    close(torch.nan_to_num(ours), torch.nan_to_num(theirs), f"{spec}: gradient", 2e-5)


def certain(found: list[torch.Tensor], like: torch.Tensor, channels_first: bool) -> torch.Tensor:
    """1 where the nearest pixel is a certain one, 0 elsewhere."""
    if not found:
        return torch.ones(())
    unsure = torch.zeros((), dtype=torch.bool)
    for part in found:
        unsure = unsure | part
    assert unsure.float().mean() < 0.5
    return (~unsure).float().unsqueeze(1 if channels_first else -1).expand_as(like)


def test_no_random_layer_is_left_out() -> None:
    Layer.spellings()
    ours = {n for n, final in Layer.catalogue.items() if issubclass(final, RandomImageLayer)}
    assert ours >= set(DRAWN)
    assert {n for n in ours if Layer.catalogue[n].__module__.split(".")[-1] in OURS} == set(DRAWN)


OURS = {f"image_{n}" for n in ("affine", "color", "distorted", "erasing", "filters", "resize", "tones")}


@pytest.mark.parametrize("name", [n for n in DRAWN if n != "RandomCrop"])
def test_unchanged_when_not_training(name: str) -> None:
    spec, pictures = config(name, 3)
    cell, _, _ = trained(spec, torch.from_numpy(pictures))
    cell.eval()
    x = torch.from_numpy(pictures)
    assert cell(x) is x or torch.equal(cell(x), x)
    close(cell(x), twin_of(cell.layer)(x.clone(), training=False), f"{spec}")
