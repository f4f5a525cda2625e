"""Rows kept as lists of places: the same products, and gradients, as of the rows written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from trainer.layers.bags import Bags


def drawn(rows: int, width: int, seed: int = 0, longest: int = 30) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """(ids, offsets, the rows written out) of lists of any length, none too, that name some ids several times."""
    random = np.random.default_rng(seed)
    lists = [random.integers(0, width, random.integers(0, longest)) for _ in range(rows)]
    dense = torch.zeros(rows, width)
    for row, ids in enumerate(lists):
        dense[row, torch.from_numpy(ids)] = 1.0
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in lists])])
    return np.concatenate(lists).astype("int64"), offsets.astype("int64"), dense


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (7, 3), (40, 1000), (5, 70_000)])
def test_products(rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.layers.bags.CHUNK_NUMBERS", 3 * width)
    values, offsets, dense = drawn(rows, width)
    bags = Bags.of(values, offsets, width)
    kernel, slope = torch.randn(width, 4), torch.randn(rows, 4)
    assert bags.shape == (rows, width)
    assert torch.equal(bags.dense(), dense)
    torch.testing.assert_close(bags.product(kernel), dense @ kernel)
    torch.testing.assert_close(bags.transposed_product(slope), dense.T @ slope)


@pytest.mark.parametrize(
    "index", [slice(None), slice(3, 9), slice(4, 4), np.array([5, 0, 5, 19]), np.array([], "int64")]
)
def test_rows(index: Any) -> None:
    values, offsets, dense = drawn(20, 50)
    bags = Bags.of(values, offsets, 50).rows(index)
    assert torch.equal(bags.dense(), dense[torch.from_numpy(index) if isinstance(index, np.ndarray) else index])
    assert torch.equal(bags.rows(slice(1, 3)).dense(), bags.dense()[1:3])


def test_autograd_goes_through() -> None:
    values, offsets, dense = drawn(12, 30)
    kernels = [torch.randn(30, 5, dtype=torch.float64).requires_grad_()]
    kernels.append(kernels[0].detach().clone().requires_grad_())
    made = [Bags.of(values, offsets, 30).times(kernels[0]), dense.double() @ kernels[1]]
    for out in made:
        out.square().sum().backward()
    torch.testing.assert_close(kernels[0].grad, kernels[1].grad)
