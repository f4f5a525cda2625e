"""evaluate: the tables of classes on the terminal."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from trainer.cli import using
from trainer.report.classes import class_report

LONG = [
    "T-shirt or top",
    "sandal, open",
    "sandal, closed at the heel",
    "ankle boot, laced",
    "a_word_of_thirty_letters_there",
]


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], names: list[str], width: int) -> str:
    """What `show` prints of a report over classes of these names, on a terminal of that width."""
    monkeypatch.setattr(using, "console", lambda: Console(width=width, markup=False, highlight=False))
    numbers = np.repeat(np.arange(len(names)), 3)
    using.show(class_report(numbers, np.roll(numbers, 1), names))
    return capsys.readouterr().out.partition("truth")[2]


def test_columns_have_the_names_of_the_classes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header, *rows = shown(monkeypatch, capsys, LONG, 160).splitlines()
    assert all(name in header for name in LONG)
    assert rows[1].split() == ["T-shirt", "or", "top", "2", "·", "·", "·", "1"]


@pytest.mark.parametrize("width", [66, 80, 120])
def test_columns_have_numbers_where_names_do_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    out = shown(monkeypatch, capsys, LONG, width)
    assert "…" not in out
    assert out.splitlines()[0].split()[-5:] == ["0", "1", "2", "3", "4"]
    for number, name in enumerate(LONG):
        assert f"{number} {name[:12]}" in out
