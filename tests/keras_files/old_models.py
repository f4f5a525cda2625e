"""Keras 3 models of what older releases had, with drawn weights: what a file of old must predict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

Model = Any
Shapes = tuple[tuple[int, ...], ...]


@keras.saving.register_keras_serializable(package="tests")
def old_hard_sigmoid(x: Any) -> Any:
    """What hard_sigmoid was before Keras 3."""
    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


def draw(model: Model, seed: int = 0) -> Model:
    """The model with weights drawn, variances above zero."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        low, high = (0.3, 1.5) if "variance" in weight.path else (-0.7, 0.7)
        weight.assign(random.uniform(low, high, weight.shape).astype("float32"))
    return model


def chain(shape: tuple[int | None, ...], *layers: Any) -> Model:
    """A Sequential."""
    return keras.Sequential([keras.Input(shape), *layers])


def _vectors() -> Model:
    regularized = {"kernel_regularizer": keras.regularizers.L2(0.01), "kernel_constraint": keras.constraints.MaxNorm(2)}
    return chain(
        (5,),
        L.Dense(7, activation="relu", kernel_initializer="he_normal", **regularized),
        L.BatchNormalization(epsilon=0.01),
        L.Dropout(0.3),
        L.Dense(6, use_bias=False),
        L.LeakyReLU(0.3),
        L.Dense(4, activation=old_hard_sigmoid),
        L.ELU(0.7),
        L.PReLU(),
        L.GaussianNoise(0.1),
        L.GaussianDropout(0.1),
        L.Dense(3),
        L.Activation("softmax"),
    )


def _pictures(first: bool = False) -> Model:
    form = {"data_format": "channels_first" if first else "channels_last"}
    return chain(
        (3, 9, 8) if first else (9, 8, 3),
        L.ZeroPadding2D(((1, 1), (2, 2)), **form),
        L.Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="tanh", **form),
        L.BatchNormalization(axis=1 if first else -1),
        L.MaxPooling2D(2, **form),
        L.Conv2DTranspose(5, 3, strides=2, padding="same", **form),
        L.Conv2D(3, 2, **form),
        L.AveragePooling2D((2, 1), strides=1, padding="same", **form),
        L.UpSampling2D((2, 1), **form),
        L.Cropping2D(((1, 0), (1, 1)), **form),
        L.SpatialDropout2D(0.2, **form),
        L.Flatten(),
        L.Dense(3),
    )


def _separable() -> Model:
    return chain((8, 7, 3), L.SeparableConv2D(4, 3, depth_multiplier=2, padding="same"), L.GlobalMaxPooling2D())


def _depthwise() -> Model:
    return chain((8, 7, 3), L.DepthwiseConv2D(3, depth_multiplier=2), L.ReLU(6.0, 0.1, 0.2), L.GlobalAveragePooling2D())


def _volumes() -> Model:
    return chain((5, 4, 6, 2), L.Conv3D(3, (2, 1, 3)), L.MaxPooling3D((1, 2, 2)), L.Conv3D(2, 2), L.Flatten())


def _series() -> Model:
    return chain(
        (10, 3),
        L.Conv1D(4, 3, activation="relu"),
        L.MaxPooling1D(2),
        L.Conv1D(3, 2, padding="same"),
        L.UpSampling1D(2),
        L.ZeroPadding1D(1),
        L.Cropping1D((1, 0)),
        L.AveragePooling1D(2, strides=1),
        L.SpatialDropout1D(0.2),
        L.GlobalMaxPooling1D(),
    )


def _gates(words: bool = True) -> Model:
    start = [L.Embedding(9, 4, mask_zero=True)] if words else [L.Masking(0.5)]
    return chain(
        (7,) if words else (7, 3),
        *start,
        L.LSTM(5, return_sequences=True, recurrent_activation=old_hard_sigmoid),
        L.GRU(4, return_sequences=True, recurrent_activation=old_hard_sigmoid, reset_after=False),
        L.SimpleRNN(3, return_sequences=True),
        L.LSTM(3),
        L.Dense(2),
    )


def _both_ways() -> Model:
    return chain(
        (6, 3),
        L.Bidirectional(L.LSTM(3, return_sequences=True, recurrent_activation=old_hard_sigmoid)),
        L.Bidirectional(L.GRU(4, return_sequences=True, reset_after=False), merge_mode="sum"),
        L.TimeDistributed(L.Dense(3, activation="tanh")),
        L.GRU(3, reset_after=False, go_backwards=True),
        L.RepeatVector(2),
        L.Permute((2, 1)),
        L.Reshape((6,)),
    )


def _moving_pictures(first: bool = False) -> Model:
    form = {"data_format": "channels_first" if first else "channels_last"}
    return chain(
        (4, 2, 6, 5) if first else (4, 6, 5, 2),
        L.ConvLSTM2D(3, (2, 3), padding="same", return_sequences=True, recurrent_activation=old_hard_sigmoid, **form),
        L.TimeDistributed(L.Flatten()),
        L.LSTM(2, recurrent_activation=old_hard_sigmoid),
    )


def _cells() -> Model:
    return chain((5, 3), L.RNN([L.LSTMCell(3), L.GRUCell(4, reset_after=False)], return_sequences=True), L.GRU(2))


def _nested() -> Model:
    inner = chain((5,), L.Dense(4), L.BatchNormalization(), L.Dense(4, activation="tanh"))
    middle = chain((4,), L.Dense(6), chain((6,), L.Dense(3), L.BatchNormalization()), L.BatchNormalization())
    return keras.Sequential([keras.Input((5,)), inner, middle, L.Dense(2)])


def _frozen() -> Model:
    made = _nested()
    made.layers[0].layers[0].trainable = False
    made.layers[1].layers[1].layers[1].trainable = False
    return made


def _frozen_inside() -> Model:
    """A model in the model in the model is frozen, which Keras 2 does not say in its description."""
    made = _nested()
    made.layers[1].layers[1].trainable = False
    made.layers[1].layers[1].layers[1].trainable = True
    return made


def _graph() -> Model:
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    shared, again = L.Dense(4, activation="tanh", name="shared"), L.Dense(4, name="again")
    a, b = shared(left), shared(right)
    c = again(again(a))
    inside = keras.Input((4,), name="inside")
    residual = keras.Model(inside, L.Add()([inside, L.Dense(4)(inside)]), name="residual")
    d = residual(residual(L.Maximum()([a, b, c])))
    coder = chain((4,), L.Dense(4), L.BatchNormalization())
    e, f = coder(c), coder(d)
    near = L.Dot(1)([e, f])
    joined = L.Concatenate()([L.Multiply()([e, f]), L.Average()([d, right])])
    return keras.Model([left, right], [near, joined, L.Dense(2, name="third")(joined)])


def _states() -> Model:
    words, start = keras.Input((6, 3)), keras.Input((4,))
    h = L.Dense(4)(start)
    seen, *last = L.LSTM(4, return_sequences=True, return_state=True)(words, initial_state=[h, start])
    made = L.LSTM(4, return_sequences=True)(seen, initial_state=last)
    both = L.Bidirectional(L.GRU(4))(made, initial_state=[h, last[0]])
    return keras.Model([words, start], [L.Subtract()([last[0], L.Minimum()([h, start])]), both, L.Softmax()(made)])


MODELS: dict[str, Callable[[], Model]] = {
    "vectors": _vectors,
    "pictures": _pictures,
    "channels first": lambda: _pictures(first=True),
    "separable": _separable,
    "depthwise": _depthwise,
    "volumes": _volumes,
    "series": _series,
    "words": _gates,
    "masked": lambda: _gates(words=False),
    "both ways": _both_ways,
    "moving pictures": _moving_pictures,
    "moving channels first": lambda: _moving_pictures(first=True),
    "cells": _cells,
    "nested": _nested,
    "frozen": _frozen,
    "frozen inside": _frozen_inside,
    "graph": _graph,
    "states": _states,
}
SINCE = {"depthwise": "2.1", "cells": "2.1", "states": "2.0", "frozen inside": "2.0"}
"Releases that first had what a model is made of; the others are as old as Keras 1."
INTEGERS = {"words": 9}


def made(name: str, seed: int = 0) -> Model:
    """A model of that name with drawn weights."""
    keras.utils.clear_session()
    return draw(MODELS[name](), seed)


def rows(name: str, model: Model, seed: int = 1) -> list[np.ndarray]:
    """Drawn inputs for it."""
    random = np.random.default_rng(seed)
    shapes = [tuple(4 if n is None else n for n in t.shape) for t in model.inputs]
    if name in INTEGERS:
        return [random.integers(0, INTEGERS[name], shape).astype("float32") for shape in shapes]
    found = [random.normal(size=shape).astype("float32") for shape in shapes]
    if name == "masked":
        found[0][1, 2:4] = 0.5
        found[0][2, 5:] = 0.5
    return found


def expected(model: Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What real Keras predicts."""
    made = model(inputs if len(inputs) > 1 else inputs[0], training=False)
    return [t.detach().numpy() for t in keras.tree.flatten(made)]
