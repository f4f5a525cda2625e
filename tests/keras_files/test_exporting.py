"""`trainer export`: what it writes, says and refuses; the files in real Keras are those of the other tests here."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.parity.harness import close
from tests.recipe.test_plugins import TIMES
from tests.train.recipes import DIGITS
from trainer.cli.app import run
from trainer.keras_files.exporting import FORMS
from trainer.recipe import plugins
from trainer.runs.directory import RunDirectory
from trainer.train.job import Options
from trainer.train.scoring import predict
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BEST = """
callbacks:
  - ModelCheckpoint: {filepath: checkpoints/best.h5, monitor: val_loss, save_best_only: true}
  - LearningRateScheduler: {schedule: {0: 0.01, 2: 0.0025}}
"""


class Said:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def trainer(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Calls the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRAINER_DATA", raising=False)

    def call(*words: str) -> Said:
        capfd.readouterr()
        return Said(run(list(words)), *capfd.readouterr())

    yield call
    for name in [n for n in sys.modules if n.startswith("trainer_plugin_")]:
        plugins._forget(name)
    plugins._loaded.clear()


@pytest.fixture
def done(trainer: Any, tmp_path: Path) -> Any:
    """The same, with a run of the digits."""
    (tmp_path / "digits.yaml").write_text(DIGITS + BEST)
    assert trainer("fit", "digits.yaml", "-q").code == 0
    return trainer


def held(tmp_path: Path, path: Path, checkpoint: str | None = None) -> Any:
    """A file opened by real Keras, with predictions equal to those of the run."""
    opened = OpenRun(RunDirectory.find(tmp_path / "runs", "last"), Options(device="cpu"), checkpoint)
    slots = opened.built.feed(opened.rows("test")).xs
    model = keras.models.load_model(path)
    x = slots[0].rows(slice(None)).numpy()
    close(predict(opened.built.network, slots)[0], model.predict(x, verbose=0), "predictions")
    return model


def test_an_archive_says_what_it_is_and_what_is_not_in_it(done: Any, tmp_path: Path) -> None:
    said = done("export", "--to", "keras")
    assert (said.code, said.out) == (0, "digits.keras\n")
    size = (tmp_path / "digits.keras").stat().st_size
    assert said.err.splitlines() == [
        f"digits.keras: {size:,} bytes, 3 layers, 2,410 parameters",
        "Keras 3.15.1 opens it, predicts, evaluates, and trains on from where Adam stands",
        "note: not in the file: preprocessing of input image (Reshape, Rescaling); the model takes rows as they are "
        "after it",
    ]
    model = held(tmp_path, tmp_path / "digits.keras")
    assert int(model.optimizer.iterations.value) == 4 * 15
    assert float(model.optimizer.learning_rate.value) == np.float32(0.0025)
    with zipfile.ZipFile(tmp_path / "digits.keras") as archive:
        assert archive.namelist() == ["metadata.json", "config.json", "model.weights.h5"]
        metadata = json.loads(archive.read("metadata.json"))
    record = RunDirectory.find(tmp_path / "runs", "last").record()
    assert metadata["keras_version"] == "3.15.1"
    assert metadata["date_saved"].replace("@", "T") == record["finished"][:19]


def test_equal_runs_make_equal_files(done: Any, tmp_path: Path) -> None:
    for word, form in ((word, FORMS[word]) for word in ("keras", "h5", "weights", "json")):
        for name in ("a", "b"):
            assert done("export", "last", "--to", word, "-o", f"{name}{form.suffix}", "-q").code == 0
        assert (tmp_path / f"a{form.suffix}").read_bytes() == (tmp_path / f"b{form.suffix}").read_bytes()


def test_hdf5_with_and_without_the_state(done: Any, tmp_path: Path) -> None:
    plain = done("export", "digits", "--to", "h5")
    assert "trains on with a fresh optimizer" in plain.err
    model = held(tmp_path, tmp_path / "digits.h5")
    assert float(model.optimizer.learning_rate.value) == np.float32(0.0025)
    said = done("export", "--to", "h5", "--optimizer", "-o", "state.hdf5", "--json")
    assert "can't `fit`" in json.loads(said.out)["result"]["notes"][0]
    held(tmp_path, tmp_path / "state.hdf5")
    with h5py.File(tmp_path / "digits.h5") as one, h5py.File(tmp_path / "state.hdf5") as other:
        assert set(one) == {"model_weights"}
        assert set(other) == {"model_weights", "optimizer_weights"}
        assert len(other["optimizer_weights"].attrs["weight_names"]) == 2 + 2 * 4


def test_weights_and_architecture(done: Any, tmp_path: Path) -> None:
    for word in ("keras", "json", "weights"):
        assert done("export", "--to", word).code == 0
    model = keras.models.model_from_json((tmp_path / "digits.json").read_text())
    model.load_weights(tmp_path / "digits.weights.h5")
    whole = keras.models.load_model(tmp_path / "digits.keras")
    for a, b in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert done("export", "--to", "weights", "--optimizer", "--force").code == 0
    whole.load_weights(tmp_path / "digits.weights.h5")


def test_the_best_checkpoint_has_no_state(done: Any, tmp_path: Path) -> None:
    said = done("export", "--to", "keras", "--checkpoint", "best", "-o", str(tmp_path))
    assert (said.code, said.out) == (0, f"{tmp_path / 'digits.keras'}\n")
    assert "trains on with a fresh optimizer" in said.err
    assert "has no optimizer's state" in said.err
    assert int(held(tmp_path, tmp_path / "digits.keras", "best").optimizer.iterations.value) == 0
    said = done("export", "--to", "keras", "--checkpoint", "best", "--optimizer", "--force")
    assert said.code == 5
    assert "this file of the run holds none" in said.err


def test_nothing_is_overwritten_unasked(done: Any, tmp_path: Path) -> None:
    (tmp_path / "digits.keras").write_bytes(b"mine")
    said = done("export", "--to", "keras")
    assert said.code == 2
    assert "digits.keras exists" in said.err
    assert (tmp_path / "digits.keras").read_bytes() == b"mine"
    assert done("export", "--to", "keras", "--force").code == 0
    assert (tmp_path / "digits.keras").read_bytes() != b"mine"
    assert done("export", "--to", "keras", "-o", "new/place/x.keras").code == 0
    (tmp_path / "folder.keras").mkdir()
    assert done("export", "--to", "keras", "-o", "folder.keras").out == "folder.keras/digits.keras\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "export needs --to"),
        (("--to", "kers"), 2, "did you mean keras?"),
        (("--to", "json", "--optimizer"), 2, "json has no place for the optimizer's state"),
        (("--to", "keras", "-o", "x.h5"), 2, "expected a name that ends in .keras, found x.h5"),
        (("--to", "h5", "-o", "x.weights.h5"), 2, "expected a name that ends in .h5, found x.weights.h5"),
        (("--to", "weights", "-o", "x.h5"), 2, "expected a name that ends in .weights.h5, found x.h5"),
        (("--to", "keras", "--checkpoint", "worst"), 5, "has no worst.h5"),
    ],
)
def test_refusals(done: Any, tmp_path: Path, words: tuple[str, ...], code: int, says: str) -> None:
    before = sorted(tmp_path.iterdir())
    said = done("export", "last", *words)
    assert said.code == code
    assert says in said.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_nothing(done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        code = run(["export", "--to", "keras", "-q"])
    assert code == 4
    assert sorted(tmp_path.iterdir()) == before


PLUGIN = """
name: times
seed: 2
plugins: [times.py]
dataset: {source: digits, inputs: {image: {preprocess: [{Rescaling: {scale: 1/16}}]}}, targets: {label: {}}, limit: 64,
  split: {test: {last: 16}}}
model: {layers: [Flatten, TimesHere, {Dense: {units: 10, activation: softmax}}]}
compile: {optimizer: sgd, loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""


def test_classes_of_plugins_are_named(trainer: Any, tmp_path: Path) -> None:
    (tmp_path / "times.py").write_text(TIMES.format(factor=3.0))
    (tmp_path / "times.yaml").write_text(PLUGIN)
    assert trainer("fit", "times.yaml", "-q").code == 0
    said = trainer("export", "--to", "keras")
    assert said.code == 0
    assert "note: Keras has no times_here (TimesHere); register classes of these names there first: `@keras" in said.err

    @keras.saving.register_keras_serializable("trainer")
    class TimesHere(keras.layers.Layer):
        def __init__(self, factor: float, **rest: Any):
            super().__init__(**rest)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return x * self.factor

    held(tmp_path, tmp_path / "times.keras")


def test_an_old_hard_sigmoid_is_handed_to_keras(trainer: Any, tmp_path: Path) -> None:
    old = DIGITS.replace("activation: relu", "activation: legacy_hard_sigmoid")
    (tmp_path / "old.yaml").write_text(old.replace("name: digits", "name: old"))
    assert trainer("fit", "old.yaml", "-q").code == 0
    said = trainer("export", "--to", "keras")
    assert "Keras has no dense (LegacyHardSigmoid); give `load_model` custom_objects=" in said.err
    with keras.saving.custom_object_scope({"legacy_hard_sigmoid": lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1)}):
        held(tmp_path, tmp_path / "old.keras")


LAMB = DIGITS.replace("{adam: {learning_rate: 0.01}}", "lamb").replace("name: digits", "name: lamb")


def test_lamb_goes_into_archives_alone(trainer: Any, tmp_path: Path) -> None:
    """Keras 3.15 forgot it where it reads optimizers from HDF5 files."""
    (tmp_path / "lamb.yaml").write_text(LAMB)
    assert trainer("fit", "lamb.yaml", "-q").code == 0
    said = trainer("export", "--to", "h5")
    assert "finds no Lamb in an .h5 file" in said.err
    held(tmp_path, tmp_path / "lamb.h5")
    assert trainer("export", "--to", "h5", "--optimizer", "--force").code == 5
    assert trainer("export", "--to", "keras").code == 0
    assert type(held(tmp_path, tmp_path / "lamb.keras").optimizer).__name__ == "Lamb"


def test_a_model_with_nothing_to_train_goes_into_archives(trainer: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Rescaling(2.0), keras.layers.Softmax()])
    model.save(tmp_path / "fixed.keras")
    assert trainer("import", "fixed.keras", "-q").code == 0
    said = trainer("export", "--to", "keras", "-o", "back.keras")
    assert said.code == 0, said.err
    rows = np.eye(4, dtype="float32")
    back = keras.saving.load_model(tmp_path / "back.keras")
    np.testing.assert_allclose(back.predict(rows, verbose=0), model.predict(rows, verbose=0), rtol=1e-6)


JOINED = """
dataset:
  source: digits
  inputs: {image: {preprocess: [{Reshape: {target_shape: [64]}}]}}
  split: {test: {last: 20}}
  limit: 40
model:
  layers:
    - Embedding: {name: e, inputs: image, input_dim: 17, output_dim: 4, mask_zero: true}
    - Embedding: {name: f, inputs: image, input_dim: 17, output_dim: 3}
    - Concatenate: {inputs: [e, f]}
    - GlobalAveragePooling1D
    - Dense: {units: 10, activation: softmax}
compile: {optimizer: adam, loss: sparse_categorical_crossentropy}
fit: {epochs: 1}
"""
LOAD = "import sys, keras; print(*(keras.models.load_model(path).count_params() for path in sys.argv[1:]))"


@pytest.mark.parametrize("name", ["", "name: concatenate_1, "])
def test_keras_in_a_process_of_its_own_joins_masks(trainer: Any, tmp_path: Path, name: str) -> None:
    """It names the operation that joins them as the layer is named by default, counting from its start."""
    (tmp_path / "joined.yaml").write_text(JOINED.replace("Concatenate: {", "Concatenate: {" + name))
    assert trainer("fit", "joined.yaml", "-q").code == 0
    assert trainer("export", "last", "--to", "keras", "-o", "joined.keras", "-q").code == 0
    model = RunDirectory.find(tmp_path / "runs", "last").path / "model.h5"
    for path in (model, tmp_path / "joined.keras"):
        found = subprocess.run(
            [sys.executable, "-c", LOAD, str(path), str(path)],
            env={**os.environ, "KERAS_BACKEND": "torch"},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        assert found.stdout.split() == [str(17 * 4 + 17 * 3 + 7 * 10 + 10)] * 2
    assert trainer("import", "joined.keras", "-q").code == 0


AN_OUTPUT = """
import keras
from trainer.layers.graph import grown
from trainer.layers.lines import Lines
from trainer.layers.wiring import wire
from trainer.runs.keras_config import model_config

lines = [
    {"Embedding": {"name": "e", "inputs": "concatenate_layer", "input_dim": 12, "output_dim": 6, "mask_zero": True}},
    {"Embedding": {"name": "f", "inputs": "concatenate_layer", "input_dim": 12, "output_dim": 3}},
    {"Concatenate": {"inputs": ["e", "f"]}},
    "GlobalAveragePooling1D",
    {"Dense": {"units": 4}},
]
read = [Lines.line(line) for line in Lines.spelled(lines)]
graph = grown(wire(read, ["concatenate_layer"], ["concatenate", "dense"]), {"concatenate_layer": (None, 9)})
model = keras.Model.from_config(model_config(graph)["config"])
print(*(tuple(made.shape) for made in model.outputs))
"""


def test_so_it_is_where_that_is_an_output_beside_an_input_of_the_other_name() -> None:
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    found = subprocess.run([sys.executable, "-c", AN_OUTPUT], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "(None, 9, 9) (None, 4)"
