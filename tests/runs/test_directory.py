"""Run directories: made, found, listed; nothing is written outside of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from trainer.errors import EnvironmentFault, RunError
from trainer.runs.directory import RunDirectory, list_runs, run_names, stamp


def test_create(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "mnist_mlp")
    assert run.path.parent == tmp_path / "runs" / "mnist_mlp"
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run.path.name)
    assert (run.path.parent / "latest").read_text() == f"{run.path.name}\n"
    assert run.label == f"mnist_mlp/{run.path.name}"


def test_stamps_sort_by_time() -> None:
    assert stamp(datetime(2026, 1, 31, 12, 0, 0, 0)) == "20260131-120000-0000"
    assert stamp(datetime(2026, 1, 31, 12, 0, 0, 500_000)) == "20260131-120000-8000"
    assert stamp(datetime(2026, 1, 31, 12, 0, 0, 999_999)) == "20260131-120000-ffff"


def test_many_at_once_differ_and_stay_in_order(tmp_path: Path) -> None:
    made = [RunDirectory.create(tmp_path, "a").path for _ in range(20)]
    assert [r.path for r in list_runs(tmp_path)] == made
    assert RunDirectory.find(tmp_path, "a").path == made[-1]


@pytest.mark.parametrize("name", ["", "..", ".", "a/b", "-a", ".hidden", "a" * 65, "ä", "a b", "a\n", "latest"])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="expected a name for a run"):
        RunDirectory.create(tmp_path / "runs", name)
    assert not (tmp_path / "runs").exists()


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "runs"
    first, second = RunDirectory.create(root, "pima"), RunDirectory.create(root, "pima")
    other = RunDirectory.create(root, "boston")
    for run in (first, second, other):
        run.write_record({"state": "done"})
    assert RunDirectory.find(root, "pima").path == second.path
    assert RunDirectory.find(root, "last").path == other.path
    assert RunDirectory.find(root, f"pima/{first.path.name}").path == first.path
    assert RunDirectory.find(root, first.path).path == first.path
    assert RunDirectory.find(root, str(root / "pima")).path == second.path
    monkeypatch.chdir(first.path.parent)
    assert RunDirectory.find(root, first.path.name).path.resolve() == first.path
    assert run_names(root) == ["boston", "pima"]
    assert [r.path for r in list_runs(root, "pima")] == [first.path, second.path]


@pytest.mark.parametrize("word", ["x" * 300, "x" * 5000, "~no-such-user/pima", "..", "/", "a\0b", ""])
def test_words_that_mean_no_run(tmp_path: Path, word: str) -> None:
    RunDirectory.create(tmp_path / "runs", "pima").write_record({})
    with pytest.raises(RunError, match="there is no run"):
        RunDirectory.find(tmp_path / "runs", word)


def test_find_a_run_that_was_moved(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "pima")
    run.write_record({})
    moved = tmp_path / "best-one"
    run.path.rename(moved)
    assert RunDirectory.find(tmp_path / "runs", moved).path == moved


@pytest.mark.parametrize("latest", ["", "20200101-000000-0000", "../../etc", "\udcff", None])
def test_latest_that_is_damaged(tmp_path: Path, latest: str | None) -> None:
    RunDirectory.create(tmp_path, "a")
    newest = RunDirectory.create(tmp_path, "a")
    pointer = tmp_path / "a" / "latest"
    pointer.unlink() if latest is None else pointer.write_bytes(latest.encode("utf-8", "surrogateescape"))
    assert RunDirectory.find(tmp_path, "a").path == newest.path


def test_not_found(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in") as caught:
        RunDirectory.find(tmp_path / "runs", "last")
    assert "trainer fit" in caught.value.problems[0].hint
    RunDirectory.create(tmp_path / "runs", "mnist_mlp")
    with pytest.raises(RunError, match="there is no run 'mnist_mpl'") as caught:
        RunDirectory.find(tmp_path / "runs", "mnist_mpl")
    assert caught.value.problems[0].hint == "did you mean mnist_mlp?"
    with pytest.raises(RunError) as caught:
        RunDirectory.find(tmp_path / "runs", "zzz")
    assert caught.value.problems[0].hint == "there are: mnist_mlp"
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError):
        RunDirectory.find(tmp_path / "runs", tmp_path / "empty")


def test_write_and_record(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "a")
    run.write("plots/loss.png", b"png")
    assert (run.path / "plots" / "loss.png").read_bytes() == b"png"
    assert run.folder("folds/1") == run.folder("folds/1") == run.path / "folds" / "1"
    assert (run.path / "folds" / "1").is_dir()
    run.write_record({"state": "running", "seed": 7})
    assert run.record() == {"state": "running", "seed": 7}
    assert json.loads((run.path / "run.json").read_text()) == run.record()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc/x", "plots/../../x", "plots/.."])
def test_write_stays_inside(tmp_path: Path, name: str) -> None:
    run = RunDirectory.create(tmp_path, "a")
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(RunError, match="within the run directory"):
        run.write(name, b"x")
    with pytest.raises(RunError, match="within the run directory"):
        run.folder(name)
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_write_does_not_follow_a_link_out(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", "a")
    (tmp_path / "outside").mkdir()
    (run.path / "plots").symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="within the run directory"):
        run.write("plots/x.png", b"x")
    for name in ("plots", "plots/x"):
        with pytest.raises(RunError, match="within the run directory"):
            run.folder(name)
    assert not os.listdir(tmp_path / "outside")


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_damaged_record(tmp_path: Path, text: bytes) -> None:
    run = RunDirectory.create(tmp_path, "a")
    (run.path / "run.json").write_bytes(text)
    with pytest.raises(RunError, match=r"run\.json"):
        run.record()


def test_missing_record(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "a")
    assert run.record() == {"name": "a", "state": "new"}
    (run.path / "run.json").unlink()
    with pytest.raises(RunError, match=r"has no run\.json"):
        run.record()


WRITERS: dict[str, Callable[[RunDirectory], object]] = {
    "a picture": lambda run: run.write("plots/curves.png", b"png"),
    "the page": lambda run: run.write("report.html", b"page"),
    "the record": lambda run: run.write_record({"state": "done"}),
    "a checkpoint": lambda run: run.save_checkpoint(b"model", 1, 0),
    "a fold's history": lambda run: run.write("folds/1/history.csv", b"epoch"),
    "a fold's folder": lambda run: run.folder("folds/1"),
}


@pytest.mark.parametrize("what", WRITERS)
@pytest.mark.parametrize("removed", ["the run", "its name", "its record"])
def test_a_late_write_does_not_bring_a_run_back(tmp_path: Path, what: str, removed: str) -> None:
    run = RunDirectory.create(tmp_path / "runs", "a")
    place = {"the run": run.path, "its name": run.path.parent, "its record": run.path / "run.json"}[removed]
    place.unlink() if place.is_file() else shutil.rmtree(place)
    left = sorted(tmp_path.rglob("*"))
    with pytest.raises(EnvironmentFault, match="No such file") as caught:
        WRITERS[what](run)
    assert "moved or removed" in caught.value.problems[0].hint
    assert sorted(tmp_path.rglob("*")) == left


def test_a_run_removed_within_a_write_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the look at its record, before its folder is made."""
    run, real = RunDirectory.create(tmp_path, "a"), os.stat

    def last_look(path: Any, **options: Any) -> os.stat_result:
        found = real(path, **options)
        if Path(path).name == "run.json":
            monkeypatch.undo()
            shutil.rmtree(run.path)
        return found

    monkeypatch.setattr(os, "stat", last_look)
    with pytest.raises(EnvironmentFault, match="can't make the folder"):
        run.write("plots/curves.png", b"png")
    assert not run.path.exists()


def test_what_is_left_of_a_run_is_none(tmp_path: Path) -> None:
    kept, gone = RunDirectory.create(tmp_path, "a"), RunDirectory.create(tmp_path, "a")
    lone = RunDirectory.create(tmp_path, "b")
    for run in (gone, lone):
        run.write("plots/curves.png", b"png")
        (run.path / "run.json").unlink()
    assert [r.path for r in list_runs(tmp_path)] == [kept.path]
    assert run_names(tmp_path) == ["a"]
    for word in ("last", "a"):
        assert RunDirectory.find(tmp_path, word).path == kept.path
        assert RunDirectory.find_usable(tmp_path, word).path == kept.path
    with pytest.raises(RunError, match="there is no run 'b'"):
        RunDirectory.find(tmp_path, "b")
    for word in (gone.label, gone.path):
        with pytest.raises(RunError, match=r"has no run\.json, so it is not a run"):
            RunDirectory.find(tmp_path, word)


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").write_bytes(b"a file in the way")
    with pytest.raises(EnvironmentFault, match="can't make the folder"):
        RunDirectory.create(tmp_path / "runs", "a")
