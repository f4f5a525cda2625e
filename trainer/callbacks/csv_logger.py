"""CSVLogger."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

from trainer.callbacks.base import Callback, Logs, Run
from trainer.callbacks.files import RunPath
from trainer.callbacks.growing import grown
from trainer.options import Bool, Rule


def _separator(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or value in '"\r\n':
        raise ValueError
    return value


class CSVLogger(Callback):
    """Writes a line for every epoch: its number from 0, then every value by name, `NA` where there is none.

    The names are those of the first epoch, in all phases. https://keras.io/api/callbacks/csv_logger/

    Raises:
        EnvironmentFault: the file can't be written.
    """

    filename: RunPath
    "File under the run directory."
    separator: Annotated[
        str, Rule("a single character", _separator, {"type": "string", "minLength": 1, "maxLength": 1})
    ] = ","
    "Character between the values."
    append: Bool = False
    "Whether an existing file is continued instead of replaced."

    def forget(self, directory: Path) -> None:
        # `append` would go on behind lines that are written anew.
        path = directory / self.filename
        if path.is_file():
            path.unlink()

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        path = run.directory / self.filename
        if hasattr(my, "names"):
            # A further phase: its lines follow, under the names of the first one.
            return
        my.names = None
        # Lines beyond this size were written by epochs that a resumed run repeats.
        my.size = path.stat().st_size if self.append and path.is_file() else 0
        my.size = grown(run.directory, self.filename, my.size, b"")

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        lines = []
        if my.names is None:
            my.names = sorted(logs)
            if not any(n.startswith("val_") for n in my.names):
                my.names += [f"val_{n}" for n in my.names]
            if my.size == 0:
                lines.append(["epoch", *my.names])
        lines.append([epoch, *(logs.get(n, "NA") for n in my.names)])
        text = io.StringIO()
        csv.writer(text, delimiter=self.separator).writerows(lines)
        my.size = grown(run.directory, self.filename, my.size, text.getvalue().encode())
