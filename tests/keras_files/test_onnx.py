"""`--to onnx`: models that onnxruntime runs, with the recipe's names and any number of rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch

from tests.keras_files.importing_by import call, imported
from tests.keras_files.plain_models import ANIMALS, Case
from tests.keras_files.test_pt2 import animal, graph
from tests.parity.test_graphs import GRAPHS
from tests.train.recipes import DIGITS, trained
from trainer.errors import EnvironmentFault, RunError
from trainer.keras_files.exported_program import followed, quiet
from trainer.keras_files.onnx import OPSET, needed, ran, written

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
KINDS = ("AdaptiveMax", "AdaptiveAveragePooling3D")
NO_FORM = {name for name in ANIMALS if name.startswith(KINDS) and name != "AdaptiveMaxPooling1D-1"}
"torch has no ONNX for these."


def image_of(case: Case) -> bytes:
    graph = case.network.graph
    with quiet():
        return written(followed(case.network, case.entries(), case.xs), list(graph.inputs), list(graph.outputs))


def hold(case: Case, name: str) -> None:
    """onnxruntime gives what the network gives, for other numbers of rows too."""
    image, graph = image_of(case), case.network.graph
    scales: list[float] = []
    for count in (40, 7, 1):
        xs = [torch.cat([x] * 8)[:count] for x in case.xs]
        fed = {n: x.numpy() for n, x in zip(graph.inputs, xs, strict=True)}
        found = ran(image, fed, {name: name for name in graph.outputs})
        with torch.no_grad():
            wanted = case.network.run(*xs).outputs
        scales = scales or [max(float(made.abs().max()), 1e-6) for made in wanted]
        for made, theirs, scale in zip(found.values(), wanted, scales, strict=True):
            np.testing.assert_allclose(made, theirs, rtol=0, atol=1e-5 * scale, err_msg=f"{name}, {count} rows")


SOME = ["Conv2D-0", "LSTM-0", "GRU-0", "BatchNormalization-0", "CategoryEncoding-0", "ReLU-0"]


@pytest.mark.parametrize("name", SOME)
def test_layers(name: str) -> None:
    hold(animal(name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in ANIMALS if n not in NO_FORM and n not in SOME])
def test_every_other_layer(name: str) -> None:
    hold(animal(name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(NO_FORM))
def test_what_onnx_has_no_form_for_is_refused(name: str) -> None:
    with pytest.raises(RunError, match=r"no form in ONNX for \w*adaptive_\w+"):
        image_of(animal(name))


@pytest.mark.parametrize("name", ["two inputs, two outputs"])
def test_graphs(name: str) -> None:
    hold(graph(name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name: str) -> None:
    hold(graph(name), name)


def test_an_output_called_as_torch_calls_an_operation(tmp_path: Path) -> None:
    """torch names what adds `add`, whatever adds first."""
    a = keras.Input((3,), name="a")
    first = keras.layers.Add(name="first")([a, a])
    model = keras.Model(a, [first, keras.layers.Add(name="add")([first, keras.layers.Dense(3)(a)])])
    model.save(tmp_path / "sums.keras")
    _, run = imported(tmp_path / "sums.keras", tmp_path)
    answer = call("export", str(run.directory.path), "--to", "onnx", "-o", str(tmp_path / "sums.onnx"))
    assert answer.code == 0, answer.err
    assert [made.name for made in onnx.load(tmp_path / "sums.onnx").graph.output] == ["first", "add"]


def test_an_output_called_as_an_input_is(tmp_path: Path) -> None:
    last = "model.layers=[Flatten, {Dense: {name: image, units: 10, activation: softmax}}]"
    outcome = trained(tmp_path, DIGITS, last, "fit.epochs=1")
    answer = call("export", str(outcome.directory), "--to", "onnx", "-o", str(tmp_path / "digits.onnx"))
    assert answer.code == 0, answer.err
    assert "the output image is called image_output there, since an input has its name" in answer.err
    assert [made.name for made in onnx.load(tmp_path / "digits.onnx").graph.output] == ["image_output"]


def test_a_run_by_the_command(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.epochs=1")
    answer = call("export", str(outcome.directory), "--to", "onnx", "-o", str(tmp_path / "digits.onnx"))
    assert answer.code == 0, answer.err
    assert f"opset {OPSET}, image float32 (rows, 8, 8): equal to" in answer.err
    model = onnx.load(tmp_path / "digits.onnx")
    onnx.checker.check_model(model, full_check=True)
    ((taken,), (made,)) = model.graph.input, model.graph.output
    assert (taken.name, made.name) == ("image", "dense_1")
    assert taken.type.tensor_type.shape.dim[0].dim_param == made.type.tensor_type.shape.dim[0].dim_param == "rows"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]


@pytest.mark.parametrize(
    ("dtype", "code", "says"),
    [
        ("mixed_float16", 0, "equal within half precision"),
        ("bfloat16", 5, "does not compute in bfloat16"),
    ],
)
def test_half_precision(dtype: str, code: int, says: str, tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.epochs=1", f"model.dtype={dtype}")
    answer = call("export", str(outcome.directory), "--to", "onnx", "-o", str(tmp_path / "digits.onnx"))
    assert answer.code == code, answer.err
    assert says in answer.err
    assert (tmp_path / "digits.onnx").exists() == (code == 0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec

    def find(name: str, *more: Any) -> Any:
        return None if name == "onnxruntime" else known(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(EnvironmentFault, match="needs onnxruntime") as found:
        needed()
    assert "recipe-trainer[export]" in str(found.value)
