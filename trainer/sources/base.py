"""The kind `source`, and the places where data are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainer.declare import Declared, snake_case
from trainer.errors import FileError, nearest
from trainer.sources.columns import Field, Table


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
            path = root / Path(name).expanduser()
            if path.is_file():
                return path
        near = [p.name for root in roots if root.is_dir() for p in root.iterdir() if p.is_file()]
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
