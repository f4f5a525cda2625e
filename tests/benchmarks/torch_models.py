"""A row's model, loss and optimizer in torch.nn; models end in raw scores, as PyTorch's users write them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from peer_data import Arrays
from rows import Row
from torch import nn

ACTIVATIONS: dict[str | None, list[type[nn.Module]]] = {"relu": [nn.ReLU], None: [], "sigmoid": [], "softmax": []}


class Last(nn.Module):
    """The last output of a recurrent layer."""

    def __init__(self, recurrent: nn.RNNBase):
        super().__init__()
        self.recurrent = recurrent

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, time, features) -> (batch, units), or twice as many of a layer that reads in both directions"""
        made, units = self.recurrent(x)[0], self.recurrent.hidden_size
        return torch.cat([made[:, -1, :units], made[:, 0, units:]], -1) if self.recurrent.bidirectional else made[:, -1]


def layer(kind: str, options: list[Any], shape: tuple[int, ...]) -> tuple[list[nn.Module], tuple[int, ...]]:
    """The modules of a layer, and its output's shape: channels first."""
    match kind, options:
        case "dense", [units, activation]:
            return [nn.Linear(shape[0], units), *(a() for a in ACTIVATIONS[activation])], (units,)
        case "conv", [filters, size, padding, activation]:
            lost = size - 1 if padding == "valid" else 0
            module = nn.Conv2d(shape[0], filters, size, padding=padding)
            return [module, *(a() for a in ACTIVATIONS[activation])], (filters, shape[1] - lost, shape[2] - lost)
        case "norm", [activation]:
            return [nn.BatchNorm2d(shape[0]), *(a() for a in ACTIVATIONS[activation])], shape
        case "pool", []:
            return [nn.MaxPool2d(2)], (shape[0], shape[1] // 2, shape[2] // 2)
        case "flatten", []:
            return [nn.Flatten()], (int(np.prod(shape)),)
        case "dropout", [rate]:
            return [nn.Dropout(rate)], shape
        case "embedding", [words, width, _]:
            # nn.LSTM knows no masks and reads the padding too.
            return [nn.Embedding(words, width)], (shape[0], width)
        case (("lstm" | "gru"), [units]):
            recurrent = (nn.LSTM if kind == "lstm" else nn.GRU)(shape[1], units, batch_first=True)
            return [Last(recurrent)], (units,)
        case "both", [units]:
            return [Last(nn.LSTM(shape[1], units, batch_first=True, bidirectional=True))], (2 * units,)
    raise ValueError(f"no layer {kind} {options}")


def model_of(row: Row) -> nn.Sequential:
    """The model."""
    shape: tuple[int, ...] = (row.shape[-1], *row.shape[:-1]) if len(row.shape) == 3 else row.shape
    modules: list[nn.Module] = []
    for kind, *options in row.stack:
        made, shape = layer(kind, options, shape)
        modules += made
    return nn.Sequential(*modules)


def loss_of(row: Row) -> nn.Module:
    """The mean over the batch."""
    return {"binary": nn.BCEWithLogitsLoss, "mse": nn.MSELoss, "classes": nn.CrossEntropyLoss}[row.loss]()


OPTIMIZERS: dict[str, tuple[Any, dict[str, float]]] = {
    "adam": (torch.optim.Adam, {"lr": 1e-3, "eps": 1e-7}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.9, "eps": 1e-7}),
}
"Keras's defaults."


def optimizer_of(row: Row, weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer over the weights."""
    kind, options = OPTIMIZERS[row.optimizer]
    return kind(weights, **options)


def scored(row: Row, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sum of the metric over a batch: hits, or absolute errors."""
    if row.loss == "mse":
        return (out - y).abs().sum()
    return (((out > 0) == (y > 0.5)) if row.loss == "binary" else out.argmax(1) == y).sum()


def tensors(rows: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows as PyTorch takes them: pictures with channels first."""
    x, y = rows
    if x.ndim == 4:
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return torch.from_numpy(x), torch.from_numpy(y)


def parameters_of(model: nn.Module) -> int:
    """Numbers that Keras would count: moving averages too, and one bias where torch's LSTM has two."""
    kept = [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]
    layers = [m for m in model.modules() if isinstance(m, nn.LSTM)]
    twice = [p for layer in layers for name, p in layer.named_parameters() if name.startswith("bias_hh")]
    return sum(p.numel() for p in kept) - sum(p.numel() for p in twice)
