"""Number types from the recipe to the run's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, loaded, trained
from trainer.errors import RecipeError
from trainer.runs.model_file import read_model
from trainer.train.build import build, real_outline
from trainer.train.job import Options, resume
from trainer.train.rows import divide
from trainer.train.terms import open_table
from trainer.train.use import OpenRun

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SEVERAL = "{MultiOptimizer: {optimizer_map: {default_optimizer: adam}}}"
ONE = "model.layers.0={Dense: {units: 32, activation: relu, dtype: float32}}"


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_keras_opens_the_run_with_the_same_types(tmp_path: Path, dtype: str) -> None:
    sets = () if dtype == "float64" else (ONE,)
    outcome = trained(tmp_path, DIGITS, f"model.dtype={dtype}", "fit.epochs=3", *sets)
    assert outcome.figures["test.accuracy"] > 0.7
    path = directory_of(outcome).path / "model.h5"
    model: Any = keras.models.load_model(path)
    policies = [layer.dtype_policy.name for layer in model.layers]
    assert policies == [dtype if dtype == "float64" else "float32", dtype, dtype]
    assert type(model.optimizer).__name__ == ("LossScaleOptimizer" if dtype == "mixed_float16" else "Adam")
    kept = {a.dtype for arrays in read_model(path).weights.values() for a in arrays}
    assert kept == {np.dtype("float64" if dtype == "float64" else "float32")}
    with h5py.File(path) as file:
        assert file.attrs["keras_version"] == keras.__version__
    opened = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    x = np.random.default_rng(1).random((9, 8, 8), "float32") * 16
    made = opened.predict(x)
    assert made.dtype == np.dtype("float64" if dtype == "float64" else "float32")
    theirs = np.asarray(model.predict(x.reshape(9, 64) / np.float32(16), verbose=0), "float32")
    np.testing.assert_allclose(made, theirs, atol=0.02 if dtype == "mixed_bfloat16" else 0.003)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_a_resumed_run_goes_on_exactly(tmp_path: Path, dtype: str) -> None:
    whole = trained(tmp_path / "a", DIGITS, f"model.dtype={dtype}", "fit.epochs=4")
    part = trained(tmp_path / "b", DIGITS, f"model.dtype={dtype}", "fit.epochs=2")
    rest = resume(directory_of(part), Options(runs=tmp_path / "b", device="cpu", epochs=4))
    assert rest.history["loss"][-2:] == whole.history["loss"][-2:]


def test_plain_float32_is_not_cast() -> None:
    made = loaded(DIGITS)
    table = open_table(made.recipe, None, Options())
    built = build(
        made.recipe,
        real_outline(made.recipe, table),
        divide(made.recipe, table).train,
        __import__("torch").device("cpu"),
    )
    assert all(cell.acts is cell.layer for cell in built.network.cells.values())


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("model.dtype=float8", ("model", "dtype"), "expected one of 'float32', 'float64'"),
        ("model.layers.1={Dropout: {rate: 0.1, dtype: int8}}", ("dtype",), "expected one of"),
    ],
)
def test_unknown_types_are_refused(text: str, path: tuple[str, ...], words: str) -> None:
    with pytest.raises(RecipeError) as raised:
        loaded(DIGITS, text)
    (problem,) = raised.value.problems
    assert problem.path[-len(path) :] == path
    assert words in problem.message


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (
            ("model.layers.0={Dense: {units: 4, dtype: float64}}",),
            "one number type to train, found float32 and float64",
        ),
        (
            (
                "model.dtype=mixed_float16",
                "compile.optimizer={MultiOptimizer: {optimizer_map: {default_optimizer: adam}}}",
            ),
            "mixed_float16 scales the loss, which MultiOptimizer can't do",
        ),
    ],
)
def test_what_can_not_train_is_refused(tmp_path: Path, sets: tuple[str, ...], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        trained(tmp_path, DIGITS, *sets)
