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
import time
from pathlib import Path

from trainer.errors import FileError, Problem
from trainer.runs.hdf5 import Section, called

SECONDS = 8.0
MEMORY = 2**30
BYTES_A_SECOND = 100 * 2**20
"Large files get this much more time."


class Look:
    """A child process at its look, which goes on while the parent does something else."""

    def __init__(self, source: bytes | Path | Section, seconds: float = SECONDS):
        import trainer

        self.name = name = called(source)
        size = len(source) if isinstance(source, bytes) else _size(source, name)
        self.limit = seconds + size / BYTES_A_SECOND
        home = str(Path(trainer.__file__).parent.parent)
        command = [sys.executable, "-P", "-m", "trainer.runs.look", f"{self.limit}", *_place(source)]
        # Without this, every thread that a linear algebra library starts counts against the memory limit.
        env = {**os.environ, "PYTHONPATH": home, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._given = source if isinstance(source, bytes) else b""
        self._ends = time.monotonic() + self.limit
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=env)

    def end(self) -> None:
        """Wait for what it found.

        Raises:
            FileError: the file is not in order, or reading it took too long or crashed the library.
        """
        try:
            said, _ = self._child.communicate(self._given, timeout=max(0.1, self._ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.stop()
            hint = "copy or download it again"
            message = f"{self.name}: reading did not end within {self.limit:.0f} s; it is damaged"
            raise FileError(message, hint=hint) from None
        except BaseException:
            self.stop()
            raise
        if self._child.returncode or not said:
            raise FileError(f"{self.name}: reading it crashed the HDF5 library; the file is damaged or made to do harm")
        found = json.loads(said)
        if found["problems"]:
            raise FileError(*(Problem(**p) for p in found["problems"]))

    def stop(self) -> None:
        """End the child, whatever it does."""
        self._child.kill()
        self._child.communicate()


def looked_at(source: bytes | Path | Section, seconds: float = SECONDS) -> None:
    """Have a child process go through the file's whole structure and all its data.

    Raises:
        FileError: the file is not in order, or reading it took too long or crashed the library.
    """
    Look(source, seconds).end()


def _place(source: bytes | Path | Section) -> list[str]:
    """How the child is told where the file stands; `-` is standard input."""
    if isinstance(source, bytes):
        return ["-"]
    name = str(source.path if isinstance(source, Section) else source)
    # A file may be called `-`.
    safe = f"./{name}" if name.startswith("-") else name
    return [safe, str(source.start), str(source.size)] if isinstance(source, Section) else [safe]


def _size(source: Path | Section, name: str) -> int:
    try:
        return source.size if isinstance(source, Section) else source.stat().st_size
    except OSError as error:
        raise FileError(f"{name} can't be read: {error.strerror}") from None


def main(limit: str, name: str, *section: str) -> None:
    """The child: write `{"problems": [...]}` to standard output."""
    _limit_self(float(limit))
    from trainer.runs.hdf5 import opened, read_through

    problems = []
    try:
        place = Section(Path(name), *map(int, section)) if section else Path(name)
        with opened(sys.stdin.buffer.read() if name == "-" else place) as file:
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
