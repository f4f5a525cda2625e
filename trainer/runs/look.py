"""A first look at a stranger's HDF5 file, in a process that can hang, crash or run out of memory without harm.

A damaged file can hang the C library for good, where no signal handler of Python is reached. So the file is first
gone through by `python -m trainer.runs.look FILE`, with limits on time and memory; it writes what it found as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from trainer.errors import FileError, Problem

SECONDS = 8.0
MEMORY = 2**30
BYTES_A_SECOND = 100 * 2**20
"Large files get this much more time."


def looked_at(source: bytes | Path, seconds: float = SECONDS) -> None:
    """Have a child process go through the file's whole structure and all its data.

    Raises:
        FileError: the file is not in order, or reading it took too long or crashed the library.
    """
    import trainer

    name = "the file" if isinstance(source, bytes) else str(source)
    size = len(source) if isinstance(source, bytes) else _size(source, name)
    limit = seconds + size / BYTES_A_SECOND
    home = str(Path(trainer.__file__).parent.parent)
    # A file may be called `-`, which stands for standard input there.
    place = "-" if isinstance(source, bytes) else f"./{name}" if name.startswith("-") else name
    command = [sys.executable, "-P", "-m", "trainer.runs.look", f"{limit}", place]
    # Without this, every thread that a linear algebra library starts counts against the memory limit.
    env = {**os.environ, "PYTHONPATH": home, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    given = source if isinstance(source, bytes) else b""
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=limit, env=env, check=False)
    except subprocess.TimeoutExpired:
        hint = "copy or download it again"
        raise FileError(f"{name}: reading did not end within {limit:.0f} s; it is damaged", hint=hint) from None
    if done.returncode or not done.stdout:
        raise FileError(f"{name}: reading it crashed the HDF5 library; the file is damaged or made to do harm")
    found = json.loads(done.stdout)
    if found["problems"]:
        raise FileError(*(Problem(**p) for p in found["problems"]))


def _size(path: Path, name: str) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise FileError(f"{name} can't be read: {error.strerror}") from None


def main(limit: str, name: str) -> None:
    """The child: write `{"problems": [...]}` to standard output."""
    _limit_self(float(limit))
    from trainer.runs.hdf5 import opened, read_through

    problems = []
    try:
        with opened(sys.stdin.buffer.read() if name == "-" else Path(name)) as file:
            read_through(file)
    except FileError as error:
        problems = [{"message": p.message, "hint": p.hint, "code": p.code} for p in error.problems]
    sys.stdout.write(json.dumps({"problems": problems}))


def _limit_self(seconds: float) -> None:
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, int(seconds) + 1),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
