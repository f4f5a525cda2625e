"""An imported model's predictions held against others: those of a file, or of real Keras in a process of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainer.errors import DataError, EnvironmentFault
from trainer.sources.arrays import read_npz
from trainer.streams import stream
from trainer.train.reading import read_inputs
from trainer.train.use import OpenRun
from trainer.wording import clean

TOLERANCE = 1e-5
"Largest difference that counts as equal, as a share of the largest value."
ROWS = 16
"Rows that are drawn."
OPEN_SIZE = 24
"Of an axis that the model leaves open."
SECONDS = 600
_KERAS = """
import importlib.util, os, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "KERAS_BACKEND" not in os.environ:
    there = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
    os.environ["KERAS_BACKEND"] = there[0] if there else "tensorflow"
import numpy as np
import keras
model = keras.models.load_model(sys.argv[1], compile=False)
with np.load(sys.argv[2]) as held:
    rows = [held[name] for name in sys.argv[4:]]
made = model.predict(rows if len(rows) > 1 else rows[0], batch_size=len(rows[0]), verbose=0)
made = list(made.values()) if isinstance(made, dict) else made if isinstance(made, (list, tuple)) else [made]
np.savez(sys.argv[3], *made)
"""
"What the other Python runs; the code is ours, and the file is opened by Keras there."


@dataclass(frozen=True)
class Parity:
    """How far predictions are from others."""

    against: str
    difference: float
    "The largest, as a share of the largest value of the others."
    rows: int
    output: str
    "Where it is largest."

    @property
    def holds(self) -> bool:
        """Whether the two are equal within float32."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        verdict = "equal" if self.holds else "NOT EQUAL"
        where = f" in {clean(self.output)}" if self.output else ""
        found = f"largest difference {self.difference:.1e} of the scale{where}, {self.rows} rows"
        return f"{verdict} to {clean(self.against)}: {found}"


def against_file(run: OpenRun, inputs: Path, outputs: Path) -> Parity:
    """Predictions for the arrays of one .npz file, held against those of another.

    Raises:
        DataError: an array is missing, or has another shape than the model's output.
        FileError: a file can't be read.
    """
    wanted = read_npz(outputs)
    made = run.predict(read_inputs(run, str(inputs), inputs.read_bytes()))
    if len(made) == len(wanted) and not set(made) <= set(wanted):
        wanted = dict(zip(made, wanted.values(), strict=True))
    for name in (n for n in made if n not in wanted):
        raise DataError(f'{outputs}: expected an array called "{name}", found {", ".join(wanted)}')
    return compared(made, wanted, str(outputs))


def compared(made: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], against: str) -> Parity:
    """The largest difference over all outputs.

    Raises:
        DataError: shapes differ.
    """
    worst, where, rows = 0.0, "", 0
    for name, ours in made.items():
        theirs = np.asarray(wanted[name])
        if theirs.shape != ours.shape and theirs.size == ours.size and len(theirs) == len(ours):
            theirs = theirs.reshape(ours.shape)
        if theirs.shape != ours.shape:
            raise DataError(f"{against}: expected {name} of shape {ours.shape}, found {theirs.shape}")
        rows, found = len(ours), _difference(ours, theirs)
        if not found <= worst:
            worst, where = found, name
    return Parity(against, worst, rows, where if len(made) > 1 else "")


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    a, b = ours.astype("float64"), theirs.astype("float64")
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    if odd.any() and not np.array_equal(a[odd], b[odd], equal_nan=True):
        return float("inf")
    a, b = a[~odd], b[~odd]
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-6))


def drawn(run: OpenRun, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows for every input: numbers around 0, or ids that the layers which read them know."""
    graph, made = run.built.graph, {}
    for name, number in graph.inputs.items():
        random = stream(seed, "parity", name)
        shape = (graph.shapes[number][0] or ROWS, *(n or OPEN_SIZE for n in graph.shapes[number][1:]))
        readers = [graph.layers[call.layer] for call in graph.calls if number in call.inputs]
        limits = [m for r in readers for w in ("input_dim", "num_tokens") if isinstance(m := getattr(r, w, None), int)]
        said = graph.wiring.said.get(name)
        if limits or said is not None:
            made[name] = random.integers(0, min(limits, default=2), shape).astype("float32")
        else:
            made[name] = random.normal(0, 1, shape).astype("float32")
    return made


def against_keras(run: OpenRun, file: Path, python: str) -> Parity:
    """Predictions for drawn rows, held against those of the Keras that another Python has; it opens the file itself.

    Raises:
        EnvironmentFault: that Python can't be started, has no Keras, or its Keras can't read the file.
    """
    rows = drawn(run)
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder) / "inputs.npz", Path(folder) / "outputs.npz"
        np.savez(inputs, allow_pickle=False, **rows)
        command = [python, "-c", _KERAS, str(file.resolve()), str(inputs), str(outputs), *rows]
        _run(command, python)
        wanted = dict(zip(run.built.graph.outputs, read_npz(outputs).values(), strict=False))
    made = run.predict([rows[name] for name in run.built.inputs])
    return compared(made, wanted, f"Keras of {python}")


def _run(command: list[str], python: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env={**os.environ}, check=False)
    except OSError as error:
        raise EnvironmentFault(
            f"--check-with {python}: {error.strerror}", hint="the path of a Python with Keras"
        ) from None
    except subprocess.TimeoutExpired:
        raise EnvironmentFault(f"--check-with {python}: Keras took more than {SECONDS} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        hint = "that Python needs `keras` and one of its backends (KERAS_BACKEND=torch)"
        raise EnvironmentFault(f"--check-with {python}: {clean(last[:300])}", hint=hint)
