"""Exact resume: stopped anywhere and taken up again, a run ends in the same bits as one that was never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.train.recipes import DIGITS, loaded
from trainer.errors import RunError
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.train.job import Options, Outcome, fit, go_on_or_fit, resume
from trainer.train.loop import Training
from trainer.train.progress import Quiet, Stopped

CALLBACKS = """
callbacks:
  - EarlyStopping: {monitor: val_loss, patience: 3, restore_best_weights: true}
  - ReduceLROnPlateau: {monitor: val_loss, patience: 1, factor: 0.5, min_delta: 0.05}
  - ModelCheckpoint: {monitor: val_accuracy, save_best_only: true}
  - CSVLogger: {filename: log.csv}
"""
KFOLD = DIGITS.replace("validation_split: 0.25", "kfold: {folds: 3}")


def options(tmp_path: Path, **more: Any) -> Options:
    return Options(runs=tmp_path, device="cpu", checkpoint_every=0.0, **more)


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let a signal arrive after so many steps of the process."""
    done = {"steps": 0}
    real = Training.step

    def counted(self: Training, batch: Any) -> None:
        real(self, batch)
        done["steps"] += 1
        if done["steps"] == steps:
            self.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    monkeypatch.setattr(Training, "step", counted)


def weights(outcome: Outcome) -> list[np.ndarray]:
    model = read_model(outcome.directory / "model.h5")
    return [a for arrays in model.weights.values() for a in arrays]


def assert_same(a: Outcome, b: Outcome) -> None:
    for ours, theirs in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert repr(a.history) == repr(b.history)
    assert repr(a.folds) == repr(b.folds)
    assert a.figures == b.figures
    first, second = (read_model(o.directory / "model.h5").extra for o in (a, b))
    assert repr(first) == repr(second)
    for name in ("log.csv",):
        if (a.directory / name).exists():
            assert (a.directory / name).read_bytes() == (b.directory / name).read_bytes()


class Killed(BaseException):
    """Ends a training as a kill does: nothing is saved."""


@pytest.mark.parametrize("text", [DIGITS, KFOLD], ids=["plain", "folds"])
@pytest.mark.parametrize("append", ["false", "true"])
def test_a_run_that_was_killed_before_its_first_checkpoint_logs_no_line_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, append: str
) -> None:
    text += f"callbacks: [{{CSVLogger: {{filename: log.csv, append: {append}}}}}]\n"
    whole = fit(loaded(text), Options(runs=tmp_path / "whole", device="cpu", checkpoint_every=1e9), b"")
    real, ends = Training._one_epoch, iter([False, False, True])

    def killed(self: Training) -> None:
        if next(ends):
            raise Killed
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_one_epoch", killed)
        with pytest.raises(Killed):
            fit(loaded(text), Options(runs=tmp_path / "cut", device="cpu", checkpoint_every=1e9), b"")
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert directory.load_checkpoint()[0] is None
    done = resume(directory, options(tmp_path))
    logs = sorted(path.relative_to(whole.directory) for path in whole.directory.rglob("log.csv"))
    assert logs
    for log in logs:
        assert (done.directory / log).read_bytes() == (whole.directory / log).read_bytes()


def test_a_run_that_was_killed_before_its_first_step_goes_on_with_the_engine_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise Killed

    whole = fit(loaded(DIGITS), options(tmp_path / "whole"), b"")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.train.work.set_threads", killed)
        with pytest.raises(Killed):
            fit(loaded(DIGITS), options(tmp_path / "cut"), b"")
    done = resume(RunDirectory.find(tmp_path / "cut", "last"), options(tmp_path))
    first, second = (RunDirectory(o.directory).record() for o in (whole, done))
    assert {k: first[k] for k in ("engine", "steps_by")} == {k: second[k] for k in ("engine", "steps_by")}
    assert_same(whole, done)


@pytest.mark.parametrize("steps", [1, 14, 15, 20, 43, 59])
@pytest.mark.parametrize("text", [DIGITS, DIGITS + CALLBACKS], ids=["plain", "callbacks"])
def test_a_stopped_run_ends_as_one_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, steps: int
) -> None:
    whole = fit(loaded(text), options(tmp_path / "whole"), b"")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        try:
            fit(loaded(text), options(tmp_path / "cut"), b"")
        except Stopped:
            pass
        else:
            pytest.skip("training was over before the signal")
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert directory.record()["state"] == "interrupted"
    again = resume(directory, options(tmp_path / "cut"))
    assert_same(whole, again)


def test_a_chain_of_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(loaded(), options(tmp_path / "whole"), b"")
    run = options(tmp_path / "cut")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Stopped):
            fit(loaded(), run, b"")
    directory = RunDirectory.find(tmp_path / "cut", "last")
    for _ in range(3):
        with monkeypatch.context() as patch:
            stop_after(patch, 13)
            with pytest.raises(Stopped):
                resume(directory, run)
    assert_same(whole, resume(directory, run))


@pytest.mark.parametrize("steps", [3, 30, 60, 80, 130, 200])
def test_inside_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Of folds that go one after the other; tests/train/test_together.py has those that go side by side."""
    monkeypatch.setenv("TRAINER_WITHOUT", "together")
    whole = fit(loaded(KFOLD), options(tmp_path / "whole"), b"")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            fit(loaded(KFOLD), options(tmp_path / "cut"), b"")
    assert_same(whole, resume(RunDirectory.find(tmp_path / "cut", "last"), options(tmp_path / "cut")))


def test_fit_four_is_fit_two_and_resume_two(tmp_path: Path) -> None:
    four = fit(loaded(), options(tmp_path / "four"), b"")
    two = fit(loaded(DIGITS, "fit.epochs=2"), options(tmp_path / "two"), b"")
    more = resume(RunDirectory(two.directory), options(tmp_path / "two", epochs=4))
    assert_same(four, more)


def test_another_seed_differs(tmp_path: Path) -> None:
    first = fit(loaded(), options(tmp_path), b"")
    second = fit(loaded(DIGITS, "seed=4"), options(tmp_path), b"")
    assert any((a != b).any() for a, b in zip(weights(first), weights(second), strict=True))


def test_a_complete_run_is_not_resumed(tmp_path: Path) -> None:
    done = fit(loaded(DIGITS, "fit.epochs=1"), options(tmp_path), b"")
    with pytest.raises(RunError, match="complete"):
        resume(RunDirectory(done.directory), options(tmp_path))


def test_changed_data_are_refused_by_name(tmp_path: Path) -> None:
    done = fit(loaded(DIGITS, "fit.epochs=1"), options(tmp_path), b"")
    directory = RunDirectory(done.directory)
    record = directory.record()
    assert record["data"]
    directory.write_record({**record, "data": dict.fromkeys(record["data"], "0" * 64)})
    with pytest.raises(RunError, match="data file"):
        resume(directory, options(tmp_path, epochs=2))
    again = resume(directory, options(tmp_path, epochs=2, allow_change=True))
    assert len(again.history["loss"]) == 2


def test_every_item_of_saved_state_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the state, changed in what a stopped run left, changes what comes out or is refused."""
    text = DIGITS + CALLBACKS
    whole = fit(loaded(text), options(tmp_path / "whole"), b"")
    parts = ["optimizer", "position", "scores", "callbacks"]
    for part in parts:
        root = tmp_path / part
        with monkeypatch.context() as patch:
            stop_after(patch, 20)
            with pytest.raises(Stopped):
                fit(loaded(text), options(root), b"")
        real = Training.load_state

        def without(self: Training, saved: Any, part: str = part, real: Any = real) -> None:
            fresh = self.state()
            fresh_part = {**saved[part], "batch": 0, "epoch": 0} if part == "position" else fresh[part]
            if part == "callbacks":
                fresh_part = {k: dict.fromkeys(v) for k, v in saved[part].items()}
            real(self, {**saved, part: fresh_part})

        directory = RunDirectory.find(root, "last")
        with monkeypatch.context() as patch:
            patch.setattr(Training, "load_state", without)
            try:
                changed = resume(directory, options(root))
            except Exception:
                continue
        assert repr(changed.history) != repr(whole.history), f"{part} makes no difference"


def test_the_model_file_opens_with_h5py_alone(tmp_path: Path) -> None:
    done = fit(loaded(DIGITS, "fit.epochs=1"), options(tmp_path), b"")
    with h5py.File(done.directory / "model.h5") as file:
        assert set(file) >= {"model_weights", "trainer"}
        assert "optimizer_weights" not in file


MEANS = """
name: means
seed: 2
dataset:
  source: diabetes
  inputs: {features: {preprocess: [Normalization]}}
  targets: {target: {}}
model: {layers: [{Dense: {units: 9, activation: relu}}, {Dense: {units: 1}}]}
compile: {optimizer: rmsprop, loss: mse, metrics: [mae, mape, {CosineSimilarity: {axis: 0}}]}
fit: {epochs: 2, batch_size: 10, validation_split: 0.2}
"""


@pytest.mark.parametrize("steps", [1, 7, 20, 35, 36, 50])
@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_sums_of_fractions_go_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, engine: str
) -> None:
    """How many batches are added up at once does not depend on where a run was stopped."""
    whole = fit(loaded(MEANS), options(tmp_path / "whole", engine=engine), b"")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            fit(loaded(MEANS), options(tmp_path / "cut", engine=engine), b"")
    assert_same(whole, resume(RunDirectory.find(tmp_path / "cut", "last"), options(tmp_path / "cut")))


def test_a_run_that_was_killed_while_its_recipe_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = RunDirectory.write

    def killed(self: RunDirectory, name: str, data: bytes) -> None:
        if name == "resolved.yaml":
            raise Killed
        real(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write", killed)
        with pytest.raises(Killed):
            fit(loaded(), options(tmp_path), b"", tmp_path)
    directory = RunDirectory.find(tmp_path, "last")
    assert directory.record()["folder"] == str(tmp_path)
    with pytest.raises(RunError, match="stopped before its recipe was written"):
        resume(directory, options(tmp_path))
    said: list[str] = []
    shown = Quiet()
    monkeypatch.setattr(shown, "say", said.append, raising=False)
    begun = go_on_or_fit(loaded(), options(tmp_path, progress=shown), b"", tmp_path)
    assert begun.directory != directory.path
    assert said[0].endswith("was stopped before its recipe was written; a new run begins")


NORMALIZED = """
name: normalized
dataset: {source: diabetes, inputs: {features: {preprocess: [Normalization]}}, limit: 61}
model: {layers: [{SpectralNormalization: {layer: {Dense: {units: 9}}}}, {Dense: {units: 1}}]}
compile: {optimizer: SGD, loss: huber}
fit: {epochs: 3, batch_size: 10}
"""


@pytest.mark.parametrize("steps", [1, 4, 7, 11])
def test_weights_that_a_pass_writes_over_are_written_once_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """However often a program for a batch is made: for the first one, for the smaller last one, after a stop."""
    whole = fit(loaded(NORMALIZED), options(tmp_path / "whole"), b"")
    plain = fit(loaded(NORMALIZED), options(tmp_path / "plain", engine="plain"), b"")
    np.testing.assert_allclose(plain.history["loss"], whole.history["loss"], rtol=1e-6)
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            fit(loaded(NORMALIZED), options(tmp_path / "cut"), b"")
    assert_same(whole, resume(RunDirectory.find(tmp_path / "cut", "last"), options(tmp_path)))


DIVERGING = """
name: diverging
dataset: {source: diabetes, inputs: {features: {preprocess: [Normalization]}}, limit: 61}
model:
  layers:
    - Dense: {units: 4, activation: exponential, kernel_initializer: {RandomNormal: {stddev: 30}}}
    - Dense: {units: 1}
compile: {optimizer: {LossScaleOptimizer: {inner_optimizer: {SGD: {learning_rate: 1e-4}}}}, loss: mse}
fit: {epochs: 3, batch_size: 10}
callbacks: [TerminateOnNaN, {CSVLogger: {filename: log.csv}}]
"""


def test_a_signal_at_the_batch_that_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit(loaded(DIVERGING), options(tmp_path / "whole"), b"")
    (epochs,) = {len(values) for values in whole.history.values()}
    assert epochs == 1
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped):
            fit(loaded(DIVERGING), options(tmp_path / "cut"), b"")
    assert_same(whole, resume(RunDirectory.find(tmp_path / "cut", "last"), options(tmp_path)))
