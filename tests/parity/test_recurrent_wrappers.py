"""Bidirectional and TimeDistributed against Keras."""

from __future__ import annotations

import copy
from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.drawing import normal
from tests.parity.harness import cell_of, close, hold_layer
from tests.parity.recurrent_twins import RecurrentTwins, drawn_mask, hold_nested_config, states_for
from trainer.block import problems_of
from trainer.errors import RecipeError
from trainer.layers import recurrent_steps
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan
from trainer.model.network import Network

MODES = ["sum", "mul", "ave", "concat", None]
LAYERS = ["SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM1D"]


def drawn_layer(name: str, random: np.random.Generator, units: int) -> dict[str, Any]:
    """A recurrent layer with options of its own."""
    activation = {"activation": str(random.choice(["tanh", "tanh", "relu", "softsign"]))}
    if name == "RNN":
        cells = [{"LSTMCell": {"units": units, **activation}}, {"GRUCell": {"units": units}}]
        return {"RNN": {"cell": cells if random.random() < 0.5 else cells[0]}}
    if name == "ConvLSTM1D":
        return {name: {"filters": units, "kernel_size": 2, **activation}}
    made = {"units": units, "use_bias": bool(random.random() < 0.8), **activation}
    return {name: {**made, "reset_after": bool(random.random() < 0.5)} if name == "GRU" else made}


def drawn(seed: int) -> tuple[dict[str, Any], str, np.random.Generator]:
    """(spec, name of the layer, generator) of one configuration."""
    random = np.random.default_rng([13, seed])
    name, units = str(random.choice(LAYERS)), int(random.integers(1, 4))
    layer = drawn_layer(name, random, units)
    shared = {"return_sequences": bool(random.random() < 0.5), "return_state": bool(random.random() < 0.4)}
    layer[name] |= shared
    if random.random() < 0.2:
        layer[name]["name"] = str(random.choice(["own", "forward_own", "backward_own"]))
    if random.random() < 0.1 and name != "ConvLSTM1D":
        layer[name]["trainable"] = False
    made: dict[str, Any] = {"layer": layer, "merge_mode": MODES[int(random.integers(5))]}
    if random.random() < 0.3:
        back = drawn_layer(name, random, units)
        back[name] |= {**shared, "go_backwards": True, "name": "back"}
        made["backward_layer"] = back
        if random.random() < 0.3:
            layer[name]["go_backwards"], back[name]["go_backwards"] = True, False
    return {"Bidirectional": made}, name, random


@pytest.mark.parametrize("seed", range(240))
def test_bidirectional_equals_keras(seed: int) -> None:
    spec, name, random = drawn(seed)
    batch, time, features = (int(n) for n in random.integers(2, 6, 3))
    mask = drawn_mask(random, 0.6, batch, time)
    x = normal(seed, batch, time, *([4] if name == "ConvLSTM1D" else []), features)
    with_states = random.random() < 0.4 and name != "RNN"
    twins = RecurrentTwins(spec, (None, *x.shape[1:]), 9 if with_states else 0, seed)
    given = states_for(twins, batch, seed) if with_states else []
    twins.hold(x, given, mask, training=bool(seed % 2), seed=seed)
    if name != "RNN" or "GRUCell" not in str(spec):
        twins.hold_shapes((None, *x.shape[1:]))
    ((_, options),) = spec["Bidirectional"]["layer"].items()
    if not options["return_state"]:
        twins.hold_masks(x, np.ones((batch, time), bool))


def test_the_draw_reaches_every_corner() -> None:
    found = [drawn(seed) for seed in range(240)]
    assert min([n for _, n, _ in found].count(name) for name in LAYERS) > 30
    specs = [s["Bidirectional"] for s, *_ in found]
    assert min([s["merge_mode"] for s in specs].count(mode) for mode in MODES) > 30
    assert sum("backward_layer" in s for s in specs) > 40


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("every", [False, True])
def test_states_of_both_directions_go_on(name: str, every: bool) -> None:
    spec = {"Bidirectional": {"layer": {name: {"units": 3, "stateful": True, "return_sequences": every}}}}
    twins = RecurrentTwins(spec, (4, 5, 2), seed=1)
    for step in range(4):
        mask = np.random.default_rng(step).random((4, 5)) < 0.6 if step % 2 else None
        twins.hold(normal(step, 4, 5, 2), (), mask, training=step < 2, seed=step)
        for (path, ours), theirs in zip(twins.cell.states(), twins.twin.states, strict=True):
            close(ours, theirs.value, f"{path} after batch {step}")


def test_both_directions_take_whole_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    whole = recurrent_steps.whole_sequence
    monkeypatch.setattr(recurrent_steps, "whole_sequence", lambda *a: (calls.append(1), whole(*a))[1])
    x = torch.from_numpy(normal(1, 4, 5, 2))
    for inner in ({"LSTM": {"units": 3}}, {"RNN": {"cell": {"GRUCell": {"units": 3}}}}):
        cell, _ = cell_of({"Bidirectional": {"layer": inner}}, (None, 5, 2))
        calls.clear()
        cell(x, mask=torch.ones(4, 5, dtype=torch.bool))
        assert len(calls) == 2


def test_penalties_on_what_inner_layers_make() -> None:
    """Keras counts those of both directions, but not those of a layer in TimeDistributed."""
    inner = {"LSTM": {"units": 3, "activity_regularizer": {"L2": {"l2": 0.5}}}}
    x = torch.from_numpy(normal(1, 4, 5, 2))
    for spec, count in (
        ({"Bidirectional": {"layer": inner}}, 2),
        ({"TimeDistributed": {"layer": {"Dense": {"units": 3, "activity_regularizer": "L2"}}}}, 0),
    ):
        layer = Layer.parse(spec)
        network = Network(chain([layer], {"x": (None, 5, 2)}))
        twin: Any = keras.layers.deserialize(layer.to_keras())
        twin.build((None, 5, 2))
        for (_, _, tensor, _), variable in zip(network.rows(), twin.weights, strict=True):
            variable.assign(tensor.detach().numpy())
        twin(x)
        ours = network.run(x).penalties
        assert len(ours) == len(twin.losses) == count
        for a, b in zip(ours, twin.losses, strict=True):
            close(a, b, "penalty")
        assert network.clock.penalties is None


def arrays(shape: tuple[int | None, ...] = (None, 5, 2)) -> list[np.ndarray]:
    """One for each weight of Bidirectional(GRU(2))."""
    cell, _ = cell_of({"Bidirectional": {"layer": {"GRU": {"units": 2}}}}, shape)
    return [normal(n, *t.shape) for n, (_, _, t, _) in enumerate(cell.rows())]


def test_first_weights_from_the_recipe() -> None:
    """Keras 3 takes `weights` and forgets them; Keras 2 used them as here, half for each direction."""
    given = arrays()
    spec = {"Bidirectional": {"layer": {"GRU": {"units": 2}}, "weights": [a.tolist() for a in given]}}
    layer = Layer.parse(spec)
    assert Layer.parse(layer.spec()) == layer
    assert "weights" not in layer.keras_config()
    cell, _ = cell_of(spec, (None, 5, 2))
    for (_, path, tensor, _), array in zip(cell.rows(), given, strict=True):
        close(tensor, array, path, 0)
    real = keras.layers.Bidirectional(keras.layers.GRU(2), weights=given)
    real.build((None, 5, 2))
    assert not np.array_equal(real.weights[0].value.detach().numpy(), given[0])
    nested = {"RNN": {"cell": {"GRUCell": {"units": 2}}}}
    cell, _ = cell_of({"Bidirectional": {**spec["Bidirectional"], "layer": nested}}, (None, 5, 2))
    close(next(cell.rows())[2], given[0], "kernel", 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a[:-1], "expected weights: a list of 6 arrays, found 5"),
        (lambda a: [a[0][:1], *a[1:]], r"expected an array of shape \(2, 6\) for kernel in weights, found \(1, 6\)"),
    ],
)
def test_refuses_weights_that_do_not_fit(change: Any, words: str) -> None:
    given = [a.tolist() for a in change(arrays())]
    layer = Layer.parse({"Bidirectional": {"layer": {"GRU": {"units": 2}}, "weights": given}})
    with pytest.raises(ValueError, match=words):
        layer.build(Plan(), (None, 5, 2))


LSTM: dict[str, Any] = {"LSTM": {"units": 3}}


@pytest.mark.parametrize(
    ("options", "path", "words"),
    [
        ({"layer": {"LSTM": {"units": 0}}}, ("layer", "LSTM", "units"), "found 0"),
        ({"layer": {"Dense": {"units": 3}}}, ("layer",), "expected a recurrent layer, found Dense"),
        ({"layer": {"LSTM": {"units": 3, "go_backwards": True}}}, ("layer",), "expected two directions"),
        ({"layer": LSTM, "backward_layer": LSTM}, ("backward_layer",), "expected two directions"),
        ({"layer": LSTM, "backward_layer": "Flatten"}, ("backward_layer",), "found Flatten"),
        (
            {"layer": LSTM, "backward_layer": {"GRU": {"units": 3, "go_backwards": True, "return_state": True}}},
            ("backward_layer",),
            "expected return_state: false as in layer, found true",
        ),
        (
            {"layer": {"ConvLSTM1D": {"filters": 1, "kernel_size": 1, "trainable": False}}},
            ("layer",),
            "Keras trains a frozen ConvLSTM1D",
        ),
        ({"layer": LSTM, "merge_mode": "max"}, ("merge_mode",), "expected one of"),
        ({"layer": LSTM, "weights": [[1, 2], [[1], [1, 2]]]}, ("weights",), "nested lists of numbers"),
        ({}, ("layer",), "Bidirectional needs layer"),
    ],
)
def test_refuses_options(options: Any, path: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"Bidirectional": options})
    problem = problems_of(caught.value)[0]
    assert problem.path == ("Bidirectional", *path)
    assert words in problem.message


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({}, (None, 5), r"\(batch, time, features\), found"),
        ({}, [(None, 5, 2), (None, 3)], "first states of both directions, found 1"),
        ({}, [(None, 5, 2), *[(None, 4)] * 4], "expected first states of shape"),
        (
            {"backward_layer": {"LSTM": {"units": 4, "go_backwards": True}}},
            (None, 5, 2),
            "merge_mode concat needs outputs of one shape",
        ),
    ],
)
def test_refuses_inputs(options: Any, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"Bidirectional": {"layer": LSTM, **options}}).build(Plan(), shape)


def test_keras_takes_directions_to_be_of_one_size() -> None:
    """Why others are refused: it infers twice the forward layer's size, and then can't load the next layer."""
    back = keras.layers.GRU(4, go_backwards=True)
    layer = keras.layers.Bidirectional(keras.layers.LSTM(3), backward_layer=back)
    assert layer.compute_output_shape((None, 5, 2)) == (None, 6)
    assert tuple(layer(torch.ones(1, 5, 2)).shape) == (1, 7)


CONFIGS: list[Any] = [
    {"Bidirectional": {"layer": LSTM}},
    {"Bidirectional": {"layer": {"GRU": {"units": 2, "return_sequences": True, "name": "a"}}, "merge_mode": None}},
    {"Bidirectional": {"layer": LSTM, "backward_layer": {"LSTM": {"units": 3, "go_backwards": True}}, "name": "b"}},
    {"Bidirectional": {"layer": {"RNN": {"cell": [{"GRUCell": {"units": 2}}, {"GRUCell": {"units": 2}}]}}}},
    {"TimeDistributed": {"layer": {"Dense": {"units": 2, "kernel_regularizer": {"L2": {"l2": 0.5}}}}, "name": "t"}},
    {"TimeDistributed": {"layer": {"Bidirectional": {"layer": LSTM}}, "trainable": False}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_nested_config(spec, "activity_regularizer", "quantization_config")


INNER: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"Dense": {"units": 3, "activation": "tanh"}}, (4,)),
    ({"Dense": {"units": 3, "name": "own", "trainable": False}}, (3, 2)),
    ({"Conv1D": {"filters": 3, "kernel_size": 2}}, (5, 2)),
    ({"Conv2D": {"filters": 2, "kernel_size": 2, "strides": 2}}, (4, 5, 2)),
    ({"BatchNormalization": {"momentum": 0.7}}, (3,)),
    ({"BatchNormalization": {"axis": 1}}, (3, 2)),
    ({"LayerNormalization": {}}, (3, 2)),
    ({"Flatten": {}}, (3, 2)),
    ({"Softmax": {"axis": 1}}, (3, 2)),
    ({"MaxPooling1D": {"pool_size": 2}}, (5, 2)),
    ({"LSTM": {"units": 3, "return_sequences": True}}, (4, 2)),
    ({"GRU": {"units": 3}}, (4, 2)),
    ({"Bidirectional": {"layer": {"GRU": {"units": 2}}}}, (4, 2)),
    ({"TimeDistributed": {"layer": {"Dense": {"units": 2}}}}, (3, 2)),
    ({"Dropout": {"rate": 0.0}}, (3,)),
]


@pytest.mark.parametrize("seed", range(150))
def test_time_distributed_equals_keras(seed: int) -> None:
    random = np.random.default_rng([14, seed])
    inner, shape = copy.deepcopy(INNER[seed % len(INNER)])
    batch, time = (int(n) for n in random.integers(2, 6, 2))
    options: dict[str, Any] = {"layer": inner}
    if random.random() < 0.2:
        options["trainable"] = False
    mask = None
    if random.random() < 0.4:
        # A mask of steps, or one of what each step holds where the layer reads sequences.
        deep = Layer.parse(inner).takes_mask and next(iter(inner)) != "BatchNormalization"
        mask = random.random((batch, time, *([shape[0]] if deep else []))) < 0.7
        mask[..., 0] = True
        if next(iter(inner)) in ("Softmax", "TimeDistributed", "BatchNormalization"):
            mask = None
    x = normal(seed, batch, time, *shape)
    spec = {"TimeDistributed": options}
    hold_layer(spec, x, training=bool(seed % 2), mask=mask, seed=seed, tolerance=2e-5)
    cell, _ = cell_of(spec, (None, *x.shape[1:]))
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    twin.name = "layer"
    twin.build((None, *x.shape[1:]))
    theirs = [v.path for v in (*twin.trainable_weights, *twin.non_trainable_weights) if "seed_gen" not in v.path]
    assert [path for _, path, _, _ in cell.rows()] == theirs


def test_statistics_move_step_by_step() -> None:
    """In training, BatchNormalization sees one step after the other; in prediction all at once, to the same end."""
    cell, _ = cell_of({"TimeDistributed": {"layer": {"BatchNormalization": {"momentum": 0.5}}}}, (None, 3, 2))
    alone, _ = cell_of({"BatchNormalization": {"momentum": 0.5}}, (None, 2))
    x = torch.from_numpy(normal(1, 4, 3, 2)) + torch.arange(3)[:, None]
    made = cell.train()(x)
    alone.train()
    for t in range(3):
        close(made[:, t], alone(x[:, t]), f"step {t}", 0)
    for (_, path, a, _), (_, _, b, _) in zip(cell.rows(), alone.rows(), strict=True):
        close(a, b, path, 0)


def test_each_step_is_dropped_by_itself() -> None:
    for noise_shape, alike in ((None, False), ([1, None], True)):
        options = {"rate": 0.5, "noise_shape": noise_shape}
        cell, _ = cell_of({"TimeDistributed": {"layer": {"Dropout": options}}}, (None, 3, 50))
        out = cell.train()(torch.ones(4, 3, 50))
        assert not torch.equal(out[:, 0], out[:, 1])
        assert torch.equal(out[0], out[1]) == alike
        assert torch.equal(cell.eval()(torch.ones(4, 3, 50)), torch.ones(4, 3, 50))


def test_a_stateful_layer_goes_on_from_step_to_step() -> None:
    inner = {"LSTM": {"units": 3, "stateful": True}}
    cell, _ = cell_of({"TimeDistributed": {"layer": inner}}, (4, 3, 5, 2))
    alone, _ = cell_of(inner, (4, 5, 2))
    for (_, _, a, _), (_, _, b, _) in zip(cell.rows(), alone.rows(), strict=True):
        b.data.copy_(a)
    x = torch.from_numpy(normal(1, 4, 3, 5, 2))
    out = cell(x)
    for t in range(3):
        close(out[:, t], alone(x[:, t]), f"step {t}", 0)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        ({"Dense": {"units": 3}}, (None, 5), "three axes or more, found"),
        ({"LSTM": {"units": 3}}, (None, 5, 2), r"expected input of shape \(batch, time, features\)"),
        ({"LSTM": {"units": 3, "return_state": True}}, (None, 5, 4, 2), "one tensor, found 3 of LSTM"),
    ],
)
def test_time_distributed_refuses(layer: Any, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"TimeDistributed": {"layer": layer}}).build(Plan(), shape)


def test_time_distributed_refuses_masks_of_another_shape() -> None:
    cell, _ = cell_of({"TimeDistributed": {"layer": {"Dense": {"units": 3}}}}, (None, 5, 2))
    with pytest.raises(RecipeError, match=r"expected a mask of shape \(batch, time"):
        cell(torch.ones(4, 5, 2), mask=torch.ones(4, 6, dtype=torch.bool))


@pytest.mark.parametrize("mode", MODES)
def test_says_what_it_ends_in(mode: str | None) -> None:
    inner = {"SimpleRNN": {"units": 3, "activation": "sigmoid"}}
    layer: Any = Layer.parse({"Bidirectional": {"layer": inner, "merge_mode": mode}})
    assert layer.activation.recipe_name() == ("sigmoid" if mode in ("concat", None) else "linear")
    distributed: Any = Layer.parse({"TimeDistributed": {"layer": {"Dense": {"units": 3, "activation": "softmax"}}}})
    assert distributed.activation.recipe_name() == "softmax"
