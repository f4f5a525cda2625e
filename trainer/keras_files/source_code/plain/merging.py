"""Merges as Keras has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F


def dot(a: Tensor, b: Tensor, first: int, second: int, normalize: bool = False) -> Tensor:
    """Sums of products over axis `first` of one and `second` of the other, row by row; of unit vectors if asked."""
    if normalize:
        a, b = F.normalize(a, dim=first, eps=1e-7), F.normalize(b, dim=second, eps=1e-7)
    a, b = a.movedim(first, -1), b.movedim(second, 1)
    made = torch.bmm(a.flatten(1, -2) if a.dim() > 2 else a[:, None], b.flatten(2) if b.dim() > 2 else b[..., None])
    left = (*a.shape[1:-1], *b.shape[2:])
    return made.reshape(made.shape[0], *(left or (1,)))


def masked_product(xs: list[Tensor], masks: list[Tensor | None]) -> Tensor:
    """The product; a masked step counts as 1, and as 0 where it is masked in all."""
    product = torch.ones_like(xs[0])
    for x, mask in zip(xs, masks, strict=True):
        product = product * (x if mask is None else x.masked_fill(~mask[..., None], 1))
    given = [mask for mask in masks if mask is not None]
    return product.masked_fill(~reduce(torch.logical_or, given)[..., None], 0) if len(given) == len(masks) else product


def masked_extreme(pick: Callable[[Tensor, Tensor], Tensor], xs: list[Tensor], masks: list[Tensor | None]) -> Tensor:
    """The largest or smallest; a masked step of an input does not take part."""
    out, seen = xs[0], masks[0]
    for x, mask in zip(xs[1:], masks[1:], strict=True):
        x = x if mask is None else torch.where(mask[..., None], x, out)
        out = out if seen is None else torch.where(seen[..., None], out, x)
        seen = None if mask is None or seen is None else seen | mask
        out = pick(out, x)
    return out
