"""Vectors added up by id as compiled code: torch's sums, to the bit, by however many threads."""

from __future__ import annotations

import pytest
import torch

from trainer.errors import DataError
from trainer.layers.embedding import Embedding, added_up_by_threads
from trainer.layers.plan import Plan
from trainer.model.cell import Cell, Clock
from trainer.native.calls import Call
from trainer.native.compiler import compiler


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("count", "ids", "width"), [(1000, 7, 16), (300, 1000, 48), (0, 5, 32), (513, 40, 128)])
def test_sums_are_those_of_torch(count: int, ids: int, width: int, threads: int) -> None:
    random, before = torch.Generator().manual_seed(1), torch.get_num_threads()
    vectors = torch.randn(count, width, generator=random)
    places = torch.randint(0, ids, (count,), generator=random)
    try:
        torch.set_num_threads(threads)
        made = torch.full((ids, width), 3.0)
        added = added_up_by_threads(made, vectors, places)
        for _ in range(2):
            added()
            assert torch.equal(made, torch.zeros(ids, width).index_add_(0, places, vectors))
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(compiler() is None, reason="needs a C compiler")
@pytest.mark.parametrize("kind", [torch.int32, torch.int64, torch.float32])
@pytest.mark.parametrize("width", [16, 48])
def test_autograd_goes_back_by_them(kind: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, with ids that stand in other orders, and without them where nothing moves or is wanted."""
    layer, plan = Embedding(input_dim=30, output_dim=width), Plan()
    layer.build(plan, (None, 9))
    cell, called = Cell(layer, plan, "table", Clock(0)), []
    before = Call.run
    monkeypatch.setattr(Call, "run", lambda call, name: (called.append(name), before(call, name))[1])
    random = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 30, (9, 11), generator=random).to(kind).t()
    slopes = torch.randn(width, 11, 9, generator=random).movedim(0, -1)
    found = []
    for cell.clock.compiles in (False, True):
        made = cell(ids)
        found.append((made.detach(), *torch.autograd.grad(made, cell.embeddings, slopes)))
    assert called == ["rows_added_up"]
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        assert torch.equal(cell(ids), found[0][0])
    cell.embeddings.requires_grad_(False)
    assert torch.equal(cell(ids), found[0][0])
    cell.embeddings.requires_grad_()
    with pytest.raises(DataError, match="expected ids from 0 to 29"):
        cell(torch.tensor([[30]]))
    assert called == ["rows_added_up"]
