"""A model of Keras imported, and its predictions held against Keras's own."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.parity.harness import close
from trainer.cli.app import run as run_command
from trainer.keras_files.importing import Asked, Imported, import_file
from trainer.runs.directory import RunDirectory
from trainer.train.terms import Options
from trainer.train.use import OpenRun


def imported(file: Path, folder: Path, **asked: Any) -> tuple[Imported, OpenRun]:
    """The run of a model file, ready to use."""
    made = import_file(Asked(file, **asked), Options(runs=folder / "runs"))
    return made, OpenRun(RunDirectory(made.directory), Options(runs=folder / "runs", device="cpu"))


def hold(run: OpenRun, model: Any, rows: dict[str, np.ndarray], what: str = "predictions") -> None:
    """Equal predictions, output by output."""
    wanted = model.predict(list(rows.values()) if len(rows) > 1 else next(iter(rows.values())), verbose=0)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    made = run.predict(list(rows.values()))
    assert len(made) == len(wanted)
    for (name, ours), theirs in zip(made.items(), wanted, strict=True):
        close(ours, theirs, f"{what}: {name}")


class Answer(NamedTuple):
    """What a command gave."""

    code: int
    out: str
    err: str


def call(*words: str) -> Answer:
    """A command of the program, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command(list(words))
    return Answer(code, out.getvalue(), err.getvalue())
