"""Every callback beside Keras's own on the same seeded logs: same decisions, weights, rates, files and words."""

from __future__ import annotations

import copy
import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.callbacks.monitor_callback import MonitorCallback
from keras.src.utils import io_utils
from pydantic import ValidationError

from trainer.callbacks.base import Callback, better
from trainer.callbacks.learning_rate import LearningRateScheduler
from trainer.errors import EnvironmentFault, RecipeError
from trainer.schedules.base import Schedule

# Keras 3.15 reads its own variables in a way that numpy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Epoch = dict[str, float]
BATCHES = 5


class FakeRun:
    """A run without a model: its weights are the number of the epoch under way."""

    def __init__(self, directory: Path, rate: float = 0.1):
        self.directory, self.epochs, self.learning_rate = directory, 30, rate
        self.now = [np.zeros(1)]
        self.stopped: list[str] = []
        self.saved: list[tuple[str, bool]] = []
        self.said: list[str] = []
        self.rates: list[float] = []

    def stop(self, reason: str) -> None:
        self.stopped.append(reason)

    def weights(self) -> list[np.ndarray]:
        return [w.copy() for w in self.now]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.now = [w.copy() for w in weights]

    def save(self, path: str, weights_only: bool = False) -> None:
        self.saved.append((path, weights_only))

    def say(self, text: str) -> None:
        self.said.append(text)


def drive(callback: Callback, run: FakeRun, epochs: list[Epoch], pause: int = -1) -> int:
    """Run hooks as the loop does; the number of epochs begun. At `pause` only options and `my` survive."""
    my = SimpleNamespace()
    callback.on_train_begin(my, run)
    for epoch, logs in enumerate(epochs):
        if epoch == pause:
            callback, my = Callback.parse(callback.spec()), SimpleNamespace(**copy.deepcopy(vars(my)))
        run.now = [np.full(1, float(epoch))]
        callback.on_epoch_begin(my, run, epoch)
        for batch in range(BATCHES if callback.needs_batches else 0):
            callback.on_batch_end(my, run, batch, {"loss": logs["loss"]})
            if run.stopped:
                break
        run.rates.append(run.learning_rate)
        callback.on_epoch_end(my, run, epoch, logs)
        if run.stopped:
            break
    assert all(plain(v) for v in vars(my).values()), f"a checkpoint can't keep {vars(my)}"
    callback.on_train_end(my, run, logs)
    return epoch + 1


def plain(value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return all(plain(v) for v in (value.values() if isinstance(value, dict) else value))
    return value is None or type(value) in (bool, int, float, str, np.ndarray)


class Tiny(keras.Sequential):
    """Keras's side of FakeRun: a real compiled model that notes what it is asked to save."""

    saved: list[tuple[str, bool]]

    def save(self, filepath: str, **_: Any) -> None:
        self.saved.append((filepath, False))

    def save_weights(self, filepath: str, **_: Any) -> None:
        self.saved.append((filepath, True))


@pytest.fixture(scope="module")
def model() -> Tiny:
    tiny = Tiny([keras.layers.Dense(1, use_bias=False)])
    tiny.compile(keras.optimizers.SGD(0.1), "mse", metrics=["accuracy", keras.metrics.AUC(name="auc")])
    tiny.train_on_batch(np.ones((2, 1), "float32"), np.ones((2, 1), "float32"))
    return tiny


def drive_keras(callback: Any, model: Tiny, epochs: list[Epoch], rate: float = 0.1) -> tuple[int, list[float]]:
    """Keras's callback in the order of `fit`; the number of epochs begun and the rate of each."""
    model.stop_training, model.saved = False, []
    model.optimizer.learning_rate = rate
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, logs in enumerate(epochs):
        model.set_weights([np.full((1, 1), float(epoch))])
        callback.on_epoch_begin(epoch)
        for batch in range(BATCHES):
            callback.on_train_batch_end(batch, {"loss": logs["loss"]})
            if model.stop_training:
                break
        rates.append(rate_of(model))
        callback.on_epoch_end(epoch, dict(logs))
        if model.stop_training:
            break
    callback.on_train_end(dict(logs))
    return epoch + 1, rates


def rate_of(model: Tiny) -> float:
    return model.optimizer.learning_rate.value.item()


def random_logs(random: np.random.Generator, length: int = 30) -> list[Epoch]:
    """Logs as a training gives them: float32 values, with plateaus, ties, jumps and now and then NaN."""
    columns = {}
    for name in ("loss", "val_loss", "accuracy", "val_accuracy", "auc", "val_auc"):
        falling = -0.03 if "loss" in name else 0.03
        values = 0.5 + np.cumsum(random.normal(falling * random.random(), 0.05, length))
        if random.random() < 0.5:
            values = np.round(values, int(random.integers(1, 3)))
        if random.random() < 0.3:
            values = values * random.choice([1e-5, 1e3])
        if random.random() < 0.1:
            values[int(random.integers(length)) :] = np.nan
        columns[name] = values.astype("float32")
    return [{name: float(v[i]) for name, v in columns.items()} for i in range(length)]


def twins(name: str, options: dict[str, Any], **keras_options: Any) -> tuple[Callback, Any]:
    return Callback.parse({name: options}), getattr(keras.callbacks, name)(**{**options, **keras_options})


def watching(random: np.random.Generator) -> dict[str, Any]:
    monitor = str(random.choice(["val_loss", "loss", "val_accuracy", "accuracy", "auc", "val_auc"]))
    return {"monitor": monitor, "mode": str(random.choice(["auto", "auto", "min", "max"]))}


@pytest.mark.parametrize("seed", range(300))
def test_early_stopping(seed: int, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    logs = random_logs(random)
    options = {
        **watching(random),
        "min_delta": float(random.choice([0, 0, 1e-3, -0.02, 0.1])),
        "patience": int(random.integers(0, 7)),
        "verbose": 1,
        "baseline": random.choice([None, 0.3, 0.5]),
        "restore_best_weights": bool(random.random() < 0.6),
        "start_from_epoch": int(random.choice([0, 0, 1, 5])),
    }
    said = keras_words(monkeypatch)
    ours, theirs = twins("EarlyStopping", options)
    run = FakeRun(tmp_path)
    epochs, _ = drive_keras(theirs, model, logs)
    assert drive(ours, run, logs, pause=int(random.integers(1, 20))) == epochs
    np.testing.assert_array_equal(run.now[0], model.get_weights()[0].ravel())
    assert run.said == said
    assert bool(run.stopped) == (theirs.stopped_epoch > 0)


def test_early_stopping_is_tried_on_all_outcomes(model: Tiny, tmp_path: Path) -> None:
    """The sequences above stop early, late and not at all; restored weights are not always the last."""
    ends = []
    for seed in range(60):
        run = FakeRun(tmp_path)
        logs = random_logs(np.random.default_rng(seed))
        early = Callback.parse({"EarlyStopping": {"patience": 3, "restore_best_weights": True}})
        ends.append((drive(early, run, logs), run.now[0][0]))
    assert len({e for e, _ in ends}) > 10
    assert any(e == 30 for e, _ in ends)
    assert any(e - 1 != w for e, w in ends)


@pytest.mark.parametrize("seed", range(300))
def test_reduce_on_plateau(seed: int, model: Tiny, tmp_path: Path) -> None:
    random = np.random.default_rng(1000 + seed)
    logs = random_logs(random)
    options = {
        **watching(random),
        "factor": float(random.choice([0.1, 0.5, 0.9])),
        "patience": int(random.integers(0, 5)),
        "min_delta": float(random.choice([1e-4, 0, -1e-2])),
        "cooldown": int(random.choice([0, 0, 1, 4])),
        "min_lr": float(random.choice([0, 0.001, 0.1])),
    }
    ours, theirs = twins("ReduceLROnPlateau", options)
    run = FakeRun(tmp_path)
    _, rates = drive_keras(theirs, model, logs)
    drive(ours, run, logs, pause=int(random.integers(1, 20)))
    np.testing.assert_array_equal(np.float32(run.rates), np.float32(rates))


def test_reduce_on_plateau_says_so(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    logs = [{"loss": 1.0}] * 4
    drive(Callback.parse({"ReduceLROnPlateau": {"monitor": "loss", "patience": 2, "verbose": 1}}), run, logs)
    assert run.said == ["Epoch 3: ReduceLROnPlateau reducing learning rate to 0.01."]


PATTERNS = [
    "best.h5",
    "sub/{epoch:02d}-{val_loss:.2f}.h5",
    "{epoch}-{accuracy:.3e}-{{x}}.h5",
    "deep/er/m-{epoch:4d}{val_auc:+.1%}.h5",
]


@pytest.mark.parametrize("seed", range(200))
def test_model_checkpoint(seed: int, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(2000 + seed)
    logs, weights_only = random_logs(random), bool(random.random() < 0.5)
    pattern = str(random.choice(PATTERNS))
    options = {
        **watching(random),
        "verbose": 1,
        "save_best_only": bool(random.random() < 0.7),
        "save_weights_only": weights_only,
        "initial_value_threshold": random.choice([None, 0.45]),
    }
    pattern = pattern.replace(".h5", ".weights.h5") if weights_only else pattern
    said = keras_words(monkeypatch)
    ours = Callback.parse({"ModelCheckpoint": {"filepath": pattern, **options}})
    theirs = keras.callbacks.ModelCheckpoint(f"{tmp_path}/{pattern}", **options)
    run = FakeRun(tmp_path)
    drive_keras(theirs, model, logs)
    drive(ours, run, logs, pause=int(random.integers(1, 20)))
    assert [(f"{tmp_path}/{path}", only) for path, only in run.saved] == model.saved
    told = [s.replace(f"{tmp_path}/", "") for s in said if "finished" not in s]
    assert run.said == told


@pytest.mark.parametrize("every", [1, 3, 5, 7, 12])
def test_model_checkpoint_by_batches(every: int, model: Tiny, tmp_path: Path) -> None:
    pattern = "{epoch:02d}-{batch:03d}-{loss:.3f}.h5"
    logs = random_logs(np.random.default_rng(every), 9)
    theirs = keras.callbacks.ModelCheckpoint(f"{tmp_path}/{pattern}", save_freq=every)
    ours = Callback.parse({"ModelCheckpoint": {"filepath": pattern, "save_freq": every}})
    run = FakeRun(tmp_path)
    drive_keras(theirs, model, logs)
    drive(ours, run, logs, pause=4)
    assert len(run.saved) == 9 * BATCHES // every
    assert [(f"{tmp_path}/{path}", only) for path, only in run.saved] == model.saved


def test_best_by_batches(tmp_path: Path) -> None:
    """Keras raises a TypeError here: it asks which is better at the end of the first epoch only."""
    run = FakeRun(tmp_path)
    options = {"filepath": "{epoch}-{batch}.h5", "save_freq": 2, "save_best_only": True, "monitor": "loss"}
    drive(Callback.parse({"ModelCheckpoint": options}), run, [{"loss": v} for v in (3.0, 2.0, 4.0, 1.0)])
    assert [path for path, _ in run.saved] == ["1-2.h5", "2-1.h5", "4-1.h5"]


def test_default_checkpoint(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    checkpoint = Callback.parse("ModelCheckpoint")
    assert not checkpoint.needs_batches
    drive(checkpoint, run, random_logs(np.random.default_rng(0), 2))
    assert run.saved == [("checkpoints/best.h5", False)] * 2
    assert Callback.parse({"ModelCheckpoint": {"save_freq": 4}}).needs_batches


def test_epochs_without_validation_are_passed_over(tmp_path: Path) -> None:
    """With validation_freq 2 every other epoch has no val_loss, and none of them counts."""
    logs = [{"loss": 1.0, **({"val_loss": v} if v else {})} for v in (0, 3.0, 0, 2.0, 0, 2.5, 0, 2.6, 0, 2.7)]
    for spec, expected in [
        ({"EarlyStopping": {"patience": 2}}, 8),
        ({"ModelCheckpoint": {"save_best_only": True}}, 10),
        ({"ReduceLROnPlateau": {"patience": 2}}, 10),
    ]:
        run = FakeRun(tmp_path)
        assert drive(Callback.parse(spec), run, logs) == expected
        assert len(run.saved) == (2 if "ModelCheckpoint" in spec else 0)
        assert run.learning_rate == pytest.approx(0.01 if "ReduceLROnPlateau" in spec else 0.1)


WATCHERS = [
    "EarlyStopping",
    "ReduceLROnPlateau",
    {"ModelCheckpoint": {"save_best_only": True}},
    {"PrintLogs": {"values": ["val_loss"]}},
]


@pytest.mark.parametrize("spec", WATCHERS, ids=str)
def test_what_nothing_produces(spec: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='nothing produces "val_loss"; the logs hold loss, val_mae') as caught:
        drive(Callback.parse(spec), FakeRun(tmp_path), [{"loss": 1.0, "val_mae": 1.0}])
    assert "did you mean" in str(caught.value)


def test_what_recipes_can_check() -> None:
    assert Callback.parse("EarlyStopping").monitored() == "val_loss"
    assert Callback.parse({"ReduceLROnPlateau": {"monitor": "mae"}}).monitored() == "mae"
    assert Callback.parse("ModelCheckpoint").monitored() is None
    assert Callback.parse({"ModelCheckpoint": {"save_best_only": True}}).monitored() == "val_loss"


MISSION = {0: 1e-3, 5: 1e-4, 10: 1e-5, 15: 1e-6, 20: 5e-7}


def keras_schedule(schedule: Any) -> Callable[[int, float], float]:
    if all(isinstance(key, int) for key in schedule):
        return lambda epoch, rate: next((v for e, v in sorted(schedule.items(), reverse=True) if e <= epoch), rate)
    twin = keras.optimizers.schedules.deserialize(Schedule.parse(schedule).to_keras())
    return lambda epoch, rate: float(twin(epoch))


@pytest.mark.parametrize(
    "schedule",
    [
        MISSION,
        {7: 0.5, 3: 0.25},
        {"ExponentialDecay": {"initial_learning_rate": 0.1, "decay_steps": 4, "decay_rate": 0.5}},
        {"PiecewiseConstantDecay": {"boundaries": [4, 9], "values": [1e-3, 1e-4, 1e-5]}},
    ],
    ids=str,
)
def test_learning_rate_scheduler(schedule: Any, model: Tiny, tmp_path: Path) -> None:
    logs = random_logs(np.random.default_rng(0))
    theirs = keras.callbacks.LearningRateScheduler(keras_schedule(schedule))
    run = FakeRun(tmp_path)
    _, rates = drive_keras(theirs, model, logs)
    drive(Callback.parse({"LearningRateScheduler": {"schedule": schedule}}), run, logs, pause=11)
    np.testing.assert_allclose(run.rates, rates, rtol=1e-6)
    assert len(set(rates)) > 2


def test_schedule_spellings(tmp_path: Path) -> None:
    ours = LearningRateScheduler.read({"schedule": {"0": "1/1000", 6: 1e-4}, "verbose": 1})
    assert ours.schedule == {0: 1e-3, 6: 1e-4}
    assert ours.spec() == {"LearningRateScheduler": {"schedule": {0: 1e-3, 6: 1e-4}, "verbose": 1}}
    run = FakeRun(tmp_path)
    drive(ours, run, [{"loss": 1.0}] * 2)
    assert run.said[1] == "Epoch 2: LearningRateScheduler setting learning rate to 0.001."
    assert LearningRateScheduler.read({"schedule": 0.3}).rate(5) == 0.3
    for wrong, says in [
        *((w, "learning rates of 0 or more by first epoch") for w in ({0: "fast"}, {0: -1}, {0: 1, "0": 2})),
        *((w, "expected a schedule") for w in ([1, 2], {}, {-1: 1e-3, 2: 1}, {0.5: 1})),
        ({"CosineDeca": {}}, "no schedule called"),
        ({"CosineDecay": {"initial_learning_rate": 1, "decay_steps": 0}}, "a number of steps above 0"),
    ]:
        with pytest.raises(ValidationError, match=says):
            LearningRateScheduler.read({"schedule": wrong})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_terminate_on_nan(value: float, model: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs: list[Epoch] = [{"loss": 1.0}, {"loss": 2.0}, {"loss": value}, {"loss": 1.0}]
    keras_words(monkeypatch)
    ours, theirs = twins("TerminateOnNaN", {})
    assert ours.needs_batches
    run = FakeRun(tmp_path)
    assert drive(ours, run, logs) == drive_keras(theirs, model, logs)[0] == 3
    assert run.stopped == [f"the loss is {value} after batch 1"]
    assert run.said == ["Batch 1: Invalid loss, terminating training"]
    ours, theirs = twins("TerminateOnNaN", {"raise_error": True})
    with pytest.raises(RuntimeError, match="Loss value"):
        drive_keras(theirs, model, logs)
    with pytest.raises(EnvironmentFault, match=r"after batch 1 \(learning rate 0.1\)"):
        drive(ours, FakeRun(tmp_path), logs)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("names", [("loss", "accuracy"), ("val_loss", "loss"), ("loss", 'a "quoted", name')])
def test_csv_logger(separator: str, names: tuple[str, ...], model: Tiny, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    logs = [{n: float(v) for n, v in zip(names, random.normal(size=2), strict=True)} for _ in range(6)]
    logs[3]["loss"] = float("nan")
    logs[4] = {"loss": 1e-9, "late": 1.0}
    options = {"separator": separator, "append": False}
    theirs = keras.callbacks.CSVLogger(f"{tmp_path}/theirs.csv", **options)
    ours = Callback.parse({"CSVLogger": {"filename": "logs/ours.csv", **options}})
    for _ in range(2):
        drive_keras(theirs, model, logs)
        drive(ours, FakeRun(tmp_path), logs, pause=2)
        assert (tmp_path / "logs/ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    theirs = keras.callbacks.CSVLogger(f"{tmp_path}/theirs.csv", separator, append=True)
    ours = Callback.parse({"CSVLogger": {"filename": "logs/ours.csv", "separator": separator, "append": True}})
    for _ in range(2):
        drive_keras(theirs, model, logs)
        drive(ours, FakeRun(tmp_path), logs)
        assert (tmp_path / "logs/ours.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()
    assert len((tmp_path / "theirs.csv").read_bytes().splitlines()) == 1 + 3 * 6


def test_csv_logger_appends_to_nothing(tmp_path: Path) -> None:
    ours = Callback.parse({"CSVLogger": {"filename": "new.csv", "append": True}})
    drive(ours, FakeRun(tmp_path), [{"loss": 1.0}])
    assert (tmp_path / "new.csv").read_text().split() == ["epoch,loss,val_loss", "0,1.0,NA"]


def test_csv_logger_repeats_no_line_after_a_kill(tmp_path: Path) -> None:
    """Epochs 2 and 3 were written, then the run went back to the checkpoint after epoch 1."""
    ours, my, run = Callback.parse({"CSVLogger": {"filename": "log.csv"}}), SimpleNamespace(), FakeRun(tmp_path)
    ours.on_train_begin(my, run)
    ours.on_epoch_end(my, run, 0, {"loss": 1.0})
    kept = copy.deepcopy(vars(my))
    for epoch in (1, 2):
        ours.on_epoch_end(my, run, epoch, {"loss": 2.0})
    resumed = SimpleNamespace(**kept)
    for epoch in (1, 2):
        ours.on_epoch_end(resumed, run, epoch, {"loss": 3.0})
    lines = (tmp_path / "log.csv").read_text().split()
    assert lines == ["epoch,loss,val_loss", "0,1.0,NA", "1,3.0,NA", "2,3.0,NA"]


def test_csv_logger_that_can_not_write(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(EnvironmentFault, match="can't write"):
        drive(Callback.parse({"CSVLogger": {"filename": "taken/log.csv"}}), FakeRun(tmp_path), [{"loss": 1.0}])


@pytest.mark.parametrize("filename", ["log.csv", "logs/log.csv"])
def test_csv_logger_does_not_bring_a_removed_run_back(filename: str, tmp_path: Path) -> None:
    ours, my = Callback.parse({"CSVLogger": {"filename": filename}}), SimpleNamespace()
    run = FakeRun(tmp_path / "run")
    run.directory.mkdir()
    ours.on_train_begin(my, run)
    shutil.rmtree(run.directory)
    with pytest.raises(EnvironmentFault, match="No such file"):
        ours.on_epoch_end(my, run, 0, {"loss": 1.0})
    assert not run.directory.exists()


def test_print_logs(tmp_path: Path) -> None:
    logs = [{"loss": 0.5 / (i + 1) ** 3, "mae": 0.0} for i in range(25)]
    run = FakeRun(tmp_path)
    drive(Callback.parse("PrintLogs"), run, logs)
    assert run.said == ["Epoch 10: loss: 5.0000e-04 - mae: 0.0000", "Epoch 20: loss: 6.2500e-05 - mae: 0.0000"]
    run = FakeRun(tmp_path)
    drive(Callback.parse({"PrintLogs": {"every": 12, "values": ["mae"]}}), run, logs)
    assert run.said == ["Epoch 12: mae: 0.0000", "Epoch 24: mae: 0.0000"]
    assert Callback.parse("PrintLogs").to_keras()["registered_name"] == "trainer>PrintLogs"


BAD_PATHS = [
    *("/etc/x.h5", "../x.h5", "a/../../x.h5", "a//b.h5", "./x.h5", "C:/x.h5", "a\\..\\x.h5", "~/x.h5", ".hidden.h5"),
    *("", "a/", "model.h5", "Model.h5", "checkpoints/last-3.h5", "checkpoints/commit.json", "run.json", "x\n.h5"),
]
BAD_PATTERNS = [
    *("{epoch.__class__}.h5", "{epoch[0]}.h5", "{0}.h5x{}.h5", "{epoch!r}.h5", "{epoch:{width}}.h5", "{epoch.h5"),
    *("epoch}.h5", "{epoch:c}.h5", "{epoch:/>9}.h5", "{epoch:9999999d}.h5", "{loss:02d}.h5", "{epoch:.>3}.h5"),
    *("checkpoints/last-{epoch}.h5", "{epoch}/../../x.h5", "/{epoch}.h5", "..{epoch:.0f}/../x.h5"),
]


@pytest.mark.parametrize("path", [*BAD_PATHS, *BAD_PATTERNS])
def test_checkpoints_stay_under_the_run(path: str) -> None:
    with pytest.raises(ValidationError, match=r"expected|a file of its own|no whole number"):
        Callback.parse({"ModelCheckpoint": {"filepath": path}})


@pytest.mark.parametrize("path", BAD_PATHS)
def test_logs_stay_under_the_run(path: str) -> None:
    with pytest.raises(ValidationError, match=r"expected|a file of its own"):
        Callback.parse({"CSVLogger": {"filename": path}})


def test_a_placeholder_that_nothing_fills(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    with pytest.raises(RecipeError, match=r"nothing produces \{val_los\}") as caught:
        drive(Callback.parse({"ModelCheckpoint": {"filepath": "{val_los:.2f}.h5"}}), run, [{"loss": 1, "val_loss": 2}])
    assert "val_loss?" in str(caught.value)
    assert run.saved == []


def test_options_that_do_not_fit_together() -> None:
    for options, says in [
        ({"filepath": "a.keras"}, "ends in .h5"),
        ({"save_weights_only": True}, "ends in .weights.h5"),
        ({"save_freq": 3, "save_best_only": True}, "val_loss is known after an epoch only"),
        ({"save_freq": 0}, '"epoch" or a number of batches'),
        ({"mode": "up"}, "expected one of"),
        ({"verbose": 2}, "0 or 1"),
    ]:
        with pytest.raises(ValidationError, match=says):
            Callback.parse({"ModelCheckpoint": options})
    with pytest.raises(ValidationError, match="a number from 0 to below 1"):
        Callback.parse({"ReduceLROnPlateau": {"factor": 1}})
    for separator in ("", "ab", '"', "\n"):
        with pytest.raises(ValidationError, match="a single character"):
            Callback.parse({"CSVLogger": {"filename": "x.csv", "separator": separator}})


def keras_metrics() -> Iterator[Any]:
    # Keras numbers the default names of all that a process has made.
    keras.utils.clear_session()
    arguments = {"num_classes": 3, "target_class_ids": [0], "specificity": 0.5, "sensitivity": 0.5}
    arguments |= {"recall": 0.5, "precision": 0.5}
    for name, metric in vars(keras.metrics).items():
        if inspect.isclass(metric) and issubclass(metric, keras.Metric) and name not in ("Metric", "MeanMetricWrapper"):
            known = inspect.signature(metric).parameters
            yield metric(**{k: v for k, v in arguments.items() if k in known and known[k].default is inspect._empty})


def test_better_is_keras_direction() -> None:
    """Every metric of Keras by its default name: the same direction, and an error where Keras raises one."""
    seen = {"up": 0, "down": 0, "none": 0}
    for metric in keras_metrics():
        direction = getattr(metric, "_direction", "none")
        seen[direction] += 1
        for name in (metric.name, f"val_{metric.name}", f"val_digit_{metric.name}", f"{metric.name}_2"):
            if direction == "none":
                with pytest.raises(RecipeError, match="write mode"):
                    better("auto", name)
            else:
                assert better("auto", name) == {"up": 1, "down": -1}[direction], name
    assert seen == {"up": 24, "down": 14, "none": 6}
    assert better("auto", "val_loss") == better("min", "anything") == -1
    assert better("auto", "acc") == better("max", "loss") == 1


def test_keras_names_and_defaults() -> None:
    finals = {c.__name__: c for c in Callback.spellings().values()}
    assert len(finals) == 10
    assert all(isinstance(c.__doc__, str) for c in finals.values())
    for name in set(finals) - {"PrintLogs"}:
        cls = finals[name]
        signature = dict(inspect.signature(getattr(keras.callbacks, name)).parameters)
        for left_out in ("kwargs", "profile_batch", "embeddings_freq", "embeddings_metadata"):
            signature.pop(left_out, None)
        assert cls.options() == list(signature)
        for option, parameter in signature.items():
            if option != "filepath":
                field = cls.model_fields[option]
                assert field.is_required() == (parameter.default is inspect.Parameter.empty), option
                assert field.is_required() or field.default == parameter.default, option


def keras_words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Keras's callbacks say from here on, without the empty lines before."""
    said: list[str] = []
    monkeypatch.setattr(io_utils, "print_msg", lambda text, line_break=True: said.append(text.strip()))
    return said


def test_keras_compares_in_single_precision() -> None:
    """The reason for `single`: as float64 the second value is smaller."""
    callback = MonitorCallback("loss", "min")
    callback._set_monitor_op()
    assert not callback._is_improvement(0.1 - 1e-12, 0.1)


def test_a_real_fit_stops_where_ours_does(tmp_path: Path) -> None:
    """Keras's own loop calls the hooks in the order that `drive_keras` assumes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3)).astype("float32")
    y = random.normal(size=(40, 1)).astype("float32")
    keras.utils.set_random_seed(0)
    real = keras.Sequential([keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    real.compile(keras.optimizers.SGD(0.3), "mse")
    options = {"patience": 3, "restore_best_weights": True}
    snapshots: list[list[np.ndarray]] = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: snapshots.append(real.get_weights()))
    ours, theirs = twins("EarlyStopping", options)
    fitted = real.fit(x, y, validation_split=0.5, epochs=60, verbose=0, callbacks=[note, theirs]).history
    logs = [dict(zip(fitted, values, strict=True)) for values in zip(*fitted.values(), strict=True)]
    run = FakeRun(tmp_path)
    assert drive(ours, run, [*logs, *logs]) == len(logs) < 60
    for kept, restored in zip(snapshots[int(run.now[0][0])], real.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, restored)
