"""CTC decoding against Keras's, and against the sum over every alignment of short outputs."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import pytest

from trainer.errors import RecipeError
from trainer.train import decoding
from trainer.train.decoding import Decoded, beam_search, decoded_columns, greedy

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Array = np.ndarray


def drawn(random: np.random.Generator, longest: int = 12) -> tuple[Array, Array, int]:
    """(outputs, lengths, blank) of a random size and sharpness."""
    rows, steps, classes = random.integers(1, 4), random.integers(1, longest), random.integers(2, 7)
    outputs = random.normal(size=(rows, steps, classes)) * random.choice([0.5, 1.0, 4.0])
    return outputs.astype("float32"), random.integers(1, steps + 1, rows), int(random.integers(classes))


def of_keras(outputs: Array, lengths: Array, **options: Any) -> Decoded:
    decode: Any = keras.ops.ctc_decode
    paths, scores = decode(outputs, lengths, **options)
    return Decoded(paths.numpy(), scores.numpy())


def hold(ours: Decoded, theirs: Decoded) -> None:
    assert ours.paths.shape == theirs.paths.shape
    np.testing.assert_array_equal(ours.paths, theirs.paths)
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_beams_are_those_of_keras(seed: int) -> None:
    """Forty of each: widths from 1 to more than there are labellings, and several paths."""
    random = np.random.default_rng(seed)
    for _ in range(40):
        outputs, lengths, blank = drawn(random)
        width = int(random.choice([1, 2, 3, 5, 8, 25]))
        options = {"beam_width": width, "top_paths": int(random.integers(1, min(width, 4) + 1)), "mask_index": blank}
        hold(beam_search(outputs, lengths, **options), of_keras(outputs, lengths, strategy="beam_search", **options))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("merge", [True, False])
def test_greedy_paths_are_those_of_keras(seed: int, merge: bool) -> None:
    random = np.random.default_rng(100 + seed)
    for _ in range(20):
        outputs, lengths, blank = drawn(random, 30)
        options = {"merge_repeated": merge, "mask_index": blank}
        hold(greedy(outputs, lengths, **options), of_keras(outputs, lengths, strategy="greedy", **options))


def every_labelling(outputs: Array, blank: int) -> dict[tuple[int, ...], float]:
    """The probability of each labelling of one row: all its alignments, one by one."""
    p = np.exp(outputs.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    found: dict[tuple[int, ...], float] = {}
    for alignment in itertools.product(range(outputs.shape[1]), repeat=len(outputs)):
        joined = [c for c, _ in itertools.groupby(alignment)]
        labelling = tuple(c for c in joined if c != blank)
        found[labelling] = found.get(labelling, 0.0) + float(np.prod([p[t, c] for t, c in enumerate(alignment)]))
    assert sum(found.values()) == pytest.approx(1)
    return found


@pytest.mark.parametrize(("steps", "classes", "blank"), [(1, 3, 0), (5, 2, 1), (4, 4, 2), (6, 3, 0), (5, 4, 3)])
def test_a_wide_beam_finds_every_labelling(steps: int, classes: int, blank: int) -> None:
    random = np.random.default_rng(steps * classes)
    outputs = random.normal(0, 2, (3, steps, classes)).astype("float32")
    known = [every_labelling(row, blank) for row in outputs]
    count = len(known[0])
    found = beam_search(outputs, beam_width=count + 3, top_paths=count + 1, mask_index=blank)
    for row, labellings in enumerate(known):
        paths = [tuple(c for c in path if c >= 0) for path in found.paths[:, row].tolist()]
        assert sorted(paths[:count]) == sorted(labellings)
        np.testing.assert_allclose(np.exp(found.scores[row, :count]), [labellings[p] for p in paths[:count]], rtol=1e-9)
        assert (np.diff(found.scores[row, :count]) <= 0).all()
        assert (paths[count], found.scores[row, count]) == ((), -np.inf)


@pytest.mark.parametrize("width", [1, 2, 4, 9])
def test_a_narrow_beam_holds_each_labelling_once(width: int) -> None:
    """Beginnings fall out of such beams and come back; a labelling found is no likelier than it really is."""
    outputs = np.random.default_rng(width).normal(0, 1, (20, 7, 3)).astype("float32")
    found = beam_search(outputs, beam_width=width, top_paths=width)
    for row in range(len(outputs)):
        known = every_labelling(outputs[row], 0)
        paths = [tuple(c for c in path if c >= 0) for path in found.paths[:, row].tolist()]
        assert len(set(paths)) == width
        assert all(np.exp(s) <= known[p] * (1 + 1e-9) for p, s in zip(paths, found.scores[row].tolist(), strict=True))


def test_the_sum_beats_the_best_alignment() -> None:
    """Graves's example: blank twice is the likeliest alignment, but the symbol in any of three ways is likelier."""
    outputs = np.log(np.array([[[0.6, 0.4], [0.6, 0.4]]], "float32"))
    assert greedy(outputs).paths.tolist() == [[[-1, -1]]]
    found = beam_search(outputs, beam_width=3, top_paths=2)
    assert found.paths.tolist() == [[[1, -1]], [[-1, -1]]]
    np.testing.assert_allclose(np.exp(found.scores), [[0.64, 0.36]], rtol=1e-6)


def test_rows_searched_part_after_part(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    outputs, lengths = random.normal(size=(13, 9, 5)).astype("float32"), random.integers(0, 10, 13)
    whole = beam_search(outputs, lengths, beam_width=4, top_paths=3)
    monkeypatch.setattr(decoding, "MOST_NODES", 500)
    parts = beam_search(outputs, lengths, beam_width=4, top_paths=3)
    np.testing.assert_array_equal(whole.paths, parts.paths)
    np.testing.assert_array_equal(whole.scores, parts.scores)


def test_steps_behind_the_end_are_not_read() -> None:
    outputs = np.random.default_rng(5).normal(size=(4, 8, 5)).astype("float32")
    spoilt = outputs.copy()
    spoilt[:, 5:] = np.nan
    for search in (greedy, beam_search):
        short, long = search(outputs[:, :5]), search(spoilt, np.full(4, 5))
        np.testing.assert_array_equal(long.paths[:, :, :5], short.paths)
        assert (long.paths[:, :, 5:] == -1).all()
        np.testing.assert_allclose(long.scores, short.scores, rtol=1e-6)
        assert (search(spoilt, np.zeros(4, int)).paths == -1).all()
        assert (search(spoilt, np.zeros(4, int)).scores == 0).all()


def test_what_can_not_be_is_not_found() -> None:
    """Classes of score -inf, and beams wider than what is left."""
    outputs = np.full((2, 4, 3), -np.inf, "float32")
    outputs[:, [0, 2], 1] = outputs[:, [1, 3], 0] = 0.0
    found = beam_search(outputs, beam_width=6, top_paths=3)
    assert found.paths[0].tolist() == [[1, 1, -1, -1]] * 2
    assert (found.paths[1:] == -1).all()
    assert found.scores.tolist() == [[0.0, -np.inf, -np.inf]] * 2


def test_more_paths_than_the_beam_holds() -> None:
    with pytest.raises(RecipeError, match="at most 2 paths"):
        beam_search(np.zeros((1, 2, 3)), beam_width=2, top_paths=3)


def test_no_rows() -> None:
    assert greedy(np.zeros((0, 4, 3), "float32")).paths.shape == (1, 0, 4)
    found = beam_search(np.zeros((0, 4, 3), "float32"), beam_width=2, top_paths=2)
    assert found.paths.shape == (2, 0, 4)
    assert found.scores.shape == (0, 2)


SAID = np.full((2, 5, 3), -9.0, "float32")
for step, symbols in enumerate(((1, 2), (0, 2), (1, 2), (2, 0), (0, 0))):
    SAID[[0, 1], step, list(symbols)] = 9.0


def test_columns() -> None:
    assert {k: v.tolist() for k, v in decoded_columns(SAID, "greedy").items()} == {"decoded": ["1 1 2", "2"]}
    columns = decoded_columns(SAID, "beam", beam_width=5, names=("-1", "zero", "one"))
    assert columns["decoded"].tolist() == ["zero zero one", "one"]
    assert list(columns) == ["decoded", "log_probability"]
    assert (columns["log_probability"] < 0).all()
    several = decoded_columns(SAID, "beam", beam_width=5, top_paths=2)
    assert list(several) == ["decoded_1", "log_probability_1", "decoded_2", "log_probability_2"]
    assert (several["log_probability_1"] > several["log_probability_2"]).all()
    assert decoded_columns(np.zeros((1, 3, 2)), "greedy")["decoded"].tolist() == [""]


def test_columns_that_can_not_be() -> None:
    with pytest.raises(RecipeError, match=r"found outputs of shape \(4,\) a row"):
        decoded_columns(np.zeros((2, 4)), "greedy")
    with pytest.raises(RecipeError, match="one path"):
        decoded_columns(np.zeros((2, 4, 3)), "greedy", top_paths=2)
