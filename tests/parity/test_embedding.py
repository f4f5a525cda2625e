"""Embedding and Masking against Keras: values, gradients, masks, configs, ids out of range."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.drawing import named
from tests.parity.harness import cell_of, close, hold_layer
from trainer.errors import DataError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.layers.plan import Plan
from trainer.model.network import Network

EMBEDDINGS = range(70)
MASKINGS = range(60)
TYPES = ["int32", "int64", "int16", "uint8", "float32"]


def drawn_embedding(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    random = np.random.default_rng([1, seed])
    options = {
        "input_dim": int(random.integers(1, 12)),
        "output_dim": int(random.integers(1, 6)),
        "mask_zero": bool(random.random() < 0.5),
        "trainable": bool(random.random() < 0.85),
    }
    rank = int(random.integers(1, 4))
    shape = tuple(int(n) for n in random.integers(1, 6, rank))
    ids = random.integers(0, options["input_dim"], shape).astype(str(random.choice(TYPES)))
    if ids.ndim == 2 and seed % 3 == 0:
        ids[-1] = 0
    return options, ids


def same_numbers(options: dict[str, Any], ids: np.ndarray) -> None:
    """`hold_layer` for floats asks for a gradient of the input, which ids have none of."""
    spec = {"Embedding": options}
    cell, _ = cell_of(spec, (None, *ids.shape[1:]))
    expected = named(cell)["embeddings"].detach().numpy()[ids.astype(int)]
    close(cell(torch.from_numpy(ids)), expected, f"{spec}: float ids", 0)


@pytest.mark.parametrize("seed", EMBEDDINGS)
def test_embedding_equals_keras(seed: int) -> None:
    options, ids = drawn_embedding(seed)
    mask = np.ones(ids.shape, bool) if seed % 2 else None
    if ids.dtype.kind == "f":
        same_numbers(options, ids)
        ids = ids.astype("int64")
    hold_layer({"Embedding": options}, ids, mask=mask, training=bool(seed % 2), seed=seed)


@pytest.mark.parametrize("mask_zero", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("given", [True, False])
def test_embedding_s_mask(mask_zero: bool, dtype: str, given: bool) -> None:
    """Padding at the start, the middle, the end, and a row of nothing else; a mask that arrives does not matter."""
    ids = np.array([[0, 3, 1, 2], [1, 0, 2, 3], [1, 2, 0, 0], [0, 0, 0, 0], [3, 2, 1, 3]], dtype)
    layer = Layer.parse({"Embedding": {"input_dim": 4, "output_dim": 2, "mask_zero": mask_zero}})
    twin = keras.layers.deserialize(layer.to_keras())
    arriving = torch.ones(5, 4, dtype=torch.bool) if given else None
    ours = layer.compute_mask(torch.from_numpy(ids), arriving)
    theirs = twin.compute_mask(torch.from_numpy(ids), arriving)
    if not mask_zero:
        assert ours is None
        assert theirs is None
        return
    close(ours, theirs, "mask")
    assert ours.sum(1).tolist() == [3, 3, 2, 0, 4]


def test_repeated_ids_add_their_gradients() -> None:
    ids = np.array([[2, 2, 2, 1], [2, 0, 0, 1]])
    hold_layer({"Embedding": {"input_dim": 4, "output_dim": 3}}, ids)
    cell, _ = cell_of({"Embedding": {"input_dim": 4, "output_dim": 3, "mask_zero": True}}, (None, 4))
    cell(torch.from_numpy(ids)).sum().backward()
    gradient = named(cell)["embeddings"].grad
    assert gradient is not None
    assert gradient[:, 0].tolist() == [2, 2, 4, 0]


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([[0, 1], [2, 7]], r"expected ids from 0 to 3 .*found 7 in row 1 of the batch, position 1"),
        ([[0, -1], [2, 1]], r"found -1 in row 0 of the batch, position 1"),
        ([[0, 1], [4, 1]], r"found 4 in row 1 of the batch, position 0"),
    ],
)
def test_ids_beyond_the_vocabulary(ids: list[list[int]], words: str) -> None:
    cell, _ = cell_of({"Embedding": {"input_dim": 4, "output_dim": 3}}, (None, 2))
    with pytest.raises(DataError, match=words) as caught:
        cell(torch.tensor(ids))
    assert caught.value.problems[0].hint


def drawn_masking(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    random = np.random.default_rng([2, seed])
    value = float(random.choice([0.0, 0.0, -1.0, 0.5, 0.1]))
    rank = int(random.integers(2, 5))
    shape = (int(random.integers(2, 6)), *(int(n) for n in random.integers(2, 6, rank - 1)))
    x = random.normal(size=shape).astype("float32")
    x[random.random(shape[:-1]) < 0.4] = value
    x[random.random(shape) < 0.2] = value
    if rank > 2:
        x[-1] = value
        x[0, 0] = value
        x[0, 1] = 2
    return {"mask_value": value}, x


@pytest.mark.parametrize("seed", MASKINGS)
def test_masking_equals_keras(seed: int) -> None:
    options, x = drawn_masking(seed)
    hold_layer({"Masking": options}, x, mask=np.ones(x.shape[:-1], bool), training=bool(seed % 2), seed=seed)


def test_the_draws_mask_something_and_not_all() -> None:
    for seed in MASKINGS:
        options, x = drawn_masking(seed)
        if x.ndim == 3:
            seen = (x != np.float32(options["mask_value"])).any(-1)
            assert seen.any()
            assert not seen.all()
            assert not seen[-1].any()
    assert {drawn_masking(seed)[0]["mask_value"] for seed in MASKINGS} == {0.0, -1.0, 0.5, 0.1}
    assert {drawn_masking(seed)[1].ndim for seed in MASKINGS} == {2, 3, 4}


FOLLOWERS: list[tuple[Any, bool]] = [
    ("Identity", True),
    ("LayerNormalization", True),
    ("BatchNormalization", True),
    ({"Dropout": {"rate": 0.5}}, True),
    ({"Dense": {"units": 3}}, True),
    ({"Activation": {"activation": "relu"}}, True),
    ({"LSTM": {"units": 3, "return_sequences": True}}, True),
    ({"GRU": {"units": 3}}, False),
    ("Flatten", False),
    ({"Conv1D": {"filters": 2, "kernel_size": 1}}, False),
]


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize(("spec", "goes_on"), FOLLOWERS, ids=str)
@pytest.mark.parametrize("maker", ["Embedding", "Masking"])
def test_the_mask_goes_on_where_keras_lets_it(spec: Any, goes_on: bool, maker: str) -> None:
    random = np.random.default_rng(1)
    first = {"Embedding": {"input_dim": 5, "output_dim": 2, "mask_zero": True}} if maker == "Embedding" else maker
    ids = random.integers(0, 5, (4, 6))
    x = ids if maker == "Embedding" else random.normal(size=(4, 6, 2)).astype("float32") * (ids > 0)[..., None]
    layers = [Layer.parse(first), Layer.parse(spec)]
    network = Network(chain(layers, {"x": (None, *x.shape[1:])})).eval()
    given = torch.from_numpy(x.astype("float32") if maker == "Masking" else x)
    mask = network.run(given).masks[0]
    twins = [keras.layers.deserialize(layer.to_keras()) for layer in layers]
    out = twins[1](twins[0](given))
    theirs = getattr(out, "_keras_mask", None)
    assert (mask is not None) == (theirs is not None) == goes_on
    if mask is not None:
        close(mask, theirs, "mask")
        close(mask, ids > 0, "mask")


CONFIGS = [
    {"Embedding": {"input_dim": 9, "output_dim": 4}},
    {
        "Embedding": {
            "input_dim": 9,
            "output_dim": 4,
            "embeddings_initializer": {"RandomNormal": {"stddev": 0.1}},
            "embeddings_regularizer": {"L2": {"l2": 0.1}},
            "activity_regularizer": {"L1": {"l1": 0.5}},
            "embeddings_constraint": "NonNeg",
            "mask_zero": True,
            "trainable": False,
            "name": "words",
        }
    },
    "Masking",
    {"Masking": {"mask_value": -1, "name": "skip"}},
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec, "quantization_config")


def test_the_table_carries_what_acts_on_it() -> None:
    plan = Plan()
    assert Layer.parse(CONFIGS[1]).build(plan, (None, 7)) == (None, 7, 4)
    (table,) = plan.weights
    assert (table.name, table.shape) == ("embeddings", (9, 4))
    found = [type(v).__name__ for v in (table.initializer, table.regularizer, table.constraint)]
    assert found == ["RandomNormal", "L2", "NonNeg"]


def test_the_first_table_is_keras_s_uniform() -> None:
    cell, _ = cell_of({"Embedding": {"input_dim": 400, "output_dim": 50}}, (None, 7))
    values = named(cell)["embeddings"].detach().numpy()
    assert abs(values).max() <= 0.05
    assert abs(values.std() - 0.1 / 12**0.5) < 3e-4


@pytest.mark.parametrize("shape", [(None,), ()])
def test_masking_needs_features(shape: tuple[None, ...]) -> None:
    with pytest.raises(ValueError, match="features axis"):
        Layer.parse("Masking").build(Plan(), shape)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("Embedding", "input_dim", 0),
        ("Embedding", "output_dim", 2.5),
        ("Embedding", "mask_zero", 1),
        ("Masking", "mask_value", "zero"),
        ("Masking", "mask_value", None),
    ],
)
def test_refuses_options(name: str, option: str, value: Any) -> None:
    needed = {"input_dim": 4, "output_dim": 2} if name == "Embedding" else {}
    with pytest.raises(ValidationError) as caught:
        Layer.parse({name: {**needed, option: value}})
    assert caught.value.errors()[0]["loc"] == (name, option)
