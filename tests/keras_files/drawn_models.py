"""Models of real Keras, drawn at random: chains and graphs, shared layers and models, several inputs and outputs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

L = keras.layers
SHAPES: dict[str, tuple[int, ...]] = {"vector": (6,), "series": (5, 4), "picture": (8, 7, 3), "ids": (5,)}
ROWS = 7


class Graph:
    """A functional model with one to three inputs, and outputs for whatever is left over."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        kinds = self.random.choices(list(SHAPES), k=self.random.choice([1, 1, 2, 3]))
        self.kinds = dict(zip([f"{kind}_{i}" for i, kind in enumerate(kinds)], kinds, strict=True))
        self.inputs = [keras.Input(SHAPES[kind], name=name) for name, kind in self.kinds.items()]
        self.loose: list[Any] = []
        self.seen: list[Any] = []
        self.shared: list[tuple[Any, tuple[Any, ...]]] = []
        for tensor, kind in zip(self.inputs, kinds, strict=True):
            self.add(L.Embedding(7, 4, mask_zero=self.random.random() < 0.3)(tensor) if kind == "ids" else tensor)
        for _ in range(self.random.randint(2, 9)):
            self.step()
        self.model = keras.Model(self.inputs, self.ends())
        self.weigh()

    def add(self, tensor: Any, *read: Any) -> None:
        """Keep a tensor to read; what it was made of is no end any more."""
        self.loose = [t for t in self.loose if not any(t is r for r in read)]
        self.loose.append(tensor)
        self.seen.append(tensor)

    def step(self) -> None:
        """One more layer somewhere."""
        tensor = self.random.choice(self.seen[-6:])
        if self.shared and self.random.random() < 0.3:
            layer, shape = self.random.choice(self.shared)
            if tuple(tensor.shape) == tuple(shape):
                self.add(self.first(layer(tensor)), tensor)
                return
        if self.random.random() < 0.25:
            alike = [t for t in self.seen if tuple(t.shape) == tuple(tensor.shape)]
            others = [self.random.choice(alike) for _ in range(self.random.choice([1, 1, 2]))]
            kind = self.random.choice([L.Add, L.Maximum, L.Average, L.Concatenate, L.Multiply])
            self.add(kind()([tensor, *others]), tensor, *others)
            return
        made = self.drawn(len(tensor.shape))
        if isinstance(made, tuple):
            made[0](self, tensor)
            return
        self.shared.append((made, tuple(tensor.shape)))
        self.add(self.first(made(tensor)), tensor)

    def first(self, made: Any) -> Any:
        return self.random.choice(made) if isinstance(made, list) else made

    def drawn(self, rank: int) -> Any:
        """A layer for a tensor of that rank, or a function that adds several."""
        units = self.random.choice([2, 3, 4])
        anywhere: list[Callable[[], Any]] = [
            lambda: L.Dense(units, activation=self.random.choice([None, "relu", "tanh", "softmax"])),
            lambda: L.BatchNormalization(epsilon=1e-2, trainable=self.random.random() < 0.7),
            lambda: L.Dropout(0.3),
            lambda: L.LayerNormalization(),
            lambda: L.Activation("gelu"),
            lambda: L.LeakyReLU(negative_slope=0.1),
            lambda: L.Flatten(),
            lambda: inner_chain(units, rank),
        ]
        if rank == 2:
            anywhere += [lambda: L.RepeatVector(3), lambda: (two_inputs,), lambda: (two_outputs,)]
        if rank == 3:
            anywhere += [
                lambda: L.LSTM(units, return_sequences=self.random.random() < 0.5),
                lambda: L.GRU(units, reset_after=self.random.random() < 0.5),
                lambda: L.Bidirectional(L.GRU(units, return_sequences=True)),
                lambda: L.TimeDistributed(L.Dense(units, activation="relu")),
                lambda: L.Conv1D(units, 2, padding="same"),
                lambda: L.SeparableConv1D(units, 2, padding="causal" if False else "same"),
                lambda: L.GlobalAveragePooling1D(),
                lambda: (with_states,),
                lambda: (attended,),
            ]
        if rank == 4:
            anywhere += [
                lambda: L.Conv2D(units, 3, padding="same", activation="relu"),
                lambda: L.DepthwiseConv2D(2, depth_multiplier=2, padding="same"),
                lambda: L.MaxPooling2D(2, padding="same"),
                lambda: L.GlobalMaxPooling2D(),
                lambda: L.UpSampling2D(2),
            ]
        return self.random.choice(anywhere)()

    def ends(self) -> Any:
        made = []
        for tensor in self.loose:
            flat = tensor if len(tensor.shape) == 2 else L.Flatten()(tensor)
            made.append(L.Dense(2)(flat) if self.random.random() < 0.7 else flat)
        return made if len(made) > 1 or self.random.random() < 0.5 else made[0]

    def weigh(self) -> None:
        """Numbers in all weights that are nowhere at their default."""
        numbers = np.random.default_rng(self.random.randrange(2**31))
        for weight in self.model.weights:
            if "seed" not in weight.path:
                shape = tuple(weight.shape)
                value = numbers.normal(0, 0.4, shape)
                weight.assign((np.abs(value) + 0.2 if "variance" in weight.path else value).astype("float32"))

    def rows(self) -> dict[str, np.ndarray]:
        """Rows for the inputs."""
        numbers = np.random.default_rng(3)
        return {
            name: numbers.integers(0, 7, (ROWS, 5)).astype("float32")
            if kind == "ids"
            else numbers.normal(0, 1, (ROWS, *SHAPES[kind])).astype("float32")
            for name, kind in self.kinds.items()
        }


def inner_chain(units: int, rank: int) -> Any:
    """A Sequential with layers that have weights which do not train."""
    layers = [L.Dense(units, activation="relu"), L.BatchNormalization(), L.Dropout(0.1), L.Dense(units)]
    return keras.Sequential([*layers, keras.Sequential([L.Dense(3)])] if rank == 2 else layers)


def two_inputs(graph: Graph, tensor: Any) -> None:
    """A model of two inputs, called twice."""
    shape = tensor.shape[1:]
    a, b = keras.Input(shape), keras.Input(shape)
    hidden = L.Dense(3, activation="tanh")
    inner = keras.Model([a, b], L.Subtract()([hidden(a), L.BatchNormalization()(hidden(b))]))
    graph.add(inner([tensor, L.Dense(shape[0])(tensor)]), tensor)
    graph.add(inner([L.Activation("relu")(tensor), tensor]), tensor)


def two_outputs(graph: Graph, tensor: Any) -> None:
    """A model of one input with two outputs, of which both are read, or one."""
    a = keras.Input(tensor.shape[1:])
    hidden = L.Dense(4, activation="relu")(a)
    inner = keras.Model(a, [L.Dense(2)(hidden), L.Dense(3)(hidden)])
    left, right = inner(tensor)
    graph.add(right, tensor)
    if graph.random.random() < 0.5:
        graph.add(left, tensor)


def with_states(graph: Graph, tensor: Any) -> None:
    """A recurrent layer whose states begin another one."""
    out, h, c = L.LSTM(3, return_state=True, return_sequences=graph.random.random() < 0.5)(tensor)
    graph.add(L.LSTM(3)(tensor, initial_state=[h, c]), tensor)
    graph.add(out, tensor)


def attended(graph: Graph, tensor: Any) -> None:
    """Attention over the steps."""
    if graph.random.random() < 0.5:
        graph.add(L.MultiHeadAttention(2, 3)(tensor, tensor, use_causal_mask=graph.random.random() < 0.4), tensor)
    else:
        graph.add(L.Attention()([tensor, L.Dense(tensor.shape[-1])(tensor)]), tensor)
