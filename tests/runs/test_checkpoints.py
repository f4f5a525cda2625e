"""A checkpoint is whole or absent, through kills, faults of the system and damage."""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import EnvironmentFault, RunError
from trainer.runs.checkpoints import BEFORE, COMMIT, Checkpoints


def content(number: int) -> bytes:
    """The bytes of checkpoint `number`: its number, then a length and filling that follow from it."""
    return b"%08d" % number + bytes([number % 251]) * (number * 7919 % 200_000)


def test_keeps_two(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load() == (None, "")
    for number in range(5):
        checkpoints.save(content(number), number, 10 * number)
        assert checkpoints.load() == (content(number), "")
    assert sorted(os.listdir(tmp_path)) == [BEFORE, COMMIT, "last-4.h5", "last-5.h5"]
    record = json.loads((tmp_path / COMMIT).read_text())
    assert record["file"] == "last-5.h5"
    assert (record["epoch"], record["batch"], record["size"]) == (4, 40, len(content(4)))


def test_no_folder_yet(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "checkpoints").load() == (None, "")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda p: p.write_bytes(b"")])
def test_falls_back_to_the_one_before(tmp_path: Path, damage: Any) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(3):
        checkpoints.save(content(number), number, 0)
    damage(tmp_path / "last-3.h5")
    data, warning = Checkpoints(tmp_path).load()
    assert data == content(1)
    assert "last-3.h5 (epoch 2, batch 0) is damaged" in warning
    assert "going on from epoch 1, batch 0" in warning


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"{", b"\xff", b'{"file": 1}', b"[" * 100_000])
def test_falls_back_when_the_record_is_damaged(tmp_path: Path, text: bytes) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(3):
        checkpoints.save(content(number), number, 0)
    (tmp_path / COMMIT).write_bytes(text)
    data, warning = Checkpoints(tmp_path).load()
    assert data == content(1)
    assert "the record commit.json is damaged" in warning


def test_a_record_names_no_other_file(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c").save(b"one", 0, 0)
    (tmp_path / "secret").write_bytes(b"one")
    record = json.loads((tmp_path / "c" / COMMIT).read_text())
    (tmp_path / "c" / COMMIT).write_text(json.dumps({**record, "file": "../secret"}))
    with pytest.raises(RunError, match="is not the name of a checkpoint"):
        Checkpoints(tmp_path / "c").load()


def test_both_damaged(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(2):
        checkpoints.save(content(number + 1), number, 0)
    cut(tmp_path / "last-1.h5")
    flip(tmp_path / "last-2.h5")
    with pytest.raises(RunError, match=r"no checkpoint of the run is whole.*last-2.h5.*sha256.*last-1.h5.*expected"):
        checkpoints.load()


def test_a_damaged_checkpoint_never_replaces_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    for number in range(3):
        checkpoints.save(content(number), number, 0)
    flip(tmp_path / "last-3.h5")
    going_on = Checkpoints(tmp_path)
    assert going_on.load()[0] == content(1)
    with monkeypatch.context() as patch:
        fail_at(patch, 7)
        with pytest.raises(EnvironmentFault, match="commit"):
            going_on.save(content(3), 3, 0)
    assert Checkpoints(tmp_path).load()[0] == content(1)
    Checkpoints(tmp_path).save(content(3), 3, 0)
    assert Checkpoints(tmp_path).load()[0] == content(3)
    assert sorted(os.listdir(tmp_path)) == [BEFORE, COMMIT, "last-2.h5", "last-5.h5"]
    flip(tmp_path / "last-5.h5")
    assert Checkpoints(tmp_path).load()[0] == content(1)


def fail_at(monkeypatch: pytest.MonkeyPatch, nth: int) -> list[str]:
    """Let the nth call of the functions that writing uses fail as a full disk does; the calls made."""
    made: list[str] = []
    for name in ("open", "write", "fsync", "replace"):
        real = getattr(os, name)

        def counted(*args: Any, name: str = name, real: Any = real, **options: Any) -> Any:
            made.append(name)
            if len(made) == nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        monkeypatch.setattr(os, name, counted)
    return made


@pytest.mark.parametrize("fresh", [False, True])
def test_disk_full_at_every_step(tmp_path: Path, fresh: bool) -> None:
    nth = 0
    while True:
        nth += 1
        folder = tmp_path / str(nth)
        checkpoints = Checkpoints(folder)
        for number in range(3):
            checkpoints.save(content(number), number, 0)
        if fresh:
            checkpoints = Checkpoints(folder)
        with pytest.MonkeyPatch.context() as patch:
            made = fail_at(patch, nth)
            with contextlib.suppress(EnvironmentFault):
                checkpoints.save(content(3), 3, 0)
        failed = len(made) >= nth
        committed = made[: nth - 1].count("replace") == 3
        data, warning = Checkpoints(folder).load()
        assert warning == ""
        assert data == content(3) if committed else content(2)
        checkpoints.save(content(4), 4, 0)
        assert Checkpoints(folder).load() == (content(4), "")
        assert not [n for n in os.listdir(folder) if n.endswith(".tmp")]
        if not failed:
            break
    assert nth > 12


def test_a_failed_save_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    fail_at(monkeypatch, 2)
    with pytest.raises(EnvironmentFault, match=r"last-1\.h5: No space left") as caught:
        checkpoints.save(b"x", 0, 0)
    assert "free some space" in caught.value.problems[0].hint


WRITER = """
import sys
from pathlib import Path
from trainer.runs.checkpoints import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
data, warning = checkpoints.load()
assert not warning, warning
number = 0 if data is None else int(data[:8]) + 1
while True:
    checkpoints.save(content(number), number, 0)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def kill_in_a_chain(folder: Path, kills: int, seed: int) -> None:
    """Each process goes on from what the one before it committed, and is killed at a random moment."""
    dice, reached = random.Random(seed), -1
    for _ in range(kills):
        command = [sys.executable, "-c", inspect.getsource(content) + WRITER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            said = child.stdout.readline()
            time.sleep(dice.random() ** 2 * 0.06)
            child.send_signal(signal.SIGKILL)
            said += child.stdout.read()
        acknowledged = [int(line) for line in said.split("\n")[:-1]]
        data, warning = Checkpoints(folder).load()
        assert data is not None
        assert warning == ""
        number = int(data[:8])
        assert data == content(number), "torn"
        assert number >= max([reached, *acknowledged]), "a committed checkpoint was lost"
        reached = number
    assert reached >= kills - 1
    Checkpoints(folder).save(content(0), 0, 0)
    assert len([n for n in os.listdir(folder) if n.endswith(".h5")]) == 2


def test_kill_in_a_chain(tmp_path: Path) -> None:
    kill_in_a_chain(tmp_path, 24, seed=3)


@pytest.mark.long
def test_kill_in_a_chain_400_times(tmp_path: Path) -> None:
    kill_in_a_chain(tmp_path, 400, seed=4)
