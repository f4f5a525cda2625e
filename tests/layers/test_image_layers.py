"""Layers on pictures: what they refuse, in words; and that random ones stay out of what is computed once."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.image_base import RandomImageLayer
from trainer.layers.image_sampling import inside
from trainer.layers.plan import Plan
from trainer.recipe.features import through

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"RandomRotation": {"factor": 1.5}}, "expected a number from -1 to 1, or a list of two, found 1.5"),
    ({"RandomRotation": {"factor": [0.1]}}, "expected a number from -1 to 1, or a list of two, found [0.1]"),
    ({"RandomContrast": {"factor": [-0.2, 0.3]}}, "expected a number from 0 to 1, or a list of two"),
    ({"RandomZoom": {"height_factor": -1}}, "expected a number above -1 and up to 1, or a list of two, found -1"),
    ({"RandomPosterization": {"factor": 2.5}}, "expected an integer from 1 to 8, or a list of two, found 2.5"),
    ({"RandomHue": {"factor": 0.1, "value_range": [1, 0]}}, "expected a list of two numbers, the lower one first"),
    ({"RandomHue": {"factor": 0.1, "value_range": 255}}, "expected a list of two numbers, the lower one first"),
    ({"RandomFlip": {"mode": "sideways"}}, "expected one of"),
    ({"Resizing": {"height": 2, "width": 2, "interpolation": "lanczos3"}}, "expected one of"),
    ({"RandomShear": {"fill_mode": "mirror"}}, "expected one of"),
    (
        {"RandomGaussianBlur": {"kernel_size": 4}},
        "expected an odd integer above 0, or a list of two equal ones, found 4",
    ),
    ({"RandomGaussianBlur": {"kernel_size": [3, 5]}}, "expected an odd integer above 0, or a list of two equal ones"),
    ({"RandomErasing": {"fill_value": [1, 2]}}, "expected a number, or a list of three for red, green and blue"),
]


@pytest.mark.parametrize(("spec", "message"), WRONG, ids=str)
def test_options_out_of_range(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    (problem,) = problems_of(caught.value)
    assert message in problem.message
    assert problem.path[0] == next(iter(spec))


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ({"RandomHue": {"factor": 0.1}}, (None, 8, 8, 1), "expected pictures of 3 channels, found 1"),
        ("RandomGrayscale", (None, 8, 8, 2), "expected pictures of 1 or 3 channels, found 2"),
        ({"RandomColorJitter": {"hue_factor": 0.1}}, (None, 8, 8, 1), "expected pictures of 3 channels, found 1"),
        ({"RandomErasing": {"fill_value": [1, 2, 3]}}, (None, 8, 8, 1), "fill_value has three numbers"),
        ("RandomPerspective", (None, 1, 8, 1), "give at least 2 x 2"),
        ("RandomFlip", (None, 64), "expected input of shape (batch, height, width, channels)"),
        (
            {"Resizing": {"height": 2, "width": 2, "crop_to_aspect_ratio": True, "pad_to_aspect_ratio": True}},
            (None, 8, 8, 1),
            "can't both be true",
        ),
    ],
    ids=str,
)
def test_pictures_that_do_not_fit(spec: Any, shape: tuple[int | None, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Layer.parse(spec).build(Plan(), shape)


def test_random_layers_may_stand_before_the_model() -> None:
    """There they act on each batch; tests/train/test_drawn_steps.py has what that means."""
    Layer.spellings()
    drawn = {n for n, c in Layer.catalogue.items() if issubclass(c, RandomImageLayer)}
    assert len(drawn) > 20
    assert all(Layer.catalogue[n].draws and Layer.catalogue[n].preprocessing for n in drawn)
    layers = (Layer.parse({"Rescaling": {"scale": 2}}), Layer.parse({"RandomCrop": {"height": 4, "width": 3}}))
    assert through(layers, (None, 8, 8, 1), ("dataset", "inputs", "x", "preprocess")) == (None, 4, 3, 1)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("reflect", "dcbaabcddcba"),
        ("mirror", "abcdcbabcdcbabcdcb"[2:14]),
        ("wrap", "abcdabcdabcd"),
        ("nearest", "aaaaabcddddd"),
    ],
)
def test_what_stands_past_the_edges(mode: str, expected: str) -> None:
    found = inside(torch.arange(-4, 8), 4, mode)
    assert "".join("abcd"[i] for i in found) == expected
    assert set(inside(torch.arange(-4, 8), 1, mode).tolist()) == {0}
