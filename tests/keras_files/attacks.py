"""Model files made to do harm, or that are none: each by a name, with a function that writes it."""

from __future__ import annotations

import base64
import io
import json
import marshal
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Writer = Callable[[Path], None]
ATTACKS: dict[str, Writer] = {}
MARKER = "marker.txt"
"A file that appears when code of an attack is run."
SECRET = "secret.txt"
"A file that no attack may have opened."
DENSE = {"name": "dense", "trainable": True, "dtype": "float32", "units": 2, "activation": "linear", "use_bias": True}


def attack(function: Writer) -> Writer:
    """Enter a file into the corpus."""
    ATTACKS[function.__name__] = function
    return function


def layer(kind: str, module: str = "keras.layers", registered: Any = None, **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": config, "registered_name": registered}


def chain(*layers: Any, shape: Any = (None, 3)) -> dict[str, Any]:
    first = layer("InputLayer", batch_shape=list(shape), dtype="float32", name="x") if shape is not None else None
    held = [*([first] if first else []), *layers]
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "m", "layers": held},
        "registered_name": None,
    }


def dense(**changes: Any) -> dict[str, Any]:
    return layer("Dense", **{**DENSE, **changes})


def tensor(name: Any, call: Any = 0, part: Any = 0) -> dict[str, Any]:
    config = {"shape": [None, 3], "dtype": "float32", "keras_history": [name, call, part]}
    return {"class_name": "__keras_tensor__", "config": config}


def graph(*layers: dict[str, Any], ends: Any = None) -> dict[str, Any]:
    start = {**layer("InputLayer", batch_shape=[None, 3], dtype="float32", name="x"), "name": "x", "inbound_nodes": []}
    config = {
        "name": "g",
        "layers": [start, *layers],
        "input_layers": ["x", 0, 0],
        "output_layers": ends or ["dense", 0, 0],
    }
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": config,
        "registered_name": "Functional",
    }


def called(entry: dict[str, Any], *nodes: Any) -> dict[str, Any]:
    return {**entry, "name": entry["config"]["name"], "inbound_nodes": list(nodes)}


def node(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"args": list(args), "kwargs": kwargs}


def weights_image(**arrays: Any) -> bytes:
    """A file of weights for one Dense layer."""
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        held = file.create_group("layers/dense/vars")
        for number, values in enumerate(arrays.values() or (np.ones((3, 2), "float32"), np.zeros(2, "float32"))):
            held[str(number)] = values
    return image.getvalue()


def archive(path: Path, config: Any, weights: bytes | None = None, **more: bytes) -> None:
    """A `.keras` file."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        file.writestr("config.json", config if isinstance(config, (str, bytes)) else json.dumps(config))
        file.writestr("model.weights.h5", weights_image() if weights is None else weights)
        for name, data in more.items():
            file.writestr(name, data)


def whole(path: Path, config: Any = None, version: str = "3.15.1") -> h5py.File:
    """A whole-model HDF5 file of one Dense layer, still open."""
    file = h5py.File(path, "w")
    file.attrs["keras_version"], file.attrs["backend"] = version, "tensorflow"
    file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config or chain(dense()))
    group = file.create_group("model_weights")
    group.attrs["layer_names"] = np.array([b"dense"])
    group.attrs["keras_version"] = version
    inner = group.create_group("dense")
    inner.attrs["weight_names"] = np.array([b"dense/kernel:0", b"dense/bias:0"])
    inner["dense/kernel:0"] = np.ones((3, 2), "float32")
    inner["dense/bias:0"] = np.zeros(2, "float32")
    return file


def code(path: Path) -> bytes:
    """Marshalled code that leaves a marker."""
    return marshal.dumps(compile(f"open({str(path.with_name(MARKER))!r}, 'w').write('run')", "x", "exec"))


class Payload:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path.with_name(MARKER)), "w"))


# HDF5


@attack
def external_link(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = h5py.ExternalLink(str(path.with_name(SECRET)), "/x")


@attack
def soft_link(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = h5py.SoftLink("/model_weights/dense/dense/bias:0")


@attack
def virtual_dataset(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        layout = h5py.VirtualLayout((3, 2), "float32")
        layout[:] = h5py.VirtualSource(str(path.with_name(SECRET)), "x", (3, 2))
        file["model_weights/dense/dense"].create_virtual_dataset("kernel:0", layout)


@attack
def external_storage(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        kept = [(str(path.with_name(SECRET)), 0, 24)]
        file["model_weights/dense/dense"].create_dataset("kernel:0", (3, 2), "float32", external=kept)


@attack
def groups_in_a_circle(path: Path) -> None:
    with whole(path) as file:
        file["model_weights/dense/again"] = file["model_weights"]


@attack
def a_terabyte_of_zeros(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        made = file["model_weights/dense/dense"]
        made.create_dataset("kernel:0", (10**6, 10**6), "float32", chunks=(1000, 1000), compression="gzip")


@attack
def a_shape_that_lies(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense"].create_dataset("kernel:0", (10**5, 10**4), "float32")


@attack
def compound_numbers(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = np.zeros((3, 2), [("a", "f4"), ("b", "i8")])


@attack
def texts_as_weights(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = np.array([[b"abc"] * 2] * 3)


@attack
def names_that_lead_out(path: Path) -> None:
    with whole(path) as file:
        file["model_weights"].attrs["layer_names"] = np.array([b"../../dense"])


@attack
def weights_of_another_shape(path: Path) -> None:
    with whole(path) as file:
        del file["model_weights/dense/dense/kernel:0"]
        file["model_weights/dense/dense/kernel:0"] = np.ones((2, 3), "float32")


@attack
def weights_missing(path: Path) -> None:
    with whole(path) as file:
        file["model_weights/dense"].attrs["weight_names"] = np.array([b"dense/kernel:0"])


@attack
def half_a_file(path: Path) -> None:
    whole(path).close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@attack
def line_ends_changed(path: Path) -> None:
    whole(path).close()
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))


@attack
def noise_behind_the_signature(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(5000))


# Text


@attack
def nested_lists(path: Path) -> None:
    path.write_text('{"class_name": "Sequential", "config": ' + "[" * 200_000 + "]" * 200_000 + "}")


@attack
def nested_mappings(path: Path) -> None:
    path.write_text('{"a": ' * 900 + "1" + "}" * 900)


@attack
def a_hundred_thousand_layers(path: Path) -> None:
    path.write_text(json.dumps(chain(*({"class_name": "ReLU", "config": {"name": f"r{i}"}} for i in range(100_000)))))


@attack
def long_numbers(path: Path) -> None:
    path.write_text('{"class_name": "Sequential", "config": {"layers": [' + "9" * 100_000 + "]}}")


@attack
def half_a_character(path: Path) -> None:
    path.write_text(json.dumps(chain(dense(name="\ud800"))))


@attack
def aliases(path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    path.write_text("class_name: Sequential\n" + "\n".join(rows) + "\nconfig: *a29\n")


@attack
def an_alias_of_itself(path: Path) -> None:
    path.write_text("class_name: Sequential\nconfig: &a\n  layers: [*a]\n")


@attack
def yaml_that_runs(path: Path) -> None:
    marker = path.with_name(MARKER)
    path.write_text(f"class_name: !!python/object/apply:os.system ['touch {marker}']\nconfig: {{}}\n")


@attack
def yaml_that_imports(path: Path) -> None:
    path.write_text("class_name: Sequential\nconfig: {layers: [!!python/name:evil_module.x '']}\n")


@attack
def yaml_nested(path: Path) -> None:
    path.write_text("class_name: Sequential\nconfig: " + "[" * 5000 + "]" * 5000)


@attack
def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(path), 4))


# Archives


@attack
def two_configs(path: Path) -> None:
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as file:
        warnings.simplefilter("ignore")
        file.writestr("config.json", json.dumps(chain(dense())))
        file.writestr("config.json", json.dumps(chain(dense(units=3))))


@attack
def members_that_lead_out(path: Path) -> None:
    archive(path, chain(dense()), **{"../../marker.txt": b"written"})


@attack
def members_with_whole_paths(path: Path) -> None:
    archive(path, chain(dense()), **{"/tmp/marker.txt": b"written"})


@attack
def a_packed_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps(chain(dense())))
        file.writestr("model.weights.h5", b"\0" * 300_000_000)


@attack
def a_description_that_swells(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", b'"' + b"a" * 60_000_000 + b'"')


@attack
def a_size_that_lies(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps(chain(dense())) + " " * 30_000_000)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 300)
    path.write_bytes(bytes(data))


@attack
def a_wrong_checksum(path: Path) -> None:
    archive(path, chain(dense()))
    data = bytearray(path.read_bytes())
    at = data.index(b"layers/dense") if b"layers/dense" in data else data.index(b"\x89HDF") + 600
    data[at] ^= 1
    path.write_bytes(bytes(data))


@attack
def a_locked_archive(path: Path) -> None:
    archive(path, chain(dense()))
    data = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = data.find(sign)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(sign, at + 4)
    path.write_bytes(bytes(data))


@attack
def weights_that_are_a_pickle(path: Path) -> None:
    archive(path, chain(dense()), pickle.dumps(Payload(path), 4))


@attack
def weights_that_link_elsewhere(path: Path) -> None:
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(path.with_name(SECRET)), "/x")
    archive(path, chain(dense()), image.getvalue())


@attack
def an_archive_of_something_else(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("model/data.pkl", pickle.dumps(Payload(path), 2))


# Code


@attack
def a_lambda(path: Path) -> None:
    function = {"class_name": "__lambda__", "config": {"code": base64.b64encode(code(path)).decode(), "defaults": None}}
    archive(path, chain(layer("Lambda", name="lambda", function=function), dense()))


@attack
def a_lambda_in_hdf5(path: Path) -> None:
    function = [base64.b64encode(code(path)).decode(), None, None]
    held = {"name": "lambda", "function": function, "function_type": "lambda", "module": "evil_module"}
    whole(path, chain({"class_name": "Lambda", "config": held}, dense()), "2.4.0").close()


@attack
def a_torch_module(path: Path) -> None:
    module = {"class_name": "__bytes__", "config": base64.b64encode(pickle.dumps(Payload(path))).decode()}
    archive(path, chain(layer("TorchModuleWrapper", name="t", module=module), dense()))


@attack
def a_saved_model_elsewhere(path: Path) -> None:
    archive(path, chain(layer("TFSMLayer", name="t", filepath=str(path.with_name(SECRET)), call_endpoint="x"), dense()))


@attack
def operations_of_tensorflow(path: Path) -> None:
    made = called(layer("TFOpLambda", name="op", function="math.add"), node(tensor("x"), 1))
    archive(path, graph(made, called(dense(), node(tensor("op")))))


@attack
def a_module_that_would_import(path: Path) -> None:
    archive(path, chain(layer("Thing", "evil_module", "evil_module>Thing", name="t"), dense()))


@attack
def a_dense_of_another_package(path: Path) -> None:
    archive(path, chain(layer("Dense", "evil_module", "evil_module>Dense", **DENSE)))


@attack
def a_function_of_python_as_initializer(path: Path) -> None:
    held = {"module": "os", "class_name": "system", "config": {"command": "touch marker.txt"}, "registered_name": None}
    archive(path, chain(dense(kernel_initializer=held)))


@attack
def a_function_of_python_as_activation(path: Path) -> None:
    held = {"module": "builtins", "class_name": "function", "config": "eval", "registered_name": "function"}
    archive(path, chain(dense(activation=held)))


@attack
def a_type_that_is_code(path: Path) -> None:
    held = {"module": "evil_module", "class_name": "Policy", "config": {"name": "evil"}, "registered_name": None}
    archive(path, chain(dense(dtype=held)))


@attack
def a_vocabulary_elsewhere(path: Path) -> None:
    config = {"name": "v", "vocabulary": str(path.with_name(SECRET)), "output_mode": "int"}
    archive(path, chain(layer("StringLookup", **config), layer("Embedding", name="e", input_dim=9, output_dim=2)))


@attack
def a_vocabulary_beside(path: Path) -> None:
    config = {"name": "v", "vocabulary": SECRET, "output_mode": "int"}
    archive(path, chain(layer("TextVectorization", **config), dense()))


@attack
def bins_elsewhere(path: Path) -> None:
    archive(path, chain(layer("Discretization", name="b", bin_boundaries=str(path.with_name(SECRET))), dense()))


# Sizes


@attack
def a_trillion_units(path: Path) -> None:
    archive(path, chain(dense(units=10**12)))


@attack
def ten_billion_weights(path: Path) -> None:
    archive(path, chain(dense(units=10**5), shape=(None, 10**5)))


@attack
def ten_billion_weights_in_no_file(path: Path) -> None:
    path.write_text(json.dumps(chain(dense(units=10**5), shape=(None, 10**5))))


@attack
def a_trillion_filters(path: Path) -> None:
    config = {"name": "c", "filters": 10**12, "kernel_size": [10**6, 10**6]}
    archive(path, chain(layer("Conv2D", **config), shape=(None, 10**7, 10**7, 3)))


@attack
def rows_of_a_trillion(path: Path) -> None:
    archive(path, chain(layer("Flatten", name="f"), shape=(None, 10**6, 10**6)))


@attack
def outputs_of_a_trillion(path: Path) -> None:
    archive(path, chain(layer("RepeatVector", name="r", n=10**12), shape=(None, 3)))


@attack
def batches_of_a_trillion(path: Path) -> None:
    config = {"name": "l", "units": 10**4, "stateful": True}
    archive(path, chain(layer("LSTM", **config), shape=(10**12, 3, 3)))


@attack
def a_spectrum_of_a_trillion(path: Path) -> None:
    config = {"name": "s", "fft_length": 2**40, "sequence_stride": 1, "num_mel_bins": 10**9, "sampling_rate": 16000}
    archive(path, chain(layer("MelSpectrogram", **config), shape=(None, 16000)))


@attack
def wrappers_in_wrappers(path: Path) -> None:
    inner = dense()
    for number in range(150):
        inner = layer("TimeDistributed", name=f"t{number}", layer=inner)
    archive(path, chain(inner, shape=(None, *(2 for _ in range(152)))))


@attack
def models_in_models(path: Path) -> None:
    inner = chain(dense())
    for number in range(45):
        inner = chain({**inner, "config": {**inner["config"], "name": f"m{number}"}})
    archive(path, inner)


# Graphs


@attack
def layers_in_a_circle(path: Path) -> None:
    one = called(dense(name="one"), node(tensor("dense")))
    archive(path, graph(one, called(dense(), node(tensor("one")))))


@attack
def a_tensor_of_nothing(path: Path) -> None:
    archive(path, graph(called(dense(), node(tensor("nothing")))))


@attack
def calls_below_zero(path: Path) -> None:
    archive(path, graph(called(dense(), node(tensor("x", -1, -5)))))


@attack
def outputs_of_nothing(path: Path) -> None:
    archive(path, graph(called(dense(), node(tensor("x"))), ends=[["nothing", 0, 0]]))


@attack
def two_layers_of_one_name(path: Path) -> None:
    archive(path, graph(called(dense(), node(tensor("x"))), called(dense(), node(tensor("x")))))


@attack
def nodes_that_are_text(path: Path) -> None:
    archive(path, graph({**dense(), "name": "dense", "inbound_nodes": "x"}))


@attack
def layers_that_are_numbers(path: Path) -> None:
    archive(path, {**chain(), "config": {"name": "m", "layers": [1, 2, None]}})


@attack
def a_config_that_is_a_list(path: Path) -> None:
    archive(path, chain({**dense(), "config": [1, 2]}))


@attack
def options_of_other_kinds(path: Path) -> None:
    archive(path, chain(dense(units={"a": 1}, use_bias="yes", activation=3, kernel_initializer=[1])))


@attack
def shapes_that_are_none(path: Path) -> None:
    archive(path, chain(dense(), shape=(None, "3", -1, True)))


@attack
def a_subclassed_model(path: Path) -> None:
    archive(path, {"module": "evil_module", "class_name": "Net", "config": {}, "registered_name": "evil_module>Net"})


@attack
def words_that_move_the_cursor(path: Path) -> None:
    archive(path, chain(layer("\x1b[2J\u202eThing", name="\x1b]0;t\x07"), dense()))
