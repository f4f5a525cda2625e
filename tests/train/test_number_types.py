"""Number types from the recipe to the run's files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from tests.train.recipes import DIGITS, directory_of, loaded, output, trained
from trainer.errors import RecipeError
from trainer.recipe.document import Document
from trainer.recipe.load import recipe_of
from trainer.runs.directory import finder
from trainer.runs.model_file import read_model
from trainer.train.build import build, real_outlines
from trainer.train.job import Options, resume
from trainer.train.rows import divide
from trainer.train.terms import open_table
from trainer.train.use import OpenRun

# Keras's own: numpy's newer way to make arrays of torch's tensors.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SEVERAL = (
    "{MultiOptimizer: {optimizer_map: {default_optimizer: {Adam: {learning_rate: 0.01}}, "
    "optimizer_map: {'(.*/)?dense/.*': {RMSprop: {learning_rate: 0.01}}}}}}"
)
TYPES = ["mixed_bfloat16", "mixed_float16", "float64", "float16", "bfloat16"]
KEPT = {"float64": "float64", "float16": "float16"}
"What files keep weights in; bfloat16 is no type of theirs, and Keras 3.15 does not read what it writes for it."
ONE = "model.layers.0={Dense: {units: 32, activation: relu, dtype: float32}}"


@pytest.mark.parametrize("dtype", TYPES)
def test_keras_opens_the_run_with_the_same_types(tmp_path: Path, dtype: str) -> None:
    half = "16" in dtype
    sets = (ONE,) if half else ()
    outcome = trained(tmp_path, DIGITS, f"model.dtype={dtype}", "fit.epochs=3", *sets)
    assert outcome.figures["test.accuracy"] > 0.7
    path = directory_of(outcome).path / "model.h5"
    model: Any = keras.models.load_model(path)
    policies = [layer.dtype_policy.name for layer in model.layers]
    assert policies == ["float32" if half else dtype, dtype, dtype]
    assert type(model.optimizer).__name__ == ("LossScaleOptimizer" if dtype == "mixed_float16" else "Adam")
    kept = [a.dtype for arrays in read_model(path).weights.values() for a in arrays]
    assert kept == [*["float32" if half else dtype] * 2, *[KEPT.get(dtype, "float32")] * 2]
    variables = [v.dtype for v in model.weights]
    assert variables == [*["float32" if half else dtype] * 2, *["float32" if "mixed" in dtype else dtype] * 2]
    with h5py.File(path) as file:
        assert file.attrs["keras_version"] == keras.__version__
    opened = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    x = np.random.default_rng(1).random((9, 8, 8), "float32") * 16
    made = output(opened, x)
    assert made.dtype == np.dtype("float64" if dtype == "float64" else "float32")
    theirs = np.asarray(model.predict(x.reshape(9, 64) / np.float32(16), verbose=0), "float32")
    np.testing.assert_allclose(made, theirs, atol=0.02 if "bfloat16" in dtype else 0.003)


@pytest.mark.parametrize("word", ["bfloat16", "float16", "float32"])
def test_precision_is_short_for_a_mixed_type(tmp_path: Path, word: str) -> None:
    mixed = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}.get(word, word)
    short = trained(tmp_path, DIGITS, f"compile.precision={word}")
    long = trained(tmp_path, DIGITS, f"model.dtype={mixed}")
    assert short.history == long.history
    opened = OpenRun(directory_of(short), Options(runs=tmp_path, device="cpu"))
    assert opened.built.graph.dtype == mixed
    # A base brings its number type along, whichever way it was said.
    label = directory_of(short).label
    base = f"{{from: {label}, until: dense}}"
    layers = "[{Dense: {units: 10, activation: softmax, name: last}}]"
    sets = [f"model.base={base}", f"model.layers={layers}"]
    document = Document.parse(textwrap.dedent(DIGITS), "recipe.yaml").with_sets(sets)
    on_top = recipe_of(document, "recipe", Path(), find_run=finder(tmp_path))
    (base_line, _) = on_top.recipe.model.layers
    assert (getattr(base_line, "dtype", None) or "float32") == mixed


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["compile.precision=bfloat16", "model.dtype=float64"], "model.dtype says float64 already"),
        (["compile.precision=float32", "model.dtype=mixed_bfloat16"], "model.dtype says mixed_bfloat16 already"),
        (["compile.precision=half"], "precision"),
        (["phases=[{compile: {precision: bfloat16}}]"], "precision"),
    ],
)
def test_what_precision_can_not_be(sets: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        loaded(DIGITS, *sets)
    assert "precision" in caught.value.problems[0].path


@pytest.mark.parametrize("dtype", TYPES)
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
        real_outlines(made.recipe, table)[0],
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


TWO_TYPES = ("model.layers.0={Dense: {units: 32, activation: relu, dtype: float64}}",)
SCALED = ("model.dtype=mixed_float16", f"compile.optimizer={SEVERAL}")
CLIPPED = "compile.optimizer={AdamW: {learning_rate: 0.01, global_clipnorm: 1.0, use_ema: true, ema_momentum: 0.8}}"


@pytest.mark.parametrize("sets", [TWO_TYPES, (*TWO_TYPES, CLIPPED), SCALED], ids=["types", "shared", "several"])
def test_several_updaters_go_on_exactly_and_keras_trains_on(tmp_path: Path, sets: tuple[str, ...]) -> None:
    """Weights of two number types, and several optimizers under one scale of the loss."""
    whole = trained(tmp_path / "a", DIGITS, *sets, "fit.epochs=4")
    assert whole.figures["test.accuracy"] > 0.6
    part = trained(tmp_path / "b", DIGITS, *sets, "fit.epochs=2")
    rest = resume(directory_of(part), Options(runs=tmp_path / "b", device="cpu", epochs=4))
    assert rest.history["loss"][-2:] == whole.history["loss"][-2:]
    ends = [read_model(directory_of(run).path / "model.h5").weights for run in (whole, rest)]
    for name, arrays in ends[0].items():
        assert all(np.array_equal(a, b) for a, b in zip(arrays, ends[1][name], strict=True)), name
    model: Any = keras.models.load_model(directory_of(whole).path / "model.h5")
    assert [v.dtype for v in model.weights] == [str(a.dtype) for arrays in ends[0].values() for a in arrays]
    x, y = np.random.default_rng(1).random((64, 64), "float32"), np.arange(64) % 10
    history = model.fit(x, y, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    wrapped = getattr(model.optimizer, "inner_optimizer", None)
    assert type(wrapped).__name__ == ("MultiOptimizer" if sets is SCALED else "NoneType")


PLAIN = "[{Reshape: {target_shape: [64]}}, {Rescaling: {scale: 1/16}}]"
STEPS = {
    "fitted": "[{Reshape: {target_shape: [64]}}, {Normalization: {dtype: DTYPE}}]",
    "drawn": "[{Reshape: {target_shape: [8, 8, 1]}}, {RandomTranslation: {height_factor: 0.1, width_factor: 0.1, "
    "dtype: DTYPE}}, {Reshape: {target_shape: [64]}}]",
}


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("steps", STEPS)
def test_preprocessing_in_half_precision_reaches_a_model_in_full(tmp_path: Path, steps: str, dtype: str) -> None:
    outcome = trained(tmp_path, DIGITS.replace(PLAIN, STEPS[steps].replace("DTYPE", dtype)), "fit.epochs=1")
    opened = OpenRun(directory_of(outcome), Options(runs=tmp_path, device="cpu"))
    x = np.zeros((9, 8, 8), "float32")
    x[:, 2:6, 2:6] = np.random.default_rng(1).random((9, 4, 4), "float32") * 16
    made = output(opened, x)
    assert made.dtype == np.float32
    assert np.isfinite(made).all()
    if steps == "fitted":
        kept = opened.built.preprocessing()["inputs"]["image"]["1/mean"]
        half: Any = keras.ops.cast(kept, dtype.removeprefix("mixed_"))
        rounded = half.float().numpy()
        assert np.array_equal(kept, rounded) == (not dtype.startswith("mixed"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_slots_are_of_the_weights_type(tmp_path: Path, dtype: str) -> None:
    """As Keras's variables are; a checkpoint keeps them to the bit, so a resumed run goes on exactly."""
    outcome = trained(tmp_path, DIGITS, f"model.dtype={dtype}", "fit.epochs=1")
    state = read_model(directory_of(outcome).path / "model.h5").extra["training"]["optimizer"]
    slots = {name: value for name, value in state.items() if "/" in name}
    assert {value.dtype.name for value in slots.values()} == {KEPT.get(dtype, "float32")}
    layer = keras.layers.Dense(3, dtype=dtype)
    layer.build((None, 2))
    adam = keras.optimizers.Adam()
    adam.build(layer.trainable_weights)
    assert {v.dtype for v in adam.variables if "momentum" in v.path or "velocity" in v.path} == {dtype}
    if dtype == "bfloat16":
        for value in slots.values():
            assert (value.view("uint32") & 0xFFFF == 0).all()


def test_keras_does_not_move_bfloat16_weights_by_adam() -> None:
    """It takes beta_2 = 0.999 into bfloat16, where it is 1; ours keeps such numbers apart from the weights' type."""
    layer: Any = keras.layers.Dense(1, dtype="bfloat16")
    layer.build((None, 2))
    before = layer.kernel.value.detach().clone()
    adam = keras.optimizers.Adam(0.1)
    adam.apply([keras.ops.ones_like(v) for v in layer.trainable_weights], layer.trainable_weights)
    assert before.equal(layer.kernel.value)


def test_bfloat16_as_keras_writes_it_is_read(tmp_path: Path) -> None:
    """Two bytes of no type, which Keras (3.15.1) does not read from its own .h5."""
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(4, dtype="bfloat16", name="half")])
    model.layers[0].bias.assign([1.5, -2.0, 1e-30, 3e38])
    model.save(tmp_path / "keras.h5")
    with pytest.raises(ValueError, match="void16"):
        keras.models.load_model(tmp_path / "keras.h5")
    found = read_model(tmp_path / "keras.h5").weights["half"]
    assert [a.dtype for a in found] == [np.dtype("float32")] * 2
    for array, variable in zip(found, model.weights, strict=True):
        assert np.array_equal(array, variable.value.detach().float().numpy())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_frozen_statistics_in_half_precision(dtype: str, tmp_path: Path) -> None:
    """They are kept in the layer's type, and what is normalized by them comes in float32."""
    layers = (
        "[{Dense: {units: 12}}, {BatchNormalization: {trainable: false}}, {Dense: {units: 10, activation: softmax}}]"
    )
    runs = [
        trained(tmp_path, DIGITS, f"model={{dtype: {dtype}, layers: {layers}}}", "fit.epochs=1", engine=engine)
        for engine in ("plain", "auto")
    ]
    plain, ours = (run.history["loss"] for run in runs)
    np.testing.assert_allclose(ours, plain, rtol=0.02)
