"""Layers that give the same values another shape, add or cut borders, or repeat entries."""

from __future__ import annotations

from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.borders import Cropping, ZeroPadding
from trainer.layers.reshaping import Flatten, Permute, RepeatVector, Reshape
from trainer.layers.upsampling import UpSampling1D, UpSampling2D, UpSampling3D


@says(Flatten)
def flatten(spot: Spot) -> Piece:
    if len(spot.shape) == 1:
        return Piece(lambda given: f"{given.x}.unsqueeze(1)")
    first = ".movedim(1, -1)" if spot.layer.data_format == "channels_first" else ""
    return Piece(lambda given: f"{given.x}{first}.flatten(1)")


@says(Reshape)
def reshape(spot: Spot) -> Piece:
    if spot.made[1:].count(None) > 1:
        raise NoSource("its output has several sizes that are not known beforehand")
    sizes = ", ".join("-1" if n is None else str(n) for n in spot.made[1:])
    return Piece(lambda given: f"{given.x}.reshape({', '.join(p for p in (f'{given.x}.shape[0]', sizes) if p)})")


@says(Permute)
def permute(spot: Spot) -> Piece:
    return Piece(lambda given: f"{given.x}.permute(0, {', '.join(map(str, spot.layer.dims))})")


@says(RepeatVector)
def repeat_vector(spot: Spot) -> Piece:
    return Piece(lambda given: f"{given.x}.unsqueeze(1).expand(-1, {spot.layer.n}, -1)")


@says(ZeroPadding)
def zero_padding(spot: Spot) -> Piece:
    zeros = tuple(n for pair in reversed(spot.layer.ends) for n in pair)
    zeros = zeros if spot.layer.channels_at() == "channels_first" else (0, 0, *zeros)
    return Piece(lambda given: f"F.pad({given.x}, {literal(zeros)})")


@says(Cropping)
def cropping(spot: Spot) -> Piece:
    parts = [f"{before or ''}:{f'-{after}' if after else ''}" for before, after in spot.layer.ends]
    lead = [":"] * (2 if spot.layer.channels_at() == "channels_first" else 1)
    return Piece(lambda given: f"{given.x}[{', '.join([*lead, *parts])}]")


@says(UpSampling1D, UpSampling3D)
def repeated(spot: Spot) -> Piece:
    layer = spot.layer
    sizes = (layer.size,) if isinstance(layer.size, int) else layer.size
    first = 2 if getattr(layer, "data_format", "") == "channels_first" else 1
    steps = "".join(f".repeat_interleave({n}, {axis})" for axis, n in enumerate(sizes, first) if n > 1)
    return Piece(lambda given: f"{given.x}{steps}")


@says(UpSampling2D)
def up_sampling2d(spot: Spot) -> Piece:
    layer = spot.layer
    if layer.interpolation == "nearest":
        return repeated(spot)
    if layer.interpolation != "bilinear":
        raise NoSource(f"interpolation {layer.interpolation} is not written here yet")
    size = literal(tuple(float(n) for n in layer.size))
    made = call("nn.Upsample", scale_factor=size, mode='"bilinear"')
    wrapped = made if layer.data_format == "channels_first" else call("ChannelsLast", made)
    return Piece(Given.module_of, wrapped)
