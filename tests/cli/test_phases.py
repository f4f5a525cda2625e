"""Phases and first weights on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.calling import Call
from tests.train.recipes import DIGITS
from tests.train.test_phases import TWO


@pytest.fixture(autouse=True)
def recipes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own, with a recipe of two phases and one without."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text(TWO)
    (tmp_path / "one.yaml").write_text(DIGITS)


def test_summary_counts_what_each_phase_moves(call: Call) -> None:
    code, out, _ = call("summary", "two.yaml")
    assert code == 0
    assert "Trainable in phase head (1 of 2): 330\nTrainable in phase 2: 2,474\n" in out
    assert json.loads(call("summary", "two.yaml", "--json")[1])["result"]["phases"]["Phase 2"] == 2474
    assert "phases" not in json.loads(call("summary", "one.yaml", "--json")[1])["result"]


def test_a_run_in_phases_is_used_like_any_other(call: Call) -> None:
    code, _, err = call("fit", "two.yaml", "--device", "cpu", "--progress", "plain")
    assert code == 0
    assert "Phase head (1 of 2): epochs 1 to 2, frozen: dense, batch*" in err
    assert "Epoch 4/4" in err
    for words in (("evaluate", "last"), ("weights", "last"), ("report", "last"), ("summary", "last"), ("runs",)):
        assert call(*words)[0] == 0, words
    code, out, _ = call("predict", "last", "--split", "test", "--classes")
    assert code == 0
    assert len(out.splitlines()) > 200
    code, _, err = call("resume", "last", "--epochs", "9")
    assert code == 5
    assert "--epochs can't extend a run with phases" in err


def test_epochs_that_no_phase_takes_are_refused(call: Call) -> None:
    code, _, err = call("fit", "two.yaml", "--epochs", "9", "--dry-run")
    assert code == 2
    assert "--epochs changes nothing: each phase says its own epochs" in err
    code, _, err = call("fit", "two.yaml", "--set", "phases[1].fit.epochs=null", "--epochs", "9", "--dry-run")
    assert code == 0
    assert "one batch of each phase trained: loss " in err


def test_weights_of_a_run(call: Call) -> None:
    assert call("fit", "one.yaml", "--name", "first", "--epochs", "1", "--device", "cpu", "-q")[0] == 0
    code, _, err = call("fit", "one.yaml", "--set", "model.weights={from: first}", "--dry-run", "--progress", "plain")
    assert code == 0
    assert "first/" in err
    assert "2 loaded" in err
    code, _, err = call("fit", "one.yaml", "--set", "model.weights={from: frist}")
    assert code == 5
    assert "model.weights.from: there is no run 'frist' in runs" in err
    assert "did you mean first?" in err
    base = "model.base={from: first, until: dense}"
    layers = "model.layers=[{Dense: {units: 10, activation: softmax, name: head}}]"
    assert call("validate", "one.yaml", "--set", base, "--set", layers)[0] == 0
    assert call("fit", "one.yaml", "--set", base, "--set", layers, "--epochs", "1", "--device", "cpu", "-q")[0] == 0
