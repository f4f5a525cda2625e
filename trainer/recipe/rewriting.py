"""Numbers of a recipe file replaced where they stand; everything else in the file stays to the byte."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.errors import Path, RecipeError
from trainer.recipe.document import Document
from trainer.recipe.overrides import put


def rewritten(document: Document, values: Mapping[Path, float]) -> str:
    """The text of a document with these numbers in place of those at their paths.

    Raises:
        RecipeError: a number does not stand in this file (it came by `extends`, an anchor or a flag).
    """
    lines = document.text.splitlines(keepends=True)
    places = {path: document.spots[path].value for path in values}
    # From the end of the text, so that places before stay where they are.
    for path in sorted(places, key=lambda p: (places[p].line, places[p].column), reverse=True):
        place, line = places[path], ""
        if place.file == document.file and place.line <= len(lines):
            line = lines[place.line - 1]
        start, end = place.column - 1, place.column - 1 + place.width
        lines[place.line - 1 : place.line] = [f"{line[:start]}{values[path]:.12g}{line[end:]}"] if line else []
    text = "".join(lines)
    _check(document, text, values)
    return text


def _check(document: Document, text: str, values: Mapping[Path, float]) -> None:
    """Hold the new text against what it should say."""
    expected = document.value
    for path, value in values.items():
        expected = put(expected, path, float(f"{value:.12g}"))
    try:
        sound = Document.parse(text, document.file).value == expected
    except RecipeError:
        sound = False
    if not sound:
        hint = "change them by hand: they came by extends, an anchor or a flag"
        raise RecipeError(f"{document.file}: the numbers of expect do not stand in this file", hint=hint)
