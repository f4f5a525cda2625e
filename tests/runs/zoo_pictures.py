"""Layers on pictures for the models that real Keras is to open: (input shape, layer) by class."""

from __future__ import annotations

from typing import Any

PICTURE = (8, 9, 3)
PICTURES: dict[str, list[tuple[Any, str]]] = {
    "AutoContrast": [(PICTURE, "AutoContrast: {value_range: [-3, 5]}")],
    "CenterCrop": [(PICTURE, "CenterCrop: {height: 5, width: 4}"), (PICTURE, "CenterCrop: {height: 11, width: 6}")],
    "ContrastLimitedAdaptiveHistogramEqualization": [
        (
            PICTURE,
            "ContrastLimitedAdaptiveHistogramEqualization: {value_range: [-3, 5], tile_grid_size: 2, clip_limit: 30}",
        )
    ],
    "RandomCrop": [(PICTURE, "RandomCrop: {height: 8, width: 9, seed: 3}")],
    "RandomFlip": [(PICTURE, "RandomFlip: {mode: horizontal, seed: 2}")],
    "RandomGrayscale": [(PICTURE, "RandomGrayscale: {factor: 0.1}")],
    "RandomPerspective": [
        (PICTURE, "RandomPerspective: {factor: 0.3, scale: 0.1, interpolation: nearest, fill_value: 0.5}")
    ],
    "RandomRotation": [(PICTURE, "RandomRotation: {factor: [-0.02, 0.05], fill_mode: wrap}")],
    "RandomShear": [(PICTURE, "RandomShear: {x_factor: [0.0, 0.1], fill_mode: nearest}")],
    "RandomTranslation": [
        (PICTURE, "RandomTranslation: {height_factor: 0.1, width_factor: 0.2, data_format: channels_first}")
    ],
    "RandomZoom": [(PICTURE, "RandomZoom: {height_factor: 0.1}")],
    "Resizing": [
        (PICTURE, "Resizing: {height: 5, width: 6, interpolation: bicubic, antialias: true}"),
        (PICTURE, "Resizing: {height: 12, width: 4, pad_to_aspect_ratio: true, fill_value: 0.5}"),
    ],
}
PICTURES_UNSAVED: dict[str, list[tuple[Any, str]]] = {
    "RandomBrightness": [(PICTURE, "RandomBrightness: {factor: [-0.1, 0.2], value_range: [-3, 5], seed: 4}")],
    "RandomColorDegeneration": [(PICTURE, "RandomColorDegeneration: {factor: 0.2, value_range: [-3, 5]}")],
    "RandomColorJitter": [
        (PICTURE, "RandomColorJitter: {value_range: [-3, 5], brightness_factor: 0.1, contrast_factor: [0.1, 0.2]}")
    ],
    "RandomContrast": [(PICTURE, "RandomContrast: {factor: 0.2, value_range: [-3, 5]}")],
    "RandomElasticTransform": [
        (PICTURE, "RandomElasticTransform: {factor: 0.3, scale: [0.1, 0.2], fill_mode: mirror, value_range: [-3, 5]}")
    ],
    "RandomErasing": [
        (PICTURE, "RandomErasing: {factor: 0.3, scale: 0.1, fill_value: [0, 1, 2], value_range: [-3, 5]}")
    ],
    "RandomGaussianBlur": [
        (PICTURE, "RandomGaussianBlur: {factor: 0.3, kernel_size: [3, 3], sigma: [0.1, 0.4], value_range: [-3, 5]}")
    ],
    "RandomHue": [(PICTURE, "RandomHue: {factor: 0.1, value_range: [-3, 5]}")],
    "RandomInvert": [(PICTURE, "RandomInvert: {factor: 0.1, value_range: [-3, 5]}")],
    "RandomPosterization": [(PICTURE, "RandomPosterization: {factor: [6, 8], value_range: [-3, 5]}")],
    "RandomSaturation": [(PICTURE, "RandomSaturation: {factor: [0.45, 0.55], value_range: [-3, 5]}")],
    "RandomSharpness": [(PICTURE, "RandomSharpness: {factor: [0.4, 0.6], value_range: [-3, 5]}")],
    "RandomTranslation": [
        (PICTURE, "RandomTranslation: {height_factor: 0.1, width_factor: [-0.1, 0.2], interpolation: nearest}")
    ],
    "RandomZoom": [(PICTURE, "RandomZoom: {height_factor: [-0.1, 0.2], fill_mode: constant, fill_value: 0.5}")],
    "Solarization": [(PICTURE, "Solarization: {addition_factor: 0.1, threshold_factor: [1, 1], value_range: [-3, 5]}")],
}
"Keras can't save a model again that has a list among the options of these."
