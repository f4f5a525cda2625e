"""How targets, outputs, weights and masks are brought to one shape: Keras's rules, used by losses and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.errors import DataError
from trainer.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def same_rank(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the same number of axes, where they differ by a last axis of length 1.

    A one-axis tensor gains the axis; any other pair loses it.
    """
    more = a.dim() - b.dim()
    if more == 0:
        return a, b
    if more == 1 and a.shape[-1] == 1:
        return (a, b.unsqueeze(-1)) if b.dim() == 1 else (a.squeeze(-1), b)
    if more == -1 and b.shape[-1] == 1:
        return (a.unsqueeze(-1), b) if a.dim() == 1 else (a, b.squeeze(-1))
    return a, b


def floating(x: Tensor) -> Tensor:
    """As float32 at least: losses of half-precision outputs are computed in float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def paired(y_true: Tensor, y_pred: Tensor, *, cast: bool = True) -> tuple[Tensor, Tensor]:
    """Target and output of one rank, the output in floating point, and the target too when `cast` says so."""
    y_pred = floating(y_pred)
    if cast and y_true.dtype != y_pred.dtype:
        y_true = y_true.to(y_pred.dtype)
    return (y_true, y_pred) if y_true.dim() == y_pred.dim() else same_rank(y_true, y_pred)


def alike(y_true: Tensor, y_pred: Tensor, what: str) -> None:
    """Refuse a target whose shape is not the output's.

    Raises:
        DataError: the shapes differ.
    """
    if y_true.shape != y_pred.shape:
        found = f"the target has shape {tuple(y_true.shape)}, the output {tuple(y_pred.shape)}"
        raise DataError(f"{what} needs a target shaped like the output, but {found}", code="shape")


def no_nan(top: Tensor | float, bottom: Tensor) -> Tensor:
    """top / bottom, and 0 where bottom is 0."""
    zero = bottom == 0
    return torch.where(zero, 0.0, top / torch.where(zero, 1.0, bottom))


def merged(weight: Tensor | None, mask: Tensor | None, dtype: torch.dtype, *, scaled: bool) -> Tensor | None:
    """Sample weights and mask as one factor, or None.

    `scaled` gives unmasked entries all / unmasked, so that a mean over all entries is one over the unmasked.
    """
    if weight is not None:
        weight = weight.to(dtype)
    if mask is None:
        return weight
    share = mask.to(dtype)
    if scaled:
        share = share * no_nan(float(mask.numel()), share.sum())
    if weight is None:
        return share
    if weight.dim() > share.dim():
        weight, share = matched(weight, share)
    else:
        share, weight = matched(share, weight)
    return share * weight


def matched(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Values and weights that multiply: weights of fewer axes are for the leading ones (batch, then time).

    One value of a whole batch is weighed by every weight, as in Keras.

    Raises:
        DataError: the weights' shape does not go with the values'.
    """
    if values.dim() == 0:
        return values, weight
    if weight.dim() != values.dim():
        values, weight = same_rank(values, weight)
        return values, leading(weight, values)
    return values, weight if weight.shape == values.shape else leading(weight, values)


def leading(weight: Tensor, values: Tensor) -> Tensor:
    """The weights with as many axes as the values, those that they lack at the end.

    Raises:
        DataError: the weights' shape does not go with the values'.
    """
    given = tuple(weight.shape)
    if weight.dim() == values.dim() + 1 and given[-1] == 1:
        weight = weight.squeeze(-1)
    weight = weight.reshape(*weight.shape, *(1,) * (values.dim() - weight.dim()))
    fits = weight.dim() == values.dim() and all(w in (1, v) for w, v in zip(weight.shape, values.shape, strict=True))
    if not fits:
        message = f"weights or a mask of shape {given} do not go with values of shape {tuple(values.shape)}"
        raise DataError(message, hint="give one weight a sample, or one for each value", code="shape")
    return weight
