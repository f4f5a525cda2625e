"""BatchNormalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from trainer.errors import RecipeError
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Ones, Zeros
from trainer.layers.activation_layers import is_relu
from trainer.layers.axes import place
from trainer.layers.base import Layer, Weights
from trainer.layers.normalization_native import HEADER, NormalizedBatch, can_be_native
from trainer.layers.normalizing import Normalizing, normalized_back, scaled
from trainer.layers.plan import Plan
from trainer.lazy import np, torch
from trainer.options import Bool, Float, Fraction, Int, PositiveFloat, Rule, number, number_schema
from trainer.program import native
from trainer.shapes import Shape

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from trainer.program import Program, Pull

_MASK_EPSILON = 1e-7
"Keras's backend epsilon, which it adds to the number of unmasked entries."


_LIMITS = ("rmax", "rmin", "dmax")


def _clipping(value: Any) -> dict[str, float | None]:
    if not isinstance(value, dict) or set(value) - set(_LIMITS):
        raise TypeError
    limits = {name: None if limit is None else number(limit) for name, limit in value.items()}
    low, high, shift = limits.get("rmin"), limits.get("rmax"), limits.get("dmax")
    if (low is not None and high is not None and high < low) or (shift is not None and shift < 0):
        raise ValueError
    return limits


_LIMIT = {"anyOf": [*number_schema()["anyOf"], {"type": "null"}]}
Clipping = Annotated[
    dict[str, float | None],
    Rule(
        "a mapping with rmax, rmin (not above rmax) and dmax (0 or more), or some of them",
        _clipping,
        {"type": "object", "properties": dict.fromkeys(_LIMITS, _LIMIT), "additionalProperties": False},
    ),
]


class BatchNormalization(Normalizing):
    """Normalizes each entry of one axis over all others (Ioffe and Szegedy, 2015).

    gamma * (x - mean) / sqrt(variance + epsilon) + beta. Training takes mean and variance (the biased one) from the
    batch, leaving out masked steps, and moves the moving ones: moving * momentum + batch * (1 - momentum). Otherwise,
    and when the layer is frozen, the moving ones are used. With `renorm`, training uses moving ones too, within the
    limits of `renorm_clipping` and without a gradient through them (Ioffe, 2017, https://arxiv.org/abs/1702.03275).
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
    renorm: Bool = False
    "Whether training corrects the batch's mean and variance towards moving ones, for small or uneven batches."
    renorm_clipping: Clipping | None = None
    "Limits of the correction: of its factor (`rmin`, `rmax`) and of its shift (`dmax`); none where one is not given."
    renorm_momentum: Float = 0.99
    "How much of the mean and deviation that correct stays at each step."
    synchronized: Bool = False
    "Whether devices that share a batch take its statistics together; on one device they always are of the whole batch."

    takes_mask = True
    casts_inside = compiles_typed = True
    # Keras itself refuses it but on TensorFlow, and training has one device.
    not_keras = ("synchronized",)

    def build(self, plan: Plan, shape: Shape) -> Shape:
        size = (shape[place(self.axis, shape)],)
        self.ask(plan, size)
        spread = cast(Initializer, _Root(self.moving_variance_initializer))
        for name, first in (
            ("moving_mean", self.moving_mean_initializer),
            ("moving_variance", self.moving_variance_initializer),
            ("moving_stddev", spread),
            ("renorm_mean", self.moving_mean_initializer),
            ("renorm_stddev", spread),
        ):
            plan.weight(
                name, size, first, trainable=False, when=self.renorm or name in ("moving_mean", "moving_variance")
            )
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
            mean, variance = w.moving_mean.to(x.dtype), w.moving_variance.to(x.dtype)
            return _batch_norm(x, axis, w.gamma, w.beta, mean, variance, self.epsilon)
        if self.renorm:
            return self._renormed(w, x, *self._moments(x, axis, mask))
        if mask is not None:
            return self._masked(w, x, *self._moments(x, axis, mask))
        # With a momentum of 1 torch leaves mean and variance of this batch alone in the buffers.
        mean, variance = x.new_zeros(2, x.shape[axis]).unbind(0)
        y = _batch_norm(x, axis, w.gamma, w.beta, mean, variance, self.epsilon, training=True)
        count = x.numel() // x.shape[axis]
        # torch's is the unbiased variance, Keras moves by the biased one.
        self._move(w, mean, variance * ((count - 1) / count) if count > 1 else torch.zeros_like(variance))
        return y

    def by_hand(self, p: Program, w: Weights, x: Tensor) -> tuple[Tensor, Pull] | None:
        if p.compiles and self.compiles(w, None):
            return self._compiled(p, w, x, relu=False)
        x = p.cast(x, torch.promote_types(x.dtype, torch.float32))
        if self.renorm or x.numel() == x.shape[self.axis]:
            # torch knows no variance of a single value.
            return None
        axis, moves = self.axis % x.dim(), w.training and w.trainable
        x = _laid_for_kernels(p, x, axis)
        first, gamma, beta = _features_at_1(x, axis), w.gamma, w.beta
        batch = x.new_zeros(2, x.shape[axis])
        moving = (w.moving_mean, w.moving_variance)
        mean, variance = batch.unbind(0) if moves else (p.cast(tensor, x.dtype) for tensor in moving)
        how = (first, gamma, beta, mean, variance, moves, 1.0, self.epsilon)
        made, *kept = native("native_batch_norm")(*how)
        if moves:
            p.do(batch.zero_)
        p.do(native("native_batch_norm", "out"), *how, out=made, save_mean=kept[0], save_invstd=kept[1])
        if moves:
            count = x.numel() // x.shape[axis]
            p.do(variance.mul_, (count - 1) / count)
            self._move_by_hand(p, w, mean, variance)
        known = (first, gamma, mean, variance, *kept, moves, self.epsilon)

        def pull(slope: Tensor, wanted: bool) -> Tensor | None:
            slope = _features_at_1(_laid_for_kernels(p, slope, axis), axis)
            normalized_back(p, "native_batch_norm_backward", slope, known, (gamma, beta), wanted)
            return _features_back(slope, axis, x.shape) if wanted else None

        return _features_back(made, axis, x.shape), pull

    def by_hand_with(
        self, p: Program, w: Weights, x: Tensor, after: Layer, its: Weights, mask: Tensor | None
    ) -> tuple[Tensor, Pull] | None:
        joins = is_relu(after) and after.dtype == self.dtype and self.compiles(w, after)
        return self._compiled(p, w, x, relu=True) if joins else None

    def compiles(self, w: Weights, after: Layer | None) -> str:
        plain = self.axis == -1 and not self.renorm and self.dtype in (None, "float32", "mixed_bfloat16")
        return HEADER if plain and can_be_native(w.moving_mean, w.gamma, w.beta) else ""

    def _compiled(self, p: Program, w: Weights, x: Tensor, *, relu: bool) -> tuple[Tensor, Pull]:
        moves = w.training and w.trainable
        given = None if moves else (w.moving_mean, w.moving_variance)
        both = NormalizedBatch(p.laid(x), w.gamma, w.beta, given, self.epsilon, relu)
        made, pull = both.operations(p)
        if moves:
            self._move_by_hand(p, w, both.mean, both.variance)
        return made, pull

    def _moments(self, x: Tensor, axis: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and biased variance over the other axes, which stay as 1, of the steps that count."""
        others = [n for n in range(x.dim()) if n != axis]
        if mask is None:
            variance, mean = torch.var_mean(x, others, correction=0, keepdim=True)
            return mean, variance
        seen = mask.unsqueeze(-1).expand_as(x)
        precise = torch.promote_types(x.dtype, torch.float32)
        count = seen.sum(others, keepdim=True, dtype=precise) + _MASK_EPSILON
        mean = x.masked_fill(~seen, 0).sum(others, keepdim=True) / count
        return mean, (x - mean).masked_fill(~seen, 0).square().sum(others, keepdim=True) / count

    def _masked(self, w: Weights, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Every step is normalized, but by the statistics of those that count."""
        self._move(w, mean.detach().reshape(-1), variance.detach().reshape(-1))
        return scaled((x - mean) * torch.rsqrt(variance + self.epsilon), w.gamma, w.beta, mean.shape)

    def _renormed(self, w: Weights, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """((x - mean) / stddev) r + d, where r and d stand for the moving statistics and carry no gradient."""
        shape = mean.shape
        with torch.no_grad():
            stddev = torch.sqrt(variance + self.epsilon)
            past = w.renorm_stddev.to(x.dtype).clamp(min=self.epsilon**0.5).reshape(shape)
            limits = self.renorm_clipping or {}
            r = _within(stddev / past, limits.get("rmin"), limits.get("rmax"))
            most = limits.get("dmax")
            d = _within((mean - w.renorm_mean.reshape(shape)) / past, most and -most, most)
            y = mean.reshape(-1), stddev.reshape(-1)
        out = scaled((x - mean) * torch.rsqrt(variance + self.epsilon) * r + d, w.gamma, w.beta, shape)
        self._move_renormed(w, *y)
        return out

    def _move_renormed(self, w: Weights, mean: Tensor, stddev: Tensor) -> None:
        with torch.no_grad():
            for moving, now, momentum in (
                (w.renorm_mean, mean, self.renorm_momentum),
                (w.renorm_stddev, stddev, self.renorm_momentum),
                (w.moving_mean, mean, self.momentum),
                (w.moving_stddev, stddev, self.momentum),
            ):
                _follow(moving, now, momentum)
            w.moving_variance.copy_(torch.relu(w.moving_stddev.to(mean.dtype).square() - self.epsilon))

    def _move(self, w: Weights, mean: Tensor, variance: Tensor) -> None:
        with torch.no_grad():
            _follow(w.moving_mean, mean, self.momentum)
            _follow(w.moving_variance, variance, self.momentum)

    def _move_by_hand(self, p: Program, w: Weights, mean: Tensor, variance: Tensor) -> None:
        """`_move` as operations of a program."""
        for moving, now in ((w.moving_mean.detach(), mean), (w.moving_variance.detach(), variance)):
            if moving.dtype == now.dtype:
                p.do(moving.mul_, self.momentum)
                p.do(moving.add_, now, alpha=1 - self.momentum)
            else:
                p.do(_follow, moving, now, self.momentum)


@dataclass(frozen=True)
class _Root:
    """Square roots of another initializer's values: a deviation starts as the variance does."""

    of: Initializer

    @property
    def seed(self) -> int | None:
        return getattr(self.of, "seed", None)

    def values(self, shape: tuple[int, ...], random: numpy.random.Generator) -> numpy.ndarray:
        return np.sqrt(self.of.values(shape, random))


def _follow(moving: Tensor, now: Tensor, momentum: float) -> None:
    """moving * momentum + now * (1 - momentum), in place, rounded once where it is kept in half precision."""
    kept = moving.to(now.dtype)
    kept.mul_(momentum).add_(now, alpha=1 - momentum)
    if kept is not moving:
        moving.copy_(kept)


def _within(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)


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

    first = _features_at_1(x, axis)
    made = torch.batch_norm(first, gamma, beta, mean, variance, training, 1.0, epsilon, False)
    return _features_back(made, axis, x.shape)


def _features_at_1(x: Tensor, axis: int) -> Tensor:
    """A view that torch's kernel can read."""
    if axis == 1:
        return x
    return x.reshape(-1, x.shape[-1]) if axis == x.dim() - 1 and x.dim() != 4 else x.movedim(axis, 1)


def _laid_for_kernels(p: Program, x: Tensor, axis: int) -> Tensor:
    """`x` so that the features, moved to axis 1, lie as torch's kernels write them, which they do not look after."""
    pictures = x.dim() == 4 and x.movedim(axis, 1).is_contiguous(memory_format=torch.channels_last)
    return x if pictures else p.laid(x)


def _features_back(x: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    """The way back from `_features_at_1`."""
    if axis == 1:
        return x
    return x.view(shape) if axis == len(shape) - 1 and len(shape) != 4 else x.movedim(1, axis)
