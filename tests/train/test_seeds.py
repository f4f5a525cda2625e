"""Seeds of small models by several processes: the runs and the numbers of one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import DIGITS, loaded
from trainer.errors import EnvironmentFault
from trainer.recipe.load import Loaded
from trainer.runs.directory import list_runs
from trainer.train import seeds
from trainer.train.job import Options, Outcome
from trainer.train.seeds import train_seeds


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, and trainings that are long enough."""
    monkeypatch.setattr(seeds, "WORTHWHILE", 0.0)
    monkeypatch.setattr(seeds, "cores", lambda: 2)


def trained(folder: Path, count: int, made: Loaded | None = None, **more: Any) -> list[Outcome]:
    options = Options(runs=folder, device="cpu", **more)
    made = made or loaded(DIGITS, "fit.epochs=2")
    return train_seeds(made, count, options, DIGITS.encode(), Path(), Path())


def test_the_numbers_of_one_after_the_other(tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere: list[int] = []
    submit = seeds.ProcessPoolExecutor.submit

    def noted(self: Any, function: Any, number: int, options: Options) -> Future[Outcome]:
        elsewhere.append(number)
        return submit(self, function, number, options)

    with monkeypatch.context() as patched:
        patched.setattr(seeds.ProcessPoolExecutor, "submit", noted)
        # Nothing is taken back, so that another process has to do them.
        patched.setattr(Future, "cancel", lambda self: False)
        together = trained(tmp_path / "together", 3)
    assert elsewhere == [1, 2]
    monkeypatch.setenv("TRAINER_WITHOUT", "seeds")
    alone = trained(tmp_path / "alone", 3)
    assert [o.history for o in together] == [o.history for o in alone]
    assert [o.figures for o in together] == [o.figures for o in alone]
    assert len({o.figures["test.loss"] for o in alone}) == 3
    assert {o.directory for o in together} == {run.path for run in list_runs(tmp_path / "together", "digits")}


def test_this_process_takes_what_no_other_has_begun(tmp_path: Path, shared: None) -> None:
    assert len(trained(tmp_path, 8)) == len(list_runs(tmp_path, "digits")) == 8


def test_what_fails_elsewhere_is_tried_here(tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, function: Any, number: int, options: Options) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_running_or_notify_cancel()
        future.set_exception(OSError("killed"))
        return future

    monkeypatch.setattr(seeds.ProcessPoolExecutor, "submit", broken)
    assert len(trained(tmp_path, 3)) == 3
    faulty = loaded(DIGITS, "fit.epochs=2", "compile.optimizer={SGD: {learning_rate: 1e30}}")
    with pytest.raises(EnvironmentFault, match="loss"):
        trained(tmp_path, 3, faulty)


@pytest.mark.parametrize("why", ["few", "short", "one core", "shown", "large", "switched off"])
def test_one_after_the_other(tmp_path: Path, shared: None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "ProcessPoolExecutor", None)
    more: dict[str, Any] = {}
    if why == "short":
        monkeypatch.setattr(seeds, "WORTHWHILE", 1e9)
    elif why == "one core":
        monkeypatch.setattr(seeds, "cores", lambda: 1)
    elif why == "shown":
        more = {"progress": type("Shown", (seeds.Quiet,), {})()}
    elif why == "large":
        monkeypatch.setattr(seeds, "SMALL_STEP", 1)
    elif why == "switched off":
        monkeypatch.setenv("TRAINER_WITHOUT", "seeds")
    count = 2 if why == "few" else 3
    assert len(trained(tmp_path, count, **more)) == count


PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from trainer.train.seeds import _end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, context, initializer=_end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_no_process_outlives_a_kill(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    root = str(Path(seeds.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, env=environment
    ) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        assert alive(worker)
        run.send_signal(signal.SIGKILL)
        run.wait()
    for _ in range(100):
        if not alive(worker):
            break
        time.sleep(0.1)
    assert not alive(worker)
