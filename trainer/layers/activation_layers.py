"""Activations that have options or weights, as layers: ReLU, LeakyReLU, PReLU, ELU and Softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from trainer.activations.base import Activation
from trainer.activations.elementwise import Relu
from trainer.activations.vector import Softmax as SoftmaxFunction
from trainer.constraints.base import Constraint
from trainer.errors import RecipeError
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.layers.axes import Axes, places
from trainer.layers.base import Layer, Weights
from trainer.layers.core import Activation as ActivationLayer
from trainer.layers.plan import Plan
from trainer.layers.sums import ask
from trainer.lazy import F, torch
from trainer.options import Float, NonNegativeFloat, ints
from trainer.program import native
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

SharedAxes = Annotated[tuple[int, ...], ints()]


class ReLU(Layer):
    """x from `threshold` on, at most `max_value`; negative_slope * (x - threshold) below it.

    https://keras.io/api/layers/activation_layers/relu/

    Shape: (batch, ...) -> (batch, ...)
    """

    max_value: NonNegativeFloat | None = None
    "The largest output; no limit when null."
    negative_slope: NonNegativeFloat = 0.0
    "Slope below the threshold."
    threshold: NonNegativeFloat = 0.0
    "Where the output begins to follow x."

    supports_masking = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        if self.threshold == 0 and self.max_value is None:
            return F.leaky_relu(x, self.negative_slope) if self.negative_slope else torch.relu(x)
        y = x.masked_fill(x <= self.threshold, 0) if self.threshold else torch.relu(x)
        if self.max_value is not None:
            y = y.clamp(0.0, self.max_value)
        return y - self.negative_slope * torch.relu(self.threshold - x) if self.negative_slope else y

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        if self.threshold == 0 and self.max_value is None:
            return leaky_by_hand(p, x, self.negative_slope)
        made = torch.empty_like(x)
        p.do(lambda: made.copy_(self.forward(w, x)))

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if wanted:
                p.do(lambda: slope.mul_(self._slope(x)))
            return slope if wanted else None

        return made, pull

    def _slope(self, x: Tensor) -> Tensor:
        """1 between threshold and max_value, negative_slope below the threshold."""
        follows = x > self.threshold
        if self.max_value is not None:
            follows &= x <= self.max_value
        return follows.to(x.dtype).add_((x < self.threshold).to(x.dtype), alpha=self.negative_slope)


def is_relu(layer: Layer) -> bool:
    """Whether a layer is max(x, 0) and nothing else."""
    if isinstance(layer, ActivationLayer):
        return isinstance(layer.activation, Relu)
    return isinstance(layer, ReLU) and not (layer.threshold or layer.negative_slope) and layer.max_value is None


class LeakyReLU(Layer):
    """x where x > 0, else negative_slope * x (Maas et al., 2013).

    https://keras.io/api/layers/activation_layers/leaky_relu/

    Shape: (batch, ...) -> (batch, ...)
    """

    negative_slope: NonNegativeFloat = 0.3
    "Slope below zero."

    supports_masking = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        return leaky_by_hand(p, x, self.negative_slope)


class PReLU(Layer):
    """x where x > 0, else alpha * x, with an alpha for each entry that training finds (He et al., 2015).

    https://arxiv.org/abs/1502.01852, https://keras.io/api/layers/activation_layers/prelu/

    Shape: (batch, ...) -> (batch, ...)
    """

    alpha_initializer: Initializer = Zeros()
    "First values of alpha."
    alpha_regularizer: Regularizer | None = None
    "Penalty on alpha."
    alpha_constraint: Constraint | None = None
    "Projection of alpha after each update."
    shared_axes: SharedAxes | None = None
    "Axes along which one alpha serves all entries, counted with the batch as 0: [1, 2] gives one for each channel."

    supports_masking = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        shared = self.shared_axes or ()
        beyond = [a for a in shared if a >= len(shape)]
        if beyond:
            raise ValueError(f"expected shared_axes of the input {text(shape)}, found {beyond[0]}")
        sizes = tuple(1 if a in shared else n for a, n in enumerate(shape) if a)
        if None in sizes:
            raise ValueError(f"alpha needs known sizes, found {text(sizes)}; name the unknown axis in shared_axes")
        ask(plan, self, "alpha", sizes)
        return shape

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return torch.relu(x) - w.alpha * torch.relu(-x)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        below = p.make(torch.clamp, x, max=0)
        made, axes = p.make(torch.mul, below, w.alpha), (0, *(self.shared_axes or ()))
        p.do(lambda: made.add_(torch.relu(x)))

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            take = p.receiver(w.alpha)
            if take is not None:
                p.do(lambda: take((slope * below).sum(axes, keepdim=True)[0]))
            if wanted:
                p.do(lambda: slope.mul_((x > 0) + w.alpha * (x < 0)))
            return slope if wanted else None

        return made, pull


class ELU(Layer):
    """x where x > 0, else alpha * (exp(x) - 1) (Clevert et al., 2016, https://arxiv.org/abs/1511.07289).

    https://keras.io/api/layers/activation_layers/elu/

    Shape: (batch, ...) -> (batch, ...)
    """

    alpha: Float = 1.0
    "The output tends to -alpha far below zero."

    supports_masking = True

    def forward(self, w: Weights, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull]:
        made = torch.empty_like(x)
        p.do(native("elu", "out"), x, self.alpha, out=made)
        return made, in_place(p, native("elu_backward", "grad_input"), self.alpha, 1.0, 1.0, False, x)


class Softmax(Layer):
    """exp(x) / sum(exp(x)) along one or more axes: values that sum to 1. Masked entries become 0 and count for nothing.

    https://keras.io/api/layers/activation_layers/softmax/

    Shape: (batch, ...) -> (batch, ...)
    """

    axis: Axes = -1
    "The axis, or list of axes, along which the sum is taken."

    takes_mask = True
    supports_masking = True

    @property
    def activation(self) -> Activation | None:
        """The function of the same name, for checks of the loss; None over other axes."""
        return SoftmaxFunction() if self.axis in (-1, (-1,)) else None

    def build(self, plan: Plan, shape: Shape) -> Shape:
        places(self.axis, shape)
        return shape

    def forward(self, w: Weights, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Raises:
            RecipeError: a mask that does not broadcast to the input.
        """
        axes = places(self.axis, tuple(x.shape))
        if mask is not None:
            _broadcasts(mask, x)
        return masked_softmax(x, axes, mask)

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        axes = places(self.axis, tuple(x.shape))
        if len(axes) > 1:
            return None
        made = p.make(torch.softmax, p.laid(x), axes[0])

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            if not wanted:
                return None
            found = torch.empty_like(made)
            # The kernel takes what it writes to for contiguous.
            p.do(native("_softmax_backward_data", "out"), p.laid(slope), made, axes[0], x.dtype, grad_input=found)
            return found

        return made, pull


def in_place(p: Program, operation: Any, *known: Any) -> Pull:
    """The way back by one of torch's own operations, which takes the gradient first."""

    def pull(slope: Tensor, wanted: bool) -> Tensor | None:
        if wanted:
            p.do(operation, slope, *known, grad_input=slope)
        return slope if wanted else None

    return pull


def leaky_by_hand(p: Program, x: Tensor, below: float) -> tuple[Tensor, Pull]:
    """x where x > 0, else `below` * x, as operations of a program."""
    made = torch.empty_like(x)
    p.do(native("leaky_relu", "out"), x, below, out=made)
    return made, in_place(p, native("leaky_relu_backward", "grad_input"), x, below, False)


def masked_softmax(x: Tensor, axes: list[int], mask: Tensor | None) -> Tensor:
    """Softmax over `axes` of the entries where the mask is true; zeros elsewhere, and where none is."""
    if mask is not None:
        x = x.masked_fill(~mask, -3e4 if x.dtype == torch.float16 else -1e9)
    y = torch.softmax(x, axes[0]) if len(axes) == 1 else torch.exp(x - torch.logsumexp(x, axes, keepdim=True))
    return y if mask is None else y.masked_fill(~mask, 0)


def _broadcasts(mask: Tensor, x: Tensor) -> None:
    pairs = zip(reversed(mask.shape), reversed(x.shape), strict=False)
    if mask.dim() > x.dim() or any(m not in (1, n) for m, n in pairs):
        raise RecipeError(
            f"Softmax: expected a mask that fits the input {text(tuple(x.shape))}, found {text(tuple(mask.shape))}",
            hint="a mask of time steps fits scores (batch, time); turn it off otherwise (mask_zero: false)",
        )
