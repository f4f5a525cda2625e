"""Lightning: a module, a DataLoader over tensors, and a Trainer without logger, checkpoints and bars."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

import lightning
import torch
from peer_data import Data, Result
from rows import Row
from torch.utils.data import DataLoader, TensorDataset
from torch_models import loss_of, model_of, optimizer_of, parameters_of, scored, tensors

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Program(lightning.LightningModule):
    """The model, its loss and its metric."""

    def __init__(self, row: Row):
        super().__init__()
        self.row, self.model, self.loss = row, model_of(row), loss_of(row)

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        """The loss; loss and metric are averaged over the epoch."""
        x, y = batch
        out = self.model(x)
        loss = self.loss(out, y)
        means = {"loss": loss, "metric": scored(self.row, out, y) / len(x)}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def test_step(self, batch: list[torch.Tensor], number: int) -> None:
        """The same on test rows."""
        x, y = batch
        out = self.model(x)
        means = {"test_loss": self.loss(out, y), "test_metric": scored(self.row, out, y) / len(x)}
        self.log_dict(means, batch_size=len(x))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Keras's defaults."""
        return optimizer_of(self.row, self.parameters())


class Clock(lightning.Callback):
    """The seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.began)


def train(row: Row, data: Data, epochs: int) -> Result:
    """Fit, then test."""
    clock, module = Clock(), Program(row)
    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    trainer.fit(module, DataLoader(TensorDataset(*tensors(data.train)), row.batch, shuffle=True))
    loss = float(trainer.callback_metrics["loss"])
    if data.test is not None:
        trainer.test(module, DataLoader(TensorDataset(*tensors(data.test)), row.batch), verbose=False)
    return Result(clock.seconds, parameters_of(module.model), loss)
