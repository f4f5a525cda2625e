"""Made sets: what they hold is worked out anew from the words and pixels, and drawn the same each time."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from trainer.sources.base import Places
from trainer.sources.columns import Rows, Table
from trainer.sources.made_sequences import MadeSequences
from trainer.sources.made_shapes import MadeShapes

ANSWERS = {
    "reverse": lambda text: text[::-1],
    "sort": lambda text: "".join(sorted(text)),
    "add": lambda text: str(sum(map(int, text.split("+")))),
}


def told(table: Table, rows: Rows | None, name: str) -> list[str]:
    assert table.words is not None
    assert rows is not None
    return ["".join(table.words[n] for n in row) for row in rows.columns[name]]


@pytest.mark.parametrize("task", ANSWERS)
@pytest.mark.parametrize("length", [2, 3, 5, 18])
def test_answers_are_right(task: Any, length: int) -> None:
    table = MadeSequences(task=task, length=length, samples=30, test_samples=10, seed=length).open(Places())
    fields = MadeSequences(task=task, length=length, samples=30, test_samples=10).fields()
    for rows, count in ((table.train, 30), (table.test, 10)):
        assert rows is not None
        sources, shifted, answers = (told(table, rows, name) for name in ("source", "shifted", "answer"))
        assert len(sources) == count
        for source, before, answer in zip(sources, shifted, answers, strict=True):
            asked = source.replace("<pad>", "")
            assert answer.replace("<pad>", "") == ANSWERS[task](asked) + "<end>"
            assert source == asked + "<pad>" * source.count("<pad>")
            assert before.startswith("<start>" + ANSWERS[task](asked))
            assert task == "add" or len(asked) == length
        np.testing.assert_array_equal(rows.columns["shifted"][:, 1:], rows.columns["answer"][:, :-1])
        assert (rows.columns["shifted"][:, 0] == 1).all()
        assert {n: c.shape[1:] for n, c in rows.columns.items()} == {n: f.shape for n, f in fields.items()}
        assert {c.dtype.name for c in rows.columns.values()} == {"int64"}
    assert fields["answer"].classes == table.words
    assert (table.words or ())[:3] == ("<pad>", "<start>", "<end>")


@pytest.mark.parametrize(("task", "length", "rows"), [("reverse", 2, 50), ("sort", 3, 500), ("add", 1, 27)])
def test_no_row_is_there_twice(task: Any, length: int, rows: int) -> None:
    """Up to half of all that there are: 100, 1,000, and 55 sums of two digits in whatever order."""
    table = MadeSequences(task=task, length=length, samples=rows - 5, test_samples=5).open(Places())
    every = told(table, table.train, "source") + told(table, table.test, "source")
    keys = {"+".join(sorted(text.replace("<pad>", "").split("+"))) for text in every}
    assert len(keys) == rows
    with pytest.raises(ValueError, match=r"expected at most .* rows, half of what there are"):
        MadeSequences(task=task, length=length, samples=rows - 4, test_samples=5)


def test_numbers_are_drawn_evenly() -> None:
    table = MadeSequences(samples=20_000, length=6, test_samples=0).open(Places())
    assert table.test is None
    shares = np.stack([(table.train.columns["source"] == n).mean(0) for n in range(3, 13)])
    assert abs(shares - 0.1).max() < 0.01


def test_rows_follow_from_the_options_alone() -> None:
    one, same, other = (MadeSequences(seed=s, samples=50).open(Places()) for s in (1, 1, 2))
    assert one.digests == same.digests != other.digests
    np.testing.assert_array_equal(one.train.columns["source"], same.train.columns["source"])
    # Held in writing: the same in another process, and after changes to this file.
    assert one.train.columns["source"][:2].tolist() == [[10, 6, 3, 5, 5], [3, 8, 6, 4, 11]]


def test_shapes_follow_from_the_options_alone() -> None:
    code = (
        "from trainer.sources.made_shapes import MadeShapes; from trainer.sources.base import Places;"
        "print(MadeShapes(samples=5, test_samples=2).open(Places()).digests['made_shapes'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert MadeShapes(samples=5, test_samples=2).open(Places()).digests == {"made_shapes": done.stdout.strip()}
    few, more = (MadeShapes(samples=n, test_samples=0, seed=3).open(Places()) for n in (4, 9))
    np.testing.assert_array_equal(few.train.columns["image"], more.train.columns["image"][:4])
    assert few.digests != MadeShapes(samples=4, test_samples=0, seed=4).open(Places()).digests
    assert few.test is None


@pytest.mark.parametrize("size", [8, 33, (16, 40)])
def test_pictures_and_masks(size: Any) -> None:
    source = MadeShapes(size=size, samples=40, test_samples=10)
    table = source.open(Places())
    height, width = size if isinstance(size, tuple) else (size, size)
    for rows, count in ((table.train, 40), (table.test, 10)):
        assert rows is not None
        image, mask = rows.columns["image"], rows.columns["mask"]
        assert image.shape == mask.shape == (count, height, width, 1)
        assert (image.dtype, mask.dtype) == ("float32", "uint8")
        assert 0 <= image.min() <= image.max() <= 1
        assert set(np.unique(mask)) == {0, 1}
    assert {n: (f.shape, f.dtype) for n, f in source.fields().items()} == {
        "image": ((height, width, 1), "float32"),
        "mask": ((height, width, 1), "uint8"),
    }
    train, test = table.train.columns["image"], (table.test or table.train).columns["image"]
    assert not any((picture == other).all() for picture in train for other in test)


def test_the_mask_is_where_the_picture_leaves_its_ground() -> None:
    """Without noise the ground is a plane, fitted here to the pixels outside, which no shape comes near."""
    table = MadeShapes(size=(32, 32), samples=60, test_samples=0, noise=0).open(Places())
    y, x = np.mgrid[:32, :32]
    plane = np.stack([np.ones(32 * 32), y.ravel(), x.ravel()], axis=1)
    for image, mask in zip(table.train.columns["image"], table.train.columns["mask"], strict=True):
        inside = mask.ravel() == 1
        assert 0 < inside.mean() < 0.9
        fitted = plane @ np.linalg.lstsq(plane[~inside], image.ravel()[~inside], rcond=None)[0]
        off = abs(image.ravel() - fitted)
        assert off[~inside].max() < 1e-5
        assert off[inside].min() > 0.04


def test_no_level_of_grey_tells_shapes_apart() -> None:
    """What a model must learn beyond a threshold."""
    table = MadeShapes(samples=100, test_samples=0).open(Places())
    image, mask = table.train.columns["image"], table.train.columns["mask"]
    best = max(((image > t) == mask).mean() for t in np.linspace(0, 1, 21))
    assert best < 1 - mask.mean() + 0.05


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (MadeSequences, {"length": 0}, "from 1 to 18"),
        (MadeSequences, {"length": 19}, "from 1 to 18"),
        (MadeSequences, {"length": 18, "samples": 10**12}, "take more than 2 GiB"),
        (MadeSequences, {"task": "copy"}, "reverse"),
        (MadeShapes, {"size": 7}, "8 or more"),
        (MadeShapes, {"size": 100_000}, "take more than 2 GiB"),
        (MadeShapes, {"samples": 10**12}, "take more than 2 GiB"),
        (MadeShapes, {"shapes": 10**9}, "at most 100 shapes"),
        (MadeShapes, {"noise": -1}, "0 or more"),
    ],
    ids=str,
)
def test_options_that_cannot_be(made: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**options)
