"""Every error that this package raises on purpose.

    TrainerError
    ├── RecipeError        a recipe, a flag or a call says something that can't be; exit 2
    ├── DataError          rows or values that are not what the recipe says; exit 3
    ├── FileError          a data file or model file that can't be read; exit 3
    ├── EnvironmentFault   disk, memory, device, missing package, divergence; exit 4
    └── RunError           a run directory's state or its lock; exit 5

Library code raises these; only `trainer/cli` prints them and exits.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Place:
    """Where in a text something stands: 1-based line and column, the line itself, and how many characters to mark."""

    file: str
    line: int
    column: int
    text: str = ""
    width: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was expected and found, where, and what to try.

    `path` names the value in the recipe (`("model", "layers", 3, "Dense", "units")`); the Document turns it into
    a `place`. `on_key` marks the key rather than the value (an unknown name).
    """

    message: str
    path: Path = ()
    hint: str = ""
    code: str = "invalid"
    place: Place | None = None
    on_key: bool = False

    def at(self, *prefix: str | int) -> Problem:
        """The same problem, seen from further out."""
        return replace(self, path=(*prefix, *self.path))

    def __str__(self) -> str:
        where = [str(self.place)] if self.place else []
        if self.path:
            where.append(path_text(self.path))
        head = f"{' '.join(where)}: " if where else ""
        lines = [f"{head}{self.message}"]
        if self.place and self.place.text:
            number = f"{self.place.line:>4} | "
            start = self.place.column - 1
            # A tab keeps its width under the caret because it is copied.
            lead = "".join("\t" if c == "\t" else " " * _cells(c) for c in self.place.text[:start])
            marked = sum(map(_cells, self.place.text[start : start + self.place.width]))
            carets = "^" * max(1, marked, self.place.width if start >= len(self.place.text) else 1)
            lines += [number + self.place.text, " " * (len(number) - 2) + "| " + lead + carets]
        if self.hint:
            lines.append(f"       try: {self.hint}")
        return "\n".join(lines)


def _cells(character: str) -> int:
    """Columns of a terminal that a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class TrainerError(Exception):
    """The root: one or more problems, and the exit code that the command line ends with."""

    exit_code = 101

    def __init__(self, *problems: Problem | str, hint: str = "", path: Path = (), code: str = ""):
        default = code or type(self).__name__
        self.problems: list[Problem] = [
            p if isinstance(p, Problem) else Problem(p, path=path, hint=hint, code=default) for p in problems
        ]
        super().__init__("\n".join(p.message for p in self.problems))

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


class RecipeError(TrainerError):
    exit_code = 2


class DataError(TrainerError):
    exit_code = 3


class FileError(TrainerError):
    exit_code = 3


class EnvironmentFault(TrainerError):
    exit_code = 4


class RunError(TrainerError):
    exit_code = 5


def path_text(path: Path) -> str:
    """`("model", "layers", 3, "Dense")` as `model.layers[3].Dense`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint with the name that was probably meant, or an empty string."""
    by_lower = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[found[0]]}?" if found else ""
