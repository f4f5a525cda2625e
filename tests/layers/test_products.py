"""Products by oneDNN: those of torch's own, forward and back, for every layout that a layer hands over."""

from __future__ import annotations

import pytest
import torch

from trainer.layers import products
from trainer.layers.products import addmm_for, affine, is_wide, mm_for

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch was built without oneDNN"
)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor, and for small matrices too; the same numbers each time, of which none cancel."""
    torch.manual_seed(0)
    monkeypatch.setattr(products, "has_wide", lambda: True)
    monkeypatch.setattr(products, "LARGE", 1)


SIZES = [(1, 1, 1), (5, 3, 7), (128, 60, 130), (200, 64, 10), (300, 20, 129)]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert float((found - expected).abs().max()) <= 2e-6 * float(expected.abs().max())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_products(sizes: tuple[int, int, int], turned: str) -> None:
    m, k, n = sizes
    a = torch.randn(k, m).t() if "a" in turned else torch.randn(m, k)
    b = torch.randn(n, k).t() if "b" in turned else torch.randn(k, n)
    bias, expected = torch.randn(n), a.double() @ b.double()
    assert mm_for(a, b) is not torch.mm
    out = torch.empty(m, n)
    close(mm_for(a, b)(a, b, out=out), expected)
    close(out, expected)
    close(mm_for(a, b)(a, b), expected)
    close(addmm_for(a, b)(bias, a, b, out=out), expected + bias)
    close(addmm_for(a, b)(bias, a, b), expected + bias)


@pytest.mark.parametrize("sizes", [(1000, 9, 300), (65, 3, 7), (64, 4, 200), (130, 5, 1)])
@pytest.mark.parametrize("turned", ["", "a", "b"])
def test_slabs_are_the_product(sizes: tuple[int, int, int], turned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product into a tensor that is there, in slabs of whole rows with a shorter last one."""
    monkeypatch.setattr(products, "SLAB", 100)
    m, k, n = sizes
    a = torch.randn(k, m).t() if "a" in turned else torch.randn(m, k)
    b = torch.randn(n, k).t() if "b" in turned else torch.randn(k, n)
    out = torch.full((m, n), torch.nan)
    assert products._wide(a, b, out=out) is out
    close(out, a.double() @ b.double())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("biased", [True, False])
def test_ways_back(sizes: tuple[int, int, int], biased: bool) -> None:
    m, k, n = sizes
    given = [torch.randn(m, k), torch.randn(k, n), *([torch.randn(n)] if biased else [])]
    ours = [t.clone().requires_grad_() for t in given]
    theirs = [t.double().requires_grad_() for t in given]
    slope = torch.randn(m, n)
    affine(ours[0], ours[1], ours[2] if biased else None).backward(slope)
    made = theirs[0] @ theirs[1] + (theirs[2] if biased else 0)
    made.backward(slope.double())
    for found, expected in zip(ours, theirs, strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        close(found.grad, expected.grad)


def test_what_it_is_not_for(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(8, 8), torch.randn(8, 8)
    assert is_wide(a, b)
    assert not is_wide(a.double(), b.double())
    assert not is_wide(a.bfloat16(), b.bfloat16())
    monkeypatch.setattr(products, "LARGE", 8 * 8 * 8 + 1)
    assert not is_wide(a, b)
    assert mm_for(a, b) is torch.mm
    assert addmm_for(a, b) is torch.addmm
    monkeypatch.setattr(products, "LARGE", 1)
    monkeypatch.setenv("TRAINER_WITHOUT", "onednn")
    assert not is_wide(a, b)


@pytest.mark.parametrize(("vendor", "wide"), [("AuthenticAMD", True), ("GenuineIntel", False), ("", False)])
def test_which_processors(vendor: str, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(products, "vendor", lambda: vendor)
    monkeypatch.setattr(products.platform, "machine", lambda: "x86_64")
    products.has_wide.cache_clear()
    try:
        assert products.has_wide() == wide
    finally:
        products.has_wide.cache_clear()
