"""One writer a run; a second hears at once who the first is."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.errors import EnvironmentFault, RunError
from trainer.runs.lock import RunLock, is_held

HOLD = """
import sys, time
from pathlib import Path
from trainer.runs.lock import RunLock, is_held
with RunLock(Path(sys.argv[1])):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    time.sleep(60)
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_second_process_is_refused_at_once(tmp_path: Path) -> None:
    with holder(tmp_path) as child:
        with pytest.raises(RunError, match=f"process {child.pid} is writing the run") as caught, RunLock(tmp_path):
            pass
        assert caught.value.exit_code == 5
        child.send_signal(signal.SIGKILL)
        child.wait()
        with RunLock(tmp_path):
            assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_second_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(RunError, match=f"process {os.getpid()} "), RunLock(tmp_path):
            pass
        with pytest.raises(RunError), RunLock(tmp_path):
            pass


def test_free_again_after_the_block(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock, pytest.raises(RunError), RunLock(tmp_path):
        pass


def test_holder_without_a_number(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / ".lock").write_text("\x00\x1b[31m")
        with pytest.raises(RunError, match="another process is writing"), RunLock(tmp_path):
            pass


def test_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / ".model.h5.12345678.tmp").write_bytes(b"half")
    with RunLock(tmp_path):
        assert os.listdir(tmp_path) == [".lock"]


def test_refused_lock_leaves_the_holders_files(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / ".model.h5.12345678.tmp").write_bytes(b"half")
        with pytest.raises(RunError), RunLock(tmp_path):
            pass
        assert (tmp_path / ".model.h5.12345678.tmp").exists()


def test_folder_is_missing(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault), RunLock(tmp_path / "gone"):
        pass


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EnvironmentFault, match="can't lock"), RunLock(tmp_path):
        pass


def test_whether_a_run_is_being_written(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    with holder(tmp_path) as child:
        assert is_held(tmp_path)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not is_held(tmp_path)
