"""LayerNormalization, GroupNormalization, RMSNormalization and UnitNormalization: each sample by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainer.initializers.constant import Ones
from trainer.layers.axes import SCHEMA, Axes, place, places
from trainer.layers.base import Layer, Weights
from trainer.layers.normalizing import Normalizing, normalized_back, scaled
from trainer.layers.plan import Plan
from trainer.lazy import F, torch
from trainer.options import Int, PositiveFloat, Rule, integer, read_axes
from trainer.program import native
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

_LEAST_NORM = 1e-12


def _one_end(value: object) -> int | tuple[int, ...]:
    axes = read_axes(value)
    if isinstance(axes, tuple) and len({a < 0 for a in axes}) > 1:
        raise ValueError
    return axes


WeightAxes = Annotated[
    int | tuple[int, ...],
    # Keras sorts them as they are written, and of mixed signs makes weights whose axes are in another order.
    Rule(
        "an integer, or a list of integers that all count from the first axis or all (below 0) from the last",
        _one_end,
        SCHEMA,
    ),
]


def _groups(value: object) -> int:
    count = integer(value)
    if count < 1 and count != -1:
        raise ValueError
    return count


Groups = Annotated[
    int, Rule("an integer above 0, or -1", _groups, {"anyOf": [{"type": "integer", "minimum": 1}, {"const": -1}]})
]


class LayerNormalization(Normalizing):
    """Normalizes each sample over the given axes (Ba et al., 2016).

    gamma * (x - mean) / sqrt(variance + epsilon) + beta, in training and prediction alike.
    https://keras.io/api/layers/normalization_layers/layer_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: WeightAxes = -1
    "The axis, or list of axes, over which a sample's mean and variance are taken."
    epsilon: PositiveFloat = 1e-3
    "Added to the variance."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        axes = places(self.axis, shape)
        self.ask(plan, tuple(shape[a] for a in axes))
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        axes = places(self.axis, tuple(x.shape))
        sizes = [x.shape[a] for a in axes]
        if axes == list(range(x.dim() - len(axes), x.dim())):
            return F.layer_norm(x, sizes, w.gamma, w.beta, self.epsilon)
        variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        shape = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
        return scaled((x - mean) * torch.rsqrt(variance + self.epsilon), w.gamma, w.beta, shape)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        axes = places(self.axis, tuple(x.shape))
        sizes = [x.shape[a] for a in axes]
        if axes != list(range(x.dim() - len(axes), x.dim())):
            return None
        x, weights = p.laid(x), (w.gamma, w.beta)
        made, *kept = native("native_layer_norm")(x, sizes, *weights, self.epsilon)
        outs = {"out0": made, "out1": kept[0], "out2": kept[1]}
        p.do(native("native_layer_norm", "out"), x, sizes, *weights, self.epsilon, **outs)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            slope = p.laid(slope)
            known = (x, sizes, *kept, *weights)
            normalized_back(p, "native_layer_norm_backward", slope, known, weights, wanted)
            return slope if wanted else None

        return made, pull


class GroupNormalization(Normalizing):
    """Normalizes each sample over groups of its features (Wu and He, 2018, https://arxiv.org/abs/1803.08494).

    gamma * (x - mean) / sqrt(variance + epsilon) + beta, with mean and variance over one group of neighbouring features
    and all other axes of the sample.
    https://keras.io/api/layers/normalization_layers/group_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    groups: Groups = 32
    "Number of groups, which divides the number of features; -1 makes a group of each (instance normalization)."
    axis: Int = -1
    "The axis of the features."
    epsilon: PositiveFloat = 1e-3
    "Added to the variance."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        features = shape[place(self.axis, shape)]
        self.ask(plan, (features,))
        if features is None:
            raise ValueError(f"the axis of the features must have a known size, found {text(shape)}")
        if self.groups > 0 and features % self.groups:
            raise ValueError(f"groups must divide the {features} features of the input, found {self.groups}")
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        axis = self.axis % x.dim()
        groups = x.shape[axis] if self.groups < 0 else self.groups
        # torch's kernel takes weight and bias together or not at all; where they want a gradient and a channels-last
        # input wants none, torch 2.13 crashes on a CPU.
        both = w.gamma is not None and w.beta is not None and (x.requires_grad or not torch.is_grad_enabled())
        weight, bias = (w.gamma, w.beta) if both else (None, None)
        cudnn = torch.backends.cudnn.enabled
        y = torch.group_norm(x.movedim(axis, 1), groups, weight, bias, self.epsilon, cudnn).movedim(1, axis)
        if both:
            return y
        return scaled(y, w.gamma, w.beta, tuple(n if a == axis else 1 for a, n in enumerate(x.shape)))


class RMSNormalization(Layer):
    """Divides each sample by its root mean square over the given axes (Zhang and Sennrich, 2019).

    scale * x / sqrt(mean(x^2) + epsilon); https://arxiv.org/abs/1910.07467,
    https://keras.io/api/layers/normalization_layers/rms_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: WeightAxes = -1
    "The axis, or list of axes, over which the mean of squares is taken."
    epsilon: PositiveFloat = 1e-6
    "Added to the mean of squares."

    def build(self, plan: Plan, shape: Shape) -> Shape:
        sizes = tuple(shape[a] for a in places(self.axis, shape))
        if None in sizes:
            raise ValueError(f"the normalized axes must have known sizes, found {text(sizes)}")
        plan.weight("scale", sizes, Ones())
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        axes = places(self.axis, tuple(x.shape))
        sizes = [x.shape[a] for a in axes]
        if axes == list(range(x.dim() - len(axes), x.dim())):
            return F.rms_norm(x, sizes, w.scale, self.epsilon)
        shape = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
        mean = x.square().mean(axes, keepdim=True)
        return scaled(x * torch.rsqrt(mean + self.epsilon), w.scale, None, shape)


class UnitNormalization(Layer):
    """Divides each sample by its Euclidean norm over the given axes: x / sqrt(sum(x^2)); zeros stay zeros.

    https://keras.io/api/layers/normalization_layers/unit_normalization/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: Axes = -1
    "The axis, or list of axes, whose values are to have norm 1 together."

    supports_masking = True
    # In float16 the least norm would be 0, and zeros no numbers.
    computes_in_full = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        places(self.axis, shape)
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        axes = places(self.axis, tuple(x.shape))
        return x / torch.linalg.vector_norm(x, dim=axes, keepdim=True).clamp_min(_LEAST_NORM)
