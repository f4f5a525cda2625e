"""Rows of unequal length."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.sources.columns import Ragged

ROWS = [[1, 2], [], [3], [4, 5, 6], [7]]


@pytest.mark.parametrize(
    "part",
    [
        slice(None), slice(1, 4), slice(2), slice(-2, None), slice(3, 99), slice(4, 2), slice(99, None),
        slice(None, None, 2), slice(None, None, -1),
    ],
    ids=str,
)  # fmt: skip
def test_a_slice_of_rows_is_that_of_a_list(part: slice) -> None:
    taken = Ragged.of(ROWS).take(part)
    assert [row.tolist() for row in taken] == ROWS[part]
    assert len(taken.values) == sum(map(len, ROWS[part]))
    assert taken.offsets[0] == 0


def test_rows_that_follow_each_other_are_not_copied() -> None:
    rows = Ragged.of(ROWS)
    assert np.shares_memory(rows.take(slice(1, 4)).values, rows.values)
