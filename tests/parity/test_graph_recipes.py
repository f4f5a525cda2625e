"""The graph recipes beside the same graphs built by hand with Keras's functional API; no config of ours is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import Input, layers

from tests.parity.fitting import arrays, ours
from tests.parity.harness import close
from tests.train.recipes import directory_of
from trainer.recipe.load import Loaded, load_recipe
from trainer.train.build import Built
from trainer.train.devices import settings_kept
from trainer.train.job import Options, fit
from trainer.train.use import OpenRun

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
MADE_HERE = {"unet", "two_outputs"}
"Recipes that read nothing from the data folder."
SHORT = ["dataset.limit=240", "dataset.split.test=100", "fit.epochs=1", "fit.shuffle=false", "expect={}"]
SPARSE: dict[str, Any] = {"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"]}

seen = partial(layers.Conv2D, padding="same", activation="relu")
bare = partial(layers.Conv2D, padding="same", use_bias=False)


def inception() -> keras.Model:
    def module(x: Any, name: str, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> Any:
        largest = layers.MaxPooling2D(3, strides=1, padding="same")(x)
        before_three = seen(three[0], 1, name=f"{name}_before_three")(x)
        before_five = seen(five[0], 1, name=f"{name}_before_five")(x)
        looks = [
            seen(one, 1, name=f"{name}_one")(x),
            seen(three[1], 3, name=f"{name}_three")(before_three),
            seen(five[1], 5, name=f"{name}_five")(before_five),
            seen(pooled, 1, name=f"{name}_pooled")(largest),
        ]
        return layers.Concatenate()(looks)

    image = Input((28, 28, 1))
    x = layers.MaxPooling2D()(seen(16, 5, name="stem")(image))
    x = module(x, "mixed_1", 12, (16, 24), (4, 8), 8)
    x = module(x, "mixed_2", 16, (16, 32), (6, 12), 8)
    x = module(layers.MaxPooling2D()(x), "mixed_3", 24, (24, 48), (8, 16), 16)
    label = layers.Dense(10, activation="softmax", name="dense")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, label)
    model.compile(keras.optimizers.Adam(2e-3), **SPARSE)
    return model


def squeezenet() -> keras.Model:
    def fire(x: Any, name: str, squeeze: int, expand: int) -> Any:
        squeezed = seen(squeeze, 1, name=f"{name}_squeezed")(x)
        narrow = seen(expand, 1, name=f"{name}_expand_1x1")(squeezed)
        wide = seen(expand, 3, name=f"{name}_expand_3x3")(squeezed)
        return layers.Concatenate()([narrow, wide])

    image = Input((28, 28, 1))
    x = layers.MaxPooling2D()(seen(32, 3, name="conv1")(image))
    x = fire(fire(x, "fire2", 8, 32), "fire3", 8, 32)
    x = layers.MaxPooling2D()(x)
    x = fire(fire(x, "fire4", 16, 48), "fire5", 16, 48)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(10, 1, name="conv6")(x))
    model = keras.Model(image, layers.Softmax()(x))
    model.compile(keras.optimizers.Adam(2e-3), **SPARSE)
    return model


def residual() -> keras.Model:
    def convolution(x: Any, name: str, filters: int, size: int = 3, strides: int = 1) -> Any:
        x = bare(filters, size, strides=strides, name=f"{name}_conv2d")(x)
        return layers.BatchNormalization(name=name)(x)

    def block(x: Any, name: str, filters: int, projected: bool) -> Any:
        strides = 2 if projected else 1
        y = layers.ReLU()(convolution(x, f"{name}_first", filters, strides=strides))
        y = convolution(y, f"{name}_second", filters)
        beside = convolution(x, f"{name}_shortcut", filters, 1, 2) if projected else x
        return layers.ReLU()(layers.Add()([beside, y]))

    image = Input((28, 28, 1))
    x = layers.ReLU()(convolution(image, "stem", 16, strides=2))
    for name, filters in {"stage_1": 16, "to_32": 32, "stage_2": 32, "to_64": 64, "stage_3": 64}.items():
        x = block(x, name, filters, name.startswith("to"))
    label = layers.Dense(10, activation="softmax", name="dense")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, label)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True), **SPARSE)
    return model


def unet() -> keras.Model:
    def up(below: Any, beside: Any, size: int, filters: int) -> Any:
        larger = layers.Conv2DTranspose(filters, 2, strides=2, name=f"up_{size}_larger")(below)
        x = layers.Concatenate()([beside, larger])
        return seen(filters, 3, name=f"up_{size}")(seen(filters, 3, name=f"up_{size}_conv2d")(x))

    image = x = Input((48, 48, 1))
    at = {}
    for size, filters in {48: 8, 24: 16, 12: 32, 6: 64}.items():
        x = x if size == 48 else layers.MaxPooling2D()(x)
        x = at[size] = seen(filters, 3, name=f"at_{size}")(seen(filters, 3, name=f"at_{size}_conv2d")(x))
    for size, filters in {12: 32, 24: 16, 48: 8}.items():
        x = up(x, at[size], size, filters)
    model = keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", name="mask")(x))
    overlap = keras.metrics.BinaryIoU(target_class_ids=[1], name="iou")
    model.compile(keras.optimizers.Adam(2e-3), "binary_crossentropy", metrics=["accuracy", overlap])
    return model


def siamese() -> keras.Model:
    tower = keras.Sequential(
        [
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, use_bias=False),
        ],
        name="tower",
    )
    left, right = Input((28, 28, 1)), Input((28, 28, 1))
    difference = layers.Subtract()([tower(left), tower(right)])
    squared = layers.Multiply()([difference, difference])
    model = keras.Model([left, right], layers.Dense(1, activation="sigmoid", name="dense")(squared))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def two_outputs() -> keras.Model:
    image = Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(16, 3, activation="relu", name="conv2d")(image))
    body = layers.Dense(32, activation="relu", name="body")(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(body)
    odd = layers.Dense(1, activation="sigmoid", name="odd")(body)
    model = keras.Model(image, {"digit": digit, "odd": odd})
    losses = {"digit": "sparse_categorical_crossentropy", "odd": "binary_crossentropy"}
    metrics = {"digit": ["accuracy"], "odd": ["accuracy"]}
    model.compile("adam", losses, loss_weights={"digit": 1.0, "odd": 0.5}, metrics=metrics)
    return model


BY_HAND: dict[str, Callable[[], keras.Model]] = {
    made.__name__: made for made in (inception, squeezenet, residual, unet, siamese, two_outputs)
}
DOUBLE = 1e-7
every_recipe = pytest.mark.parametrize("name", BY_HAND)


@pytest.fixture
def data(name: str, request: pytest.FixtureRequest) -> Path | None:
    """The folder that the recipe reads from."""
    return None if name in MADE_HERE else request.getfixturevalue("data_folder")


def short(name: str, *sets: str) -> Loaded:
    """A recipe over a few rows in their order."""
    return load_recipe(RECIPES / f"{name}.yaml", [*SHORT, *sets])


def equalled(built: Built, model: Any) -> list[tuple[str, torch.Tensor, Any, bool]]:
    """Put equal weights, none of them at its default, into both: (name, ours, Keras's, whether it trains) of each."""
    random = np.random.default_rng(3)
    theirs = {layer.name: layer for layer in model.layers if layer.weights}
    assert set(theirs) == {name for name in built.graph.layers if list(built.network.cell(name).rows())}
    pairs = []
    for name, layer in theirs.items():
        rows = list(built.network.cell(name).rows())
        variables = [*layer.trainable_weights, *layer.non_trainable_weights]
        assert [tuple(t.shape) for _, _, t, _ in rows] == [tuple(v.shape) for v in variables], name
        for (spec, path, tensor, moves), variable in zip(rows, variables, strict=True):
            change = random.normal(0, 0.03, tuple(tensor.shape))
            change = np.abs(change) if "variance" in spec.name else change
            value = tensor.detach().numpy() + change.astype(str(tensor.numpy(force=True).dtype))
            variable.assign(value)
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(value))
            pairs.append((f"{name} {path}", tensor, variable, moves))
    return pairs


def alone(values: Sequence[Any]) -> Any:
    """One tensor by itself, several as a list: what Keras is given."""
    return values[0] if len(values) == 1 else list(values)


def listed(outputs: Any) -> list[Any]:
    """Outputs of a Keras model in order."""
    values = list(outputs.values()) if isinstance(outputs, dict) else outputs
    return list(values) if isinstance(values, (list, tuple)) else [values]


@every_recipe
def test_forward_is_that_of_the_graph_built_by_hand(name: str, data: Path | None) -> None:
    built, training = ours(short(name), Options(data=data))
    model: Any = BY_HAND[name]()
    equalled(built, model)
    xs = next(training.train.batches(32)).xs
    made = built.network.eval().run(*xs).outputs
    for mine, there in zip(made, listed(model(alone(xs))), strict=True):
        close(mine, there, "outputs")


@every_recipe
@pytest.mark.usefixtures("keras_in_double")
def test_gradients_are_those_of_the_graph_built_by_hand(name: str, data: Path | None) -> None:
    """In double precision: in float32, a value beside a corner of relu may fall on either side of it."""
    built, training = ours(short(name, "model.dtype=float64"), Options(data=data))
    model: Any = BY_HAND[name]()
    pairs = equalled(built, model)
    xs = next(training.train.batches(16)).xs
    made = built.network.train().run(*xs).outputs
    assert {out.dtype for out in made} == {torch.float64}
    theirs = listed(model(alone(xs), training=True))
    random = torch.Generator().manual_seed(0)
    ups = [torch.randn(out.shape, generator=random, dtype=out.dtype) for out in made]
    for mine, there in zip(made, theirs, strict=True):
        close(mine, there, "outputs", DOUBLE)
    for outputs in (made, theirs):
        torch.stack([(out * up).sum() for out, up in zip(outputs, ups, strict=True)]).sum().backward()
    moving = [(path, tensor, variable) for path, tensor, variable, moves in pairs if moves]
    assert len(moving) == len(model.trainable_weights) > 0
    for path, tensor, variable in moving:
        assert tensor.grad is not None
        assert float(tensor.grad.abs().max()) > 0, path
        close(tensor.grad, variable.value.grad, f"gradient of {path}", DOUBLE)


@every_recipe
@pytest.mark.usefixtures("keras_in_double", "adam_in_double")
def test_an_epoch_is_that_of_the_graph_built_by_hand(name: str, data: Path | None) -> None:
    """The history, whose means are float32 in Keras, and the weights after it."""
    built, training = ours(short(name, "model.dtype=float64"), Options(data=data))
    model: Any = BY_HAND[name]()
    pairs = equalled(built, model)
    x, y = arrays(training.train, weighed=False)
    if isinstance(y, list):
        y = dict(zip(built.graph.outputs, y, strict=True))
    assert training.validation is not None
    held_x, held_y = arrays(training.validation, weighed=False)
    if isinstance(held_y, list):
        held_y = dict(zip(built.graph.outputs, held_y, strict=True))
    size = built.recipe.fit.batch_size
    theirs = model.fit(x, y, size, validation_data=(held_x, held_y), shuffle=False, verbose=0).history
    with settings_kept():
        history = training.run()
    history.pop("learning_rate")
    assert set(history) == set(theirs)
    for figure, values in theirs.items():
        np.testing.assert_allclose(history[figure], values, rtol=1e-6, err_msg=figure)
    for path, tensor, variable, _ in pairs:
        close(tensor, variable, f"{path} after training", DOUBLE)


@every_recipe
def test_keras_opens_the_model_file(name: str, data: Path | None, tmp_path: Path) -> None:
    path = RECIPES / f"{name}.yaml"
    options = Options(runs=tmp_path, data=data, device="cpu")
    outcome = fit(short(name), options, path.read_bytes(), RECIPES)
    model: Any = keras.models.load_model(directory_of(outcome).path / "model.h5")
    run = OpenRun(directory_of(outcome), options)
    columns = run.built.columns(run.sets.train)
    x = [slot.rows(slice(None)).numpy() for slot in run.built.slots(columns)]
    theirs = listed(model.predict(alone(x), verbose=0))
    for mine, there in zip(run.predict(columns).values(), theirs, strict=True):
        close(mine, there, "predictions")
    assert len(theirs) == len(run.built.graph.outputs)
