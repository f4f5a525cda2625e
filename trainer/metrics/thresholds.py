"""Counts of right and wrong flags at one or many thresholds, kept as a histogram of how many each output exceeds."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from trainer.errors import DataError
from trainer.lazy import np, torch
from trainer.losses.base import EPSILON
from trainer.losses.shaping import floating, leading, same_rank

if TYPE_CHECKING:
    from torch import Tensor

LOWEST = -1e10
"Keras's stand-in for minus infinity: the score of what is not among the best k."


Compared = tuple["Tensor", "Tensor", "Tensor | None"]
"Flags, scores and weights of one shape."


class Counts(NamedTuple):
    """Weighted counts at each threshold, the lowest first."""

    true_positives: Tensor
    false_positives: Tensor
    true_negatives: Tensor
    false_negatives: Tensor


def flags(
    y_true: Tensor,
    y_pred: Tensor,
    sample_weight: Tensor | None,
    *,
    top_k: int | None = None,
    class_id: int | None = None,
) -> Compared:
    """(flags, scores, weights); only the best `top_k` scores, only the class `class_id`.

    Raises:
        DataError: the shapes do not go together.
    """
    y_pred = floating(y_pred)
    if y_true.dim() != y_pred.dim():
        y_pred, y_true = same_rank(y_pred, y_true)
    if y_true.shape != y_pred.shape:
        message = f"expected 0/1 flags shaped like the output, {tuple(y_pred.shape)}, found {tuple(y_true.shape)}"
        hint = "class numbers need one-hot encoding for this metric: {CategoryEncoding: {output_mode: one_hot}}"
        raise DataError(message, hint=hint, code="shape")
    if top_k is not None:
        kept = torch.zeros_like(y_pred, dtype=torch.bool)
        kept.scatter_(-1, torch.topk(y_pred, top_k, dim=-1).indices, True)
        y_pred = torch.where(kept, y_pred, LOWEST)
    if class_id is not None:
        y_true, y_pred = y_true[..., class_id, None], y_pred[..., class_id, None]
    if sample_weight is not None:
        sample_weight = leading(sample_weight.to(y_pred.dtype), y_pred).expand_as(y_pred)
    return y_true.bool(), y_pred, sample_weight


@functools.lru_cache(maxsize=64)
def even(thresholds: tuple[float, ...]) -> bool:
    """Whether Keras takes the thresholds as evenly spaced from 0 to 1, and computes buckets instead of comparing."""
    if len(thresholds) < 3:
        return False
    steps = np.arange(len(thresholds), dtype=np.float32) / (len(thresholds) - 1)
    return bool(np.allclose(thresholds, steps, atol=EPSILON))


def exceeded(scores: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    """How many of the ascending thresholds each score is above."""
    if len(thresholds) == 1:
        return scores > thresholds[0]
    if even(thresholds):
        # The rounding of Keras's bucket formula, so that scores on a threshold fall as they do there.
        found = torch.ceil(scores.clip(0.0, 1.0) * (len(thresholds) - 1))
        return (found.clip(min=1.0) if thresholds[0] < 0.0 else found).long()
    edges = torch.tensor(thresholds, dtype=scores.dtype, device=scores.device)
    return torch.searchsorted(edges, scores.contiguous())


def add(histogram: Tensor, actual: Tensor, above: Tensor, weight: Tensor | None, labels: int = 1) -> None:
    """Add a batch to a histogram of shape (2 * labels * (thresholds + 1),): false ones, then true ones, by label."""
    width = histogram.numel() // (2 * labels)
    place = above + actual * (labels * width)
    if labels > 1:
        place = place + torch.arange(labels, device=place.device) * width
    place = place.reshape(-1)
    amount = None if weight is None else weight.reshape(-1).to(histogram.dtype)
    if place.device.type == "cpu":
        histogram.add_(torch.bincount(place, amount, minlength=histogram.numel()))
        return
    # bincount would wait for the device.
    if amount is None:
        amount = torch.ones((), dtype=histogram.dtype, device=histogram.device).expand(place.numel())
    histogram.index_add_(0, place, amount)


def counts(histogram: Tensor, labels: int | None = None) -> Counts:
    """Counts at each threshold, of shape (thresholds,) or (thresholds, labels)."""
    sides = histogram.reshape(2, labels or 1, -1)
    # Whoever exceeds more than i thresholds is above threshold i.
    above = sides.flip(-1).cumsum(-1).flip(-1)[..., 1:]
    below = sides.sum(-1, keepdim=True) - above
    shaped = [t.transpose(-1, -2) if labels else t[:, 0] for t in (above, below)]
    return Counts(shaped[0][1], shaped[0][0], shaped[1][0], shaped[1][1])
