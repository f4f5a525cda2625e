"""The run's own record of what was said: `log.txt`, a line each with its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trainer.runs.files import fault
from trainer.train.progress import Progress, Quiet
from trainer.wording import EpochLine, clean


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Line(NamedTuple):
    """Something that was said or noted."""

    time: str
    text: str
    shown: bool
    "Whether it is for the user too."


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
        self._write(f"{now()} {clean(text)}\n")

    def _write(self, lines: str) -> None:
        try:
            before, self._whole = b"" if self._whole else self._after_half_a_line(), False
            with open(self.path, "ab") as file:
                file.write(before + lines.encode())
            self._whole = True
        except OSError as error:
            raise fault(error, self.path) from error

    def tell(self, lines: Sequence[Line]) -> None:
        """Lines of another process: all go to the file, and to the user those for him and the last.

        Raises:
            EnvironmentFault: the system refuses.
        """
        self._write("".join([f"{line.time} {clean(line.text)}\n" for line in lines]))
        for number, line in enumerate(lines, 1):
            if line.shown or number == len(lines):
                self.shown.say(line.text)

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


class Told(RunLog):
    """Keeps what another process has to say, until the run's own log tells it."""

    def __init__(self) -> None:
        super().__init__(Quiet(), Path())
        self.lines: list[Line] = []

    def note(self, text: str) -> None:
        """A line for the file alone."""
        self.lines.append(Line(now(), text, False))

    def say(self, text: str) -> None:
        """A line for the user, and for the file."""
        self.lines.append(Line(now(), text, True))
