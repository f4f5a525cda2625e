"""Sums of loss and metrics: what is kept of batches until it is added up."""

from __future__ import annotations

import pytest
import torch

from trainer.losses.regression import MeanSquaredError
from trainer.metrics.means import MeanAbsoluteError
from trainer.train.feed import Batch
from trainer.train.objective import Goal, Objective
from trainer.train.scores import Scores, Seen


@pytest.mark.parametrize(("large", "most"), [(True, 15), (False, 60)])
def test_large_steps_keep_few_small_tensors(large: bool, most: int) -> None:
    """Between the large ones of a step they let the heap grow; the values are those of many at a time."""
    objective = Objective({"y": Goal(MeanSquaredError(), [MeanAbsoluteError(name="mae")])})
    scores, kept = Scores(objective, torch.device("cpu"), large), list[int]()
    random = torch.Generator().manual_seed(0)
    ys, outputs = torch.rand(2, 60, 8, 1, generator=random)
    for y, output in zip(ys, outputs, strict=True):
        scores.add(Seen(Batch((), (y,), (None,)), (output,), (None,), (None,), None))
        kept.append(len(scores._kept))
    assert max(kept) == most
    logs = scores.logs()
    assert logs["loss"] == pytest.approx(float(((ys - outputs) ** 2).mean()), rel=1e-6)
    assert logs["mae"] == pytest.approx(float((ys - outputs).abs().mean()), rel=1e-6)
