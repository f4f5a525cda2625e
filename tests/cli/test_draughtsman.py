"""Pictures drawn by a process of their own: the same files, whatever becomes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.train.recipes import DIGITS, directory_of, trained
from trainer.cli import draughtsman, studio
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


STUDIO = [sys.executable, "-m", "trainer.cli.studio"]


@pytest.mark.parametrize("half", [b"", b"runs/digits"])
def test_nobody_asks(half: bytes) -> None:
    """Its asker was killed, perhaps amid a word: standard input closes, and it goes without one."""
    done = subprocess.run(STUDIO, input=half, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("after", [0.0, 0.05, 0.1, 0.2, 0.3])
def test_a_removed_run_does_not_come_back(run: RunDirectory, after: float) -> None:
    """Whenever it goes, and though somebody still waits for its pictures."""
    with subprocess.Popen(STUDIO, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as studio:
        assert studio.stdin is not None
        studio.stdin.write(bytes(run.path) + b"\0")
        studio.stdin.flush()
        time.sleep(after)
        while run.path.exists():
            # A file that is written amid this makes a folder refuse to go, once.
            shutil.rmtree(run.path.parent, ignore_errors=True)
        studio.wait(60)
    assert not run.path.exists()


DRAWING = """
import sys, time
from pathlib import Path
from trainer.cli import studio
from trainer.report import plots
real, said = plots.curves, Path(sys.argv[1])
def curves(values):
    if "accuracy" in values:
        said.write_text("drawing")
        while said.exists():
            time.sleep(0.01)
    return real(values)
plots.curves = curves
studio.main()
"""
"A studio that stays at its drawing of a run for as long as a file is there."


def until(truth: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not truth():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_run_removed_amid_its_drawing(run: RunDirectory, tmp_path: Path) -> None:
    """Its files were read, its pictures are not yet written."""
    said = tmp_path / "said"
    with subprocess.Popen([sys.executable, "-c", DRAWING, said], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as one:
        assert one.stdin is not None
        one.stdin.write(bytes(run.path) + b"\0")
        one.stdin.flush()
        until(said.exists)
        shutil.rmtree(run.path.parent)
        said.unlink()
        assert one.wait(60) == 1
        assert one.stderr is not None
        assert b"No such file or directory" in one.stderr.read()
    assert not run.path.parent.exists()


ASKING = """
import subprocess, sys
from pathlib import Path
from trainer.cli import draughtsman, studio
from trainer.runs.directory import RunDirectory
program, said, run = sys.argv[1:]
real = subprocess.Popen
def drawing(command, **options):
    started = real([sys.executable, "-c", program, said], **options)
    print(started.pid, flush=True)
    return started
draughtsman.subprocess.Popen = drawing
draughtsman.cores = lambda: 2
with draughtsman.Draughtsman(ahead=True) as ahead:
    ahead.present(RunDirectory(Path(run)))
"""


def test_it_ends_with_its_asker(run: RunDirectory, tmp_path: Path) -> None:
    """The asker is killed amid the drawing: no orphan goes on, and nothing is written."""
    said = tmp_path / "said"
    before = sorted(run.path.rglob("*"))
    command = [sys.executable, "-c", ASKING, DRAWING, said, run.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        orphan = int(asker.stdout.readline())
        until(said.exists)
        asker.kill()
    until(lambda: is_over(orphan))
    said.unlink()
    assert sorted(run.path.rglob("*")) == before


def is_over(process: int) -> bool:
    """Whether a process has ended; who adopted it may not have asked for its exit code yet."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state.rpartition(")")[2].split()[0] in "ZX"


def test_it_ends_between_files_only(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file under way is written whole, though nobody waits any more."""
    reading, writing = os.pipe()
    monkeypatch.setattr(studio, "INPUT", reading)
    order: list[str] = []
    monkeypatch.setattr(os, "_exit", lambda code: order.append(f"exit {code}"))
    commission = studio.Commission(run.path)
    watch = Thread(target=commission.end_with_asker)
    real = os.replace

    def slowly(source: Any, target: Any) -> None:
        os.close(writing)
        watch.join(0.2)
        real(source, target)
        order.append("written")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", slowly)
        watch.start()
        commission.write(PAGE, b"page")
    watch.join(60)
    os.close(reading)
    assert order == ["written", "exit 1"]
    assert (run.path / PAGE).read_bytes() == b"page"


@pytest.mark.parametrize(("cores", "without"), [(1, ""), (2, "draughtsman")])
def test_one_core_draws_itself(run: RunDirectory, cores: int, without: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draughtsman, "cores", lambda: cores)
    monkeypatch.setenv("TRAINER_WITHOUT", without)
    with Draughtsman(ahead=True) as ahead:
        assert not ahead.ready
