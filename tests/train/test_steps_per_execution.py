"""`compile.steps_per_execution`: callbacks see batches so many steps apart, as in Keras, and the numbers stay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.trainers.epoch_iterator import EpochIterator

from tests.train.recipes import DIGITS, loaded, trained
from trainer.callbacks.base import Logs, Run
from trainer.callbacks.terminate_on_nan import TerminateOnNaN
from trainer.errors import RecipeError
from trainer.train.job import Options, fit

pytestmark = pytest.mark.filterwarnings("ignore:Your input ran out of data")

CALLBACK = "callbacks=[TerminateOnNaN]"


def keras_ends(every: int, steps: int) -> list[int]:
    """Numbers of the batches of an epoch at whose end Keras calls its callbacks (on JAX: on torch it knows 1 only).

    Keras counts on beyond an epoch that ends between two looks; ours is told the number of the batch that was the last.
    """
    rows = EpochIterator(np.zeros((2 * steps, 3)), np.zeros(2 * steps), batch_size=2, steps_per_execution=every)
    return [min(end, steps - 1) for _, end, _ in rows]


@pytest.mark.parametrize("every", [1, 2, 5, 15, 40])
def test_callbacks_are_called_as_by_keras(tmp_path: Path, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []

    def noted(self: TerminateOnNaN, my: SimpleNamespace, run: Run, batch: int, logs: Logs) -> None:
        ends.append(batch)
        assert np.isfinite(logs["loss"])

    monkeypatch.setattr(TerminateOnNaN, "on_batch_end", noted)
    trained(tmp_path, DIGITS, CALLBACK, "fit.epochs=2", f"compile.steps_per_execution={every}")
    # 450 rows in batches of 32.
    assert ends == 2 * keras_ends(every, 15)


@pytest.mark.parametrize("callbacks", ["callbacks=[]", CALLBACK])
def test_the_numbers_stay(tmp_path: Path, callbacks: str) -> None:
    one, many = (trained(tmp_path, DIGITS, callbacks, f"compile.steps_per_execution={n}") for n in (1, 7))
    for name, values in one.history.items():
        np.testing.assert_allclose(many.history[name], values, rtol=1e-6, err_msg=name)
    assert one.figures["test.accuracy"] == many.figures["test.accuracy"]


def test_batches_between_looks_count(tmp_path: Path) -> None:
    """A model every 6 batches, seen every 4: after 8, 16 (of 15: at the end of the epoch) and so on, as in Keras."""
    saves = "callbacks=[{ModelCheckpoint: {filepath: 'at-{epoch}-{batch}.h5', save_freq: 6}}]"
    outcome = trained(tmp_path, DIGITS, saves, "fit.epochs=2", "compile.steps_per_execution=4")
    made = sorted(path.name for path in outcome.directory.glob("at-*.h5"))
    freely: Any = keras.callbacks.ModelCheckpoint
    saver = freely(f"{tmp_path}/at-{{epoch}}-{{batch}}.h5", save_freq=6)
    saved: list[str] = []
    saver.set_model(SimpleNamespace(save=lambda path, **_: saved.append(Path(path).name)))
    for epoch in range(2):
        saver.on_epoch_begin(epoch)
        for end in keras_ends(4, 15):
            saver.on_train_batch_end(end, {})
    assert made == sorted(saved)


def test_no_number_of_steps() -> None:
    with pytest.raises(RecipeError, match=r"compile.steps_per_execution: expected an integer above 0, found 0"):
        fit(loaded(DIGITS, "compile.steps_per_execution=0"), Options(), b"")
