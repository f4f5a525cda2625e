"""PrintLogs."""

from __future__ import annotations

from types import SimpleNamespace

from trainer.callbacks.base import Callback, Logs, Run
from trainer.callbacks.watching import watched
from trainer.options import PositiveInt, Str


class PrintLogs(Callback, keras=""):
    """Prints the values of every tenth epoch (or of every `every`th), as a line."""

    every: PositiveInt = 10
    "Number of epochs from one line to the next; the first one follows the epoch of that number."
    values: tuple[Str, ...] | None = None
    "What to print, by name in the logs; null for everything."

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        found = {name: watched(logs, name) for name in (logs if self.values is None else self.values)}
        if (epoch + 1) % self.every == 0:
            parts = [f"{name}: {_text(value)}" for name, value in found.items() if value is not None]
            run.say(f"Epoch {epoch + 1}: {' - '.join(parts)}")


def _text(value: float) -> str:
    """Four decimals, or four digits where those would be zeros."""
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"
