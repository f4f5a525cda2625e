"""What a run is given beside its recipe, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.recipe.schema import Recipe
from trainer.sources.base import Places
from trainer.sources.columns import Table
from trainer.train.devices import return_heap
from trainer.train.progress import Progress, Quiet

CHECKPOINT_LEAST = 2.0
"Seconds between checkpoints at epoch ends, at least."


@dataclass
class Options:
    """How a run is carried out; nothing here changes its numbers on one device, but for the last digits by `engine`."""

    runs: Path = Path("runs")
    data: Path | None = None
    device: str = "auto"
    engine: str = "auto"
    "plain leaves all gradients to autograd; a run that goes on keeps the engine that it began with."
    name: str | None = None
    progress: Progress = field(default_factory=Quiet)
    download: bool = True
    checkpoint_every: float = CHECKPOINT_LEAST
    allow_change: bool = False
    epochs: int | None = None
    allow_plugins: bool = True
    profile: bool = False
    "Whether to count where the time goes."


@dataclass
class Outcome:
    """What a run came to."""

    directory: Path
    figures: dict[str, float]
    "Everything that `expect` can name, with its value."
    history: dict[str, list[float]]
    seconds: float
    folds: list[dict[str, list[float]]] = field(default_factory=list)
    verdicts: dict[str, tuple[bool, str]] = field(default_factory=dict)
    "Expected figure to (holds, what was expected)."
    epochs: list[int] = field(default_factory=list)
    "Numbers (from 0) of the epochs in the history."
    best_epoch: int | None = None
    stop_reason: str = ""
    profile: dict[str, Any] = field(default_factory=dict)
    "What profile.json holds, when the run was profiled."

    @property
    def holds(self) -> bool:
        """Whether every expectation holds."""
        return all(ok for ok, _ in self.verdicts.values())


def open_table(recipe: Recipe, folder: Path | None, options: Options) -> Table:
    """The rows of a recipe's source."""
    table = recipe.dataset.source.open(Places(folder, options.data, options.download))
    return_heap()
    return table
