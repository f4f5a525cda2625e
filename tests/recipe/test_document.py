"""The text of a recipe: YAML 1.2 words, places of everything, what is refused, and `dump` as its inverse."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recipe.test_check import SEVEN
from tests.train.recipes import DIGITS, loaded
from trainer.errors import Problem, RecipeError
from trainer.recipe.document import MOST_BYTES, Document, load
from trainer.recipe.scalars import dump, scalar

WORDS: list[tuple[str, Any]] = [
    *((w, None) for w in ("", "~", "null", "Null", "NULL")),
    *((w, w) for w in ("nULL", "none", "None", "nil")),
    *((w, True) for w in ("true", "True", "TRUE")),
    *((w, False) for w in ("false", "False", "FALSE")),
    *((w, w) for w in ("tRUE", "yes", "Yes", "no", "NO", "on", "On", "off", "OFF", "y", "n")),
    ("0", 0), ("-0", 0), ("+7", 7), ("-12", -12), ("012", 12), ("00", 0), ("0o14", 12), ("0o7", 7), ("0x1F", 31),
    ("0xff", 255), ("0o8", "0o8"), ("-0x1", "-0x1"), ("+0o7", "+0o7"), ("0b11", "0b11"), ("0X1F", "0X1F"),
    ("1_000", "1_000"), ("1,000", "1,000"), ("0x1_0", "0x1_0"), ("0x", "0x"), ("0o", "0o"),
    ("1e-3", 1e-3), ("1E3", 1000.0), ("1e+3", 1000.0), ("1.5e2", 150.0), (".5", 0.5), ("-.5", -0.5), ("+.5", 0.5),
    ("1.", 1.0), ("-1.", -1.0), ("6.02e23", 6.02e23), ("0.1", 0.1), ("1.e1", 10.0), ("010.5", 10.5),
    ("1e", "1e"), ("e3", "e3"), (".", "."), ("-", "-"), ("+", "+"), ("..5", "..5"), ("1.2.3", "1.2.3"), (".e1", ".e1"),
    (".inf", math.inf), ("-.inf", -math.inf), ("+.INF", math.inf), (".Inf", math.inf), (".iNF", ".iNF"),
    ("inf", "inf"), ("nan", "nan"), ("NaN", "NaN"), ("-.nan", "-.nan"), ("infinity", "infinity"),
    ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("2001-12-14", "2001-12-14"), ("2001-12-14 21:59:43", None),
    ("1/255", "1/255"), ("0-7", "0-7"), ("=", "="), ("<<", "<<"), ("٣", "٣"), ("½", "½"), ("１", "１"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "value"), [p for p in WORDS if " " not in p[0]])
def test_words_stand_for_what_yaml_1_2_says(word: str, value: Any) -> None:
    found = scalar(word)
    assert (found, type(found)) == (value, type(value))
    if word not in ("", "-"):
        assert Document.parse(f"a: {word}").value == {"a": value}
        assert Document.parse(f"a: [{word}, {word}]").value == {"a": [value, value]} or "," in word


def test_nan_is_a_number() -> None:
    for word in (".nan", ".NaN", ".NAN"):
        assert math.isnan(Document.parse(word).value)


def test_words_with_blanks_are_text() -> None:
    assert Document.parse("a: 2001-12-14 21:59:43").value == {"a": "2001-12-14 21:59:43"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'1'", "1"),
        ('"no"', "no"),
        ("''", ""),
        ('""', ""),
        ("'it''s'", "it's"),
        (r'"a\tb\u00e9\x41\n"', "a\tbéA\n"),
        (r'"\ud83d\ude00"', "😀"),
        ("|\n  one\n  two\n", "one\ntwo\n"),
        ("|-\n  1\n", "1"),
        (">\n  one\n  two\n", "one two\n"),
        ("one\n  two", "one two"),
        ("", None),
        ("# nothing but a comment", None),
        ("{a: 1, 'b': [2, 3], \"c\": {}}", {"a": 1, "b": [2, 3], "c": {}}),
        ("{0: 1e-3, 6: 1e-4}", {0: 1e-3, 6: 1e-4}),
        ("- 1\n- [2]\n-\n  a: 3\n", [1, [2], {"a": 3}]),
        ("--- \na: 1\n...\n", {"a": 1}),
        ("%YAML 1.2\n---\na: no\n", {"a": "no"}),
        ('{"a": true, "b": null}', {"a": True, "b": None}),
    ],
)
def test_quotes_blocks_and_flow(text: str, value: Any) -> None:
    assert Document.parse(text).value == value


def refused(text: str, file: str = "f.yaml") -> list[Problem]:
    """The problems of a text, each of which has a place and stands on its line."""
    with pytest.raises(RecipeError) as caught:
        Document.parse(text, file)
    for problem in caught.value.problems:
        assert problem.place is not None
        assert problem.place.line >= 1
        assert problem.place.column >= 1
        assert problem.place.column <= len(problem.place.text) + 1 or not problem.place.text
        assert "yaml." not in str(problem)
    return caught.value.problems


PLACES = [
    ("a: 1\nb: 22\n", ("b",), "2:4", "22", "2:1", "b"),
    ("a:\n  b:\n    - 1\n    - xyz\n", ("a", "b", 1), "4:7", "xyz", None, ""),
    ("a: {b: [1, xyz], c: 'q r'}\n", ("a", "b", 1), "1:12", "xyz", None, ""),
    ("a: {b: [1, xyz], c: 'q r'}\n", ("a", "c"), "1:21", "'q r'", "1:18", "c"),
    ("a: {b: [1, xyz]}\n", ("a", "b"), "1:8", "[", "1:5", "b"),
    ('a: [1, "x\ty", 2]\n', ("a", 2), "1:15", "2", None, ""),
    ("a: {'\t': 5} # a\tcomment\n", ("a", "\t"), "1:10", "5", "1:5", "'\t'"),
    ("größe: ä\n日本: {語: x}\n", ("日本", "語"), "2:9", "x", "2:6", "語"),
    ("a: 1\r\nb: 22\r\n", ("b",), "2:4", "22", "2:1", "b"),
    ("a: 1\rb: 22\r", ("b",), "2:4", "22", "2:1", "b"),
    ("\ufeffa: 1\nb: 22\n", ("a",), "1:4", "1", "1:1", "a"),
    ("a: 'one\n  two'\nb: 3\n", ("a",), "1:4", "'one", "1:1", "a"),
    ("a: |\n  one\n  two\nb: 3\n", ("a",), "1:4", "|", "1:1", "a"),
    ("a: |\n  one\n  two\nb: 3\n", ("b",), "4:4", "3", "4:1", "b"),
    ("a: 'x\u2028y\u0085z'\nb: 22\n", ("b",), "2:4", "22", "2:1", "b"),
    ("a:\nb: 1\n", ("a",), "1:3", "", "1:1", "a"),
    ("# c\n\n---\na: 1\n", ("a",), "4:4", "1", "4:1", "a"),
    ("? a\n: 5\n", ("a",), "2:3", "5", "1:3", "a"),
    ('"a b": 5\n', ("a b",), "1:8", "5", "1:1", '"a b"'),
]


@pytest.mark.parametrize(("text", "path", "at", "marked", "key_at", "key_marked"), PLACES)
def test_values_and_keys_know_where_they_stand(
    text: str, path: tuple[Any, ...], at: str, marked: str, key_at: str | None, key_marked: str
) -> None:
    document = Document.parse(text, "f.yaml")
    for on_key, where, what in ((False, at, marked), (True, key_at, key_marked)):
        if where is None:
            continue
        place = document.place(path, on_key)
        assert place is not None
        assert f"{place.line}:{place.column}" == where
        assert place.text[place.column - 1 : place.column - 1 + place.width] == what


def test_a_missing_value_is_shown_at_the_key_of_its_mapping_and_the_caret_keeps_tabs() -> None:
    document = Document.parse("fit:\n  epochs: {'\t': 1, x: -4}\n", "r.yaml")
    error = document.locate(RecipeError("expected more", path=("fit", "epochs", "x"), hint="5"))
    assert str(error) == (
        "r.yaml:2:23 fit.epochs.x: expected more\n"
        "   2 |   epochs: {'\t': 1, x: -4}\n     |             \t         ^^\n       try: 5"
    )
    (problem,) = document.locate(RecipeError("missing", path=("fit", "batch"))).problems
    assert str(problem.place) == "r.yaml:1:1"


def test_a_wrong_key_is_shown_at_the_key() -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(DIGITS.replace("{label: {}}", "{-x: {field: label}}"))
    (problem,) = caught.value.problems
    assert (problem.path, str(problem.place)) == (("dataset", "targets", "-x"), "recipe.yaml:7:13")
    assert problem.message.startswith("expected a name of letters")


def test_validate_shows_seven_mistakes_in_a_fresh_process_without_torch(tmp_path: Path) -> None:
    (tmp_path / "seven.yaml").write_text(SEVEN)
    script = (
        "import sys; from trainer.cli.app import run; code = run(['validate', 'seven.yaml'])\n"
        "print(code, sorted({'torch', 'numpy', 'h5py', 'pyarrow', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    heads = re.findall(r"^(?:error: )?seven\.yaml:(\d+:\d+) ", done.stderr, re.MULTILINE)
    assert heads == ["6:13", "9:22", "10:7", "12:22", "15:18", "17:46", "19:3"], done.stderr
    assert len(re.findall(r"^ +\| +\^+$", done.stderr, re.MULTILINE)) == 7
    assert done.stdout == "2 []\n"
    assert "Traceback" not in done.stderr


def test_problems_come_in_the_order_of_the_text_and_not_without_end() -> None:
    document = Document.parse("\n".join(f"k{n}: {n}" for n in range(300)), "r.yaml")
    error = document.locate(RecipeError(*(Problem("no", (f"k{n}",)) for n in reversed(range(300)))))
    assert [p.path for p in error.problems[:3]] == [("k0",), ("k1",), ("k2",)]
    assert len(error.problems) == 101
    assert error.problems[-1].message == "and 200 more problems"


MISTAKES = [
    ("a: [1, 2\nb: 3\n", "2:2", "expected ',' or ']', found ':'; the bracket of line 1 is still open"),
    ("a: [1, 2\n", "1:4", "this bracket is never closed"),
    ("a: {b: 2\n", "1:4", "this bracket is never closed"),
    ("a: 'abc\nb: 3\n", "1:4", "this quote is never closed"),
    ('a: "abc\n', "1:4", "this quote is never closed"),
    ("a:\n\t- b\n", "2:1", "expected spaces, found a tab"),
    ("a: [1,\t2]", "1:7", "expected spaces, found a tab"),
    ("a: b: c", "1:5", "expected no colon here"),
    ("a: - b", "1:4", "expected no list entry here"),
    ("a: @x", "1:4", "expected a value, found '@'"),
    ("a: `x`", "1:4", "expected a value, found '`'"),
    ("a: ]", "1:4", "expected a value, found ']'"),
    ("a: {b: 1}}", "1:10", "expected the next entry of the block, found '}'"),
    ("a:\n  - 1\n c: 2", "3:2", "expected the next entry of the block, found an entry that stands further in"),
    ("- a\nb: 2", "2:1", "expected the next entry of the block, found another key"),
    ("a: 'x' y", "1:8", "expected the next entry of the block, found another value"),
    ('a: "\\q"', "1:6", "there is no escape \\q"),
    ('a: "\\x1"', "1:7", "expected 2 hexadecimal digits after the backslash"),
    ('a: "\\Uffffffff"', "1:7", "expected an escape of a Unicode character, found a number that is none"),
    ('a: "\\ud800"', "1:4", "expected text, found half a pair of surrogates (\\ud800 to \\udfff)"),
    ('a: "x\\0"', "1:4", "expected text, found a zero byte in it"),
    ("a: \x07b", "1:4", "expected text, found the control character U+0007"),
    ("a: 1\n---\nb: 2", "2:1", "one file is one recipe, found a second document"),
    ("%YAML 3.1\n---\na: 1", "1:1", "expected YAML 1.2, found another version"),
    ("a: !!str 1", "1:4", "expected a plain value, found the tag !!str"),
    ("a: !x {b: 1}", "1:4", "expected a plain value, found the tag !x"),
    ("a: ! b", "1:4", "expected a plain value, found the tag !"),
    ("!!set a: 1", "1:1", "expected a plain key, found the tag !!set"),
    ("a: *x", "1:4", "there is no anchor &x above"),
    ("a: &x [1, *x]", "1:11", "the value &x holds itself"),
    ("a: 1\nb: 2\na: 3", "3:1", '"a" stands twice here; first in line 1, column 1'),
    ("{a: 1, 'a': 2}", "1:8", '"a" stands twice here; first in line 1, column 2'),
    ("7: 1\n0x7: 2", "2:1", "7 stands twice here; first in line 1, column 1"),
    ("<<: {a: 1}", "1:1", "merge keys (<<) are not part of YAML 1.2"),
    ("[a]: 1", "1:1", "expected a name as the key, found a list or mapping"),
    ("? {a: 1}\n: 1", "1:3", "expected a name as the key, found a list or mapping"),
    ("true: 1", "1:1", 'expected a name as the key, found "true"'),
    ("1.5: 1", "1:1", 'expected a name as the key, found "1.5"'),
    ("~: 1", "1:1", 'expected a name as the key, found "~"'),
    ("'" + "k" * 201 + "': 1", "1:1", "expected a key of at most 200 characters, found 201"),
    ("a: " + "9" * 101, "1:4", "expected a whole number of at most 100 digits, found 101 characters"),
    ("a: 0x" + "f" * 5000, "1:4", "expected a whole number of at most 100 digits, found 5002 characters"),
]


@pytest.mark.parametrize(("text", "at", "message"), MISTAKES)
def test_what_is_no_recipe_text_is_named_at_its_place(text: str, at: str, message: str) -> None:
    (problem,) = refused(text)
    assert str(problem.place) == f"f.yaml:{at}"
    assert problem.message == message


def test_all_that_can_be_told_is_told_at_once() -> None:
    text = "a: !x 1\na: {b: 1, b: !y 2}\nb: *z\nc: [1\nd: 2\n"
    found = [(str(p.place), p.message.split(";")[0].split(",")[0], p.path) for p in refused(text)]
    assert found == [
        ("f.yaml:1:4", "expected a plain value", ("a",)),
        ("f.yaml:2:1", '"a" stands twice here', ("a",)),
        ("f.yaml:2:11", '"b" stands twice here', ()),
        ("f.yaml:2:14", "expected a plain value", ()),
        ("f.yaml:3:4", "there is no anchor &z above", ("b",)),
        ("f.yaml:5:2", "expected '", ()),
    ]


def test_an_alias_is_the_value_again_with_the_places_of_its_inside() -> None:
    document = Document.parse("a: &x {b: [1, 2]}\nc: *x\nd: *x\n")
    assert document.value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": {"b": [1, 2]}}
    assert str(document.place(("c",))) == "<text>:2:4"
    assert str(document.place(("c", "b", 1))) == "<text>:1:15"
    changed = document.with_sets(["c.b.0=7"])
    assert changed.value == {"a": {"b": [1, 2]}, "c": {"b": [7, 2]}, "d": {"b": [1, 2]}}


LEVELS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 4)}]\n" for n in range(1, 9))
BOMBS = {
    "many aliases": ("a: &a 1\n" + "b: [" + "*a, " * 40 + "]", "expected at most 32 aliases, found more"),
    "aliases of aliases": ("a0: &a0 [1, 2, 3, 4]\n" + LEVELS, "expected a recipe of at most 30,000 values, found more"),
    "ten levels of ten": (
        "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 11)),
        "expected at most 32 aliases, found more",
    ),
    "flow lists": ("[" * 500_000, "expected a recipe of at most 64 levels, found more"),
    "flow mappings": ("{a: " * 200_000, "expected a recipe of at most 64 levels, found more"),
    "block lists": ("- " * 500_000, "expected a recipe of at most 64 levels, found more"),
    "explicit keys": ("? " * 500_000, "expected a recipe of at most 64 levels, found more"),
    "values": ("- a\n" * 200_000, "expected a recipe of at most 30,000 values, found more"),
    "keys": ("".join(f"k{n}: 1\n" for n in range(80_000)), "expected a recipe of at most 30,000 values, found more"),
    "deep aliases": (
        "a: &a " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*a" + "]" * 40,
        "expected a recipe of at most 64 levels, found more",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_at_once(bomb: str) -> None:
    text, message = BOMBS[bomb]
    problems = refused(text)
    assert problems[-1].message == message
    assert len("\n".join(map(str, problems))) < 1000


def test_bounds_are_not_met_by_what_is_within_them() -> None:
    assert len(Document.parse("- a\n" * 29_999).value) == 29_999
    assert Document.parse("[" * 64 + "]" * 64).value is not None
    assert Document.parse("a: &a 1\nb: [" + "*a, " * 32 + "]").value["b"] == [1] * 32


def test_many_mistakes_and_long_lines_are_cut() -> None:
    problems = refused("a: 1\n" + "a: 1\n" * 5000)
    assert len(problems) == 50
    (problem,) = refused("{a: '" + "y" * 100_000 + "', b: *q}")
    assert problem.place is not None
    assert (problem.place.text, problem.place.column) == ("", 100_012)
    (problem,) = refused("{b: *q, a: '" + "y" * 100_000 + "'}")
    assert problem.place is not None
    assert len(problem.place.text) == 400


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    def fails(name: str, data: bytes | None, words: str) -> Problem:
        file = tmp_path / name
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(RecipeError) as caught:
            load(file)
        (problem,) = caught.value.problems
        assert words in str(problem)
        return problem

    fails("big.yaml", b"#" * (MOST_BYTES + 1), "expected a recipe of at most 1,048,576 bytes, found more")
    problem = fails("latin.yaml", "a: 1\nb: größe\n".encode("latin-1"), "expected UTF-8, found byte 0xf6")
    assert str(problem.place).endswith("latin.yaml:2:6")
    fails("utf16.yaml", "a: 1".encode("utf-16"), "expected UTF-8, found byte 0xff")
    assert fails("latn.yaml", None, "No such file").hint == "did you mean latin.yaml?"
    fails("", None, "Is a directory")
    fails("zero\0.yaml", None, "null byte")
    fails("n" * 300, None, "File name too long")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    fails("loop.yaml", None, "Too many levels")
    with pytest.raises(RecipeError, match="at most 1,048,576 bytes"):
        load("/dev/zero")
    fails("bom.yaml", b"\xef\xbb\xbfa: *x\n", "bom.yaml:1:4 a: there is no anchor")
    (tmp_path / "empty.yaml").write_bytes(b"")
    assert load(tmp_path / "empty.yaml").value is None
    assert str(load(tmp_path / "empty.yaml").place(())).endswith("empty.yaml:1:1")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
KEYS = st.one_of(TEXTS, st.integers(-(10**6), 10**6), st.sampled_from([w for w, _ in WORDS]))
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**60), 10**60),
    st.floats(allow_nan=False),
    TEXTS,
    st.sampled_from([w for w, _ in WORDS]),
)
VALUES = st.recursive(
    LEAVES, lambda v: st.one_of(st.lists(v, max_size=5), st.dictionaries(KEYS, v, max_size=5)), max_leaves=25
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_dump_reads_back_to_the_same(value: Any) -> None:
    text = dump(value)
    again = Document.parse(text).value
    assert repr(again) == repr(value)  # repr tells 1 from 1.0 and 0.0 from -0.0
    assert dump(again) == text
    assert text.isprintable() or "\n" in text
    text.encode("utf-8")


def test_dump_is_readable() -> None:
    value = {"fit": {"epochs": 3, "shuffle": True}, "x": [{"Dense": {"units": 8, "name": "no"}}], "rate": 1e-3}
    assert dump(value) == "fit:\n  epochs: 3\n  shuffle: true\nx:\n  - {Dense: {units: 8, name: no}}\nrate: 0.001\n"
    assert dump({"a": "true", "b": "1e3", "c": "a: b", "d": "\x1b[1m\u202e"}) == (
        'a: "true"\nb: "1e3"\nc: "a: b"\nd: "\\u001b[1m\\u202e"\n'
    )


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "a: ", "- ", "{", "[", '"', "'", "|\n ", "&x ", "!!"]))
def test_any_text_is_read_or_refused_with_a_place(text: str, lead: str) -> None:
    assert all(p.place is not None for p in problems_of(lead + text))


def problems_of(text: str) -> list[Problem]:
    """The problems of a text, if it has some; any other exception passes."""
    try:
        Document.parse(text, "f.yaml")
    except RecipeError as error:
        return error.problems
    return []
