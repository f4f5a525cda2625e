"""A good plain PyTorch loop: tensors in memory, index batches, torch.optim, metrics kept as tensors."""

from __future__ import annotations

import time

import torch
from peer_data import Data, Result
from repeated import milliseconds
from rows import Row
from torch_models import loss_of, model_of, optimizer_of, parameters_of, scored, tensors


def train(row: Row, data: Data, epochs: int) -> Result:
    """Train, then evaluate the test rows."""
    xs, ys = tensors(data.train)
    model, loss_function = model_of(row), loss_of(row)
    optimizer = optimizer_of(row, model.parameters())
    seconds, history = [], []
    for _ in range(epochs):
        began = time.perf_counter()
        total, right = torch.zeros(()), torch.zeros(())
        for index in torch.randperm(len(xs)).split(row.batch):
            xb, yb = xs[index], ys[index]
            out = model(xb)
            value = loss_function(out, yb)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            total += value.detach() * len(index)
            with torch.no_grad():
                right += scored(row, out, yb)
        history.append((total.item() / len(xs), right.item() / len(xs)))
        seconds.append(time.perf_counter() - began)
    if data.test is not None:
        evaluate(row, model, loss_function, tensors(data.test), row.batch)
    return Result(seconds, parameters_of(model), history[-1][0])


def judged(row: Row, data: Data, batch: int) -> dict[str, float]:
    """Milliseconds of evaluating and of predicting the training rows."""
    rows, model, loss_function = tensors(data.train), model_of(row).eval(), loss_of(row)
    return {
        "evaluate_ms": milliseconds(lambda: evaluate(row, model, loss_function, rows, batch)),
        "predict_ms": milliseconds(lambda: predict(model, rows[0], batch)),
    }


def predict(model: torch.nn.Module, xs: torch.Tensor, batch: int) -> torch.Tensor:
    """The outputs."""
    with torch.inference_mode():
        return torch.cat([model(xb) for xb in xs.split(batch)])


def evaluate(
    row: Row,
    model: torch.nn.Module,
    loss_function: torch.nn.Module,
    rows: tuple[torch.Tensor, torch.Tensor],
    batch: int,
) -> tuple[float, float]:
    """Loss and metric of some rows."""
    xs, ys = rows
    model.eval()
    total, right = torch.zeros(()), torch.zeros(())
    with torch.inference_mode():
        for xb, yb in zip(xs.split(batch), ys.split(batch), strict=True):
            out = model(xb)
            total += loss_function(out, yb) * len(xb)
            right += scored(row, out, yb)
    return total.item() / len(xs), right.item() / len(xs)
