"""Layers of one description read one by one: counted, kept for the table, and all that is wrong of them at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.errors import FileError, Problem
from trainer.keras_files.lines import Mapped, Names, listed
from trainer.keras_files.values import PLUGIN, Reader, dtype_of
from trainer.wording import clean

MOST_LAYERS = 20_000
"Layers of a model, those of models inside it too."


class LayerReader(Reader):
    """Layers of one description, those of models inside it too; counts them and keeps the table."""

    def __init__(
        self, dtype: str | None = None, assets: Mapping[str, bytes] | None = None, *, old: bool = False
    ) -> None:
        super().__init__()
        self.old = old
        "Whether a release before Keras 3 wrote the description."
        self.rows: list[Mapped] = []
        self.count, self.dtype, self.assets = 0, dtype, assets or {}
        self.stateful = False
        "Whether a layer goes on from batch to batch."

    def stop(self) -> None:
        """
        Raises:
            FileError: something was wrong; all of it at once.
        """
        problems = [
            Problem(
                f"{clean(name)} is not known here{self._why(name)} (layers: {listed(places)})",
                hint=PLUGIN.format(clean(name)),
                code="unknown-class",
            )
            for name, places in self.unknown.items()
        ]
        if problems or self.problems:
            raise FileError(*problems, *self.problems)

    def _why(self, name: str) -> str:
        return f": it {clean(self.reasons[name])}" if name in self.reasons else ""

    def refuse(self, message: str, hint: str = "") -> None:
        """Keep something that is wrong."""
        self.problems.append(Problem(message, hint=hint, code="config"))

    def counted(self, place: str) -> None:
        """
        Raises:
            FileError: there are too many.
        """
        self.count += 1
        if self.count > MOST_LAYERS:
            raise FileError(f"{clean(place)}: expected at most {MOST_LAYERS} layers, found more")

    def plain(self, name: str, value: Any) -> Any:
        if name == "name" and isinstance(value, str):
            return Names().of(value)
        if name == "dtype" and dtype_of(value) == self.dtype:
            return None
        return super().plain(name, value)
