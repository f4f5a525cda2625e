"""A file is the old one or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import EnvironmentFault
from trainer.runs.files import sha256, sweep, write_atomic

CALLS = ["open", "write", "fsync", "replace"]
CODES = [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO, errno.EDQUOT]


def break_call(monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException, at: int = 1) -> None:
    """Let the `at`-th call of os.<call> raise; a write first writes a part."""
    real, seen = getattr(os, call), [0]

    def broken(*args: Any, **options: Any) -> Any:
        seen[0] += 1
        if seen[0] != at:
            return real(*args, **options)
        if call == "write":
            real(args[0], bytes(args[1][:3]))
        raise error

    monkeypatch.setattr(os, call, broken)


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"one")
    write_atomic(path, b"")
    assert path.read_bytes() == b""
    write_atomic(path, b"x" * 3_000_000)
    assert path.stat().st_size == 3_000_000
    assert os.listdir(tmp_path) == ["a.json"]


def test_is_readable_as_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomic(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_synced_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for call in CALLS:
        real = getattr(os, call)
        monkeypatch.setattr(os, call, lambda *a, real=real, call=call, **k: (calls.append(call), real(*a, **k))[1])
    write_atomic(tmp_path / "a", b"data")
    assert calls == ["open", "write", "fsync", "replace", "open", "fsync"]


def test_sha256() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("call", CALLS)
def test_refused_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"earlier")
    with monkeypatch.context() as patch:
        break_call(patch, call, OSError(code, os.strerror(code)))
        with pytest.raises(EnvironmentFault) as caught:
            write_atomic(path, b"later, longer")
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a.json"]
    problem = caught.value.problems[0]
    assert str(path) in problem.message
    assert os.strerror(code) in problem.message
    assert problem.hint
    assert caught.value.exit_code == 4


def test_directory_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    break_call(monkeypatch, "fsync", OSError(errno.EIO, "Input/output error"), at=2)
    with pytest.raises(EnvironmentFault, match="make the change last"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_file_system_without_directory_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_call(monkeypatch, "fsync", OSError(errno.EINVAL, "Invalid argument"), at=2)
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_interrupted_by_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"earlier")
    break_call(monkeypatch, "fsync", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"later")
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a"]


def test_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="No such file") as caught:
        write_atomic(tmp_path / "gone" / "a", b"x")
    assert "moved or removed" in caught.value.problems[0].hint


def test_limit_of_the_kernel(tmp_path: Path) -> None:
    """A real refusal in the middle of a write, not an injected one."""
    path = tmp_path / "a"
    path.write_bytes(b"earlier")
    script = """
import resource, sys
from pathlib import Path
from trainer.errors import EnvironmentFault
from trainer.runs.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_atomic(Path(sys.argv[1]), b"x" * 200_000)
except EnvironmentFault as error:
    sys.stderr.write(str(error))
    sys.exit(4)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 4, done.stderr
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a"]


def kill_while_writing(tmp_path: Path, kills: int, seed: int) -> None:
    script = """
import sys
from pathlib import Path
from trainer.runs.files import write_atomic
n = 0
while True:
    write_atomic(Path(sys.argv[1]), bytes([n % 251]) * (1 + n * 7919 % 500_000))
    if n == 0:
        sys.stdout.write("started\\n")
        sys.stdout.flush()
    n += 1
"""
    path, dice = tmp_path / "a", random.Random(seed)
    for _ in range(kills):
        command = [sys.executable, "-c", script, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(dice.random() * 0.05)
            child.send_signal(signal.SIGKILL)
        data = path.read_bytes()
        assert len(data) > 0
        assert len(set(data)) == 1, "torn: parts of two versions"
        lengths = {1 + n * 7919 % 500_000 for n in range(5000) if n % 251 == data[0]}
        assert len(data) in lengths, "torn: cut off"
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_kill_leaves_a_whole_file(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, 12, seed=1)


@pytest.mark.long
def test_kill_leaves_a_whole_file_300_times(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, 300, seed=2)


def test_sweep_takes_only_temporary_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    kept = [tmp_path / "model.h5", tmp_path / ".lock", tmp_path / "inner" / "notes.tmp"]
    gone = [tmp_path / ".model.h5.0a1b2c3d.tmp", tmp_path / "inner" / ".x.00000000.tmp"]
    for path in kept + gone:
        path.write_bytes(b"")
    sweep(tmp_path)
    assert all(p.exists() for p in kept)
    assert not any(p.exists() for p in gone)
