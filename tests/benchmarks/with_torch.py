"""A good plain PyTorch loop: tensors in memory, index batches, torch.optim, metrics kept as tensors."""

from __future__ import annotations

import time

import torch
from peer_data import Data, Result
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
        evaluate(row, model, loss_function, data)
    return Result(seconds, parameters_of(model), history[-1][0])


def evaluate(row: Row, model: torch.nn.Module, loss_function: torch.nn.Module, data: Data) -> tuple[float, float]:
    """Loss and metric of the test rows."""
    assert data.test is not None
    xs, ys = tensors(data.test)
    model.eval()
    total, right = torch.zeros(()), torch.zeros(())
    with torch.inference_mode():
        for xb, yb in zip(xs.split(row.batch), ys.split(row.batch), strict=True):
            out = model(xb)
            total += loss_function(out, yb) * len(xb)
            right += scored(row, out, yb)
    return total.item() / len(xs), right.item() / len(xs)
