"""A line to copy for everything that a recipe can name, and the block of a recipe in which it stands."""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.declare import Declared
from trainer.layers.base import Layer
from trainer.layers.host import Learner
from trainer.layers.recurrent_cells import RecurrentCell


class Example(NamedTuple):
    """A line of a recipe."""

    line: str
    under: tuple[str, ...]
    "Paths of the blocks that may hold the line, such as `model.layers`."


def example(final: type[Declared]) -> Example:
    """A valid line that uses the class, with what must be given and what most people give; empty when nothing can."""
    line, under = _form(final)
    return Example(line.format(_written(final, entry=line == "- {}")), under)


def _form(final: type[Declared]) -> tuple[str, tuple[str, ...]]:
    """(the line around the name, the blocks around the line)."""
    name, kind = final.recipe_name(), final.kind
    line, block = _FORMS.get(f"{kind} {name}") or _FORMS[kind]
    if not issubclass(final, Layer):
        return line, (block,) if block else ()
    if issubclass(final, RecurrentCell):
        return "- RNN: {{cell: {}}}", (block,)
    before = final.fitted or final.reads_ragged or issubclass(final, Learner)
    return line, (*(() if before else (block,)), *(("dataset.preprocess",) if final.preprocessing else ()))


def _written(final: type[Declared], *, entry: bool) -> str:
    """The name with its options, as an entry of a list or inside a line."""
    options = _OPTIONS.get(f"{final.kind} {final.recipe_name()}")
    if options is None:
        needed = [(name, field) for name, field in final.model_fields.items() if field.is_required()]
        options = ", ".join(f"{name}: {_sample(name, field.annotation)}" for name, field in needed)
    if not options:
        return final.recipe_name()
    spec = f"{final.recipe_name()}: {{{options}}}"
    return spec if entry else f"{{{spec}}}"


def _sample(name: str, held: Any) -> str:
    """A value for an option that must be given; those of plugins go by their type."""
    if name in _SAMPLES:
        return _SAMPLES[name]
    if isinstance(held, type) and issubclass(held, Declared):
        return _OF_KIND[held.kind]
    return {int: "1", float: "0.5", bool: "true", str: "text"}.get(held, "...")


_DENSE = "- Dense: {{{{units: 64, {}: {{}}}}}}"
_FORMS = {
    "activation": (_DENSE.format("activation"), "model.layers"),
    "activation glu": ("", ""),  # No layer takes it.
    "callback": ("- {}", "callbacks"),
    "constraint": (_DENSE.format("kernel_constraint"), "model.layers"),
    "initializer": (_DENSE.format("kernel_initializer"), "model.layers"),
    "initializer Constant": (_DENSE.format("bias_initializer"), "model.layers"),
    "initializer Ones": (_DENSE.format("bias_initializer"), "model.layers"),
    "initializer STFT": ("- Conv1D: {{filters: 129, kernel_size: 256, kernel_initializer: {}}}", "model.layers"),
    "initializer Zeros": (_DENSE.format("bias_initializer"), "model.layers"),
    "layer": ("- {}", "model.layers"),
    "loss": ("loss: {}", "compile"),
    "metric": ("- {}", "compile.metrics"),
    "optimizer": ("optimizer: {}", "compile"),
    "regularizer": (_DENSE.format("kernel_regularizer"), "model.layers"),
    "schedule": ("optimizer: {{Adam: {{learning_rate: {}}}}}", "compile"),
    "schedule ConstantRate": ("optimizer: {{Adam: {{learning_rate: 1e-3}}}}", "compile"),
    "source": ("source: {}", "dataset"),
}
"The line and its block, by kind or by name."
_OF_KIND = {
    "activation": "relu",
    "constraint": "NonNeg",
    "initializer": "HeNormal",
    "layer": "{Dense: {units: 8}}",
    "loss": "MeanSquaredError",
    "metric": "BinaryAccuracy",
    "optimizer": "adam",
    "regularizer": "L2",
    "schedule": "1e-3",
    "source": "digits",
}
_OPTIONS = {
    "callback EarlyStopping": "monitor: val_loss, patience: 3",
    "callback ModelCheckpoint": "filepath: best.h5, monitor: val_loss, save_best_only: true",
    "callback PrintLogs": "every: 5",
    "callback ReduceLROnPlateau": "monitor: val_loss, factor: 0.1, patience: 5",
    "callback RemoteMonitor": 'root: "http://localhost:9000"',
    "constraint MaxNorm": "max_value: 3",
    "constraint MinMaxNorm": "min_value: 0.5, max_value: 2",
    "initializer Constant": "value: 0.1",
    "initializer RandomNormal": "stddev: 0.01",
    "initializer STFT": "side: imag",
    "initializer TruncatedNormal": "stddev: 0.02",
    "layer ActivityRegularization": "l2: 1e-4",
    "layer Bidirectional": "layer: {LSTM: {units: 64}}",
    "layer CategoryEncoding": "num_tokens: 10, output_mode: one_hot",
    "layer Conv1D": "filters: 32, kernel_size: 3, activation: relu",
    "layer Conv2D": "filters: 32, kernel_size: 3, activation: relu",
    "layer Conv2DTranspose": "filters: 32, kernel_size: 3, strides: 2, padding: same",
    "layer Conv3D": "filters: 32, kernel_size: 3, activation: relu",
    "layer Cropping2D": "cropping: 2",
    "layer Dense": "units: 64, activation: relu",
    "layer Discretization": "num_bins: 10",
    "layer Embedding": "input_dim: 10000, output_dim: 64",
    "layer HashedCrossing": "num_bins: 64, output_mode: one_hot",
    "layer LayerNormalization": "epsilon: 1e-6",
    "layer RandomColorJitter": "brightness_factor: 0.2, contrast_factor: 0.2",
    "layer RandomFlip": "mode: horizontal",
    "layer RandomPosterization": "factor: 4",
    "layer RandomRotation": "factor: 0.1",
    "layer RandomShear": "x_factor: 0.2, y_factor: 0.2",
    "layer Solarization": "threshold_factor: 0.5",
    "layer StringLookup": "output_mode: one_hot",
    "layer TextVectorization": "max_tokens: 10000, output_sequence_length: 200",
    "loss Huber": "delta: 1.0",
    "metric Accuracy": "name: equal",
    "metric F1Score": "average: macro",
    "metric TopKCategoricalAccuracy": "k: 5",
    "optimizer Adam": "learning_rate: 1e-3",
    "optimizer AdamW": "learning_rate: 1e-3, weight_decay: 4e-3",
    "optimizer RMSprop": "learning_rate: 1e-3",
    "optimizer SGD": "learning_rate: 0.01, momentum: 0.9, nesterov: true",
    "regularizer L1": "l1: 1e-4",
    "regularizer L1L2": "l1: 1e-4, l2: 1e-4",
    "regularizer L2": "l2: 1e-4",
    "source idx": "images: images-idx3-ubyte.gz, labels: labels-idx1-ubyte.gz",
    "source npz": "path: arrays.npz",
}
"What an example gives; by default what must be given."
_SAMPLES = {
    "activation": "relu",
    "axes": "1",
    "boundaries": "[1000, 2000]",
    "cell": "{GRUCell: {units: 64}}",
    "cells": "[{LSTMCell: {units: 64}}, {LSTMCell: {units: 64}}]",
    "decay_rate": "0.96",
    "decay_steps": "1000",
    "dims": "[2, 1]",
    "equation": '"abc,cd->abd"',
    "factor": "0.2",
    "filename": "log.csv",
    "filepath": "model.h5",
    "filters": "32",
    "first_decay_steps": "1000",
    "head_dim": "64",
    "height": "128",
    "height_factor": "0.1",
    "initial_learning_rate": "1e-3",
    "inner_optimizer": "adam",
    "input_dim": "10000",
    "kernel_size": "3",
    "key_dim": "64",
    "layer": "{Dense: {units: 8}}",
    "layers": "[{RandomFlip: {mode: horizontal}}, {RandomRotation: {factor: 0.1}}]",
    "learning_rate": "1e-3",
    "maxlen": "200",
    "n": "10",
    "num_bins": "64",
    "num_classes": "3",
    "num_heads": "8",
    "num_key_value_heads": "2",
    "num_query_heads": "8",
    "num_tokens": "10",
    "optimizer_map": '{default_optimizer: adam, optimizer_map: {"embedding/.*": sgd}}',
    "output_dim": "64",
    "output_shape": "[null, 64]",
    "output_size": "4",
    "path": "rows.csv",
    "pool_size": "2",
    "precision": "0.9",
    "rate": "0.5",
    "recall": "0.9",
    "scale": "1/255",
    "schedule": "{0: 1e-3, 6: 1e-4}",
    "sensitivity": "0.9",
    "specificity": "0.9",
    "stddev": "0.1",
    "target_class_ids": "[0, 2]",
    "target_shape": "[28, 28, 1]",
    "units": "64",
    "values": "[1e-3, 1e-4, 1e-5]",
    "width": "128",
    "width_factor": "0.1",
}
"A value for each option that a class asks for."
