"""`fit --profile` as a person and as a program see it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import trainer as trainer
from trainer.cli.profiling import MOST_LAYERS, totals
from trainer.train.loop import Training
from trainer.train.profile import PARTS
from trainer.train.progress import Stopped


def test_fit_shows_where_the_time_went(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--profile", "--progress", "none")
    assert said.code == 0
    folder = Path(said.out.strip())
    kept = json.loads((folder / "profile.json").read_text())
    for part in PARTS:
        assert re.search(rf"^ +{part} +[\d.]+% +[\d,.]+ +[\d.]+ *$", said.err, re.MULTILINE), part
    for layer in ("dense", "dropout", "dense_1"):
        assert len(re.findall(rf"^ +{layer} +[\d.]+%", said.err, re.MULTILINE)) == 2
    assert re.search(r"60 steps, [\d,.]+ µs each: [\d,]+ steps and [\d,]+ rows a second", said.err)
    assert all(line in said.err for line in kept["advice"])
    assert "\x1b" not in said.err


def test_json_holds_what_the_file_holds(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--profile", "--json")
    result = said.json["result"]
    assert said.err == ""
    assert result["profile"] == json.loads((Path(result["run"]) / "profile.json").read_text())
    assert set(result["profile"]["parts"]) == set(PARTS)


def test_without_the_option_there_is_no_profile(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--json")
    assert "profile" not in said.json["result"]
    assert not (Path(said.json["result"]["run"]) / "profile.json").exists()


def test_quiet_says_nothing_but_the_run(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--profile", "-q")
    assert said.err == ""
    assert (Path(said.out.strip()) / "profile.json").exists()


def test_a_run_that_goes_on_is_profiled_from_there(trainer: Any) -> None:
    folder = Path(trainer("fit", "digits.yaml", "-q").out.strip())
    said = trainer("resume", str(folder), "--epochs", "5", "--profile", "--json")
    kept = json.loads((folder / "profile.json").read_text())
    assert said.json["result"]["profile"] == kept
    assert kept["steps"] == 15


def test_a_run_that_is_stopped_has_a_profile(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Training.end_epoch

    def stopped(self: Training) -> None:
        real(self)
        if self.epoch == 1:
            raise Stopped(2)

    monkeypatch.setattr(Training, "end_epoch", stopped)
    assert trainer("fit", "digits.yaml", "--profile", "-q").code == 130
    (file,) = Path().rglob("profile.json")
    assert json.loads(file.read_text())["steps"] == 30


def test_a_dry_run_has_nothing_to_profile(trainer: Any) -> None:
    said = trainer("fit", "digits.yaml", "--profile", "--dry-run")
    assert said.code == 2
    assert "--profile can't stand beside --dry-run" in said.err


def test_only_the_layers_that_take_longest_are_shown(trainer: Any) -> None:
    layers = ", ".join(["{Dense: {units: 16}}"] * (MOST_LAYERS + 3))
    sets = f"model.layers=[{layers}, {{Dense: {{units: 10, activation: softmax}}}}]"
    said = trainer("fit", "digits.yaml", "--profile", "--progress", "none", "--set", sets)
    assert len(re.findall(r"^ +dense\w* +[\d.]+%", said.err, re.MULTILINE)) == 2 * MOST_LAYERS
    assert f"the {MOST_LAYERS} layers that take longest are shown; profile.json has all" in said.err


def test_what_is_said_beside_the_table() -> None:
    profile = {
        "steps": 2000,
        "autograd_steps": 500,
        "autograd_since": "",
        "seconds": 2.0,
        "run_seconds": 3.5,
        "steps_a_second": 1000.0,
        "rows_a_second": 32000.0,
        "layers": {},
    }
    assert totals(profile) == [
        "2,000 steps, 1,000.0 µs each: 1,000 steps and 32,000 rows a second",
        "autograd found the gradients of 500 steps, since the shapes of these batches need it",
        "training took 2.00 s; reading, building, judging and writing 1.50 s",
    ]
