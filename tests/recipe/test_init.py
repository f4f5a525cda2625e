"""`trainer init`: what it writes for each kind of table is a sound recipe for that table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trainer.errors import DataError, FileError, TrainerError
from trainer.recipe.beginning import for_csv, for_digits, problem
from trainer.recipe.dataset import Feature
from trainer.recipe.load import Loaded, load_recipe
from trainer.recipe.outline import Known
from trainer.sources.base import Places
from trainer.train.job import Options, fit


def read(known: dict[str, Known]) -> Feature:
    """What the only input, or the only target, reads."""
    (only,) = known.values()
    return only.feature


def begun(folder: Path, table: str | bytes, target: str | None = None, name: str = "first.yaml") -> Loaded:
    """The recipe written for a table, checked, and its columns found by the source itself."""
    file = folder / "rows.csv"
    file.write_bytes(table if isinstance(table, bytes) else table.encode())
    path = folder / name
    path.write_text(for_csv(file, path, target), encoding="utf-8")
    loaded = load_recipe(path)
    columns = loaded.recipe.dataset.source.open(Places(folder)).train.columns
    assert read(loaded.outline.inputs).columns is not None
    assert read(loaded.outline.targets).columns is not None
    assert set(read(loaded.outline.inputs).columns) | set(read(loaded.outline.targets).columns) <= set(columns)
    assert all(columns[c].dtype.kind in "if" for c in read(loaded.outline.inputs).columns)
    return loaded


def test_digits(tmp_path: Path) -> None:
    for name in ("first.yaml", "2024.yaml", "null.yaml", "1e3.yaml", "-- ä!.yaml", "no name\n.yaml"):
        path = tmp_path / name
        path.write_text(for_digits(path), encoding="utf-8")
        assert load_recipe(path).outline.graph is not None


TARGETS = {
    "two classes": ("0 1 1 0", (1, "Sigmoid", "binary_crossentropy", "accuracy")),
    "classes": ("0 1 2 1", (3, "Softmax", "sparse_categorical_crossentropy", "accuracy")),
    "classes with gaps": ("0 4 2 1", (5, "Softmax", "sparse_categorical_crossentropy", "accuracy")),
    "numbers": ("0.5 1.5 2 3", (1, "Linear", "mean_squared_error", "mae")),
    "negative": ("-1 1 1 -1", (1, "Linear", "mean_squared_error", "mae")),
    "large": ("100 2000 30 4", (1, "Linear", "mean_squared_error", "mae")),
    "huge": ("1e300 2 3 4", (1, "Linear", "mean_squared_error", "mae")),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_target_calls_for_its_last_layer(tmp_path: Path, kind: str) -> None:
    values, expected = TARGETS[kind]
    rows = "".join(f"{n},{n / 3},{v}\n" for n, v in enumerate(values.split()))
    recipe = begun(tmp_path, "a,b,y\n" + rows).recipe if kind != "huge" else None
    units, activation, loss, metric = problem([float(v) for v in values.split()])
    assert (units, metric) == (expected[0], expected[3])
    if recipe is not None:
        last = recipe.model.layers[-1]
        assert (last.spec()["Dense"]["units"], str(last.spec()["Dense"]["activation"]).lower()) == (
            units,
            expected[1].lower(),
        )
        assert recipe.dataset.targets is not None
        assert list(recipe.dataset.targets) == ["y"]
    assert activation in ("", expected[1].lower())
    assert loss in (expected[2], "mse")


TABLES = {
    "a header": ("a,b,y\n1,2,0\n3,4,1\n", None, ("a", "b"), ("y",)),
    "another target": ("a,b,y\n1,2,0\n3,4,1\n", "a", ("b", "y"), ("a",)),
    "no header": ("1,2,0\n3,4,1\n", None, ("0", "1"), ("2",)),
    "no header, another target": ("1,2,0\n3,4,1\n", "1", ("0", "2"), ("1",)),
    "a column of text": ("a,town,y\n1,Bonn,0\n3,Rome,1\n", None, ("a",), ("y",)),
    "a missing value": ("a,b,y\n1,,0\n3,4,1\n", None, ("a",), ("y",)),
    "a target of words": ("a,b,y\n1,2,yes\n3,4,no\n", None, ("a", "b"), ("y",)),
    "semicolons": ("a;b;y\n1;2;0\n3;4;1\n", None, ("a", "b"), ("y",)),
    "tabs": ("a\tb\ty\n1\t2\t0\n3\t4\t1\n", None, ("a", "b"), ("y",)),
    "semicolons, no header": ("1;2;0\n3;4;1\n", None, ("0", "1"), ("2",)),
    "Windows, with a mark": (b"\xef\xbb\xbfa,b,y\r\n1,2,0\r\n3,4,1\r\n", None, ("a", "b"), ("y",)),
    "quoted names": ('"a, b","c: ""d""",y\n1,2,0\n3,4,1\n', None, ("a, b", 'c: "d"'), ("y",)),
    "names that YAML reads otherwise": (
        "null,true,1e3,~,#x,- y,no\n1,2,3,4,5,6,0\n1,2,3,4,5,6,1\n".replace("1e3", "e3"),
        None,
        ("null", "true", "e3", "~", "#x", "- y"),
        ("no",),
    ),
    "names beyond ASCII": ("größe,日本,ÿ y\n1,2,0\n3,4,1\n", None, ("größe", "日本"), ("ÿ y",)),
    "a name that would be a range": ("0-7,b,y\n1,2,0\n3,4,1\n", None, ("b",), ("y",)),
    "numbers that only Python reads": ("a,b,y\n1_0,2,0\n3,4,1\n", None, ("b",), ("y",)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(tmp_path: Path, kind: str) -> None:
    table, target, inputs, targets = TABLES[kind]
    loaded = begun(tmp_path, table, target)
    assert (read(loaded.outline.inputs).columns, read(loaded.outline.targets).columns) == (inputs, targets)


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    begun(tmp_path, "a,town,b,y\n1,Bonn,,0\n3,Rome,4,1\n")
    text = next(tmp_path.glob("*.yaml")).read_text()
    assert text.splitlines()[1] == "# Not read, for they hold texts or gaps: town, b."


@pytest.mark.parametrize(("words", "units", "loss"), [("no yes", 1, "Binary"), ("a b c", 3, "SparseCategorical")])
def test_a_target_of_words_is_classes(tmp_path: Path, words: str, units: int, loss: str) -> None:
    rows = "".join(f"{i},{words.split()[i % len(words.split())]}\n" for i in range(60))
    loaded = begun(tmp_path, "a,y\n" + rows)
    assert loaded.recipe.model.layers[-1].spec()["Dense"]["units"] == units
    assert str(loaded.recipe.compile.loss.recipe_name()).startswith(loss)
    options = Options(runs=tmp_path / "runs", device="cpu")
    short = load_recipe(next(tmp_path.glob("*.yaml")), ["fit.epochs=1"])
    assert fit(short, options, b"", tmp_path).epochs == [0]


@pytest.mark.parametrize("name", ["2024.yaml", "null.yaml", "a b.yaml", "ü.yaml", "line\nbreak.yaml", "x: y.yaml"])
def test_names_of_recipes(tmp_path: Path, name: str) -> None:
    assert begun(tmp_path, "a,y\n1,0\n2,1\n", name=name).recipe.name == load_recipe(tmp_path / name).recipe.name


def test_the_table_is_counted_from_the_recipe_s_folder(tmp_path: Path) -> None:
    (tmp_path / "data dir").mkdir()
    (tmp_path / "recipes").mkdir()
    table, path = tmp_path / "data dir" / 'r"ows.csv', tmp_path / "recipes" / "r.yaml"
    table.write_text("a,y\n1,0\n2,1\n")
    path.write_text(for_csv(table, path, None))
    source = load_recipe(path).recipe.dataset.source
    assert source.spec()["csv"]["path"] == '../data dir/r"ows.csv'
    assert len(source.open(Places(path.parent)).train) == 2


@pytest.mark.parametrize(
    ("table", "target", "error", "message"),
    [
        (b"", None, DataError, "there are no rows"),
        (b"a,b\n", None, DataError, "there are no rows"),
        (b"a,b\n1,2\n3\n", None, DataError, "rows.csv:3: expected 2 values, found 1"),
        (b"a,a\n1,2\n", None, DataError, 'two columns are called "a"'),
        (b"a,b\n1,x\n", None, DataError, 'the target "b" holds text'),
        (b"a,b\nx,1\n", None, DataError, "no column but the target holds numbers alone"),
        (b"a,b\n1,2\n", "c", DataError, 'there is no column "c"'),
        (b"a,0-7\n1,2\n", None, DataError, "can't name the column"),
        (b"a,\n1,2\n", None, DataError, "can't name the column"),
        (b"a,b\n1,2\n1,inf\n", None, DataError, 'the target "b" holds text among numbers: "inf"'),
        (b"a,b\n1,x\n2,\n", None, DataError, 'the target "b" has no value in row 2'),
        (b"a,b\n" + b"".join(b"1,x%d\n" % i for i in range(30)), None, DataError, "30 different ones"),
        ("a,ö\n1,2\n".encode("latin-1"), None, FileError, "codec"),
        (b"a,b\n1," + b"x" * 200_000 + b"\n", None, FileError, "field larger"),
    ],
)
def test_tables_that_give_no_recipe(
    tmp_path: Path, table: bytes, target: str | None, error: type[TrainerError], message: str
) -> None:
    with pytest.raises(error) as caught:
        begun(tmp_path, table, target)
    assert message in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        for_csv(tmp_path / "none.csv", tmp_path / "r.yaml", None)


CELLS = st.one_of(st.integers(-9, 9).map(str), st.floats(width=32).map(str), st.text(max_size=6))
NAMES = st.text(st.characters(codec="utf-8"), max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=2, max_size=4), st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=4))
@example(["", "0\x1f"], [])
def test_any_table_gives_a_sound_recipe_or_an_error_of_ours(
    tmp_path: Path, names: list[str], rows: list[list[str]]
) -> None:
    table, path = tmp_path / "rows.csv", tmp_path / "r.yaml"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *(row[: len(names)] for row in rows)])
    if text := written(table, path):
        path.write_text(text, encoding="utf-8")
        assert load_recipe(path).outline.graph is not None


def written(table: Path, path: Path) -> str:
    """The recipe for a table, empty when it gives none; any exception but ours passes."""
    try:
        return for_csv(table, path, None)
    except TrainerError:
        return ""
