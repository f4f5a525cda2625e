"""Activations: functions between layers, and the layers that apply one."""

from __future__ import annotations

from typing import Any

from trainer.activations.base import Activation as Function
from trainer.activations.elementwise import Linear
from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Say, Spot, given_only, says
from trainer.keras_files.source_code.text import call, literal
from trainer.layers.activation_layers import ELU, LeakyReLU, PReLU, ReLU, Softmax
from trainer.layers.axes import places
from trainer.layers.core import Activation, Identity

FUNCTIONS = {
    "Relu": ("torch.relu",),
    "Relu6": ("F.relu6",),
    "LeakyRelu": ("F.leaky_relu", "0.2"),
    "Elu": ("F.elu",),
    "Celu": ("F.celu",),
    "Selu": ("F.selu",),
    "Gelu": ("F.gelu",),
    "Silu": ("F.silu",),
    "HardSilu": ("F.hardswish",),
    "Mish": ("F.mish",),
    "Sigmoid": ("torch.sigmoid",),
    "LogSigmoid": ("F.logsigmoid",),
    "HardSigmoid": ("F.hardsigmoid",),
    "LegacyHardSigmoid": ("legacy_hard_sigmoid",),
    "SparseSigmoid": ("sparse_sigmoid",),
    "Tanh": ("torch.tanh",),
    "HardTanh": ("F.hardtanh",),
    "TanhShrink": ("F.tanhshrink",),
    "SoftShrink": ("F.softshrink",),
    "HardShrink": ("F.hardshrink",),
    "Softplus": ("F.softplus",),
    "Squareplus": ("squareplus",),
    "SparsePlus": ("sparse_plus",),
    "Softsign": ("F.softsign",),
    "Exponential": ("torch.exp",),
    "Softmax": ("torch.softmax", "-1"),
    "LogSoftmax": ("torch.log_softmax", "-1"),
    "Sparsemax": ("sparsemax",),
    "Glu": ("F.glu", "-1"),
}
"Class of an activation to the function, and what else that is given."


def _known(function: Function) -> tuple[str, ...]:
    kind = type(function)
    if not kind.__module__.startswith("trainer.activations.") or kind.__name__ not in FUNCTIONS:
        raise NoSource(f"there is no plain PyTorch for its activation {kind.__name__} here yet")
    return FUNCTIONS[kind.__name__]


def applied(function: Function, x: str) -> str:
    """The expression of an activation of `x`."""
    if isinstance(function, Linear):
        return x
    name, *more = _known(function)
    return call(name, x, *more)


def as_function(function: Function) -> str:
    """The expression of an activation as a function."""
    if isinstance(function, Linear):
        return "nn.Identity()"
    name, *more = _known(function)
    return f"lambda x: {call(name, 'x', *more)}" if more else name


def through(layer: Any) -> Say:
    """A module's call on all that it reads, and the layer's activation of that."""
    applied(layer.activation, "")
    return lambda given: applied(layer.activation, given.module_of())


@says(Activation)
def activation(spot: Spot) -> Piece:
    applied(spot.layer.activation, "")
    return Piece(lambda given: applied(spot.layer.activation, given.x))


@says(Identity)
def identity(spot: Spot) -> Piece:
    return Piece(lambda given: given.x)


@says(ReLU)
def relu(spot: Spot) -> Piece:
    layer = spot.layer
    if layer.threshold == 0 and layer.max_value is None:
        slope = layer.negative_slope
        return Piece(lambda given: call("F.leaky_relu", given.x, literal(slope)) if slope else f"torch.relu({given.x})")
    options = {
        "max_value": None if layer.max_value is None else literal(layer.max_value),
        "negative_slope": literal(layer.negative_slope) if layer.negative_slope else None,
        "threshold": literal(layer.threshold) if layer.threshold else None,
    }
    return Piece(lambda given: call("relu", given.x, **options))


@says(LeakyReLU)
def leaky_relu(spot: Spot) -> Piece:
    return Piece(lambda given: call("F.leaky_relu", given.x, literal(spot.layer.negative_slope)))


@says(ELU)
def elu(spot: Spot) -> Piece:
    return Piece(lambda given: call("F.elu", given.x, literal(spot.layer.alpha)))


@says(PReLU)
def prelu(spot: Spot) -> Piece:
    alpha = spot.w.alpha
    return Piece(Given.module_of, call("PReLU", literal(tuple(alpha.shape))), given_only(alpha=alpha))


@says(Softmax)
def softmax(spot: Spot) -> Piece:
    axes = tuple(a - len(spot.shape) for a in places(spot.layer.axis, spot.shape))
    if len(axes) == 1 and not spot.masked:
        return Piece(lambda given: f"torch.softmax({given.x}, {axes[0]})")
    return Piece(lambda given: call("softmax_over", given.x, literal(axes), given.mask))
