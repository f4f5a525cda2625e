"""The kind `loss`: a final gives values per sample; the root weights, masks and reduces them as Keras does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.declare import Declared
from trainer.losses.scores import differentiated
from trainer.losses.shaping import matched, merged, no_nan, paired
from trainer.options import Str

if TYPE_CHECKING:
    import torch

    from trainer.program import Program

Targets = Literal["values", "binary", "one_hot", "integer", "groups"]
EPSILON = 1e-7
"Keras's `epsilon()`: probabilities are kept this far from 0 and 1."


class Loss(Declared, kind="loss", room="trainer.losses", keras="keras.losses"):
    """What training minimises."""

    targets: ClassVar[Targets] = "values"
    """What the target holds: numbers shaped like the output, 0/1 flags, one-hot rows, numbers of the output's classes,
    or groups: class numbers that have nothing to do with the output's size."""
    fits: ClassVar[tuple[str, ...]] = ()
    "Activations of the last layer that the loss is made for (unless `from_logits`); empty when any will do."
    takes_scores: ClassVar[bool] = False
    "Whether the loss is made for raw scores, which a last sigmoid or softmax would spoil."
    skips_zeros: ClassVar[bool] = False
    "Whether a sample whose value is 0 is left out, as by a mask."

    reduction: Literal["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"] | None = (
        "sum_over_batch_size"
    )
    "How the values of a batch become one number; none (or null) leaves them as they are."
    name: Str | None = None
    "Name in logs; by default the class name in snake case."

    @property
    def counts(self) -> bool:
        """Whether the target holds whole numbers."""
        return self.targets in ("integer", "groups")

    def values(self, y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        """Loss per sample: the shape of `y_pred` without its last axis. Both come as `per_sample` prepared them."""
        raise NotImplementedError

    def mean(self, y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        """The mean of `values`; overridden where one operation gives it."""
        return self.values(y_true, y_pred).mean()

    def joins(self, activation: str) -> bool:
        """Whether the loss gives gradients with respect to the scores before that last activation (`slope`)."""
        return False

    def slope(self, y_true: torch.Tensor, p: torch.Tensor, share: float) -> torch.Tensor:
        """Gradient of the sum of `values`, times `share`, with respect to the scores that p was made from."""
        raise NotImplementedError

    def by_hand(
        self, p: Program, y_true: torch.Tensor, y_pred: torch.Tensor, share: float, joined: bool
    ) -> torch.Tensor | None:
        """Gradient of the sum of `values`, times `share`, with respect to `y_pred`, as operations of a program.

        `joined`: with respect to the scores, as `slope`. None for a loss that leaves it to autograd.
        """
        return None

    def is_by_rows(self) -> bool:
        """Whether the mean over all rows, weighed or not, is that of the batches, however they are cut."""
        across = getattr(self, "axis", -1) != -1 or self.targets == "groups"
        return (
            self.reduction in ("sum_over_batch_size", "mean")
            and not across
            and not self.skips_zeros
            and self.counts_all()
        )

    def counts_all(self) -> bool:
        """Whether no target is left out."""
        return True

    def is_mean(self, y_true: torch.Tensor) -> bool:
        """Whether the loss of rows that are not weighed is the plain mean of `values`."""
        return self.reduction in _MEANS and not self.skips_zeros and self.valid(y_true) is None

    def value_and_slope(self, y_true: torch.Tensor, y_pred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """For a loss that joins the last activation, and rows that all count alike: (loss, its gradient at the scores).

        None when the loss is no mean over the rows.
        """
        p = y_pred.detach()
        y_true, p = paired(y_true, p, cast=not self.counts)
        if not self.is_mean(y_true):
            return None
        return self.mean(y_true, p), self.slope(y_true, p, p.shape[-1] / p.numel()).reshape(y_pred.shape)

    def valid(self, y_true: torch.Tensor) -> torch.Tensor | None:
        """A mask of the targets that count, when the loss leaves some out."""
        return None

    def check(self, y_true: torch.Tensor, classes: int) -> None:
        """Refuse targets that the loss can't take for an output of `classes` values; the root takes all.

        Raises:
            DataError: names the first bad value and its row.
        """

    def per_sample(self, y_true: torch.Tensor, y_pred: torch.Tensor) -> torch.Tensor:
        """`values` for a target of any number type whose rank may differ by an axis of length 1."""
        return self.values(*paired(y_true, y_pred, cast=not self.counts))

    def __call__(
        self,
        y_true: torch.Tensor,
        y_pred: torch.Tensor,
        sample_weight: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        scores: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The reduced loss of a batch, a scalar (the weighted values under `reduction: none`).

        `scores`, for losses that join the model's last activation, are what that activation was given: gradients then
        go straight to them and do not die where a probability is 0 or 1, as in Keras on TensorFlow.

        With a mask, means are over what is unmasked; weights multiply the values but enter the divisor only under
        `mean_with_sample_weight`. Weights of fewer axes than the values weigh whole samples.
        """
        y_true, y_pred = paired(y_true, y_pred, cast=not self.counts)
        plain = sample_weight is None and mask is None and self.is_mean(y_true)
        if scores is not None:
            p, share = y_pred.detach(), y_pred.shape[-1] / y_pred.numel() if plain else 1.0
            made = self.mean(y_true, p) if plain else self.values(y_true, p)
            values = differentiated(scores.reshape(y_pred.shape), made, self.slope(y_true, p, share))
        else:
            values = self.mean(y_true, y_pred) if plain else self.values(y_true, y_pred)
        if plain:
            return values
        valid = values > 0 if self.skips_zeros else self.valid(y_true)
        if valid is not None:
            valid = valid.reshape(values.shape)
            mask = valid if mask is None else mask & valid
        return reduced(values, sample_weight, mask, self.reduction)


_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")


def reduced(
    values: torch.Tensor, sample_weight: torch.Tensor | None, mask: torch.Tensor | None, reduction: str | None
) -> torch.Tensor:
    """Weighted, masked and reduced values by Keras's rules."""
    scaled = reduction in ("mean", "sum_over_batch_size")
    weight = merged(sample_weight, mask, values.dtype, scaled=scaled)
    if weight is not None:
        values, weight = matched(values, weight)
        values = values * weight
    if reduction in (None, "none") or values.dim() == 0:
        return values
    total = values.sum()
    if reduction == "sum":
        return total
    if reduction == "mean_with_sample_weight" and weight is not None:
        return no_nan(total, weight.sum())
    return total / max(values.numel(), 1)
