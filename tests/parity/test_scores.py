"""Cross-entropies at the scores before the last activation: Keras's clipped value, Keras's gradient from logits."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.harness import close
from tests.train.recipes import loaded
from trainer.losses.base import Loss
from trainer.model.network import Network
from trainer.train.feed import Batch
from trainer.train.objective import Goal, Objective
from trainer.train.scoring import judge

REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight", "none")
CASES = [
    (name, options, reduction, weighted)
    for (name, options), reduction, weighted in itertools.product(
        [
            ("BinaryCrossentropy", {}),
            ("BinaryCrossentropy", {"label_smoothing": 0.1}),
            ("CategoricalCrossentropy", {}),
            ("CategoricalCrossentropy", {"label_smoothing": 0.2}),
            ("SparseCategoricalCrossentropy", {}),
            ("SparseCategoricalCrossentropy", {"ignore_class": 2}),
        ],
        REDUCTIONS,
        (False, True),
    )
]


def batch(name: str, seed: int, spread: float) -> tuple[Any, Any, Any]:
    """(target, scores, weights) of 12 rows."""
    random = np.random.default_rng(seed)
    scores = (random.normal(size=(12, 5)) * spread).astype("float32")
    weights = random.uniform(0, 2, 12).astype("float32")
    labels = random.integers(0, 5, 12)
    if name.startswith("Binary"):
        return (random.random((12, 5)) < 0.5).astype("float32"), scores, weights
    return (np.eye(5, dtype="float32")[labels] if name.startswith("Cat") else labels), scores, weights


@pytest.mark.parametrize(("name", "options", "reduction", "weighted"), CASES)
@pytest.mark.parametrize("spread", [1.0, 40.0])
def test_value_and_gradient(name: str, options: dict[str, Any], reduction: str, weighted: bool, spread: float) -> None:
    y, z, w = batch(name, 7, spread)
    weight = w if weighted else None
    ours = Loss.parse({name: {**options, "reduction": reduction}})
    scores = torch.from_numpy(z).requires_grad_()
    p = scores.sigmoid() if name.startswith("Binary") else scores.softmax(-1)
    given = None if weight is None else torch.from_numpy(weight)
    value = ours(torch.from_numpy(y), p, given, None, scores)

    made = getattr(keras.losses, name)
    clipped = made(**options, reduction=reduction)(y, p.detach(), sample_weight=weight)
    close(value, clipped, "value", 1e-5)
    theirs = torch.from_numpy(z).requires_grad_()
    made(**options, reduction=reduction, from_logits=True)(y, theirs, sample_weight=weight).sum().backward()
    value.sum().backward()
    assert scores.grad is not None
    close(scores.grad, theirs.grad, "gradient", 1e-5)


TEXT = """\
name: sure
dataset: {{source: breast_cancer, inputs: {{features: {{}}}}, targets: {{label: {{}}}}}}
model:
  layers: [{{Dense: {{units: {units}, kernel_initializer: {{Constant: {{value: 1.0}}}}{inside}}}}}{behind}]
compile: {{optimizer: adam, loss: {loss}}}
"""


@pytest.mark.parametrize(
    ("units", "inside", "behind", "loss"),
    [
        (1, ", activation: sigmoid", "", "binary_crossentropy"),
        (1, "", ", {Activation: {activation: sigmoid}}", "binary_crossentropy"),
        (2, ", activation: softmax", "", "sparse_categorical_crossentropy"),
    ],
)
def test_a_sure_and_wrong_network_still_learns(units: int, inside: str, behind: str, loss: str) -> None:
    """Scores in the thousands make probabilities of exactly 1 in float32; Keras on torch has no gradient there."""
    made = loaded(TEXT.format(units=units, inside=inside, behind=behind, loss=loss))
    graph = made.outline.graph
    assert graph is not None
    network = Network(graph)
    network.train()
    if units == 2:
        next(network.parameters()).data[:, 1] *= 2
    x = torch.full((4, 30), 100.0)
    y = torch.zeros(4, dtype=torch.long) if units == 2 else torch.zeros(4, 1)
    judged = judge(network, Objective({"y": Goal(Loss.parse(loss))}), Batch((x,), (y,), (None,)))
    assert judged.made.output.max() == 1.0
    assert judged.value.item() == pytest.approx(-np.log(1e-7), rel=2e-2)
    (gradient, _) = judged.gradients(list(network.parameters()))
    assert gradient is not None
    assert gradient.abs().max().item() == pytest.approx(100.0)
    weighed = judge(network, Objective({"y": Goal(Loss.parse(loss))}), Batch((x,), (y,), (torch.ones(4),)))
    (again, _) = weighed.gradients(list(network.parameters()))
    torch.testing.assert_close(again, gradient)
