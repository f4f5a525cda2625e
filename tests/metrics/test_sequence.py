"""Character error rates against distances computed one by one."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from trainer.callbacks.base import better
from trainer.errors import DataError
from trainer.metrics.base import Metric
from trainer.metrics.sequence import CharacterErrorRate, collapsed, edit_distance


def distance(a: list[int], b: list[int]) -> int:
    """Levenshtein's recursion as it is written in textbooks."""

    @functools.cache
    def between(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = between(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(replaced, between(i - 1, j) + 1, between(i, j - 1) + 1)

    return between(len(a), len(b))


def padded(rows: list[list[int]], width: int, fill: int) -> torch.Tensor:
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows]).reshape(len(rows), width)


def spoken(classes: list[int]) -> list[int]:
    """Joined and without blanks, one step after the other."""
    return [c for i, c in enumerate(classes) if c != 0 and (i == 0 or classes[i - 1] != c)]


def scores(classes: np.ndarray, count: int, random: np.random.Generator) -> torch.Tensor:
    """Outputs whose likeliest class is the one given."""
    values = random.normal(size=(*classes.shape, count))
    np.put_along_axis(values, classes[..., None], 9.0, -1)
    return torch.from_numpy(values.astype("float32"))


WORDS = [
    ("kitten", "sitting", 3),
    ("flaw", "lawn", 2),
    ("", "abc", 3),
    ("abc", "", 3),
    ("", "", 0),
    ("same", "same", 0),
]


def test_words() -> None:
    found = [[ord(c) for c in word] for word, _, _ in WORDS]
    wanted = [[ord(c) for c in word] for _, word, _ in WORDS]
    assert edit_distance(padded(found, 6, -1), padded(wanted, 8, -1)).tolist() == [edits for _, _, edits in WORDS]


@pytest.mark.parametrize("seed", range(40))
def test_distances(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, longest, others = random.integers(1, 6), int(random.integers(0, 9)), int(random.integers(0, 9))
    found, wanted = (
        [random.integers(0, count, random.integers(0, width + 1)).tolist() for _ in range(12)]
        for width in (longest, others)
    )
    expected = [distance(a, b) for a, b in zip(found, wanted, strict=True)]
    assert edit_distance(padded(found, longest, -1), padded(wanted, others, -1)).tolist() == expected


def test_collapsing() -> None:
    classes = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 0], [3, 3, 3, 3, 3, 3, 3, 3], [0, 0, 0, 0, 0, 0, 0, 0]])
    once = [[1, 1, 2], [3], []]
    assert collapsed(classes).tolist() == padded(once, 8, -1).tolist()
    every = [[1, 1, 1, 2, 2], [3] * 8, []]
    assert collapsed(classes, merge_repeated=False).tolist() == padded(every, 8, -1).tolist()
    assert collapsed(classes, blank=3)[1].tolist() == [-1] * 8


@pytest.mark.parametrize("weighed", [False, True])
def test_rate_over_streamed_batches(weighed: bool) -> None:
    """All edits over all symbols, not the mean of the rows' rates; weights weigh both."""
    random = np.random.default_rng(4)
    metric = Metric.parse("character_error_rate")
    state, edits, symbols = metric.start(), 0.0, 0.0
    for rows in (5, 1, 8):
        labels = [random.integers(1, 5, random.integers(0, 7)).tolist() for _ in range(rows)]
        classes = random.integers(0, 5, (rows, 11))
        weight = random.random(rows).astype("float32") if weighed else np.ones(rows, "float32")
        sample_weight = torch.from_numpy(weight) if weighed else None
        metric.update(state, padded(labels, 6, 0), scores(classes, 5, random), sample_weight)
        for row, label, w in zip(classes.tolist(), labels, weight.tolist(), strict=True):
            edits += w * distance(spoken(row), label)
            symbols += w * len(label)
        assert float(metric.result(state)) == pytest.approx(edits / symbols, rel=1e-6)
    assert edits > 0


def test_perfect_and_worse_than_nothing() -> None:
    metric, random = CharacterErrorRate(), np.random.default_rng(0)
    label = torch.tensor([[1, 1, 2, 0]])
    for classes, rate in (([1, 0, 1, 2, 0], 0.0), ([0] * 5, 1.0), ([3, 4, 3, 4, 3], 5 / 3)):
        state = metric.start()
        metric.update(state, label.float(), scores(np.array([classes]), 5, random))
        assert float(metric.result(state)) == pytest.approx(rate)


def test_nothing_to_say() -> None:
    """Labels without symbols, as before the first batch: 0."""
    metric, random = CharacterErrorRate(), np.random.default_rng(0)
    state = metric.start()
    metric.update(state, torch.zeros(2, 3), scores(np.ones((2, 4), int), 3, random))
    assert float(metric.result(state)) == 0.0


def test_masked_steps_are_blanks() -> None:
    metric, random = CharacterErrorRate(), np.random.default_rng(0)
    classes = np.array([[1, 2, 3, 3], [2, 2, 1, 1]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    state = metric.start()
    metric.update(state, torch.tensor([[1, 2], [2, 1]]), scores(classes, 4, random), None, mask)
    assert float(metric.result(state)) == 0.0
    metric.update(state, torch.tensor([[1, 2], [2, 1]]), scores(classes, 4, random))
    assert float(metric.result(state)) == pytest.approx(1 / 8)


def test_what_it_can_not_judge() -> None:
    metric = CharacterErrorRate()
    for y_true, y_pred in (
        (torch.ones(2), torch.ones(2, 3)),
        (torch.ones(2, 3), torch.ones(2, 3)),
        (torch.ones(1, 3), torch.ones(2, 4, 3)),
    ):
        with pytest.raises(DataError, match="steps, classes"):
            metric.update(metric.start(), y_true, y_pred)
    with pytest.raises(DataError, match="do not go with"):
        metric.update(metric.start(), torch.ones(2, 3), torch.ones(2, 4, 3), torch.ones(2, 4))


def test_name_and_direction() -> None:
    assert CharacterErrorRate.default_name() == "character_error_rate"
    for name in ("val_character_error_rate", "line_character_error_rate", "character_error_rate_1"):
        assert better("auto", name) == -1
    assert not CharacterErrorRate().keras
