"""Layers that merge several tensors entry by entry: Add, Subtract, Multiply, Average, Maximum and Minimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.errors import RecipeError
from trainer.layers.base import Layer, Weights
from trainer.layers.misfit import Misfit
from trainer.layers.plan import Plan
from trainer.lazy import torch
from trainer.shapes import Shape, text

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program, Pull

Masks = Sequence["Tensor | None"]
Backs = Callable[["Tensor"], tuple["Tensor", "Tensor"]]


def several(shape: Any, what: str, least: int = 2, most: int | None = None) -> list[Shape]:
    """The shapes of several inputs.

    Raises:
        ValueError: another number of inputs; a chain has one.
    """
    shapes = shape if isinstance(shape, list) else [shape]
    if len(shapes) < least or (most is not None and len(shapes) > most):
        wanted = f"exactly {least}" if most == least else f"at least {least}" if most is None else f"{least} or {most}"
        found = "one" if len(shapes) == 1 else str(len(shapes))
        message = f"expected a list of {wanted} inputs{what}, found {found}"
        raise Misfit(f"{message}; in a chain every layer has one", "say what it reads: `inputs: [left, right]`")
    return shapes


def all_shapes(shapes: list[Shape]) -> str:
    """The shapes as a person reads them."""
    return " and ".join(text(s) for s in shapes)


class Merging(Layer, abstract=True):
    """Joins tensors of one shape, or of shapes that broadcast to one, entry by entry."""

    most: ClassVar[int | None] = None
    "The most inputs; no limit when None."

    supports_masking = True
    reads_several = True

    def build(self, plan: Plan, shape: Any) -> Shape:
        shapes = several(shape, "", most=self.most)
        rest = reduce(lambda a, b: _broadcast(a, b, shapes), (s[1:] for s in shapes))
        return (same_batch(shapes), *rest)

    def forward(self, w: Weights, x: list[Tensor]) -> Tensor:
        return self.merged(one_rank(x))

    def merged(self, xs: list[Tensor]) -> Tensor:
        """The output for inputs that have the same number of axes."""
        raise NotImplementedError

    def by_hand(self, p: Program, w: Weights, x: list[Tensor]) -> tuple[Tensor, Pull] | None:
        """For inputs of one shape: two at a time, as `merged`."""
        if any(t.shape != x[0].shape for t in x):
            return None
        made, backs = x[0], []
        for other in x[1:]:
            made, back = self.two_by_hand(p, made, other)
            backs.append(back)

        def pull(slope: Tensor, wanted: list[bool]) -> list[Tensor]:
            slopes = []
            for back in reversed(backs):
                slope, last = back(slope)
                slopes.append(last)
            return [slope, *reversed(slopes)]

        return made, pull

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        """What becomes of two inputs, as operations of a program, and those that take a gradient back to both."""
        raise NotImplementedError

    def starts_mask(self) -> bool:
        return False

    def compute_mask(self, x: list[Tensor], mask: Masks | None) -> Tensor | None:
        """A step counts where it does in any input; no mask when one of the inputs has none."""
        given = [m for m in mask or () if m is not None]
        return reduce(torch.logical_or, given) if given and len(given) == len(mask or ()) else None

    def mask_by_hand(self, p: Program, x: list[Tensor], mask: Masks | None, **options: Any) -> Tensor | None:
        if type(self).compute_mask is not Merging.compute_mask:
            return super().mask_by_hand(p, x, mask, **options)
        given = list({id(m): m for m in mask or () if m is not None}.values())
        if not given or any(m is None for m in mask or ()):
            return None
        return reduce(partial(p.make, torch.logical_or), given)


class MaskedMerging(Merging, abstract=True):
    """A merge that leaves masked steps of an input out."""

    takes_mask = True

    def forward(self, w: Weights, x: list[Tensor], mask: Masks | None = None) -> Tensor:
        """
        Raises:
            RecipeError: a mask that has not one axis less than its input.
        """
        xs = one_rank(x)
        if not mask or all(m is None for m in mask):
            return self.merged(xs)
        # Keras forgets the mask of an input to which it adds axes.
        masks = [None if now is not given else m for now, given, m in zip(xs, x, mask, strict=True)]
        return self.masked(xs, [None if m is None else self._spread(m, v) for m, v in zip(masks, xs, strict=True)])

    def masked(self, xs: list[Tensor], masks: Masks) -> Tensor:
        """The output, with masks that broadcast to the inputs."""
        raise NotImplementedError

    def _spread(self, mask: Tensor, x: Tensor) -> Tensor:
        if mask.dim() != x.dim() - 1:
            raise RecipeError(
                f"{type(self).__name__}: expected a mask with one axis less than its input, found {mask.dim()} axes "
                f"for {x.dim()}",
                hint="merge before the axes are added, or turn the mask off (mask_zero: false)",
            )
        return mask.unsqueeze(-1)


class Add(Merging):
    """The sum of the inputs.

    https://keras.io/api/layers/merging_layers/add/

    Shape: (batch, ...), (batch, ...), ... -> (batch, ...)
    """

    def merged(self, xs: list[Tensor]) -> Tensor:
        return reduce(torch.add, xs)

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.add, a, b), partial(_to_both, p)


class Subtract(Merging):
    """The first input less the second.

    https://keras.io/api/layers/merging_layers/subtract/

    Shape: (batch, ...), (batch, ...) -> (batch, ...)
    """

    most = 2

    def merged(self, xs: list[Tensor]) -> Tensor:
        return xs[0] - xs[1]

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.sub, a, b), lambda slope: (slope, p.make(torch.neg, slope))


class Average(Merging):
    """The mean of the inputs.

    https://keras.io/api/layers/merging_layers/average/

    Shape: (batch, ...), (batch, ...), ... -> (batch, ...)
    """

    def merged(self, xs: list[Tensor]) -> Tensor:
        return reduce(torch.add, xs) / len(xs)

    def by_hand(self, p: Program, w: Weights, x: list[Tensor]) -> tuple[Tensor, Pull] | None:
        found = super().by_hand(p, w, x)
        if found is None:
            return None
        made, back = found
        p.do(made.div_, len(x))

        def pull(slope: Tensor, wanted: list[bool]) -> list[Tensor]:
            p.do(slope.div_, len(x))
            return back(slope, wanted)

        return made, pull

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.add, a, b), partial(_to_both, p)


class Multiply(MaskedMerging):
    """The product of the inputs. A masked step of an input counts as 1, and as 0 where it is masked in all of them.

    https://keras.io/api/layers/merging_layers/multiply/

    Shape: (batch, ...), (batch, ...), ... -> (batch, ...)
    """

    def merged(self, xs: list[Tensor]) -> Tensor:
        return reduce(torch.mul, xs)

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.mul, a, b), lambda slope: (p.make(torch.mul, slope, b), p.make(torch.mul, slope, a))

    def masked(self, xs: list[Tensor], masks: Masks) -> Tensor:
        out = self.merged([x if m is None else x.masked_fill(~m, 1) for x, m in zip(xs, masks, strict=True)])
        given = [m for m in masks if m is not None]
        return out.masked_fill(~reduce(torch.logical_or, given), 0) if len(given) == len(masks) else out


class Extreme(MaskedMerging, abstract=True):
    """The largest or smallest of the inputs; a masked step of an input does not take part."""

    def pick(self, a: Tensor, b: Tensor) -> Tensor:
        """Entry by entry, the one of two that goes on."""
        raise NotImplementedError

    def merged(self, xs: list[Tensor]) -> Tensor:
        return reduce(self.pick, xs)

    def masked(self, xs: list[Tensor], masks: Masks) -> Tensor:
        out, seen = xs[0], masks[0]
        for x, mask in zip(xs[1:], masks[1:], strict=True):
            x = x if mask is None else torch.where(mask, x, out)
            out = out if seen is None else torch.where(seen, out, x)
            seen = None if mask is None or seen is None else seen | mask
            out = self.pick(out, x)
        return out


class Maximum(Extreme):
    """The largest of the inputs, entry by entry; a masked step of an input does not take part.

    https://keras.io/api/layers/merging_layers/maximum/

    Shape: (batch, ...), (batch, ...), ... -> (batch, ...)
    """

    def pick(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.maximum(a, b)

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.maximum, a, b), lambda slope: _shared(p, slope, a, b)


class Minimum(Extreme):
    """The smallest of the inputs, entry by entry; a masked step of an input does not take part.

    https://keras.io/api/layers/merging_layers/minimum/

    Shape: (batch, ...), (batch, ...), ... -> (batch, ...)
    """

    def pick(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.minimum(a, b)

    def two_by_hand(self, p: Program, a: Tensor, b: Tensor) -> tuple[Tensor, Backs]:
        return p.make(torch.minimum, a, b), lambda slope: _shared(p, slope, b, a)


def _to_both(p: Program, slope: Tensor) -> tuple[Tensor, Tensor]:
    return slope, p.make(torch.mul, slope, 1.0)


def _shared(p: Program, slope: Tensor, more: Tensor, less: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient where `more` is above `less`, the gradient elsewhere), half of it each where they are equal."""
    share = p.make(torch.sub, more, less)
    p.do(share.sign_)
    p.do(share.add_, 1)
    p.do(share.mul_, slope)
    p.do(share.mul_, 0.5)
    p.do(slope.sub_, share)
    return share, slope


def one_rank(xs: list[Tensor]) -> list[Tensor]:
    """The inputs with axes of 1 after the batch, so that all have the same number of axes."""
    most = max(x.dim() for x in xs)
    return [x if x.dim() == most else x.reshape(x.shape[0], *(1,) * (most - x.dim()), *x.shape[1:]) for x in xs]


def same_batch(shapes: list[Shape]) -> int | None:
    """The size of the batch, None where it is known only with data.

    Raises:
        ValueError: the inputs have batches of several sizes.
    """
    sizes = {s[0] for s in shapes} - {None}
    if len(sizes) > 1:
        raise ValueError(f"expected inputs of one batch size, found {all_shapes(shapes)}")
    return next(iter(sizes), None)


def _broadcast(a: Shape, b: Shape, shapes: list[Shape]) -> Shape:
    """The shape of two that are merged, counted from the last axis."""
    if len(a) < len(b):
        a, b = b, a
    beyond = len(a) - len(b)
    merged: list[int | None] = list(a[:beyond])
    for m, n in zip(a[beyond:], b, strict=True):
        if m is not None and n is not None and m != n and 1 not in (m, n):
            raise ValueError(
                f"expected inputs of one shape, or with axes of 1 in place of others, found {all_shapes(shapes)}"
            )
        merged.append(None if m is None or n is None else n if m == 1 else m)
    return tuple(merged)
