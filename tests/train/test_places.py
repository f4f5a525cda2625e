"""What is wrong with rows is said where the recipe names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.recipes import directory_of, loaded, trained
from trainer.errors import DataError, Problem, RecipeError, RunError, TrainerError
from trainer.runs.directory import RunDirectory
from trainer.runs.saved import model_path
from trainer.train.job import Options
from trainer.train.predictions import Asked, columns_of
from trainer.train.use import OpenRun

ROWS = "age,size,kind,sick\n" + "".join(f"{i % 9},{i * 0.5},{'ab'[i % 3 == 0]},{i % 2}\n" for i in range(60))
RECIPE = """
name: rows
dataset:
  source: {csv: {path: FILE}}
  inputs: {n: {columns: [age, size]}}
  targets: {y: {columns: [sick]}}
model:
  layers: [{Dense: {units: 1, activation: sigmoid}}]
compile: {optimizer: adam, loss: binary_crossentropy}
fit: {epochs: 1}
"""
SHORT = RECIPE.replace(
    "  inputs: {n: {columns: [age, size]}}\n  targets: {y: {columns: [sick]}}", "  columns: A\n  target: B"
)


def recipe(tmp_path: Path, *changes: tuple[str, str], rows: str = ROWS, text: str = RECIPE) -> str:
    file = tmp_path / "rows.csv"
    file.write_text(rows)
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text.replace("FILE", str(file))


def problem_of(tmp_path: Path, text: str, kind: type[TrainerError] = DataError) -> Problem:
    with pytest.raises(kind) as caught:
        trained(tmp_path / "runs", text)
    (problem,) = caught.value.problems
    assert problem.place is not None
    return problem


@pytest.mark.parametrize(
    ("change", "rows", "path", "words"),
    [
        (("[age, size]", "[age, kind]"), ROWS, ("inputs", "n", "columns"), 'column "kind" holds text'),
        (("[sick]", "[kind]"), ROWS, ("targets", "y", "columns"), 'column "kind" holds text'),
        (("[age, size]", "[size, age]"), ROWS.replace("\n1,0.5", "\nx,0.5"), ("inputs", "n", "columns"), 'holds "x"'),
        (("[age, size]", "[age, size]"), ROWS.replace(",0.5,", ",nan,"), ("inputs", "n", "columns"), "finite number"),
        (("loss: b", "loss: b"), ROWS.replace(",1\n", ",3\n"), ("targets", "y", "columns"), "values from 0 to 1"),
        (("{columns: [age, size]}", "{columns: [kind], preprocess: [{StringLookup: {vocabulary: [a], "
          "num_oov_indices: 0}}]}"), ROWS, ("inputs", "n", "columns"), "is not in the vocabulary"),
    ],
)  # fmt: skip
def test_columns_that_can_t_be_read(
    change: tuple[str, str], rows: str, path: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    problem = problem_of(tmp_path, recipe(tmp_path, change, rows=rows))
    assert words in problem.message
    assert problem.path == ("dataset", *path)
    assert problem.place is not None
    assert problem.place.line == (5 if path[0] == "inputs" else 6)


@pytest.mark.parametrize(("word", "line"), [("columns", 5), ("target", 6)])
def test_the_short_form(word: str, line: int, tmp_path: Path) -> None:
    names = ("kind", "sick") if word == "columns" else ("age", "kind")
    problem = problem_of(tmp_path, recipe(tmp_path, ("A", names[0]), ("B", names[1]), text=SHORT))
    assert problem.path == ("dataset", word)
    assert problem.place is not None
    assert problem.place.line == line


def test_names_asked_for_by_number(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path / "runs", recipe(tmp_path, ("A", "0-1"), ("B", "3"), text=SHORT))
    assert [(p.path, p.message, p.hint) for p in caught.value.problems] == [
        (
            ("dataset", "columns"),
            "the columns of this source have names, and no numbers",
            "write [age, size]",
        ),
        (("dataset", "target"), "the columns of this source have names, and no numbers", "write sick"),
    ]


def test_a_number_beyond_the_columns(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        trained(tmp_path / "runs", recipe(tmp_path, ("A", "0-7"), ("B", "sick"), text=SHORT))
    assert caught.value.problems[0].hint == "there are 4: age, size, kind, sick"


def test_weights_of_classes_that_no_row_has(tmp_path: Path) -> None:
    problem = problem_of(tmp_path, recipe(tmp_path, ("epochs: 1", "epochs: 1, class_weight: {0: 1, 7: 2}")))
    assert problem.path == ("fit", "class_weight", 7)
    assert problem.hint == "the classes are 0, 1"
    assert problem.place is not None
    assert problem.place.text[problem.place.column - 1 :].startswith("7: 2")


EMBEDDED = ("[{Dense", "[{Embedding: {input_dim: N, output_dim: 2}}, Flatten, {Dense")


def test_ids_beyond_a_table(tmp_path: Path) -> None:
    """Before the first step, with the number to write."""
    ids = recipe(tmp_path, ("[age, size]", "[age]"), EMBEDDED)
    problem = problem_of(tmp_path, ids.replace("N", "5", 1).replace("input_dim: N", "input_dim: 5"))
    assert problem.message == "input n has more ids than input_dim, 5: its largest id is 8"
    assert problem.hint == "input_dim: 9"
    assert problem.path == ("model", "layers", 0, "Embedding", "input_dim")
    trained(tmp_path / "runs", ids.replace("input_dim: N", "input_dim: 9"))


def test_a_vocabulary_beyond_a_table(tmp_path: Path) -> None:
    """Words that no row has yet count too: 0 for others, then z, a and b."""
    lookup = "{columns: [kind], preprocess: [{StringLookup: {vocabulary: [a, b, z, y]}}]}"
    words = recipe(tmp_path, ("{columns: [age, size]}", lookup), EMBEDDED)
    problem = problem_of(tmp_path, words.replace("input_dim: N", "input_dim: 4"))
    assert problem.message == "input n has more ids than input_dim, 4: its vocabulary has 5"
    assert problem.hint == "input_dim: 5"
    trained(tmp_path / "runs", words.replace("input_dim: N", "input_dim: 5"))


def test_negative_ids(tmp_path: Path) -> None:
    text = recipe(tmp_path, ("[age, size]", "[age]"), EMBEDDED, rows=ROWS.replace("\n8,", "\n-8,"))
    problem = problem_of(tmp_path, text.replace("input_dim: N", "input_dim: 9"))
    assert problem.message == "input n: expected ids of 0 or more, found -8"


def test_a_failed_run_is_not_resumed(tmp_path: Path) -> None:
    problem_of(tmp_path, recipe(tmp_path, ("[age, size]", "[age, kind]")))
    (directory,) = [RunDirectory(p) for p in (tmp_path / "runs" / "rows").iterdir() if p.is_dir()]
    with pytest.raises(RunError, match="has no model") as caught:
        model_path(directory, None)
    hint = caught.value.problems[0].hint
    assert hint.startswith("it failed: dataset.inputs.n.columns: ")
    assert "resume" not in hint
    directory.write_record({**directory.record(), "state": "interrupted"})
    with pytest.raises(RunError) as caught:
        model_path(directory, None)
    assert caught.value.problems[0].hint == "it is not complete: `trainer resume` it"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("{columns: [sick]}", "y"),
        ("{columns: [kind], preprocess: [{StringLookup: {num_oov_indices: 0}}]}", "a"),
        ("{columns: [kind], preprocess: [{StringLookup: {vocabulary: [a, b], num_oov_indices: 0}}]}", "b"),
        ("{columns: [sick], preprocess: [{IntegerLookup: {num_oov_indices: 0}}]}", "y"),
    ],
)
def test_what_the_chance_of_a_single_unit_is_called(target: str, name: str, tmp_path: Path) -> None:
    """The class that it is the chance of, when that has a name; of two texts the rarer one comes second."""
    rows = ROWS.replace(",a,", ",A,").replace(",b,", ",a,").replace(",A,", ",b,")
    text = recipe(tmp_path, ("{columns: [sick]}", target), rows=rows)
    run = OpenRun(directory_of(trained(tmp_path / "runs", text)), Options(device="cpu"))
    made = run.predict(run.built.columns(run.sets.train))
    assert list(columns_of(run, made, Asked(proba=True))) == [name]
    assert list(columns_of(run, made, Asked(classes=True))) == ["class"]
    assert loaded(text).recipe.name == "rows"
