"""The kind `metric`: sums that batches add to, and the value that they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trainer.declare import Declared
from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.shaping import leading, merged, no_nan, paired, same_rank
from trainer.naming import snake_case
from trainer.options import Str

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, Any]
"""Sums by name. A value is a tensor on the device, or a Python number where it is known without one (rows)."""


class Metric(Declared, kind="metric", room="trainer.metrics", keras="keras.metrics"):
    """What training reports. The state is handed in, so an epoch's sums can be saved and taken up again."""

    logged: ClassVar[str] = ""
    "Keras's name in logs where it is not the class name in snake case."

    name: Str | None = None
    "Name in logs; by default the name written in the recipe (`accuracy`), else the class name in snake case."

    @classmethod
    def default_name(cls) -> str:
        """The name in logs when nobody gave one."""
        return cls.logged or snake_case(cls.__name__)

    def is_by_rows(self) -> bool:
        """Whether batches may be put end to end: no value depends on other rows, as it may along another axis."""
        return getattr(self, "axis", -1) == -1

    def start(self, device: torch.device | str = "cpu") -> State:
        """Fresh sums."""
        raise NotImplementedError

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        """Add a batch to the sums; nothing is read back from the device."""
        raise NotImplementedError

    def result(self, state: State) -> Tensor:
        """The value of the sums so far; 0 before the first batch."""
        raise NotImplementedError

    def misfit(self, classes: int) -> tuple[str, str]:
        """(why, what to try): why it can't judge class numbers by a model with so many outputs; empty when it can."""
        return "", ""


def zeros(device: torch.device | str, *shape: int) -> Tensor:
    """Sums in float64, so that counts stay exact in epochs of any length (float32 where the device has no more)."""
    dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64
    return torch.zeros(shape, dtype=dtype, device=device)


def needs_flags(classes: int, what: str = "0/1 flags") -> tuple[str, str]:
    """`misfit` of a metric that compares flags, or other values, shaped like the output."""
    if classes == 1:
        return "", ""
    why = f"compares {what} shaped like the output, but the targets are class numbers"
    hint = "make the targets one-hot: preprocess them with {CategoryEncoding: {num_tokens: "
    return why, f"{hint}{classes}, output_mode: one_hot}}}}"


def need_columns(metric: Metric, option: str, columns: int, y_pred: Tensor) -> None:
    """Refuse an output that has not the columns that an option looks at.

    Raises:
        DataError: it has fewer.
    """
    if y_pred.shape[-1] < columns:
        given = f"{type(metric).__name__}.{option} is {getattr(metric, option)}"
        message = f"{given}: expected an output of {columns} columns or more, found {y_pred.shape[-1]}"
        raise DataError(message, code="shape")


class Mean(Metric, abstract=True):
    """A metric that is the weighted mean of a value per sample."""

    heeds_mask: ClassVar[bool] = True
    "Whether masked entries are left out (some of Keras's metrics count them)."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Value per sample; further axes are averaged."""
        raise NotImplementedError

    def valid(self, y_true: Tensor) -> Tensor | None:
        """A mask of the targets that count, when the metric leaves some out."""
        return None

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"total": zeros(device), "count": 0.0, "weight": zeros(device)}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        values = self.values(y_true, y_pred)
        if sample_weight is None and (mask is None or not self.heeds_mask):
            self._add(state, values)
            return
        values = values.float()
        weight = merged(sample_weight, mask if self.heeds_mask else None, values.dtype, scaled=False)
        assert weight is not None
        # As Keras does it, targets left out (`ignore_class`) leave the mean only where there are weights as well.
        weight = merged(weight, self.valid(y_true), values.dtype, scaled=False)
        assert weight is not None
        total, count = weighted(values, weight)
        state["total"].add_(total)
        state["weight"].add_(count)

    def _add(self, state: State, values: Tensor) -> None:
        rows = values.shape[0] if values.dim() else 1
        size = values.numel()
        total = values.count_nonzero() if values.dtype == torch.bool else values.sum()
        # Further axes are averaged, so that a row counts as much in a batch of longer rows.
        state["total"].add_(total if size == rows else total * (rows / max(size, 1)))
        state["count"] += rows

    def result(self, state: State) -> Tensor:
        return no_nan(state["total"], state["weight"] + state["count"])


def weighted(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of weighted values per sample, sum of weights per sample).

    Raises:
        DataError: the weights' shape does not go with the values'.
    """
    values, weight = same_rank(values, weight)
    if values.dim() > weight.dim():
        values = values.mean(tuple(range(weight.dim(), values.dim())))
    weight = leading(weight, values).expand_as(values)
    values = values * weight
    if values.dim() > 1:
        further = tuple(range(1, values.dim()))
        values, weight = values.mean(further), weight.mean(further)
    return values.sum(), weight.sum()


class Formula(Mean, abstract=True):
    """The mean of what a loss computes per sample."""

    integer: ClassVar[bool] = False
    "Whether the target holds class numbers."

    def misfit(self, classes: int) -> tuple[str, str]:
        return ("", "") if self.integer else needs_flags(classes, "values")

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Value per sample of a target and an output of one rank and number type."""
        raise NotImplementedError

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return self.formula(*paired(y_true, y_pred, cast=not self.integer))
