"""Rows to predict for a model with several inputs, and classes at several places of a row."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import directory_of, trained
from trainer.errors import DataError, RecipeError
from trainer.train.predictions import Asked, columns_of
from trainer.train.reading import read_inputs
from trainer.train.terms import Options
from trainer.train.use import OpenRun

TABLE = """
name: table
seed: 1
dataset:
  source: {{csv: {{path: {path}, names: [age, work, hours, pay], delimiter: ";"}}}}
  inputs:
    numbers: {{columns: [age, hours], preprocess: [Normalization]}}
    words: {{columns: [work], preprocess: [StringLookup]}}
  targets:
    pay:
      columns: [pay]
      preprocess:
        - StringLookup: {{vocabulary: [low, low., high, high.], num_oov_indices: 0}}
        - Discretization: {{bin_boundaries: [2]}}
model:
  layers:
    - Embedding: {{name: work, inputs: words, input_dim: 4, output_dim: 3}}
    - Flatten
    - Concatenate: {{inputs: [numbers, flatten]}}
    - Dense: {{units: 1, activation: sigmoid}}
compile: {{optimizer: adam, loss: binary_crossentropy, metrics: [accuracy]}}
fit: {{epochs: 1, batch_size: 4}}
"""
ROWS = "30; baker; 40; low\n50; smith; 20; high\n41; baker; 38; low.\n19; tailor; 45; high.\n"
SEQUENCES = """
name: sums
seed: 1
dataset:
  source: {made_sequences: {task: add, length: 2, samples: 64, test_samples: 8}}
  inputs: {source: {}, shifted: {}}
  targets: {answer: {}}
model:
  layers:
    - Embedding: {name: read, inputs: source, input_dim: 14, output_dim: 4}
    - LSTM: {name: encoder, units: 4, return_state: true}
    - Embedding: {name: told, inputs: shifted, input_dim: 14, output_dim: 4}
    - LSTM: {inputs: {sequences: told, initial_state: [encoder/1, encoder/2]}, units: 4, return_sequences: true}
    - Dense: {units: 14, activation: softmax}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy}
fit: {epochs: 1, batch_size: 16}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    folder = tmp_path_factory.mktemp("table")
    (folder / "rows.csv").write_text(ROWS)
    return opened(folder, TABLE.format(path=folder / "rows.csv"))


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> OpenRun:
    return opened(tmp_path_factory.mktemp("sums"), SEQUENCES)


def opened(folder: Path, text: str) -> OpenRun:
    return OpenRun(directory_of(trained(folder, text)), Options(device="cpu"))


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


AGES, WORK, HOURS = np.asarray([30, 50]), np.asarray(["baker", "smith"]), np.asarray([40, 20])
AS_FILES = {
    "like the training rows.csv": b"30; baker; 40; low\n50; smith; 20; high\n",
    "without what is asked.csv": b"30; baker; 40\n50; smith; 20\n",
    "with a header.csv": b"hours; age; work\n40; 30; baker\n20; 50; smith\n",
    "by column.jsonl": b'{"age": 30, "work": "baker", "hours": 40}\n{"age": 50, "work": "smith", "hours": 20}\n',
    "an array a column.npz": npz(age=AGES, work=WORK, hours=HOURS),
    "an array an input.npz": npz(numbers=np.stack([AGES, HOURS], 1), words=WORK[:, None]),
}


@pytest.mark.parametrize("name", AS_FILES)
def test_a_table_of_numbers_and_words(table: OpenRun, name: str) -> None:
    numbers, words = read_inputs(table, name, AS_FILES[name])
    assert numbers.tolist() == [[30, 40], [50, 20]]
    assert words.tolist() == [["baker"], ["smith"]]
    (made,) = table.predict([numbers, words]).values()
    assert made.shape == (2, 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rows.csv", b"30; baker\n", "which columns are the input numbers can't be told"),
        ("rows.csv", b"age; wrk; hours\n30; baker; 40\n", 'the first line has no column "work"'),
        ("rows.jsonl", b'{"age": 30, "work": "baker", "hour": 40}\n', 'rows.jsonl:1: the row has no "hours"'),
        ("rows.jsonl", b"[30, 40]\n", "which values are the input numbers can't be told"),
        ("rows.npz", npz(age=AGES, hours=HOURS[:1], work=WORK), "expected arrays of one length and one axis"),
        ("rows.npz", npz(age=AGES, work=WORK), 'expected an array called "numbers"'),
    ],
)
def test_rows_that_do_not_fit_are_refused(table: OpenRun, name: str, text: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_inputs(table, name, text)


def test_bins_over_a_vocabulary_are_named_after_what_falls_into_them(table: OpenRun) -> None:
    assert table.class_names(2) == ["low / low.", "high / high."]
    made = table.predict(table.built.columns(table.sets.train))
    classes = columns_of(table, made, Asked(classes=True))["class"]
    (values,) = made.values()
    assert classes.tolist() == [("high / high." if v > 0.5 else "low / low.") for v in values[:, 0]]


SOURCE, SHIFTED = np.asarray([[4, 13, 5, 0, 0], [6, 6, 13, 7, 0]]), np.asarray([[1, 6, 2, 0], [1, 4, 4, 2]])
HEADER = [*(f"source_{i}" for i in range(5)), *(f"shifted_{i}" for i in range(4))]
LINES = [",".join(map(str, row)) for row in np.concatenate([SOURCE, SHIFTED], 1).tolist()]
OF_FIELDS = {
    "rows.npz": npz(source=SOURCE, shifted=SHIFTED),
    "rows.csv": "\n".join([",".join(HEADER), *LINES]).encode(),
    "rows.jsonl": "\n".join(
        f'{{"shifted": {b}, "source": {a}}}' for a, b in zip(SOURCE.tolist(), SHIFTED.tolist(), strict=True)
    ).encode(),
}


@pytest.mark.parametrize("name", OF_FIELDS)
def test_fields_of_several_values(sums: OpenRun, name: str) -> None:
    source, shifted = read_inputs(sums, name, OF_FIELDS[name])
    np.testing.assert_array_equal(source, SOURCE)
    np.testing.assert_array_equal(shifted, SHIFTED)


def test_fields_of_several_values_need_a_header(sums: OpenRun) -> None:
    with pytest.raises(DataError, match="which columns are the input source can't be told") as caught:
        read_inputs(sums, "rows.csv", LINES[0].encode())
    assert caught.value.problems[0].hint.startswith("write a header with source_0, source_1")


def test_a_class_for_each_place_of_a_row(sums: OpenRun) -> None:
    made = sums.predict([SOURCE, SHIFTED])
    (values,) = made.values()
    names = sums.class_names(14)
    classes = columns_of(sums, made, Asked(classes=True))
    assert list(classes) == ["answer_0", "answer_1", "answer_2", "answer_3"]
    for place, column in enumerate(classes.values()):
        assert column.tolist() == [names[i] for i in values[:, place].argmax(-1)]
    every = columns_of(sums, made, Asked(temperature=2.0))
    assert list(every)[:2] == ["0_<pad>", "0_<start>"]
    assert list(every)[-1] == "3_+"
    np.testing.assert_allclose(sum(every[f"2_{name}"] for name in names), 1, rtol=1e-6)
    with pytest.raises(RecipeError, match="--top-k is for one class a row; here each row has 4 places"):
        columns_of(sums, made, Asked(top_k=2))
