"""InputLayer among the layers: what it says is held against the data, and Keras finds it in the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from tests.parity.census import held
from tests.parity.harness import close
from tests.train.recipes import directory_of, loaded, only, output, trained
from trainer.block import problems_of
from trainer.errors import DataError, RecipeError
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.runs.keras_config import model_config
from trainer.train.job import Options
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHAIN = """
name: chain
seed: 3
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}]}}
  targets: {label: {}}
  limit: 64
model:
  layers:
    - Input: LINE
    - Embedding: {input_dim: 17, output_dim: 3}
    - Flatten
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy}
fit: {epochs: 1, batch_size: 16}
"""
TWO = """
name: two
dataset:
  source: digits
  inputs: {left: {field: image}, right: {field: image}}
  targets: {label: {}}
  limit: 64
model:
  layers: [LINES]
compile: {optimizer: adam, loss: sparse_categorical_crossentropy}
fit: {epochs: 1, batch_size: 16}
"""
LAST = "{Flatten: {}}, {Dense: {units: 10, activation: softmax}}"


def chain(line: str) -> str:
    return CHAIN.replace("LINE", line)


def faults(text: str) -> list[tuple[str, str, str]]:
    """(place, message, hint) of each problem of a recipe."""
    with pytest.raises(RecipeError) as caught:
        loaded(text)
    return [(f"{p.place.line}:{p.place.column}" if p.place else "", p.message, p.hint) for p in caught.value.problems]


CONFIGS = [
    {"shape": [28, 28]},
    {"shape": 784, "name": "pixels"},
    {"shape": [None, 3], "batch_size": 7, "dtype": "int32"},
    {"batch_shape": [None, 4], "dtype": "uint8"},
    {"batch_shape": [5, 4, None], "dtype": "float32"},
    {"shape": []},
]


@pytest.mark.parametrize("options", CONFIGS, ids=str)
def test_config(options: dict[str, Any]) -> None:
    layer = Layer.parse({"Input": options})
    held(layer)
    assert Layer.parse(layer.spec()) == layer
    ours = json.loads(json.dumps(layer.keras_config()))
    theirs = json.loads(json.dumps(keras.layers.deserialize(layer.to_keras()).get_config()))
    assert {**ours, "name": ""} == {**theirs, "name": ""}
    assert ours["name"] in (None, theirs["name"])


@pytest.mark.parametrize(
    "line",
    ["{}", "{shape: [64]}", "{shape: 64, batch_size: 16, name: ids}", "{batch_shape: [null, 64], dtype: int32}"],
)
def test_first_line_of_a_chain(line: str, tmp_path: Path) -> None:
    """Nothing but the input's own description differs from the model without the line; Keras opens the file."""
    plain = trained(tmp_path, CHAIN.replace("    - Input: LINE\n", ""))
    outcome = trained(tmp_path, chain(line))
    assert outcome.figures == plain.figures
    run = OpenRun(directory_of(outcome), Options(device="cpu"))
    model: Any = keras.models.load_model(directory_of(outcome).path / "model.h5")
    (mine,) = run.built.columns(run.sets.train)
    ids = only({"x": run.built.slots([mine])[0]}).rows(slice(None)).numpy()
    close(output(run, mine), model.predict(ids, verbose=0), "predictions")
    (described,) = [x for x in model_config(run.built.graph)["config"]["layers"] if x["class_name"] == "InputLayer"]
    assert described["config"]["name"] == ("ids" if "name" in line else "image")
    assert described["config"]["dtype"] == ("int32" if "dtype" in line else "float32")
    assert described["config"]["batch_shape"] == [None, 64]
    assert model.inputs[0].name == described["config"]["name"]
    assert model.inputs[0].dtype == described["config"]["dtype"]


def test_an_integer_type_before_layers_of_floats(tmp_path: Path) -> None:
    """Keras's Conv2D can't take integers: there the file says float32, which our layers are given too."""
    text = chain("{shape: [64], dtype: uint8}").replace(
        "Embedding: {input_dim: 17, output_dim: 3}", "Dense: {units: 4}"
    )
    outcome = trained(tmp_path, text)
    model: Any = keras.models.load_model(directory_of(outcome).path / "model.h5")
    assert model.inputs[0].dtype == "float32"


def test_other_layers_read_it_by_its_name() -> None:
    text = chain("{name: ids, shape: [64]}").replace("- Flatten", "- Embedding: {inputs: ids, input_dim: 17, "
    "output_dim: 3}\n    - Add: {inputs: [embedding, embedding_1]}\n    - Flatten")  # fmt: skip
    graph = loaded(text).outline.graph
    assert graph is not None
    assert list(graph.layers) == ["embedding", "embedding_1", "add", "flatten", "dense"]


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("{shape: [32]}", "11:22", "expected (None, 64), the shape of the input, found (None, 32)"),
        ("{shape: [8, 8]}", "11:22", "expected (None, 64), the shape of the input, found (None, 8, 8)"),
        ("{batch_shape: [16, 32]}", "11:28", "expected (None, 64), the shape of the input, found (16, 32)"),
        ("{shape: 64, batch_size: 8}", "11:38", "expected batches of 16 rows, as fit.batch_size says, found 8"),
        ("{batch_shape: [8, 64]}", "11:28", "expected batches of 16 rows, as fit.batch_size says, found 8"),
    ],
)
def test_what_the_data_deny(line: str, place: str, message: str) -> None:
    ((where, found, hint),) = faults(chain(line))
    assert found == message
    assert hint
    assert where == place


def test_a_shape_that_the_source_can_t_tell(tmp_path: Path) -> None:
    """It is what model.input_shape says of the only input otherwise: shapes are checked before the file is opened."""
    np.savez(tmp_path / "rows.npz", x=np.zeros((20, 6), "float32"), y=np.zeros(20, "float32"))
    text = f"""
name: open
dataset: {{source: {{npz: {{path: {tmp_path / "rows.npz"}}}}}, inputs: {{x: {{}}}}, targets: {{y: {{}}}}}}
model:
  layers:
    - Input: {{shape: [6]}}
    - Dense: {{units: 4}}
    - Conv1D: {{filters: 2, kernel_size: 2}}
compile: {{optimizer: sgd, loss: mse}}
fit: {{epochs: 1}}
"""
    ((where, message, _),) = faults(text)
    assert where.startswith("8:")
    assert "conv1d" in message
    sound = text.replace("    - Conv1D: {filters: 2, kernel_size: 2}\n", "").replace("units: 4", "units: 1")
    graph = loaded(sound).outline.graph
    assert graph is not None
    assert graph.shapes[0] == (None, 6)
    trained(tmp_path, sound)
    with pytest.raises(RecipeError, match=r"expected \(None, 6\), the shape of the input, found \(None, 5\)"):
        trained(tmp_path, sound.replace("shape: [6]", "shape: [5]"))


def test_inputs_by_their_names() -> None:
    lines = (
        f"{{Input: {{name: right, shape: [8, 8]}}}}, {{Dense: {{name: a, units: 3}}}}, "
        f"{{Input: {{name: left}}}}, {{Dense: {{name: b, units: 3}}}}, {{Concatenate: {{inputs: [a, b]}}}}, {LAST}"
    )
    graph = loaded(TWO.replace("LINES", lines)).outline.graph
    assert graph is not None
    assert [graph.called(call.inputs[0]) for call in graph.calls][:2] == ["right", "left"]


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        (f"{{Input: {{shape: [8, 8]}}}}, {LAST}", "this input has no name; they are left, right", ""),
        (f"{{Input: {{name: middle}}}}, {LAST}", 'there is no input "middle"; they are left, right', ""),
        (f"{{Input: {{name: left}}}}, {LAST}", 'no layer that leads to an output reads the input "right"', ""),
    ],
)
def test_names_that_the_dataset_lacks(lines: str, message: str, hint: str) -> None:
    assert message in [found for _, found, _ in faults(TWO.replace("LINES", lines))]


def test_in_the_middle_of_a_chain() -> None:
    """What stands above it would be read by nothing."""
    text = chain("{}").replace("    - Input: {}\n", "").replace("- Flatten", "- Input: {shape: [64]}\n    - Flatten")
    ((where, message, hint),) = faults(text)
    assert (where.split(":")[0], message) == ("11", "what embedding makes leads to no output")
    assert hint == "the layers below the input begin anew with it: let it stand first"


def test_twice_the_same() -> None:
    text = chain("{}").replace("- Flatten", "- Input: {name: again}\n    - Flatten")
    assert ("13", "this input stands in the list already", "read it by its name: inputs: image") in [
        (where.split(":")[0], message, hint) for where, message, hint in faults(text)
    ]


def test_called_as_if_it_were_a_layer() -> None:
    text = chain("{name: ids}").replace("- Flatten", "- ids\n    - Flatten")
    (found,) = faults(text)
    assert found[1:] == ('"ids" is an input, not a layer', "read it: inputs: ids")


def test_alone() -> None:
    ((_, message, _),) = faults(TWO.replace("left: {field: image}, right", "right").replace("LINES", "Input"))
    assert message == "expected at least one layer behind the inputs, found none"


def test_shapes_inside_models() -> None:
    inside = "{Sequential: {layers: [{Input: {shape: [7]}}, {Dense: {units: 3}}]}}"
    text = chain("{}").replace("- Flatten", f"- {inside}\n    - Flatten")
    ((where, message, hint),) = faults(text)
    assert where.split(":")[0] == "13"
    assert message == "sequential: expected (None, 64, 3), the shape of the input, found (None, 7)"
    assert hint == "leave the shape out: what reaches the model says it"
    assert loaded(text.replace("shape: [7]", "shape: [64, null]")).outline.graph is not None


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_a_type_of_integers_asks_for_whole_numbers(dtype: str, tmp_path: Path) -> None:
    line = f"{{dtype: {dtype}}}"
    trained(tmp_path, chain(line))
    halves = chain(line).replace("[64]}}]", "[64]}}, {Rescaling: {scale: 1/2}}]")
    with pytest.raises(DataError, match=r"expected whole numbers from .* \(.*int.*\), found \d+\.5") as caught:
        trained(tmp_path, halves)
    assert caught.value.problems[0].path == ("model", "layers", 0, "InputLayer", "dtype")
    if dtype.endswith("8"):
        far = chain(line).replace("[64]}}]", "[64]}}, {Rescaling: {scale: 100}}]")
        with pytest.raises(DataError, match=r"found \d+00"):
            trained(tmp_path, far)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shape": [4], "batch_shape": [None, 4]}, "expected shape or batch_shape, found both"),
        ({"batch_size": 4, "batch_shape": [4, 4]}, "expected batch_size or batch_shape, found both"),
        ({"batch_size": 4}, "batch_size needs a shape"),
        ({"inputs": "x"}, "an input reads nothing"),
        ({"shape": [0]}, "a list of integers above 0"),
        ({"shape": [True]}, "a list of integers above 0"),
        ({"batch_shape": []}, "begins with the size of a batch"),
        ({"dtype": "float64"}, "expected one of float32, int8"),
        ({"sparse": True}, "InputLayer has no option"),
    ],
)
def test_refuses_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Layer.parse({"InputLayer": options})
    assert words in problems_of(caught.value)[0].message


def test_stands_in_no_other_layer() -> None:
    held_by = "{TimeDistributed: {layer: {Input: {shape: [4]}}}}"
    text = chain("{}").replace("- Flatten", f"- {held_by}\n    - Flatten")
    assert "TimeDistributed can't hold" in faults(text)[0][1]
    with pytest.raises(ValueError, match="stands in the list"):
        Layer.parse("Input").build(Plan(), (None, 4))
