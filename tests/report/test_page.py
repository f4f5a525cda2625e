"""The page of a run: what stands in it, that it needs nothing else, and that nothing in it can act."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.train.recipes import DIGITS, trained
from trainer.errors import FileError
from trainer.report.diagram import Diagram, Edge, Node
from trainer.report.page import page
from trainer.runs.directory import RunDirectory
from trainer.train.pictures import present

EVIL = "<script>alert(1)</script>"


class Seen(HTMLParser):
    """Tags with their attributes, and the text between."""

    def __init__(self, data: bytes):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(data.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.extend(data.split())

    def has(self, words: str) -> bool:
        return words in " ".join(self.text)


def looked_at(directory: RunDirectory) -> Seen:
    seen = Seen(page(directory))
    sources = [a[1].get(key) or "" for a in seen.tags for key in ("src", "href") if key in a[1]]
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert not [t for t, a in seen.tags if t in ("script", "iframe", "link", "object") or any(k[:2] == "on" for k in a)]
    return seen


def test_a_finished_run(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS + "expect: {test.accuracy: {min: 0.999}, parameters: {min: 10}}\n")
    directory = RunDirectory(outcome.directory)
    present(directory)
    seen = looked_at(directory)
    assert (directory.path / "report.html").read_bytes() == page(directory)
    assert seen.has(f"test {outcome.figures['test.loss']:.4f} {outcome.figures['test.accuracy']:.4f}")
    assert seen.has("test.accuracy at least 0.999")
    assert seen.has("does not hold")
    assert seen.has("parameters at least 10 2,410 holds")
    assert len([t for t, _ in seen.tags if t == "img"]) == 1
    assert seen.has("Curves Model layer class output shape parameters dense Dense (None, 32) 2,080")
    assert seen.has("Epoch 4/4 - ")
    for epoch, loss in enumerate(outcome.history["loss"], 1):
        assert seen.has(f"{epoch} {loss:.4f}")


def test_folds_and_confusion(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS.replace("validation_split: 0.25", "kfold: {folds: 2}"))
    directory = RunDirectory(outcome.directory)
    present(directory)
    directory.write("plots/confusion-test.png", (directory.path / "plots/folds.png").read_bytes())
    seen = looked_at(directory)
    assert [a["alt"] for t, a in seen.tags if t == "img"] == [
        "Curves",
        "Folds",
        "Folds, smoothed",
        "Confusion matrix, test rows",
    ]
    assert seen.has("loss.mean")


@pytest.mark.parametrize("state", ["new", "failed", "killed"])
def test_a_run_that_came_to_nothing(tmp_path: Path, state: str) -> None:
    directory = RunDirectory.create(tmp_path, "early")
    directory.write_record({"name": "early", "state": state, "error": "the disk is full"})
    seen = looked_at(directory)
    assert seen.has(state)
    assert seen.has("the disk is full")
    assert not [t for t, _ in seen.tags if t == "img"]


def test_the_graph_stands_in_the_page(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "graph")
    nodes = (Node("a", EVIL, "Dense", (EVIL,)), Node("b", "sum", "Add"))
    graph = Diagram(EVIL, nodes, (Edge("a", "b", EVIL),)).as_data()
    directory.write_record({"state": "done", "graph": graph})
    seen = looked_at(directory)
    assert [t for t, _ in seen.tags if t in ("svg", "path")] == ["svg", "path", "path"]
    assert seen.has("Graph")
    assert seen.has("sum Add")
    directory.write_record({"state": "done", "graph": {"nodes": 3}})
    with pytest.raises(FileError, match="no graph that can be drawn"):
        page(directory)


def test_text_of_strangers_stays_text(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, "evil")
    record: dict[str, Any] = {"state": "done", "description": EVIL, "error": EVIL, "data": {EVIL: EVIL}, "seed": 1}
    record |= {"layers": [{"name": EVIL, "kind": EVIL, "shape": EVIL, "parameters": 1}], "rows": {EVIL: 1}}
    directory.write_record(record)
    directory.write("recipe.yaml", f"# {EVIL}\x1b[31m".encode())
    directory.write("log.txt", EVIL.encode() + b"\xff")
    figures = {f"test.{EVIL}": "nan", "test.loss": 0.5}
    directory.write("metrics.json", json.dumps({"figures": figures, "expect": {}}).encode())
    directory.write("history.csv", f"epoch,{EVIL}\n0,nan\n".encode())
    seen = looked_at(directory)
    assert seen.has("\\x1b[31m")
    assert seen.has("nan 0.5000")
    assert " ".join(seen.text).count("alert(1)") >= 10
