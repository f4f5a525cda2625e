"""TensorBoard."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from trainer.callbacks import event_files
from trainer.callbacks.base import Callback, Logs, Run
from trainer.callbacks.files import RunPath
from trainer.lazy import np
from trainer.options import Bool, NonNegativeInt, Rule, integer

if TYPE_CHECKING:
    import numpy


def _frequency(value: Any) -> int | str:
    if value in ("epoch", "batch"):
        return value
    if integer(value) < 1:
        raise ValueError
    return value


_FREQUENCY = {"anyOf": [{"enum": ["epoch", "batch"]}, {"type": "integer", "minimum": 1}]}
MOST_PICTURES = 3
"Of one weight, as in Keras."


class TensorBoard(Callback):
    """Writes what TensorBoard shows: `tensorboard --logdir` with the run's `logs` directory.

    Keras's `profile_batch` (which it has not on PyTorch) and `embeddings_freq` (checkpoints for TensorFlow) are left
    out. Needs the extra `tensorboard`. https://keras.io/api/callbacks/tensorboard/

    Raises:
        EnvironmentFault: tensorboard is not installed, or a file can't be written.
    """

    log_dir: RunPath = "logs"
    "Directory under the run directory, with `train` and `validation` in it."
    histogram_freq: NonNegativeInt = 0
    "Epochs from one histogram of every weight to the next; 0 for none."
    write_graph: Bool = True
    "Whether the model is written."
    write_images: Bool = False
    "Whether weights are written as pictures, with their histograms."
    write_steps_per_second: Bool = False
    "Whether the steps a second of every epoch are written (of every batch too, where batches are)."
    update_freq: Annotated[
        int | Literal["epoch", "batch"], Rule('"epoch", "batch" or a number of batches', _frequency, _FREQUENCY)
    ] = "epoch"
    "`epoch`, or the number of batches (counted over epochs) after which running values are written; `batch` is 1."

    @property
    def needs_batches(self) -> bool:
        return self.update_freq != "epoch"

    def on_train_begin(self, my: SimpleNamespace, run: Run) -> None:
        event_files.require()
        if hasattr(my, "sizes"):
            # A further phase goes on in the same files.
            my.before = 0
            return
        my.sizes, my.batches, my.before = {"train": 0, "validation": 0}, 0, 0
        my.epoch_began = my.batch_began = time.time()
        if self.write_graph:
            self._write(my, run, "train", [(0, event_files.architecture("keras", run.architecture()))])

    def on_epoch_begin(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        my.before, my.epoch_began = run.iterations, time.time()
        my.batch_began = my.epoch_began

    def on_batch_end(self, my: SimpleNamespace, run: Run, batch: int, logs: Logs) -> None:
        if self.update_freq == "epoch":
            return
        my.batches, began, my.batch_began = my.batches + 1, my.batch_began, time.time()
        if my.batches % (1 if self.update_freq == "batch" else self.update_freq):
            return
        values = {f"batch_{name}": value for name, value in logs.items()}
        if self.write_steps_per_second:
            values["batch_steps_per_second"] = 1 / max(my.batch_began - began, 1e-9)
        self._scalars(my, run, "train", my.batches, values)

    def on_epoch_end(self, my: SimpleNamespace, run: Run, epoch: int, logs: Logs) -> None:
        train = {f"epoch_{n}": v for n, v in logs.items() if not n.startswith("val_")}
        judged = {n.removeprefix("val_"): v for n, v in logs.items() if n.startswith("val_")}
        if self.write_steps_per_second:
            passed = max(time.time() - my.epoch_began, 1e-9)
            train["epoch_steps_per_second"] = (run.iterations - my.before) / passed
        if judged:
            by_updates = {f"evaluation_{n}_vs_iterations": v for n, v in judged.items()}
            self._scalars(my, run, "validation", run.iterations, by_updates)
            self._scalars(my, run, "validation", epoch, {f"epoch_{n}": v for n, v in judged.items()})
        self._scalars(my, run, "train", epoch, train)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._weights(my, run, epoch)

    def _weights(self, my: SimpleNamespace, run: Run, epoch: int) -> None:
        made = []
        for name, values in run.named_weights().items():
            made.append((epoch, event_files.histogram(f"{name}/histogram", values)))
            pictures = as_pictures(values) if self.write_images else []
            made += [(epoch, event_files.picture(f"{name}/image/{i}", p)) for i, p in enumerate(pictures)]
        self._write(my, run, "train", made)

    def _scalars(self, my: SimpleNamespace, run: Run, part: str, step: int, values: dict[str, float]) -> None:
        self._write(my, run, part, [(step, event_files.scalar(name, value)) for name, value in values.items()])

    def _write(self, my: SimpleNamespace, run: Run, part: str, summaries: list[tuple[int, Any]]) -> None:
        name = f"{self.log_dir}/{part}/{event_files.NAME}"
        my.sizes[part] = event_files.write(run.directory, name, my.sizes[part], summaries)


def as_pictures(values: numpy.ndarray) -> list[numpy.ndarray]:
    """A weight as pictures (height, width, channels): a row of a bias, a lying kernel, a picture a filter.

    None where that makes no sense (kernels of convolutions over pictures, unless an axis has length 1).
    """
    x = np.squeeze(values)
    if x.size == 0 or not np.isfinite(x).all():
        return []
    if x.ndim == 1:
        x = x[None, :, None, None]
    elif x.ndim == 2:
        x = (x.T if x.shape[0] > x.shape[1] else x)[None, :, :, None]
    elif x.ndim == 3:
        x = np.moveaxis(x, -1, 0)[..., None]
    return list(x[:MOST_PICTURES]) if x.ndim == 4 and x.shape[-1] in (1, 3, 4) else []
