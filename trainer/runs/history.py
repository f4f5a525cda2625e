"""What training reported, epoch by epoch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from trainer.errors import FileError, RunError, nearest


@dataclass
class History:
    """Epoch numbers (from 0) and, by name, a value for each of them; NaN where an epoch has none."""

    epochs: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, epochs: Iterable[int], values: Mapping[str, Iterable[float]]) -> History:
        """A history from columns.

        Raises:
            ValueError: a column is shorter or longer than the epochs.
        """
        made = cls(list(epochs), {name: [float(v) for v in column] for name, column in values.items()})
        for name, column in made.values.items():
            if len(column) != len(made.epochs):
                raise ValueError(f"{name} has {len(column)} values for {len(made.epochs)} epochs")
        return made

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add an epoch; a name that comes late, or is left out this time, gets NaN for what is missing."""
        for name in {**self.values, **logs}:
            column = self.values.setdefault(name, [math.nan] * len(self.epochs))
            column.append(float(logs.get(name, math.nan)))
        self.epochs.append(epoch)

    def best(self, name: str, mode: Literal["min", "max"]) -> tuple[int, float] | None:
        """(epoch, value) of the first smallest or largest value; None when every value is NaN.

        Raises:
            RunError: the history has no such name.
        """
        if name not in self.values:
            hint = nearest(name, self.values) or f"it holds: {', '.join(self.values) or 'nothing yet'}"
            raise RunError(f'the history has no "{name}"', hint=hint)
        known = [(e, v) for e, v in zip(self.epochs, self.values[name], strict=True) if not math.isnan(v)]
        sign = 1 if mode == "min" else -1
        return min(known, key=lambda pair: sign * pair[1], default=None)

    def to_csv(self) -> bytes:
        """A line an epoch, every float so that it reads back to the same bits."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(["epoch", *self.values])
        for row, epoch in enumerate(self.epochs):
            write([epoch, *(repr(column[row]) for column in self.values.values())])
        return text.getvalue().encode()

    @classmethod
    def from_csv(cls, data: bytes) -> History:
        """The history that `to_csv` wrote.

        Raises:
            FileError: a line is not what it should be; the message names it.
        """
        try:
            lines = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise FileError(f"expected a history as CSV text, found something else: {error}") from None
        if not lines or lines[0][:1] != ["epoch"] or len(set(lines[0])) != len(lines[0]):
            raise FileError("expected a history that begins with a line of names (epoch,loss,…)")
        made = cls([], {name: [] for name in lines[0][1:]})
        for number, line in enumerate(lines[1:], 2):
            if len(line) != len(lines[0]):
                raise FileError(f"line {number} of the history: expected {len(lines[0])} values, found {len(line)}")
            try:
                made.append(int(line[0]), dict(zip(made.values, map(float, line[1:]), strict=True)))
            except ValueError as error:
                raise FileError(f"line {number} of the history: {error}") from None
        return made
