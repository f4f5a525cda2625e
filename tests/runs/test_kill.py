"""Runs that are killed, interrupted, or out of disk: what is left is whole, and going on ends in the same bits.

Processes are real: a server that has imported everything forks one for each command line, since importing torch
takes longer than a small training. A few start from nothing, as a user's do.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.errors import EnvironmentFault, TrainerError
from trainer.runs.directory import RunDirectory, list_runs
from trainer.runs.history import History
from trainer.runs.model_file import read_model

RECIPE = """
name: digits
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, Normalization]}}
  targets: {label: {}}
  split: {test: {last: 300}}
  limit: 600
model:
  layers:
    - Dense: {units: 32, activation: relu, kernel_regularizer: {L2: {l2: 0.001}}}
    - BatchNormalization
    - Dropout: {rate: 0.3}
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: {Adam: {learning_rate: 0.003}}, loss: sparse_categorical_crossentropy, metrics: [accuracy]}
fit: {epochs: 25, batch_size: 32, validation_split: 0.25}
callbacks:
  - EarlyStopping: {monitor: val_loss, patience: 20, restore_best_weights: true}
  - ReduceLROnPlateau: {monitor: val_loss, patience: 2, factor: 0.7}
  - ModelCheckpoint: {monitor: val_accuracy, save_best_only: true}
  - CSVLogger: {filename: log.csv}
"""
KFOLD = RECIPE.partition("callbacks:")[0] + "callbacks: [CSVLogger: {filename: log.csv}]\n"
KFOLD = KFOLD.replace("validation_split: 0.25", "kfold: {folds: 3}").replace("epochs: 25", "epochs: 8")
PHASES = (
    RECIPE.replace("fit: {epochs: 25,", "fit: {epochs: 12,")
    + """
phases:
  - {frozen: dense, fit: {epochs: 10}}
  - {compile: {optimizer: {Adam: {learning_rate: 0.001}}, metrics: [sparse_top_k_categorical_accuracy, accuracy]}}
"""
)
SAME = ["model.h5", "history.csv", "metrics.json", "log.csv", "checkpoints/best.h5"]

SERVER = """
import json, os, sys
import sklearn.datasets, h5py
import trainer.cli.app, trainer.cli.inspecting, trainer.recipe.load, trainer.train.work as work, trainer.train.pictures

trainer.train.pictures.draw = lambda directory: None  # curves come after everything that matters here
# Every epoch ends in a checkpoint, so that kills fall within the writing of one too.
kept = work.Job.keep
work.Job.keep = lambda self, built, run, force: kept(self, built, run, True)
for line in iter(sys.stdin.readline, ''):
    pid = os.fork()
    if not pid:
        ask = json.loads(line)
        os.environ.update(ask["env"])
        sys.stdin.close()
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(ask[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if ask["limit"]:
            import resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (ask["limit"], ask["limit"]))
        try:
            trainer.cli.app.main(ask["arguments"])
        finally:
            sys.stdout.flush(), sys.stderr.flush()
    print("pid", pid, flush=True)
    sys.stdin.readline()  # until then it keeps its number, so that a signal never hits another process
    print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass
class Done:
    """A command line that has ended: its exit code (minus the signal that ended it) and what it said."""

    code: int
    out: str
    err: str
    seconds: float


class Commands:
    """Forks a process for each command line of `trainer`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def end(self) -> None:
        """The server ends, once its processes have."""
        self.server.communicate()

    def start(self, *arguments: object, limit: int = 0, **env: str) -> int:
        """The process of a command line, at work."""
        ask = {"arguments": [str(a) for a in arguments], "out": str(self.folder / "out"), "limit": limit}
        self._say(json.dumps({**ask, "err": str(self.folder / "err"), "env": env}))
        self.began = time.monotonic()
        return self._said("pid")

    def wait(self) -> Done:
        """Its end."""
        self._say("")
        code = self._said("code")
        seconds = time.monotonic() - self.began
        out, err = ((self.folder / name).read_text("utf-8", "replace") for name in ("out", "err"))
        assert "Traceback" not in err, err
        return Done(code, out, err, seconds)

    def _say(self, line: str) -> None:
        assert self.server.stdin is not None
        self.server.stdin.write(line + "\n")
        self.server.stdin.flush()

    def _said(self, what: str) -> int:
        assert self.server.stdout is not None
        word, number = self.server.stdout.readline().split()
        # A number taken for another could be the process group of these tests.
        assert word == what
        return int(number)

    def run(self, *arguments: object, **options: Any) -> Done:
        self.start(*arguments, **options)
        return self.wait()

    def stopped(self, after: float, number: int, *arguments: object) -> Done:
        """A command line that is sent a signal after so many seconds."""
        pid = self.start(*arguments)
        time.sleep(after)
        os.kill(pid, number)
        return self.wait()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    made = Commands(tmp_path_factory.mktemp("commands"))
    made.run("--version")
    yield made
    made.end()


@dataclass
class Whole:
    """A run that was never stopped, to hold others against."""

    recipe: Path
    run: Path
    seconds: float
    "From the first file to the last, without the pictures that follow."


def never_stopped(commands: Commands, folder: Path, text: str) -> Whole:
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    done = commands.run("fit", recipe, "--runs", folder / "whole", "-q", "--device", "cpu")
    assert done.code == 0, done.err
    run = Path(done.out.strip())
    return Whole(recipe, run, RunDirectory(run).record()["seconds"])


@pytest.fixture(scope="module")
def whole(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return never_stopped(commands, tmp_path_factory.mktemp("whole"), RECIPE)


@pytest.fixture(scope="module")
def whole_kfold(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return never_stopped(commands, tmp_path_factory.mktemp("kfold"), KFOLD)


@pytest.fixture(scope="module")
def whole_phases(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return never_stopped(commands, tmp_path_factory.mktemp("phases"), PHASES)


def hold_left(commands: Commands, runs: Path, listed: bool) -> None:
    """What a killed process left: every file that is there is whole, every checkpoint can be gone on from."""
    for directory in list_runs(runs):
        record = directory.record()
        assert record["state"] in ("new", "running", "interrupted", "done"), record.get("error")
        data, warning = directory.load_checkpoint()
        assert warning == ""
        if data is not None:
            assert read_model(data).extra["training"]["position"]["epoch"] >= 0
        for path in (*directory.path.rglob("*.h5"), *directory.path.rglob("*.weights.h5")):
            read_model(path)
        for path in directory.path.rglob("history.csv"):
            History.from_csv(path.read_bytes())
        for name in ("metrics.json", "run.json"):
            if (directory.path / name).exists():
                json.loads((directory.path / name).read_bytes())
        if (directory.path / "resolved.yaml").exists():
            done = commands.run("validate", directory.path / "resolved.yaml")
            assert done.code == 0, done.err
    if listed:
        done = commands.run("runs", "--runs", runs, "--json")
        assert done.code == 0, done.out
        assert len(json.loads(done.out)["result"]) == len(list_runs(runs))


def going_on(runs: Path, recipe: Path) -> list[object]:
    """The command line for a user whose process was killed: `resume`, or `fit` when nothing had begun."""
    common: list[object] = ["--runs", runs, "-q", "--device", "cpu"]
    found = list_runs(runs)
    begun = bool(found) and found[-1].record()["state"] != "new"
    return ["resume", "last", *common] if begun else ["fit", recipe, *common]


def is_done(runs: Path) -> bool:
    return any(d.record()["state"] == "done" for d in list_runs(runs))


def assert_same(whole: Path, other: Path) -> None:
    for name in SAME:
        ours, theirs = (folder / name for folder in (whole, other))
        assert ours.exists() == theirs.exists(), name
        if ours.exists():
            assert ours.read_bytes() == theirs.read_bytes(), f"{name} differs"
    for path in whole.glob("folds/*/history.csv"):
        assert path.read_bytes() == (other / path.relative_to(whole)).read_bytes()
    assert not list(other.rglob("*.tmp"))
    first, second = (RunDirectory(p).record() for p in (whole, other))
    assert second["state"] == "done"
    clock = {"seconds", "epoch_seconds", "fold_seconds", "created", "finished"}
    assert {k: v for k, v in first.items() if k not in clock} == {k: v for k, v in second.items() if k not in clock}


def killed(commands: Commands, whole: Whole, folder: Path, kills: int, seed: int, chain: int) -> int:
    """Kill at random moments, at most `chain` times a run, and let each run come to its end; the kills that hit."""
    dice, hits, number = random.Random(seed), 0, 0
    while hits < kills:
        runs, number = folder / str(number), number + 1
        for _ in range(min(dice.randint(1, chain), kills - hits)):
            after = dice.random() * whole.seconds
            hits += commands.stopped(after, signal.SIGKILL, *going_on(runs, whole.recipe)).code == -signal.SIGKILL
            hold_left(commands, runs, listed=hits < 6)
            if is_done(runs):
                break
        if not is_done(runs):
            done = commands.run(*going_on(runs, whole.recipe))
            assert done.code == 0, done.err
        assert_same(whole.run, list_runs(runs)[-1].path)
        shutil.rmtree(runs)
    return hits


def test_two_runs_are_equal_and_another_seed_is_not(commands: Commands, whole: Whole, tmp_path: Path) -> None:
    """The yardstick of this file measures."""
    arguments = ["fit", whole.recipe, "--runs", tmp_path, "-q", "--device", "cpu"]
    assert_same(whole.run, Path(commands.run(*arguments).out.strip()))
    other = Path(commands.run(*arguments, "--set", "seed=4").out.strip())
    with pytest.raises(AssertionError, match=r"model\.h5 differs"):
        assert_same(whole.run, other)


def test_killed(commands: Commands, whole: Whole, tmp_path: Path) -> None:
    assert killed(commands, whole, tmp_path, kills=5, seed=1, chain=3) == 5


def test_killed_inside_folds(commands: Commands, whole_kfold: Whole, tmp_path: Path) -> None:
    assert killed(commands, whole_kfold, tmp_path, kills=2, seed=2, chain=2) == 2


def test_killed_in_phases(commands: Commands, whole_phases: Whole, tmp_path: Path) -> None:
    assert killed(commands, whole_phases, tmp_path, kills=3, seed=5, chain=3) == 3


@pytest.mark.long
def test_killed_200_times(
    commands: Commands, whole: Whole, whole_kfold: Whole, whole_phases: Whole, tmp_path: Path
) -> None:
    assert killed(commands, whole, tmp_path, kills=100, seed=3, chain=4) == 100
    assert killed(commands, whole_kfold, tmp_path, kills=50, seed=4, chain=4) == 50
    assert killed(commands, whole_phases, tmp_path, kills=50, seed=6, chain=4) == 50


def test_a_refused_resume_changes_nothing(commands: Commands, whole: Whole) -> None:
    before = (whole.run / "run.json").read_bytes()
    done = commands.run("resume", whole.run, "--device", "cpu")
    assert done.code == 5
    assert "the run is complete" in done.err
    try:
        assert (whole.run / "run.json").read_bytes() == before
    finally:
        (whole.run / "run.json").write_bytes(before)


STEPPING = """
import os, sys
from trainer.train.loop import Training
real, when = Training.step, (int(sys.argv[2]), int(sys.argv[3]))
def step(self, batch):
    if (self.epoch, self.batch) == when:
        os.kill(os.getpid(), int(sys.argv[1]))
    real(self, batch)
Training.step = step
from trainer.cli.app import main
main(sys.argv[4:])
"""
"A command line that is sent a signal in the middle of a step."


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_and_saves(
    commands: Commands, whole: Whole, tmp_path: Path, number: int, code: int
) -> None:
    words = [int(number), 3, 1, "fit", whole.recipe, "--runs", tmp_path, "--device", "cpu"]
    command = [sys.executable, "-c", STEPPING, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert f"stopped by signal {int(number)}; `trainer resume last` goes on" in done.stderr
    (directory,) = list_runs(tmp_path)
    assert directory.record()["state"] == "interrupted"
    position = read_model(directory.load_checkpoint()[0] or b"").extra["training"]["position"]
    assert (position["epoch"], position["batch"]) == (3, 2)
    hold_left(commands, tmp_path, listed=True)
    resumed = commands.run("resume", directory.path, "--runs", tmp_path, "-q", "--device", "cpu")
    assert resumed.code == 0, resumed.err
    assert_same(whole.run, directory.path)


def started(recipe: Path, runs: Path, *more: object) -> subprocess.Popen[str]:
    """`trainer fit` as a user starts it."""
    command = [sys.executable, "-m", "trainer", "fit", recipe, "--runs", runs, "--device", "cpu", *more]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)


def in_epoch(process: subprocess.Popen[str]) -> None:
    """Wait until it has trained a few epochs."""
    assert process.stderr is not None
    for line in process.stderr:
        if "Epoch 4/" in line:
            return
    raise AssertionError("training ended early")


def test_a_run_from_nothing_and_a_second_writer(commands: Commands, whole: Whole, tmp_path: Path) -> None:
    """A process of its own, long at work: a second writer is refused at once, and SIGTERM ends it with 143."""
    with started(whole.recipe, tmp_path, "--epochs", "100000", "--set", "callbacks=[]") as first:
        in_epoch(first)
        (directory,) = list_runs(tmp_path)
        first.send_signal(signal.SIGSTOP)  # it holds the lock all the same, and leaves the processor to the second
        second = commands.run("resume", directory.path, "--device", "cpu")
        first.send_signal(signal.SIGCONT)
        assert second.code == 5
        assert f"process {first.pid} is writing the run" in second.err
        assert directory.record()["state"] == "running"
        first.terminate()
        assert first.wait(20) == 143
    assert directory.record()["state"] == "interrupted"
    assert directory.load_checkpoint()[1] == ""


def test_a_signal_during_validation_saves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.train.recipes import loaded
    from trainer.train.job import Options, fit
    from trainer.train.loop import Training
    from trainer.train.progress import Stopped

    real = Training.validate

    def signalled(self: Training) -> dict[str, float]:
        signal.raise_signal(signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Training, "validate", signalled)
    with pytest.raises(Stopped):
        fit(loaded(RECIPE), Options(runs=tmp_path, device="cpu"), RECIPE.encode())
    (directory,) = list_runs(tmp_path)
    assert directory.load_checkpoint()[0] is not None


def test_a_run_from_nothing_killed_by_a_second_signal(whole: Whole, tmp_path: Path) -> None:
    """The first SIGINT is noted and the second ends at once, even where the step never ends."""
    script = """
import sys, time
from trainer.train.loop import Training
def step(self, batch):
    print("in a step", file=sys.stderr, flush=True)
    time.sleep(60)
Training.step = step
from trainer.cli.app import main
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", script, "fit", str(whole.recipe), "--runs", str(tmp_path), "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "in a step\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(5) in (-signal.SIGINT, 130)
    hold = list_runs(tmp_path)[-1]
    assert hold.record()["state"] == "running"


def test_files_that_may_not_grow(commands: Commands, whole: Whole, tmp_path: Path) -> None:
    """The kernel refuses to write more than 20,000 bytes to a file, which is less than a checkpoint."""
    done = commands.run("fit", whole.recipe, "--runs", tmp_path, "--device", "cpu", limit=20_000)
    assert done.code == 4, done.err
    assert "File too large" in done.err
    assert "ulimit -f" in done.err
    (directory,) = list_runs(tmp_path)
    assert directory.record()["state"] == "failed"
    assert directory.load_checkpoint() == (None, "")
    assert commands.run("runs", "--runs", tmp_path).code == 0
    done = commands.run("resume", directory.path, "-q", "--device", "cpu")
    assert done.code == 0, done.err
    assert_same(whole.run, directory.path)


@pytest.mark.parametrize("nth", [1, 7, 8, 30])
def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    """From the nth large write on the disk is full: the checkpoint before it stays whole, and the run goes on."""
    from tests.train.recipes import loaded
    from trainer.train.job import Options, fit, resume

    options = Options(runs=tmp_path / "full", device="cpu", checkpoint_every=0.0)
    made, real = [0], os.write

    def write(handle: int, data: Any) -> int:
        if len(data) > 10_000:
            made[0] += 1
            if made[0] >= nth:
                raise OSError(28, os.strerror(28))
        return real(handle, data)

    monkeypatch.setattr("trainer.train.work.CHECKPOINT_SHARE", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(EnvironmentFault, match="No space left on device") as caught:
            fit(loaded(RECIPE), options, RECIPE.encode())
    assert caught.value.exit_code == 4
    assert "free some space" in caught.value.problems[0].hint
    (directory,) = list_runs(options.runs)
    assert directory.record()["state"] == "failed"
    data, warning = directory.load_checkpoint()
    assert warning == ""
    assert (data is None) == (nth == 1)
    done = resume(directory, options)
    straight = fit(loaded(RECIPE), Options(runs=tmp_path / "whole", device="cpu"), RECIPE.encode())
    assert repr(done.history) == repr(straight.history)
    for name in SAME:
        assert (done.directory / name).read_bytes() == (straight.directory / name).read_bytes(), name


def test_even_the_record_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the failure itself is to be noted: the message is still of the disk."""
    from tests.train.recipes import loaded
    from trainer.train.job import Options, fit

    real, made = os.write, [0]

    def write(handle: int, data: Any) -> int:
        made[0] += 1
        if made[0] > 12:
            raise OSError(28, os.strerror(28))
        return real(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(TrainerError, match="No space left on device"):
            fit(loaded(RECIPE), Options(runs=tmp_path, device="cpu", checkpoint_every=0.0), b"")
    (directory,) = list_runs(tmp_path)
    assert directory.record()["state"] == "running"
    assert directory.load_checkpoint()[1] == ""
    assert np.isfinite(directory.record().get("seconds", 0.0))
