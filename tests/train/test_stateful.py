"""Runs with stateful layers: the state goes on from batch to batch, through a stop too, and batches have one size."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.recipes import DIGITS, loaded
from tests.train.test_resume import assert_same, options, stop_after, weights
from trainer.errors import RecipeError
from trainer.runs.directory import RunDirectory
from trainer.train.job import fit, resume
from trainer.train.progress import Stopped

STATEFUL = DIGITS.replace("target_shape: [64]", "target_shape: [8, 8]").replace(
    "    - Dense: {units: 32, activation: relu}\n    - Dropout: {rate: 0.3}\n",
    "    - RNN: {cell: {LSTMCell: {units: 4}}, stateful: true, return_sequences: true}\n"
    "    - Bidirectional: {layer: {GRU: {units: 4, stateful: true}}}\n",
)
STATEFUL = STATEFUL.replace("batch_size: 32", "batch_size: 50, shuffle: false").replace("epochs: 4", "epochs: 2")


@pytest.mark.parametrize("steps", [1, 9, 13])
def test_a_stopped_run_ends_as_one_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    whole = fit(loaded(STATEFUL), options(tmp_path / "whole"), b"")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            fit(loaded(STATEFUL), options(tmp_path / "parts"), b"")
    directory = RunDirectory.find(tmp_path / "parts", "last")
    assert_same(whole, resume(directory, options(tmp_path / "parts")))


def test_the_state_matters(tmp_path: Path) -> None:
    kept = fit(loaded(STATEFUL), options(tmp_path / "kept"), b"")
    fresh = fit(loaded(STATEFUL.replace("stateful: true", "stateful: false")), options(tmp_path / "fresh"), b"")
    assert any((a != b).any() for a, b in zip(weights(kept), weights(fresh), strict=True))


def test_a_batch_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is stateful: expected 32 rows as in every batch, found 2"):
        fit(loaded(STATEFUL.replace("batch_size: 50", "batch_size: 32")), options(tmp_path), b"")
