"""Models that are no chain beside real Keras: forward, whole fits, and files that Keras opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.fitting import hold_history, model_weights, ours, twin
from tests.parity.harness import close
from tests.runs.test_keras_opens import MODELS, SEVERAL_INPUTS
from tests.train.recipes import directory_of, loaded, trained
from trainer.train.job import Options
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEAD = """
name: graph
seed: 5
dataset:
  source: digits
  inputs: {inputs}
  targets: {targets}
  limit: 96
model:
"""
IMAGE = "{image: {preprocess: [{Reshape: {target_shape: [8, 8, 1]}}, {Rescaling: {scale: 1/16}}]}}"
TWO = (
    "{left: {field: image, preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}, "
    "right: {field: image, preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/8}}]}}"
)
ROWS = "{image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}"
STEPS = "{image: {preprocess: [{Rescaling: {scale: 1/16}}]}}"
TOKENS = "{image: {preprocess: [{Reshape: {target_shape: [64]}}]}}"
SAME_TOKENS = "{token: {field: image, preprocess: [{Reshape: {target_shape: [64]}}]}}"
ONE = "{label: {}}"
PAIR = "{kind: {field: label}, size: {field: label, preprocess: [{Rescaling: {scale: 1/9}}]}}"
SPARSE = "compile: {optimizer: adam, loss: sparse_categorical_crossentropy, metrics: [accuracy]}"
SCORED = (
    "compile: {optimizer: adam, loss: {SparseCategoricalCrossentropy: {from_logits: true}}, "
    "metrics: [sparse_categorical_accuracy]}"
)
FIT = "fit: {epochs: 2, batch_size: 16, shuffle: false, validation_split: 0.25}"

GRAPHS = {
    "residual": (
        IMAGE,
        ONE,
        """
  layers:
    - Conv2D: {filters: 4, kernel_size: 3, padding: same, activation: relu, name: stem}
    - Conv2D: {filters: 4, kernel_size: 3, padding: same, use_bias: false}
    - BatchNormalization
    - Add: {inputs: [stem, batch_normalization]}
    - ReLU
    - GlobalAveragePooling2D
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "inception": (
        IMAGE,
        ONE,
        """
  layers:
    - Conv2D: {name: one, inputs: image, filters: 3, kernel_size: 1, activation: relu}
    - Conv2D: {name: reduced, inputs: image, filters: 2, kernel_size: 1, activation: relu}
    - Conv2D: {name: three, filters: 4, kernel_size: 3, padding: same, activation: relu}
    - MaxPooling2D: {name: pooled, inputs: image, pool_size: 3, strides: 1, padding: same}
    - Conv2D: {name: after_pool, filters: 2, kernel_size: 1, activation: relu}
    - Concatenate: {name: mixed, inputs: [one, three, after_pool]}
    - Flatten
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "two inputs, two outputs": (
        TWO,
        PAIR,
        """
  layers:
    - Dense: {name: a, inputs: left, units: 8, activation: relu}
    - Dense: {name: b, inputs: right, units: 6, activation: tanh, kernel_regularizer: {L2: {l2: 0.01}}}
    - Concatenate: {name: both, inputs: [a, b]}
    - Dense: {name: kind, units: 10, activation: softmax}
    - Dense: {name: size, inputs: both, units: 1}
  outputs: [kind, size]
""",
        "compile: {optimizer: rmsprop, loss: {kind: sparse_categorical_crossentropy, size: mse}, "
        "loss_weights: {kind: 1.0, size: 0.25}, metrics: {kind: [accuracy], size: [mae, mse]}, "
        "weighted_metrics: {kind: [accuracy]}}",
    ),
    "outputs in the middle": (
        ROWS,
        "{first: {field: label}, kind: {field: label}}",
        """
  layers:
    - Dense: {name: body, units: 16, activation: relu}
    - Dense: {name: first, units: 10, activation: softmax}
    - Concatenate: {inputs: [body, first]}
    - Dense: {name: kind, units: 10}
  outputs: [kind, first]
""",
        "compile: {optimizer: adam, loss: {first: sparse_categorical_crossentropy, "
        "kind: {SparseCategoricalCrossentropy: {from_logits: true}}}, metrics: {kind: accuracy}}",
    ),
    "one loss for all outputs": (
        ROWS,
        "{first: {field: label}, second: {field: label}}",
        """
  layers:
    - Dense: {name: body, units: 16, activation: relu}
    - Dense: {name: first, units: 10, activation: softmax}
    - Dense: {name: second, inputs: body, units: 10, activation: softmax}
  outputs: [first, second]
""",
        "compile: {optimizer: sgd, loss: sparse_categorical_crossentropy}",
    ),
    "a layer called again": (
        TWO,
        ONE,
        """
  layers:
    - Dense: {name: eye, inputs: left, units: 8, activation: relu}
    - eye: {name: seen_right, inputs: right}
    - Subtract: {inputs: [eye, seen_right]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "called again and again": (
        ROWS,
        ONE,
        """
  layers:
    - Dense: {name: step, units: 64, activation: tanh}
    - step
    - step
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "a model inside, shared": (
        TWO,
        ONE,
        """
  layers:
    - Sequential:
        name: tower
        inputs: left
        layers: [{Dense: {units: 12, use_bias: false}}, BatchNormalization, ReLU, {Dense: {units: 6}}]
    - tower: {name: other, inputs: right}
    - Concatenate: {inputs: [tower, other]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "a graph inside, two in and two out": (
        TWO,
        "{kind: {field: label}, size: {field: label, preprocess: [{Rescaling: {scale: 1/9}}]}}",
        """
  layers:
    - Model:
        name: both
        inputs: {x: left, y: right}
        layers:
          - Dense: {name: a, inputs: x, units: 8, activation: relu}
          - Dense: {name: b, inputs: y, units: 8, activation: relu}
          - Add: {name: sum, inputs: [a, b]}
          - Multiply: {name: product, inputs: [a, b]}
        outputs: [sum, product]
    - Dense: {name: kind, inputs: both/sum, units: 10, activation: softmax}
    - Dense: {name: size, inputs: both/1, units: 1}
  outputs: [kind, size]
""",
        "compile: {optimizer: adam, loss: {kind: sparse_categorical_crossentropy, size: mae}}",
    ),
    "a model in a model in a model": (
        ROWS,
        ONE,
        """
  layers:
    - Model:
        layers:
          - Dense: {name: wide, units: 12, activation: relu}
          - Sequential: {layers: [{Dense: {units: 12}}, LayerNormalization]}
          - Add: {inputs: [wide, sequential]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "states handed on": (
        STEPS,
        ONE,
        """
  layers:
    - LSTM: {name: reader, units: 5, return_state: true}
    - LSTM: {name: writer, inputs: [image, reader/1, reader/2], units: 5}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "states by name, several ways": (
        STEPS,
        ONE,
        """
  layers:
    - GRU: {name: reader, units: 5, return_sequences: true, return_state: true}
    - GRU: {name: writer, inputs: {sequences: reader/0, initial_state: reader/1}, units: 5}
    - Bidirectional: {name: around, inputs: reader/0, layer: {LSTM: {units: 3}}}
    - Concatenate: {inputs: [writer, around]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "attention": (
        STEPS,
        ONE,
        """
  layers:
    - Dense: {name: words, units: 8}
    - MultiHeadAttention: {name: heads, inputs: {query: words, value: words}, num_heads: 2, key_dim: 4, use_bias: false}
    - Add: {inputs: [words, heads]}
    - LayerNormalization: {name: normal}
    - Attention: {name: looked, inputs: {query: normal, value: words, key: normal}}
    - GlobalAveragePooling1D
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "masks through merges": (
        "{image: {preprocess: [{Reshape: {target_shape: [64]}}]}}",
        ONE,
        """
  layers:
    - Embedding: {name: a, input_dim: 17, output_dim: 4, mask_zero: true}
    - Embedding: {name: b, inputs: image, input_dim: 17, output_dim: 4, mask_zero: true}
    - Add: {inputs: [a, b]}
    - GlobalAveragePooling1D
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "layers named before they stand there": (
        ROWS,
        ONE,
        """
  layers:
    - Dense: {name: end, inputs: merged, units: 10, activation: softmax}
    - Dense: {name: a, inputs: image, units: 8}
    - Dense: {name: b, inputs: image, units: 8}
    - Add: {name: merged, inputs: [a, b]}
  outputs: end
""",
        SPARSE,
    ),
    "a graph inside makes an output": (
        ROWS,
        "{early: {field: label}, whole: {field: label}}",
        """
  layers:
    - Model:
        name: early
        layers:
          - Dense: {name: wide, units: 12, activation: relu}
          - Dense: {name: top, units: 10, activation: softmax}
    - Dense: {name: whole, units: 10, activation: softmax}
  outputs: [whole, early]
""",
        "compile: {optimizer: sgd, loss: sparse_categorical_crossentropy}",
    ),
    "an embedding called in reverse": (
        TOKENS,
        SAME_TOKENS,
        """
  layers:
    - ReversibleEmbedding: {name: embed, input_dim: 17, output_dim: 6, mask_zero: true}
    - Dense: {units: 6, activation: tanh}
    - embed: {reverse: true}
""",
        SCORED,
    ),
    "in reverse by weights of its own": (
        TOKENS,
        SAME_TOKENS,
        """
  layers:
    - ReversibleEmbedding:
        name: embed
        input_dim: 17
        output_dim: 6
        tie_weights: false
        logit_soft_cap: 1.5
        embeddings_initializer: {RandomNormal: {stddev: 0.5}}
        embeddings_regularizer: {L2: {l2: 0.01}}
        embeddings_constraint: {MaxNorm: {max_value: 1}}
        activity_regularizer: {L2: {l2: 0.001}}
    - LSTM: {units: 6, return_sequences: true}
    - embed: {name: scores, reverse: true}
    - Dense: {units: 17}
""",
        SCORED,
    ),
    "in reverse inside a model": (
        TOKENS,
        SAME_TOKENS,
        """
  layers:
    - Model:
        layers:
          - ReversibleEmbedding: {name: embed, input_dim: 17, output_dim: 6}
          - Dense: {units: 6, activation: tanh}
          - embed: {reverse: true}
    - Softmax
""",
        "compile: {optimizer: adam, loss: sparse_categorical_crossentropy}",
    ),
    "merges of every kind": (
        TWO,
        ONE,
        """
  layers:
    - Dense: {name: a, inputs: left, units: 6}
    - Dense: {name: b, inputs: right, units: 6}
    - Average: {name: mean, inputs: [a, b]}
    - Maximum: {name: most, inputs: [a, mean]}
    - Minimum: {name: least, inputs: [b, mean]}
    - Dot: {name: angle, inputs: [a, b], axes: 1, normalize: true}
    - Concatenate: {inputs: [mean, most, least, angle]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "attention of other kinds": (
        STEPS,
        ONE,
        """
  layers:
    - Dense: {name: words, units: 8}
    - AdditiveAttention: {name: added, inputs: {query: words, value: words}}
    - GroupQueryAttention:
        name: grouped
        inputs: {query: words, value: words}
        head_dim: 3
        num_query_heads: 4
        num_key_value_heads: 2
        use_bias: false
    - Add: {inputs: [words, added, grouped]}
    - GlobalAveragePooling1D
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "inputs among the layers": (
        TWO,
        ONE,
        """
  layers:
    - Input: {name: left, shape: [64]}
    - Dense: {name: a, units: 8, activation: relu}
    - Input: {name: right, batch_shape: [16, 64], dtype: float32}
    - Dense: {name: b, units: 8, activation: relu}
    - Concatenate: {inputs: [a, b]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "inputs inside models": (
        ROWS,
        ONE,
        """
  layers:
    - InputLayer: {name: pixels, shape: 64, batch_size: 16}
    - Sequential: {name: a, layers: [{Input: {shape: [64]}}, {Dense: {units: 6, activation: relu}}]}
    - Model:
        name: b
        inputs: {x: pixels, y: a}
        layers: [{Input: {name: x, shape: [64]}}, {Dense: {name: d, units: 6}}, {Add: {inputs: [d, y]}}]
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
    "frozen parts": (
        TWO,
        ONE,
        """
  layers:
    - Sequential:
        name: tower
        trainable: false
        inputs: left
        layers: [{Dense: {units: 12, activation: relu}}, BatchNormalization]
    - BatchNormalization: {name: still, trainable: false, inputs: right}
    - Concatenate: {inputs: [tower, still]}
    - Dense: {units: 10, activation: softmax}
""",
        SPARSE,
    ),
}


def recipe(name: str) -> str:
    inputs, targets, model, compiled = GRAPHS[name]
    head = HEAD.replace("{inputs}", inputs).replace("{targets}", targets)
    return f"{head.rstrip()}{model}{compiled}\n{FIT}\n"


@pytest.mark.parametrize("name", GRAPHS)
def test_a_whole_fit_is_that_of_keras(name: str) -> None:
    hold_history(loaded(recipe(name)))


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_are_those_of_keras(name: str) -> None:
    built, training = ours(loaded(recipe(name)))
    model = twin(built)
    batch = next(training.train.batches(16))
    made = built.network.train().run(*batch.xs)
    theirs = model(list(batch.xs) if len(batch.xs) > 1 else batch.xs[0], training=True)
    theirs = theirs if isinstance(theirs, (list, tuple)) else [theirs]
    random = torch.Generator().manual_seed(0)
    ups = [torch.randn(out.shape, generator=random) for out in made.outputs]
    for mine, there in zip(made.outputs, theirs, strict=True):
        close(mine, there, "outputs")
    sum((out * up).sum() for out, up in zip(made.outputs, ups, strict=True)).backward()
    there = torch.autograd.grad(
        sum((out * up).sum() for out, up in zip(theirs, ups, strict=True)),
        [v.value for v in model.trainable_weights],
        allow_unused=True,
    )
    mine = [t.grad for _, _, t, moves in built.network.rows() if moves]
    assert len(mine) == len(there) > 0
    scale = max(float(g.abs().max()) for g in there if g is not None)
    for a, b in zip(mine, there, strict=True):
        if b is not None:
            assert a is not None
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-5 * scale)


@pytest.mark.parametrize("name", GRAPHS)
def test_keras_opens_the_model_file(name: str, tmp_path: Path) -> None:
    outcome = trained(tmp_path, recipe(name), "fit.epochs=1")
    path = directory_of(outcome).path / "model.h5"
    model: Any = keras.models.load_model(path)
    run = OpenRun(directory_of(outcome), Options(device="cpu"))
    columns = run.built.columns(run.sets.train)
    slots = run.built.slots(columns)
    x = [slot.rows(slice(None)).numpy() for slot in slots]
    theirs = model.predict(x if len(x) > 1 else x[0], verbose=0)
    for mine, there in zip(
        run.predict(columns).values(), theirs if isinstance(theirs, list) else [theirs], strict=True
    ):
        close(mine, there, "predictions")
    assert [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)] == list(
        run.built.graph.layers
    )
    ours_of = [tensor.detach().numpy() for _, _, tensor, _ in run.built.network.rows()]
    for a, b in zip(ours_of, model_weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    y = [slot.rows(slice(None)).numpy() for slot in run.built.feed(run.sets.train).ys]
    before = [w.copy() for w in model_weights(model)]
    model.fit(x if len(x) > 1 else x[0], y if len(y) > 1 else y[0], epochs=1, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model_weights(model), strict=True))


def test_the_zoo_s_other_layers_stand_in_graphs() -> None:
    """Those that tests/runs/test_keras_opens.py can't put into a chain."""
    written = "".join(model for _, _, model, _ in GRAPHS.values())
    assert [name for name in sorted(SEVERAL_INPUTS | MODELS) if f"- {name}:" not in written] == []
