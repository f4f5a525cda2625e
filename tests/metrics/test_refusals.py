"""What a metric can't judge is refused in words, before torch stumbles over it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.errors import DataError
from trainer.metrics.base import Metric

ONE_HOT, NUMBERS = torch.eye(3)[:2], torch.tensor([0, 1])
TOO_FEW = [
    ({"TopKCategoricalAccuracy": {}}, ONE_HOT, "k is 5: expected an output of 5 columns or more, found 3"),
    ({"SparseTopKCategoricalAccuracy": {"k": 4}}, NUMBERS, "k is 4: expected an output of 4 columns or more, found 3"),
    ({"Precision": {"top_k": 4}}, ONE_HOT, "Precision.top_k is 4: expected an output of 4 columns"),
    ({"Recall": {"class_id": 3}}, ONE_HOT, "Recall.class_id is 3: expected an output of 4 columns"),
    ({"PrecisionAtRecall": {"recall": 0.5, "class_id": 3}}, ONE_HOT, "class_id is 3: expected an output of 4 columns"),
    ({"AUC": {"label_weights": [1.0, 2.0]}}, ONE_HOT, "found 2 for an output of 3 columns"),
    ({"AUC": {"multi_label": True, "label_weights": [2.0]}}, ONE_HOT, "found 1 for an output of 3 columns"),
    ({"BinaryIoU": {}}, torch.ones(2, 4), "targets .2, 4. and outputs .2, 3."),
]


@pytest.mark.parametrize(("spec", "target", "says"), TOO_FEW, ids=lambda v: str(v)[:40])
def test_an_output_of_too_few_columns_is_refused(spec: Any, target: torch.Tensor, says: str) -> None:
    metric = Metric.parse(spec)
    with pytest.raises(DataError, match=says):
        metric.update(metric.start(), target, torch.rand(2, 3))


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        ({"TopKCategoricalAccuracy": {"k": 3}}, ONE_HOT),
        ({"Precision": {"top_k": 3}}, ONE_HOT),
        ({"Recall": {"class_id": 2}}, ONE_HOT),
        ({"AUC": {"multi_label": True, "label_weights": [1.0, 0.0, 2.0]}}, ONE_HOT),
    ],
    ids=str,
)
def test_as_many_as_there_are_is_enough(spec: Any, target: torch.Tensor) -> None:
    metric = Metric.parse(spec)
    state = metric.start()
    metric.update(state, target, torch.rand(2, 3))
    assert 0 <= float(metric.result(state)) <= 1
