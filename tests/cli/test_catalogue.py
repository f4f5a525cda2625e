"""`trainer list` and `trainer explain` as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from trainer.cli.app import run
from trainer.layers.base import Layer


def said(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> str:
    """What the command writes on standard output."""
    capfd.readouterr()
    assert run(list(words)) == 0
    return capfd.readouterr().out


def test_lists_have_a_line_for_each_name_in_a_pipe(capfd: pytest.CaptureFixture[str]) -> None:
    lines = said(["list", "layers"], capfd).splitlines()
    Layer.spellings()
    ours = [n for n, c in Layer.catalogue.items() if c.__module__.startswith("trainer.")]
    assert {line.split()[0] for line in lines} >= set(ours)
    assert len(lines) == len(Layer.catalogue)
    column = len(max(Layer.catalogue, key=len)) + 2
    assert all(line[column - 1] == " " and line[column] != " " for line in lines), "the meanings stand in one column"


def test_explanations_end_with_a_line_to_copy(capfd: pytest.CaptureFixture[str]) -> None:
    out = said(["explain", "Dense"], capfd)
    assert out.endswith("\nexample, under model.layers:\n  - Dense: {units: 64, activation: relu}\n")
    assert "\n  units: an integer above 0; required\n      Size of the last axis of the output.\n" in out
    both = said(["explain", "Flatten"], capfd)
    assert both.endswith("\nexample, under model.layers or dataset.preprocess:\n  - Flatten\n")


def test_long_lines_of_options_stay_under_their_option(capfd: pytest.CaptureFixture[str]) -> None:
    after = said(["explain", "fit"], capfd).split("class_weight: ")[1].splitlines()
    assert [line[:6].strip() for line in after[1:3]] == ["", ""]


def test_explanations_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    (found,) = json.loads(said(["explain", "LSTMCell", "--json"], capfd))["result"]
    assert found["example"] == "- RNN: {cell: {LSTMCell: {units: 64}}}"
    assert found["under"] == ["model.layers"]
    assert found["options"][0] == {
        "name": "units", "type": "an integer above 0", "default": None, "text": found["options"][0]["text"]
    }  # fmt: skip


def test_words_that_the_shapes_decide(capfd: pytest.CaptureFixture[str]) -> None:
    out = said(["explain", "ce"], capfd)
    assert out.startswith("ce: a metric that the shapes choose\n")
    assert "`SparseCategoricalCrossentropy` for targets that are class numbers" in out
