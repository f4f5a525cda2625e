"""ReversibleEmbedding against Keras, in both directions: values, gradients, masks, configs, number types."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.configs import hold_config
from tests.parity.double import equal_weights
from tests.parity.harness import cell_of, close, hold_layer, random_weights
from tests.train.recipes import loaded
from trainer.block import problems_of
from trainer.errors import DataError, RecipeError
from trainer.layers.base import Layer
from trainer.layers.embedding import ReversibleEmbedding
from trainer.layers.graph import grown
from trainer.layers.lines import Again
from trainer.layers.plan import Plan
from trainer.layers.wiring import wire
from trainer.model.cell import Cell, Clock
from trainer.model.network import Network
from trainer.runs.keras_config import functional

SEEDS = range(40)


def drawn(seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Options and ids."""
    random = np.random.default_rng([5, seed])
    options: dict[str, Any] = {
        "input_dim": int(random.integers(2, 12)),
        "output_dim": int(random.integers(1, 6)),
        "tie_weights": bool(random.random() < 0.5),
        "mask_zero": bool(random.random() < 0.5),
        "logit_soft_cap": [None, 0.5, 3.0][int(random.integers(3))],
        "trainable": bool(random.random() < 0.85),
    }
    shape = tuple(int(n) for n in random.integers(1, 5, int(random.integers(1, 4))))
    return options, random.integers(0, options["input_dim"], shape)


def pair(options: dict[str, Any], shape: tuple[int | None, ...]) -> tuple[Cell, Any]:
    """A cell of ours and its twin, of equal weights."""
    cell, _ = cell_of({"ReversibleEmbedding": options}, shape)
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    twin.build(shape)
    held(cell.layer, shape, "reverse")
    assert [s.name for s, *_ in cell.rows()] == [v.name for v in twin.weights]
    for (_, _, tensor, _), value, variable in zip(cell.rows(), random_weights(cell), twin.weights, strict=True):
        tensor.data.copy_(torch.from_numpy(value))
        variable.assign(value)
    return cell, twin


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_keras_forward(seed: int) -> None:
    options, ids = drawn(seed)
    # Weights of the way back get no gradient from a call that does not use them.
    hold_layer({"ReversibleEmbedding": {**options, "tie_weights": True}}, ids, training=bool(seed % 2), seed=seed)
    cell, twin = pair(options, (None, *ids.shape[1:]))
    close(cell(torch.from_numpy(ids)), twin(torch.from_numpy(ids)), f"{options}: vectors")


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_keras_in_reverse(seed: int) -> None:
    """Both calls in one pass: gradients of tied weights are sums over them."""
    options, ids = drawn(seed)
    cell, twin = pair(options, (None, *ids.shape[1:]))
    found = []
    for both in (cell, twin):
        vectors = both(torch.from_numpy(ids))
        found.append((vectors, both(torch.tanh(vectors), reverse=True)))
    (_, ours), (_, theirs) = found
    close(ours, theirs, f"{options}: scores")
    assert isinstance(cell.layer, ReversibleEmbedding)
    inferred = cell.layer.build(Plan(), (None, *ids.shape[1:], options["output_dim"]), reverse=True)
    assert inferred[1:] == tuple(theirs.shape[1:])
    if not options["trainable"]:
        assert not ours.requires_grad
        return
    pull = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(ours.shape)).astype("float32"))
    (ours * pull).sum().backward()
    (theirs * pull).sum().backward()
    for (_, path, tensor, _), variable in zip(cell.rows(), twin.trainable_weights, strict=True):
        close(tensor.grad, variable.value.grad, f"{options}: gradient of {path}")


def test_the_draws_reach_every_option() -> None:
    made = [drawn(seed)[0] for seed in SEEDS]
    for name in ("tie_weights", "mask_zero", "logit_soft_cap", "trainable"):
        assert len({options[name] for options in made}) == (3 if name == "logit_soft_cap" else 2)


@pytest.mark.usefixtures("keras_in_double")
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("reverse_dtype", [None, "float64"])
def test_in_double_precision(tied: bool, reverse_dtype: str | None) -> None:
    options = {"input_dim": 9, "output_dim": 4, "tie_weights": tied, "logit_soft_cap": 2.0}
    cell, _ = cell_of({"ReversibleEmbedding": {**options, "reverse_dtype": reverse_dtype}}, (None, 5))
    cell.double()
    twin: Any = keras.layers.deserialize(cell.layer.to_keras())
    twin.build((None, 5))
    equal_weights(cell, twin)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 5, 4)))
    ours, theirs = cell(x, reverse=True), twin(x, reverse=True)
    assert ours.dtype == theirs.dtype == torch.float64
    close(ours, theirs, "scores", 1e-12)


@pytest.mark.parametrize("mask_zero", [True, False])
def test_the_mask(mask_zero: bool) -> None:
    """Ids make one, as in Keras, where it hangs on the tensor; on the way back it ends."""
    options = {"input_dim": 4, "output_dim": 2, "mask_zero": mask_zero}
    cell, twin = pair(options, (None, 3))
    ids = torch.tensor([[1, 0, 2], [0, 0, 3]])
    vectors = twin(ids)
    theirs = getattr(vectors, "_keras_mask", None)
    ours = cell.layer.compute_mask(ids, None)
    assert (ours is None) == (theirs is None) == (not mask_zero)
    if ours is not None:
        close(ours, theirs, "mask")
    assert getattr(twin(vectors, reverse=True), "_keras_mask", None) is None
    assert isinstance(cell.layer, ReversibleEmbedding)
    assert cell.layer.compute_mask(vectors, ours, reverse=True) is None


@pytest.mark.parametrize("dtype", [None, "float32", "mixed_bfloat16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize("reverse_dtype", [None, "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tied", [True, False])
def test_number_types(dtype: str | None, reverse_dtype: str | None, tied: bool) -> None:
    options = {"input_dim": 5, "output_dim": 4, "dtype": dtype, "reverse_dtype": reverse_dtype, "tie_weights": tied}
    cell, twin = pair(options, (None, 3))
    ids = torch.tensor([[1, 0, 2]])
    x = torch.linspace(-1, 1, 24).reshape(2, 3, 4).to(cell(ids).dtype)
    ours, theirs = cell(x, reverse=True), twin(x, reverse=True)
    assert cell(ids).dtype == twin(ids).dtype
    assert ours.dtype == theirs.dtype
    coarse = "16" in str(theirs.dtype)
    close(ours.detach().float(), theirs.detach().float(), f"{options}: scores", 1e-2 if coarse else 1e-5)
    assert [t.dtype for _, _, t, _ in cell.rows()] == [v.value.dtype for v in twin.weights]


def test_scores_of_another_type_reach_layers_that_cast_them() -> None:
    """The next layer computes in its own type, as in Keras."""
    lines = [
        Layer.parse({"ReversibleEmbedding": {"name": "embed", "input_dim": 5, "output_dim": 4,
                                             "reverse_dtype": "bfloat16"}}),
        Again.read({"layer": "embed", "call": {"reverse": True}}),
        Layer.parse({"Dense": {"units": 3}}),
    ]  # fmt: skip
    graph = grown(wire(lines, ["x"]), {"x": (None, 3)})
    network = Network(graph)
    assert network.run(torch.tensor([[1, 0, 2]])).output.dtype == torch.float32
    model: Any = keras.Model.from_config(functional(graph))
    assert model(np.array([[1, 0, 2]])).dtype == torch.float32


CONFIGS = [
    {"ReversibleEmbedding": {"input_dim": 9, "output_dim": 4}},
    {
        "ReversibleEmbedding": {
            "input_dim": 9,
            "output_dim": 4,
            "tie_weights": False,
            "embeddings_initializer": {"RandomNormal": {"stddev": 0.1}},
            "embeddings_regularizer": {"L2": {"l2": 0.1}},
            "activity_regularizer": {"L1": {"l1": 0.5}},
            "embeddings_constraint": "NonNeg",
            "mask_zero": True,
            "reverse_dtype": "float32",
            "logit_soft_cap": 30,
            "trainable": False,
            "name": "words",
        }
    },
]


@pytest.mark.parametrize("spec", CONFIGS, ids=str)
def test_config(spec: Any) -> None:
    hold_config(spec, "quantization_config")


def test_what_acts_on_the_weights() -> None:
    """Those of the way back begin as the table does; Keras neither penalizes nor projects them."""
    plan = Plan()
    Layer.parse(CONFIGS[1]).build(plan, (None, 7))
    table, back = plan.weights
    assert (table.shape, back.shape) == ((9, 4), (4, 9))
    assert table.initializer == back.initializer
    assert table.regularizer is not None
    assert table.constraint is not None
    assert (back.regularizer, back.constraint) == (None, None)
    twin: Any = keras.layers.deserialize(Layer.parse(CONFIGS[1]).to_keras())
    twin.build((None, 7))
    assert [(v.name, v.regularizer is None, v.constraint is None) for v in twin.weights] == [
        ("embeddings", False, False),
        ("reverse_embeddings", True, True),
    ]


def test_first_values_are_keras_s_uniform() -> None:
    layer = Layer.parse({"ReversibleEmbedding": {"input_dim": 300, "output_dim": 40, "tie_weights": False}})
    plan = Plan()
    layer.build(plan, (None, 7))
    for _, _, tensor, _ in Cell(layer, plan, "layer", Clock(0)).rows():
        assert float(tensor.detach().abs().max()) <= 0.05
        assert abs(float(tensor.detach().std()) - 0.1 / 12**0.5) < 3e-4


RECIPE = """
name: again
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}]}}
  targets: {token: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}
  limit: 64
model:
  layers:
    - ReversibleEmbedding: {name: embed, input_dim: 17, output_dim: 4}
    - Dense: {name: body, units: 4}
    - LINE
compile: {optimizer: adam, loss: {SparseCategoricalCrossentropy: {from_logits: true}}}
fit: {epochs: 1}
"""


@pytest.mark.parametrize(
    ("line", "column", "message", "hint"),
    [
        ("embed: {revers: true}", 15, 'a call of embed has no option "revers"', "did you mean reverse?"),
        ("embed: {reverse: 1}", 24, "expected true or false, found 1", ""),
        ("body: {reverse: true}", 14, "body is called again with the options that it has", "remove it"),
    ],
)
def test_what_a_call_can_not_say(line: str, column: int, message: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(RECIPE.replace("LINE", line))
    problem = next(p for p in caught.value.problems if message in p.message)
    assert hint in problem.hint
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (12, column)


def test_vectors_of_another_size() -> None:
    with pytest.raises(RecipeError, match="embed: in reverse it reads vectors of output_dim, 4; found 5") as caught:
        loaded(RECIPE.replace("LINE", "embed: {reverse: true}").replace("units: 4", "units: 5"))
    assert caught.value.problems[0].path == ("model", "layers", 2, "embed")


@pytest.mark.parametrize("line", ["embed: {reverse: true}", "layer: embed\n      call: {reverse: true}"])
def test_both_spellings_mean_the_same(line: str) -> None:
    graph = loaded(RECIPE.replace("LINE", line)).outline.graph
    assert graph is not None
    assert graph.output_shape == (None, 64, 17)
    assert [call.options for call in graph.calls] == [{}, {}, {"reverse": True}]


def test_a_call_that_says_the_default_is_one_without() -> None:
    text = RECIPE.replace("LINE", "embed: {inputs: image, reverse: false, name: other}\n    - Dense: {units: 17}")
    text = text.replace("    - Dense: {units: 17}", "    - Add: {inputs: [body, other]}\n    - Dense: {units: 17}")
    graph = loaded(text).outline.graph
    assert graph is not None
    assert [call.options for call in graph.calls] == [{}] * 5


@pytest.mark.parametrize(("ids", "number"), [([[0, 9]], 10), ([[4, 6]], 7)])
def test_ids_beyond_the_table(ids: list[list[int]], number: int) -> None:
    cell, _ = cell_of({"ReversibleEmbedding": {"input_dim": 4, "output_dim": 3}}, (None, 2))
    with pytest.raises(DataError, match=r"ReversibleEmbedding\.input_dim is 4") as caught:
        cell(torch.tensor(ids))
    assert f"input_dim: {number}" in caught.value.problems[0].hint


@pytest.mark.parametrize(
    ("option", "value"),
    [("logit_soft_cap", 0), ("logit_soft_cap", -2), ("reverse_dtype", "mixed_bfloat16"), ("tie_weights", "yes")],
)
def test_refuses_options(option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"ReversibleEmbedding": {"input_dim": 4, "output_dim": 2, option: value}})
    assert problems_of(caught.value)[0].path == ("ReversibleEmbedding", option)
