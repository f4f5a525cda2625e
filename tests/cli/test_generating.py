"""generate: the text goes to standard output as it is made, everything else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.calling import Call
from tests.train.recipes import DIGITS, trained
from tests.train.test_generating import recipe
from trainer.cli.generating import shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs over a text and over digits."""
    made = tmp_path_factory.mktemp("runs")
    trained(made, recipe(made))
    trained(made, DIGITS, "fit.epochs=1")
    return made


@pytest.fixture
def generate(call: Call, folder: Path) -> Call:
    """Calls `trainer generate`."""
    return lambda *words: call("generate", *words, "--runs", str(folder))


def test_a_prompt_and_what_follows(generate: Call) -> None:
    words = ("book", "--prompt", "The just man", "--length", "30")
    code, out, err = generate(*words)
    assert (code, err) == (0, "")
    assert out.startswith("The just man")
    assert len(out) == len("The just man") + 30 + len("\n")
    assert generate(*words, "--temperature", "0.5", "--seed", "5")[1] == out
    assert generate(*words, "--seed", "6")[1] != out


def test_several_temperatures(generate: Call) -> None:
    words = ("book", "--prompt", "is he", "--length", "20", "--temperature")
    each = {heat: generate(*words, heat)[1] for heat in ("0", "0.5", "1.2")}
    code, out, err = generate(*words, "0", "--temperature", "0.5", "--temperature", "1.2")
    assert code == 0
    assert out == "\n".join(each.values())
    assert err == "greedy:\ntemperature 0.5:\ntemperature 1.2:\n"
    assert generate(*words, "0.5", "--temperature", "1.2", "-q")[2] == ""
    assert generate(*words[:-1], "--greedy")[1] == each["0"]


def test_without_a_prompt_one_comes_from_the_text(generate: Call) -> None:
    found = {generate("book", "--length", "5", "--seed", seed)[1] for seed in "12345"}
    assert len(found) > 1
    assert generate("book", "--length", "5", "--seed", "1")[1] in found


def test_as_json(generate: Call) -> None:
    words = ("book", "--prompt", "Yes.", "--length", "12", "--temperature", "0.5", "--temperature", "2")
    code, out, err = generate(*words, "--json")
    answer = json.loads(out)
    assert (code, err, answer["ok"]) == (0, "", True)
    result = answer["result"]
    assert (result["prompt"], result["seed"]) == ("Yes.", 5)
    assert [t["temperature"] for t in result["texts"]] == [0.5, 2.0]
    plain = "\n".join(f"Yes.{t['text']}\n" for t in result["texts"])
    assert plain == generate(*words)[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("book", "--greedy", "--temperature", "1"), 2, "either --greedy or --temperature"),
        (("book", "--temperature", "-1"), 2, "expected a number of 0 or more, found -1"),
        (("book", "--temperature", "nan"), 2, "expected a number of 0 or more, found nan"),
        (("book", "--length", "0"), 2, "--length"),
        (("book", "--prompt", "zoo"), 3, "the character 'z' does not occur"),
        (("digits", "--prompt", "one"), 5, "its rows come from digits"),
        (("nothere",), 5, "nothere"),
    ],
)
def test_what_can_not_be(generate: Call, words: tuple[str, ...], code: int, said: str) -> None:
    found, out, err = generate(*words)
    assert (found, out) == (code, "")
    assert said in err


def test_each_piece_is_there_before_the_next_is_made(capfd: pytest.CaptureFixture[str]) -> None:
    seen = []

    def pieces() -> Iterator[str]:
        for piece in ("a", "b\n", "c"):
            yield piece
            seen.append(capfd.readouterr().out)

    assert shown("so ", pieces()) == "ab\nc"
    assert seen == ["so a", "b\n", "c"]


def test_a_terminal_is_not_steered(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = ["\x1b[2J", "\n", "\u202e"]
    assert shown("a", pieces) == "\x1b[2J\n\u202e"
    assert capsys.readouterr().out == "a\x1b[2J\n\u202e\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown("a", pieces)
    assert capsys.readouterr().out == "a\\x1b[2J\n\\x202e\n"
