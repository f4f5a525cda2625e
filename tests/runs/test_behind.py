"""Files that are written while the training goes on."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import DIGITS, trained
from trainer.errors import EnvironmentFault, RunError
from trainer.runs import behind
from trainer.runs.behind import SMALL, Behind
from trainer.runs.directory import RunDirectory, list_runs
from trainer.runs.files import write_atomic
from trainer.switches import VARIABLE


class Disk:
    """Writes when it is let, and holds what it wrote in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.written: list[tuple[str, bytes]] = []
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.error: Exception | None = None
        monkeypatch.setattr(behind, "write_atomic", self.write)

    def write(self, path: Path, data: Any) -> None:
        self.begun.release()
        assert self.let.acquire(timeout=30)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.written.append((path.name, bytes(data)))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_later_file_takes_the_place_of_one_that_waits(disk: Disk) -> None:
    files = Behind()
    files.write(Path("best.h5"), b"1")
    assert disk.begun.acquire(timeout=30)
    # The first is on its way, the second waits, and the third takes its place.
    files.write(Path("best.h5"), b"2")
    files.write(Path("best.h5"), b"3")
    disk.let.release(2)
    files.wait()
    assert disk.written == [("best.h5", b"1"), ("best.h5", b"3")]


def test_other_files_are_all_written_in_order(disk: Disk) -> None:
    files = Behind()
    disk.let.release(20)
    for number in range(20):
        files.write(Path(f"{number}.h5"), bytes([number]))
    files.wait()
    assert disk.written == [(f"{number}.h5", bytes([number])) for number in range(20)]


def test_one_file_waits_at_most(disk: Disk) -> None:
    files = Behind()
    files.write(Path("1.h5"), b"1")
    assert disk.begun.acquire(timeout=30)
    files.write(Path("2.h5"), b"2")
    third = threading.Thread(target=files.write, args=(Path("3.h5"), b"3"))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    disk.let.release(3)
    third.join(30)
    files.wait()
    assert [name for name, _ in disk.written] == ["1.h5", "2.h5", "3.h5"]


@pytest.mark.parametrize("later", ["write", "wait"])
def test_an_error_is_raised_later_and_once(disk: Disk, later: str) -> None:
    files = Behind()
    disk.error = EnvironmentFault("can't write best.h5: no space", code="ENOSPC")
    files.write(Path("best.h5"), b"1")
    disk.let.release()
    while files._error is None:
        time.sleep(0.001)
    again = {"write": lambda: files.write(Path("best.h5"), b"2"), "wait": files.wait}[later]
    with pytest.raises(EnvironmentFault, match=r"can't write best\.h5"):
        again()
    disk.let.release()
    files.write(Path("best.h5"), b"3")
    files.wait()
    assert disk.written == [("best.h5", b"3")]


def run(folder: Path) -> RunDirectory:
    return RunDirectory.create(folder, "a")


def test_what_a_run_writes_otherwise_finds_it_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint says that its callbacks' files are written; and so says the record at the end."""
    directory, slow = run(tmp_path), threading.Event()

    def write(path: Path, data: Any) -> None:
        assert slow.wait(30)
        write_atomic(path, data)

    monkeypatch.setattr(behind, "write_atomic", write)
    for number, then in enumerate(
        (
            lambda: directory.write("other", b""),
            lambda: directory.save_checkpoint(b"state", 1, 0),
            lambda: directory.write_record({"name": "a", "state": "done"}),
            directory.settle,
        )
    ):
        slow.clear()
        directory.write_soon("checkpoints/best.h5", bytes([number]))
        timer = threading.Timer(0.05, slow.set)
        timer.start()
        then()
        assert (directory.path / "checkpoints/best.h5").read_bytes() == bytes([number])


def test_large_files_and_where_it_is_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Behind, "write", never)
    directory = run(tmp_path)
    directory.write_soon("large.h5", bytes(SMALL + 1))
    assert (directory.path / "large.h5").stat().st_size == SMALL + 1
    monkeypatch.setenv(VARIABLE, "behind")
    directory.write_soon("small.h5", b"1")
    assert (directory.path / "small.h5").read_bytes() == b"1"


def test_a_path_that_leads_out_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="within the run directory"):
        run(tmp_path).write_soon("../out.h5", b"")


def test_a_disk_that_is_full_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: Any) -> None:
        raise EnvironmentFault(f"can't write {path}: {errno.ENOSPC}", code="ENOSPC")

    monkeypatch.setattr(behind, "write_atomic", full)
    saving = "callbacks=[{ModelCheckpoint: {filepath: best.h5, monitor: loss, save_best_only: true}}]"
    with pytest.raises(EnvironmentFault, match=r"best\.h5"):
        trained(tmp_path, DIGITS, saving)
    (run,) = list_runs(tmp_path)
    assert run.record()["state"] == "failed"
