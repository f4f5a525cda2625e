"""Rows of unequal length."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.sources.columns import LONG, Ragged

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


@pytest.mark.parametrize("length", [1, LONG, 5 * LONG])
def test_rows_by_number_are_those_of_a_list(length: int) -> None:
    """Short ones all at once, long ones one by one."""
    rows = [list(range(n, n + length)) for n in range(7)] + [[]]
    order = np.array([5, 7, 0, 0, 3])
    taken = Ragged.of(rows, "int32").take(order)
    assert [row.tolist() for row in taken] == [rows[n] for n in order]
    assert taken.values.dtype == "int32"
    assert len(Ragged.of(rows).take(np.zeros(0, "int64"))) == 0
