"""The kind `callback`, and the run that it is handed.

A callback is frozen options; what it remembers stands in `my`, which every checkpoint keeps whole, so a resumed run
decides as one that was never stopped. Values in `my` are None, bool, int, float, str, or lists and dicts of them, or
numpy arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar, Protocol

from trainer.declare import Declared
from trainer.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy

Logs = Mapping[str, float]


class Run(Protocol):
    """What a callback sees and may do."""

    directory: Path
    "The run directory; a callback writes nowhere else."
    epochs: int
    "The number of epochs that fit was asked for."
    learning_rate: float
    "The rate of the next update; setting it replaces a constant rate (refused with a schedule)."

    @property
    def iterations(self) -> int:
        """The number of updates so far."""
        ...

    def stop(self, reason: str) -> None:
        """End training after this epoch (or batch, from on_batch_end)."""
        ...

    def weights(self) -> list[numpy.ndarray]:
        """A copy of all weights, in Keras's order."""
        ...

    def set_weights(self, weights: list[numpy.ndarray]) -> None:
        """Put weights back."""
        ...

    def named_weights(self) -> dict[str, numpy.ndarray]:
        """A copy of all weights by their path (`dense_1/kernel`), in Keras's order."""
        ...

    def swap_averages(self) -> None:
        """Exchange the weights with their moving averages (`use_ema`); a second time puts them back."""
        ...

    def architecture(self) -> str:
        """The model without its weights, as Keras's JSON."""
        ...

    def save(self, path: str, weights_only: bool = False) -> None:
        """Write the model (Keras HDF5) to a path under the run directory, whole or not at all."""
        ...

    def say(self, text: str) -> None:
        """A line for the user."""
        ...


class Callback(Declared, kind="callback", room="trainer.callbacks", keras="keras.callbacks"):
    """Acts around epochs and batches, in the order in which the recipe lists callbacks."""

    sets_learning_rate: ClassVar[bool] = False
    "Whether the callback sets the learning rate, which a schedule must not do as well."
    needs_averages: ClassVar[bool] = False
    "Whether the optimizer must keep moving averages of the weights (`use_ema`)."
    needs_batches: ClassVar[bool] = False
    "Whether on_batch_end must be called (it costs a look at the loss every step)."
    in_order: ClassVar[bool] = False
    "Whether somebody outside the run is told, so that folds must come one after the other."

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        """Before the first epoch of a fresh run, or of a phase; not again on resume. Set every attribute of `my` here.

        A phase without callbacks of its own goes on with those of the one before: `my` is then as they left it.
        """

    def forget(self, directory: Path) -> None:
        """Do away with what an earlier try of the run left, which was killed before its first checkpoint."""

    def on_epoch_begin(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        """Before an epoch, counted from 0."""

    def on_batch_end(self, my: SimpleNamespace, run: Run, batch: int, logs: Logs) -> None:
        """After a training step, counted from 0 in its epoch; logs hold running values."""

    def on_test_begin(self, my: SimpleNamespace, run: Run) -> None:
        """Before the validation of an epoch."""

    def on_test_end(self, my: SimpleNamespace, run: Run, logs: Logs) -> None:
        """After it; logs hold its values, without `val_`."""

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        """After an epoch and its validation."""

    def on_train_end(self, my: SimpleNamespace, run: Run, logs: Logs) -> None:
        """After the last epoch."""

    def monitored(self) -> str | None:
        """The name in logs that the callback watches, so that a recipe check can tell whether anything makes it."""
        return None


_LARGER = (
    *("accuracy", "acc", "auc", "precision", "recall", "f1_score", "fbeta_score", "r2_score"),
    *("cosine_similarity", "pearson_correlation", "concordance_correlation"),
    *("mean_io_u", "io_u", "binary_io_u", "one_hot_io_u", "one_hot_mean_io_u"),
    *("sensitivity_at_specificity", "specificity_at_sensitivity", "precision_at_recall", "recall_at_precision"),
)
_SMALLER = (
    *("loss", "error", "mse", "mae", "mape", "msle", "rmse", "crossentropy", "hinge", "log_cosh", "logcosh"),
    *("poisson", "kl_divergence", "kullback_leibler_divergence", "kld", "error_rate"),
)


def better(mode: str, monitor: str) -> int:
    """-1 when smaller is better, 1 when larger is; `auto` goes by the metric's name, as Keras goes by the metric.

    A name may carry `val_`, an output's name before it (`digit_accuracy`) and a number behind it (`auc_1`).

    Raises:
        RecipeError: `auto`, and the name is not that of a known metric or loss.
    """
    if mode != "auto":
        return 1 if mode == "max" else -1
    name = "_" + re.sub(r"_\d+$", "", monitor.removeprefix("val_"))
    for words, sign in ((_SMALLER, -1), (_LARGER, 1)):
        if any(name.endswith(f"_{word}") for word in words):
            return sign
    raise RecipeError(
        f'nothing tells whether a larger or a smaller "{monitor}" is better',
        hint="write mode: max or mode: min",
        code="mode",
    )
