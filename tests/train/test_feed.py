"""From columns to batches: order, sizes, weights, types, and what is refused with its row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.recipes import loaded
from trainer.errors import DataError
from trainer.recipe.dataset import Feature
from trainer.sources.columns import Column, Ragged, Rows
from trainer.train import feed
from trainer.train.build import Built, build, real_outlines
from trainer.train.feed import Feed
from trainer.train.rows import divide
from trainer.train.terms import Options, open_table

TEXT = """
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}, Normalization]}}
  targets: {label: {}}
  limit: 103
model: {layers: [{Dense: {units: 10, activation: softmax}}]}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy}
fit: {batch_size: 10, class_weight: {0: 3.0}}
"""


def built(text: str = TEXT, *sets: str) -> tuple[Built, Rows]:
    made = loaded(text, *sets).recipe
    table = open_table(made, None, Options())
    train = divide(made, table).train
    return build(made, real_outlines(made, table)[0], train, torch.device("cpu")), train


@pytest.fixture(params=["resident", "cut from the column"])
def fed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """The rows, kept whole as a tensor or preprocessed batch by batch."""
    if request.param != "resident":
        monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    made, train = built()
    found = made.training_feed(train)
    assert (found.xs[0].resident is not None) == (request.param == "resident")
    return found


@pytest.mark.parametrize("drawn", [False, True])
def test_batches_hold_every_row_once_in_order(fed: Feed, drawn: bool) -> None:
    order = np.random.default_rng(0).permutation(103) if drawn else None
    rows = fed.xs[0].rows(np.arange(103) if order is None else order)
    batches = list(fed.batches(10, order))
    assert [b.size for b in batches] == [10] * 10 + [3]
    assert torch.equal(torch.cat([b.xs[0] for b in batches]), rows)
    labels = fed.ys[0].rows(np.arange(103) if order is None else order)
    assert torch.equal(torch.cat([b.ys[0] for b in batches]), labels)
    weights = torch.cat([w for b in batches for w in b.weights if w is not None])
    assert torch.equal(weights, torch.where(labels == 0, 3.0, 1.0))


@pytest.mark.parametrize(("start", "stop"), [(3, 5), (10, 11), (0, 1)])
def test_batches_from_the_middle_are_those_of_the_whole(fed: Feed, start: int, stop: int) -> None:
    order = np.random.default_rng(1).permutation(103)
    whole, part = list(fed.batches(10, order)), list(fed.batches(10, order, start, stop))
    assert len(part) == stop - start
    for a, b in zip(whole[start:stop], part, strict=True):
        assert torch.equal(a.xs[0], b.xs[0])
        assert torch.equal(a.ys[0], b.ys[0])


def test_kept_and_cut_rows_are_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    made, train = built()
    kept = made.training_feed(train).xs[0].rows(slice(None))
    monkeypatch.setattr(feed, "RESIDENT_BYTES", 0)
    assert torch.equal(made.training_feed(train).xs[0].rows(slice(None)), kept)


def test_rows_that_were_let_go_are_made_again(fed: Feed) -> None:
    before = [batch.xs for batch in fed.batches(7)]
    fed.let_go()
    assert fed.xs[0].bytes == 0
    for xs, batch in zip(before, fed.batches(7), strict=True):
        assert all(torch.equal(x, again) for x, again in zip(xs, batch.xs, strict=True))


def test_few_rows_are_made_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes about on the way takes several times their memory; the numbers are the same."""
    whole, rows = built()
    want = whole.feed(rows).xs[0].resident
    asked, real = list[int](), feed.take

    def noted(column: Column, index: slice) -> Column:
        asked.append(index.stop - index.start)
        return real(column, index)

    monkeypatch.setattr(feed, "take", noted)
    monkeypatch.setattr(feed, "MADE_AT_ONCE", 640)
    found = whole.feed(rows).xs[0].resident
    assert asked
    assert max(asked) == 10
    assert want is not None
    assert found is not None
    assert torch.equal(want, found)


def test_preprocessing_is_fitted_to_the_training_rows_alone() -> None:
    made, train = built(TEXT, "fit.validation_split=0.5", "dataset.limit=40")
    assert len(train) == 20
    x = np.asarray(train.columns["image"]).reshape(20, 64)
    state = next(iter(made.inputs.values())).state()
    np.testing.assert_allclose(state["1/mean"].ravel(), x.mean(0), rtol=1e-5)


def test_integers_reach_a_layer_that_reads_them_and_become_numbers_for_others() -> None:
    made, _ = built(
        TEXT.replace("[{Reshape: {target_shape: [64]}}, Normalization]", "[{Reshape: {target_shape: [64]}}]")
    )
    pixels = np.arange(128, dtype="uint8").reshape(2, 8, 8)
    assert feed.input_dtypes(made.outline, [()]) == [torch.float32]
    embedding = loaded(TEXT.replace("layers: [", "layers: [{Embedding: {input_dim: 9, output_dim: 2}}, Flatten, "))
    assert feed.input_dtypes(embedding.outline, [()]) == [None]
    for dtype, expected in ((None, torch.int64), (torch.float32, torch.float32)):
        rows = feed.Slot(made.inputs["image"], pixels, dtype, torch.device("cpu")).rows(slice(None))
        assert rows.dtype == expected
        assert rows.reshape(-1).tolist() == list(range(128))


def test_a_bad_row_is_named_with_its_number_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are made at a time."""
    monkeypatch.setattr(feed, "MADE_AT_ONCE", 1)
    encoding = "{CategoryEncoding: {num_tokens: 16, output_mode: count}}"
    made, rows = built(TEXT.replace("Normalization]", f"{encoding}]"))
    first = int(np.flatnonzero((np.asarray(rows.columns["image"]).reshape(103, 64) == 16).any(1))[0])
    assert first > 0
    with pytest.raises(DataError, match=f"found 16 in row {first} "):
        made.training_feed(rows)


def test_text_is_named_with_its_row() -> None:
    rows = Rows({"a": np.array(["1", "2", "two"], dtype=object)})
    with pytest.raises(DataError, match=r'column "a" holds text \("two" in row 3\)'):
        feed.read_column(rows, Feature(field="a"))


def test_lists_of_unequal_length_need_an_encoding() -> None:
    text = TEXT.replace("[{Reshape: {target_shape: [64]}}, Normalization]", "[]")
    made, _ = built(text.replace("layers: [", "layers: [Flatten, "))
    with pytest.raises(DataError, match="rows have unequal lengths") as caught:
        feed.Slot(made.inputs["image"], Ragged.of([[1], [2, 3]]), None, torch.device("cpu")).rows(slice(0, 2))
    assert "PadSequences" in str(caught.value)
