"""Layers with options for the models that real Keras is to open: (input shape, layer) by class."""

from __future__ import annotations

from typing import Any

from tests.runs.zoo_pictures import PICTURES, PICTURES_UNSAVED

VECTOR, SERIES, PICTURE, VOLUME, IDS = (6,), (5, 4), (8, 9, 3), (4, 5, 4, 2), (5, "ids")
KERNEL = "{0}_regularizer: {{L2: {{l2: 0.01}}}}, {0}_constraint: {{MaxNorm: {{max_value: 2}}}}"
ACTIVE = "activity_regularizer: {L2: {l2: 0.003}}"
COMMON = f"{ACTIVE}, bias_regularizer: {{L1: {{l1: 0.02}}}}, bias_initializer: ones"
SOLE, DEPTHWISE, POINTWISE = (KERNEL.format(name) for name in ("kernel", "depthwise", "pointwise"))

Animals = dict[str, list[tuple[Any, str]]]

CONVOLUTIONS: Animals = {
    "Conv3D": [
        (VOLUME, f"Conv3D: {{filters: 4, kernel_size: [1, 2, 2], groups: 2, padding: same, {COMMON}, {SOLE}}}"),
        (VOLUME, "Conv3D: {filters: 2, kernel_size: 2, strides: 2, data_format: channels_first, use_bias: false}"),
    ],
    "Conv1DTranspose": [
        (SERIES, f"Conv1DTranspose: {{filters: 3, kernel_size: 3, strides: 2, output_padding: 1, {COMMON}, {SOLE}}}"),
        (SERIES, "Conv1DTranspose: {filters: 2, kernel_size: 2, dilation_rate: 2, activation: tanh}"),
    ],
    "Conv2DTranspose": [
        (PICTURE, f"Conv2DTranspose: {{filters: 2, kernel_size: 3, strides: 2, padding: same, {COMMON}, {SOLE}}}"),
        (PICTURE, "Conv2DTranspose: {filters: 2, kernel_size: [2, 1], data_format: channels_first}"),
    ],
    "Conv3DTranspose": [
        (VOLUME, f"Conv3DTranspose: {{filters: 2, kernel_size: 2, strides: [1, 2, 1], {COMMON}, {SOLE}}}"),
    ],
    "DepthwiseConv1D": [
        (SERIES, f"DepthwiseConv1D: {{kernel_size: 2, depth_multiplier: 2, {COMMON}, {DEPTHWISE}}}"),
    ],
    "DepthwiseConv2D": [
        (PICTURE, f"DepthwiseConv2D: {{kernel_size: 3, strides: 2, padding: same, {COMMON}, {DEPTHWISE}}}"),
        (PICTURE, "DepthwiseConv2D: {kernel_size: 2, data_format: channels_first, use_bias: false}"),
    ],
    "SeparableConv1D": [
        (SERIES, f"SeparableConv1D: {{filters: 3, kernel_size: 2, padding: same, {COMMON}, {DEPTHWISE}, {POINTWISE}}}"),
    ],
    "SeparableConv2D": [
        (PICTURE, f"SeparableConv2D: {{filters: 3, kernel_size: 2, strides: 2, {COMMON}, {DEPTHWISE}, {POINTWISE}}}"),
        (PICTURE, "SeparableConv2D: {filters: 3, kernel_size: 3, depth_multiplier: 2, dilation_rate: 2}"),
    ],
}
POOLINGS: Animals = {
    "AveragePooling3D": [(VOLUME, "AveragePooling3D: {pool_size: [1, 2, 2], padding: same}")],
    "MaxPooling3D": [(VOLUME, "MaxPooling3D: {pool_size: 2, strides: 1, data_format: channels_first}")],
    "GlobalAveragePooling3D": [(VOLUME, "GlobalAveragePooling3D: {keepdims: true}")],
    "GlobalMaxPooling3D": [(VOLUME, "GlobalMaxPooling3D: {data_format: channels_first}")],
    **{
        f"Adaptive{kind}Pooling{len(shape) - 1}D": [
            (shape, f"Adaptive{kind}Pooling{len(shape) - 1}D: {{output_size: 2}}"),
            (shape, f"Adaptive{kind}Pooling{len(shape) - 1}D: {{output_size: 2, data_format: channels_first}}"),
        ]
        for kind in ("Average", "Max")
        for shape in (SERIES, PICTURE, VOLUME)
    },
}
BORDERS: Animals = {
    "UpSampling1D": [(SERIES, "UpSampling1D: {size: 3}")],
    "UpSampling2D": [
        (PICTURE, "UpSampling2D: {size: [2, 3], interpolation: bilinear}"),
        (PICTURE, "UpSampling2D: {data_format: channels_first}"),
    ],
    "UpSampling3D": [(VOLUME, "UpSampling3D: {size: [1, 2, 1]}")],
    "ZeroPadding1D": [(SERIES, "ZeroPadding1D: {padding: [2, 0]}")],
    "ZeroPadding2D": [(PICTURE, "ZeroPadding2D: {padding: [1, [0, 2]], data_format: channels_first}")],
    "ZeroPadding3D": [(VOLUME, "ZeroPadding3D")],
    "Cropping1D": [(SERIES, "Cropping1D: {cropping: [2, 1]}")],
    "Cropping2D": [(PICTURE, "Cropping2D: {cropping: [1, [0, 2]]}")],
    "Cropping3D": [(VOLUME, "Cropping3D: {cropping: [1, 2, 1]}")],
}
NORMALIZATIONS: Animals = {
    "GroupNormalization": [
        (PICTURE, "GroupNormalization: {groups: 3, epsilon: 0.01, gamma_regularizer: {L2: {l2: 0.1}}}"),
        (PICTURE, "GroupNormalization: {groups: -1, axis: 1, center: false}"),
    ],
    "RMSNormalization": [(VECTOR, "RMSNormalization"), (SERIES, "RMSNormalization: {axis: [1, 2], epsilon: 0.01}")],
    "UnitNormalization": [(SERIES, "UnitNormalization: {axis: [1, 2]}")],
    "SpectralNormalization": [
        (VECTOR, f"SpectralNormalization: {{layer: {{Dense: {{units: 4, {COMMON}}}}}, power_iterations: 2}}"),
        (PICTURE, "SpectralNormalization: {layer: {Conv2D: {filters: 2, kernel_size: 3, name: inner}}}"),
        (IDS, "SpectralNormalization: {layer: {Embedding: {input_dim: 7, output_dim: 3}}}"),
    ],
}
REGULARIZATIONS: Animals = {
    "ActivityRegularization": [(SERIES, "ActivityRegularization: {l1: 0.01, l2: 0.02}")],
    "AlphaDropout": [(SERIES, "AlphaDropout: {rate: 0.2, seed: 3}")],
    "GaussianDropout": [(VECTOR, "GaussianDropout: {rate: 0.2, seed: 3}")],
    "GaussianNoise": [(VECTOR, "GaussianNoise: {stddev: 0.1}")],
    "SpatialDropout1D": [(SERIES, "SpatialDropout1D: {rate: 0.3, seed: 3}")],
    "SpatialDropout2D": [(PICTURE, "SpatialDropout2D: {rate: 0.3, data_format: channels_first}")],
    "SpatialDropout3D": [(VOLUME, "SpatialDropout3D: {rate: 0.3}")],
}
ACTIVATIONS: Animals = {
    "ELU": [(VECTOR, "ELU: {alpha: 0.5}")],
    "LeakyReLU": [(VECTOR, "LeakyReLU: {negative_slope: 0.1}")],
    "PReLU": [
        (PICTURE, "PReLU: {shared_axes: [1, 2], alpha_initializer: {Constant: {value: 0.2}}}"),
        (SERIES, "PReLU: {alpha_regularizer: {L1: {l1: 0.01}}, alpha_constraint: NonNeg}"),
    ],
    "ReLU": [(VECTOR, "ReLU: {max_value: 2, negative_slope: 0.1, threshold: 0.2}")],
    "Softmax": [(SERIES, "Softmax: {axis: [1, 2]}"), (VECTOR, "Softmax")],
    "EinsumDense": [
        (SERIES, f"EinsumDense: {{equation: 'abc,cd->abd', output_shape: [5, 3], bias_axes: d, {COMMON}, {SOLE}}}"),
        (SERIES, "EinsumDense: {equation: '...c,cd->...d', output_shape: 3, activation: relu}"),
    ],
}
CELL = "kernel_regularizer: {L2: {l2: 0.01}}, recurrent_constraint: NonNeg, bias_initializer: ones"
RECURRENT: Animals = {
    "RNN": [
        (SERIES, f"RNN: {{cell: {{LSTMCell: {{units: 3, {CELL}}}}}, go_backwards: true}}"),
        (SERIES, "RNN: {cell: [{GRUCell: {units: 3}}, {GRUCell: {units: 2}}, {SimpleRNNCell: {units: 2, name: top}}]}"),
        (SERIES, "RNN: {cell: {GRUCell: {units: 3, reset_after: false}}, return_sequences: true, trainable: false}"),
    ],
    "Bidirectional": [
        (SERIES, f"Bidirectional: {{layer: {{LSTM: {{units: 3, {CELL}, {ACTIVE}}}}}, merge_mode: mul}}"),
        (
            SERIES,
            "Bidirectional: {layer: {GRU: {units: 3, return_sequences: true, trainable: false}}, backward_layer: "
            "{LSTM: {units: 3, return_sequences: true, go_backwards: true}}}",
        ),
        (
            SERIES,
            "Masking}, {Bidirectional: {layer: {GRU: {units: 3, return_sequences: true}}, merge_mode: ave}}, "
            "{GlobalAveragePooling1D: {}",
        ),
        (SERIES, "Bidirectional: {layer: {RNN: {cell: [{GRUCell: {units: 2}}, {GRUCell: {units: 3}}]}}}"),
        (SERIES, "Bidirectional: {layer: {LSTM: {units: 3, name: own}}, merge_mode: null}}, {Concatenate: {}"),
        (SERIES, "Bidirectional: {layer: {LSTM: {units: 3}}, trainable: false}"),
    ],
    "TimeDistributed": [
        (SERIES, f"TimeDistributed: {{layer: {{Dense: {{units: 4, {COMMON}}}}}}}"),
        (PICTURE, "TimeDistributed: {layer: {Conv1D: {filters: 2, kernel_size: 3, name: inner}}}"),
        (PICTURE, "TimeDistributed: {layer: {Bidirectional: {layer: {GRU: {units: 2}}}}}"),
        (SERIES, "TimeDistributed: {layer: {BatchNormalization: {momentum: 0.5}}, trainable: false}"),
        (SERIES, "TimeDistributed: {layer: {BatchNormalization: {momentum: 0.5}}}"),
    ],
    "ConvLSTM1D": [(PICTURE, f"ConvLSTM1D: {{filters: 2, kernel_size: 3, return_sequences: true, {CELL}, {ACTIVE}}}")],
    "ConvLSTM2D": [(VOLUME, "ConvLSTM2D: {filters: 2, kernel_size: 2, dilation_rate: 2, go_backwards: true}")],
    "ConvLSTM3D": [
        (
            (3, 4, 3, 4, 2),
            "ConvLSTM3D: {filters: 2, kernel_size: [2, 1, 3], padding: same, data_format: channels_first}",
        ),
    ],
}
STFT = "frame_length: 16, frame_step: 6, fft_length: 32, window: hamming, scaling: spectrum, padding: same"
MEL = "fft_length: 16, sequence_stride: 8, num_mel_bins: 5, min_freq: 200, max_freq: 7000, mag_exp: 1, top_db: 300"
SOUNDS: Animals = {
    "STFTSpectrogram": [
        ((60, 2), f"STFTSpectrogram: {{mode: magnitude, {STFT}, expand_dims: true}}"),
        ((2, 60), f"STFTSpectrogram: {{mode: stft, {STFT}, data_format: channels_first, trainable: false}}"),
    ],
    "MelSpectrogram": [
        ((70,), f"MelSpectrogram: {{{MEL}}}"),
        ((70,), "MelSpectrogram: {fft_length: 32, power_to_db: false}"),
    ],
}
PIPELINES: Animals = {
    "Pipeline": [
        (VECTOR, "Pipeline: {layers: [{Dense: {units: 4}}, BatchNormalization, {Dense: {units: 3, name: b}}]}"),
        (PICTURE, "Pipeline: {layers: [{MixUp: {alpha: 0.4}}, {Rescaling: {scale: 2}}]}"),
    ]
}
MIXED: Animals = {
    "MixUp": [(PICTURE, "MixUp: {alpha: 0.4, seed: 3}")],
    "CutMix": [(PICTURE, "CutMix: {factor: [0.2, 0.7]}")],
}
UNSAVED: Animals = {
    "RandAugment": [(PICTURE, "RandAugment: {factor: 0.3, num_ops: 3, value_range: [0, 1], interpolation: nearest}")],
    "AugMix": [(PICTURE, "AugMix: {factor: [0.1, 0.3], chain_depth: 2, all_ops: false, value_range: [-1, 1]}")],
    **PICTURES_UNSAVED,
}
OTHERS: Animals = {
    **SOUNDS,
    **PICTURES,
    **MIXED,
    **RECURRENT,
    **CONVOLUTIONS,
    **POOLINGS,
    **BORDERS,
    **NORMALIZATIONS,
    **REGULARIZATIONS,
    **ACTIVATIONS,
}
