"""Texts and categories from YAML to predictions: fitted to training rows, kept with the run, named in the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import loaded, only, trained
from trainer.errors import DataError, RecipeError
from trainer.recipe.load import load_recipe
from trainer.runs.directory import RunDirectory
from trainer.train.build import Built, build, real_outlines
from trainer.train.job import fit, resume
from trainer.train.predictions import Asked, columns_of
from trainer.train.reading import read_inputs
from trainer.train.rows import divide
from trainer.train.terms import Options, open_table
from trainer.train.use import OpenRun

COLOURS = ["red", "green", "blue"]
RECIPE = """
name: colours
seed: 3
dataset:
  source: {{csv: {{path: {path}}}}}
  inputs: {{look: {{columns: [colour, shape], preprocess: [{{StringLookup: {{output_mode: multi_hot}}}}]}}}}
  targets: {{taste: {{columns: [taste], preprocess: [{{StringLookup: {{num_oov_indices: 0}}}}]}}}}
  split: {{test: {{last: 20}}}}
model: {{layers: [{{Dense: {{units: 3, activation: softmax}}}}]}}
compile: {{optimizer: {{Adam: {{learning_rate: 0.1}}}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}}
fit: {{epochs: 6, batch_size: 16, validation_split: 0.2}}
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Colour decides the taste; the shape says nothing."""
    random = np.random.default_rng(1)
    taste = dict(zip(COLOURS, ["sweet", "sour", "salty"], strict=True))
    lines = ["colour, shape, taste"]
    for _ in range(140):
        colour = str(random.choice(COLOURS, p=[0.5, 0.3, 0.2]))
        lines.append(f"{colour}, {random.choice(['round', 'square'])}, {taste[colour]}")
    path = tmp_path / "fruit.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def built(text: str, *sets: str) -> Built:
    recipe = loaded(text, *sets).recipe
    table = open_table(recipe, None, Options())
    return build(recipe, real_outlines(recipe, table)[0], divide(recipe, table).train, cpu())


def cpu() -> Any:
    import torch

    return torch.device("cpu")


def opened(directory: Path) -> OpenRun:
    return OpenRun(RunDirectory(directory), Options(device="cpu"))


def test_a_run_learns_from_texts_and_names_its_classes(rows: Path, tmp_path: Path) -> None:
    outcome = trained(tmp_path, RECIPE.format(path=rows))
    assert outcome.figures["test.accuracy"] == 1.0
    run = opened(outcome.directory)
    assert run.class_names(3) == ["sweet", "sour", "salty"]
    found = read_inputs(run, "more.csv", b"shape,colour\nround,blue\nsquare,red\noval,green\n")
    classes = columns_of(run, run.predict(found), Asked(classes=True))
    assert classes["class"].tolist() == ["salty", "sweet", "sour"]
    assert list(columns_of(run, run.predict(found), Asked())) == ["sweet", "sour", "salty"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", b"shape,taste,colour\nround,salty,blue\nsquare,sweet,red\n"),
        ("rows.csv", b" colour, shape\n blue, round\nred,square\n"),
        ("rows.jsonl", b'{"shape": "round", "colour": "blue"}\n["red", "square"]\n'),
    ],
)
def test_raw_rows_in_every_form(rows: Path, tmp_path: Path, name: str, text: bytes) -> None:
    run = opened(trained(tmp_path, RECIPE.format(path=rows)).directory)
    assert read_inputs(run, name, text)[0].tolist() == [["blue", "round"], ["red", "square"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a,b,c,d\n", 'the first line has no column "colour"'),
        (b"blue,round\nred,square\n", 'has no column "colour"; like the training rows, it must hold names'),
        (b"colour,shpe\nred,square\n", 'has no column "shape".*\n.*did you mean shpe'),
        (b"colour,shape\nred\n", "rows.csv:2: expected 2 values, found 1"),
        (b"colour,shape\n", "there are no rows"),
        (b'{"colour": "red"}', 'the row has no "shape"'),
        (b"[1, 2]", 'expected text in "colour", found 1'),
    ],
)
def test_raw_rows_that_do_not_fit(rows: Path, tmp_path: Path, text: bytes, said: str) -> None:
    run = opened(trained(tmp_path, RECIPE.format(path=rows)).directory)
    with pytest.raises(DataError, match=said):
        read_inputs(run, "rows.csv", text)


def test_fitted_to_the_training_rows_alone(rows: Path) -> None:
    with rows.open("a") as file:
        file.write("violet, round, sweet\n")
    made = built(RECIPE.format(path=rows))
    vocabulary: Any = only(made.inputs).cells[0].layer
    words = ["red", "green", "blue", "round", "square"]
    assert vocabulary.vocabulary == tuple(sorted(words, key=vocabulary.vocabulary.index))
    assert only(made.inputs).shape == (None, 6)


def test_a_run_goes_on_with_what_it_learned(rows: Path, tmp_path: Path) -> None:
    whole = trained(tmp_path, RECIPE.format(path=rows))
    half = trained(tmp_path, RECIPE.format(path=rows), "fit.epochs=3")
    rest = resume(RunDirectory(half.directory), Options(runs=tmp_path, device="cpu", epochs=6))
    assert rest.history == whole.history
    a, b = only(opened(whole.directory).built.inputs).state(), only(opened(half.directory).built.inputs).state()
    assert bytes(a["0/learned"]) == bytes(b["0/learned"])


def test_each_fold_learns_its_own_vocabulary(rows: Path, tmp_path: Path) -> None:
    text = RECIPE.format(path=rows).replace("validation_split: 0.2", "kfold: {folds: 3, stratify: true, final: true}")
    outcome = trained(tmp_path, text)
    assert len(outcome.folds) == 3
    assert outcome.figures["folds.accuracy.mean"] > 0.9


def test_a_value_without_a_place_is_named(rows: Path, tmp_path: Path) -> None:
    text = rows.read_text(encoding="utf-8").splitlines()
    text[-1] = "red, round, swet"
    rows.write_text("\n".join(text) + "\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r'targets.taste: column "taste", row 19: "swet" is not in the vocabulary'
    ) as caught:
        trained(tmp_path, RECIPE.format(path=rows))
    assert caught.value.problems[0].hint == "did you mean sweet?"


MISTAKES = [
    (
        "preprocess: [{StringLookup: {output_mode: multi_hot}}]",
        "preprocess: []",
        DataError,
        'column "colour" holds text',
    ),
    (
        "preprocess: [{StringLookup: {output_mode: multi_hot}}]",
        "preprocess: [IntegerLookup]",
        DataError,
        "StringLookup",
    ),
    ("layers: [", "layers: [StringLookup, ", RecipeError, "StringLookup works before the model"),
    ("layers: [", "layers: [{Discretization: {num_bins: 3}}, ", RecipeError, "can't learn bin_boundaries"),
    ("[{StringLookup: {output_mode: multi_hot}}]", "[Normalization, StringLookup]", RecipeError, "makes numbers"),
    ("units: 3", "units: 2", RecipeError, "the target has 3 classes, but dense has 2 units"),
    ("validation_split: 0.2", "class_weight: {7: 2.0}", DataError, "class_weight names class 7"),
]


@pytest.mark.parametrize(("before", "after", "kind", "said"), MISTAKES)
def test_mistakes(rows: Path, tmp_path: Path, before: str, after: str, kind: Any, said: str) -> None:
    with pytest.raises(kind, match=said):
        trained(tmp_path, RECIPE.format(path=rows).replace(before, after))


def test_a_vocabulary_file_is_kept_with_the_run(rows: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("blue\nred\n", encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(path=rows.name).replace("multi_hot}", "multi_hot, vocabulary: words.txt}"))
    found = load_recipe(recipe)
    assert only(found.outline.inputs).shape == (None, 3)
    outcome = fit(found, Options(runs=tmp_path / "runs", device="cpu"), recipe.read_bytes(), tmp_path)
    (tmp_path / "words.txt").unlink()
    run = opened(outcome.directory)
    layer: Any = only(run.built.inputs).cells[0].layer
    assert layer.vocabulary == ("blue", "red")
    assert "vocabulary: words.txt" in (outcome.directory / "resolved.yaml").read_text(encoding="utf-8")
    for text, said in ((None, "No such file"), ("a\na\n", "more than once"), ("", "the file is empty")):
        if text is not None:
            (tmp_path / "words.txt").write_text(text, encoding="utf-8")
        with pytest.raises(RecipeError, match=said) as caught:
            load_recipe(recipe)
        assert caught.value.problems[0].place is not None


def test_sentences(tmp_path: Path) -> None:
    lines = ["text,label"]
    random = np.random.default_rng(2)
    for i in range(120):
        words = [*random.choice(["film", "it", "was", "the", "plot"], 4), ["Good!", "bad."][i % 2]]
        lines.append(f'"{" ".join(random.permutation(words))}",{i % 2}')
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f"""
    seed: 1
    dataset:
      source: {{csv: {{path: {tmp_path / "reviews.csv"}}}}}
      inputs: {{text: {{columns: [text], preprocess: [TextVectorization]}}}}
      targets: {{label: {{columns: [label]}}}}
    model:
      layers:
        - Embedding: {{input_dim: 9, output_dim: 4, mask_zero: true}}
        - GlobalAveragePooling1D
        - Dense: {{units: 1, activation: sigmoid}}
    compile: {{optimizer: {{Adam: {{learning_rate: 0.05}}}}, loss: binary_crossentropy, metrics: [accuracy]}}
    fit: {{epochs: 15, batch_size: 16, validation_split: 0.2}}
    """
    outcome = trained(tmp_path, text)
    assert outcome.figures["val.accuracy"] == 1.0
    run = opened(outcome.directory)
    found = run.predict(read_inputs(run, "more.txt", b"A good film, good\nthe plot, was it bad? bad\n"))
    assert (only(found).ravel() > 0.5).tolist() == [False, True]


ADULT = """
name: adult
seed: 3
dataset:
  source: {{csv: {{path: adult-train.csv, missing: "?", names: [age, workclass, weight, education, years, marital,
    occupation, relationship, race, sex, gain, loss, hours, country, income]}}}}
  inputs: {{work: {columns}}}
  targets: {{income: {{columns: [income], preprocess: [{{StringLookup: {{num_oov_indices: 0}}}}]}}}}
  split: {{test: 0.2, stratify: income}}
model: {{layers: [{{Dense: {{units: 16, activation: relu}}}}, {{Dense: {{units: 1, activation: sigmoid}}}}]}}
compile: {{optimizer: {{Adam: {{learning_rate: 0.01}}}}, loss: binary_crossentropy, metrics: [accuracy]}}
fit: {{epochs: 5, batch_size: 128, validation_split: 0.2}}
"""
INPUTS = [
    "{columns: [workclass, education, marital, occupation], preprocess: [{StringLookup: {output_mode: multi_hot}}]}",
    "{columns: [marital, occupation, hours], preprocess: [{HashedCrossing: {num_bins: 500, output_mode: one_hot}}]}",
    "{columns: [education, marital, occupation], preprocess: [{Hashing: {num_bins: 64, output_mode: multi_hot}}]}",
    "{columns: [years], preprocess: [{IntegerLookup: {output_mode: one_hot}}]}",
    "{columns: [age, years, hours], preprocess: [{Discretization: {num_bins: 8, output_mode: one_hot}}, Flatten]}",
]


@pytest.mark.parametrize("columns", INPUTS)
def test_the_census(columns: str, tmp_path: Path, data_folder: Path) -> None:
    if "Flatten" in columns:
        columns = columns.replace("Flatten", "{Reshape: {target_shape: [24]}}")
    outcome = trained(tmp_path, ADULT.format(columns=columns), data=data_folder)
    # 75.9 % of the rows have the first class.
    assert outcome.figures["test.accuracy"] > 0.77
    run = OpenRun(RunDirectory(outcome.directory), Options(device="cpu", data=data_folder))
    assert run.class_names(2) == ["<=50K", ">50K"]
    if "Discretization" in columns:
        found = run.built.columns(run.rows("test"))
    else:
        first = (data_folder / "adult-train.csv").read_bytes().split(b"\n")[:50]
        found = read_inputs(run, "rows.csv", b"\n".join(first))
    named = columns_of(run, run.predict(found), Asked(classes=True))
    assert set(named["class"].tolist()) <= {"<=50K", ">50K"}
