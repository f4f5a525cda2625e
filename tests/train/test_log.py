"""`log.txt`: everything that was said, in order, through stops and kills."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.train.recipes import DIGITS, loaded, trained
from trainer.errors import EnvironmentFault, TrainerError
from trainer.runs.directory import RunDirectory, list_runs
from trainer.train.job import Options, fit, resume
from trainer.train.log import RunLog
from trainer.train.loop import Training
from trainer.train.progress import Quiet

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (.*)")


def said(directory: RunDirectory) -> list[str]:
    lines = (directory.path / "log.txt").read_text().splitlines()
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return [m[1] for m in found if m]


def test_a_whole_run(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS + "callbacks: [{PrintLogs: {every: 2}}]\n")
    lines = said(RunDirectory(outcome.directory))
    assert re.match(r"fits digits, seed 3, on cpu \(trainer .*, torch .*\); rows: 450 train, 150 validation", lines[0])
    kinds = [line.split(" - ")[0].split(":")[0] for line in lines[1:-1]]
    assert kinds == ["Epoch 1/4", "Epoch 2", "Epoch 2/4", "Epoch 3/4", "Epoch 4", "Epoch 4/4"]
    assert f"loss: {outcome.history['loss'][0]:.4f}" in lines[1]
    assert f"test.accuracy: {outcome.figures['test.accuracy']:.4f}" in lines[-1]
    assert re.match(r"done in [\d.]+ s: val.loss: ", lines[-1])


def test_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_WITHOUT", "together")
    outcome = trained(tmp_path, DIGITS.replace("validation_split: 0.25", "kfold: {folds: 2}"))
    lines = said(RunDirectory(outcome.directory))
    assert [line for line in lines if line.startswith(("Fold", "Final"))] == [
        "Fold 1/2: 300 rows train, 300 validate",
        "Fold 2/2: 300 rows train, 300 validate",
        "Final fit on all 600 rows",
    ]
    assert sum("Epoch 4/4" in line for line in lines) == 3


def test_folds_side_by_side(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS.replace("validation_split: 0.25", "kfold: {folds: 2}"))
    lines = said(RunDirectory(outcome.directory))
    assert "2 folds side by side: 300, 300 rows train; shown are means" in lines
    shown = [line for line in lines if "Epoch 4/4" in line]
    assert len(shown) == 2
    losses = [fold["val_loss"][-1] for fold in outcome.folds]
    assert f"val_loss: {sum(losses) / 2:.4f}" in shown[0]


def test_a_stop_and_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = loaded()
    with monkeypatch.context() as patch:

        def refuse(self: Training) -> None:
            raise EnvironmentFault("the disk is full")

        patch.setattr(Training, "validate", refuse)
        with pytest.raises(TrainerError):
            fit(text, Options(runs=tmp_path, device="cpu"), DIGITS.encode())
    (directory,) = list_runs(tmp_path)
    assert said(directory)[-1] == "failed: the disk is full"
    # A kill may leave half a line.
    with (directory.path / "log.txt").open("a") as file:
        file.write("2026-01-01T00:00:00Z Epo")
    resume(directory, Options(runs=tmp_path, device="cpu"))
    lines = said(directory)
    at = lines.index("Epo")
    assert lines[at - 1] == "failed: the disk is full"
    assert lines[at + 1].startswith("goes on with digits, seed 3")
    assert lines[-1].startswith("done in")


def test_what_strangers_say_is_made_visible(tmp_path: Path) -> None:
    RunLog(Quiet(), tmp_path / "log.txt").say("a\x1b[31mb\nc")
    assert (tmp_path / "log.txt").read_text().endswith("a\\x1b[31mb\nc\n")


def test_a_log_that_can_not_be_written_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"can't write .*log.txt"):
        RunLog(Quiet(), tmp_path / "nowhere" / "log.txt").note("a")
