"""CSV: what the forms of a table read as, and the place of whatever is wrong in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import loaded
from trainer.errors import DataError, RecipeError, TrainerError
from trainer.recipe.load import load_recipe
from trainer.sources.base import Places
from trainer.sources.columns import Table
from trainer.sources.csv_files import Csv
from trainer.train.build import real_outlines
from trainer.train.job import Options, fit


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Reads bytes as a CSV file with options."""

    def read(data: bytes | str, **options: Any) -> Table:
        (tmp_path / "rows.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
        return Csv(path="rows.csv", **options).open(Places(tmp_path))

    return read


def values(found: Table) -> dict[str, list[Any]]:
    return {name: column.tolist() for name, column in found.train.columns.items()}


FORMS: dict[str, tuple[bytes, dict[str, Any], dict[str, list[Any]]]] = {
    "a header": (b"a,b\n1,2\n3,4\n", {}, {"a": [1, 3], "b": [2, 4]}),
    "no header": (b"1,2\n3,4\n", {"header": False}, {"0": [1, 3], "1": [2, 4]}),
    "names given": (b"1,2\n3,4\n", {"names": ["a", "b"]}, {"a": [1, 3], "b": [2, 4]}),
    "names instead of a header": (b"x,y\n1,2\n", {"names": ["a", "b"], "header": True}, {"a": [1], "b": [2]}),
    "no line end at the end": (b"a\n1", {}, {"a": [1]}),
    "CRLF": (b"a,b\r\n1,2\r\n", {}, {"a": [1], "b": [2]}),
    "CR": (b"a,b\r1,2\r", {}, {"a": [1], "b": [2]}),
    "BOM": (b"\xef\xbb\xbfa,b\n1,2\n", {}, {"a": [1], "b": [2]}),
    "semicolons": (b"a;b\n1;2,5\n", {"delimiter": ";"}, {"a": [1], "b": ["2,5"]}),
    "tabs": (b"a\tb\n1\t2\n", {"delimiter": "\t"}, {"a": [1], "b": [2]}),
    "quotes": (b'a,b\n"x,y",2\n"q""z",3\n', {}, {"a": ["x,y", 'q"z'], "b": [2, 3]}),
    "quoted numbers": (b'a\n"1"\n"2.5"\n', {}, {"a": [1, 2.5]}),
    "a quoted line end": (b'a,b\n"x\ny",2\nz,3\n', {}, {"a": ["x\ny", "z"], "b": [2, 3]}),
    "blank lines": (b"a,b\n\n1,2\n\n\n3,4\n\n", {}, {"a": [1, 3], "b": [2, 4]}),
    "lines to pass over": (b"made by,x,y\n\na\n1\n", {"skip_rows": 2}, {"a": [1]}),
    "spaces around numbers": (b"a,b\n 1, 2.5 \n", {}, {"a": [1], "b": [2.5]}),
    "signs and exponents": (b"a,b\n-0,1e-3\n+7,-2E2\n", {}, {"a": [0, 7], "b": [0.001, -200]}),
    "truth values": (b"a\ntrue\nFalse\n", {}, {"a": [1, 0]}),
    "dates stay as written": (b"a,b\n2020-01-01,10:00\n2020-02-01,10:05\n", {},
        {"a": ["2020-01-01", "2020-02-01"], "b": ["10:00", "10:05"]}),
    "times stay as written": (b"a\n2020-01-01T10:00:00Z\n", {}, {"a": ["2020-01-01T10:00:00Z"]}),
    "leading zeros": (b"a\n007\n012\n", {}, {"a": [7, 12]}),
    "latin-1": (b"a\n\xe9t\xe9\n", {"encoding": "latin-1"}, {"a": ["été"]}),
    "utf-16": ("a,b\n1,é\n".encode("utf-16"), {"encoding": "utf-16"}, {"a": [1], "b": ["é"]}),
    "letters of every alphabet": ("имя,値\n1,漢\n".encode(), {}, {"имя": [1], "値": ["漢"]}),
    "a column without a name": (b"a,\n1,2\n", {}, {"a": [1], "": [2]}),
    "many quoted line ends": (b'a\n' + b'"x\n\n,y"\n' * 300_000, {}, {"a": ["x\n\n,y"] * 300_000}),
    "spaces around texts": (b"a, b\n x ,1\ny, 2\n", {}, {"a": ["x", "y"], "b": [1, 2]}),
    "spaces that are kept": (b"a\n x \ny\n", {"strip": False}, {"a": [" x ", "y"]}),
    "a mark among texts is the empty text": (b"a,b\nx,1\n ?,2\n", {"missing": "?"}, {"a": ["x", ""], "b": [1, 2]}),
    "empty texts that are named": (b"a,b\nx,1\n,2\n", {"missing": ""}, {"a": ["x", ""], "b": [1, 2]}),
    "integers to fractions late": (b"a\n" + b"1\n" * 300_000 + b"1.5\n", {}, {"a": [1.0] * 300_000 + [1.5]}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_a_table(table: Any, name: str) -> None:
    data, options, expected = FORMS[name]
    found = values(table(data, **options))
    assert list(found) == list(expected)
    for column, given in expected.items():
        assert found[column] == (given if isinstance(given[0], str) else np.asarray(given, "float32").tolist())


def test_integers_stay_whole_and_fractions_are_single(table: Any) -> None:
    found = table("a,b,c\n9007199254740993,0.1,x\n-9223372036854775808,2,y\n")
    a, b, c = found.train.columns.values()
    assert a.dtype == "int64"
    assert a.tolist() == [9007199254740993, -(2**63)]
    assert b.dtype == "float32"
    assert c.dtype == object
    assert [found.fields[n].dtype for n in "abc"] == ["int64", "float32", "string"]


def test_integers_beyond_64_bits_are_the_nearest_fraction(table: Any) -> None:
    assert values(table("a\n99999999999999999999\n1\n"))["a"] == [float(np.float32(1e20)), 1.0]


NUMBERS = "a,b\n" + "1,2\n" * 30
BAD: dict[str, tuple[bytes | str, dict[str, Any], list[str]]] = {
    "empty": (b"", {}, ["rows.csv: there are no rows"]),
    "only a header": (b"a,b\n", {}, ["rows.csv: there are no rows"]),
    "a header without line end": (b"a,b", {}, ["rows.csv: there are no rows"]),
    "only line ends": (b"\n\n\r\n", {}, ["rows.csv: there are no rows"]),
    "all passed over": (b"a\n1\n", {"skip_rows": 9}, ["rows.csv: there are no rows"]),
    "ragged": (b"a,b\n1,2\n\n1,2,3\n", {}, ["rows.csv:4: expected 2 values, found 3"]),
    "short row": (b"a,b\n1,2\n3\n", {}, ["rows.csv:3: expected 2 values, found 1"]),
    "ragged behind a quoted line end": (b'a,b\n"x\ny",2\n1\n', {}, ["rows.csv:4: expected 2 values, found 1"]),
    "ragged behind passed lines": (b"x\ny\na,b\n1\n", {"skip_rows": 2}, ["rows.csv:4: expected 2 values, found 1"]),
    "a quote left open": (b'a,b\n1,2\n"3,4\n5,6\n', {}, ["rows.csv:3: expected 2 values, found 1", "quote"]),
    "two names": (b"a,b,a\n1,2,3\n", {}, ['two columns are called "a"']),
    "too few names": (b"1,2\n", {"names": ["a"]}, ["expected 1 columns, one a name, found 2"]),
    "text among numbers": (NUMBERS + "x,3\n", {}, ['rows.csv:32: column "a" holds "x", expected a number', "missing"]),
    "text with blank lines": (NUMBERS + "\n\nx,3\n", {}, ['rows.csv:34: column "a" holds "x"']),
    "NA among numbers": (NUMBERS + "4,NA\n", {}, ['rows.csv:32: column "b" holds "NA", expected a number']),
    "text and a missing value": (NUMBERS + ",3\n?,3\n", {}, ['rows.csv:33: column "a" holds "?"']),
    "no value": (b"a,b\n1,2\n,3\n", {}, ['rows.csv:3: column "a" has no value', "remove the row"]),
    "no value in text": (b'a,b\nx,2\n"",3\n', {}, ['rows.csv:3: column "a" has no value']),
    "no value behind a quoted line end": (b'a,b\n"x\ny",2\nz,\n', {}, ['rows.csv:4: column "b" has no value']),
    "a missing mark": (b"a,b\n1,2\n?,3\n", {"missing": "?"}, ['rows.csv:3: column "a" has no value']),
    "a mark in spaces among numbers": (NUMBERS + " ?,3\n", {"missing": "?"}, ['rows.csv:32: column "a" has no value']),
    "an empty text beside a mark": (b"a,b\nx,2\n?,3\n,4\n", {"missing": "?"}, ['rows.csv:4: column "a" has no value']),
    "a missing mark of two": (b"a\n1\n-\n", {"missing": ["?", "-"]}, ['rows.csv:3: column "a" has no value']),
    "nothing at all": (b"a,b\n1,\n2,\n", {}, ['rows.csv:2: column "b" has no value']),
    "NaN": (b"a\n1.5\nnan\n", {}, ['rows.csv:3: column "a" holds nan, which is no finite number']),
    "inf": (b"a,b\n1,-inf\n", {}, ['rows.csv:2: column "b" holds -inf, which is no finite number']),
    "too large": (b"a\n1e300\n", {}, ['rows.csv:2: column "a" holds 1e+300, which is too large']),
    "not UTF-8": (b"a\nx\n\xff\xfe\n", {}, ["rows.csv:3: the line holds bytes that are not utf-8", "latin-1"]),
    "a name not UTF-8": (b"a\xff\n1\n", {}, ["rows.csv:1: the line holds bytes that are not utf-8"]),
    "not ASCII": (b"a\n1\n\xe9\n", {"encoding": "ascii"}, ["rows.csv:3: the line holds bytes that are not ascii"]),
    "half a character": (b"a\x00b", {"encoding": "utf-16"}, ["rows.csv"]),
    "a long row": (b"a\n" + b"x" * 3_000_000 + b"\n", {}, ["longer than a mebibyte"]),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, {}, ["rows.csv:1: the line holds bytes"]),
}


def read(found: Table) -> list[Any]:
    return [found.train.column(name) for name in found.train.columns]


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_place(table: Any, name: str) -> None:
    data, options, said = BAD[name]
    with pytest.raises(DataError) as caught:
        read(table(data, **options))
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": ";;"}, "one ASCII character"),
        ({"delimiter": ""}, "one ASCII character"),
        ({"delimiter": "\n"}, "one ASCII character"),
        ({"delimiter": '"'}, "one ASCII character"),
        ({"delimiter": "é"}, "one ASCII character"),
        ({"encoding": "rot13"}, "an encoding of text"),
        ({"encoding": "hex"}, "an encoding of text"),
        ({"encoding": "none-such"}, "an encoding of text"),
        ({"encoding": "undefined"}, "an encoding of text"),
        ({"names": ["a", "a"]}, "each once"),
        ({"names": []}, "each once"),
        ({"missing": [1]}, "a text or a list of texts"),
        ({"skip_rows": -1}, "an integer of 0 or more"),
    ],
    ids=str,
)
def test_options_that_no_file_could_fit_are_errors_of_the_recipe(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Csv(path="rows.csv", **options)


RECIPE = """
dataset:
  source: {csv: {path: rows.csv}}
  inputs: {x: {columns: [age, COLUMN]}}
  targets: {y: {columns: [income]}}
model: {layers: [{Dense: {units: 1}}]}
compile: {optimizer: sgd, loss: mse}
fit: {epochs: 1}
"""


@pytest.mark.parametrize(("column", "hint"), [("hieght", "did you mean height?"), ("zzz", "age, height, income")])
def test_an_unknown_column_names_the_nearest(tmp_path: Path, column: str, hint: str) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("COLUMN", column))
    (tmp_path / "rows.csv").write_text("age,height,income\n1,2,3\n4,5,6\n")
    loaded = load_recipe(tmp_path / "r.yaml")
    found = loaded.recipe.dataset.source.open(Places(tmp_path))
    with pytest.raises(RecipeError, match=f'no column "{column}"') as caught:
        real_outlines(loaded.recipe, found)[0]
    assert hint in str(caught.value)


def test_the_digest_is_that_of_the_bytes(table: Any) -> None:
    one, same, other = table("a\n1\n"), table("a\n1\n"), table("a\n2\n")
    assert list(one.digests) == ["rows.csv"]
    assert one.digests == same.digests != other.digests


def test_a_column_that_nobody_reads_may_be_anything(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 2},{'' if i == 7 else i}\n" for i in range(20))
    (tmp_path / "rows.csv").write_text("a,b,c\n" + rows)
    text = """
    dataset: {source: {csv: {path: rows.csv}}, columns: [a], target: b, split: {test: 0.2}}
    model: {layers: [{Dense: {units: 1, activation: sigmoid}}]}
    compile: {loss: binary_crossentropy}
    fit: {epochs: 1}
    """
    options = Options(runs=tmp_path / "runs", device="cpu")
    assert fit(loaded(text), options, b"", tmp_path).epochs == [0]
    with pytest.raises(DataError, match=r'rows.csv:9: column "c" has no value'):
        fit(loaded(text, "dataset.columns=[a, c]"), options, b"", tmp_path)
    with pytest.raises(DataError, match=r'rows.csv:9: column "c" has no value'):
        fit(loaded(text, "dataset.split.stratify=c"), options, b"", tmp_path)


SEED = (
    b'name,age,height,when,note\n"M\xc3\xbcller, A",31,1.75,2020-01-01,"said ""no"""\nOdd,4,0.9,2021-02-03,x\n'
    b"Zoe,55,-1e2,1999-12-31,\n"
)


@pytest.mark.parametrize("options", [{}, {"header": False}, {"missing": ["?", "y"]}, {"encoding": "latin-1"}], ids=str)
def test_mutants_are_rows_or_a_clean_refusal(table: Any, options: dict[str, Any]) -> None:
    """200 files, each some bytes away from a good one: bytes changed, cut, doubled, or put elsewhere."""
    good = SEED.replace(b",\n", b",z\n")
    assert len(table(good, **options).train) == 3 + (options.get("header") is False)
    random = np.random.default_rng(11)
    special = list(b'",\n\r\0;\xff\xef\t -.eE?')
    seen = {"rows": 0, "refused": 0}
    for _ in range(200):
        data = bytearray(good)
        for _ in range(random.integers(1, 5)):
            at, way = int(random.integers(0, len(data))), random.integers(0, 4)
            if way == 0:
                data[at] = random.integers(0, 256)
            elif way == 1:
                data[at] = random.choice(special)
            elif way == 2:
                del data[at : at + int(random.integers(1, 6))]
            else:
                data[at:at] = data[: int(random.integers(1, 30))]
            data = data or bytearray(b"x")
        try:
            columns = read(table(bytes(data), **options))
        except TrainerError as error:
            named = "rows.csv" in str(error)
            seen["refused"] += named
        else:
            assert len({len(c) for c in columns}) == 1
            assert all(c.dtype in ("int64", "float32", object) for c in columns)
            seen["rows"] += 1
    assert sum(seen.values()) == 200
    assert min(seen.values()) > 10
