"""Pictures of a run in a process of their own, which gets ready to draw while the run trains.

matplotlib takes half a second to import, as long as the training of a small model; with a second core it costs nothing.
The process is `studio.py`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from trainer.switches import cores, on

if TYPE_CHECKING:
    from trainer.runs.directory import RunDirectory


class Draughtsman:
    """Draws a run's pictures; where there is no second core, or anything goes wrong, in this process."""

    def __init__(self, ahead: bool):
        """`ahead`: get ready now."""
        self.process: subprocess.Popen[bytes] | None = None
        if not ahead or not sys.executable or cores() < 2 or not on("draughtsman"):
            return
        command = [sys.executable, "-m", "trainer.cli.studio"]
        nowhere = subprocess.DEVNULL
        try:
            # Without a buffer, a path that nobody reads leaves nothing behind that closing would try to write again.
            self.process = subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
        except OSError:
            return

    @property
    def ready(self) -> bool:
        """Whether another process draws."""
        return self.process is not None

    def present(self, directory: RunDirectory) -> None:
        """Draw what belongs to a run."""
        if self.process is not None and _drawn(self.process, directory):
            return
        from trainer.train.pictures import present

        present(directory)

    def __enter__(self) -> Draughtsman:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def _drawn(process: subprocess.Popen[bytes], directory: RunDirectory) -> bool:
    """Whether the process has drawn all that belongs to a run."""
    assert process.stdin is not None
    # It stays open for as long as this process waits: if this one is killed, the other ends too.
    with process.stdin as words:
        with contextlib.suppress(BrokenPipeError):
            words.write(os.fsencode(directory.path.absolute()) + b"\0")
        process.wait()
    return process.returncode == 0
