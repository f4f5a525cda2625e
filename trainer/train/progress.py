"""Whoever shows training, and the end that a signal asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol


class Progress(Protocol):
    """Whoever shows training to a person."""

    def begin(self, epochs: int, steps: int) -> None:
        """Training starts."""
        ...

    def epoch(self, number: int, epochs: int) -> None:
        """An epoch starts, counted from 0."""
        ...

    def batch(self, number: int, steps: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """A step is done; `logs` computes running values when they are to be shown."""
        ...

    def epoch_end(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> None:
        """An epoch and its validation are done."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...

    def close(self) -> None:
        """Training is over, however it ended."""
        ...


class Quiet:
    """Shows nothing."""

    def begin(self, epochs: int, steps: int) -> None: ...
    def epoch(self, number: int, epochs: int) -> None: ...
    def batch(self, number: int, steps: int, logs: Callable[[], Mapping[str, float]]) -> None: ...
    def epoch_end(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Stopped(Exception):
    """A signal asked for an end; the state has been saved."""

    def __init__(self, signal: int):
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal
