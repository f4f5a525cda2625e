"""skorch: a network with scikit-learn's fit, scored on the training rows as they are seen."""

from __future__ import annotations

import time
from typing import Any

from peer_data import Data, Result
from rows import Row
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring
from torch_models import OPTIMIZERS, loss_of, model_of, parameters_of, tensors


class Clock(Callback):
    """The seconds of each epoch; the last callback, so that scores are in them."""

    def initialize(self) -> Clock:
        """Nothing measured yet."""
        self.seconds: list[float] = []
        return self

    def on_epoch_begin(self, net: NeuralNet, **_: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        """Stop it."""
        self.seconds.append(time.perf_counter() - self.began)


KINDS = {"binary": NeuralNetBinaryClassifier, "classes": NeuralNetClassifier, "mse": NeuralNetRegressor}


def train(row: Row, data: Data, epochs: int) -> Result:
    """Fit, then score the test rows."""
    optimizer, options = OPTIMIZERS[row.optimizer]
    clock = Clock()
    metric = "neg_mean_absolute_error" if row.loss == "mse" else "accuracy"
    network = KINDS[row.loss](
        model_of(row),
        criterion=type(loss_of(row)),
        optimizer=optimizer,
        **{f"optimizer__{name}": value for name, value in options.items()},
        batch_size=row.batch,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        callbacks=[("metric", EpochScoring(metric, on_train=True, name="metric")), ("clock", clock)],
    )
    x, y = tensors(data.train)
    network.fit(x, y[:, 0] if row.loss == "binary" else y)
    if data.test is not None:
        x, y = tensors(data.test)
        network.score(x, y[:, 0] if row.loss == "binary" else y)
    return Result(clock.seconds, parameters_of(network.module_), network.history[-1]["train_loss"])
