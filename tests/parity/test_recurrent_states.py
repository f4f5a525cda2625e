"""First and last states, stateful, unroll and zero_output_for_mask of SimpleRNN, LSTM and GRU against Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close
from tests.parity.recurrent_twins import RecurrentTwins, drawn_mask, hold_nested_config, states_for
from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan
from trainer.model.network import Network

NAMES = ["SimpleRNN", "LSTM", "GRU"]
CASES = [(name, seed) for name in NAMES for seed in range(80)]


def drawn(name: str, seed: int) -> tuple[dict[str, Any], np.random.Generator]:
    """Options of one configuration; about half keep the activations that have a whole-sequence form."""
    random = np.random.default_rng([3, NAMES.index(name), seed])
    options: dict[str, Any] = {"units": int(random.integers(1, 5))}
    for option, share in (
        ("return_sequences", 0.5),
        ("return_state", 0.7),
        ("go_backwards", 0.3),
        ("zero_output_for_mask", 0.5),
        ("unroll", 0.3),
    ):
        options[option] = bool(random.random() < share)
    if random.random() < 0.4:
        options["activation"] = str(random.choice(["relu", "softsign", "sigmoid"]))
    if name == "GRU":
        options["reset_after"] = bool(random.random() < 0.5)
    options["use_bias"] = bool(random.random() < 0.8)
    return options, random


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_equals_keras(name: str, seed: int) -> None:
    options, random = drawn(name, seed)
    batch, time, features = (int(n) for n in random.integers(2, 6, 3))
    mask = drawn_mask(random, 0.6, batch, time)
    if mask is not None and options["go_backwards"]:
        # Keras 3.15 flips a tuple of masks there, and fails.
        options["unroll"] = False
    with_states = random.random() < 0.5
    twins = RecurrentTwins({name: options}, (None, time, features), 9 if with_states else 0, seed)
    given = states_for(twins, batch, seed) if with_states else []
    x = normal(seed, batch, time, features)
    twins.hold(x, given, mask, training=bool(seed % 2), seed=seed)
    twins.hold_shapes((None, time, features))
    twins.hold_masks(x, np.ones((batch, time), bool))


def test_the_draw_reaches_every_corner() -> None:
    for name in NAMES:
        found = [drawn(name, seed)[0] for seed in range(80)]
        for option in ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "unroll"):
            assert 10 < sum(o[option] for o in found) < 70, option


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"return_sequences": True, "return_state": True}, {"activation": "relu"}], ids=str
)
def test_a_state_goes_on_from_batch_to_batch(name: str, masked: bool, more: dict[str, Any]) -> None:
    """Keras keeps it in variables that are no weights, and never resets it by itself."""
    spec = {name: {"units": 3, "stateful": True, **more}}
    twins = RecurrentTwins(spec, (4, 5, 2), seed=1)
    for step in range(4):
        mask = np.random.default_rng(step).random((4, 5)) < 0.6 if masked else None
        twins.hold(normal(step, 4, 5, 2), (), mask, training=step < 2, seed=step)
        for (path, ours), theirs in zip(twins.cell.states(), twins.twin.states, strict=True):
            close(ours, theirs.value, f"{path} after batch {step}")
            assert not ours.requires_grad
    given = states_for(twins, 4, 7)
    twins.hold(normal(9, 4, 5, 2), given)
    for (path, ours), theirs in zip(twins.cell.states(), twins.twin.states, strict=True):
        close(ours, theirs.value, f"{path} after first states that were given")


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_keras_cannot_train_a_stateful_layer_in_its_faster_way(name: str) -> None:
    """Why the twins take the plain one: should this fail one day, Keras (3.15.1 on torch) has mended it."""
    layer = keras.layers.deserialize(Layer.parse({name: {"units": 3, "stateful": True}}).to_keras())
    layer.build((4, 5, 2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        layer(torch.from_numpy(normal(1, 4, 5, 2)), training=True).sum().backward()


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_in_parts_is_the_whole_sequence(name: str) -> None:
    plain, _ = cell_of({name: {"units": 3, "return_sequences": True}}, (None, 6, 2))
    kept, _ = cell_of({name: {"units": 3, "return_sequences": True, "stateful": True}}, (4, 6, 2))
    x = torch.from_numpy(normal(1, 4, 6, 2))
    parts = torch.cat([kept(x[:, :2]), kept(x[:, 2:3]), kept(x[:, 3:])], 1)
    close(parts, plain(x), "three parts")


@pytest.mark.parametrize("name", NAMES)
def test_states_of_a_network(name: str) -> None:
    layers = [Layer.parse({name: {"units": 3, "stateful": True}}), Layer.parse({"Dense": {"units": 1}})]
    network = Network(chain(layers, {"x": (None, 5, 2)}, batch_size=4))
    assert len(network.get_weights()) == 5
    x = torch.from_numpy(normal(1, 4, 5, 2))
    first, second = network(x), network(x)
    assert not torch.equal(first, second)
    states = network.states()
    assert next(iter(states)).endswith("/state_0")
    assert all(bool(t.any()) for t in states.values())
    network.reset_states()
    close(network(x), first, "after a reset", 0)
    with pytest.raises(RecipeError, match="expected 4 rows as in every batch, found 3"):
        network(x[:3])
    with pytest.raises(ValueError, match="needs a batch of known size"):
        Network(chain(layers, {"x": (None, 5, 2)}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("every", [True, False])
def test_whole_sequences_and_steps_give_one_state(name: str, every: bool) -> None:
    """Zeros given as first states take the way step by step."""
    cell, _ = cell_of({name: {"units": 3, "return_state": True, "return_sequences": every}}, (None, 6, 2))
    x = torch.from_numpy(normal(1, 4, 6, 2))
    zeros = [torch.zeros(4, 3)] * (2 if name == "LSTM" else 1)
    for a, b in zip(cell(x), cell([x, *zeros]), strict=True):
        close(a, b, "output")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ([(None, 5, 2), (None, 3), (None, 3), (None, 3)], "expected first states of shape"),
        ([(None, 5, 2), *[(None, 4)] * 2], "expected first states of shape"),
        ([(None, 5)], r"\(batch, time, features\), found"),
    ],
)
def test_refuses_inputs(name: str, shapes: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({name: {"units": 3}}).build(Plan(), shapes)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_steps_of_unknown_number(name: str) -> None:
    with pytest.raises(ValueError, match="unroll needs a known number of steps"):
        Layer.parse({name: {"units": 3, "unroll": True}}).build(Plan(), (None, None, 2))
    cell, _ = cell_of({name: {"units": 3}}, (None, 5, 2))
    with pytest.raises(RecipeError, match="mask of shape"):
        cell(torch.ones(4, 5, 2), mask=torch.ones(4, 5, 2, dtype=torch.bool))


CONFIGS = [
    {name: {"units": 3, "return_state": True, "stateful": True, "zero_output_for_mask": True, "unroll": True}}
    for name in NAMES
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_nested_config(spec, "seed", "activity_regularizer")


def test_a_list_goes_only_where_lists_are_read() -> None:
    states = Layer.parse({"LSTM": {"units": 3, "return_state": True}})
    with pytest.raises(RecipeError) as caught:
        chain([states, Layer.parse({"Dense": {"units": 2}})], {"x": (None, 5, 2)})
    (problem,) = caught.value.problems
    assert problem.path == ("model", "layers", 1, "Dense")
    assert "dense: expected one tensor, found a list of 3" in problem.message
    with pytest.raises(RecipeError, match="expected one tensor as an output of the model, found a list of 3"):
        chain([states], {"x": (None, 5, 2)})
    graph = chain([states, Layer.parse("Average")], {"x": (None, 5, 2)})
    x = torch.from_numpy(normal(1, 4, 5, 2))
    network = Network(graph)
    out, h, c = network.cell("lstm")(x)
    close(network(x), (out + h + c) / 3, "average of output and states")


def test_a_decoder_goes_on_from_where_an_encoder_ended() -> None:
    """A list goes from LSTM to LSTM: the output is read as the sequence, the rest as first states."""
    first = {"LSTM": {"units": 3, "return_state": True, "return_sequences": True}}
    network = Network(chain([Layer.parse(first), Layer.parse({"LSTM": {"units": 3}})], {"x": (None, 5, 2)}))
    x = torch.from_numpy(normal(1, 4, 5, 2))
    out = network.cell("lstm")(x)
    assert not torch.equal(network(x), network.cell("lstm_1")(out[0]))
    close(network(x), network.cell("lstm_1")(out), "first states", 0)


def test_penalties_count_every_output() -> None:
    """As in Keras, which adds up those of output and states, each divided by the rows."""
    spec = {"LSTM": {"units": 3, "return_state": True, "activity_regularizer": {"L2": {"l2": 0.5}}}}
    twins = RecurrentTwins(spec, (None, 5, 2))
    network = Network(chain([twins.layer, Layer.parse("Add")], {"x": (None, 5, 2)}))
    for (_, _, tensor, _), variable in zip(network.rows(), twins.variables, strict=True):
        tensor.data.copy_(variable.value)
    x = torch.from_numpy(normal(1, 4, 5, 2))
    twins.twin(x)
    (ours,) = network.run(x).penalties
    close(ours, twins.twin.losses[0] if len(twins.twin.losses) == 1 else sum(twins.twin.losses), "penalty")
