"""A run as one HTML page that needs nothing else: no scripts, no other files."""

from __future__ import annotations

import base64
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.errors import FileError
from trainer.report.diagram import Diagram, draw
from trainer.report.svg import svg
from trainer.runs.directory import RunDirectory
from trainer.runs.history import History
from trainer.wording import clean, number

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = Path(__file__).with_name("page.html.j2")
PICTURES = {"curves": "Curves", "folds": "Folds", "folds-smoothed": "Folds, smoothed"}
PARTS = ("train", "val", "test", "folds")
MOST_TEXT = 200_000
"Characters of the log that the page carries, its last ones."


def page(directory: RunDirectory) -> bytes:
    """The page of a run, whatever has become of it so far.

    Raises:
        RunError: the run has no record.
        FileError: one of its files is damaged.
    """
    record = directory.record()
    metrics = _json(directory.path / "metrics.json")
    figures = metrics.get("figures", {})
    results = {part: found for part in PARTS if (found := _part(figures, part))}
    facts = {
        "name": directory.path.parent.name,
        "stamp": directory.path.name,
        "state": record.get("state", ""),
        "error": record.get("error", ""),
        "description": record.get("description", ""),
        "seconds": record.get("seconds"),
        "seed": record.get("seed", ""),
        "device": record.get("environment", {}).get("device", ""),
        "figures": figures,
        "results": results,
        "columns": list(dict.fromkeys(name for values in results.values() for name in values)),
        "expected": metrics.get("expect", {}),
        "best_epoch": metrics.get("best_epoch"),
        "pictures": _pictures(directory.path / "plots"),
        "layers": record.get("layers", []),
        "total": sum(layer["parameters"] for layer in record.get("layers", [])),
        "diagram": _diagram(record),
        "history": _history(directory.path / "history.csv"),
        "recipe": _text(directory.path / "recipe.yaml"),
        "rows": record.get("rows", {}),
        "data": record.get("data", {}),
        "environment": record.get("environment", {}),
        "log": _text(directory.path / "log.txt")[-MOST_TEXT:],
    }
    return _template().render(facts).encode()


@functools.cache
def _template() -> Template:
    from jinja2 import Environment

    rooms = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    rooms.filters["figure"] = _figure
    return rooms.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _figure(value: float | str | int) -> str:
    """JSON has no not-a-number, so a figure may be text."""
    if isinstance(value, int):
        return f"{value:,}"
    return number(float(value))


def _part(figures: dict[str, Any], part: str) -> dict[str, Any]:
    return {name.removeprefix(f"{part}."): v for name, v in figures.items() if name.startswith(f"{part}.")}


def _pictures(folder: Path) -> list[dict[str, str]]:
    """Curves first, then the confusion matrices that `evaluate` left."""
    named = {folder / f"{stem}.png": title for stem, title in PICTURES.items()}
    for path in sorted(folder.glob("confusion-*.png")):
        named[path] = f"Confusion matrix, {path.stem.removeprefix('confusion-')} rows"
    found = ((path, title) for path, title in named.items() if path.is_file())
    return [{"title": title, "data": base64.b64encode(path.read_bytes()).decode()} for path, title in found]


def _diagram(record: dict[str, Any]) -> str:
    """The model's graph, placed by ourselves so that a page looks the same wherever it is made."""
    if "graph" not in record:
        return ""
    try:
        return svg(draw(Diagram.of_data(record["graph"]), "builtin"))
    except ValueError as error:
        raise FileError(f"run.json holds no graph that can be drawn: {error}") from None


def _history(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    history = History.from_csv(path.read_bytes())
    columns = list(history.values.values())
    lines = [(epoch + 1, [column[row] for column in columns]) for row, epoch in enumerate(history.epochs)]
    return {"names": list(history.values), "lines": lines} if lines else None


def _text(path: Path) -> str:
    if not path.is_file():
        return ""
    return clean(path.read_text(encoding="utf-8", errors="replace"))


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} can't be read: {error}") from None
    return found if isinstance(found, dict) else {}
