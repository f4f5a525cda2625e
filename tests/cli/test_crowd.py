"""Giving way to other programs: when it is done, and that nothing else changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.cli import ahead, crowd


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (crowd.TURNS, crowd.WAITING):
        # Set first, so that what a test leaves there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(ahead, "leave_tracing_out", lambda: None)
    monkeypatch.setattr(ahead, "_load_library", lambda: None)


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, running: str, processors: int = 4, mine: int = 4) -> None:
    file = folder / "loadavg"
    file.write_text(f"3.10 2.00 1.00 {running} 12345\n")
    monkeypatch.setattr(crowd, "LOAD", file)
    monkeypatch.setattr(crowd, "cores", lambda: mine)
    monkeypatch.setattr(os, "cpu_count", lambda: processors)


@pytest.mark.parametrize(
    ("running", "processors", "mine", "more"),
    [("1/300", 4, 4, False), ("2/300", 4, 4, True), ("9/300", 64, 2, False), ("64/300", 64, 2, True)],
)
def test_processors_that_others_want(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, processors: int, mine: int, more: bool
) -> None:
    load(tmp_path, monkeypatch, running, processors, mine)
    assert crowd.crowded() == more


def test_systems_that_do_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tmp_path, monkeypatch, "many")
    assert not crowd.crowded()
    monkeypatch.setattr(crowd, "LOAD", tmp_path / "none")
    assert not crowd.crowded()


@pytest.mark.parametrize(
    ("command", "before", "now", "environment", "turns"),
    [
        ("fit", True, "3/9", {}, crowd.FEW_TURNS),
        ("fit", False, "3/9", {}, None),
        ("fit", True, "1/9", {}, None),
        ("validate", True, "3/9", {}, None),
        ("fit", True, "3/9", {crowd.TURNS: "7"}, "7"),
        ("fit", True, "3/9", {crowd.WAITING: "active"}, None),
        ("fit", True, "3/9", {"TRAINER_WITHOUT": "crowd"}, None),
    ],
    ids=["others compute", "only now", "no longer", "no torch", "turns said", "waiting said", "switched off"],
)
def test_threads_give_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    before: bool,
    now: str,
    environment: dict[str, str],
    turns: str | None,
) -> None:
    load(tmp_path, monkeypatch, now)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ahead.make_ready(command, before)
    assert os.environ.get(crowd.TURNS) == turns
