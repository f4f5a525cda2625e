"""The kind `source`, and the places where data are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from trainer.declare import Declared
from trainer.errors import FileError, nearest
from trainer.naming import snake_case
from trainer.options import Rule, integer
from trainer.sources.columns import Field, Table


def is_file(path: Path) -> bool:
    """Whether there is such a file; no where its folder may not be read or its name can't be one."""
    try:
        return path.is_file()
    except OSError:
        return False


def home(name: str) -> Path:
    """A path as written, with `~` for the home of a user that exists."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def _files(root: Path) -> list[str]:
    try:
        return [p.name for p in root.iterdir() if is_file(p)]
    except OSError:
        return []


LoaderSeed = Annotated[
    int,
    Rule(
        "an integer from 0 to 4294967295",
        lambda v: _seed(v),
        {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    ),
]
"Seed of numpy's RandomState, with which Keras's loaders shuffle."


def _seed(value: object) -> int:
    found = integer(value)
    if not 0 <= found < 2**32:
        raise ValueError
    return found


@dataclass(frozen=True)
class Places:
    """Where files are looked for: beside the recipe, in the data folder, in Keras's cache; and whether to download."""

    recipe: Path | None = None
    data: Path | None = None
    download: bool = True

    def file(self, name: str) -> Path:
        """A file that a recipe names: as it is, beside the recipe, or in the data folder.

        Raises:
            FileError: it is in none of them.
        """
        roots = [r for r in (self.recipe or Path(), self.data) if r is not None]
        for root in roots:
            path = root / home(name)
            if is_file(path):
                return path
        near = [file for root in roots for file in _files(root)]
        where = " or ".join(str(r) for r in roots)
        raise FileError(f"there is no file {name} in {where}", hint=nearest(Path(name).name, near), code="missing-data")


class Source(Declared, kind="source", room="trainer.sources"):
    """Where rows come from."""

    @classmethod
    def recipe_name(cls) -> str:
        return snake_case(cls.__name__)

    def fields(self) -> dict[str, Field] | None:
        """What the columns hold, as far as it is known without opening a file; None when nothing is."""
        return None

    def open(self, places: Places) -> Table:
        """Read the rows.

        Raises:
            DataError: the rows are not what the options say (file, row, column, value).
            FileError: a file is missing or can't be read.
        """
        raise NotImplementedError
