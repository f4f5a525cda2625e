"""docs/coverage.md: nothing of Keras is forgotten, and no reason is left behind."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.contract import coverage

LEAST = {"layers": 150, "losses": 26, "metrics": 50, "optimizers": 20, "callbacks": 16, "activations": 33, "utils": 40}


def test_document_is_as_generated() -> None:
    hint = "run: python -m tests.contract.coverage > docs/coverage.md"
    assert coverage.DOCUMENT.read_text(encoding="utf-8") == coverage.document() + "\n", hint


def test_every_name_and_argument_is_there_or_excused() -> None:
    assert list(coverage.faults()) == []


def test_all_public_names_are_looked_at() -> None:
    rows = {s: len(coverage.entries(s)) + len(coverage.left_out(s)) for s in coverage.SECTIONS}
    assert all(rows[section] >= least for section, least in LEAST.items()), rows
    for section in coverage.SECTIONS:
        seen = {n for e in coverage.entries(section) for n in e.names} | set(coverage.left_out(section))
        assert seen >= set(coverage.public_names(section))
        assert all(e.names for e in coverage.entries(section)), "Keras has an alias but not the name"


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, dict[str, Any]]]:
    """A copy of the reasons, to be spoilt."""
    found = copy.deepcopy(coverage.reasons())
    monkeypatch.setattr(coverage, "reasons", lambda: found)
    return found


def test_a_name_without_a_reason_is_found(reasons: dict[str, dict[str, dict[str, Any]]]) -> None:
    del reasons["names"]["layers"]["Lambda"]
    assert list(coverage.faults()) == ["layers.Lambda is not there, and nothing says why"]


@pytest.mark.parametrize("name", ["Dense", "MaxPool2D", "Sandwich"])
def test_a_reason_for_what_is_there_is_found(reasons: dict[str, dict[str, dict[str, Any]]], name: str) -> None:
    reasons["names"]["layers"][name] = "we forgot"
    assert list(coverage.faults()) == [f"layers.{name} is there, or Keras has no such name: no reason is needed"]


def test_an_argument_without_a_reason_is_found(reasons: dict[str, dict[str, dict[str, Any]]]) -> None:
    del reasons["arguments"]["layers"]["LSTM"]
    assert list(coverage.faults()) == ["layers.LSTM has no use_cudnn, and nothing says why"]


@pytest.mark.parametrize("argument", ["unroll", "slices"])
def test_a_reason_for_an_argument_that_needs_none_is_found(
    reasons: dict[str, dict[str, dict[str, Any]]], argument: str
) -> None:
    reasons["arguments"]["layers"]["LSTM"][argument] = "we forgot"
    reasons["arguments"]["losses"]["all"][argument] = "we forgot"
    expected = [f"{place}: no reason is needed for {argument}" for place in ("layers.LSTM", "losses.all")]
    assert list(coverage.faults()) == expected


def test_reasons_for_classes_that_are_gone_are_found(reasons: dict[str, dict[str, dict[str, Any]]]) -> None:
    reasons["arguments"]["layers"]["Sandwich"] = {"butter": "none left"}
    reasons["differs"]["callbacks"]["CSVLogger"]["filname"] = "a path"
    assert list(coverage.faults()) == [
        "layers.Sandwich: no reason is needed for butter",
        "callbacks.CSVLogger has no filname that could differ",
    ]
