"""File names that a recipe gives: they stay under the run directory, and their placeholders are numbers only.

Python's `str.format` would let a recipe reach attributes (`{epoch.__class__}`); here a placeholder is a name and a
plain number format (`{epoch:02d}`, `{val_loss:.2f}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator

from trainer.errors import RecipeError, nearest
from trainer.options import Rule, shown

_PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z0-9_-]+)(?::([^{}]*))?\}|[^{}]+")
_FORMAT = re.compile(r"[+-]?0?\d{0,2}(\.\d{1,2})?[dfFeEgG%]?")
_WHOLE = ("epoch", "batch")
_OWN = {"recipe.yaml", "resolved.yaml", "run.json", "history.csv", "metrics.json", "model.h5", "report.html", "log.txt"}
# The run's own checkpoints, which `resume` goes on from.
_OWN_CHECKPOINTS = re.compile(r"checkpoints/(last-.*|commit\.json)")


def check_path(path: str) -> str:
    """The path, if it is one under the run directory that is not a file of the run itself.

    Raises:
        ValueError: it is not; the message says why.
    """
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or re.match(r"[A-Za-z]:", path) or ".." in parts:
        raise ValueError(f"expected a path that stays under the run directory, found {shown(path)}")
    if any(not part.strip() or part.startswith((".", "~")) or len(part) > 200 for part in parts):
        raise ValueError(f"expected a path of plain names, found {shown(path)}")
    if not path.isprintable():
        raise ValueError(f"expected a path of printable characters, found {shown(path)}")
    if path.lower() in _OWN or _OWN_CHECKPOINTS.fullmatch(path.lower()):
        raise ValueError(f"the run keeps a file of its own under that name, {shown(path)}; choose another")
    return path


def check_pattern(pattern: str) -> str:
    """The pattern, if it is a path whose placeholders are names with plain number formats.

    Raises:
        ValueError: it is not; the message says why.
    """
    for name, layout, _ in _pieces(pattern):
        if name and not _FORMAT.fullmatch(layout):
            raise ValueError(f"expected a number format such as 02d or .2f, found {shown(layout)} in {shown(pattern)}")
        if name and layout.endswith("d") and name not in _WHOLE:
            raise ValueError(f"{name} is no whole number; write {{{name}:.4f}} in {shown(pattern)}")
    check_path("".join("x" if name else text for name, _, text in _pieces(pattern)))
    return pattern


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_RULE = Rule("a path under the run directory", _text, {"type": "string", "minLength": 1})
RunPath = Annotated[str, _RULE, AfterValidator(check_path)]
RunPattern = Annotated[str, _RULE, AfterValidator(check_pattern)]


def filled(pattern: str, values: Mapping[str, float]) -> str:
    """The pattern with its placeholders replaced.

    Raises:
        RecipeError: a placeholder has no value, or what comes out is no path under the run directory.
    """
    made = ""
    for name, layout, text in _pieces(pattern):
        if not name:
            made += text
        elif name in values:
            made += format(values[name], layout)
        else:
            found = f"nothing produces {{{name}}} of {shown(pattern)}; there are {', '.join(values)}"
            raise RecipeError(found, hint=nearest(name, values), code="placeholder")
    try:
        return str(PurePosixPath(check_path(made)))
    except ValueError as error:
        raise RecipeError(str(error), code="path") from None


def _pieces(pattern: str) -> Iterator[tuple[str, str, str]]:
    """(name, format, "") for each placeholder and ("", "", text) for what stands between."""
    at = 0
    while at < len(pattern):
        piece = _PIECE.match(pattern, at)
        if piece is None:
            raise ValueError(f"expected placeholders such as {{epoch:02d}} or {{val_loss:.2f}}, found {shown(pattern)}")
        at = piece.end()
        name = piece[1] or ""
        yield name, piece[2] or "", "" if name else piece[0].replace("{{", "{").replace("}}", "}")
