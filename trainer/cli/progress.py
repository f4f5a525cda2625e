"""Training as a person sees it: Keras's line per epoch on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.live import Live
from rich.text import Text

from trainer.wording import EpochLine, clean, figures, pace

REDRAW = 0.1
BAR_WIDTH = 20


class Lines:
    """A line per epoch on standard error."""

    def __init__(self) -> None:
        self.line = EpochLine()

    def begin(self, epochs: int, steps: int) -> None:
        """Nothing to show yet."""

    def epoch(self, number: int, epochs: int) -> None:
        """Nothing to show yet."""

    def batch(self, number: int, steps: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """Nothing to show within an epoch."""

    def epoch_end(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> None:
        """The line."""
        self.say(self.line(number, epochs, steps, logs, seconds))

    def say(self, text: str) -> None:
        """A line for the user."""
        print(clean(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Bar:
    """Keras's progress bar: the epoch's line is redrawn at most ten times a second."""

    def __init__(self, console: Console):
        self.console = console
        self.live: Live | None = None
        self.drawn = self.started = 0.0
        self.line = EpochLine()

    def begin(self, epochs: int, steps: int) -> None:
        """Nothing to show yet."""

    def epoch(self, number: int, epochs: int) -> None:
        """The heading of the epoch."""
        self.console.print(Text(f"Epoch {number + 1}/{epochs}", style="bold"))
        self.started = self.drawn = time.perf_counter()

    def batch(self, number: int, steps: int, logs: Callable[[], Mapping[str, float]]) -> None:
        """Redraw the line, when the last drawing is long enough ago."""
        now = time.perf_counter()
        if now - self.drawn < REDRAW:
            return
        self.drawn = now
        left = (now - self.started) / number * (steps - number)
        line = self._line(number, steps, f"{left:.0f}s left", logs())
        if self.live is None:
            self.live = Live(line, console=self.console, auto_refresh=False, transient=True)
            self.live.start()
        self.live.update(line, refresh=True)

    def _line(self, number: int, steps: int, pace_text: str, logs: Mapping[str, float]) -> Text:
        done = BAR_WIDTH * number // max(steps, 1)
        line = Text(f"{number:>{len(str(steps))}}/{steps} ")
        line.append("━" * done, style="green").append("━" * (BAR_WIDTH - done), style="dim")
        return line.append(f" {pace_text} - {figures(logs)}")

    def epoch_end(self, number: int, epochs: int, steps: int, logs: Mapping[str, float], seconds: float) -> None:
        """The finished line, which stays."""
        self.close()
        self.console.print(self._line(steps, steps, pace(seconds, steps), self.line.shown(logs)))

    def close(self) -> None:
        """Take the moving line away."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def say(self, text: str) -> None:
        """A line for the user, above the moving one."""
        self.console.print(Text(clean(text)))
