"""Commands run and measured: seconds from start to exit, and peak memory.

Whoever imports this stays small (no numpy, no torch): Linux counts the peak of a parent into that of its children.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRAINER = (sys.executable, "-m", "trainer")
BYTECODE = "PYTHONDONTWRITEBYTECODE"
"Where it is set, our modules would be compiled anew for each command, while those of installed packages are not."


@dataclass(frozen=True)
class Done:
    """A process that succeeded."""

    seconds: float
    out: str
    peak: int
    "Bytes of memory at most."

    def last(self) -> Any:
        """The last line of its standard output, read as JSON."""
        return json.loads(self.out.strip().splitlines()[-1])


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Done:
    """Run a command from the root of the repository; it must succeed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        inherited = {name: value for name, value in os.environ.items() if name != BYTECODE}
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, env={**inherited, **(environment or {})})
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().decode(errors="replace")[-2000:] or out.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{said}")
        return Done(seconds, out.read().decode(), used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def script(name: str, *arguments: str, python: str = sys.executable, **environment: str) -> Done:
    """Run a script of this folder."""
    return run([python, str(HERE / name), *arguments], {"PYTHONPATH": str(ROOT), **environment})


def fit(
    recipe: str,
    epochs: int,
    sets: Sequence[str] = (),
    data: Path | None = None,
    *,
    command: Sequence[str] = TRAINER,
    more: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> tuple[Done, dict[str, Any]]:
    """One run through the command line, and its run.json."""
    with tempfile.TemporaryDirectory() as runs:
        line = [*command, "fit", recipe, "--json", "--runs", runs, *more]
        for change in [*sets, f"fit.epochs={epochs}", "expect={}"]:
            line += ["--set", change]
        line += ["--data", str(data)] if data else []
        done = run(line, environment)
        folder = Path(json.loads(done.out)["result"]["run"])
        return done, json.loads((folder / "run.json").read_text())


def machine(record: Mapping[str, Any]) -> str:
    """What a run was measured on, by its run.json."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    here = record["environment"]
    return f"{cores} cores ({here['cpu']}), Python {here['python']}, torch {here['torch']}, {here['device']}"
