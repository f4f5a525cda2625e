"""Layers of a Keras 3 model in the words of older releases, as those wrote them: written by hand, class by class."""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

KERNEL = "kernel_initializer bias_initializer kernel_regularizer bias_regularizer activity_regularizer"
WHOLE = f"activation use_bias {KERNEL} kernel_constraint bias_constraint"
CONV = f"filters kernel_size strides padding data_format dilation_rate {WHOLE}"
RUN = "return_sequences return_state go_backwards stateful unroll"
CELL = (
    "units activation use_bias kernel_initializer recurrent_initializer bias_initializer kernel_regularizer "
    "recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint bias_constraint dropout "
    "recurrent_dropout"
)
NORM = (
    "axis momentum epsilon center scale beta_initializer gamma_initializer moving_mean_initializer "
    "moving_variance_initializer beta_regularizer gamma_regularizer beta_constraint gamma_constraint"
)
POOL = "pool_size strides padding data_format"
APART = "depthwise_initializer depthwise_regularizer depthwise_constraint"
MIXED = "pointwise_initializer pointwise_regularizer pointwise_constraint"

WORDS_2: dict[str, str] = {
    "Dense": f"units {WHOLE}",
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv2DTranspose", "Conv3DTranspose"), CONV),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), f"{CONV} depth_multiplier {APART} {MIXED}"),
    "DepthwiseConv2D": "kernel_size strides padding data_format activation use_bias bias_initializer bias_regularizer "
    f"activity_regularizer bias_constraint depth_multiplier {APART}",
    **{f"{kind}Pooling{n}D": POOL for kind in ("Max", "Average") for n in (1, 2, 3)},
    **{f"Global{kind}Pooling{n}D": "data_format" for kind in ("Max", "Average") for n in (2, 3)},
    **{f"Global{kind}Pooling1D": "" for kind in ("Max", "Average")},
    "BatchNormalization": NORM,
    "LayerNormalization": "axis epsilon center scale beta_initializer gamma_initializer",
    "LSTM": f"{RUN} {CELL} recurrent_activation unit_forget_bias activity_regularizer",
    "GRU": f"{RUN} {CELL} recurrent_activation reset_after activity_regularizer",
    "SimpleRNN": f"{RUN} {CELL} activity_regularizer",
    "LSTMCell": f"{CELL} recurrent_activation unit_forget_bias",
    "GRUCell": f"{CELL} recurrent_activation reset_after",
    "SimpleRNNCell": CELL,
    "RNN": f"{RUN} cell",
    "StackedRNNCells": "cells",
    "ConvLSTM2D": f"{RUN} filters kernel_size strides padding data_format dilation_rate activation "
    "recurrent_activation use_bias kernel_initializer recurrent_initializer bias_initializer unit_forget_bias dropout "
    "recurrent_dropout",
    "Embedding": "input_dim output_dim embeddings_initializer embeddings_regularizer embeddings_constraint mask_zero",
    "Activation": "activation",
    "Dropout": "rate noise_shape seed",
    "SpatialDropout1D": "rate",
    "SpatialDropout2D": "rate",
    "GaussianNoise": "stddev",
    "GaussianDropout": "rate",
    "Flatten": "",
    "Reshape": "target_shape",
    "Permute": "dims",
    "RepeatVector": "n",
    "Masking": "mask_value",
    "LeakyReLU": "negative_slope",
    "ReLU": "max_value negative_slope threshold",
    "ELU": "alpha",
    "PReLU": "alpha_initializer alpha_regularizer alpha_constraint shared_axes",
    "Softmax": "axis",
    "UpSampling1D": "size",
    "UpSampling2D": "size data_format interpolation",
    "UpSampling3D": "size data_format",
    "ZeroPadding1D": "padding",
    **{f"ZeroPadding{n}D": "padding data_format" for n in (2, 3)},
    "Cropping1D": "cropping",
    **{f"Cropping{n}D": "cropping data_format" for n in (2, 3)},
    "Concatenate": "axis",
    "Dot": "axes normalize",
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), ""),
    "TimeDistributed": "layer",
    "Bidirectional": "layer merge_mode",
    "ActivityRegularization": "l1 l2",
    "AlphaDropout": "rate",
}
"Options of each class in Keras 2, beside name and trainable."

WEIGHTY = {"kernel_regularizer": "W_regularizer", "bias_regularizer": "b_regularizer"} | {
    "kernel_constraint": "W_constraint",
    "bias_constraint": "b_constraint",
    "kernel_initializer": "init",
    "activity_regularizer": "activity_regularizer",
    "use_bias": "bias",
    "activation": "activation",
}
GATED = {
    "units": "output_dim",
    "kernel_initializer": "init",
    "recurrent_initializer": "inner_init",
    "activation": "activation",
    "kernel_regularizer": "W_regularizer",
    "recurrent_regularizer": "U_regularizer",
    "bias_regularizer": "b_regularizer",
    "dropout": "dropout_W",
    "recurrent_dropout": "dropout_U",
    **{word: word for word in ("return_sequences", "go_backwards", "stateful", "unroll")},
}
POOLS = {"pool_size": "pool_size", "strides": "strides", "padding": "border_mode", "data_format": "dim_ordering"}
FORMAT = {"data_format": "dim_ordering"}
PLANES = {"filters": "nb_filter", "padding": "border_mode", "strides": "subsample", **FORMAT, **WEIGHTY}

WORDS_1: dict[str, tuple[str, Config]] = {
    "Dense": ("Dense", {"units": "output_dim", **WEIGHTY}),
    "Conv1D": (
        "Convolution1D",
        {"filters": "nb_filter", "kernel_size": "filter_length", "strides": "subsample_length"}
        | {"padding": "border_mode", **WEIGHTY},
    ),
    "Conv2D": ("Convolution2D", PLANES),
    "Conv3D": ("Convolution3D", PLANES),
    "Conv2DTranspose": ("Deconvolution2D", PLANES),
    "SeparableConv2D": (
        "SeparableConvolution2D",
        {**PLANES, "depth_multiplier": "depth_multiplier", "depthwise_regularizer": "depthwise_regularizer"}
        | {"pointwise_regularizer": "pointwise_regularizer"},
    ),
    **{
        f"{kind}Pooling1D": (
            f"{kind}Pooling1D",
            {"pool_size": "pool_length", "strides": "stride", "padding": "border_mode"},
        )
        for kind in ("Max", "Average")
    },
    **{f"{kind}Pooling{n}D": (f"{kind}Pooling{n}D", POOLS) for kind in ("Max", "Average") for n in (2, 3)},
    **{f"Global{kind}Pooling1D": (f"Global{kind}Pooling1D", {}) for kind in ("Max", "Average")},
    **{f"Global{kind}Pooling{n}D": (f"Global{kind}Pooling{n}D", FORMAT) for kind in ("Max", "Average") for n in (2, 3)},
    "BatchNormalization": (
        "BatchNormalization",
        {w: w for w in ("epsilon", "axis", "momentum", "gamma_regularizer", "beta_regularizer")},
    ),
    "LSTM": ("LSTM", {**GATED, "recurrent_activation": "inner_activation"}),
    "GRU": ("GRU", {**GATED, "recurrent_activation": "inner_activation"}),
    "SimpleRNN": ("SimpleRNN", GATED),
    "ConvLSTM2D": (
        "ConvLSTM2D",
        {"filters": "nb_filter", "padding": "border_mode", "strides": "subsample", **FORMAT}
        | {"recurrent_activation": "inner_activation", "activation": "activation"}
        | {w: w for w in ("return_sequences", "go_backwards", "stateful")},
    ),
    "Embedding": (
        "Embedding",
        {"input_dim": "input_dim", "output_dim": "output_dim", "embeddings_initializer": "init"}
        | {"mask_zero": "mask_zero", "embeddings_regularizer": "W_regularizer"},
    ),
    "Activation": ("Activation", {"activation": "activation"}),
    "Dropout": ("Dropout", {"rate": "p"}),
    "SpatialDropout1D": ("SpatialDropout1D", {"rate": "p"}),
    "SpatialDropout2D": ("SpatialDropout2D", {"rate": "p", **FORMAT}),
    "GaussianNoise": ("GaussianNoise", {"stddev": "sigma"}),
    "GaussianDropout": ("GaussianDropout", {"rate": "p"}),
    "Flatten": ("Flatten", {}),
    "Reshape": ("Reshape", {"target_shape": "target_shape"}),
    "Permute": ("Permute", {"dims": "dims"}),
    "RepeatVector": ("RepeatVector", {"n": "n"}),
    "Masking": ("Masking", {"mask_value": "mask_value"}),
    "LeakyReLU": ("LeakyReLU", {"negative_slope": "alpha"}),
    "ELU": ("ELU", {"alpha": "alpha"}),
    "PReLU": ("PReLU", {"alpha_initializer": "init", "shared_axes": "shared_axes"}),
    "UpSampling1D": ("UpSampling1D", {"size": "length"}),
    "UpSampling2D": ("UpSampling2D", {"size": "size", **FORMAT}),
    "UpSampling3D": ("UpSampling3D", {"size": "size", **FORMAT}),
    "ZeroPadding1D": ("ZeroPadding1D", {"padding": "padding"}),
    "ZeroPadding2D": ("ZeroPadding2D", {"padding": "padding", **FORMAT}),
    "Cropping1D": ("Cropping1D", {"cropping": "cropping"}),
    "Cropping2D": ("Cropping2D", {"cropping": "cropping", **FORMAT}),
    "TimeDistributed": ("TimeDistributed", {"layer": "layer"}),
    "Bidirectional": ("Bidirectional", {"layer": "layer", "merge_mode": "merge_mode"}),
    "Add": ("Merge", {}),
    "Multiply": ("Merge", {}),
    "Average": ("Merge", {}),
    "Maximum": ("Merge", {}),
    "Concatenate": ("Merge", {"axis": "concat_axis"}),
    "Dot": ("Merge", {"axes": "dot_axes"}),
}
"Class and options of each in Keras 1, with their names there."
MODES = {"Add": "sum", "Multiply": "mul", "Average": "ave", "Maximum": "max", "Concatenate": "concat", "Dot": "dot"}

INITIALIZERS_1 = {
    "GlorotUniform": "glorot_uniform",
    "Orthogonal": "orthogonal",
    "RandomUniform": "uniform",
    "Zeros": "zero",
    "HeNormal": "he_normal",
}
SCALED_2 = {"GlorotUniform": (1.0, "fan_avg", "uniform"), "HeNormal": (2.0, "fan_in", "normal")}


def object_2(value: Any, *, tf: bool, dtyped: bool) -> Any:
    """An initializer, regularizer or constraint as Keras 2 (or tf.keras) wrote it."""
    if not isinstance(value, dict) or value.get("class_name") in (None, "function"):
        return value
    kind, config = value["class_name"], dict(value["config"])
    config = {k: v for k, v in config.items() if k not in ("input_axes", "output_axes")}
    if kind in SCALED_2 and not tf:
        scale, mode, distribution = SCALED_2[kind]
        config = {"scale": scale, "mode": mode, "distribution": distribution, "seed": config.get("seed")}
        kind = "VarianceScaling"
    if kind == "L2":
        kind, config = "L1L2", {"l1": 0.0, "l2": config["l2"]}
    if dtyped and kind not in ("L1L2", "MaxNorm"):
        config["dtype"] = "float32"
    return {"class_name": kind, "config": config}


def object_1(word: str, value: Any) -> Any:
    """An initializer, regularizer or constraint as Keras 1 wrote it."""
    if not isinstance(value, dict) or value.get("class_name") in (None, "function"):
        return value
    if word.endswith("initializer"):
        return INITIALIZERS_1[value["class_name"]]
    if word.endswith("regularizer"):
        return {"name": "WeightRegularizer", "l1": 0.0, "l2": value["config"]["l2"]}
    config = {"m" if k == "max_value" else k: v for k, v in value["config"].items()}
    return {"name": value["class_name"], **config}
