"""ConvLSTM1D, ConvLSTM2D and ConvLSTM3D against Keras: drawn configurations, states, dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.drawing import normal, placed, sizes
from tests.parity.harness import cell_of, close, twin_of
from tests.parity.recurrent_twins import RecurrentTwins, drawn_mask, hold_nested_config, states_for
from trainer.block import problems_of
from trainer.layers.base import Layer
from trainer.layers.conv_lstm import ConvLSTM
from trainer.layers.plan import Plan

NAMES = ["ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]
CASES = [(name, seed) for name in NAMES for seed in range(80)]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], tuple[int, ...], np.random.Generator]:
    """(options, shape of a step, generator) of one configuration."""
    rank = NAMES.index(name) + 1
    random = np.random.default_rng([15, rank, seed])
    options: dict[str, Any] = {
        "filters": int(random.integers(1, 4)),
        "kernel_size": sizes(random, rank, 3),
        "padding": str(random.choice(["valid", "same"])),
        "use_bias": bool(random.random() < 0.8),
        "unit_forget_bias": bool(random.random() < 0.5),
    }
    if random.random() < 0.3:
        options["data_format"] = "channels_first"
    which = random.random()
    if which < 0.3:
        options["strides"] = sizes(random, rank, 2)
    elif which < 0.6:
        options["dilation_rate"] = sizes(random, rank, 2)
    for option in ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask"):
        options[option] = bool(random.random() < 0.4)
    if random.random() < 0.4:
        options["activation"] = str(random.choice(["relu", "softsign"]))
        options["recurrent_activation"] = str(random.choice(["hard_sigmoid", "tanh"]))
    spatial = tuple(int(n) for n in random.integers(5, 7, rank))
    return options, placed(spatial, int(random.integers(1, 4)), options.get("data_format")), random


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_equals_keras(name: str, seed: int) -> None:
    options, step, random = drawn(name, seed)
    batch, time = (int(n) for n in random.integers(2, 5, 2))
    mask = drawn_mask(random, 0.5, batch, time)
    with_states = random.random() < 0.4
    shape = (None, time, *step)
    twins = RecurrentTwins({name: options}, shape, 2 if with_states else 0, seed)
    given = states_for(twins, batch, seed) if with_states else []
    x = normal(seed, batch, time, *step)
    twins.hold(x, given, mask, training=bool(seed % 2), seed=seed)
    twins.hold_shapes(shape)
    twins.hold_masks(x, np.ones((batch, time), bool))


def test_the_draw_reaches_every_corner() -> None:
    for name in NAMES:
        found = [drawn(name, seed)[0] for seed in range(80)]
        for option in ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "use_bias"):
            assert 10 < sum(o[option] for o in found) < 75, option
        assert sum(o.get("data_format") == "channels_first" for o in found) > 10
        assert sum("strides" in o for o in found) > 10
        assert sum("dilation_rate" in o for o in found) > 10


@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_on_from_batch_to_batch(name: str) -> None:
    step = (5,) * (NAMES.index(name) + 1)
    twins = RecurrentTwins({name: {"filters": 2, "kernel_size": 2, "stateful": True}}, (3, 4, *step, 2), seed=1)
    for number in range(3):
        mask = np.random.default_rng(number).random((3, 4)) < 0.6 if number else None
        twins.hold(normal(number, 3, 4, *step, 2), (), mask, training=number < 2, seed=number)
        for (path, ours), theirs in zip(twins.cell.states(), twins.twin.states, strict=True):
            close(ours, theirs.value, f"{path} after batch {number}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rates", [(0.4, 0.0), (0.0, 0.3), (0.4, 0.3)])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_dropped_numbers_act_as_in_keras(name: str, rates: tuple[float, float], data_format: str) -> None:
    """Keras draws other numbers, but given ours (its cell keeps them for a call) it computes the same."""
    rank = NAMES.index(name) + 1
    options = {"filters": 2, "kernel_size": 2, "data_format": data_format, "dropout": rates[0]}
    spec = {name: {**options, "recurrent_dropout": rates[1], "return_sequences": True}}
    step = placed((5,) * rank, 3, data_format)
    shape = (None, 4, *step)
    cell, again = (cell_of(spec, shape)[0].train() for _ in range(2))
    twin: Any = twin_of(cell.layer, shape)
    for (_, _, tensor, _), variable in zip(cell.rows(), twin.trainable_weights, strict=True):
        variable.assign(tensor.detach().numpy())
    x = torch.from_numpy(normal(1, 3, 4, *step))
    layer = cell.layer
    assert isinstance(layer, ConvLSTM)
    drops = layer.drops(again, x, [3, *placed((4,) * rank, 2, data_format)])
    for attribute, made, rate in (
        ("_dropout_mask", drops.inputs, rates[0]),
        ("_recurrent_dropout_mask", drops.state, rates[1]),
    ):
        assert len(made) == (4 if rate else 0)
        if made:
            setattr(twin.cell, attribute, list(made))
            assert not any(torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])
    close(cell(x), twin(x, training=True), "output")
    close(cell.eval()(x), twin(x, training=False), "prediction")


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_share_of_what_is_dropped(rate: float) -> None:
    cell, _ = cell_of({"ConvLSTM2D": {"filters": 9, "kernel_size": 1, "dropout": rate}}, (None, 3, 20, 20, 9))
    layer: Any = cell.layer
    drops = layer.drops(cell.train(), torch.zeros(4, 3, 20, 20, 9), [4, 20, 20, 9])
    for drop in drops.inputs:
        assert abs(drop.mean().item() - 1) < 6 * (rate / (1 - rate) / drop.numel()) ** 0.5
    assert drops.state == []


CONFIGS: list[Any] = [
    *({name: {"filters": 2, "kernel_size": 2, "strides": 2, "return_state": True, "name": "a"}} for name in NAMES),
    {
        "ConvLSTM2D": {
            "filters": 2,
            "kernel_size": [2, 3],
            "dilation_rate": 2,
            "data_format": "channels_first",
            "kernel_regularizer": {"L2": {"l2": 0.25}},
            "recurrent_constraint": "NonNeg",
            "bias_initializer": {"Constant": {"value": 0.5}},
            "dropout": 0.25,
            "seed": 5,
            "trainable": False,
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    # Keras takes a penalty on the output and leaves it out of its config while it is null.
    hold_nested_config(spec)


@pytest.mark.parametrize("unit_forget_bias", [True, False])
def test_first_bias(unit_forget_bias: bool) -> None:
    spec = {"ConvLSTM1D": {"filters": 3, "kernel_size": 2, "unit_forget_bias": unit_forget_bias}}
    cell, _ = cell_of(spec, (None, 4, 5, 2))
    rows = list(cell.rows())
    close(rows[2][2], twin_of(cell.layer, (None, 4, 5, 2)).weights[2].value, "bias", 0)


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({}, (None, 5, 6, 2), r"\(batch, time, height, width, channels\), found"),
        ({"data_format": "channels_first"}, (None, 5, 2), r"\(batch, time, channels, height, width\), found"),
        ({}, (None, 4, None, 5, 2), "all axes but batch and time must be known"),
        ({}, (None, 4, 5, 5, None), "all axes but batch and time must be known"),
        ({"strides": 2, "dilation_rate": 2}, (None, 4, 5, 5, 1), "can't both be above 1"),
        ({"kernel_size": 9}, (None, 4, 5, 5, 1), "does not fit"),
    ],
)
def test_refuses_inputs(options: Any, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"ConvLSTM2D": {"filters": 2, "kernel_size": 2, **options}}).build(Plan(), shape)


@pytest.mark.parametrize(
    ("option", "value"), [("filters", 0), ("kernel_size", [1]), ("padding", "causal"), ("dropout", 1), ("seed", 0.5)]
)
def test_refuses_options(option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"ConvLSTM2D": {"filters": 2, "kernel_size": 2, option: value}})
    assert problems_of(caught.value)[0].path == ("ConvLSTM2D", option)
