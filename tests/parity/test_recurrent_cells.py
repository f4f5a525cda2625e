"""Cells, stacks of them, and RNN over both against Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras.src import tree
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.drawing import named, normal
from tests.parity.harness import cell_of, close
from tests.parity.recurrent_twins import RecurrentTwins, drawn_mask, hold_nested_config, states_for
from tests.parity.several import several_of
from trainer.block import problems_of
from trainer.layers import recurrent_steps
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.layers.recurrent_fused import has_onednn

CELLS = ["SimpleRNNCell", "LSTMCell", "GRUCell"]
CARRIED = {"SimpleRNNCell": 1, "LSTMCell": 2, "GRUCell": 1}
OPTIONS = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask", "unroll")


def drawn_cell(random: np.random.Generator) -> dict[str, Any]:
    """A cell with options of its own."""
    name = str(random.choice(CELLS))
    options: dict[str, Any] = {"units": int(random.integers(1, 5)), "use_bias": bool(random.random() < 0.8)}
    if random.random() < 0.3:
        options["activation"] = str(random.choice(["relu", "softsign", "linear"]))
    if name == "GRUCell":
        options["reset_after"] = bool(random.random() < 0.5)
    if name != "SimpleRNNCell" and random.random() < 0.2:
        options["recurrent_activation"] = "hard_sigmoid"
    if random.random() < 0.2:
        options["name"] = f"own{random.integers(1000)}"
    if random.random() < 0.1:
        options["trainable"] = False
    return {name: options}


def drawn(seed: int) -> tuple[dict[str, Any], np.random.Generator]:
    """An RNN over a cell, or over a stack of up to three."""
    random = np.random.default_rng([11, seed])
    options: dict[str, Any] = {o: bool(random.random() < 0.4) for o in OPTIONS}
    count = int(random.integers(0, 4))
    options["cell"] = [drawn_cell(random) for _ in range(count)] if count else drawn_cell(random)
    if count == 1:
        options["unroll"] = False
    return {"RNN": options}, random


def alone(spec: Any) -> bool:
    """A stack of one cell: Keras takes its states out of their list, and fails with a mask or with unroll."""
    cell = spec["RNN"]["cell"]
    return isinstance(cell, list) and len(cell) == 1


@pytest.mark.parametrize("seed", range(240))
def test_rnn_equals_keras(seed: int) -> None:
    spec, random = drawn(seed)
    batch, time, features = (int(n) for n in random.integers(2, 6, 3))
    mask = drawn_mask(random, 0.6, batch, time)
    if alone(spec):
        mask = None
    if mask is not None and spec["RNN"]["go_backwards"]:
        spec["RNN"]["unroll"] = False
    with_states = random.random() < 0.5
    twins = RecurrentTwins(spec, (None, time, features), 9 if with_states else 0, seed)
    given = states_for(twins, batch, seed) if with_states else []
    x = normal(seed, batch, time, features)
    twins.hold(x, given, mask, training=bool(seed % 2), seed=seed)
    twins.hold_shapes((None, time, features))
    if spec["RNN"]["return_state"] is False:
        twins.hold_masks(x, np.ones((batch, time), bool))


def test_the_draw_reaches_every_corner() -> None:
    found = [drawn(seed)[0]["RNN"] for seed in range(240)]
    assert all(60 < sum(o[option] for o in found) < 180 for option in OPTIONS)
    stacks = [len(o["cell"]) if isinstance(o["cell"], list) else 0 for o in found]
    assert min(stacks.count(n) for n in range(4)) > 30


@pytest.mark.parametrize("name", CELLS)
def test_a_stack_of_one_cell_is_the_cell(name: str) -> None:
    made = []
    for stack in (False, True):
        inner: Any = {name: {"units": 3}}
        cell, _ = cell_of({"RNN": {"cell": [inner] if stack else inner, "return_state": True}}, (None, 5, 2))
        for _, _, tensor, _ in cell.rows():
            tensor.data.copy_(torch.from_numpy(normal(tensor.numel(), *tensor.shape)))
        made.append(cell(torch.from_numpy(normal(1, 4, 5, 2)), mask=torch.from_numpy(normal(2, 4, 5) > 0)))
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.parametrize("stack", [False, True])
def test_a_state_goes_on_from_batch_to_batch(stack: bool) -> None:
    cells = [{"GRUCell": {"units": 3}}, {"LSTMCell": {"units": 2}}]
    spec = {"RNN": {"cell": cells if stack else cells[1], "stateful": True, "return_sequences": True}}
    twins = RecurrentTwins(spec, (4, 5, 2), seed=1)
    for step in range(4):
        mask = np.random.default_rng(step).random((4, 5)) < 0.6 if step % 2 else None
        twins.hold(normal(step, 4, 5, 2), (), mask, training=step < 2, seed=step)
        states = [v.value for v in tree.flatten(twins.twin.states)]
        for (path, ours), theirs in zip(twins.cell.states(), states, strict=True):
            close(ours, theirs, f"{path} after batch {step}")


@pytest.mark.parametrize("seed", range(120))
def test_one_step_equals_keras(seed: int) -> None:
    random = np.random.default_rng([12, seed])
    count = int(random.integers(0, 4))
    spec = {"StackedRNNCells": {"cells": [drawn_cell(random) for _ in range(count)]}} if count else drawn_cell(random)
    batch, features = (int(n) for n in random.integers(2, 6, 2))
    twin: Any = keras.layers.deserialize(Layer.parse(spec).to_keras())
    twin.name = "layer"
    twin.build((None, features))
    held(Layer.parse(spec), features)
    structure = twin.get_initial_state(batch)
    given = [random.normal(size=tuple(s.shape)).astype("float32") for s in tree.flatten(structure)]
    cell, shapes = several_of(spec, [(None, features), *((None, g.shape[1]) for g in given)])
    variables = [v for v in (*twin.trainable_weights, *twin.non_trainable_weights) if "seed_gen" not in v.path]
    assert [(p, tuple(t.shape)) for _, p, t, _ in cell.rows()] == [(v.path, tuple(v.shape)) for v in variables]
    for (_, _, tensor, _), variable in zip(cell.rows(), variables, strict=True):
        variable.assign(tensor.detach().numpy())
    x = torch.from_numpy(normal(seed, batch, features))
    states = [torch.from_numpy(g) for g in given]
    theirs = tree.flatten(twin(x, tree.pack_sequence_as(structure, states)))
    ours = cell([x, *states])
    assert len(ours) == len(theirs)
    for a, b, shape in zip(ours, theirs, shapes, strict=True):
        close(a, b, f"{spec}")
        assert tuple(a.shape)[1:] == shape[1:]


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_rnn_over_a_cell_is_the_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as fast: nothing goes step by step, stacks neither."""
    slow = []
    loop = recurrent_steps.Stepping.loop
    monkeypatch.setattr(recurrent_steps.Stepping, "loop", lambda *a: (slow.append(1), loop(*a))[1])
    layer, _ = cell_of({name: {"units": 4, "return_sequences": True}}, (None, 6, 3))
    over, _ = cell_of({"RNN": {"cell": {f"{name}Cell": {"units": 4}}, "return_sequences": True}}, (None, 6, 3))
    for key, tensor in named(over).items():
        tensor.data.copy_(named(layer)[key])
    x = torch.from_numpy(normal(1, 5, 6, 3))
    assert torch.equal(layer(x), over(x))
    stack, _ = cell_of({"RNN": {"cell": [{f"{name}Cell": {"units": 4}}] * 3}}, (None, 6, 3))
    stack(x)
    assert not slow
    first, *_ = cell_of({"RNN": {"cell": {f"{name}Cell": {"units": 4}}, "return_state": True}}, (None, 6, 3))
    first(x)
    assert len(slow) == (name == "LSTM" and not has_onednn())


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("stack", [False, True])
def test_dropout(name: str, stack: bool) -> None:
    """Nothing is dropped in prediction; the same features at every step of a call in training."""
    cell = {name: {"units": 40, "activation": "linear", "dropout": 0.5}}
    spec = {"RNN": {"cell": [cell] if stack else cell, "return_sequences": True}}
    plain = {"RNN": {**spec["RNN"], "cell": {name: {**cell[name], "dropout": 0.0}}}}
    made, _ = cell_of(spec, (None, 4, 60))
    other, _ = cell_of(plain, (None, 4, 60))
    for (_, _, tensor, _), (_, _, theirs, _) in zip(made.rows(), other.rows(), strict=True):
        tensor.data.copy_(theirs)
    x = torch.from_numpy(normal(1, 5, 4, 60))
    assert torch.equal(made.eval()(x), other.eval()(x))
    assert not torch.equal(made.train()(x), other.train()(x))
    first = made(x)
    made.clock.step += 1
    assert not torch.equal(first, made(x))
    made.clock.step -= 1
    share = several_of(cell, [(None, 60), *[(None, 40)] * CARRIED[name]])[0].train()
    layer: Any = share.layer
    (drop,) = layer.drops(share, torch.zeros(400, 1, 60)).inputs
    assert set(drop.unique().tolist()) == {0.0, 2.0}
    assert abs(drop.mean().item() - 1) < 6 / drop.numel() ** 0.5


CONFIGS: list[Any] = [
    *({name: {"units": 3, "name": "a", "dropout": 0.2, "seed": 3}} for name in CELLS),
    {"GRUCell": {"units": 3, "reset_after": False, "kernel_regularizer": {"L2": {"l2": 0.25}}, "name": "b"}},
    {"RNN": {"cell": {"LSTMCell": {"units": 3}}, "stateful": True, "return_state": True}},
    {"RNN": {"cell": {"LSTMCell": {"units": 3, "name": "mine", "trainable": False}}, "name": "r"}},
    {"RNN": {"cell": [{"GRUCell": {"units": 3}}, {"LSTMCell": {"units": 2}}, {"GRUCell": {"units": 3}}]}},
    {"StackedRNNCells": {"cells": [{"GRUCell": {"units": 3}}, {"GRUCell": {"units": 2}}], "name": "s"}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_nested_config(spec)


def test_names_of_cells_in_a_stack() -> None:
    cells = [{"GRUCell": {"units": 3}}, {"GRUCell": {"units": 2, "name": "gru_cell_1"}}, {"GRUCell": {"units": 2}}]
    cell, _ = cell_of({"RNN": {"cell": cells}}, (None, 4, 2))
    found = [path.split("/")[2] for _, path, _, _ in cell.rows()][::3]
    assert found == ["gru_cell", "gru_cell_1", "gru_cell_2"]


@pytest.mark.parametrize(
    ("spec", "path", "words"),
    [
        ({"RNN": {}}, ("RNN", "cell"), "RNN needs cell"),
        ({"RNN": {"cell": {"LSTM": {"units": 3}}}}, ("RNN", "cell"), "expected a cell, found LSTM"),
        ({"RNN": {"cell": {"LSTMCell": {"units": -3}}}}, ("RNN", "cell", "LSTMCell", "units"), "found -3"),
        ({"RNN": {"cell": []}}, ("RNN", "cell", "StackedRNNCells", "cells"), "at least one cell"),
        (
            {"StackedRNNCells": {"cells": [{"LSTMCell": {"units": 3}}, {"GRUCell": {"units": 3, "unit": 3}}]}},
            ("StackedRNNCells", "cells", 1, "GRUCell", "unit"),
            "GRUCell has no option",
        ),
        (
            {"StackedRNNCells": {"cells": [{"LSTMCell": {"units": 3, "name": "a"}}] * 2}},
            ("StackedRNNCells", "cells"),
            "one name",
        ),
        ({"RNN": {"cell": {"LSTMCell": {"units": 3}}, "stateful": 1}}, ("RNN", "stateful"), "expected true or false"),
    ],
)
def test_refuses_options(spec: Any, path: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    problem = problems_of(caught.value)[0]
    assert problem.path == path
    assert words in problem.message


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        ({"LSTMCell": {"units": 3}}, (None, 4), "in a model, write {RNN: {cell: LSTMCell}}"),
        ({"LSTMCell": {"units": 3}}, [(None, 4), (None, 3)], "expected first states of shape"),
        ({"GRUCell": {"units": 3}}, [(None, 5, 4), (None, 3)], r"expected input of shape \(batch, features\)"),
        ({"RNN": {"cell": {"GRUCell": {"units": 3}}}}, (None, 4), r"\(batch, time, features\), found"),
        ({"RNN": {"cell": {"GRUCell": {"units": 3}}}}, (None, 4, None), "last axis of the input must be known"),
    ],
)
def test_refuses_inputs(spec: Any, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse(spec).build(Plan(), shape)
