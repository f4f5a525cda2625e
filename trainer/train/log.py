"""The run's own record of what was said: `log.txt`, a line each with its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from trainer.runs.files import fault
from trainer.train.progress import Progress
from trainer.wording import EpochLine, clean


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class RunLog:
    """Hands everything on to whoever shows training, and adds what lasts to a file."""

    def __init__(self, shown: Progress, path: Path):
        self.shown, self.path = shown, path
        self._line = EpochLine()
        self._whole = False
        "Whether the file ends with a whole line: one of ours."

    def note(self, text: str) -> None:
        """Add a line to the file alone.

        Raises:
            EnvironmentFault: the system refuses.
        """
        try:
            before, self._whole = b"" if self._whole else self._after_half_a_line(), False
            with open(self.path, "ab") as file:
                file.write(before + f"{now()} {clean(text)}\n".encode())
            self._whole = True
        except OSError as error:
            raise fault(error, self.path) from error

    def _after_half_a_line(self) -> bytes:
        """What must stand before a line: a run that was killed may have left half of one."""
        with open(self.path, "ab+") as file:
            return b"\n" if file.tell() and (file.seek(-1, 2), file.read(1) != b"\n")[1] else b""

    def begin(self, epochs: int, steps: int) -> None:
        """A training starts: the run's, or a fold's."""
        self._line = EpochLine()
        self.shown.begin(epochs, steps)

    def epoch(self, number: int, epochs: int) -> None:
        """An epoch starts."""
        self.shown.epoch(number, epochs)

    def batch(self, number: int, steps: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """A step is done."""
        self.shown.batch(number, steps, logs)

    def epoch_end(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> None:
        """An epoch is done: its line."""
        self.shown.epoch_end(number, epochs, steps, logs, seconds)
        self.note(self._line(number, epochs, steps, logs, seconds))

    def say(self, text: str) -> None:
        """A line for the user, and for the file."""
        self.shown.say(text)
        self.note(text)

    def close(self) -> None:
        """Training is over."""
        self.shown.close()
