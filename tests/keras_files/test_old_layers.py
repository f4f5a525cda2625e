"""Layers and layouts that no Keras of today has: each against numbers worked out here by plain numpy or real Keras."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from keras import layers as L

from tests.keras_files.loading import loaded_file, network_of, predicted
from tests.keras_files.old_layouts import GENERATIONS, Config, Generation, Named, write, write_arrays
from tests.keras_files.old_models import chain, draw, expected
from trainer.errors import FileError
from trainer.keras_files.current import current
from trainer.keras_files.opening import open_file

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

KERAS_1, KERAS_2 = GENERATIONS["keras 1.2"], GENERATIONS["keras 2.3.1"]
RANDOM = np.random.default_rng(3)


def drawn(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype("float32")


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def sequential(path: Path, layers: list[Config], weights: dict[str, Named], generation: Generation) -> Path:
    config: Any = layers if generation.listed else {"name": "model", "layers": layers}
    return write_arrays(path, {"class_name": "Sequential", "config": config}, weights, generation)


def one(path: Path, kind: str, options: Config, arrays: list[np.ndarray], generation: Generation) -> Path:
    """A chain of one layer."""
    rows = [(f"only_{n}" if generation.keras_1 else f"only/w{n}", a) for n, a in enumerate(arrays)]
    return sequential(path, [{"class_name": kind, "config": {"name": "only", **options}}], {"only": rows}, generation)


def close(found: Any, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_highway(bias: bool, tmp_path: Path) -> None:
    w, carry, b, c, x = drawn(4, 4), drawn(4, 4), drawn(4), drawn(4), drawn(3, 4)
    options = {"init": "glorot_uniform", "activation": "tanh", "bias": bias, "batch_input_shape": [None, 4]}
    path = one(tmp_path / "m.h5", "Highway", options, [w, carry, b, c] if bias else [w, carry], KERAS_1)
    network, _ = loaded_file(path)
    b, c = (b, c) if bias else (np.float32(0), np.float32(0))
    gate = sigmoid(x @ carry + c)
    close(predicted(network, x)[0], gate * np.tanh(x @ w + b) + (1 - gate) * x)


@pytest.mark.parametrize("bias", [True, False])
def test_maxout(bias: bool, tmp_path: Path) -> None:
    w, b, x = drawn(3, 4, 5), drawn(3, 5), drawn(2, 4)
    options = {"output_dim": 5, "nb_feature": 3, "bias": bias, "init": "uniform", "batch_input_shape": [None, 4]}
    network, _ = loaded_file(one(tmp_path / "m.h5", "MaxoutDense", options, [w, b] if bias else [w], KERAS_1))
    products = np.einsum("bi,kio->bko", x, w) + (b if bias else 0)
    close(predicted(network, x)[0], products.max(1))


def test_hard_sigmoid_is_that_of_the_file(tmp_path: Path) -> None:
    x = np.linspace(-4, 4, 41, dtype="float32").reshape(1, 41)
    for generation in (KERAS_1, KERAS_2, GENERATIONS["tf.keras 2.15"]):
        options = {"activation": "hard_sigmoid", "batch_input_shape": [None, 41]}
        network, described = loaded_file(one(tmp_path / "m.h5", "Activation", options, [], generation))
        close(predicted(network, x)[0], np.clip(0.2 * x + 0.5, 0, 1))
        assert any("hard_sigmoid" in note for note in described.notes)
    today = chain((41,), L.Activation("hard_sigmoid"))
    today.save(tmp_path / "today.keras")
    network, described = loaded_file(tmp_path / "today.keras")
    close(predicted(network, x)[0], np.clip(x / 6 + 0.5, 0, 1))
    assert not described.notes


@pytest.mark.parametrize("listed", [True, False])
def test_sequential_of_branches(listed: bool, tmp_path: Path) -> None:
    """Keras 1's way to several inputs: a chain that begins with a Merge of chains, whose weights lie flat."""
    a, b, c = drawn(3, 4), drawn(5, 4), drawn(8, 2)

    def dense(name: str, units: int, reads: int | None) -> Config:
        shape = {"batch_input_shape": [None, reads]} if reads else {}
        return {"class_name": "Dense", "config": {"name": name, "output_dim": units, "bias": False, **shape}}

    branches = [{"class_name": "Sequential", "config": [dense(n, 4, k)]} for n, k in (("left", 3), ("right", 5))]
    merge = {"name": "merge_1", "mode": "concat", "concat_axis": -1, "mode_type": "raw", "layers": branches}
    layers = [{"class_name": "Merge", "config": merge}, dense("out", 2, None)]
    weights = {name: [(f"{name}_W", w)] for name, w in (("left", a), ("right", b), ("out", c))}
    generation = replace(KERAS_1, listed=listed)
    network, _ = loaded_file(sequential(tmp_path / "m.h5", layers, weights, generation))
    x, y = drawn(6, 3), drawn(6, 5)
    close(predicted(network, x, y)[0], np.concatenate([x @ a, y @ b], 1) @ c)


def test_theano_computed_true_convolutions(tmp_path: Path) -> None:
    """sum over i, j of x[r + i, c + j] K[last - i, last - j], from the definition."""
    kernel, x = drawn(2, 3, 2, 4), drawn(1, 5, 6, 2)
    wanted = np.zeros((1, 4, 4, 4), "float32")
    for r in range(4):
        for c in range(4):
            for i in range(2):
                for j in range(3):
                    wanted[0, r, c] += x[0, r + i, c + j] @ kernel[1 - i, 2 - j]
    options = {"filters": 4, "kernel_size": [2, 3], "use_bias": False, "batch_input_shape": [None, 5, 6, 2]}
    path = one(tmp_path / "m.h5", "Conv2D", options, [kernel], GENERATIONS["keras 2.0 theano"])
    close(predicted(loaded_file(path)[0], x)[0], wanted)
    options = {"nb_filter": 4, "nb_row": 2, "nb_col": 3, "bias": False, "dim_ordering": "tf"}
    options |= {"batch_input_shape": [None, 5, 6, 2]}
    path = one(tmp_path / "m1.h5", "Convolution2D", options, [kernel], KERAS_1)
    close(predicted(loaded_file(path, theano=True)[0], x)[0], wanted)
    assert not np.allclose(predicted(loaded_file(path)[0], x)[0], wanted)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_cudnn(kind: str, tmp_path: Path) -> None:
    """cuDNN keeps each gate's matrices by columns, and a bias of the input and one of the state."""
    layer = L.LSTM(3) if kind == "LSTM" else L.GRU(3, reset_after=True)
    model = draw(chain((5, 4), layer))
    kernel, recurrent, bias = (v.value.detach().numpy() for v in layer.weights)
    gates = 4 if kind == "LSTM" else 3
    kernels = np.hstack([k.ravel(order="F").reshape(k.shape) for k in np.hsplit(kernel, gates)])
    recurrents = np.hstack([k.T for k in np.hsplit(recurrent, gates)])
    both = np.concatenate([bias * 0.25, bias * 0.75]) if kind == "LSTM" else bias.ravel()
    options = {"units": 3, "batch_input_shape": [None, 5, 4], "return_sequences": False}
    path = one(tmp_path / "m.h5", f"CuDNN{kind}", options, [kernels, recurrents, both], KERAS_2)
    x = drawn(2, 5, 4)
    close(predicted(loaded_file(path)[0], x)[0], expected(model, [x])[0])


@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_tells_its_kind_by_its_bias(reset_after: bool, tmp_path: Path) -> None:
    layer = L.GRU(3, reset_after=reset_after)
    model = draw(chain((5, 4), layer))

    def forget(described: Config) -> None:
        del described["config"]["layers"][0]["config"]["reset_after"]

    path = write(tmp_path / "m.h5", model, KERAS_2, change=forget)
    x = drawn(2, 5, 4)
    close(predicted(loaded_file(path)[0], x)[0], expected(model, [x])[0])


@pytest.mark.parametrize("graph", [True, False])
def test_activation_that_is_a_layer(graph: bool, tmp_path: Path) -> None:
    start = keras.Input((6, 5, 2))
    conv, leaky = L.Conv2D(3, 2, name="conv"), L.LeakyReLU(0.37)
    after = L.Conv2D(3, 2, padding="same", name="after")
    end = after(leaky(conv(start)))
    model = draw(keras.Model(start, L.Add()([end, after(end)])) if graph else chain((6, 5, 2), conv, leaky, after))
    plain = draw(_with_activation(graph))

    def put(described: Config) -> None:
        for thing in described["config"]["layers"]:
            if thing["config"]["name"] == "conv":
                thing["config"]["activation"] = {"class_name": "LeakyReLU", "config": {"alpha": 0.37}}

    for ours, theirs in zip((x for x in plain.layers if x.weights), (conv, after), strict=True):
        ours.set_weights([v.value.detach().numpy() for v in theirs.weights])
    path = write(tmp_path / "m.h5", plain, KERAS_2, change=put)
    x = drawn(2, 6, 5, 2)
    close(predicted(loaded_file(path)[0], x)[0], expected(model, [x])[0])


def _with_activation(graph: bool) -> Any:
    keras.utils.clear_session()
    conv, after = L.Conv2D(3, 2, name="conv"), L.Conv2D(3, 2, padding="same", name="after")
    if not graph:
        return chain((6, 5, 2), conv, after)
    start = keras.Input((6, 5, 2))
    end = after(conv(start))
    return keras.Model(start, L.Add()([end, after(end)]))


def test_shape_of_the_user_for_a_model_saved_early(tmp_path: Path) -> None:
    w, x = drawn(4, 3), drawn(2, 4)
    layers = [{"class_name": "Dense", "config": {"name": "only", "units": 3, "use_bias": False}}]
    path = sequential(tmp_path / "m.h5", layers, {"only": [("only/kernel", w)]}, KERAS_2)
    with pytest.raises(FileError, match="nothing says the shape"):
        loaded_file(path)
    close(predicted(loaded_file(path, (4,))[0], x)[0], x @ w)


def test_running_std_of_keras_1_is_the_variance(tmp_path: Path) -> None:
    gamma, beta, mean, std = drawn(3), drawn(3), drawn(3), np.abs(drawn(3)) + 0.3
    options = {"mode": 0, "epsilon": 0.001, "axis": -1, "momentum": 0.9, "batch_input_shape": [None, 3]}
    x = drawn(5, 3)
    path = one(tmp_path / "m.h5", "BatchNormalization", options, [gamma, beta, mean, std], KERAS_1)
    close(predicted(loaded_file(path)[0], x)[0], gamma * (x - mean) / np.sqrt(std + 0.001) + beta)


def test_weights_by_name_alone(tmp_path: Path) -> None:
    """Other weights of a file, in another order, by their layers' names."""
    model = draw(chain((4,), L.Dense(4, name="a"), L.Dense(4, name="b")))
    described = open_file(write(tmp_path / "m.h5", model, KERAS_2))
    rows = {n: [(f"{n}/kernel", drawn(4, 4)), (f"{n}/bias", drawn(4))] for n in ("b", "a")}
    weights = open_file(write_arrays(tmp_path / "w.h5", None, rows, KERAS_2))
    network = network_of(weights, current(described), tmp_path)
    x = drawn(2, 4)
    close(predicted(network, x)[0], (x @ rows["a"][0][1] + rows["a"][1][1]) @ rows["b"][0][1] + rows["b"][1][1])


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("Lambda", {"function": ["4wEAAAA=", None, None], "function_type": "lambda"}, "code"),
        ("TFOpLambda", {"function": "math.add"}, "code"),
        ("MyLayer", {"units": 3}, "MyLayer"),
        ("LocallyConnected1D", {"filters": 3}, "LocallyConnected1D"),
        ("LSTM", {"units": 3, "time_major": True}, "time_major"),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 2, "groups": 2}, "groups"),
        ("Dense", {"units": 3, "sparse": True}, "sparse"),
        ("Dense", {"units": 3, "wobble": 0.5}, "wobble"),
        ("Dense", {"units": 3, "activation": "mine"}, "mine"),
        ("BatchNormalization", {"mode": 1}, "mode 1"),
        ("BatchNormalization", {"renorm": True}, "renorm"),
        ("Merge", {"mode": "<lambda>", "mode_type": "lambda"}, "LambdaMerge"),
    ],
)
def test_refused(kind: str, options: Config, says: str, tmp_path: Path) -> None:
    path = one(tmp_path / "m.h5", kind, {"batch_input_shape": [None, 5, 4], **options}, [], KERAS_2)
    with pytest.raises(FileError, match=says) as error:
        current(open_file(path))
    assert "only" in str(error.value)
    assert all(p.hint for p in error.value.problems)


def test_all_unknown_classes_at_once(tmp_path: Path) -> None:
    inner = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": {"class_name": "Odd", "config": {}}}}
    shape = {"batch_input_shape": [None, 2]}
    layers = [{"class_name": k, "config": {"name": f"{k}_1", **shape}} for k in ("Mine", "Lambda")]
    path = sequential(tmp_path / "m.h5", [*layers, inner], {}, KERAS_2)
    with pytest.raises(FileError) as error:
        current(open_file(path))
    for name in ("Mine", "Lambda", "Odd"):
        assert name in str(error.value)


def test_unknown_regularizers_are_left_out_with_a_note(tmp_path: Path) -> None:
    w, x = drawn(4, 3), drawn(2, 4)
    odd = {"class_name": "MyPenalty", "config": {"a": 1}}
    options = {"units": 3, "use_bias": False, "kernel_regularizer": odd, "kernel_initializer": odd}
    path = one(tmp_path / "m.h5", "Dense", {**options, "batch_input_shape": [None, 4]}, [w], KERAS_2)
    network, described = loaded_file(path)
    close(predicted(network, x)[0], x @ w)
    assert sum("MyPenalty" in note for note in described.notes) == 2


def test_description_of_today_passes_unchanged(tmp_path: Path) -> None:
    start = keras.Input((5, 4))
    end = L.LSTM(3, return_sequences=True, kernel_regularizer="l2")(L.Dense(4, activation="gelu")(start))
    inner = chain((3,), L.Dense(2), L.BatchNormalization())
    model = keras.Model(start, L.Average()([inner(L.GlobalMaxPooling1D()(end)), L.Dense(2)(L.Flatten()(end))]))
    model.save(tmp_path / "m.keras")
    opened = open_file(tmp_path / "m.keras")
    assert opened.architecture is not None
    made = current(opened).architecture
    assert made == {k: opened.architecture[k] for k in made}


def test_half_precision_and_big_endian_arrays(tmp_path: Path) -> None:
    w, x = drawn(4, 3).astype(">f2"), drawn(2, 4)
    options = {"units": 3, "use_bias": False, "batch_input_shape": [None, 4]}
    network, _ = loaded_file(one(tmp_path / "m.h5", "Dense", options, [w], KERAS_2))
    close(predicted(network, x)[0], x @ w.astype("float32"))
    with h5py.File(tmp_path / "m.h5") as file:
        assert file["model_weights"]["only"]["only/w0:0"].dtype == ">f2"
