"""plot: which picture of what, where it goes, and what is refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.cli.calling import Call
from tests.train.recipes import DIGITS
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History


@pytest.fixture
def plot(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Calls `trainer plot` in an empty folder with a digits recipe in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits.yaml").write_text(DIGITS)
    return lambda *words: call("plot", *words)


def made(name: str, epochs: int, *, validates: bool = True) -> RunDirectory:
    """A run that trained for so many epochs, on paper."""
    directory = RunDirectory.create(Path("runs"), name)
    values = {"loss": [1 / (n + 1) for n in range(epochs)]}
    if validates:
        values["val_loss"] = [2 / (n + 1) for n in range(epochs)]
    directory.write("history.csv", History.of(range(epochs), values).to_csv())
    directory.write("resolved.yaml", DIGITS.encode())
    return directory


def texts(path: Path) -> str:
    root = ElementTree.fromstring(path.read_bytes())
    return " ".join("".join(e.itertext()) for e in root.iter())


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_a_recipe_becomes_a_graph(plot: Call) -> None:
    assert plot("digits.yaml") == (0, "digits.svg\n", "")
    assert "dense_1" in texts(Path("digits.svg"))
    assert "(None, 32) · 2,080 params" in texts(Path("digits.svg"))
    assert plot("digits.yaml", "-o", "graph.png")[:2] == (0, "graph.png\n")
    assert is_png(Path("graph.png"))


def test_flags_change_the_recipe(plot: Call) -> None:
    assert plot("digits.yaml", "--set", "model.layers.dense.units=7", "--layout", "builtin")[0] == 0
    assert "(None, 7) · 455 params" in texts(Path("digits.svg"))


def test_a_run_becomes_curves_or_a_graph(plot: Call) -> None:
    directory = made("digits", 3)
    code, out, _ = plot("digits")
    assert (code, Path(out.strip())) == (0, directory.path / "plots" / "curves.png")
    assert is_png(Path(out.strip()))
    code, out, _ = plot("last", "--what", "graph")
    assert (code, Path(out.strip())) == (0, directory.path / "plots" / "graph.svg")
    assert "(None, 32) · 2,080 params" in texts(Path(out.strip()))


def test_several_runs_lie_over_each_other(plot: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.report import plots

    figures: list[Any] = []
    real = plots._bytes
    monkeypatch.setattr(plots, "_bytes", lambda figure, kind: figures.append(figure) or real(figure, kind))
    first, second = made("one", 3), made("two", 5, validates=False)
    code, out, _ = plot("one", "two", "one", "--json")
    assert code == 0
    assert json.loads(out)["result"] == {"what": "curves", "file": "curves.png", "of": ["one", "two", "one"]}
    assert is_png(Path("curves.png"))
    (figure,) = figures
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == [first.label, f"{second.label} (training)", "training"]
    (axes,) = figure.axes
    dots, line, alone = axes.lines[:3]
    assert (dots.get_linestyle(), list(dots.get_ydata())) == ("None", [1, 1 / 2, 1 / 3])
    assert list(line.get_ydata()) == [2, 1, 2 / 3]
    assert len(alone.get_ydata()) == 5
    assert line.get_color() != alone.get_color()
    assert plot("one", "two", "-o", "both.svg")[0] == 0
    before = Path("both.svg").read_bytes()
    assert plot("one", "two", "-o", "both.svg")[0] == 0
    assert Path("both.svg").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("digits.yaml", "--what", "curves"), 2, "digits.yaml is a recipe, which has no curves"),
        (("digits.yaml", "one"), 2, "a graph is drawn of one recipe or run, found 2"),
        (("digits.yaml", "-o", "graph.pdf"), 2, 'ends in .svg or .png, found "graph.pdf"'),
        (("digits.yaml", "-o", "nowhere/graph.svg"), 2, "there is no folder"),
        (("one", "--expand"), 2, "--expand is for graphs"),
        (("one", "--layout", "builtin"), 2, "--layout is for graphs"),
        (("one", "--set", "seed=1"), 2, "--set is for graphs"),
        (("nothere",), 5, "there is no run 'nothere'"),
        (("nothere.yaml",), 2, "nothere.yaml"),
        (("early",), 5, "has no finished epoch"),
        (("digits.yaml", "--set", "model.layers.dense.units=-1"), 2, "expected an integer above 0"),
        ((), 2, "RECIPE|RUN"),
    ],
)
def test_what_is_refused(plot: Call, words: tuple[str, ...], code: int, said: str) -> None:
    made("one", 2)
    made("early", 0)
    found, out, err = plot(*words)
    assert (found, out) == (code, "")
    assert said in err
    assert not list(Path().glob("*.svg"))


def test_without_matplotlib_there_is_svg(plot: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    made("one", 2)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert plot("digits.yaml")[0] == 0
    for words in (("digits.yaml", "-o", "graph.png"), ("one",)):
        code, _, err = plot(*words)
        assert code == 4
        assert "needs matplotlib" in err
        assert "recipe-trainer[plots]" in err


def test_graphviz_that_is_asked_for_must_be_there(plot: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    code, _, err = plot("digits.yaml", "--layout", "graphviz")
    assert code == 4
    assert "not on the PATH" in err
    assert "--layout builtin" in err
