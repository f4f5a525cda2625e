"""Pairs of rows: their classes are looked up again, and no test pair has a row of a training pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.sources.test_arrays import idx
from trainer.errors import DataError
from trainer.sources.base import Places, Source
from trainer.sources.columns import Ragged
from trainer.sources.pairs import Pairs, draw_pairs

IDX = {"idx": {"images": "i", "labels": "l", "test_images": "ti", "test_labels": "tl"}}


@pytest.fixture
def numbered(tmp_path: Path) -> Places:
    """60 + 12 pictures, each of whose pixels are its own number; the class is the number modulo 3."""
    for images, labels, numbers in (("i", "l", range(60)), ("ti", "tl", range(100, 112))):
        pictures = np.repeat(np.asarray(numbers, "uint8"), 6).reshape(-1, 2, 3)
        (tmp_path / images).write_bytes(idx(pictures))
        (tmp_path / labels).write_bytes(idx(np.asarray(numbers, "uint8") % 3))
    return Places(tmp_path)


@pytest.mark.parametrize("pairs", [1, 7, 500])
def test_pairs_are_what_they_say(numbered: Places, pairs: int) -> None:
    source = Source.parse({"pairs": {"source": IDX, "pairs": pairs, "test_pairs": 9}})
    table = source.open(numbered)
    assert table.test is not None
    for rows, count, numbers in ((table.train, pairs, range(60)), (table.test, 9, range(100, 112))):
        left, right, same = (rows.columns[n] for n in ("left", "right", "same"))
        assert left.shape == right.shape == (count, 2, 3)
        a, b = left[:, 0, 0].astype(int), right[:, 0, 0].astype(int)
        assert {*a, *b} <= set(numbers)
        np.testing.assert_array_equal(same, a % 3 == b % 3)
        assert (a != b).all()
        assert same.sum() == count // 2
        assert (left == left[:, :1, :1]).all()
        assert (right == right[:, :1, :1]).all()
    assert {n: f.shape for n, f in table.fields.items()} == {"left": (2, 3), "right": (2, 3), "same": ()}
    assert table.fields["same"].classes == ("different", "same")
    assert sorted(table.digests) == ["i", "l", "pairs", "ti", "tl"]


def test_every_row_and_class_gets_its_turn() -> None:
    classes = np.asarray([0] * 50 + [1] * 5 + [2])
    left, right, same = draw_pairs(np.random.default_rng(0), classes, 20_000)
    assert set(left) == set(right) == set(range(56))
    alike = classes[left][same == 1]
    assert set(alike) == {0, 1}
    assert abs((alike == 0).mean() - 0.5) < 0.02
    shares = [(classes[left][same == 0] == c).mean() for c in range(3)]
    assert np.abs(np.asarray(shares) - 1 / 3).max() < 0.02
    # Neither kind stands at one end.
    assert abs(same[:10_000].mean() - 0.5) < 0.02


def test_pairs_follow_from_the_options_alone(numbered: Places) -> None:
    one, same, other = (Pairs(source=Source.parse(IDX), pairs=40, seed=s).open(numbered) for s in (1, 1, 2))
    assert one.digests == same.digests != other.digests
    np.testing.assert_array_equal(one.train.columns["left"], same.train.columns["left"])
    # As many to a test row as to a training row.
    assert len(one.test or ()) == 8


def test_real_pictures(data_folder: Path) -> None:
    source = Source.parse({"pairs": {"source": {"mnist": {"folder": "mnist-5k"}}, "pairs": 300}})
    assert {n: (f.shape, f.dtype) for n, f in (source.fields() or {}).items()} == {
        "left": ((28, 28), "uint8"),
        "right": ((28, 28), "uint8"),
        "same": ((), "int64"),
    }
    inner = Source.parse({"mnist": {"folder": "mnist-5k"}}).open(Places(None, data_folder, False))
    table = source.open(Places(None, data_folder, False))
    for pairs, rows in ((table.train, inner.train), (table.test, inner.test)):
        assert pairs is not None
        assert rows is not None
        of = {image.tobytes(): label for image, label in zip(rows.columns["image"], rows.columns["label"], strict=True)}
        left, right = ([of[image.tobytes()] for image in pairs.columns[n]] for n in ("left", "right"))
        np.testing.assert_array_equal(pairs.columns["same"], np.equal(left, right))
    assert (len(table.train), len(table.test or ())) == (300, 600)


def test_without_test_rows(numbered: Places) -> None:
    inner = {"idx": {"images": "i", "labels": "l"}}
    assert Source.parse({"pairs": {"source": inner, "pairs": 4}}).open(numbered).test is None
    with pytest.raises(DataError, match="test_pairs needs test rows"):
        Source.parse({"pairs": {"source": inner, "test_pairs": 4}}).open(numbered)


def test_other_fields_of_other_sources(tmp_path: Path) -> None:
    y = np.asarray(["a", "b", "a", "b"])
    np.savez(tmp_path / "x.npz", number=np.arange(4), kind=y, x=np.arange(8).reshape(4, 2))
    options = {"source": {"npz": {"path": "x.npz"}}, "pairs": 20, "field": "x", "label": "kind"}
    table = Source.parse({"pairs": options}).open(Places(tmp_path))
    left, right = (table.train.columns[n][:, 0] // 2 for n in ("left", "right"))
    np.testing.assert_array_equal(table.train.columns["same"], left % 2 == right % 2)
    assert Source.parse({"pairs": options}).fields() is None


def test_rows_of_unequal_length(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"y_train": np.asarray([0, 1, 0, 1]), "y_test": np.asarray([0, 0, 1])}
    for part, count in (("train", 4), ("test", 3)):
        texts = np.empty(count, object)
        texts[:] = [[10 + row] * (row + 1) for row in range(count)]
        arrays[f"x_{part}"] = texts
    np.savez(tmp_path / "imdb.npz", allow_pickle=True, **arrays)
    inner = {"imdb": {"start_char": None, "index_from": 0}}
    table = Source.parse({"pairs": {"source": inner, "pairs": 30}}).open(Places(None, tmp_path, False))
    left, right = (table.train.columns[n] for n in ("left", "right"))
    assert isinstance(left, Ragged)
    assert isinstance(right, Ragged)
    # A row of n numbers has the class of n - 1, and none is of one length with its neighbour.
    lengths = left.lengths(), right.lengths()
    np.testing.assert_array_equal(table.train.columns["same"], (lengths[0] - lengths[1]) % 2 == 0)
    assert (lengths[0] != lengths[1]).all()
    assert set(lengths[0]) == {1, 2, 3, 4}
    assert table.test is not None
    assert len(table.test) == round(30 * 3 / 4)


@pytest.mark.parametrize(
    ("classes", "label", "said"),
    [
        ([1, 1, 1], "y", "pairs need two classes, one with two rows, found 1 in 3 rows"),
        ([1, 2, 3], "y", "found 3 in 3 rows"),
        ([0.5, 1.5, 0.5], "y", 'expected a class a row in "y"'),
        ([[1, 0], [0, 1], [1, 0]], "y", 'expected a class a row in "y"'),
        ([1, 1, 2], "z", 'no column "z"'),
    ],
)
def test_classes_that_cannot_be_paired(tmp_path: Path, classes: Any, label: str, said: str) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)), y=np.asarray(classes))
    with pytest.raises(DataError, match=said):
        Pairs(source=Source.parse({"npz": {"path": "x.npz"}}), label=label).open(Places(tmp_path))


def test_too_many_pairs_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((4, 1 << 20), "uint8"), y=np.asarray([0, 0, 1, 1]))
    with pytest.raises(DataError, match="10,000 pairs take more than 2 GiB"):
        Source.parse({"pairs": {"source": {"npz": {"path": "x.npz"}}}}).open(Places(tmp_path))


@pytest.mark.parametrize(
    ("options", "path", "said"),
    [
        ({"source": "minst"}, ("pairs", "source"), "there is no source called"),
        ({"source": {"mnist": {"foldr": "x"}}}, ("pairs", "source", "mnist", "foldr"), "has no option"),
        ({"source": "mnist", "field": "imgae"}, ("pairs", "field"), 'no field "imgae"'),
        ({"source": "mnist", "label": "x"}, ("pairs", "label"), 'no field "x"'),
        ({}, ("pairs", "source"), "needs source"),
        ({"source": "digits", "pairs": 0}, ("pairs", "pairs"), "above 0"),
    ],
    ids=str,
)
def test_mistakes_have_their_place(options: dict[str, Any], path: tuple[str, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        Source.parse({"pairs": options})
    assert tuple(caught.value.errors()[0]["loc"]) == path


def test_lines_of_digits_are_an_npz_file(data_folder: Path) -> None:
    """What CTC learns from: pictures of lines, and class numbers filled up with -1."""
    table = Source.parse({"npz": {"path": "digit_lines.npz"}}).open(Places(None, data_folder))
    for rows, count in ((table.train, 6000), (table.test, 1000)):
        assert rows is not None
        x, y = rows.columns["x"], rows.columns["y"]
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((count, 28, 224), "uint8", (count, 8), "int64")
        assert (y.min(), y.max()) == (-1, 9)
        lengths = (y >= 0).sum(1)
        assert (lengths.min(), lengths.max()) == (3, 8)
        np.testing.assert_array_equal(y >= 0, np.arange(8) < lengths[:, None])
