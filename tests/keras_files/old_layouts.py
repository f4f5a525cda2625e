"""A small writer of model files as older Kerases wrote them: a Keras 3 model in, a file of that generation out.

Layouts and words are those of shared facts about real files, put down here by hand, apart from the code under test.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.keras_files.old_words import MODES, WORDS_1, WORDS_2, object_1, object_2

Config = dict[str, Any]
Named = list[tuple[str, np.ndarray]]
NESTED = ("Sequential", "Functional")


@dataclass(frozen=True)
class Generation:
    """How a release wrote its files."""

    version: str
    keras_1: bool = False
    tf: bool = False
    listed: bool = False
    "Whether a Sequential's config is a list."
    functional: str = "Model"
    theano: bool = False
    "Whether it ran on Theano, whose kernels are turned round."
    dtyped: bool = False
    "Whether initializers say a number type."
    early: bool = False
    "Whether Conv1D's kernels are Keras 1.0's."

    @property
    def backend(self) -> str:
        return "theano" if self.theano else "tensorflow"


GENERATIONS = {
    "keras 1.0": Generation("1.0.8", keras_1=True, listed=True, early=True),
    "keras 1.2": Generation("1.2.2", keras_1=True, listed=True),
    "keras 2.0": Generation("2.0.9", listed=True),
    "keras 2.0 theano": Generation("2.0.8", listed=True, theano=True),
    "keras 2.2.2": Generation("2.2.2", listed=True),
    "keras 2.3.1": Generation("2.3.1"),
    "tf.keras 1.13": Generation("2.2.4-tf", tf=True, dtyped=True),
    "tf.keras 2.4": Generation("2.4.0", tf=True, functional="Functional"),
    "tf.keras 2.9": Generation("2.9.0", tf=True, functional="Functional"),
    "tf.keras 2.15": Generation("2.15.0", tf=True, functional="Functional"),
}


def kind_of(layer: Any) -> str:
    """A layer's class."""
    return type(layer).__name__


def layers_of(model: Any) -> list[Any]:
    """A model's layers without those that stand for inputs."""
    return [x for x in model.layers if kind_of(x) != "InputLayer"]


class Words:
    """Describes a Keras 3 model in a generation's words."""

    def __init__(self, generation: Generation):
        self.generation = generation

    def model(self, model: Any) -> Config:
        """class_name and config."""
        if kind_of(model) == "Sequential":
            return {"class_name": "Sequential", "config": self.sequential(model)}
        return {"class_name": self.generation.functional, "config": self.functional(model)}

    def sequential(self, model: Any, outermost: bool = True) -> Any:
        layers = [self.layer(x) for x in layers_of(model)]
        first = layers[0]
        shape = [None, *model.input_shape[1:]]
        while isinstance(first["config"], list):
            first = first["config"][0]
        while first["class_name"] == "Sequential":
            first = first["config"]["layers"][0]
        if first["class_name"] not in ("Model", "Functional"):
            word = "input_dtype" if self.generation.keras_1 else "dtype"
            first["config"] |= {"batch_input_shape": shape, word: "float32"}
        if self.generation.listed:
            return layers
        config = {"name": model.name, "layers": layers}
        return {**config, "build_input_shape": shape} if outermost and self.generation.version == "2.3.1" else config

    def layer(self, layer: Any) -> Config:
        """A layer or model inside."""
        kind = kind_of(layer)
        if kind == "Sequential":
            return {"class_name": kind, "config": self.sequential(layer, outermost=False)}
        if kind == "Functional":
            return {"class_name": self.generation.functional, "config": self.functional(layer)}
        config = self._keras_1(layer) if self.generation.keras_1 else self._keras_2(layer)
        old = WORDS_1[kind][0] if self.generation.keras_1 else kind
        return {"class_name": old, "config": config}

    def _keras_2(self, layer: Any) -> Config:
        kind, given = kind_of(layer), layer.get_config()
        made: Config = {"name": layer.name, "trainable": given.get("trainable", True)}
        if self.generation.tf:
            made["dtype"] = "float32"
        for word in WORDS_2[kind].split():
            if word in given:
                made[word] = object_2(given[word], tf=self.generation.tf, dtyped=self.generation.dtyped)
        for word in ("activation", "recurrent_activation"):
            if word in made and isinstance(getattr(layer, word, None), Callable):
                made[word] = getattr(layer, word).__name__.removeprefix("old_")
        if kind in ("LSTM", "GRU", "SimpleRNN"):
            made["implementation"] = 1
            made |= {"time_major": False} if self.generation.tf else {}
        if kind == "GRU" and made["reset_after"] is False and self.generation.version < "2.1":
            del made["reset_after"]
        if kind == "LeakyReLU":
            slope = made.pop("negative_slope")
            made["alpha"] = slope if self.generation.tf else {"type": "ndarray", "value": slope}
        if kind == "Flatten" and self.generation.version >= "2.2":
            made["data_format"] = layer.data_format
        if kind == "BatchNormalization" and self.generation.tf:
            made["axis"] = [made["axis"] % len(layer.input.shape)] if hasattr(layer, "input") else made["axis"]
        if kind in ("Conv2DTranspose", "SeparableConv2D") and self.generation.tf:
            made["groups"] = 1
        self._inside(layer, made)
        return made

    def _inside(self, layer: Any, made: Config) -> None:
        kind = kind_of(layer)
        if kind == "TimeDistributed":
            made["layer"] = self.layer(layer.layer)
        if kind == "Bidirectional":
            made["layer"] = self.layer(layer.forward_layer)
            config = made["layer"]["config"]
            config["name"] = config["name"].removeprefix("forward_")
        if kind == "RNN":
            made["cell"] = self.layer(layer.cell)
        if kind == "StackedRNNCells":
            made["cells"] = [self.layer(cell) for cell in layer.cells]

    def _keras_1(self, layer: Any) -> Config:
        kind, given = kind_of(layer), layer.get_config()
        made: Config = {"name": layer.name, "trainable": given.get("trainable", True)}
        for word, old in WORDS_1[kind][1].items():
            if word in given:
                made[old] = object_1(word, given[word])
        for word, old in (("activation", "activation"), ("recurrent_activation", "inner_activation")):
            if old in made and isinstance(getattr(layer, word, None), Callable):
                made[old] = getattr(layer, word).__name__.removeprefix("old_")
        if "dim_ordering" in made:
            made["dim_ordering"] = {"channels_last": "tf", "channels_first": "th"}[made["dim_ordering"]]
        for word in ("filter_length", "subsample_length", "pool_length", "stride"):
            if isinstance(made.get(word), (list, tuple)):
                (made[word],) = made[word]
        if kind in ("Conv2D", "Conv2DTranspose", "SeparableConv2D", "ConvLSTM2D"):
            made["nb_row"], made["nb_col"] = given["kernel_size"]
        if kind == "Conv3D":
            made |= {f"kernel_dim{n + 1}": size for n, size in enumerate(given["kernel_size"])}
        if kind == "SeparableConv2D":
            made["init"] = "glorot_uniform"
        if kind == "Conv2DTranspose":
            made["output_shape"] = [None, *layer.output.shape[1:]]
        if kind in ("LSTM", "ConvLSTM2D"):
            made["forget_bias_init"] = "one"
        if kind in ("LSTM", "GRU", "SimpleRNN"):
            made |= {"consume_less": "cpu", "input_dim": _width(layer)}
        if kind == "BatchNormalization":
            made["mode"] = 0
        if WORDS_1[kind][0] == "Merge":
            made |= {"mode": MODES[kind], "mode_type": "raw", "output_shape": None, "arguments": {}}
            made.setdefault("concat_axis", -1)
        self._inside(layer, made)
        return made

    def functional(self, model: Any) -> Config:
        config = model.get_config()
        by_name = {x.name: x for x in model.layers}
        layers = []
        for thing in config["layers"]:
            name = thing["name"]
            made = self._input(thing) if thing["class_name"] == "InputLayer" else self.layer(by_name[name])
            nodes = [self._node(node, by_name) for node in thing["inbound_nodes"]]
            layers.append({**made, "name": name, "inbound_nodes": nodes})
        ends = {k: _listed(config[k]) for k in ("input_layers", "output_layers")}
        ends["output_layers"] = [self._end(end, by_name) for end in ends["output_layers"]]
        return {"name": model.name, "layers": layers, **ends}

    def _end(self, end: list[Any], by_name: Config) -> list[Any]:
        name, call, tensor = end
        return [name, call + (kind_of(by_name[name]) == "Sequential"), tensor]

    def _input(self, thing: Config) -> Config:
        config = thing["config"]
        word = "input_dtype" if self.generation.keras_1 else "dtype"
        made = {"batch_input_shape": config["batch_shape"], word: config["dtype"], "sparse": False}
        return {"class_name": "InputLayer", "config": {**made, "name": config["name"]}}

    def _node(self, node: Config, by_name: Config) -> list[Any]:
        others = {k: v for k, v in node["kwargs"].items() if k not in ("initial_state", "mask", "training")}
        read = [*_tensors(node["args"]), *_tensors(node["kwargs"].get("initial_state") or [])]
        assert not others
        told = []
        for name, call, tensor in read:
            # A model in the model counts from the call that made it.
            item = [name, call + (kind_of(by_name[name]) in NESTED), tensor]
            told.append(item if self.generation.keras_1 else [*item, {}])
        return told


def _width(layer: Any) -> int | None:
    """Features that a layer reads, where it stands in a model."""
    read = layer.input if layer._inbound_nodes else None
    return None if read is None else (read[0] if isinstance(read, list) else read).shape[-1]


def _listed(ends: Any) -> list[Any]:
    return [ends] if isinstance(ends[0], str) else ends


def _tensors(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _tensors(inner)
    elif isinstance(value, dict):
        yield value["config"]["keras_history"]


class Layouts:
    """The weights of a Keras 3 model in a generation's order and axes."""

    def __init__(self, generation: Generation):
        self.generation = generation

    def listed(self, layer: Any) -> Named:
        """What trains, then what does not."""
        trained, fixed = self.sides(layer)
        return [*trained, *fixed]

    def sides(self, layer: Any) -> tuple[Named, Named]:
        kind = kind_of(layer)
        inner = {
            "Sequential": lambda: layers_of(layer),
            "Functional": lambda: layers_of(layer),
            "TimeDistributed": lambda: [layer.layer],
            "Bidirectional": lambda: [layer.forward_layer, layer.backward_layer],
            "RNN": lambda: [layer.cell],
            "StackedRNNCells": lambda: layer.cells,
        }.get(kind)
        if inner is None:
            trained, fixed = self.own(layer)
        else:
            parts = [self.sides(x) for x in inner()]
            trained, fixed = ([row for part in parts for row in part[side]] for side in (0, 1))
        return (trained, fixed) if layer.trainable else ([], [*trained, *fixed])

    def own(self, layer: Any) -> tuple[Named, Named]:
        """A layer's own weights, by Keras 2's names."""
        kind = kind_of(layer)
        held = {v.path.split("/")[-1]: v.value.detach().numpy() for v in layer.weights if "seed" not in v.path}
        fixed = [(n, a) for n, a in held.items() if n in ("moving_mean", "moving_variance")]
        trained = [(n, a) for n, a in held.items() if n not in ("moving_mean", "moving_variance")]
        if self.generation.theano:
            trained = [(n, _turned(a) if self._turns(kind, n) else a) for n, a in trained]
        if self.generation.keras_1:
            trained = self._keras_1(kind, layer, trained)
        if kind == "DepthwiseConv2D":
            trained = [("depthwise_kernel" if n == "kernel" else n, a) for n, a in trained]
        return [(f"{layer.name}/{n}", a) for n, a in trained], [(f"{layer.name}/{n}", a) for n, a in fixed]

    @staticmethod
    def _turns(kind: str, name: str) -> bool:
        plain = kind in ("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose")
        return (plain and name == "kernel") or (kind == "ConvLSTM2D" and name != "bias")

    def _keras_1(self, kind: str, layer: Any, rows: Named) -> Named:
        arrays = [a for _, a in rows]
        if kind in ("LSTM", "GRU", "ConvLSTM2D"):
            return self._gates(kind, layer, arrays)
        th = getattr(layer, "data_format", None) == "channels_first"
        if kind == "Conv1D":
            kernel = arrays[0][:, None]
            arrays[0] = kernel.transpose(3, 2, 0, 1) if self.generation.early else kernel
        if kind == "Conv2D" and th:
            arrays[0] = arrays[0].transpose(3, 2, 0, 1)
        if kind == "Conv3D" and th:
            arrays[0] = arrays[0].transpose(4, 3, 0, 1, 2)
        if kind == "Conv2DTranspose":
            # (h, w, out, in) there; (h, w, in, out) here, or (out, in, h, w).
            arrays[0] = arrays[0].transpose(2, 3, 0, 1) if th else arrays[0].transpose(0, 1, 3, 2)
        if kind == "SeparableConv2D" and th:
            arrays[:2] = [a.transpose(3, 2, 0, 1) for a in arrays[:2]]
        names = {"kernel": "W", "recurrent_kernel": "U", "bias": "b", "embeddings": "W"}
        return [(f"{layer.name}_{names.get(n, n)}", a) for (n, _), a in zip(rows, arrays, strict=True)]

    def _gates(self, kind: str, layer: Any, arrays: list[np.ndarray]) -> Named:
        """Each gate's W, U and b: i, c, f, o for an LSTM, z, r, h for a GRU."""
        columns = {"i": 0, "f": 1, "c": 2, "o": 3} if kind != "GRU" else {"z": 0, "r": 1, "h": 2}
        made: Named = []
        for gate in "icfo" if kind != "GRU" else "zrh":
            for letter, array in zip("WUb", arrays, strict=True):
                part = np.split(array, len(columns), axis=-1)[columns[gate]]
                if kind == "ConvLSTM2D" and layer.data_format == "channels_first" and part.ndim == 4:
                    part = part.transpose(3, 2, 0, 1)
                made.append((f"{layer.name}_{letter}_{gate}", part))
        return made


def _turned(kernel: np.ndarray) -> np.ndarray:
    """The kernel turned round in all axes but the last two."""
    for axis in range(kernel.ndim - 2):
        kernel = np.flip(kernel, axis)
    return kernel


def write(
    path: Path,
    model: Any,
    generation: Generation,
    *,
    training: Config | None = None,
    change: Callable[[Config], None] | None = None,
) -> Path:
    """A whole model in HDF5; `change` may alter its description first."""
    described = Words(generation).model(model)
    if change is not None:
        change(described)
    weights = {x.name: Layouts(generation).listed(x) for x in layers_of(model)}
    return write_arrays(path, described, weights, generation, training)


def write_arrays(
    path: Path,
    described: Config | None,
    weights: dict[str, Named],
    generation: Generation,
    training: Config | None = None,
) -> Path:
    """A whole model, or weights alone where nothing is described."""
    with h5py.File(path, "w") as file:
        group = file if described is None else file.create_group("model_weights")
        if described is not None:
            file.attrs["keras_version"] = generation.version.encode()
            file.attrs["model_config"] = json.dumps(described).encode()
            if not generation.keras_1:
                file.attrs["backend"] = generation.backend.encode()
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()
        _texts(group, "layer_names", list(weights))
        if not generation.keras_1:
            group.attrs["keras_version"] = generation.version.encode()
            group.attrs["backend"] = generation.backend.encode()
        for layer, rows in weights.items():
            inner = group.create_group(layer)
            names = [name if generation.keras_1 else f"{name}:0" for name, _ in rows]
            _texts(inner, "weight_names", names)
            for name, (_, array) in zip(names, rows, strict=True):
                inner.create_dataset(name, data=array)
    return path


def _texts(group: h5py.Group, name: str, values: Sequence[str]) -> None:
    group.attrs[name] = [v.encode() for v in values]


def write_weights(path: Path, model: Any, generation: Generation) -> Path:
    """Weights alone, as `save_weights` wrote them."""
    weights = {x.name: Layouts(generation).listed(x) for x in layers_of(model)}
    return write_arrays(path, None, weights, generation)


def write_archive(path: Path, model: Any, version: str = "2.13.1") -> Path:
    """A `.keras` archive of TensorFlow 2.12 to 2.14: numbers of layers with weights have gaps."""
    generation = Generation(version, tf=True, functional="Functional")
    described = Words(generation).model(model)
    described |= {"module": "keras.src.engine.functional", "registered_name": described["class_name"]}
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        _dependencies(file, model)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version, "date_saved": "2023-10-01@10:00:00"}))
        archive.writestr("config.json", json.dumps(described))
        archive.writestr("model.weights.h5", image.getvalue())
    return path


def _dependencies(group: h5py.Group, model: Any) -> None:
    room = group.create_group("_layer_checkpoint_dependencies")
    counts: dict[str, int] = {}
    for layer in layers_of(model):
        base = _snake(kind_of(layer))
        number = counts.get(base, 0)
        # Layers with weights are listed twice, and only the first of the two is written.
        counts[base] = number + (2 if layer.weights else 1)
        _place(room.create_group(f"{base}_{number}" if number else base), layer)


def _place(group: h5py.Group, layer: Any) -> None:
    kind = kind_of(layer)
    if kind in NESTED:
        _dependencies(group, layer)
    elif kind == "TimeDistributed":
        _place(group.create_group("layer"), layer.layer)
    elif kind == "Bidirectional":
        _place(group.create_group("forward_layer"), layer.forward_layer)
        _place(group.create_group("backward_layer"), layer.backward_layer)
    elif kind in ("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D"):
        group = group.create_group("cell")
    held = [] if kind in (*NESTED, "TimeDistributed", "Bidirectional") else layer.weights
    room = group.create_group("vars")
    for number, value in enumerate(v for v in held if "seed" not in v.path):
        room[str(number)] = value.value.detach().numpy()


def _snake(name: str) -> str:
    import re

    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
