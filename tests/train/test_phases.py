"""Trainings in phases: one history, each phase with its own optimizer and frozen layers, and exact resume in all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.recipes import DIGITS, loaded, only
from tests.train.test_resume import assert_same, options, stop_after, weights
from tests.train.test_stateful import STATEFUL
from trainer.cli.using import measure
from trainer.errors import DataError, RecipeError, RunError
from trainer.runs.directory import RunDirectory
from trainer.runs.model_file import read_model
from trainer.train.job import Outcome, fit, resume
from trainer.train.loop import Training
from trainer.train.progress import Stopped
from trainer.train.reproduce import reproduce_one
from trainer.train.trial import trial
from trainer.train.use import OpenRun

# 15 steps an epoch in the first phase and 8 in the second.
TWO = (
    DIGITS.replace("    - Dropout", "    - BatchNormalization\n    - Dropout")
    + """
phases:
  - {name: head, frozen: [dense, batch*], fit: {epochs: 2}}
  - {compile: {optimizer: {adam: {learning_rate: 0.001}}}, fit: {epochs: 2, batch_size: 64}}
"""
)
CALLBACKS = """
callbacks:
  - EarlyStopping: {monitor: val_loss, mode: max, patience: 0, restore_best_weights: true}
  - ReduceLROnPlateau: {monitor: val_loss, patience: 0, factor: 0.5, min_delta: 50}
  - ModelCheckpoint: {monitor: val_accuracy, save_best_only: true}
  - CSVLogger: {filename: log.csv}
"""
# Early stopping waits for a larger loss, so that each phase ends after two of its three epochs.
STOPPING = TWO.replace("fit: {epochs: 2", "fit: {epochs: 3") + CALLBACKS
KFOLD = TWO.replace("validation_split: 0.25", "kfold: {folds: 2}")


def saved(outcome: Outcome) -> dict[str, np.ndarray]:
    """The weights of a run, by layer and number."""
    model = read_model(outcome.directory / "model.h5")
    return {f"{name}/{i}": a for name, arrays in model.weights.items() for i, a in enumerate(arrays)}


def positions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What each step of the trainings to come sees: epoch, batch, the seed of draws, the first row's sum."""
    seen: list[tuple[Any, ...]] = []
    real = Training.step

    def step(self: Training, batch: Any) -> None:
        cell = self.network.cell("dropout")
        seen.append((self.epoch, self.batch, float(batch.xs[0].double().sum()), cell._stream, len(batch.xs[0])))
        real(self, batch)

    monkeypatch.setattr(Training, "step", step)
    return seen


def test_one_history_over_all_phases(tmp_path: Path) -> None:
    done = fit(loaded(TWO), options(tmp_path), b"")
    assert done.epochs == [0, 1, 2, 3]
    assert [len(v) for v in done.history.values()] == [4] * 5
    assert done.history["learning_rate"] == [0.01, 0.01, 0.001, 0.001]
    assert done.figures["epochs"] == 4
    assert done.figures["history.loss.last"] == done.history["loss"][-1]
    log = (done.directory / "log.txt").read_text()
    assert "Phase head (1 of 2): epochs 1 to 2, frozen: dense, batch*" in log
    assert "Phase 2: epochs 3 to 4\n" in log


Weights = dict[str, np.ndarray]


def snapshots(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Weights, Weights]]:
    """The weights before and after each phase of the trainings to come."""
    seen: list[tuple[Weights, Weights]] = []
    real = Training.run

    def run(self: Training) -> Any:
        before = self.named_weights()
        history = real(self)
        seen.append((before, self.named_weights()))
        return history

    monkeypatch.setattr(Training, "run", run)
    return seen


def moved(before: Weights, after: Weights) -> set[str]:
    return {path for path in before if not np.array_equal(before[path], after[path])}


def test_what_a_phase_freezes_stays_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving statistics too; the next phase begins with what the one before left, and moves everything."""
    seen = snapshots(monkeypatch)
    done = fit(loaded(TWO), options(tmp_path), b"")
    (begun, head), (again, end) = seen
    assert moved(begun, head) == {"dense_1/kernel", "dense_1/bias"}
    assert moved(head, again) == set()
    assert moved(again, end) == set(begun)
    for ours, theirs in zip(weights(done), end.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_frozen_of_the_model_holds_where_a_phase_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = snapshots(monkeypatch)
    fit(loaded(TWO, "model.frozen=dense_1", "phases[0].frozen=[]", "phases[0].fit.epochs=1"), options(tmp_path), b"")
    first, second = (moved(*phase) for phase in seen)
    assert "dense_1/kernel" in first
    assert {path.partition("/")[0] for path in second} == {"dense", "batch_normalization"}


def test_each_phase_begins_with_a_new_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []
    real = Training.run

    def run(self: Training) -> Any:
        slots = [v for name, v in self.updater.state().items() if "/" in name]
        seen.append((self.iterations, float(sum(np.abs(v).sum() for v in slots))))
        return real(self)

    monkeypatch.setattr(Training, "run", run)
    fit(loaded(TWO), options(tmp_path), b"")
    assert seen == [(0, 0.0), (0, 0.0)]


@pytest.mark.parametrize(
    "optimizer", ["{ScheduleFreeAdamW: {learning_rate: 0.003}}", "{SGD: {learning_rate: 0.05, use_ema: true}}"]
)
def test_optimizers_that_keep_weights_of_their_own(tmp_path: Path, optimizer: str) -> None:
    """What such an optimizer keeps begins with the weights of the phase before, not with the first of all."""
    done = fit(loaded(TWO, f"compile.optimizer={optimizer}", "phases[1].compile={}"), options(tmp_path), b"")
    head, whole = done.history["loss"][1], done.history["loss"][2]
    assert whole < head


def test_draws_of_a_phase_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither orders of rows nor masks of dropout come again."""
    seen = positions(monkeypatch)
    fit(loaded(TWO, "phases[1].fit.batch_size=32"), options(tmp_path), b"")
    assert [step[:2] for step in seen] == [(e, b) for e in range(4) for b in range(15)]
    sums = [tuple(step[2] for step in seen[i : i + 15]) for i in range(0, 60, 15)]
    assert len(set(sums)) == 4
    first, second = {step[3] for step in seen[:30]}, {step[3] for step in seen[30:]}
    assert len(first) == len(second) == 1
    assert first != second


def test_metrics_may_differ(tmp_path: Path) -> None:
    """What a phase does not report is not a number in its epochs; what is judged in the end is the last phase's."""
    sets = ["phases[1].compile.metrics=[sparse_top_k_categorical_accuracy]"]
    done = fit(loaded(TWO, *sets), options(tmp_path), b"")
    for word in ("", "val_"):
        first, second = done.history[f"{word}accuracy"], done.history[f"{word}sparse_top_k_categorical_accuracy"]
        assert [math.isnan(v) for v in first] == [False, False, True, True]
        assert [math.isnan(v) for v in second] == [True, True, False, False]
    assert done.figures["history.accuracy.last"] == done.history["accuracy"][1]
    assert {"test.loss", "test.sparse_top_k_categorical_accuracy"} <= set(done.figures)
    assert "test.accuracy" not in done.figures
    lines = (done.directory / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,loss,accuracy")
    assert lines[1].endswith(",nan,nan")


def test_what_can_be_expected(tmp_path: Path) -> None:
    """Of the history everything that a phase reports; of the rest what the last phase does."""
    top = "phases[1].compile.metrics=[sparse_top_k_categorical_accuracy]"
    names = ["history.accuracy.best", "history.sparse_top_k_categorical_accuracy.last"]
    names += ["test.sparse_top_k_categorical_accuracy", "train.loss"]
    expect = ", ".join(f"{n}: {{min: 0}}" for n in names)
    done = fit(loaded(TWO, top, f"expect={{{expect}, epochs: {{value: 4}}}}"), options(tmp_path), b"")
    assert len(done.verdicts) == 5
    assert done.holds
    with pytest.raises(RecipeError, match=r'no run produces "test\.accuracy"'):
        loaded(TWO, top, "expect={test.accuracy: {min: 0}}")


def test_an_early_end_is_that_of_a_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next phase follows at once, from the weights that were put back; epochs are counted as they are trained."""
    seen = snapshots(monkeypatch)
    done = fit(loaded(STOPPING), options(tmp_path), b"")
    assert done.epochs == [0, 1, 2, 3]
    assert done.stop_reason == "val_loss has not improved since epoch 3"
    log = (done.directory / "log.txt").read_text()
    assert "Phase head (1 of 2) ends: val_loss has not improved since epoch 1" in log
    assert "Phase 2: epochs 3 to 5\n" in log
    (_, head), (again, _) = seen
    assert moved(head, again) == set()


def test_rates_that_fall_begin_anew(tmp_path: Path) -> None:
    done = fit(
        loaded(STOPPING, "callbacks=[{ReduceLROnPlateau: {patience: 0, factor: 0.5, min_delta: 50}}]"),
        options(tmp_path),
        b"",
    )
    np.testing.assert_allclose(done.history["learning_rate"], [0.01, 0.01, 0.005, 0.001, 0.001, 0.0005], rtol=1e-6)


def test_callbacks_that_go_on(tmp_path: Path) -> None:
    """Files of callbacks that all phases share go on, and what was best is not forgotten (as in Keras)."""
    best = "{ModelCheckpoint: {monitor: learning_rate, mode: max, save_best_only: true, filepath: 'at{epoch}.h5'}}"
    done = fit(loaded(TWO, f"callbacks=[{best}, {{CSVLogger: {{filename: log.csv}}}}]"), options(tmp_path), b"")
    assert sorted(p.name for p in done.directory.glob("at*.h5")) == ["at1.h5"]
    lines = (done.directory / "log.csv").read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["epoch", "0", "1", "2", "3"]


def test_callbacks_of_a_phase_begin_anew(tmp_path: Path) -> None:
    best = "{ModelCheckpoint: {monitor: learning_rate, mode: max, save_best_only: true, filepath: 'at{epoch}.h5'}}"
    sets = [f"phases[{n}].callbacks=[{best}]" for n in (0, 1)]
    done = fit(loaded(TWO, *sets), options(tmp_path), b"")
    assert sorted(p.name for p in done.directory.glob("at*.h5")) == ["at1.h5", "at3.h5"]
    one = fit(loaded(TWO, sets[1], "callbacks=[{CSVLogger: {filename: log.csv}}]"), options(tmp_path), b"")
    assert len((one.directory / "log.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("steps", [None, 10, 20, 30, 35, 45])
def test_callbacks_go_on_behind_a_phase_that_has_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    """What the first phase wrote is not written over by the third, stopped in between or not (15 steps an epoch)."""
    best = "{ModelCheckpoint: {monitor: learning_rate, mode: max, save_best_only: true, filepath: 'at{epoch}.h5'}}"
    text = DIGITS.replace("epochs: 4", "epochs: 1") + (
        f"callbacks: [{best}, {{CSVLogger: {{filename: log.csv}}}}]\n"
        "phases: [{}, {callbacks: [{CSVLogger: {filename: other.csv}}]}, {}]\n"
    )
    if steps is None:
        directory = fit(loaded(text), options(tmp_path), b"").directory
    else:
        directory = resume(stopped(tmp_path, monkeypatch, text, steps), options(tmp_path / "cut")).directory
    lines = {name: (directory / f"{name}.csv").read_text().splitlines() for name in ("log", "other")}
    assert [line.partition(",")[0] for line in lines["log"]] == ["epoch", "0", "2"]
    assert [line.partition(",")[0] for line in lines["other"]] == ["epoch", "1"]
    assert sorted(p.name for p in directory.glob("at*.h5")) == ["at1.h5"]


def test_a_model_saved_in_an_earlier_phase_opens(tmp_path: Path) -> None:
    saves = "phases[0].callbacks=[{ModelCheckpoint: {monitor: val_loss, save_best_only: true}}]"
    done = fit(loaded(TWO, saves), options(tmp_path), b"")
    run = OpenRun(RunDirectory(done.directory), options(tmp_path), "best")
    assert not run.built.graph.layers["dense"].trainable
    assert OpenRun(RunDirectory(done.directory), options(tmp_path)).built.graph.layers["dense"].trainable


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, steps: int) -> RunDirectory:
    """A run that a signal stopped after so many steps."""
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(Stopped):
            fit(loaded(text), options(tmp_path / "cut"), b"")
    return RunDirectory.find(tmp_path / "cut", "last")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Runs that were never stopped."""
    made = {}
    for text in (TWO, STOPPING, KFOLD):
        made[text] = fit(loaded(text), options(tmp_path_factory.mktemp("whole")), b"")
    return made


@pytest.mark.parametrize("steps", [1, 20, 29, 30, 31, 38, 39, 45])
@pytest.mark.parametrize("text", [TWO, STOPPING], ids=["plain", "callbacks"])
def test_a_stopped_run_ends_as_one_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Outcome], text: str, steps: int
) -> None:
    assert_same(whole[text], resume(stopped(tmp_path, monkeypatch, text, steps), options(tmp_path / "cut")))


# 10 and 5 steps an epoch in a fold, then 19 and 10.
@pytest.mark.parametrize("steps", [7, 20, 25, 31, 45, 80, 105])
def test_stopped_inside_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Outcome], steps: int
) -> None:
    assert len(whole[KFOLD].folds) == 2
    assert all(len(fold["loss"]) == 4 for fold in whole[KFOLD].folds)
    assert_same(whole[KFOLD], resume(stopped(tmp_path, monkeypatch, KFOLD, steps), options(tmp_path / "cut")))


@pytest.mark.parametrize("place", ["hand_over", "go_on", "phase_line"])
@pytest.mark.parametrize("text", [TWO, STOPPING], ids=["plain", "callbacks"])
def test_stopped_between_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Outcome], text: str, place: str
) -> None:
    """The process ends when a phase is complete and the next one has not begun."""
    import trainer.train.work

    real = getattr(trainer.train.work, place)

    def ends(*args: Any) -> Any:
        if place != "phase_line" or args[1] == 1:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.train.work, place, ends)
        with pytest.raises(KeyboardInterrupt):
            fit(loaded(text), options(tmp_path / "cut"), b"")
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert directory.record()["state"] == "interrupted"
    assert_same(whole[text], resume(directory, options(tmp_path / "cut")))


def test_a_line_written_before_the_end_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Outcome]
) -> None:
    """The process ends in the second phase, before any checkpoint at the end of an epoch."""
    real = Training._one_epoch

    def epoch(self: Training) -> None:
        real(self)
        if self.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_one_epoch", epoch)
        with pytest.raises(KeyboardInterrupt):
            fit(loaded(STOPPING), options(tmp_path / "cut"), b"")
    directory = RunDirectory.find(tmp_path / "cut", "last")
    assert len((directory.path / "log.csv").read_text().splitlines()) == 4
    assert_same(whole[STOPPING], resume(directory, options(tmp_path / "cut")))


def test_a_chain_of_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Outcome]) -> None:
    directory = stopped(tmp_path, monkeypatch, STOPPING, 13)
    for _ in range(2):
        with monkeypatch.context() as patch:
            stop_after(patch, 13)
            with pytest.raises(Stopped):
                resume(directory, options(tmp_path / "cut"))
    assert_same(whole[STOPPING], resume(directory, options(tmp_path / "cut")))


STATES = STATEFUL + "phases: [{fit: {epochs: 1}}, {frozen: rnn, fit: {epochs: 1}}]\n"


def test_states_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Keras, nothing resets what a stateful layer keeps; a run that was stopped has it too."""
    begun: list[float] = []
    real = Training.run

    def run(self: Training) -> Any:
        begun.append(sum(float(s.abs().sum()) for s in self.network.states().values()))
        return real(self)

    monkeypatch.setattr(Training, "run", run)
    never = fit(loaded(STATES), options(tmp_path / "whole"), b"")
    assert begun[0] == 0.0
    assert begun[1] > 0.0
    for steps in (9, 13):
        assert_same(never, resume(stopped(tmp_path / str(steps), monkeypatch, STATES, steps), options(tmp_path)))


def test_states_fit_one_size_of_batch() -> None:
    with pytest.raises(RecipeError, match="a state for each of the 50 rows of a batch, found 25") as caught:
        loaded(STATES.replace("frozen: rnn, fit: {epochs: 1", "frozen: rnn, fit: {batch_size: 25, epochs: 1"))
    assert caught.value.problems[0].path == ("phases", 1, "fit", "batch_size")
    assert caught.value.problems[0].place is not None


def test_a_run_with_phases_is_not_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = fit(loaded(TWO), options(tmp_path), b"")
    with pytest.raises(RunError, match="--epochs can't extend a run with phases"):
        resume(RunDirectory(done.directory), options(tmp_path, epochs=1))
    with pytest.raises(RunError, match="--epochs can't extend a run with phases"):
        resume(stopped(tmp_path, monkeypatch, TWO, 20), options(tmp_path / "cut", epochs=9))


def test_a_run_comes_out_again(tmp_path: Path) -> None:
    done = fit(loaded(STOPPING), options(tmp_path), b"")
    verdicts = reproduce_one(str(done.directory), options(tmp_path), 1, [])
    assert len(verdicts) > 10
    assert all(v.holds for v in verdicts)


def test_a_finished_run_is_used_as_its_last_phase_left_it(tmp_path: Path) -> None:
    done = fit(loaded(TWO, "phases[1].compile.metrics=[sparse_top_k_categorical_accuracy]"), options(tmp_path), b"")
    run = OpenRun(RunDirectory(done.directory), options(tmp_path))
    rows = run.rows("test")
    assert only(run.predict(run.built.columns(rows))).shape == (len(rows), 10)
    figures, _, _ = measure(run, rows)
    assert figures == {k.removeprefix("test."): v for k, v in done.figures.items() if k.startswith("test.")}


def test_a_dry_run_trains_a_batch_of_each_phase(tmp_path: Path) -> None:
    done = trial(loaded(TWO), options(tmp_path), Path())
    assert len(done["phases"]) == 2
    assert done["loss"] == done["phases"][0]
    assert not list(tmp_path.iterdir())


MISTAKES = [
    ("phases[1].frozen=[dens*, dense_2]", 'no layer is called "dense_2"', ("phases", 1, "frozen", 1)),
    ("phases[1].frozen='*'", "all of them are frozen", ("phases", 1, "frozen")),
    ("phases[1].fit.epoch=3", 'PhaseFit has no option "epoch"', ("phases", 1, "fit", "epoch")),
    ("phases[1].fit.epochs=0", "expected an integer above 0", ("phases", 1, "fit", "epochs")),
    ("phases[1].compile.loss=binary_crossentropy", "needs probabilities", ("phases", 1, "compile", "loss")),
    ("phases[1].compile.metrics=[accuracy, accuracy]", "two metrics are called", ("phases", 1, "compile", "metrics")),
    (
        "phases[0].callbacks=[{EarlyStopping: {monitor: val_auc}}]",
        'nothing produces "val_auc"',
        ("phases", 0, "callbacks"),
    ),
    ("phases[1].dataset=digits", 'Phase has no option "dataset"', ("phases", 1, "dataset")),
]


@pytest.mark.parametrize(("flag", "words", "path"), MISTAKES)
def test_mistakes_are_found_where_the_phase_says_them(flag: str, words: str, path: tuple[str | int, ...]) -> None:
    with pytest.raises(RecipeError) as caught:
        loaded(TWO, flag)
    problems = caught.value.problems
    assert {p.path[: len(path)] for p in problems} == {path}, problems
    assert words in problems[0].message
    assert problems[0].place is not None


def test_mistakes_have_the_line_of_their_phase() -> None:
    text = TWO.replace("frozen: [dense, batch*]", "frozen: [dense, bach*]")
    with pytest.raises(RecipeError, match="bach") as caught:
        loaded(text)
    place = caught.value.problems[0].place
    assert place is not None
    assert "frozen: [dense, bach*]" in place.text
    assert place.text[place.column - 1 :].startswith("bach*")


def test_what_only_one_phase_lacks_names_it() -> None:
    with pytest.raises(RecipeError, match=r'nothing produces "val_mae".* \(in phase 1\)') as caught:
        loaded(TWO, "phases[1].compile.metrics=[mae]", "callbacks=[{EarlyStopping: {monitor: val_mae}}]")
    assert caught.value.problems[0].path[:2] == ("callbacks", 0)


def test_another_mistake_brings_no_false_alarm() -> None:
    """A recipe that is faulty elsewhere is not told that its phases' metrics are unknown."""
    sets = ["phases[1].compile.metrics=[mae]", "expect={test.mae: {max: 1}}", "fit.epochs=-1"]
    with pytest.raises(RecipeError) as caught:
        loaded(TWO, *sets)
    assert [p.path for p in caught.value.problems] == [("fit", "epochs")]


def test_what_the_rows_show_is_found_before_the_first_phase_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second phase's loss takes flags alone, which only the rows can tell."""
    seen = snapshots(monkeypatch)
    sets = ["model.layers.dense_1.units=1", "compile={loss: mse}", "compile.optimizer=adam"]
    sets += ["phases[1].compile={loss: binary_crossentropy}", "model.layers.dense_1.activation=sigmoid"]
    with pytest.raises(DataError, match="expected values from 0 to 1"):
        fit(loaded(TWO, *sets), options(tmp_path), b"")
    assert seen == []


def test_weights_of_classes_that_no_row_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="class_weight names class 77") as caught:
        fit(loaded(TWO, "phases[1].fit.class_weight={77: 2.0}"), options(tmp_path), b"")
    assert caught.value.problems[0].path[:4] == ("phases", 1, "fit", "class_weight")
    assert caught.value.problems[0].place is not None
