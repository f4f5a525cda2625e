"""Folds by several processes: the histories, figures and files of one fold after the other, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import loaded
from tests.train.test_together import DROPOUT, NUMBERS, PARTS, recipe
from trainer.errors import EnvironmentFault
from trainer.runs.directory import RunDirectory
from trainer.runs.lock import is_held
from trainer.runs.packing import pack
from trainer.train import compiled, fold_processes
from trainer.train.fold_processes import FoldProcesses, FoldResult, processes
from trainer.train.job import Options, Outcome, fit, resume
from trainer.train.log import Line, Told
from trainer.train.loop import Training
from trainer.train.progress import Stopped
from trainer.train.signals import Signals

FILES = "[{CSVLogger: {filename: own.csv}}, {ModelCheckpoint: {filepath: 'm_{epoch:02d}.weights.h5'}}]"
STOPS = "[{EarlyStopping: {monitor: val_accuracy, patience: 0, min_delta: 0.05, verbose: 1}}]"
PHASES = "phases: [{frozen: [dense], fit: {epochs: 2}}, {compile: {optimizer: sgd}, fit: {epochs: 3}}]"
CASES: dict[str, dict[str, str]] = {
    "classes": {},
    "numbers": NUMBERS,
    "draws": {"LAYERS": DROPOUT},
    "early stops": {"CALLBACKS": STOPS},
    "files of callbacks": {"CALLBACKS": FILES},
    "each batch": {"CALLBACKS": "[TerminateOnNaN]"},
    "unequal folds": {"LIMIT": "257"},
    "batch statistics": {"LAYERS": PARTS["LAYERS"].replace("}}, {", "}}, BatchNormalization, {")},
    "a final fit": {"final: false": "final: true"},
    "more folds than processes": {"folds: 4": "folds: 5"},
    "compiled": {"COMPILE": PARTS["COMPILE"].replace("metrics", "jit_compile: true, metrics")},
}
OPERATIONS = compiled.LAYER * 2 + compiled.AROUND
PROGRAM = """
from trainer.cli.app import main
from trainer.train import fold_processes
fold_processes.WORTHWHILE, fold_processes.cores = 0, lambda: 2
main(["fit", "r.yaml", "--runs", "stopped", "--quiet"])
"""


def text_of(changes: dict[str, str]) -> str:
    text = recipe({name: part for name, part in changes.items() if name in PARTS})
    for name in changes.keys() - PARTS.keys():
        assert name in text
        text = text.replace(name, changes[name])
    return text


def run(tmp_path: Path, changes: dict[str, str], engine: str = "auto") -> Outcome:
    text = text_of(changes)
    return fit(loaded(text), Options(runs=tmp_path, device="cpu", engine=engine), text.encode())


def one_by_one(tmp_path: Path, changes: dict[str, str], engine: str = "auto") -> Outcome:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRAINER_WITHOUT", "folds,together")
        return run(tmp_path, changes, engine)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The processes that were begun: as many as on a machine of two cores, from however few steps on."""
    found: list[int] = []
    real = os.fork

    def noted() -> int:
        process = real()
        found.extend([process] * bool(process))
        return process

    monkeypatch.setattr(fold_processes, "WORTHWHILE", 0.0)
    monkeypatch.setattr(fold_processes, "cores", lambda: 2)
    # Those of the program that runs the tests have nothing to do with training.
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(os, "fork", noted)
    yield found
    for process in found:
        assert not alive(process)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def alike(ours: Outcome, theirs: Outcome) -> None:
    """Bit for bit, in memory and on the disk."""
    assert ours.folds == theirs.folds
    assert ours.figures == theirs.figures
    assert ours.history == theirs.history
    files = [sorted(p.relative_to(o.directory) for p in o.directory.glob("folds/**/*")) for o in (ours, theirs)]
    assert files[0] == files[1]
    for name in files[0]:
        if name.suffix == ".csv":
            assert (ours.directory / name).read_bytes() == (theirs.directory / name).read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_as_one_by_one(tmp_path: Path, case: str, begun: list[int]) -> None:
    apart = one_by_one(tmp_path / "one", CASES[case])
    assert not begun
    ours = run(tmp_path / "several", CASES[case])
    assert len(begun) == 1
    alike(ours, apart)
    records = [RunDirectory(outcome.directory).record() for outcome in (ours, apart)]
    assert [len(record["fold_seconds"]) for record in records] == [len(ours.folds)] * 2
    assert records[0]["steps_by"] == records[1]["steps_by"]
    assert (records[0]["steps_by"] == "compiled code") == (case == "compiled")


def test_by_autograd(tmp_path: Path, begun: list[int]) -> None:
    """torch's machine for going back works in a copy of a process that has used it."""
    alike(run(tmp_path / "several", {}, "plain"), one_by_one(tmp_path / "one", {}, "plain"))
    assert len(begun) == 1


def test_phases_stay_in_one_process(tmp_path: Path, begun: list[int]) -> None:
    """How the steps of the later ones are taken is decided when they begin."""
    text = text_of({"epochs: 6, ": ""}).replace("fit:", f"{PHASES}\nfit:")
    assert len(fit(loaded(text), Options(runs=tmp_path, device="cpu"), text.encode()).folds) == 4
    assert not begun


def test_folds_that_would_go_different_ways_by_themselves(tmp_path: Path, begun: list[int]) -> None:
    """Those of 14 steps an epoch save too little for compiling, those of 15 enough: the first fold decides."""
    changes = {
        **NUMBERS,
        "LIMIT": "265",
        "folds: 4": "folds: 10",
        "epochs: 6, batch_size: 16": "epochs: 92, batch_size: 17",
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compiled, "WORTHWHILE", 14.5 * 92 * OPERATIONS * compiled.OPERATION)
        apart = one_by_one(tmp_path / "one", changes)
        ours = run(tmp_path / "several", changes)
    assert begun
    assert len({len(fold["loss"]) for fold in ours.folds}) == 1
    alike(ours, apart)


def test_what_was_said_stands_in_the_order_of_the_folds(tmp_path: Path, begun: list[int]) -> None:
    shown: list[str] = []

    class Shown(Told):
        def say(self, text: str) -> None:
            shown.append(text)

    text = text_of({"CALLBACKS": STOPS})
    ours = fit(loaded(text), Options(runs=tmp_path / "several", device="cpu", progress=Shown()), text.encode())
    theirs = one_by_one(tmp_path / "one", {"CALLBACKS": STOPS})
    assert begun
    lines = [(o.directory / "log.txt").read_text().splitlines()[1:-1] for o in (ours, theirs)]
    lines = [[line.split(" ", 1)[1].split(" - ")[0] for line in each] for each in lines]
    assert lines[0] == lines[1]
    assert sum("early stopping" in line for line in lines[0]) >= 2
    # A person sees headings and callbacks' words of all folds, and of those that others trained the end.
    assert [line[:6] for line in shown if line.startswith("Fold")] == ["Fold 1", "Fold 2", "Fold 3", "Fold 4"]
    after = shown[[line.startswith("Fold 4") for line in shown].index(True) + 1 :]
    assert after
    assert all("arly stopping" in line or " - loss: " in line for line in after)


class Fails:
    """A training that comes to grief in copies of this process, in its third epoch."""

    def __init__(self, how: str):
        self.how, self.here = how, os.getpid()
        self.real = Training.end_epoch

    def __call__(self, training: Training) -> None:
        self.real(training)
        if os.getpid() != self.here and training.epoch == 2:
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise EnvironmentFault("no room")


@pytest.mark.parametrize("how", ["fails", "killed"])
def test_what_fails_elsewhere_is_trained_here(
    tmp_path: Path, how: str, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the other left of a callback's file goes: nothing is added to it."""
    changes = {"CALLBACKS": "[{CSVLogger: {filename: own.csv, append: true}}]"}
    apart = one_by_one(tmp_path / "one", changes)
    fails = Fails(how)
    monkeypatch.setattr(Training, "end_epoch", lambda self: fails(self))  # pyright: ignore[reportUnknownLambdaType]
    alike(run(tmp_path / "several", changes), apart)
    assert len(begun) == 1


def test_where_nobody_keeps_what_is_left_of_processes(tmp_path: Path, begun: list[int]) -> None:
    """A launcher may have had SIGCHLD ignored."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        ours = run(tmp_path / "several", {})
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert begun
    alike(ours, one_by_one(tmp_path / "one", {}))


@pytest.mark.parametrize("what", ["fork", "file"])
def test_a_system_that_refuses(tmp_path: Path, what: str, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(*((os, "fork") if what == "fork" else (tempfile, "TemporaryFile")), refused)
        ours = run(tmp_path / "several", {})
    assert not begun
    alike(ours, one_by_one(tmp_path / "one", {}))


def test_a_process_with_threads_trains_alone(tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same numbers: not as one batched model."""
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    alike(run(tmp_path / "several", {}), one_by_one(tmp_path / "one", {}))
    assert not begun


def test_whoever_is_told_outside_the_run_hears_of_one_fold_at_a_time(tmp_path: Path, begun: list[int]) -> None:
    changes = {"CALLBACKS": "[{RemoteMonitor: {root: 'http://localhost:9'}}]"}
    assert len(run(tmp_path, changes).folds) == 4
    assert not begun


def test_an_error_of_a_fold_is_told_as_ever(tmp_path: Path, begun: list[int]) -> None:
    changes = {**NUMBERS, "COMPILE": "{optimizer: {sgd: {learning_rate: 1.0e+6}}, loss: mse}"}
    with pytest.raises(EnvironmentFault) as ours:
        run(tmp_path / "several", changes)
    with pytest.raises(EnvironmentFault) as theirs:
        one_by_one(tmp_path / "one", changes)
    assert str(ours.value) == str(theirs.value)
    assert begun


def test_a_signal_while_others_train(tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on later and comes to the same; nobody trains on meanwhile."""
    here, real = os.getpid(), Training.finish

    def slow(self: Training) -> None:
        real(self)
        if os.getpid() != here:
            time.sleep(60)

    text = text_of({})
    with monkeypatch.context() as patched:
        patched.setattr(Training, "finish", slow)
        patched.setattr(fold_processes, "PATIENCE", 0.1)
        looks = iter([False] * 3)
        patched.setattr(Signals, "__call__", lambda self: self.got or (2 if _waits() and not next(looks, True) else 0))  # pyright: ignore[reportUnknownLambdaType]
        with pytest.raises(Stopped):
            fit(loaded(text), Options(runs=tmp_path / "stopped", device="cpu"), text.encode())
    assert not alive(begun[0])
    (directory,) = (path for path in (tmp_path / "stopped" / "folds").iterdir() if path.is_dir())
    resumed = resume(RunDirectory(directory), Options(runs=tmp_path, device="cpu"))
    assert len(begun) == 2
    whole = one_by_one(tmp_path / "one", {})
    assert (resumed.folds, resumed.figures) == (whole.folds, whole.figures)


def _waits() -> bool:
    """Whether the one who looks for signals waits for another process."""
    frame = sys._getframe(3)
    return frame.f_code is FoldProcesses.result.__code__


def test_what_others_had_finished_is_not_trained_again(
    tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its first fold when the others were done with theirs, a run has two of four folds left."""
    here, real, text = os.getpid(), Training.step, text_of({})

    def waits(self: Training, batch: Any) -> None:
        real(self, batch)
        if os.getpid() == here and self.epoch == 4 and self.batch == 1:
            until = time.monotonic() + 60
            while time.monotonic() < until and _runs(begun[0]):
                time.sleep(0.01)
            self.signalled.got = 2  # pyright: ignore[reportFunctionMemberAccess]

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", waits)
        with pytest.raises(Stopped):
            fit(loaded(text), Options(runs=tmp_path / "stopped", device="cpu"), text.encode())
    (directory,) = (path for path in (tmp_path / "stopped" / "folds").iterdir() if path.is_dir())
    trained, finish = list[int](), Training.finish
    monkeypatch.setattr(
        Training,
        "finish",
        lambda self: (trained.append(int(self.directory.name)), finish(self))[1],  # pyright: ignore[reportUnknownLambdaType]
    )
    monkeypatch.setenv("TRAINER_WITHOUT", "folds")
    resumed = resume(RunDirectory(directory), Options(runs=tmp_path, device="cpu"))
    assert trained == [1, 2]
    whole = one_by_one(tmp_path / "one", {})
    assert (resumed.folds, resumed.figures) == (whole.folds, whole.figures)
    assert (directory / "log.txt").read_text().count("Epoch 6/6") == 4


def test_a_killed_run_leaves_nobody_behind(tmp_path: Path) -> None:
    """Others end with the run's process, which alone holds its lock; the run goes on and comes to the same."""
    changes = {"epochs: 6": "epochs: 300"}
    (tmp_path / "r.yaml").write_text(text_of(changes))
    environment = {**os.environ, "TRAINER_WITHOUT": "compiled"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment)
    until, others = time.monotonic() + 60, list[str]()
    while time.monotonic() < until and not others:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        others = children.read_text().split() if children.exists() else []
        ready = any((tmp_path / "stopped").glob("folds/*/folds/1"))
        others = others if ready else []
        time.sleep(0.01)
    assert others
    process.kill()
    process.wait()
    (directory,) = (path for path in (tmp_path / "stopped" / "folds").iterdir() if path.is_dir())
    assert not is_held(directory)
    until = time.monotonic() + 20
    while time.monotonic() < until and any(_runs(int(other)) for other in others):
        time.sleep(0.01)
    assert not any(_runs(int(other)) for other in others)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRAINER_WITHOUT", "compiled,folds")
        resumed = resume(RunDirectory(directory), Options(runs=tmp_path, device="cpu"))
        patched.setenv("TRAINER_WITHOUT", "compiled,folds,together")
        assert resumed.folds == run(tmp_path / "one", changes).folds


def test_a_run_goes_on_as_it_began(tmp_path: Path, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side the last digits are others."""
    monkeypatch.setenv("TRAINER_WITHOUT", "folds")
    whole = run(tmp_path / "whole", {})
    with monkeypatch.context() as patched:
        patched.setattr(Signals, "__call__", lambda self: 2)  # pyright: ignore[reportUnknownLambdaType]
        with pytest.raises(Stopped):
            run(tmp_path / "stopped", {})
    monkeypatch.delenv("TRAINER_WITHOUT")
    (directory,) = (path for path in (tmp_path / "stopped" / "folds").iterdir() if path.is_dir())
    assert resume(RunDirectory(directory), Options(runs=tmp_path, device="cpu")).folds == whole.folds
    assert not begun


def _runs(process: int) -> bool:
    """Whether a process is there and no remains of one."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except (OSError, IndexError):
        return False


@pytest.mark.parametrize(
    ("why", "folds", "steps", "count"),
    [
        ("", 4, 100_000, 2),
        ("", 1, 100_000, 1),
        ("few steps", 4, 1000, 1),
        ("switched off", 4, 100_000, 1),
        ("many rows", 4, 100_000, 1),
        ("one core", 4, 100_000, 1),
        ("another system", 4, 100_000, 1),
    ],
)
def test_when_others_help(monkeypatch: pytest.MonkeyPatch, why: str, folds: int, steps: int, count: int) -> None:
    monkeypatch.setattr(fold_processes, "cores", lambda: 1 if why == "one core" else 2)
    monkeypatch.setattr(sys, "platform", "darwin" if why == "another system" else "linux")
    if why == "switched off":
        monkeypatch.setenv("TRAINER_WITHOUT", "folds")
    assert processes(folds, steps, 1 << (28 if why == "many rows" else 20)) == count


@pytest.mark.parametrize(
    "sets",
    [
        {"LAYERS": "[{Dense: {units: 4000, activation: relu}}, {Dense: {units: 10, activation: softmax}}]"},
        {"epochs: 6": "epochs: 1"},
    ],
    ids=["large steps", "a profile"],
)
def test_what_stays_in_one_process(tmp_path: Path, sets: dict[str, str], begun: list[int]) -> None:
    text = text_of({**sets, "LIMIT": "120"})
    options = Options(runs=tmp_path, device="cpu", profile="LAYERS" not in sets)
    assert len(fit(loaded(text), options, text.encode()).folds) == 4
    assert not begun


def test_shares() -> None:
    """The first folds are the run's own; nobody has two more than another."""
    for count, numbers in ((1, range(3)), (2, range(5)), (3, range(2, 9)), (4, range(4))):
        shares = FoldProcesses(lambda number: FoldResult({}, [], {}, 0.0), numbers, count, lambda: 0)._shares
        assert [number for share in shares for number in share] == list(numbers)
        sizes = [len(share) for share in shares]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= 1


def test_half_of_a_result_does_not_count() -> None:
    """Results come back as they are (infinities, notes in any language); one that is being written does not yet."""
    said = [Line("12:00:00", "µ – said", True)]
    first = FoldResult({"loss": [0.5, float("inf")]}, [0, 1], {"loss": 0.1 + 0.2}, 1.5, said)
    second = FoldResult({"loss": []}, [], {}, 0.0, [])
    texts = [pack([number, result.as_data()])[0] for number, result in ((3, first), (4, second))]
    with tempfile.TemporaryFile() as file:
        file.write(f"{texts[0]}\n{texts[1][:-1]}".encode())
        file.flush()
        assert fold_processes._read(file) == {3: first}
        file.write(f"{texts[1][-1]}\n".encode())
        file.flush()
        assert fold_processes._read(file) == {3: first, 4: second}
