"""Layers that bring values to a common scale."""

from __future__ import annotations

from typing import Any

from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, given_only, piece_of, says, under
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.axes import places
from trainer.layers.conv import Conv
from trainer.layers.conv_transpose import ConvTranspose
from trainer.layers.dense import Dense
from trainer.layers.einsum_dense import EinsumDense
from trainer.layers.embedding import Embedding
from trainer.layers.normalization import BatchNormalization
from trainer.layers.sample_normalization import (
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from trainer.layers.spectral_normalization import SpectralNormalization


def _scaling(w: Any) -> dict[str, Any]:
    return given_only(gamma=w.gamma, beta=w.beta)


def _without(layer: Any) -> dict[str, str | None]:
    return {"scale": None if layer.scale else "False", "center": None if layer.center else "False"}


@says(BatchNormalization)
def batch_normalization(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    if layer.renorm:
        raise NoSource("renorm is not written here yet")
    axis = layer.axis % len(spot.shape)
    options = {
        "axis": None if axis == len(spot.shape) - 1 else literal(axis),
        "momentum": literal(layer.momentum),
        "epsilon": literal(layer.epsilon),
        **_without(layer),
        "frozen": None if w.trainable else "True",
    }
    return Piece(
        lambda given: given.module_of(given.mask),
        call("BatchNormalization", literal(len(w.moving_mean)), **options),
        _scaling(w),
        {"moving_mean": w.moving_mean, "moving_variance": w.moving_variance},
    )


@says(LayerNormalization)
def layer_normalization(spot: Spot) -> Piece:
    layer, w, rank = spot.layer, spot.w, len(spot.shape)
    axes = places(layer.axis, spot.shape)
    shape = tuple(spot.shape[a] for a in axes)
    sizes = literal(shape[0] if len(shape) == 1 else shape)
    if axes == list(range(rank - len(axes), rank)) and (layer.scale or not layer.center):
        options = {
            "elementwise_affine": None if layer.scale else "False",
            "bias": "False" if layer.scale and not layer.center else None,
        }
        weights = given_only(weight=w.gamma, bias=w.beta)
        return Piece(Given.module_of, call("nn.LayerNorm", sizes, eps=literal(layer.epsilon), **options), weights)
    shape = _spread(spot, axes)
    inner = call("Standardized", literal(tuple(a - rank for a in axes)), literal(layer.epsilon))
    made = call("Scaled", inner, literal(shape), **_without(layer))
    return Piece(Given.module_of, made, {k: v.reshape(shape) for k, v in _scaling(w).items()})


def _spread(spot: Spot, axes: list[int]) -> tuple[int, ...]:
    """The sizes of the axes from the first one on, 1 for those between."""
    return tuple((spot.shape[a] or 0) if a in axes else 1 for a in range(axes[0], len(spot.shape)))


@says(GroupNormalization)
def group_normalization(spot: Spot) -> Piece:
    layer, w, rank = spot.layer, spot.w, len(spot.shape)
    axis = layer.axis % rank
    features = spot.shape[axis] or 0
    groups = features if layer.groups < 0 else layer.groups
    # Channels last, torch 2.13 crashes in training where the input wants no gradient and the scale does.
    affine = layer.scale and layer.center and axis == 1
    made = call(
        "nn.GroupNorm",
        literal(groups),
        literal(features),
        eps=literal(layer.epsilon),
        affine=None if affine else "False",
    )
    made = made if axis == 1 else f"ChannelsLast({made})"
    if axis not in (1, rank - 1):
        raise NoSource(f"groups along axis {axis} are not written here yet")
    if affine:
        weights = given_only(weight=w.gamma, bias=w.beta)
        return Piece(Given.module_of, made, weights)
    if not (layer.scale or layer.center):
        return Piece(Given.module_of, made)
    shape = (features,) + (1,) * (rank - 1 - axis)
    made = call("Scaled", made, literal(shape), **_without(layer))
    return Piece(Given.module_of, made, {k: v.reshape(shape) for k, v in _scaling(w).items()})


@says(RMSNormalization)
def rms_normalization(spot: Spot) -> Piece:
    layer, w, rank = spot.layer, spot.w, len(spot.shape)
    axes = places(layer.axis, spot.shape)
    if axes != list(range(rank - len(axes), rank)):
        raise NoSource(f"axes {axes}, which are not the last ones, are not written here yet")
    sizes = tuple(w.scale.shape)
    made = call("nn.RMSNorm", literal(sizes[0] if len(sizes) == 1 else sizes), eps=literal(layer.epsilon))
    return Piece(Given.module_of, made, given_only(weight=w.scale))


@says(UnitNormalization)
def unit_normalization(spot: Spot) -> Piece:
    axes = tuple(a - len(spot.shape) for a in places(spot.layer.axis, spot.shape))
    return Piece(lambda given: call("F.normalize", given.x, dim=literal(axes[0] if len(axes) == 1 else axes)))


@says(SpectralNormalization)
def spectral_normalization(spot: Spot) -> Piece:
    layer, w = spot.layer, spot.w
    if not isinstance(layer.layer, (Dense, Conv, ConvTranspose, EinsumDense, Embedding)):
        raise NoSource(f"it is not written here for {type(layer.layer).__name__} yet")
    inner = piece_of(Spot(_Inside(w, layer.layer), spot.shapes, spot.made, spot.masks))
    last = isinstance(layer.layer, (EinsumDense, Embedding))
    names = [n for n in inner.weights if n.endswith(("weight", "kernel"))]
    made = call(
        "SpectralNormalization",
        inner.module,
        literal(names[-1]),
        literal(w.vector_u.shape[1]),
        literal(layer.power_iterations),
        last="True" if last else None,
    )
    return Piece(inner.call, made, under("layer", inner.weights), {"u": w.vector_u}, inner.mask, notes=inner.notes)


class _Inside:
    """The weights of a layer that its holder keeps among its own."""

    def __init__(self, w: Any, layer: Any):
        self._w, self.layer = w, layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._w, name)
