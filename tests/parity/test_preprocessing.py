"""Rescaling, Normalization, CategoryEncoding and PadSequences against Keras, and their streaming and ragged forms."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.parity.configs import hold_config
from tests.parity.harness import cell_of, close, hold_layer, twin_of
from trainer.block import problems_of
from trainer.errors import DataError
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.layers.preprocessing import Normalization
from trainer.sources.columns import Ragged


def rows(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


RESCALINGS = [
    ({"scale": "1/255"}, (4,)),
    ({"scale": 2, "offset": -1}, (4,)),
    ({"scale": [1, 2, 3]}, (3,)),
    ({"scale": 0.5, "offset": [1.0, 0.0, -1.0]}, (2, 2, 3)),
    ({"scale": [1, 0.5], "offset": [3, 4]}, (5, 2)),
    ({"scale": [2.0], "offset": 1}, (5, 2)),
    ({"scale": [[1.0, 2.0], [3.0, 4.0]]}, (2, 2)),
]


@pytest.mark.parametrize(("options", "shape"), RESCALINGS)
def test_rescaling(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    hold_layer({"Rescaling": options}, rows(5, *shape), mask=np.ones((5, shape[0]), bool))
    hold_config({"Rescaling": options})


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "float64"])
@pytest.mark.parametrize("options", [{"scale": 1 / 255, "offset": -0.5}, {"scale": [2.0, 0.1, 3.0]}])
def test_rescaling_takes_other_types(dtype: str, options: dict[str, Any]) -> None:
    x = np.random.default_rng(1).integers(0, 256, (4, 3)).astype(dtype)
    cell, _ = cell_of({"Rescaling": options}, (None, 3))
    out = cell(torch.from_numpy(x))
    assert out.dtype is torch.float32
    close(out, keras.layers.Rescaling(**options)(x), "output", 1e-6)


AXES = [
    (-1, (4,)), (1, (4,)), (None, (4,)), (-1, (3, 4)), (1, (3, 4)), ([1, 2], (3, 4)), ([2, 1], (3, 4)), ([], (3, 4)),
    ([1, -1], (2, 3, 4)), (None, (2, 3, 4)), (2, (2, 3, 4)),
]  # fmt: skip


def adapted(options: dict[str, Any], data: np.ndarray, batch: int = 7) -> tuple[Any, Any]:
    """(our cell, Keras's layer), both adapted to the data."""
    layer = Layer.parse({"Normalization": options})
    assert isinstance(layer, Normalization)
    cell, out = cell_of({"Normalization": options}, (None, *data.shape[1:]))
    assert out == (None, *data.shape[1:])
    found = layer.adapt((data[i : i + batch] for i in range(0, len(data), batch)), (None, *data.shape[1:]))
    cell.load_state_dict({name: torch.as_tensor(value) for name, value in found.items()})
    twin = twin_of(layer, (None, *data.shape[1:]))
    twin.adapt(data)
    return cell, twin


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(("axis", "shape"), AXES)
def test_normalization_adapts_as_keras(axis: Any, shape: tuple[int, ...], invert: bool) -> None:
    data = (np.random.default_rng(2).normal(3, 2, (40, *shape)) * np.arange(1, shape[-1] + 1)).astype("float32")
    cell, twin = adapted({"axis": axis, "invert": invert}, data)
    mine = [(s.name, tuple(t.shape), t) for s, _, t, _ in cell.rows()]
    theirs = [(v.name, tuple(v.shape), v.value) for v in twin.weights]
    assert [m[:2] for m in mine] == [t[:2] for t in theirs]
    assert [str(t.dtype) for _, _, t, _ in cell.rows()] == [f"torch.{v.dtype}" for v in twin.weights]
    for (name, _, ours), (_, _, expected) in zip(mine, theirs, strict=True):
        close(ours, expected, name, 1e-6)
    ours_x, their_x = (torch.from_numpy(rows(5, *shape)).requires_grad_() for _ in range(2))
    ours, their = cell(ours_x), twin(their_x)
    close(ours, their, "output")
    pull = torch.from_numpy(rows(5, *shape, seed=3))
    (ours * pull).sum().backward()
    (their * pull).sum().backward()
    close(ours_x.grad, their_x.grad, "gradient of the input")
    hold_config({"Normalization": {"axis": axis, "invert": invert}}, "axis")
    again = twin_of(cell.layer, (None, *shape))
    assert tuple(again.axis) == tuple(np.atleast_1d([] if axis is None else axis))


@pytest.mark.parametrize("batch", [1, 3, 40, 100])
def test_batches_change_nothing(batch: int) -> None:
    data = rows(40, 3)
    cell, twin = adapted({}, data, batch)
    close(cell.mean, twin.weights[0].value, "mean", 1e-6)
    close(cell.variance, twin.weights[1].value, "variance", 1e-6)


def test_large_mean_keeps_the_variance() -> None:
    data = 1e6 + np.random.default_rng(4).normal(0, 1, (5000, 2))
    cell, _ = adapted({}, data, 512)
    close(cell.variance, data.var(0), "variance", 1e-6)


def test_constant_column_becomes_zero() -> None:
    data = np.full((10, 2), 3.0, "float32")
    data[:, 1] = np.arange(10)
    cell, twin = adapted({}, data)
    close(cell(torch.from_numpy(data)), twin(data), "output")
    assert torch.equal(cell(torch.from_numpy(data))[:, 0], torch.zeros(10))


GIVEN = [
    ({"mean": 2, "variance": 4}, (3,)),
    ({"mean": [1, 2, 3], "variance": [1, 4, 9]}, (3,)),
    ({"mean": [1, 2, 3], "variance": [1, 4, 9]}, (2, 3)),
    ({"mean": [1, 2], "variance": [1, 4], "axis": 1}, (2, 3)),
    ({"mean": [[1, 2, 3], [4, 5, 6]], "variance": [[1, 2, 3], [4, 5, 6]], "axis": [1, 2]}, (2, 3)),
    ({"mean": [1, 2, 3], "variance": [4, 5, 6], "axis": [1, 2]}, (2, 3)),
    ({"mean": 1, "variance": 0, "axis": None}, (2, 3)),
    ({"mean": [1], "variance": [4], "axis": -1, "invert": True}, (2, 3)),
]


@pytest.mark.parametrize(("options", "shape"), GIVEN)
def test_given_statistics_need_no_weights(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    hold_layer({"Normalization": options}, rows(5, *shape), mask=np.ones((5, shape[0]), bool))
    hold_config({"Normalization": options}, "axis")
    assert list(cell_of({"Normalization": options}, (None, *shape))[0].rows()) == []


def test_normalization_takes_integers() -> None:
    data = np.random.default_rng(1).integers(0, 256, (20, 3)).astype("uint8")
    cell, twin = adapted({}, data)
    close(cell(torch.from_numpy(data)), twin(data.astype("float32")), "output")


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({"axis": 2}, (None, 3), "axis 2 is not among the 2 axes"),
        ({"axis": 1}, (None, None), "must be known"),
        ({"axis": 0}, (None, 3), "must be known"),
        ({"mean": 1}, (None, 3), "given together"),
        ({"variance": 1}, (None, 3), "given together"),
        ({"mean": [1], "variance": 1}, (None, 3), r"mean has shape \(1,\), but variance \(\)"),
        ({"mean": [1, 2], "variance": [1, 2]}, (None, 3), r"mean of shape \(2,\) does not fit axis -1"),
        ({"mean": [[1]], "variance": [[1]]}, (None, 3), "does not fit"),
    ],
)
def test_normalization_refuses(options: dict[str, Any], shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"Normalization": options}).build(Plan(), shape)


def test_adapt_names_what_it_can_not_use() -> None:
    layer = Normalization()
    data = rows(10, 3)
    data[7, 1] = np.nan
    with pytest.raises(DataError, match="found nan in training row 7"):
        layer.adapt((data[i : i + 4] for i in range(0, 10, 4)), (None, 3))
    with pytest.raises(DataError, match="no rows"):
        layer.adapt([], (None, 3))


ENCODINGS = [
    ("one_hot", (6,)), ("one_hot", (6, 1)), ("one_hot", (6, 3)), ("one_hot", (6, 3, 1)), ("multi_hot", (6, 1)),
    ("multi_hot", (6, 4)), ("multi_hot", (6, 30)), ("count", (6, 1)), ("count", (6, 4)), ("count", (6, 30)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32"])
@pytest.mark.parametrize(("mode", "shape"), ENCODINGS)
@pytest.mark.parametrize("tokens", [5, 11])
def test_category_encoding(mode: str, shape: tuple[int, ...], tokens: int, dtype: str) -> None:
    x = np.random.default_rng(tokens).integers(0, tokens, shape).astype(dtype)
    options = {"num_tokens": tokens, "output_mode": mode}
    hold_layer({"CategoryEncoding": options}, x)
    out = cell_of({"CategoryEncoding": options}, (None, *shape[1:]))[0](torch.from_numpy(x))
    assert out.dtype is torch.float32
    hold_config({"CategoryEncoding": options})


def ragged(seed: int, most: int, tokens: int, count: int = 20) -> tuple[list[list[int]], Ragged]:
    random = np.random.default_rng(seed)
    lists = [random.integers(0, tokens, n).tolist() for n in random.integers(0, most + 1, count)]
    return lists, Ragged.of(lists)


@pytest.mark.parametrize("mode", ["multi_hot", "count"])
@pytest.mark.parametrize("seed", range(8))
def test_ragged_rows_are_encoded_one_by_one(mode: str, seed: int) -> None:
    lists, column = ragged(seed, most=[0, 1, 5, 40][seed % 4], tokens=9)
    cell, shape = cell_of({"CategoryEncoding": {"num_tokens": 9, "output_mode": mode}}, (None, None))
    assert shape == (None, 9)
    out = cell.layer.forward_ragged(cell, torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    theirs = keras.layers.CategoryEncoding(9, output_mode=mode)
    expected = [theirs(np.array([ids])).numpy()[0] if ids else np.zeros(9) for ids in lists]
    close(out, np.stack(expected).astype("float32"), "rows")


def test_a_thousand_words_a_row() -> None:
    _, column = ragged(1, most=240, tokens=10_000, count=512)
    cell, _ = cell_of({"CategoryEncoding": {"num_tokens": 10_000}}, (None, None))
    out = cell.layer.forward_ragged(cell, torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    assert out.shape == (512, 10_000)
    assert out.sum(1).tolist() == [len(set(column[i].tolist())) for i in range(512)]


@pytest.mark.parametrize(
    ("values", "mode", "words"),
    [
        ([[0, 1], [2, 7]], "multi_hot", r"ids from 0 to 4 \(.*num_tokens is 5\), found 7 in row 1 of the batch"),
        ([[0, 1], [-1, 9]], "count", "found -1 in row 1"),
        ([0, 1, 5], "one_hot", "found 5 in row 2"),
        ([[0.0, 1.5]], "multi_hot", r"found 1\.5 in row 0"),
        ([[0.0], [float("nan")]], "one_hot", "found nan in row 1"),
    ],
)
def test_ids_out_of_range(values: Any, mode: str, words: str) -> None:
    x = torch.tensor(values)
    cell, _ = cell_of({"CategoryEncoding": {"num_tokens": 5, "output_mode": mode}}, (None, *x.shape[1:]))
    with pytest.raises(DataError, match=words):
        cell(x)


def test_ragged_ids_out_of_range() -> None:
    column = Ragged.of([[0, 1], [], [2], [3, 8, 9]])
    cell, _ = cell_of({"CategoryEncoding": {"num_tokens": 5}}, (None, None))
    with pytest.raises(DataError, match=r"found 8 in row 3 of the batch") as caught:
        cell.layer.forward_ragged(cell, torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    assert "num_tokens: 9" in caught.value.problems[0].hint


@pytest.mark.parametrize(
    ("mode", "shape", "words"),
    [
        ("multi_hot", (None,), "a single id a row takes output_mode: one_hot"),
        ("count", (None, 3, 4), r"expected rows of ids, \(batch, ids\), found \(None, 3, 4\)"),
        ("one_hot", (None, None), "multi_hot"),
    ],
)
def test_category_encoding_refuses(mode: str, shape: tuple[int | None, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Layer.parse({"CategoryEncoding": {"num_tokens": 5, "output_mode": mode}}).build(Plan(), shape)


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [1, 4, 9])
@pytest.mark.parametrize("most", [0, 3, 12])
def test_pad_sequences(padding: Any, truncating: Any, maxlen: int, most: int) -> None:
    lists, column = ragged(maxlen + most, most, tokens=50)
    options = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": -1}
    cell, shape = cell_of({"PadSequences": options}, (None, None))
    assert shape == (None, maxlen)
    out = cell.layer.forward_ragged(cell, torch.from_numpy(column.values), torch.from_numpy(column.offsets))
    assert out.dtype is torch.int64
    close(out, keras.utils.pad_sequences(lists, **options), "rows")


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("shape", [(3,), (5,), (8,), (3, 2), (8, 2)])
def test_pad_sequences_of_equal_length(padding: Any, truncating: Any, shape: tuple[int, ...]) -> None:
    x = rows(4, *shape)
    options = {"maxlen": 5, "padding": padding, "truncating": truncating}
    cell, out_shape = cell_of({"PadSequences": options}, (None, *shape))
    out = cell(torch.from_numpy(x))
    assert tuple(out.shape)[1:] == out_shape[1:]
    close(out, keras.utils.pad_sequences(list(x), dtype="float32", **options), "rows")


def test_pad_sequences_is_ours() -> None:
    layer = Layer.parse({"PadSequences": {"maxlen": 5}})
    assert Layer.parse(layer.spec()) == layer
    assert (layer.to_keras()["module"], layer.to_keras()["registered_name"]) == (None, "trainer>PadSequences")
    with pytest.raises(ValueError, match="rows with a length"):
        layer.build(Plan(), (None,))


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        ({"CategoryEncoding": {"output_mode": "one_hot"}}, "num_tokens"),
        ({"CategoryEncoding": {"num_tokens": 0}}, "num_tokens"),
        ({"CategoryEncoding": {"num_tokens": 5, "output_mode": "int"}}, "output_mode"),
        ({"CategoryEncoding": {"num_tokens": 5, "sparse": True}}, "sparse"),
        ({"Rescaling": {"scale": "a"}}, "scale"),
        ({"Rescaling": {"scale": [1, [2, 3]]}}, "scale"),
        ({"Rescaling": {"scale": []}}, "scale"),
        ({"Normalization": {"axis": 1.5}}, "axis"),
        ({"PadSequences": {"maxlen": 5, "padding": "same"}}, "padding"),
    ],
)
def test_refuses_options(spec: Any, option: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse(spec)
    assert problems_of(caught.value)[0].path == (next(iter(spec)), option)


def test_rescaling_refuses_what_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"offset of shape \(2,\) does not fit input of shape \(None, 3\)"):
        Layer.parse({"Rescaling": {"scale": 1, "offset": [1, 2]}}).build(Plan(), (None, 3))
