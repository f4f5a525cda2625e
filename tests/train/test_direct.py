"""The engine without autograd: the same history and weights as autograd's, and when it steps aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.train.recipes import directory_of, loaded
from trainer.cli.app import app
from trainer.errors import DataError, RecipeError
from trainer.layers.bags import Bags
from trainer.train import direct
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.loop import Training

HEAD = """
name: steps
seed: 4
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]}}
  split: {test: {last: 300}}
  limit: 700
"""
TAIL = """
compile: {optimizer: {OPTIMIZER}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 3, batch_size: 33, validation_split: 0.25}
"""
DENSE = "- Dense: {units: 24, activation: relu}\n    - Dense: {units: 10, activation: softmax}"
MODELS = {
    "dense": DENSE,
    "penalties": "- Dense: {units: 24, activation: tanh, kernel_regularizer: {L2: {l2: 0.01}}, bias_regularizer: l1}\n"
    "    - Dense: {units: 10, activation: softmax, kernel_regularizer: {L1L2: {l1: 0.01, l2: 0.02}}}",
    "constrained": "- Dense: {units: 24, activation: relu, kernel_constraint: {MaxNorm: {max_value: 1}}}\n"
    "    - Dense: {units: 10, activation: softmax}",
    "dropout": "- Dense: {units: 24, activation: sigmoid}\n    - Dropout: {rate: 0.3}\n    - Dense: {units: 10, "
    "activation: softmax}",
    "frozen": "- Dense: {units: 24, activation: relu, trainable: false}\n    - Dense: {units: 10, activation: softmax}",
    "an island": "- Dense: {units: 24, activation: relu}\n    - SpectralNormalization: {layer: {Dense: {units: 12}}}\n"
    "    - Dense: {units: 10, activation: softmax}",
    "called twice": "- Dense: {name: again, units: 64, activation: relu}\n    - again\n"
    "    - Dense: {units: 10, activation: softmax}",
    "one read by two": "- Dense: {name: a, units: 16, activation: relu}\n    - Dense: {name: b, units: 16, inputs: a}\n"
    "    - Add: {inputs: [a, b]}\n    - Dense: {units: 10, activation: softmax}",
    "a last layer read again": "- Dense: {name: p, units: 10, activation: softmax}\n"
    "    - Dense: {name: q, units: 10, activation: softmax}\n  outputs: [q]",
}


def recipe(model: str = DENSE, optimizer: str = "adam") -> str:
    return HEAD + f"model:\n  layers:\n    {model}\n" + TAIL.replace("{OPTIMIZER}", optimizer)


def run(tmp_path: Path, text: str, engine: str, **more: Any) -> Outcome:
    options = Options(runs=tmp_path, device="cpu", engine=engine, **more)
    return fit(loaded(text), options, text.encode(), None)


def record(outcome: Outcome) -> dict[str, Any]:
    return json.loads((outcome.directory / "run.json").read_text())


def weights(outcome: Outcome) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    with h5py.File(outcome.directory / "model.h5") as file:
        file["model_weights"].visititems(lambda _, item: found.append(item[()]) if hasattr(item, "dtype") else None)
    return found


def hold_equal(tmp_path: Path, text: str, by_hand: bool = True) -> None:
    plain, auto = (run(tmp_path, text, engine) for engine in ("plain", "auto"))
    assert record(plain)["steps_by"].startswith("autograd, since it was asked for")
    assert (record(auto)["steps_by"] == "operations in a row") == by_hand
    hold_alike(plain, auto)


def hold_alike(one: Outcome, other: Outcome) -> None:
    """Two runs have the same history and weights, but for rounding."""
    assert list(one.history) == list(other.history)
    for name, values in one.history.items():
        np.testing.assert_allclose(other.history[name], values, rtol=1e-5, err_msg=name)
    for ours, theirs in zip(weights(other), weights(one), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_models_train_as_by_autograd(tmp_path: Path, model: str) -> None:
    hold_equal(tmp_path, recipe(MODELS[model]))


OPTIMIZERS = [
    "{SGD: {momentum: 0.9, nesterov: true, clipnorm: 0.5}}",
    "{RMSprop: {clipvalue: 0.01}}",
    "{Adam: {global_clipnorm: 0.1, use_ema: true}}",
    "{AdamW: {gradient_accumulation_steps: 3}}",
    "{Muon: {learning_rate: 0.01}}",
    "{Lamb: {learning_rate: {CosineDecay: {initial_learning_rate: 0.01, decay_steps: 40}}}}",
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_move_as_by_autograd(tmp_path: Path, optimizer: str) -> None:
    hold_equal(tmp_path, recipe(optimizer=optimizer))


LOSSES = {
    "mse": "Dense: {units: 1}",
    "mae": "Dense: {units: 1}",
    "{Huber: {delta: 2}}": "Dense: {units: 1}",
    "log_cosh": "Dense: {units: 1}",
    "{MeanSquaredError: {reduction: sum}}": "Dense: {units: 1}",
    "{SparseCategoricalCrossentropy: {from_logits: true}}": "Dense: {units: 10}",
    "{SparseCategoricalCrossentropy: {ignore_class: 3}}": "Dense: {units: 10, activation: softmax}",
}


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_go_back_as_by_autograd(tmp_path: Path, loss: str) -> None:
    text = recipe(f"- Dense: {{units: 24, activation: relu}}\n    - {LOSSES[loss]}")
    text = text.replace("loss: sparse_categorical_crossentropy, metrics: [accuracy]", f"loss: {loss}, metrics: []")
    hold_equal(tmp_path, text)


def test_class_weights(tmp_path: Path) -> None:
    weighed = recipe().replace("validation_split", "class_weight: {0: 1, 1: 5, 2: 0.5}, validation_split")
    hold_equal(tmp_path, weighed)


TWO = """
name: two
seed: 2
dataset:
  source: {csv: {path: rows.csv}}
  inputs: {x: {columns: [a, b]}}
  targets: {sum: {field: c}, sign: {field: d}}
model:
  inputs: {x: [2]}
  layers:
    - Dense: {name: body, units: 8, activation: relu}
    - Dense: {name: sum, units: 1, inputs: body}
    - Dense: {name: sign, units: 1, activation: sigmoid, inputs: body}
  outputs: [sum, sign]
compile:
  optimizer: adam
  loss: {sum: mse, sign: binary_crossentropy}
  loss_weights: {sum: 0.25, sign: 1}
  metrics: {sign: [accuracy]}
fit: {epochs: 3, batch_size: 16}
"""


def test_two_outputs(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 2)).round(3)
    lines = [f"{a},{b},{a + b:.3f},{int(a * b > 0)}" for a, b in rows]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a,b,c,d", *lines]) + "\n")
    hold_equal(tmp_path, TWO.replace("rows.csv", str(path)))


@pytest.mark.parametrize(
    "loss", ["sparse_categorical_crossentropy", "{SparseCategoricalCrossentropy: {ignore_class: 3}}"]
)
def test_weights_of_losses_come_before_the_cast(tmp_path: Path, loss: str) -> None:
    """As in autograd; after it they would be rounded another time."""
    text = recipe().replace("model:\n", "model:\n  dtype: mixed_bfloat16\n")
    text = text.replace("loss: sparse_categorical_crossentropy", f"loss: {loss}, loss_weights: [0.3]")
    plain, auto = (run(tmp_path, text.replace("epochs: 3", "epochs: 1"), engine) for engine in ("plain", "auto"))
    assert record(auto)["steps_by"] == "operations in a row"
    np.testing.assert_allclose(auto.history["loss"], plain.history["loss"], rtol=1e-4)
    for ours, theirs in zip(weights(auto), weights(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


REASONS = {
    "there are several optimizers": recipe(
        optimizer="{MultiOptimizer: {optimizer_map: {default_optimizer: adam, optimizer_map: {dense_1/.*: sgd}}}}"
    ),
    "there are penalties on outputs": recipe(DENSE.replace("activation: relu", "activity_regularizer: l2")),
    "the loss is scaled": recipe(DENSE).replace("model:\n", "model:\n  dtype: mixed_float16\n"),
    "weights are of several number types": recipe(DENSE.replace("activation: relu", "dtype: float64")),
    "rows are mixed": recipe("- Reshape: {target_shape: [8, 8, 1]}\n    - MixUp\n    - Flatten\n    " + DENSE)
    .replace(
        "inputs:",
        "targets: {label: {preprocess: [{CategoryEncoding: {num_tokens: 10, output_mode: one_hot}}]}}\n  inputs:",
    )
    .replace("sparse_", ""),
}


@pytest.mark.parametrize("reason", REASONS)
def test_steps_aside(tmp_path: Path, reason: str) -> None:
    outcome = run(tmp_path, REASONS[reason], "auto")
    assert record(outcome)["steps_by"] == f"autograd, since {reason}"


def test_many_shapes_fall_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of more shapes than there may be programs go through autograd, with the same numbers."""
    monkeypatch.setattr(direct, "MOST_PROGRAMS", 1)
    hold_equal(tmp_path, recipe())


def test_a_run_keeps_its_engine(tmp_path: Path) -> None:
    """Resuming has no flag for it: the last digits depend on the engine."""
    short = run(tmp_path, recipe(), "plain")
    longer = resume(directory_of(short), Options(runs=tmp_path, device="cpu", epochs=5))
    assert record(longer)["steps_by"].startswith("autograd, since it was asked for")
    whole = run(tmp_path, recipe().replace("epochs: 3", "epochs: 5"), "plain")
    assert longer.history == whole.history


def test_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(recipe())
    result = CliRunner().invoke(app, ["fit", str(path), "--engine", "fast", "--runs", str(tmp_path)])
    assert result.exit_code == 1
    assert '--engine: expected auto or plain, found "fast"' in str(result.exception)


def test_scores_do_not_depend_on_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at running values after each step changes no digit of the epoch's."""
    quiet = run(tmp_path, recipe(), "auto")
    real = Training.step

    def looking(self: Training, batch: Any) -> None:
        real(self, batch)
        self.scores.logs()

    monkeypatch.setattr(Training, "step", looking)
    assert run(tmp_path, recipe(), "auto").history == quiet.history


WORDS = """
name: words
seed: 1
dataset:
  source: imdb
  inputs: {words: {preprocess: [{CategoryEncoding: {num_tokens: 60, output_mode: multi_hot}}]}}
  targets: {label: {}}
model:
  layers:
    - Dense: {units: 8, activation: relu}
    - Dropout: {rate: 0.2}
    - Dense: {units: 1, activation: sigmoid}
compile: {optimizer: rmsprop, loss: binary_crossentropy, metrics: [accuracy]}
fit: {epochs: 3, batch_size: 32, validation_split: 0.2}
"""


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A folder with a small imdb.npz: lists of words of unequal length."""
    random, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 150), ("test", 40)):
        lists = np.empty(count, object)
        lists[:] = [random.integers(0, 56, random.integers(1, 20)).tolist() for _ in range(count)]
        arrays |= {f"x_{part}": lists, f"y_{part}": random.integers(0, 2, count)}
    np.savez(tmp_path / "imdb.npz", allow_pickle=True, **arrays)
    return tmp_path


@pytest.mark.parametrize("engine", ["plain", "auto"])
@pytest.mark.parametrize("dtype", [None, "mixed_bfloat16"])
def test_lists_of_words_train_as_multi_hot_rows(
    tmp_path: Path, reviews: Path, engine: str, dtype: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Bags] = []
    real = Bags.of
    monkeypatch.setattr(Bags, "of", lambda *given: made.append(real(*given)) or made[-1])
    text = WORDS if dtype is None else WORDS.replace("model:\n", f"model:\n  dtype: {dtype}\n")
    lists = run(tmp_path, text, engine, data=reviews)
    assert made
    monkeypatch.setenv("TRAINER_WITHOUT", "lists")
    made.clear()
    rows = run(tmp_path, text, engine, data=reviews)
    assert not made
    if dtype is not None:
        # Sums in another order are rounded another way, here and there.
        np.testing.assert_allclose(lists.history["loss"], rows.history["loss"], rtol=2e-3)
        return
    for name, values in rows.history.items():
        np.testing.assert_allclose(lists.history[name], values, rtol=1e-5, err_msg=name)
    for ours, theirs in zip(weights(lists), weights(rows), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_words_beyond_the_vocabulary_are_told(tmp_path: Path, reviews: Path) -> None:
    with pytest.raises(DataError, match=r"expected ids from 0 to 19 .* found"):
        run(tmp_path, WORDS.replace("num_tokens: 60", "num_tokens: 20"), "auto", data=reviews)


def test_no_such_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_WITHOUT", "list")
    with pytest.raises(RecipeError, match='TRAINER_WITHOUT: there is no optimisation called "list"'):
        run(tmp_path, recipe(), "auto")


WORD = "- Embedding: {name: words, input_dim: 17, output_dim: 8, mask_zero: true}"
BEHIND_MASKS = {
    "attention": f"{WORD}\n    - MultiHeadAttention: {{inputs: [words, words], num_heads: 2, key_dim: 4}}\n"
    "    - GlobalAveragePooling1D: {}\n    - Dense: {units: 10, activation: softmax}",
    "an island in bfloat16": f"{WORD}\n    - GRU: {{units: 8, dtype: mixed_bfloat16}}\n"
    "    - Dense: {units: 10, activation: softmax}",
    "statistics of what counts": f"{WORD}\n    - BatchNormalization: {{}}\n    - Activation: {{activation: relu}}\n"
    "    - LSTM: {units: 8}\n    - Dense: {units: 10, activation: softmax}",
    "masks that meet": f"{WORD}\n    - Embedding: {{name: others, inputs: image, input_dim: 17, output_dim: 8, "
    "mask_zero: true}\n    - Add: {inputs: [words, others, words]}\n    - GlobalAveragePooling1D: {}\n"
    "    - Dense: {units: 10, activation: softmax}",
    "masks that are joined": f"{WORD}\n    - LSTM: {{name: read, units: 8, return_sequences: true}}\n"
    "    - Concatenate: {inputs: [words, read]}\n    - Dense: {units: 8}\n    - GlobalAveragePooling1D: {}\n"
    "    - Dense: {units: 10, activation: softmax}",
}


@pytest.mark.parametrize("model", BEHIND_MASKS)
def test_masks_hide_what_they_hide_from_autograd(tmp_path: Path, model: str) -> None:
    text = recipe(BEHIND_MASKS[model]).replace(", {Rescaling: {scale: 1/16}}", "").replace("700", "120")
    plain, auto = (run(tmp_path, text, engine) for engine in ("plain", "auto"))
    assert record(auto)["steps_by"].startswith("operations in a row")
    if "bfloat16" in model:
        np.testing.assert_allclose(auto.history["loss"], plain.history["loss"], rtol=0.01)
    else:
        hold_alike(plain, auto)


TAGGED = """
name: tagged
seed: 3
dataset:
  source: {made_sequences: {task: add, length: 2, samples: 150, test_samples: 20}}
  inputs: {shifted: {}}
  targets: {answer: {}}
model:
  layers:
    - Embedding: {input_dim: 14, output_dim: 8, mask_zero: true}
    - Bidirectional: {layer: {LSTM: {units: 8, return_sequences: true}}}
    - Dense: {units: 14, activation: softmax}
compile: {loss: sparse_categorical_crossentropy, metrics: [accuracy], weighted_metrics: [accuracy]}
fit: {epochs: 2, batch_size: 16, validation_split: 0.2}
"""


@pytest.mark.parametrize("layer", ["LSTM", "SimpleRNN"])
def test_an_output_that_has_a_mask(tmp_path: Path, layer: str) -> None:
    """Loss and metrics count what the mask leaves, as Keras's do."""
    text = TAGGED.replace("LSTM", layer)
    plain, auto = (run(tmp_path, text, engine) for engine in ("plain", "auto"))
    assert record(auto)["steps_by"].startswith("operations in a row")
    hold_alike(plain, auto)
    unmasked = run(tmp_path, text.replace("mask_zero: true", "mask_zero: false"), "auto")
    assert abs(unmasked.history["loss"][0] - auto.history["loss"][0]) > 1e-5
