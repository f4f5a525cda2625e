"""Pictures of a run in a process of their own, which gets ready to draw while the run trains.

matplotlib takes half a second to import, as long as the training of a small model; with a second core it costs nothing.
`python -m trainer.cli.draughtsman` reads a run's path from standard input and draws what belongs there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
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
        command = [sys.executable, "-m", "trainer.cli.draughtsman"]
        nowhere = subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere)
        except OSError:
            return

    @property
    def ready(self) -> bool:
        """Whether another process draws."""
        return self.process is not None

    def present(self, directory: RunDirectory) -> None:
        """Draw what belongs to a run."""
        if self.process is not None:
            self.process.communicate(os.fsencode(directory.path.absolute()))
            if self.process.returncode == 0:
                return
        from trainer.train.pictures import present

        present(directory)

    def __enter__(self) -> Draughtsman:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def main() -> None:
    """Get ready, then draw what standard input asks for; nothing, when it closes without a word."""
    # Whoever asked for the pictures decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from trainer.runs.directory import RunDirectory
    from trainer.train.pictures import can_draw, present

    if can_draw():
        from trainer.report.plots import curves

        curves({"loss": [1.0, 0.5]})
    asked = os.fsdecode(sys.stdin.buffer.read())
    if asked:
        present(RunDirectory(Path(asked)))


if __name__ == "__main__":
    main()
