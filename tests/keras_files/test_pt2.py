"""`--to pt2`: models as torch.export follows them, for any number of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.keras_files.importing_by import call
from tests.keras_files.plain_models import ANIMALS, Case, network, rows
from tests.parity.fitting import ours
from tests.parity.test_graphs import GRAPHS, recipe
from tests.train.recipes import DIGITS, loaded, trained
from tests.train.test_direct import record
from trainer.keras_files.exported_program import followed, notes_of, quiet, several, takes_of
from trainer.layers.dense import Dense
from trainer.layers.embedding import Embedding
from trainer.layers.graph import chain
from trainer.layers.recurrent import LSTM
from trainer.model.network import Network

TEXTS = """
name: texts
dataset:
  source: {csv: {path: rows.csv}}
  inputs:
    numbers: {columns: [a, b], preprocess: [Normalization]}
    word: {columns: [w], preprocess: [{StringLookup: {output_mode: one_hot}}]}
  targets: {y: {columns: [y]}}
model:
  layers:
    - Dense: {name: of_numbers, inputs: numbers, units: 3}
    - Dense: {name: of_word, inputs: word, units: 3}
    - Add: {inputs: [of_numbers, of_word]}
    - Dense: {units: 1}
compile: {optimizer: adam, loss: mse}
fit: {epochs: 1}
"""


def hold(case: Case, name: str) -> None:
    """The program gives what the network gives, for other numbers of rows too."""
    with quiet(), torch.no_grad():
        program = followed(case.network, case.entries(), case.xs).module()
        scales: list[float] = []
        for count in (40, 7, 1):
            xs = [torch.cat([x] * 8)[:count] for x in case.xs]
            wanted = case.network.run(*xs).outputs
            scales = scales or [max(float(made.abs().max()), 1e-6) for made in wanted]
            for found, theirs, scale in zip(several(program(*xs)), wanted, scales, strict=True):
                np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5 * scale, err_msg=f"{name}, {count} rows")


def animal(name: str) -> Case:
    """A layer of the zoo."""
    shape, layer = ANIMALS[name]
    return Case(network(shape, layer), [rows(shape, layer)], Path())


def graph(name: str) -> Case:
    """A model of several branches."""
    built, training = ours(loaded(recipe(name)))
    return Case(built.network.eval(), next(training.train.batches(8)).xs, Path())


SOME = list(ANIMALS)[::9]


@pytest.mark.parametrize("name", SOME)
def test_layers(name: str) -> None:
    hold(animal(name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in ANIMALS if n not in SOME])
def test_every_other_layer(name: str) -> None:
    hold(animal(name), name)


@pytest.mark.parametrize("name", list(GRAPHS)[::6])
def test_graphs(name: str) -> None:
    hold(graph(name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name: str) -> None:
    hold(graph(name), name)


def test_a_run_by_the_command(tmp_path: Path) -> None:
    outcome = trained(tmp_path, DIGITS, "fit.epochs=1")
    answer = call("export", str(outcome.directory), "--to", "pt2", "-o", str(tmp_path / "digits.pt2"))
    assert answer.code == 0, answer.err
    assert "(image float32 (rows, 8, 8)): equal to" in answer.err
    with quiet():
        made = torch.export.load(tmp_path / "digits.pt2").module()(torch.rand(3, 8, 8) * 16)
    torch.testing.assert_close(made.sum(1), torch.ones(3))


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_layers_called_by_words_of_python(tmp_path: Path, form: str) -> None:
    layers = "[Flatten, {Dense: {name: class, units: 8}}, {Dense: {name: None, units: 10, activation: softmax}}]"
    outcome = trained(tmp_path, DIGITS, f"model.layers={layers}", "fit.epochs=1")
    answer = call("export", str(outcome.directory), "--to", form, "-o", str(tmp_path / f"digits.{form}"))
    assert answer.code == 0, answer.err
    assert "equal to" in answer.err


@pytest.mark.parametrize("form", ["pt2", "onnx"])
def test_a_run_whose_layers_are_compiled(tmp_path: Path, form: str) -> None:
    """What follows the model to export it is shown torch's own operations."""
    layers = "[{Conv2D: {filters: 16, kernel_size: 3}}, {BatchNormalization: {}}, ReLU, "
    layers += (
        "{Conv2D: {filters: 16, kernel_size: 2}}, MaxPooling2D, Flatten, {Dense: {units: 10, activation: softmax}}]"
    )
    shape = "dataset.inputs.image.preprocess=[{Reshape: {target_shape: [8, 8, 1]}}]"
    outcome = trained(tmp_path, DIGITS, shape, f"model.layers={layers}", "compile.jit_compile=true", "fit.epochs=1")
    assert record(outcome)["steps_by"] == "operations in a row, some layers compiled"
    answer = call("export", str(outcome.directory), "--to", form, "-o", str(tmp_path / f"digits.{form}"))
    assert answer.code == 0, answer.err
    assert "equal to" in answer.err


def test_steps_that_read_texts_stay_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{i},{i * 2},{'xyz'[i % 3]},{i % 5}" for i in range(40)]
    Path("rows.csv").write_text("a,b,w,y\n" + "\n".join(lines))
    outcome = trained(tmp_path, TEXTS)
    answer = call("export", str(outcome.directory), "--to", "pt2", "-o", str(tmp_path / "texts.pt2"))
    assert answer.code == 0, answer.err
    assert "numbers float32 (rows, 2), word float32 (rows, 4)" in answer.err
    assert "word: StringLookup is not in it (reads texts or looks values up)" in answer.err


def test_a_size_that_torch_ties_is_said() -> None:
    """Steps under a mask are laid out one by one, so that their number is that of the rows that were followed."""
    layers = [Embedding(input_dim=9, output_dim=3, mask_zero=True), LSTM(units=2), Dense(units=1)]
    x = torch.randint(0, 9, (5, 24))
    case = Case(Network(chain(layers, {"x": (None, None)})).eval(), [x], Path())
    entries = [replace(entry, shape=(None, None)) for entry in case.entries()]
    with quiet(), torch.no_grad():
        program = followed(case.network, entries, case.xs)
    assert takes_of(program, entries) == "x int64 (rows, 24)"
    assert notes_of(program, entries) == ("x: torch ties axis 1 to 24, which the model leaves open",)


def test_a_stateful_model_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.ones((64, 4, 2), "float32"), y=np.ones(64, "float32"))
    text = f"""
name: kept
dataset: {{source: {{npz: {{path: {tmp_path / "rows.npz"}}}}}, inputs: {{x: {{}}}}, targets: {{y: {{}}}}}}
model: {{layers: [{{LSTM: {{units: 3, stateful: true}}}}, {{Dense: {{units: 1}}}}]}}
compile: {{optimizer: adam, loss: mse}}
fit: {{epochs: 1, batch_size: 32, shuffle: false}}
"""
    outcome = trained(tmp_path, text)
    for form in ("pt2", "onnx", "code"):
        answer = call("export", str(outcome.directory), "--to", form, "-o", str(tmp_path / f"kept.{form}"))
        assert answer.code == 5
        assert "stateful" in answer.err
