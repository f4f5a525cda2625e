"""Layers' classes and option names of Keras 1, 2 and tf.keras in the words of Keras 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainer.keras_files import option_words
from trainer.keras_files.nodes import CALL
from trainer.keras_files.reading import CODE, Reading, called, entry, plain
from trainer.layers.base import Layer

Entry = dict[str, Any]
Nested = Callable[[Entry], Entry]

CLASSES = {
    "AtrousConvolution1D": "Conv1D",
    "AtrousConv1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "AtrousConv2D": "Conv2D",
    "Convolution2DTranspose": "Conv2DTranspose",
    "Deconvolution2D": "Conv2DTranspose",
    "Deconv2D": "Conv2DTranspose",
    "Deconvolution3D": "Conv3DTranspose",
    "Deconv3D": "Conv3DTranspose",
    "TimeDistributedDense": "Dense",
    "CuDNNLSTM": "LSTM",
    "CuDNNGRU": "GRU",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
    "RandomHeight": "Identity",
    "RandomWidth": "Identity",
}
"Old class names whose layers are one of today's, beside the aliases that the classes themselves have."

RENAMED = {
    "output_dim": "units",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "pool_length": "pool_size",
    "stride": "strides",
    "length": "size",
    "p": "rate",
    "sigma": "stddev",
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "bias": "use_bias",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "U_constraint": "recurrent_constraint",
    "b_constraint": "bias_constraint",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
    "beta_init": "beta_initializer",
    "gamma_init": "gamma_initializer",
    "concat_axis": "axis",
    "dropout_rate": "dropout",
}
"Words of Keras 1, where today's class has no option of the old name."

IGNORED = frozenset(
    (
        "implementation",
        "consume_less",
        "input_dtype",
        "input_dim",
        "input_length",
        "input_shape",
        "batch_input_shape",
        "batch_shape",
        "batch_size",
        "fused",
        "adjustment",
        "renorm_clipping",
        "renorm_momentum",
        "query_shape",
        "key_shape",
        "value_shape",
        "auto_vectorize",
        "force_generator",
        "rng_type",
        "supports_masking",
        "output_mask",
        "expects_training_arg",
        "forget_bias_init",
        "return_runtime",
        "build_config",
        "output_shape_type",
        "mode_type",
        "seed",
        "optional",
    )
)
"Words that change nothing in what is computed, where today's class has no such option."

OFF: dict[str, tuple[Any, ...]] = {
    "time_major": (False,),
    "ragged": (False,),
    "sparse": (False,),
    "stateful": (False,),
    "dynamic": (False,),
    "keepdims": (False,),
    "reverse_state_order": (False,),
    "renorm": (False,),
    "synchronized": (False, True),
    "groups": (1,),
    "num_constants": (0,),
    "quantization_config": (),
    "virtual_batch_size": (),
    "noise_shape": (),
    "weights": (),
    "autocast": (True,),
    "unroll": (False, True),
    "arguments": ({},),
    "causal": (False,),
}
"Words that may be dropped with these values, or none."

SPACES = {"1D": 1, "2D": 2, "3D": 3}
_PER_AXIS = ("kernel_size", "strides", "dilation_rate", "pool_size")
_APART = ("DepthwiseConv", "SeparableConv")
GATED = ("LSTM", "GRU", "LSTMCell", "GRUCell", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def layer_today(thing: Entry, reading: Reading, nested: Nested) -> Entry:
    """A layer's entry in today's words; `nested` does the same for a layer or model inside it."""
    name, old_kind = called(thing), str(thing.get("class_name"))
    found = Layer.spellings().get(CLASSES.get(old_kind, old_kind))
    config = thing.get("config")
    if found is None or old_kind in CODE or not isinstance(config, dict):
        reading.unknown(old_kind, name)
        return entry("keras.layers", old_kind, {"name": name})
    kind = found.__name__
    config, call = _particular(old_kind, kind, plain_but_layers(config), reading, name)
    config = {**_renamed(kind, config, found.options()), **_always(kind, config)}
    config = {k: v for k, v in config.items() if k != "trainable" or k not in found.not_keras}
    kept = _kept(kind, found.options(), config, reading, name)
    made = entry(found.keras or "keras.layers", kind, _valued(kind, kept, reading, name, nested))
    if not found.keras:
        made = {**made, "module": None, "registered_name": f"trainer>{kind}"}
    return {**made, CALL: call} if call else made


def plain_but_layers(config: dict[str, Any]) -> dict[str, Any]:
    """The options without TensorFlow's marks; objects stay as they are."""
    return {k: v if isinstance(v, dict) and "config" in v else plain(v) for k, v in config.items()}


def _renamed(kind: str, config: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """The options under today's names."""
    made: dict[str, Any] = {}
    for word, value in config.items():
        new = RENAMED.get(word, word) if word not in options else word
        for today in _weights_of(kind, new, options):
            made.setdefault(today, value)
    form = made.pop("data_format", None)
    if form is not None:
        made["data_format"] = {"tf": "channels_last", "th": "channels_first"}.get(str(form), form)
    return made


def _weights_of(kind: str, word: str, options: Sequence[str]) -> tuple[str, ...]:
    """The options that a word about "the kernel" means in a class whose weights are called otherwise."""
    if word in options or not word.startswith("kernel_") or word == "kernel_size":
        return (word,)
    what = word.removeprefix("kernel_")
    if kind == "Embedding":
        return (f"embeddings_{what}",)
    if kind == "PReLU":
        return (f"alpha_{what}",)
    if kind.startswith("SeparableConv") and what == "initializer":
        return ("depthwise_initializer", "pointwise_initializer")
    return (word,)


def _always(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Options whose default was another one in some release, and which some files leave out."""
    made: dict[str, Any] = {}
    if kind in GATED and "recurrent_activation" not in config and "inner_activation" not in config:
        made["recurrent_activation"] = "hard_sigmoid"
    if kind in ("GRU", "GRUCell") and "reset_after" not in config:
        made["reset_after"] = False
    if kind == "Flatten" and not config.get("data_format"):
        made["data_format"] = "channels_last"
    return made


def _particular(
    old: str, kind: str, config: dict[str, Any], reading: Reading, layer: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options, what the layer's calls say) after what is particular to a class."""
    call: dict[str, Any] = {}
    if old.startswith("CuDNN"):
        config |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
        config |= {"reset_after": True} if kind == "GRU" else {}
    if old in ("RandomHeight", "RandomWidth"):
        reading.note(f"{old} changes sizes in training alone, and is left out", layer)
        config = {k: v for k, v in config.items() if k in ("name", "trainable", "dtype")}
    if old == "ThresholdedReLU":
        config["threshold"] = config.pop("theta", 1.0)
    if kind == "LeakyReLU" and "alpha" in config:
        config["negative_slope"] = config.pop("alpha")
    if kind == "ReLU" and config.get("negative_slope") is None:
        config.pop("negative_slope", None)
    if kind == "ReLU" and config.get("threshold") is None:
        config.pop("threshold", None)
    if kind in ("Attention", "AdditiveAttention") and config.pop("causal", False):
        call["use_causal_mask"] = True
    if kind == "Embedding" and config.pop("dropout", 0):
        reading.note("dropout of whole words, which acts in training alone, was left out", layer)
    if kind == "BatchNormalization":
        _modes(config, reading, layer)
        axis = config.get("axis", -1)
        config["axis"] = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if kind == "UpSampling2D" and config.get("interpolation") == "bilinear" and reading.version[:2] < (2, 3):
        reading.note("bilinear is computed from the middles of pixels; TensorFlow 1 computed from their corners", layer)
    if "forget_bias_init" in config:
        config["unit_forget_bias"] = config["forget_bias_init"] in ("one", "ones")
    _old_windows(old, config, reading, layer)
    return config, call


def _modes(config: dict[str, Any], reading: Reading, layer: str) -> None:
    """Keras 1's modes of batch normalization; only the first of them is today's."""
    mode = config.pop("mode", 0)
    if config.get("renorm"):
        reading.wrong(layer, "renorm keeps other weights than today's layer does", "train the model without renorm")
    if mode:
        hint = "there is no such layer today: train the model anew with mode 0, or declare a layer in a plugin"
        reading.wrong(layer, f"BatchNormalization of mode {mode} normalizes otherwise than mode 0 does", hint)


def _old_windows(old: str, config: dict[str, Any], reading: Reading, layer: str) -> None:
    """Windows that Keras 1 wrote a number for each axis."""
    for words in (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3")):
        if all(word in config for word in words):
            config["kernel_size"] = [config.pop(word) for word in words]
    if old in ("Deconvolution2D", "Deconvolution3D") and config.pop("output_shape", None):
        reading.note("output_shape was left out: the size follows from window, strides and padding", layer)
    padding = config.get("padding")
    if isinstance(padding, dict):
        ends = [padding.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right")]
        config["padding"] = [ends[:2], ends[2:]] if "top_pad" in padding or "bottom_pad" in padding else ends[2:]
    elif old == "ZeroPadding2D" and isinstance(padding, list) and len(padding) == 4:
        config["padding"] = [padding[:2], padding[2:]]


def _kept(kind: str, options: Sequence[str], config: dict[str, Any], reading: Reading, layer: str) -> dict[str, Any]:
    """What today's class has an option for; what it has none for must change nothing, else it is refused."""
    kept: dict[str, Any] = {"name": layer}
    for word, value in config.items():
        if word in options:
            if word in ("unroll",) or (value is None and word in ("name", "trainable")):
                continue
            kept[word] = value
        elif not _may_go(kind, word, value):
            hint = "no layer of today has such an option: save the model without it, or declare a layer in a plugin"
            reading.wrong(layer, f"{kind} can't have {word}: {_short(value)}", hint)
    return kept


def _may_go(kind: str, word: str, value: Any) -> bool:
    if value is None or word in IGNORED:
        return True
    if kind.startswith(_APART) and word.startswith("kernel_"):
        return True
    return any(value == off and isinstance(value, bool) == isinstance(off, bool) for off in OFF.get(word, ()))


def _short(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) < 60 else text[:57] + "..."


def _valued(kind: str, config: dict[str, Any], reading: Reading, layer: str, nested: Nested) -> dict[str, Any]:
    """Each option's value in today's form."""
    made: dict[str, Any] = {}
    for word, value in config.items():
        if word in ("activation", "recurrent_activation"):
            value = option_words.activation(value, reading, layer, nested)
            if isinstance(value, dict) and (word != "activation" or kind in (*GATED, "SimpleRNN", "SimpleRNNCell")):
                reading.wrong(layer, f"{word} can't be the layer {value['class_name']}", "use one of Keras's functions")
                value = "linear"
        elif word == "dtype":
            value = option_words.dtype(value, reading, layer)
            if value is None:
                continue
        elif word in ("layer", "backward_layer", "cell"):
            value = None if value is None else nested(_as_cell(value))
        elif word == "cells":
            value = [nested(cell) for cell in value]
        elif word.endswith("_initializer"):
            value = option_words.initializer(value, reading, layer)
            if value is None:
                continue
        elif word.endswith("_regularizer"):
            value = option_words.regularizer(value, reading, layer)
        elif word.endswith("_constraint"):
            value = option_words.constraint(value, reading, layer)
        elif word in _PER_AXIS:
            value = _for_axes(kind, value)
            if word == "strides" and value is None:
                value = _for_axes(kind, config.get("pool_size", 2))
        made[word] = value
    return made


def _as_cell(value: Any) -> Any:
    """Several cells in a list are a stack of them."""
    return {"class_name": "StackedRNNCells", "config": {"cells": value}} if isinstance(value, list) else value


def _for_axes(kind: str, value: Any) -> Any:
    """A whole number as a list with one for each axis."""
    rank = SPACES.get(kind.removesuffix("Transpose")[-2:])
    return [value] * rank if rank and isinstance(value, int) else value
