"""Preprocessing that is arithmetic: numbers rescaled, normalized, put into bins or encoded; pictures resized."""

from __future__ import annotations

from typing import Any

import torch

from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, given_only, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.discretization import Discretization
from trainer.layers.encoding import CategoryEncoding, PadSequences
from trainer.layers.image_resize import CenterCrop, RandomCrop, Resizing
from trainer.layers.preprocessing import Normalization, Rescaling


def _factor(value: Any, x: str) -> str:
    return f"torch.tensor({literal(value)}, device={x}.device)" if isinstance(value, tuple) else literal(value)


@says(Rescaling)
def rescaling(spot: Spot) -> Piece:
    layer = spot.layer

    def scaled(given: Given) -> str:
        made = given.x if layer.scale == 1 else f"{given.x} * {_factor(layer.scale, given.x)}"
        return made if layer.offset == 0 else f"{made} + {_factor(layer.offset, given.x)}"

    return Piece(scaled)


@says(Normalization)
def normalization(spot: Spot) -> Piece:
    layer, w, rank = spot.layer, spot.w, len(spot.shape)
    given = layer.mean is not None
    mean, variance = (torch.tensor(layer.mean), torch.tensor(layer.variance)) if given else (w.mean, w.variance)
    mean, variance = (layer._along(v.float(), rank)[0] if rank > 0 else v for v in (mean, variance))
    invert = "True" if layer.invert else None
    made = call("Normalization", literal(tuple(mean.shape)), invert=invert)
    return Piece(Given.module_of, made, buffers=given_only(mean=mean, variance=variance))


@says(CategoryEncoding)
def category_encoding(spot: Spot) -> Piece:
    layer = spot.layer
    name = {"one_hot": "one_hot", "multi_hot": "multi_hot", "count": "counted"}[layer.output_mode]
    return Piece(lambda given: call(name, given.x, literal(layer.num_tokens)))


@says(Discretization)
def discretization(spot: Spot) -> Piece:
    layer = spot.layer
    if layer.bin_boundaries is None:
        raise NoSource("its boundaries are still open")
    if layer.output_mode in ("multi_hot", "count") and len(spot.shape) > 2:
        raise NoSource(f"{layer.output_mode} of more than two axes is not written here yet")
    count = len(layer.bin_boundaries) + 1
    name = {"one_hot": "one_hot", "multi_hot": "multi_hot", "count": "counted"}.get(layer.output_mode)

    def bins(given: Given) -> str:
        boundaries = f"torch.tensor({literal(layer.bin_boundaries)}, device={given.x}.device)"
        found = f"torch.bucketize({given.x}.float(), {boundaries}, right=True)"
        return found if name is None else call(name, found, literal(count))

    return Piece(bins)


@says(PadSequences)
def pad_sequences(spot: Spot) -> Piece:
    layer = spot.layer
    options = {
        "before": None if layer.padding == "pre" else "False",
        "keep_last": None if layer.truncating == "pre" else "False",
        "value": literal(layer.value) if layer.value else None,
    }
    return Piece(lambda given: call("padded", given.x, literal(layer.maxlen), **options))


@says(Resizing)
def resizing(spot: Spot) -> Piece:
    layer = spot.layer
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or (layer.antialias and layer.width == 1):
        raise NoSource(
            "crop_to_aspect_ratio, pad_to_aspect_ratio and antialias to a width of 1 are not written here yet"
        )
    mode = None if layer.interpolation == "bilinear" else literal(layer.interpolation)
    antialias = "True" if layer.antialias and layer.interpolation != "nearest" else None
    return _on_pictures(
        layer, lambda x: call("resized", x, literal(layer.height), literal(layer.width), mode, antialias=antialias)
    )


def _on_pictures(layer: Any, change: Any) -> Piece:
    """Pictures with the channels last, changed."""
    if layer.channels_at() == "channels_last":
        return Piece(lambda given: change(given.x))
    return Piece(lambda given: f"{change(f'{given.x}.movedim(1, -1)')}.movedim(-1, 1)")


@says(CenterCrop, RandomCrop)
def center_crop(spot: Spot) -> Piece:
    layer = spot.layer
    name = "center_crop" if isinstance(layer, CenterCrop) else "middle"
    sizes = literal(layer.height), literal(layer.width)
    piece = _on_pictures(layer, lambda x: call(name, x, *sizes))
    notes = ("RandomCrop cuts at random places in training, which is left out",) if name == "middle" else ()
    return Piece(piece.call, notes=notes)
