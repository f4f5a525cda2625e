"""Which rows train, validate and test: Keras's and scikit-learn's rules, and every row exactly once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras.src.trainers.data_adapters.array_slicing import train_validation_split
from numpy.testing import assert_array_equal
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from tests.train.recipes import loaded
from trainer.errors import DataError, RecipeError
from trainer.sources.columns import Ragged, Rows, Table
from trainer.sources.split import folds, split_rows, validation_tail
from trainer.train.rows import Sets, divide

SHARES = [0.1, 0.15, 0.2, 0.25, 0.3, 1 / 3, 0.33, 0.5, 0.7, 0.9, 0.999, 0.01]


@pytest.mark.parametrize("rows", [2, 3, 7, 10, 99, 100, 404, 455, 569, 1000, 8982, 25000, 48000, 60000])
def test_the_last_share_validates_as_in_keras(rows: int) -> None:
    x = np.arange(rows)
    for share in SHARES:
        try:
            train, held = train_validation_split(x, share)
        except ValueError:
            with pytest.raises(DataError, match="leaves one side empty"):
                validation_tail(rows, share)
            continue
        at = validation_tail(rows, share)
        assert_array_equal(x[:at], train)
        assert_array_equal(x[at:], held)


def keras_kept(x: np.ndarray, share: float) -> int:
    """Rows that Keras trains on."""
    kept: Any = train_validation_split(x, share)[0]
    return len(kept)


@given(st.integers(1, 10**6), st.floats(0.0001, 0.9999))
def test_the_last_share_validates_as_in_keras_at_any_size(rows: int, share: float) -> None:
    x = np.broadcast_to(np.zeros(1), (rows,))
    try:
        expected = keras_kept(x, share)
    except ValueError:
        expected = None
    try:
        found = validation_tail(rows, share)
    except DataError:
        found = None
    assert found == expected


def test_four_folds_are_those_of_the_book() -> None:
    """Deep Learning with Python, Boston housing: fold i validates on rows i * 101 to (i + 1) * 101 of 404."""
    size = 404 // 4
    for i, (train, held) in enumerate(folds(404, 4)):
        assert_array_equal(held, np.arange(i * size, (i + 1) * size))
        assert_array_equal(train, np.concatenate([np.arange(i * size), np.arange((i + 1) * size, 404)]))


@pytest.mark.parametrize(("rows", "number"), [(10, 3), (11, 4), (404, 4), (7, 7), (150, 10), (1000, 6)])
def test_folds_in_order_equal_scikit_learn(rows: int, number: int) -> None:
    for ours, theirs in zip(folds(rows, number), KFold(number).split(np.zeros(rows)), strict=True):
        assert_array_equal(ours[0], theirs[0])
        assert_array_equal(ours[1], theirs[1])


@pytest.mark.parametrize("seed", [0, 1, 1337, 2**32 - 1, 2**32, 2**63])
def test_stratified_folds_equal_scikit_learn(seed: int) -> None:
    groups = np.random.default_rng(3).choice(4, 203, p=[0.5, 0.3, 0.15, 0.05])
    made = StratifiedKFold(5, shuffle=True, random_state=seed % (2**32 - 1)).split(np.zeros(203), groups)
    for ours, theirs in zip(folds(203, 5, True, seed, groups), made, strict=True):
        assert_array_equal(ours[0], theirs[0])
        assert_array_equal(ours[1], theirs[1])
        counts = np.bincount(groups[ours[1]], minlength=4)
        assert (np.abs(counts - np.bincount(groups) / 5) < 1).all()


@given(st.data())
def test_folds_hold_every_row_once(data: st.DataObject) -> None:
    rows = data.draw(st.integers(2, 300))
    number = data.draw(st.integers(2, rows))
    shuffle, seed = data.draw(st.booleans()), data.draw(st.integers(0, 2**64))
    made = folds(rows, number, shuffle, seed)
    assert len(made) == number
    assert_array_equal(np.sort(np.concatenate([held for _, held in made])), np.arange(rows))
    sizes = {len(held) for _, held in made}
    assert max(sizes) - min(sizes) <= 1
    for train, held in made:
        assert_array_equal(np.sort(np.concatenate([train, held])), np.arange(rows))
        assert (np.diff(train) > 0).all()
        assert (np.diff(held) > 0).all()
    again = folds(rows, number, shuffle, seed)
    assert all((a[1] == b[1]).all() for a, b in zip(made, again, strict=True))


def test_drawn_folds_differ_by_seed_and_from_the_order() -> None:
    a, b, plain = (folds(100, 4, *rest)[0][1].tolist() for rest in ((True, 1), (True, 2), (False, 1)))
    assert a != b
    assert a != plain
    assert plain == list(range(25))


def test_folds_that_can_not_be() -> None:
    with pytest.raises(DataError, match="5 folds need as many rows, found 4"):
        folds(4, 5)
    with pytest.raises(DataError, match="the smallest class has 2"):
        folds(12, 3, True, 0, np.asarray([0] * 10 + [1] * 2))


@given(st.integers(2, 400), st.data())
def test_drawn_rows_and_kept_rows_are_every_row_once(rows: int, data: st.DataObject) -> None:
    count, seed = data.draw(st.integers(1, rows - 1)), data.draw(st.integers(0, 2**64))
    kept, drawn = split_rows(rows, count, seed)
    assert len(drawn) == count
    assert_array_equal(np.sort(np.concatenate([kept, drawn])), np.arange(rows))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(drawn) > 0).all()
    assert_array_equal(split_rows(rows, count, seed)[1], drawn)


def test_stratified_rows_equal_scikit_learn_and_keep_the_shares() -> None:
    groups = np.repeat([0, 1, 2], [60, 30, 10])
    kept, drawn = split_rows(100, 20, 7, groups)
    theirs = train_test_split(np.arange(100), test_size=20, random_state=7, stratify=groups)
    assert_array_equal(kept, np.sort(theirs[0]))
    assert_array_equal(drawn, np.sort(theirs[1]))
    assert np.bincount(groups[drawn]).tolist() == [12, 6, 2]
    assert_array_equal(split_rows(100, 20, 7, groups.astype(str).astype(object))[1], drawn)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (np.asarray([0] * 9 + [1]), "can't be stratified"),
        (np.linspace(0, 1, 10), "can't be stratified"),
        (np.zeros((10, 2), "int64"), "by lists"),
        (Ragged.of([[1]] * 10), "by lists"),
    ],
    ids=["single", "continuous", "matrix", "ragged"],
)
def test_rows_that_can_not_be_stratified(groups: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        split_rows(10, 5, 0, groups)
    assert caught.value.problems[0].path == ("dataset", "split", "stratify")


RECIPE = """
name: split
seed: 5
dataset:
  source: {npz: {path: x.npz}}
  inputs: {x: {}}
  targets: {y: {}}
model: {layers: [{Dense: {units: 1}}]}
compile: {optimizer: sgd, loss: mse}
fit: {epochs: 1}
"""


def divided(rows: int = 100, own_test: int = 0, **sets: Any) -> Sets:
    """The parts of a table whose column x numbers the rows."""
    import json

    def made(first: int, count: int) -> Rows:
        at = np.arange(first, first + count)
        return Rows({"x": at, "y": at % 3, "g": at % 2, "text": Ragged.of([[n] for n in at])})

    table = Table(made(0, rows), made(1000, own_test) if own_test else None)
    words = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in sets.items()]
    return divide(loaded(RECIPE, *words).recipe, table)


def numbers(rows: Rows | None) -> list[int]:
    assert rows is not None
    found = rows.columns["x"].tolist()
    assert rows.columns["text"].values.tolist() == found
    return found


def test_without_a_split_all_rows_train() -> None:
    sets = divided()
    assert numbers(sets.train) == list(range(100))
    assert (sets.validation, sets.test) == (None, None)
    assert numbers(divided(own_test=5).test) == list(range(1000, 1005))


def test_the_first_and_the_last_rows() -> None:
    sets = divided(dataset__split={"test": {"last": 30}, "validation": {"first": 10}})
    assert numbers(sets.test) == list(range(70, 100))
    assert numbers(sets.validation) == list(range(10))
    assert numbers(sets.train) == list(range(10, 70))
    sets = divided(dataset__split={"test": {"first": 30}, "validation": {"last": 10}})
    assert numbers(sets.test) == list(range(30))
    assert numbers(sets.validation) == list(range(90, 100))
    assert numbers(sets.train) == list(range(30, 90))


@pytest.mark.parametrize(("part", "count"), [(0.25, 25), (17, 17), (0.014, 1), (0.986, 99), (1, 1), (99, 99)])
def test_a_share_and_a_number_are_drawn(part: Any, count: int) -> None:
    sets = divided(dataset__split={"test": part})
    assert len(numbers(sets.test)) == count
    assert sorted(numbers(sets.test) + numbers(sets.train)) == list(range(100))
    assert numbers(divided(dataset__split={"test": part}).test) == numbers(sets.test)
    if 5 < count < 95:
        other = divided(dataset__split={"test": part}, seed=6)
        assert numbers(other.test) != numbers(sets.test)
        assert numbers(divided(dataset__split={"validation": part}).validation) != numbers(sets.test)


def test_validation_split_is_the_tail_of_what_is_left() -> None:
    sets = divided(dataset__split={"test": 0.3}, fit__validation_split=0.25)
    rest = sorted(set(range(100)) - set(numbers(sets.test)))
    at = keras_kept(np.arange(70), 0.25)
    assert numbers(sets.train) == rest[:at]
    assert numbers(sets.validation) == rest[at:]


def test_a_limit_comes_before_validation_and_leaves_the_test_rows_alone() -> None:
    sets = divided(own_test=9, dataset__limit=40, fit__validation_split=0.25)
    assert numbers(sets.train) == list(range(30))
    assert numbers(sets.validation) == list(range(30, 40))
    assert len(numbers(sets.test)) == 9
    assert numbers(divided(rows=20, dataset__limit=40).train) == list(range(20))


def test_stratified_parts_keep_the_shares() -> None:
    sets = divided(dataset__split={"test": 0.2, "validation": 0.25, "stratify": "g"})
    for part, count in ((sets.test, 10), (sets.validation, 10), (sets.train, 30)):
        assert np.bincount(np.asarray(numbers(part)) % 2).tolist() == [count, count]


@pytest.mark.parametrize("part", [100, 0.999, 0.001, {"first": 100}, {"last": 101}], ids=str)
@pytest.mark.parametrize("use", ["test", "validation"])
def test_a_part_that_leaves_nothing(part: Any, use: str) -> None:
    with pytest.raises(DataError, match=rf"split\.{use} asks for \d+ of 100 rows") as caught:
        divided(dataset__split={use: part})
    assert caught.value.problems[0].path == ("dataset", "split", use)


@pytest.mark.parametrize(
    "part", [0, -1, 1.0, 1.5, True, {"first": 0}, {"middle": 3}, {}, {"first": 1, "last": 1}], ids=str
)
def test_a_part_that_can_not_be_is_an_error_of_the_recipe(part: Any) -> None:
    with pytest.raises(RecipeError, match="expected a share between 0 and 1"):
        divided(dataset__split={"test": part})


def test_no_rows_and_no_such_column() -> None:
    with pytest.raises(DataError, match="no training rows"):
        divided(rows=0)
    with pytest.raises(DataError, match="leaves one side empty"):
        divided(rows=1, fit__validation_split=0.5)
    with pytest.raises(DataError, match='no column "h"'):
        divided(dataset__split={"test": 0.2, "stratify": "h"})
    with pytest.raises(DataError, match="by lists"):
        divided(dataset__split={"test": 0.2, "stratify": "text"})
