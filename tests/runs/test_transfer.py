"""Weights files of every kind, the places in `.weights.h5`, and what a transfer says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
import yaml

from tests.parity.test_transfer import network, same, twin_of, values
from tests.runs.zoo import OTHERS, PIPELINES
from trainer.errors import FileError, RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.model.network import Network
from trainer.runs.model_file import model_bytes, read_model, weights_bytes
from trainer.runs.places import parts
from trainer.runs.transfer import load_weights_of
from trainer.runs.weights_file import ByLayer, ByPlace, Saved, numbers, read_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Keras's layers that count dropped steps, skipped because nothing stands there.
    pytest.mark.filterwarnings("ignore:Skipping nested container"),
]

ANIMALS = [
    (f"{kind}-{number}", shape, text)
    for kind, animals in {**OTHERS, **PIPELINES}.items()
    for number, (shape, text) in enumerate(animals)
]


def animal(shape: Any, text: str, seed: int) -> tuple[Network, Any]:
    """A layer of the zoo and what stands beside it, of ours and of Keras."""
    layers = [Layer.parse(spec) for spec in yaml.safe_load(f"[{{{text}}}]")]
    shape = tuple(n for n in shape if n != "ids")
    made = Network(chain(layers, {"x": (None, *shape)}), seed)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for _, _, tensor, _ in made.rows():
            tensor.copy_(torch.from_numpy(np.array(random.normal(size=tuple(tensor.shape)))))
    return made, twin_of(made, shape)


@pytest.mark.parametrize(("shape", "text"), [a[1:] for a in ANIMALS], ids=[a[0] for a in ANIMALS])
def test_places_are_those_of_keras(shape: Any, text: str, tmp_path: Path) -> None:
    """Every weight of every layer stands where Keras puts it, and comes from there."""
    made, model = animal(shape, text, 1)
    model.save_weights(tmp_path / "x.weights.h5")
    found = read_weights(tmp_path / "x.weights.h5")
    assert isinstance(found, ByPlace)
    theirs = {place: held for place, held in found.places.items() if held and "seed_generator" not in place}
    ours = {part.place: part.weights for part in parts(made) if part.weights}
    assert ours.keys() == theirs.keys()
    for place, rows in ours.items():
        assert [str(n) for n in range(len(rows))] == sorted(theirs[place], key=int)
        same([t.numpy(force=True) for _, t in rows], [theirs[place][str(n)] for n in range(len(rows))], place)
    other, _ = animal(shape, text, 2)
    transfer = load_weights_of(other, found)
    same(other.get_weights(), made.get_weights(), "loaded")
    assert {line.happened for line in transfer.lines} <= {"loaded"}


def test_the_zoo_was_seen() -> None:
    assert len(ANIMALS) > 80


DENSE = [("Dense", {"units": 3, "name": "a"}), ("Dense", {"units": 2, "name": "b"})]


def test_attention_by_place(tmp_path: Path) -> None:
    """Layers of several inputs, which the zoo's chains can't hold."""
    x = keras.Input((4, 6))
    for theirs, ours in (
        (keras.layers.MultiHeadAttention(2, 3), {"MultiHeadAttention": {"num_heads": 2, "key_dim": 3}}),
        (
            keras.layers.GroupQueryAttention(3, 4, 2),
            {"GroupQueryAttention": {"head_dim": 3, "num_query_heads": 4, "num_key_value_heads": 2}},
        ),
    ):
        keras.Model(x, theirs(x, x)).save_weights(tmp_path / "x.weights.h5")
        found = read_weights(tmp_path / "x.weights.h5")
        assert isinstance(found, ByPlace)
        made = attending(ours)
        assert {p.place for p in parts(made) if p.weights} == {p for p, held in found.places.items() if held}
        load_weights_of(made, found)
        same(made.get_weights(), [np.asarray(v.value.numpy(force=True)) for v in theirs.weights], "attention")


def attending(spec: Any) -> Network:
    from trainer.layers.graph import grown
    from trainer.layers.wiring import wire

    layer = Layer.parse({name: {**options, "inputs": ["x", "x"]} for name, options in spec.items()})
    return Network(grown(wire([layer], ["x"]), {"x": (None, 4, 6)}))


def saved(made: Network) -> ByLayer:
    found = read_weights(model_bytes(made, None, {}))
    assert isinstance(found, ByLayer)
    return found


def test_what_a_transfer_says() -> None:
    here = network([*DENSE, ("Dense", {"units": 2, "name": "c"}), ("BatchNormalization", {"name": "d"})], (4,), 1)
    there = network([("Dense", {"units": 3, "name": "a"}), ("Dense", {"units": 5, "name": "b"}),
                     ("Dense", {"units": 7, "name": "e"}), ("BatchNormalization", {"scale": False, "name": "d"})],
                    (4,), 2)  # fmt: skip
    transfer = load_weights_of(here, saved(there), by_name=True, skip_mismatch=True)
    assert [(line.layer, line.happened, line.reason) for line in transfer.lines] == [
        ("a", "loaded", "2 weights"),
        ("b", "skipped", "kernel: shape (3, 5) in the file, (3, 2) here; bias: shape (5,) in the file, (2,) here"),
        ("c", "left", "no layer of that name in the file"),
        ("d", "skipped", "3 weights in the file, 4 here"),
        ("e", "absent", "no layer of that name here"),
    ]
    assert str(transfer) == "1 loaded, 2 skipped, 1 left as they were, 1 in the file alone"
    assert transfer.table().splitlines()[0] == "a  loaded   2 weights"
    assert transfer.count("skipped") == 2


def test_part_of_a_layer() -> None:
    here, there = (network([("Dense", {"units": 3, "name": "a"})], (n,), n) for n in (4, 5))
    transfer = load_weights_of(here, saved(there), skip_mismatch=True)
    assert [(line.happened, line.reason) for line in transfer.lines] == [
        ("in part", "kernel: shape (5, 3) in the file, (4, 3) here")
    ]
    same(here.get_weights()[1:], there.get_weights()[1:], "bias")


def test_every_misfit_is_said_at_once_and_nothing_is_written() -> None:
    here = network([*DENSE, ("Dense", {"units": 4, "name": "c"})], (4,), 1)
    there = network([("Dense", {"units": 5, "name": "a"}), ("Dense", {"units": 2, "use_bias": False, "name": "b"}),
                     ("Dense", {"units": 9, "name": "x"})], (4,), 2)  # fmt: skip
    before = here.get_weights()
    with pytest.raises(RecipeError) as caught:
        load_weights_of(here, saved(there))
    assert [p.message for p in caught.value.problems] == [
        "a: kernel: shape (4, 5) in the file, (4, 3) here",
        "a: bias: shape (5,) in the file, (3,) here",
        "b: 1 weight in the file, 2 here",
        "c (from x in the file): kernel: shape (2, 9) in the file, (2, 4) here",
        "c (from x in the file): bias: shape (9,) in the file, (4,) here",
    ]
    with pytest.raises(RecipeError, match=r"layers with weights, found 3 \(a, b, x\) in the file and 2 \(a, b\) here"):
        load_weights_of(network(DENSE, (4,), 3), saved(there))
    with pytest.raises(RecipeError, match="which has places by class and no names"):
        load_weights_of(here, read_weights(weights_bytes(there)), by_name=True)
    same(here.get_weights(), before, "refused")


def test_a_read_model_is_taken_too() -> None:
    here, there = network(DENSE, (4,), 1), network(DENSE, (4,), 2)
    assert load_weights_of(here, read_model(model_bytes(there, None, {})), by_name=True).count("loaded") == 2
    same(here.get_weights(), there.get_weights(), "loaded")


FREEZABLE: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "Pipeline": (
        {"layers": [{"Dense": {"units": 3}}, "BatchNormalization", {"Dense": {"units": 3}}, "BatchNormalization"]},
        (3,),
    ),
    "SpectralNormalization": ({"layer": {"Dense": {"units": 3}}}, (3,)),
    "Bidirectional": ({"layer": {"GRU": {"units": 3}}}, (4, 3)),
}


@pytest.mark.parametrize("kind", FREEZABLE)
@pytest.mark.parametrize("frozen", ["here", "there"])
def test_freezing_does_not_mix_weights_up(kind: str, frozen: str) -> None:
    """Keras lists the weights of a frozen layer in another order, and loads them where they do not belong."""
    options, shape = FREEZABLE[kind]
    here, there = (
        network([(kind, {**options, "trainable": frozen != place})], shape, seed)
        for seed, place in enumerate(("here", "there"), 1)
    )
    transfer = load_weights_of(here, saved(there))
    assert transfer.count("loaded") == 1
    by_path = {path: t for _, path, t, _ in there.rows()}
    for _, path, tensor, _ in here.rows():
        assert torch.equal(tensor, by_path[path]), path
    assert ("by their names" in transfer.lines[0].reason) == (kind != "Bidirectional")


def test_keras_mixes_them_up(tmp_path: Path) -> None:
    """The reason for the test above; when Keras changes it, ours can follow."""
    options, shape = FREEZABLE["Pipeline"]
    here, there = (network([("Pipeline", {**options, "trainable": t})], shape, n) for n, t in enumerate((False, True)))
    (tmp_path / "x.h5").write_bytes(model_bytes(there, None, {}))
    theirs = twin_of(here, shape)
    with pytest.raises(ValueError, match="Shape mismatch"):
        theirs.load_weights(tmp_path / "x.h5")
    two = {"layers": ["BatchNormalization", "BatchNormalization"]}
    here, there = (network([("Pipeline", {**two, "trainable": t})], shape, n) for n, t in enumerate((False, True)))
    (tmp_path / "x.h5").write_bytes(model_bytes(there, None, {}))
    theirs = twin_of(here, shape)
    theirs.load_weights(tmp_path / "x.h5")
    by_path = {path: t.numpy(force=True) for _, path, t, _ in there.rows()}
    loaded = {v.path.split("/", 1)[1]: v.value.numpy(force=True) for v in theirs.layers[0].weights}
    wrong = [path for path, array in loaded.items() if (by_path[path] != array).any()]
    assert len(wrong) == 4


@pytest.mark.parametrize("frozen", [False, True])
def test_models_inside_models(frozen: bool, tmp_path: Path) -> None:
    """A model inside is one layer of the file; its layers have places of their own."""
    inside = [("Dense", {"units": 3, "name": "a"}), ("BatchNormalization", {"name": "b"}),
              ("Dense", {"units": 3, "name": "c"})]  # fmt: skip
    inner = {"layers": [{kind: options} for kind, options in inside], "name": "base", "trainable": not frozen}
    base = keras.Sequential([keras.Input((3,)), *(getattr(keras.layers, k)(**o) for k, o in inside)], name="base")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="first"), base])
    for number, variable in enumerate(model.weights):
        variable.assign(np.random.default_rng(number).normal(size=variable.shape))
    model.save_weights(tmp_path / "x.weights.h5")
    model.save(tmp_path / "x.h5")
    for name in ("x.weights.h5", "x.h5"):
        here = network([("Dense", {"units": 3, "name": "first"}), ("Sequential", inner)], (4,), 1)
        transfer = load_weights_of(here, read_weights(tmp_path / name), by_name=name == "x.h5")
        assert transfer.count("loaded") == len(transfer.lines) == 2
        theirs = {"/".join(v.path.split("/")[-2:]): v.value.numpy(force=True) for v in model.weights}
        for _, path, tensor, _ in here.rows():
            np.testing.assert_array_equal(tensor.numpy(force=True), theirs[path.removeprefix("base/")], err_msg=path)


def test_weights_of_the_model_itself() -> None:
    here = network(DENSE, (4,), 1)
    file = ByLayer(saved(network(DENSE, (4,), 2)).layers, Saved("top", ("x",), (np.ones(2),)))
    for options in ({}, {"by_name": True}, {"skip_mismatch": True}):
        with pytest.raises(RecipeError, match="1 weight of the model itself in the file, none here"):
            load_weights_of(here, file, **options)
    transfer = load_weights_of(here, file, by_name=True, skip_mismatch=True)
    assert transfer.count("loaded") == 2
    assert transfer.lines[-1].layer == "the model itself"


def test_other_number_types_are_cast() -> None:
    here, there = network(DENSE, (4,), 1), network(DENSE, (4,), 2)
    stream = io.BytesIO(model_bytes(there, None, {}))
    with h5py.File(stream, "r+") as written:
        for layer, kind in (("a", ">f8"), ("b", "float16")):
            for name in ("kernel", "bias"):
                place = f"model_weights/{layer}/model/{layer}/{name}"
                array = numbers(written, place).astype(kind)
                del written[place]
                written[place] = array
    file = read_weights(stream.getvalue())
    assert isinstance(file, ByLayer)
    assert [str(a.dtype) for s in file.layers for a in s.arrays] == ["float64"] * 2 + ["float16"] * 2
    load_weights_of(here, file)
    for ours, theirs in zip(here.get_weights(), [a for s in file.layers for a in s.arrays], strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs.astype("float32"))


def image(**groups: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in groups.items():
            file[name] = value
    return stream.getvalue()


def test_files_without_weights_are_refused() -> None:
    with pytest.raises(FileError, match=r"expected weights .* found other"):
        read_weights(image(other=np.ones(3)))
    with pytest.raises(FileError, match="expected a group layers, found an array"):
        read_weights(image(layers=np.ones(3)))
    with pytest.raises(FileError, match="expected an HDF5 file"):
        read_weights(b"something else entirely", stranger=True)


def test_mutants_of_weights_files_are_read_or_refused() -> None:
    made, random, seen = network(DENSE, (4,), 1), np.random.default_rng(0), {"read": 0, "refused": 0}
    for good in (model_bytes(made, None, {}), weights_bytes(made)):
        for _ in range(150):
            data = bytearray(good)
            for at in random.integers(0, len(data), random.integers(1, 8)):
                data[at] = random.integers(0, 256)
            try:
                file = read_weights(bytes(data))
                load_weights_of(network(DENSE, (4,), 2), file, skip_mismatch=True)
            except (FileError, RecipeError):
                seen["refused"] += 1
            else:
                seen["read"] += 1
    assert seen["read"] > 50
    assert seen["refused"] > 20


def test_a_stranger_is_looked_at_first(tmp_path: Path) -> None:
    made = network(DENSE, (4,), 1)
    model = twin_of(made, (4,))
    model.save_weights(tmp_path / "x.weights.h5")
    load_weights_of(other := network(DENSE, (4,), 2), read_weights(tmp_path / "x.weights.h5", stranger=True))
    same(other.get_weights(), values(model), "stranger")
    (tmp_path / "cut.weights.h5").write_bytes((tmp_path / "x.weights.h5").read_bytes()[:-500])
    with pytest.raises(FileError):
        read_weights(tmp_path / "cut.weights.h5", stranger=True)
