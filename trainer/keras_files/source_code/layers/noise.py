"""Layers that act in training alone."""

from __future__ import annotations

from trainer.keras_files.source_code.piece import Given, Piece, Spot, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.image_base import RandomImageLayer
from trainer.layers.regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropping,
)


def _dropping(spot: Spot, plain: str, shaped: str) -> Piece:
    layer = spot.layer
    if layer.noise_shape is None:
        return Piece(Given.module_of, call(plain, literal(layer.rate)))
    return Piece(Given.module_of, call(shaped, literal(layer.rate), literal(layer.noise_shape)))


@says(Dropout)
def dropout(spot: Spot) -> Piece:
    return _dropping(spot, "nn.Dropout", "ShapedDropout")


@says(SpatialDropping)
def spatial_dropout(spot: Spot) -> Piece:
    layer = spot.layer
    made = call(f"nn.Dropout{layer.rank}d", literal(layer.rate))
    return Piece(Given.module_of, made if layer.channels_at() == "channels_first" else f"ChannelsLast({made})")


@says(AlphaDropout)
def alpha_dropout(spot: Spot) -> Piece:
    return _dropping(spot, "nn.AlphaDropout", "ShapedAlphaDropout")


@says(GaussianDropout)
def gaussian_dropout(spot: Spot) -> Piece:
    return Piece(Given.module_of, call("GaussianDropout", literal(spot.layer.rate)))


@says(GaussianNoise)
def gaussian_noise(spot: Spot) -> Piece:
    return Piece(Given.module_of, call("GaussianNoise", literal(spot.layer.stddev)))


@says(ActivityRegularization)
def activity_regularization(spot: Spot) -> Piece:
    return Piece(lambda given: given.x, notes=("its penalty is not in the source",))


@says(RandomImageLayer)
def random_pictures(spot: Spot) -> Piece:
    """What changes pictures by chance; it lets them be outside of training."""
    return Piece(
        lambda given: given.x, notes=(f"{type(spot.layer).__name__}, which acts in training alone, is left out",)
    )
