"""BatchNormalization and LayerNormalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainer.constraints.base import Constraint
from trainer.errors import RecipeError
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Ones, Zeros
from trainer.layers.base import Layer, Plan, Weights
from trainer.lazy import F, torch
from trainer.options import Bool, Fraction, Int, PositiveFloat, Rule, integer
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

_MASK_EPSILON = 1e-7
"Keras's backend epsilon, which it adds to the number of unmasked entries."

_KERAS_ORDER = (
    "axis momentum epsilon center scale beta_initializer gamma_initializer moving_mean_initializer "
    "moving_variance_initializer beta_regularizer gamma_regularizer beta_constraint gamma_constraint"
)


def _axes(value: object) -> int | tuple[int, ...]:
    if isinstance(value, (list, tuple)):
        if not value:
            raise ValueError
        return tuple(integer(v) for v in value)
    return integer(value)


_INTEGER = {"type": "integer"}
Axes = Annotated[
    int | tuple[int, ...],
    Rule("an integer or a list of integers", _axes, {"anyOf": [_INTEGER, {"type": "array", "items": _INTEGER}]}),
]


class Normalizing(Layer, abstract=True):
    """A layer that brings values to mean 0 and variance 1, then scales and shifts them as training finds best."""

    center: Bool = True
    "Whether `beta` is added."
    scale: Bool = True
    "Whether `gamma` multiplies."
    beta_initializer: Initializer = Zeros()
    "First values of beta."
    gamma_initializer: Initializer = Ones()
    "First values of gamma."
    beta_regularizer: Regularizer | None = None
    "Penalty on beta."
    gamma_regularizer: Regularizer | None = None
    "Penalty on gamma."
    beta_constraint: Constraint | None = None
    "Projection of beta after each update."
    gamma_constraint: Constraint | None = None
    "Projection of gamma after each update."

    supports_masking = True

    @classmethod
    def options(cls) -> list[str]:
        """Option names in Keras's order: what only one of the layers has stands among those of all."""
        order = _KERAS_ORDER.split()
        return sorted(super().options(), key=lambda n: order.index(n) if n in order else len(order))

    def ask(self, plan: Plan, shape: tuple[int | None, ...]) -> None:
        """Ask for gamma and beta of `shape`.

        Raises:
            ValueError: a size is unknown.
        """
        if None in shape:
            raise ValueError(f"the normalized axes must have known sizes, found {text(shape)}")
        for name, wanted in (("gamma", self.scale), ("beta", self.center)):
            plan.weight(
                name,
                shape,
                getattr(self, f"{name}_initializer"),
                regularizer=getattr(self, f"{name}_regularizer"),
                constraint=getattr(self, f"{name}_constraint"),
                when=wanted,
            )


class BatchNormalization(Normalizing):
    """Normalizes each entry of one axis over all others (Ioffe and Szegedy, 2015).

    gamma * (x - mean) / sqrt(variance + epsilon) + beta. Training takes mean and variance (the biased one) from the
    batch, leaving out masked steps, and moves the moving ones: moving * momentum + batch * (1 - momentum). Otherwise,
    and when the layer is frozen, the moving ones are used.
    https://keras.io/api/layers/normalization_layers/batch_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: Int = -1
    "The axis whose entries are normalized each by itself, the features; the batch is axis 0."
    momentum: Fraction = 0.99
    "How much of the moving mean and variance stays at each step."
    epsilon: PositiveFloat = 1e-3
    "Added to the variance."
    moving_mean_initializer: Initializer = Zeros()
    "First values of the moving mean."
    moving_variance_initializer: Initializer = Ones()
    "First values of the moving variance."

    takes_mask = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        size = (shape[_place(self.axis, shape)],)
        self.ask(plan, size)
        plan.weight("moving_mean", size, self.moving_mean_initializer, trainable=False)
        plan.weight("moving_variance", size, self.moving_variance_initializer, trainable=False)
        return shape

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is not None and mask.dim() != x.dim() - 1:
            raise RecipeError(
                f"BatchNormalization: expected a mask with one axis less than the input, found {mask.dim()} axes "
                f"for {x.dim()}",
                hint="normalize before the axes are added, or turn the mask off (mask_zero: false)",
            )
        axis = self.axis % x.dim()
        if not (w.training and w.trainable):
            return _batch_norm(x, axis, w.gamma, w.beta, w.moving_mean, w.moving_variance, self.epsilon)
        if mask is not None:
            return self._masked(w, x, axis, mask)
        # With a momentum of 1 torch leaves mean and variance of this batch alone in the buffers.
        mean, variance = x.new_zeros(2, x.shape[axis]).unbind(0)
        y = _batch_norm(x, axis, w.gamma, w.beta, mean, variance, self.epsilon, training=True)
        count = x.numel() // x.shape[axis]
        # torch's is the unbiased variance, Keras moves by the biased one.
        self._move(w, mean, variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance))
        return y

    def _masked(self, w: Weights, x: Tensor, axis: int, mask: Tensor) -> Tensor:
        """Every step is normalized, but by the statistics of those that count."""
        others = [n for n in range(x.dim()) if n != axis]
        seen = mask.unsqueeze(-1).expand_as(x)
        precise = torch.promote_types(x.dtype, torch.float32)
        count = seen.sum(others, keepdim=True, dtype=precise) + _MASK_EPSILON
        mean = x.masked_fill(~seen, 0).sum(others, keepdim=True) / count
        variance = (x - mean).masked_fill(~seen, 0).square().sum(others, keepdim=True) / count
        self._move(w, mean.detach().reshape(-1), variance.detach().reshape(-1))
        return _scaled((x - mean) * torch.rsqrt(variance + self.epsilon), w.gamma, w.beta, mean.shape)

    def _move(self, w: Weights, mean: Tensor, variance: Tensor) -> None:
        with torch.no_grad():
            w.moving_mean.mul_(self.momentum).add_(mean, alpha=1 - self.momentum)
            w.moving_variance.mul_(self.momentum).add_(variance, alpha=1 - self.momentum)


def _place(axis: int, shape: Shape) -> int:
    """The axis counted from 0.

    Raises:
        ValueError: there is no such axis, or it is the batch.
    """
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"expected an axis of the input {text(shape)}, found {axis}")
    if axis % len(shape) == 0:
        raise ValueError("expected an axis of a sample, found the batch (axis 0)")
    return axis % len(shape)


def _batch_norm(
    x: Tensor,
    axis: int,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    training: bool = False,
) -> Tensor:
    """torch's kernel, which has the features at axis 1; channels-last input reaches it as a view."""

    def normalized(channels_first: Tensor) -> Tensor:
        return torch.batch_norm(channels_first, gamma, beta, mean, variance, training, 1.0, epsilon, False)

    if axis == 1:
        return normalized(x)
    if axis == x.dim() - 1 and x.dim() != 4:
        return normalized(x.reshape(-1, x.shape[-1])).view(x.shape)
    return normalized(x.movedim(axis, 1)).movedim(1, axis)


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """gamma * x + beta, each laid out in `shape` to broadcast."""
    if gamma is not None:
        x = x * gamma.reshape(shape)
    return x if beta is None else x + beta.reshape(shape)


class LayerNormalization(Normalizing):
    """Normalizes each sample over the given axes (Ba et al., 2016).

    gamma * (x - mean) / sqrt(variance + epsilon) + beta, in training and prediction alike.
    https://keras.io/api/layers/normalization_layers/layer_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: Axes = -1
    "The axis, or list of axes, over which a sample's mean and variance are taken."
    epsilon: PositiveFloat = 1e-3
    "Added to the variance."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        axes = self._places(shape)
        self.ask(plan, tuple(shape[a] for a in axes))
        return shape

    def _places(self, shape: Shape) -> list[int]:
        """The axes counted from 0, in order.

        Raises:
            ValueError: there is no such axis, it is the batch, or it comes twice.
        """
        given = self.axis if isinstance(self.axis, tuple) else (self.axis,)
        places = sorted(_place(a, shape) for a in given)
        if len(set(places)) < len(places):
            raise ValueError(f"expected each axis once, found {list(given)} for input {text(shape)}")
        return places

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        axes = self._places(tuple(x.shape))
        sizes = [x.shape[a] for a in axes]
        if axes == list(range(x.dim() - len(axes), x.dim())):
            return F.layer_norm(x, sizes, w.gamma, w.beta, self.epsilon)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        shape = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
        return _scaled((x - mean) * torch.rsqrt(variance + self.epsilon), w.gamma, w.beta, shape)
