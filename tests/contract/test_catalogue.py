"""Sweeps over every catalogue: documented, readable back, known to Keras under the same names and defaults."""

from __future__ import annotations

import inspect
import re
from typing import Any

import keras
import pytest
from keras.src.models import functional

from trainer.block import describe
from trainer.declare import REQUIRED, Declared, explained
from trainer.recipe.explanation import explain
from trainer.recipe.json_schema import KINDS

LEAST = {
    "activation": 20,
    "callback": 7,
    "constraint": 4,
    "initializer": 14,
    "layer": 29,
    "loss": 5,
    "metric": 8,
    "optimizer": 3,
    "regularizer": 3,
    "schedule": 6,
    "source": 17,
}
FINALS: list[tuple[type[Declared], str, type[Declared]]] = [
    (kind, name, final) for kind in KINDS for name, final in (kind.spellings(), sorted(kind.catalogue.items()))[1]
]
EVERY = [pytest.param(kind, final, id=f"{kind.kind}-{name}") for kind, name, final in FINALS]
SAMPLES: dict[str, Any] = {
    "units": 3, "filters": 3, "rate": 0.5, "kernel_size": 3, "pool_size": 2, "target_shape": [4], "dims": [1], "n": 2,
    "input_dim": 7, "output_dim": 3, "scale": 2.0, "num_tokens": 5, "maxlen": 5, "activation": "relu", "stddev": 0.1,
    "learning_rate": 0.5, "initial_learning_rate": 0.1, "decay_steps": 10, "decay_rate": 0.5, "first_decay_steps": 10,
    "boundaries": [1, 5], "values": [1.0, 0.5, 0.1], "path": "rows.csv", "images": "a.gz", "labels": "b.gz",
    "output_size": 2, "axes": 1, "equation": "ab,bc->ac", "output_shape": 3, "layer": {"LSTM": {"units": 3}},
    "layers": [{"Dense": {"units": 3}}],
    "head_dim": 2, "num_heads": 2, "key_dim": 2, "num_query_heads": 4, "num_key_value_heads": 2,
    "cell": {"GRUCell": {"units": 3}}, "cells": [{"LSTMCell": {"units": 3}}],
    "num_classes": 3, "target_class_ids": [0, 2], "recall": 0.5, "precision": 0.5, "specificity": 0.5,
    "factor": 1, "height": 4, "width": 3, "height_factor": 0.2, "width_factor": 0.1,
    "sensitivity": 0.5, "inner_optimizer": "adam", "optimizer_map": {"default_optimizer": "adam"},
    "schedule": {0: 0.1}, "num_bins": 4, "filename": "log.csv", "filepath": "checkpoints/m.h5",
    "window": 3, "source": "digits",
}  # fmt: skip


ONE_OF: dict[str, dict[str, Any]] = {"Discretization": {"num_bins": 4}}
"Options of which one must be given."


def made(final: type[Declared]) -> Declared:
    """An instance with sample values for what must be given."""
    needed = {n: SAMPLES[n] for n, f in final.model_fields.items() if f.is_required()}
    return final.read({**needed, **ONE_OF.get(final.__name__, {})})


def test_catalogues_are_whole() -> None:
    counts = {kind.kind: len(kind.catalogue) for kind in KINDS}
    assert all(counts[kind] >= least for kind, least in LEAST.items()), counts


@pytest.mark.parametrize(("kind", "final"), EVERY)
def test_is_documented(kind: type[Declared], final: type[Declared]) -> None:
    assert (final.__doc__ or "").strip(), "needs a docstring"
    assert final.__doc__ != kind.__doc__
    lines = describe(final)
    assert [n for n, line in lines.items() if not line] == []
    if kind.kind == "layer":
        assert re.search(r"Shape: \(batch", inspect.cleandoc(final.__doc__ or "")), "needs a Shape: line"


@pytest.mark.parametrize(("kind", "final"), EVERY)
def test_reads_back_from_its_spec(kind: type[Declared], final: type[Declared]) -> None:
    instance = made(final)
    assert kind.parse(instance.spec()) == instance


@pytest.mark.parametrize(("kind", "final"), EVERY)
def test_is_explained(kind: type[Declared], final: type[Declared]) -> None:
    meanings = [m for m in explain(final.recipe_name()) if m.what.endswith(kind.kind)]
    assert len(meanings) == 1
    assert meanings[0].example or final.__name__ == "Glu"


IN_KERAS = [p for p, (kind, _, final) in zip(EVERY, FINALS, strict=True) if final.keras and kind.kind != "activation"]


@pytest.mark.parametrize(("kind", "final"), IN_KERAS)
def test_options_are_those_of_keras(kind: type[Declared], final: type[Declared]) -> None:
    """Every option of ours that goes into a Keras config is an argument of Keras's class, with the same default."""
    module: Any = keras
    for part in final.keras.split(".")[1:]:
        module = getattr(module, part)
    # What a class takes as keywords for the one that it extends counts too.
    theirs: dict[str, inspect.Parameter] = {}
    for base in getattr(module, final.__name__).__mro__:
        theirs = {**inspect.signature(base.__init__).parameters, **theirs}
    if final.__name__ == "Model":
        # `Model(inputs, outputs)` makes another class, as Keras's page of Model says.
        theirs |= inspect.signature(functional.Functional.__init__).parameters
    known = {n: p.default for n, p in theirs.items() if n not in ("self", "kwargs", "args")}
    of_all = {"name", "trainable", "dtype", "activity_regularizer", "inputs"}
    for name, _, default, _ in explained(final):
        if name in final.not_keras or name in of_all:
            continue
        assert name in known, f"Keras's {final.__name__} has no {name}"
        if default is not REQUIRED and known[name] is not inspect.Parameter.empty:
            same(name, default, known[name])


def same(name: str, ours: Any, theirs: Any) -> None:
    if isinstance(ours, Declared):
        if type(ours).__name__ == "ConstantRate":
            ours = ours.spec()
        elif theirs is None:
            assert ours.recipe_name() == "linear", name
            return
        else:
            assert theirs in (ours.recipe_name(), *ours.aliases) or theirs.lower() in type(ours).spellings(), name
            return
    if isinstance(ours, tuple) and not isinstance(theirs, (tuple, list)):
        assert set(ours) == {theirs}, name
        return
    if isinstance(theirs, tuple):
        theirs = tuple(theirs)
        ours = tuple(ours) if isinstance(ours, (tuple, list)) else (ours,) * len(theirs)
    if name in ("data_format",) and theirs is None:
        assert ours in (None, "channels_last")
        return
    assert ours == theirs, f"{name}: {ours!r}, Keras has {theirs!r}"
