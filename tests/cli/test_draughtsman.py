"""Pictures drawn by a process of their own: the same files, whatever becomes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import DIGITS, directory_of, trained
from trainer.cli import draughtsman
from trainer.cli.draughtsman import Draughtsman
from trainer.runs.directory import RunDirectory

CURVES, PAGE = "plots/curves.png", "report.html"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run without pictures, on a machine that has a second core."""
    monkeypatch.setattr(draughtsman, "cores", lambda: 2)
    return directory_of(trained(tmp_path, DIGITS, "fit.epochs=2"))


def pictures(run: RunDirectory) -> list[bytes]:
    return [(run.path / name).read_bytes() for name in (CURVES, PAGE)]


def test_the_same_files(run: RunDirectory) -> None:
    with Draughtsman(ahead=False) as here:
        here.present(run)
    drawn_here = pictures(run)
    for name in (CURVES, PAGE):
        (run.path / name).unlink()
    with Draughtsman(ahead=True) as ahead:
        assert ahead.ready
        ahead.present(run)
    assert pictures(run) == drawn_here


@pytest.mark.parametrize(
    "program", ["raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)", "import nothing_such"]
)
def test_a_process_that_fails_is_made_up_for(run: RunDirectory, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def failing(command: list[str], **options: Any) -> Any:
        return real([sys.executable, "-c", program], **options)

    monkeypatch.setattr(draughtsman.subprocess, "Popen", failing)
    with Draughtsman(ahead=True) as ahead:
        ahead.present(run)
    assert (run.path / CURVES).exists()
    assert (run.path / PAGE).exists()


def test_no_process_can_be_started(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> Any:
        raise OSError("too many processes")

    monkeypatch.setattr(draughtsman.subprocess, "Popen", refuse)
    with Draughtsman(ahead=True) as ahead:
        assert not ahead.ready
        ahead.present(run)
    assert (run.path / CURVES).exists()


def test_a_failed_training_leaves_no_process(run: RunDirectory) -> None:
    def fail(ahead: Draughtsman) -> None:
        raise ValueError("no rows")

    ahead = Draughtsman(ahead=True)
    process = ahead.process
    with pytest.raises(ValueError, match="no rows"), ahead:
        fail(ahead)
    assert process is not None
    assert process.poll() is not None
    assert not (run.path / CURVES).exists()


def test_nobody_asks(run: RunDirectory) -> None:
    """Its asker was killed: standard input closes, and it goes without a word."""
    command = [sys.executable, "-m", "trainer.cli.draughtsman"]
    done = subprocess.run(command, input=b"", capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("cores", "without"), [(1, ""), (2, "draughtsman")])
def test_one_core_draws_itself(run: RunDirectory, cores: int, without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draughtsman, "cores", lambda: cores)
    monkeypatch.setenv("TRAINER_WITHOUT", without)
    with Draughtsman(ahead=True) as ahead:
        assert not ahead.ready
