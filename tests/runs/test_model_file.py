"""What is put into a model file comes back bit for bit: weights, types, optimizer state, all that `extra` holds."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from keras.src.legacy.saving.legacy_h5_format import load_attributes_from_hdf5_group

from tests.parity.optimizers import WRAPPERS
from tests.train.recipes import DIGITS, trained
from trainer.errors import RunError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.model.network import Network
from trainer.optimizers.base import Optimizer
from trainer.optimizers.updater import Updater
from trainer.optimizers.updaters import Updaters, updater_of
from trainer.runs.directory import RunDirectory
from trainer.runs.image import HEADER_LIMIT
from trainer.runs.model_file import model_bytes, read_model, weights_bytes
from trainer.runs.packing import pack, unpack
from trainer.train.job import Options
from trainer.train.state import load_weights
from trainer.train.use import OpenRun


def network(layers: list[Any], shape: tuple[int, ...], seed: int = 1) -> Network:
    return Network(chain([Layer.parse(layer) for layer in layers], {"x": (None, *shape)}), seed)


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert ours.tobytes() == theirs.tobytes()


MIXED = [
    {"Conv2D": {"filters": 3, "kernel_size": 2}},
    "BatchNormalization",
    {"Reshape": {"target_shape": [9, 3]}},
    {"GRU": {"units": 4, "return_sequences": True}},
    {"LSTM": {"units": 5, "trainable": False}},
    "LayerNormalization",
    {"Dense": {"units": 2}},
]


def test_every_bit_of_a_weight() -> None:
    """Also not-a-numbers with a payload, negative zeros, subnormal numbers and infinities."""
    made = network(MIXED, (4, 4, 2))
    random = np.random.default_rng(0)
    with torch.no_grad():
        for _, _, tensor, _ in made.rows():
            noise = random.integers(0, 2**32, tensor.shape, "uint32").view("float32")
            tensor.copy_(torch.from_numpy(noise))
    found = read_model(model_bytes(made, None, {}))
    assert list(found.weights) == list(made.graph.layers)
    theirs = [a for held in found.weights.values() for a in held]
    for (_, path, tensor, _), array in zip(made.rows(), theirs, strict=True):
        assert tensor.numpy(force=True).tobytes() == array.tobytes(), path
        assert array.dtype == np.float32
    assert any(np.isnan(a).any() for a in theirs)


def test_every_type_of_weight() -> None:
    found = read_model(model_bytes(network(["Normalization", {"Dense": {"units": 2}}], (3,)), None, {}))
    assert [str(a.dtype) for a in found.weights["normalization"]] == ["float32", "float32", "int32"]
    assert [a.shape for a in found.weights["normalization"]] == [(3,), (3,), ()]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc/.$\n ß", max_size=4), inner, max_size=3),
    max_leaves=12,
)
KINDS = st.sampled_from(["?", "u1", "i2", "i4", "i8", "f2", "f4", "f8"])
ARRAYS = KINDS.flatmap(lambda kind: arrays(kind, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
STATES = st.dictionaries(st.text("abc", max_size=3), PLAIN | ARRAYS | st.lists(ARRAYS, max_size=2), max_size=4)


def equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, np.ndarray):
        same_bits(ours, theirs)
        return True
    if isinstance(ours, float):
        same_sign = math.copysign(1, ours) == math.copysign(1, theirs) or ours != ours
        return type(theirs) is float and same_sign and (ours == theirs or (ours != ours and theirs != theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(v, theirs[k]) for k, v in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


@settings(max_examples=60, deadline=None)
@given(STATES)
def test_any_state(state: dict[str, Any]) -> None:
    words, held = pack(state)
    assert equal(state, unpack(words, held))
    made = model_bytes(network([{"Dense": {"units": 1}}], (1,)), None, state)
    assert equal(state, read_model(made).extra)
    assert made == model_bytes(network([{"Dense": {"units": 1}}], (1,)), None, state), "equal content, equal bytes"


@pytest.mark.parametrize("key", ["$array", "$float"])
def test_a_state_that_reads_as_a_mark(key: str) -> None:
    """A mapping that would come back as an array or a number is refused, and with one more key comes back as it is."""
    with pytest.raises(TypeError, match="can't be kept"):
        pack({"a": {key: "0"}, "b": np.ones(2)})
    state = {"a": {key: "0", "more": 1}}
    assert unpack(*pack(state)) == state


@pytest.mark.parametrize("name", sorted({c.__name__ for c in Optimizer.spellings().values()}))
def test_state_of_every_optimizer(name: str) -> None:
    """Two steps, the file, two more: the same bits as four steps."""

    def fresh() -> tuple[Network, Updater | Updaters]:
        made = network([{"Dense": {"units": 3}}, {"Dense": {"units": 2}}], (4,))
        rows = [r for r in made.rows() if r[3]]
        weights = [(spec, tensor) for spec, _, tensor, _ in rows]
        optimizer = Optimizer.parse({name: WRAPPERS.get(name, {})})
        return made, updater_of(optimizer, weights, [path for _, path, _, _ in rows])

    def step(made: Network, updater: Updater | Updaters, number: int) -> None:
        x = torch.from_numpy(np.random.default_rng(number).normal(size=(8, 4)).astype("float32"))
        loss = made(x).square().sum()
        with torch.no_grad():
            updater.apply(torch.autograd.grad(loss, updater.parameters))

    straight, updater = fresh()
    for number in range(4):
        step(straight, updater, number)
    first, updater = fresh()
    for number in range(2):
        step(first, updater, number)
    found = read_model(model_bytes(first, None, {"optimizer": updater.state()}))
    second, updater = fresh()
    second.set_weights([a for held in found.weights.values() for a in held])
    updater.load_state(found.extra["optimizer"])
    for number in (2, 3):
        step(second, updater, number)
    for ours, theirs in zip(straight.get_weights(), second.get_weights(), strict=True):
        same_bits(ours, theirs)


@pytest.mark.parametrize(("count", "pieces"), [(1008, 1), (1009, 2), (2100, 3)])
def test_lists_of_names_beyond_an_attribute(count: int, pieces: int) -> None:
    """64,512 bytes of names fill an attribute; more are cut in Keras's way, and Keras's own reader joins them."""
    names = [f"{n:064}" for n in range(count)]
    layers = [{"Identity": {"name": n}} for n in names[:-2]] + [{"Dense": {"units": 2, "name": n}} for n in names[-2:]]
    made = network(layers, (3,))
    data = model_bytes(made, None, {})
    with h5py.File(io.BytesIO(data)) as file:
        group = file["model_weights"]
        kept = [n for n in group.attrs if n.startswith("layer_names")]
        assert len(kept) == pieces
        assert ("layer_names" in group.attrs) == (pieces == 1)
        assert all(group.attrs[n].nbytes <= HEADER_LIMIT for n in kept)
        assert load_attributes_from_hdf5_group(group, "layer_names") == names
        assert len(file.attrs["model_config"]) > HEADER_LIMIT
    found = read_model(data)
    assert list(found.weights) == names
    for ours, theirs in zip(made.get_weights(), [a for held in found.weights.values() for a in held], strict=True):
        same_bits(ours, theirs)


def test_equal_runs_leave_equal_bytes(tmp_path: Path) -> None:
    """No clock, no path and no order of a set stands in the file."""
    first, second = (trained(tmp_path / n, DIGITS, "fit.epochs=2").directory for n in ("one", "another"))
    for name in ("model.h5", "history.csv", "metrics.json", "resolved.yaml"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert str(tmp_path).encode() not in (first / "model.h5").read_bytes()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_weights_alone_in_keras(tmp_path: Path) -> None:
    made = network(MIXED, (4, 4, 2), seed=7)
    (tmp_path / "model.h5").write_bytes(model_bytes(made, None, {}))
    (tmp_path / "only.weights.h5").write_bytes(weights_bytes(made))
    theirs = keras.models.load_model(tmp_path / "model.h5", compile=False)
    for variable in theirs.weights:
        variable.assign(np.full(variable.shape, 9, "float32"))
    theirs.load_weights(tmp_path / "only.weights.h5")
    for ours, variable in zip(weights_of_layers(made), weights_of_layers(theirs), strict=True):
        same_bits(ours, variable)


def weights_of_layers(model: Any) -> list[np.ndarray]:
    if isinstance(model, Network):
        return model.get_weights()
    return [v.value.numpy(force=True) for layer in model.layers for v in layer.weights]


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    one = trained(tmp_path, DIGITS, "fit.epochs=1").directory
    made = OpenRun(RunDirectory(one), Options(device="cpu"))
    for layers in ([{"Dense": {"units": 3}}], [{"Dense": {"units": 32}}, "Dropout", {"Dense": {"units": 9}}]):
        layers = [{"Dropout": {"rate": 0.3}} if layer == "Dropout" else layer for layer in layers]
        other = read_model(model_bytes(network(layers, (64,)), None, {}))
        with pytest.raises(RunError, match="the weights do not fit the recipe"):
            load_weights(made.built, other)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_file_of_keras_is_no_run_to_go_on_with(tmp_path: Path) -> None:
    """Its weights are read, and the state that `resume` needs is missed by name."""
    folder = trained(tmp_path, DIGITS, "fit.epochs=1").directory
    model = keras.models.load_model(folder / "model.h5")
    model.save(tmp_path / "keras.h5")
    found = read_model(tmp_path / "keras.h5", stranger=True)
    assert found.extra == {}
    assert found.training_config is not None
    ours = read_model(folder / "model.h5")
    for name, held in ours.weights.items():
        for a, b in zip(held, found.weights[name], strict=True):
            same_bits(a, b)
    (folder / "model.h5").write_bytes((tmp_path / "keras.h5").read_bytes())
    with pytest.raises(RunError, match="no training state of ours"):
        OpenRun(RunDirectory(folder), Options(device="cpu"))
