"""History reads back to the same bits."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.errors import FileError, RunError
from trainer.runs.history import History

NAMES = st.text(min_size=1, max_size=8).filter(lambda n: n != "epoch" and "\r" not in n and "\0" not in n)


def bits(history: History) -> tuple[list[int], dict[str, list[str]]]:
    return history.epochs, {name: [v.hex() for v in column] for name, column in history.values.items()}


def test_append_and_csv() -> None:
    history = History()
    history.append(0, {"loss": 0.1 + 0.2, "accuracy": 1})
    history.append(1, {"loss": 0.25, "accuracy": 0.5, "val_loss": math.inf})
    history.append(3, {"loss": 1e-320})
    assert history.to_csv() == (
        b"epoch,loss,accuracy,val_loss\n0,0.30000000000000004,1.0,nan\n1,0.25,0.5,inf\n3,1e-320,nan,nan\n"
    )
    assert bits(History.from_csv(history.to_csv())) == bits(history)


@given(
    st.dictionaries(NAMES, st.lists(st.floats(allow_nan=False), min_size=4, max_size=4), max_size=4),
    st.lists(st.integers(0, 10**6), min_size=4, max_size=4),
)
def test_round_trip(values: dict[str, list[float]], epochs: list[int]) -> None:
    history = History.of(epochs, values)
    assert bits(History.from_csv(history.to_csv())) == bits(history)


def test_best_is_the_first_of_equals_and_skips_nan() -> None:
    history = History.of([2, 3, 4, 5], {"loss": [math.nan, 0.5, 0.25, 0.25], "acc": [0.1, 0.9, 0.9, math.nan]})
    assert history.best("loss", "min") == (4, 0.25)
    assert history.best("acc", "max") == (3, 0.9)
    assert History.of([0], {"loss": [math.nan]}).best("loss", "min") is None


def test_best_of_an_unknown_name() -> None:
    with pytest.raises(RunError, match="vall_loss") as caught:
        History.of([0], {"val_loss": [1.0]}).best("vall_loss", "min")
    assert caught.value.problems[0].hint == "did you mean val_loss?"


def test_columns_of_another_length() -> None:
    with pytest.raises(ValueError, match="loss has 1 values for 2 epochs"):
        History.of([0, 1], {"loss": [1.0]})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begins with a line of names"),
        (b"loss\n1\n", "begins with a line of names"),
        (b"epoch,loss,loss\n", "begins with a line of names"),
        (b"epoch,loss\n0,1.0\n1\n", "line 3 of the history: expected 2 values, found 1"),
        (b"epoch,loss\n0,low\n", "line 2 of the history: could not convert"),
        (b"epoch,loss\n0.5,1\n", "line 2 of the history: invalid literal"),
        (b"\xff\xfe", "CSV text"),
        (b'epoch,"lo\n', "CSV text"),
    ],
)
def test_damaged(data: bytes, says: str) -> None:
    with pytest.raises(FileError, match=says):
        History.from_csv(data)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        History.from_csv(b"epoch,loss\n" + data)
    except FileError:
        return
