"""Vectors added up by id as compiled code: torch's sums, to the bit, by however many threads."""

from __future__ import annotations

import pytest
import torch

from trainer.layers.embedding import _added_up, _AddedUp
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
        added = _AddedUp(vectors, places, ids)
        made, into = added(vectors, places, ids), torch.full((ids, width), 3.0)
        assert added(vectors, places, ids, out=into) is into
    finally:
        torch.set_num_threads(before)
    expected = _added_up(vectors, places, ids)
    assert torch.equal(made, expected)
    assert torch.equal(into, expected)
