"""`load_weights` held against real Keras: drawn pairs of models, every kind of file and mode; equal weights after."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras.src.legacy.saving import legacy_h5_format

from trainer.errors import RecipeError
from trainer.layers.base import Layer
from trainer.layers.graph import chain
from trainer.model.network import Network
from trainer.runs.model_file import model_bytes, weights_bytes
from trainer.runs.transfer import Transfer, load_weights_of
from trainer.runs.weights_file import read_weights

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Spec = tuple[str, dict[str, Any]]
Random = np.random.Generator
SHAPES = {"picture": (7, 7, 2), "series": (5, 4), "ids": (5,), "vector": (6,)}
PAIRS = 160


def units(random: Random) -> int:
    return int(random.integers(2, 5))


def dense(random: Random) -> Spec:
    return "Dense", {"units": units(random), "use_bias": bool(random.random() < 0.8)}


def normal(random: Random) -> Spec:
    return "BatchNormalization", {"center": bool(random.random() < 0.8), "scale": bool(random.random() < 0.8)}


def conv(random: Random) -> Spec:
    return "Conv2D", {"filters": units(random), "kernel_size": int(random.integers(1, 4)), "padding": "same"}


def recurrent(random: Random) -> Spec:
    kind = str(random.choice(["LSTM", "GRU", "SimpleRNN"]))
    more = {"reset_after": bool(random.random() < 0.5)} if kind == "GRU" else {}
    return kind, {"units": units(random), "return_sequences": True, "use_bias": bool(random.random() < 0.8), **more}


def both(random: Random) -> Spec:
    kind, options = recurrent(random)
    return "Bidirectional", {"layer": {kind: options}}


def each_step(random: Random) -> Spec:
    kind, options = (dense, normal)[int(random.integers(2))](random)
    return "TimeDistributed", {"layer": {kind: options}}


def pipeline(random: Random) -> Spec:
    return "Pipeline", {"layers": [{kind: options} for kind, options in (dense(random), normal(random))]}


def spectral(random: Random) -> Spec:
    return "SpectralNormalization", {"layer": dict([dense(random)])}


def others(*kinds: str) -> Callable[[Random], Spec]:
    return lambda random: (str(random.choice(list(kinds))), {})


VECTORS = ("LayerNormalization", "Normalization", "ReLU", "PReLU")
MAKERS: dict[str, list[Callable[[Random], Spec]]] = {
    "picture": [conv, normal, conv, others("PReLU", "LayerNormalization", "ReLU", "MaxPooling2D"), dense],
    "series": [recurrent, both, each_step, recurrent, both, others("LayerNormalization", "ReLU"), dense],
    "ids": [recurrent, both, each_step, dense],
    "vector": [
        dense,
        normal,
        pipeline,
        spectral,
        dense,
        others("LayerNormalization", "Normalization", "ReLU", "PReLU"),
    ],
}


def drawn(kind: str, random: Random) -> list[Spec]:
    """A chain of layers; some have names of their own."""
    makers = MAKERS[kind]
    made = [makers[int(random.integers(len(makers)))](random) for _ in range(random.integers(2, 5))]
    if kind == "ids":
        made.insert(0, ("Embedding", {"input_dim": int(random.integers(6, 8)), "output_dim": units(random)}))
    made.append(("Dense", {"units": 2}))
    for number, (_, options) in enumerate(made):
        if random.random() < 0.3:
            options["name"] = f"own_{number}"
        if random.random() < 0.2:
            options["trainable"] = False
    return made


def changed(specs: list[Spec], kind: str, random: Random) -> list[Spec]:
    """Another model that has much or little in common with the first."""
    specs = copy.deepcopy(specs)
    for _ in range(random.integers(0, 4)):
        at = int(random.integers(len(specs)))
        first = kind == "ids" and at == 0
        change = str(random.choice(["size", "name", "drop", "add", "dry", "swap", "bias", "other"]))
        name, options = specs[at]
        if change == "size" and "units" in options:
            options["units"] += 1
        elif change == "size" and "filters" in options:
            options["kernel_size"] += 1
        elif change == "name":
            options["name"] = str(random.choice(["own_1", "own_2", "dense", "another"]))
        elif change == "drop" and len(specs) > 2 and not first:
            del specs[at]
        elif change == "add" and not first:
            specs.insert(at, MAKERS[kind][int(random.integers(len(MAKERS[kind])))](random))
        elif change == "dry" and not first:
            specs.insert(at, ("Dropout", {"rate": 0.5}))
        elif change == "swap" and not first and at + 1 < len(specs):
            specs[at], specs[at + 1] = specs[at + 1], specs[at]
        elif change == "bias" and "use_bias" in options:
            options["use_bias"] = not options["use_bias"]
        elif change == "other" and not first:
            made, more = MAKERS[kind][int(random.integers(len(MAKERS[kind])))](random)
            specs[at] = made, {**more, "name": options.get("name", f"own_{at}")}
    taken: set[str] = set()
    for name, options in specs:
        if options.get("name") in taken:
            del options["name"]
        taken.add(options.get("name", name))
    return specs


def network(specs: list[Spec], shape: tuple[int, ...], seed: int) -> Network:
    made = Network(chain([Layer.parse({kind: options}) for kind, options in specs], {"x": (None, *shape)}), seed)
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for _, _, tensor, _ in made.rows():
            tensor.copy_(torch.from_numpy(np.array(random.normal(size=tuple(tensor.shape)) * 9)))
    return made


def twin_of(made: Network, shape: tuple[int, ...]) -> Any:
    """The same model in real Keras, with the same names and weights."""
    model = keras.Sequential([keras.Input(shape)])
    for name, layer in made.graph.layers.items():
        described = layer.to_keras()
        model.add(keras.layers.deserialize({**described, "config": {**described["config"], "name": name}}))
        if not layer.trainable:
            # Read from a config, some of Keras's wrappers leave what they hold trainable.
            model.layers[-1].trainable = False
    assign(model, made.get_weights())
    return model


def variables(model: Any) -> list[Any]:
    return [v for layer in model.layers for v in (*layer.trainable_weights, *layer.non_trainable_weights)]


def assign(model: Any, values: list[np.ndarray]) -> None:
    for variable, value in zip(variables(model), values, strict=True):
        variable.assign(value)


def values(model: Any) -> list[np.ndarray]:
    return [np.array(v.value.numpy(force=True)) for v in variables(model)]


def same(ours: list[np.ndarray], theirs: list[np.ndarray], what: str) -> None:
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"{what}: weight {number}")


def files(made: Network, model: Any, folder: Path) -> dict[str, Path]:
    """One model in every kind of file that holds weights, from Keras and from us."""
    found = {n: folder / n for n in ("whole.h5", "alone.h5", "keras.weights.h5", "ours.h5", "ours.weights.h5")}
    model.save(found["whole.h5"])
    with h5py.File(found["alone.h5"], "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    model.save_weights(found["keras.weights.h5"])
    found["ours.h5"].write_bytes(model_bytes(made, None, {}))
    found["ours.weights.h5"].write_bytes(weights_bytes(made))
    return found


def hold(ours: Network, theirs: Any, path: Path, by_name: bool, skip: bool) -> str:
    """Load the file into both: equal weights after, or refused by both and ours as it was. What happened."""
    before = ours.get_weights()
    assign(theirs, before)
    what = f"{path.name}, by_name {by_name}, skip_mismatch {skip}"
    named = {} if path.name.endswith(".weights.h5") else {"by_name": by_name}
    failed = ""
    with warnings.catch_warnings():
        # What Keras skips it says in warnings.
        warnings.simplefilter("ignore")
        try:
            theirs.load_weights(path, skip_mismatch=skip, **named)
        except ValueError as error:
            failed = str(error)
    file = read_weights(path)
    if failed:
        with pytest.raises(RecipeError) as caught:
            load_weights_of(ours, file, by_name=by_name, skip_mismatch=skip)
        same(ours.get_weights(), before, f"{what}: refused")
        assert all(p.hint and p.path == ("model", "weights") for p in caught.value.problems)
        return "refused"
    transfer = load_weights_of(ours, file, by_name=by_name, skip_mismatch=skip)
    after = ours.get_weights()
    same(after, values(theirs), what)
    hold_report(ours, transfer, before, after)
    ours.set_weights(before)
    return "all" if transfer.count("loaded") == len(transfer.lines) else "some" if transfer.count("loaded") else "none"


def hold_report(ours: Network, transfer: Transfer, before: list[np.ndarray], after: list[np.ndarray]) -> None:
    """The report says of each layer with weights what is true."""
    said = {line.layer: line for line in transfer.lines if line.happened != "absent"}
    moved = iter([bool((a != b).any()) for a, b in zip(before, after, strict=True)])
    for name in ours.graph.layers:
        fate = [next(moved) for _ in ours.cell(name).rows()]
        if not fate:
            assert name not in said
            continue
        line = said.pop(name)
        assert line.reason
        expected = "loaded" if all(fate) else "in part" if any(fate) else ("skipped", "left")
        assert line.happened in expected if isinstance(expected, tuple) else line.happened == expected, line
    assert not said


@pytest.mark.parametrize("part", range(8))
def test_drawn_pairs_load_as_in_keras(part: int, tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for number in range(part, PAIRS, 8):
        random = np.random.default_rng(number)
        kind = list(SHAPES)[number // 2 % 4]
        first = drawn(kind, random)
        second = changed(first, kind, random) if random.random() < 0.85 else drawn(kind, random)
        one, ours = network(first, SHAPES[kind], number + 1000), network(second, SHAPES[kind], number + 2000)
        theirs = twin_of(ours, SHAPES[kind])
        for name, path in files(one, twin_of(one, SHAPES[kind]), tmp_path).items():
            modes = [(by, skip) for by in (False, True) for skip in (False, True) if not by or "weights" not in name]
            if name not in ("whole.h5", "keras.weights.h5"):
                modes = [modes[int(random.integers(len(modes)))]]
            for by_name, skip in modes:
                seen[hold(ours, theirs, path, by_name, skip)] += 1
    assert sum(seen.values()) == PAIRS // 8 * 9
    assert min(seen[what] for what in ("refused", "all", "some")) > 9, seen
