"""`--to code`: a folder with the source and its weights, run by a Python of its own before it counts as done."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.errors import EnvironmentFault, RunError
from trainer.keras_files.exporting import Asked, Exported
from trainer.keras_files.serving import as_arrays, entries_of, hold, some_rows, words
from trainer.keras_files.source_code.source import MODEL, WEIGHTS, Source, source_of, unwritten
from trainer.sources.arrays import read_npz
from trainer.wording import clean

if TYPE_CHECKING:
    from trainer.train.use import OpenRun

SECONDS = 600


def code(run: OpenRun, asked: Asked) -> Exported:
    """A folder with `model.py` and `model.safetensors`.

    Raises:
        RunError: layers can't be written, or what was written predicts otherwise.
        EnvironmentFault: safetensors is not installed.
    """
    columns, rows = some_rows(run)
    entries = entries_of(run, columns, unwritten)
    source = source_of(run.built.network, entries, run.recipe.name)
    files = {MODEL: source.text.encode(), WEIGHTS: image(source)}
    made = predictions(files, as_arrays(entries, columns))
    found = hold(run, columns, made, rows, "code")
    lines = (f"{MODEL}, run by a Python of its own: {words(found)}",)
    figures = {"difference": found.difference, "rows": found.rows}
    return Exported({asked.output / name: data for name, data in files.items()}, lines, tuple(source.notes), figures)


def image(source: Source) -> bytes:
    """The weights as a safetensors file.

    Raises:
        EnvironmentFault: safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise EnvironmentFault("--to code needs safetensors", hint="pip install 'recipe-trainer[export]'") from None
    return save(source.tensors)


def predictions(files: dict[str, bytes], rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the exported program makes of rows, in a process of its own that knows no `trainer`.

    Raises:
        RunError: it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in files.items():
            (folder / file).write_bytes(data)
        np.savez(folder / "rows.npz", allow_pickle=False, **rows)
        command = [sys.executable, "-I", MODEL, "rows.npz", "made.npz"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise RunError(f"--to code: the source that was written fails: {clean(last[:300])}", hint="a bug of ours")
        return read_npz(folder / "made.npz")
