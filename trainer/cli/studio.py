"""`python -m trainer.cli.studio`: gets ready to draw, then draws the run that standard input names.

The path ends with a zero byte, and standard input stays open for as long as somebody waits for the pictures. Once it
closes, however its other end was lost, nothing more is written: the run may be moved or removed by then.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Lock, Thread

from trainer.runs.directory import RunDirectory

INPUT = 0


class Commission(RunDirectory):
    """A run whose pictures somebody waits for."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._writing = Lock()

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole even if nobody waits any more."""
        with self._writing:
            super().write(name, data)

    def end_with_asker(self) -> None:
        """End this process when standard input closes, but not in the middle of a file."""
        os.read(INPUT, 1)
        with self._writing:
            os._exit(1)


def asked() -> Path | None:
    """The run to draw; None when standard input closes without a whole word."""
    said = b""
    while not said.endswith(b"\0"):
        more = os.read(INPUT, 4096)
        if not more:
            return None
        said += more
    return Path(os.fsdecode(said[:-1]))


def main() -> None:
    """Get ready, then draw what is asked for; nothing, when nobody asks."""
    # Whoever asked for the pictures decides what an interrupt means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from trainer.train.pictures import can_draw, present

    if can_draw():
        from trainer.report.plots import curves

        curves({"loss": [1.0, 0.5]})
    path = asked()
    if path is not None:
        commission = Commission(path)
        Thread(target=commission.end_with_asker, daemon=True).start()
        present(commission)


if __name__ == "__main__":
    main()
