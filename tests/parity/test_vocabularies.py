"""The layers that read texts and categories, held against Keras.

Discretization runs on Keras's torch backend. Hashing, HashedCrossing, StringLookup, IntegerLookup and TextVectorization
need TensorFlow even there: they are held against what Keras 3.15.1 computed on TensorFlow 2.21 for drawn configurations
(`drawn/`), against the examples in Keras's documentation, and their hashes against a second reading of the papers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch

from tests.parity.census import held
from tests.parity.harness import close, twin_of
from trainer.layers.base import Layer
from trainer.layers.hashes import buckets, fingerprints
from trainer.layers.host import HostLayer, Learner
from trainer.layers.plan import Plan
from trainer.recipe.dataset import Feature
from trainer.sources.columns import Ragged
from trainer.train.pipeline import Pipeline, beside

DRAWN = json.loads((Path(__file__).parent / "drawn" / "preprocessing.json").read_text(encoding="utf-8"))
EVERY = [pytest.param(name, i, id=f"{name}-{i}") for name, draws in DRAWN.items() for i in range(len(draws))]
NEED_TENSORFLOW = ["Hashing", "HashedCrossing", "StringLookup", "IntegerLookup", "TextVectorization"]


def column(values: Any) -> np.ndarray:
    found = np.array(values, object)
    kinds = {type(v) for v in found.reshape(-1).tolist()}
    return found if kinds == {str} else found.astype("float32" if float in kinds else "int64")


def pipeline(name: str, options: dict[str, Any], x: np.ndarray, rows: np.ndarray | None = None) -> Pipeline:
    """The layer as a feature's preprocessing, adapted to `rows`."""
    made = Pipeline(Feature(preprocess=(Layer.parse({name: options}),)), (None, *x.shape[1:]), "x")
    if rows is not None:
        made.adapt(rows)
    return made


def made_by(name: str, draw: dict[str, Any]) -> tuple[Pipeline, Any]:
    """(the pipeline, its output) for a drawn configuration."""
    x = beside([column(c)[:, 0] for c in draw["columns"]], whole=True) if "columns" in draw else column(draw["x"])
    made = pipeline(name, draw["options"], x, column(draw["adapt"]) if "adapt" in draw else None)
    layer = made.cells[0].layer
    assert isinstance(layer, HostLayer)
    return made, made.begin(x) if layer.makes_text() else made(x)


@pytest.mark.parametrize(("name", "number"), EVERY)
def test_drawn_configurations(name: str, number: int) -> None:
    draw = DRAWN[name][number]
    made, out = made_by(name, draw)
    layer = made.cells[0].layer
    held(layer, number)
    expected = np.array(draw["out"], out.dtype if isinstance(out, np.ndarray) else None)
    if "vocabulary" in draw:
        specials = 2 if name == "TextVectorization" and draw["options"]["output_mode"] == "int" else 1
        start = layer.start() if name != "TextVectorization" else specials
        assert list(layer.vocabulary) == draw["vocabulary"][start:]
    if isinstance(out, torch.Tensor):
        assert [n for n in made.shape[1:] if n is not None] == [
            m for n, m in zip(made.shape[1:], out.shape[1:], strict=True) if n is not None
        ]
        assert out.dtype is (torch.int64 if draw["options"].get("output_mode", "int") == "int" else torch.float32)
    close(
        np.asarray(out, "float64") if isinstance(out, torch.Tensor) else out,
        expected,
        f"{name} {draw['options']}",
        2e-6,
    )


def test_how_many_were_drawn() -> None:
    assert {name: len(draws) for name, draws in DRAWN.items()} == {
        "Hashing": 150, "HashedCrossing": 100, "StringLookup": 200, "IntegerLookup": 200, "TextVectorization": 200,
    }  # fmt: skip


@pytest.mark.parametrize("name", NEED_TENSORFLOW)
def test_keras_needs_tensorflow_for_it(name: str) -> None:
    """Why the oracle is a file here; should this fail one day, hold the layer against Keras itself."""
    needed = {"num_bins": 3} if name.startswith("Hash") else {}
    with pytest.raises(ImportError, match="requires TensorFlow"):
        getattr(keras.layers, name)(**needed)


@pytest.mark.parametrize("name", ["StringLookup", "IntegerLookup", "TextVectorization"])
@pytest.mark.parametrize("number", range(0, 200, 9))
def test_what_was_learned_is_restored(name: str, number: int) -> None:
    draw = DRAWN[name][number]
    made, out = made_by(name, draw)
    again = Pipeline(made.feature, made.start, "x")
    again.load_state(made.state())
    assert again.shape == made.shape
    assert again.state().keys() == made.state().keys()
    x = column(draw["x"])
    restored = again.begin(x) if isinstance(out, np.ndarray) else again(x)
    np.testing.assert_array_equal(np.asarray(restored), np.asarray(out))


def drawn_bins(seed: int) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    r = np.random.default_rng(seed)
    mode = ["int", "one_hot", "multi_hot", "count"][seed % 4]
    shape = [(5,), (5, 1), (5, 3), (4, 3, 2)][
        r.integers(4 if mode in ("int", "one_hot") else 2, 4) if mode[0] in "mc" else r.integers(4)
    ]
    data = r.normal(0, r.choice([0.01, 1, 1000]), (int(r.choice([2, 7, 60, 400, 3000])), *shape[1:])).astype("float32")
    if r.random() < 0.3:
        data = np.round(data)
    options: dict[str, Any] = {"output_mode": mode}
    if r.random() < 0.4:
        options["bin_boundaries"] = np.sort(r.normal(0, 1, r.integers(1, 9)).astype("float32").astype(float)).tolist()
    else:
        options |= {"num_bins": int(r.integers(1, 60)), "epsilon": float(r.choice([0.01, 0.05, 0.001, 0.3]))}
    x = r.normal(0, 1, shape).astype("float32") * (np.abs(data).max() + 1e-3)
    return options, data, x


@pytest.mark.parametrize("seed", range(400))
def test_discretization(seed: int) -> None:
    options, data, x = drawn_bins(seed)
    layer = Layer.parse({"Discretization": options})
    assert isinstance(layer, Learner)
    twin = twin_of(layer, (None, *x.shape[1:]))
    if layer.is_open():
        layer = layer.learned(data[i : i + 64] for i in range(0, len(data), 64))
        # `adapt` itself asks for TensorFlow; these are its steps.
        twin.reset_state()
        twin.update_state(data)
        twin.finalize_state()
        close(np.array(layer.bin_boundaries), np.array(twin.bin_boundaries), "boundaries", 1e-7)
    out = layer.forward(Plan(), torch.from_numpy(x))
    close(out, twin(x), f"{options}")
    assert layer.build(Plan(), (None, *x.shape[1:]))[1:] == tuple(out.shape[1:])


EXAMPLES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("Hashing", {"num_bins": 3}, [["A"], ["B"], ["C"], ["D"], ["E"]], [[1], [0], [1], [1], [2]]),
    ("Hashing", {"num_bins": 3, "mask_value": ""}, [["A"], ["B"], [""], ["C"], ["D"]], [[1], [1], [0], [2], [2]]),
    ("Hashing", {"num_bins": 3, "salt": [133, 137]}, [["A"], ["B"], ["C"], ["D"], ["E"]], [[1], [2], [1], [0], [2]]),
    ("Hashing", {"num_bins": 3, "salt": 133}, [["A"], ["B"], ["C"], ["D"], ["E"]], [[0], [0], [2], [1], [0]]),
    ("HashedCrossing", {"num_bins": 5}, [["A", 101], ["B", 101], ["A", 101], ["B", 102], ["A", 102]],
        [[1], [4], [1], [1], [3]]),
    ("StringLookup", {"vocabulary": ["a", "b", "c", "d"]}, [["a", "c", "d"], ["d", "z", "b"]], [[1, 3, 4], [4, 0, 2]]),
    ("StringLookup", {"vocabulary": ["a", "b", "c", "d"], "num_oov_indices": 2}, [["a", "c", "d"], ["m", "z", "b"]],
        [[2, 4, 5], [0, 1, 3]]),
    ("StringLookup", {"vocabulary": ["a", "b", "c", "d"], "output_mode": "count"},
        [["a", "c", "d", "d"], ["d", "z", "b", "z"]], [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]]),
    ("StringLookup",
        {"vocabulary": ["a", "b", "c", "d"], "output_mode": "tf_idf", "idf_weights": [0.25, 0.75, 0.6, 0.4]},
        [["a", "c", "d", "d"], ["d", "z", "b", "z"]], [[0, 0.25, 0, 0.6, 0.8], [1.0, 0, 0.75, 0, 0.4]]),
    ("StringLookup", {"vocabulary": ["[UNK]", "a", "b"], "output_mode": "tf_idf", "idf_weights": [0.9, 0.25, 0.75]},
        [["a", "b", "z", "z"]], [[1.8, 0.25, 0.75]]),
    ("IntegerLookup", {"vocabulary": [12, 36, 1138, 42], "invert": True}, [[1, 3, 4], [4, 0, 2]],
        [[12, 1138, 42], [42, -1, 36]]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "x", "expected"), EXAMPLES)
def test_examples_of_the_documentation(name: str, options: dict[str, Any], x: Any, expected: Any) -> None:
    raw = np.array(x, object) if isinstance(x[0][0], str) else np.array(x)
    out = pipeline(name, options, raw)(raw)
    np.testing.assert_allclose(np.asarray(out), expected, rtol=1e-6)


def test_text_example_of_the_documentation() -> None:
    rows = np.array([["foo bar"], ["bar baz"], ["baz bada boom"]], object)
    made = pipeline("TextVectorization", {"max_tokens": 5000, "output_sequence_length": 4}, rows, rows)
    out = made(np.array([["foo qux bar"], ["qux baz"]], object))
    # The page counts "bar" as 3 and "foo" as 4.
    assert out.tolist() == [[4, 1, 3, 0], [1, 2, 0, 0]]


def sip_plainly(text: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4 step by step, as its authors print it."""
    mask = 2**64 - 1
    v = [
        k ^ int.from_bytes(b, "big")
        for k, b in zip(key * 2, (b"somepseu", b"dorandom", b"lygenera", b"tedbytes"), strict=True)
    ]

    def turn(x: int, by: int) -> int:
        return (x << by | x >> 64 - by) & mask

    def mix(times: int) -> None:
        for _ in range(times):
            for a, b, first, second in ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
                v[a] = (v[a] + v[b]) & mask
                v[b] = turn(v[b], first) ^ v[a]
                v[a] = turn(v[a], second) if second else v[a]

    padded = text + bytes(7 - len(text) % 8) + bytes([len(text) & 255])
    for at in range(0, len(padded), 8):
        word = int.from_bytes(padded[at : at + 8], "little")
        v[3] ^= word
        mix(2)
        v[0] ^= word
    v[2] ^= 255
    mix(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_siphash() -> None:
    """The authors' own vector (key 00 to 0f, message 00 to 0e), and strings of every length."""
    key = tuple(int.from_bytes(bytes(range(i, i + 8)), "little") for i in (0, 8))
    assert sip_plainly(bytes(range(15)), (key[0], key[1])) == 0xA129CA6149BE45E5
    texts = [bytes((7 * i + n) % 256 for i in range(n)) for n in range(200)]
    for salt in ((1, 2), (key[0], key[1]), (2**63 + 5, 0)):
        assert buckets(texts, 2**61, salt).tolist() == [sip_plainly(t, salt) % 2**61 for t in texts]


def test_farmhash_looks_at_each_byte_and_at_the_length() -> None:
    """A fingerprint changes with every byte of every way of hashing, and does not depend on its neighbours."""
    for length in (0, 1, 3, 4, 7, 8, 16, 17, 32, 33, 64, 65, 127, 128, 129, 200):
        text = bytes(range(50, 50 + length)) if length < 200 else bytes(i % 251 for i in range(length))
        changed = [text[:i] + bytes([text[i] ^ 1]) + text[i + 1 :] for i in range(length)]
        found = fingerprints([text, *changed, text + b"\0"])
        assert len(set(found.tolist())) == length + 2
        assert found[0] == fingerprints([text])[0]


def test_the_fingerprint_of_known_strings() -> None:
    """FarmHash64's published self-test constants for the empty string and TensorFlow's for a word."""
    assert fingerprints([b""])[0] == 0x9AE16A3B2F90404F
    assert buckets([b"Hello", b"TensorFlow", b"2.x"], 3).tolist() == [0, 2, 2]


def test_lists_of_unequal_length_are_looked_up_row_by_row() -> None:
    lists = [[5, 7], [], [7, 7, 9, 1]]
    made = Pipeline(Feature(preprocess=(Layer.parse({"IntegerLookup": {"output_mode": "tf_idf"}}),)), (None, None), "x")
    made.adapt(Ragged.of(lists))
    layer = made.cells[0].layer
    assert layer.vocabulary == (7, 9, 5, 1)
    assert layer.idf_weights == pytest.approx(
        [np.log(1 + 3 / 3), np.log(1 + 3 / 2), np.log(1 + 3 / 2), np.log(1 + 3 / 2)]
    )
    out = made(Ragged.of([[7, 7, 8], []]))
    mean = float(np.mean(layer.idf_weights))
    np.testing.assert_allclose(out.numpy(), [[mean, 2 * layer.idf_weights[0], 0, 0, 0], [0] * 5], rtol=1e-6)
    whole = Pipeline(Feature(preprocess=(Layer.parse("IntegerLookup"), Layer.parse({"PadSequences": {"maxlen": 3}}))),
                     (None, None), "x")  # fmt: skip
    whole.adapt(Ragged.of(lists))
    assert whole(Ragged.of([[9], [7, 2, 5, 1]])).tolist() == [[0, 0, 2], [0, 3, 4]]
