"""The first SIGINT or SIGTERM lets the step end; the second ends at once."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any


class Signals(AbstractContextManager["Signals"]):
    """The first SIGINT or SIGTERM is noted, so that the step ends and the state is saved; the second ends at once."""

    def __init__(self) -> None:
        self.got = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        except ValueError:
            # Not the main thread: whoever runs us there handles signals.
            self._before = {}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.got:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.got = number

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> int:
        return self.got
