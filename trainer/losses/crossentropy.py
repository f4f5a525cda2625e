"""Cross-entropies: what classifiers minimise. https://keras.io/api/losses/probabilistic_losses/"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from trainer.errors import DataError
from trainer.lazy import F, torch
from trainer.losses.base import EPSILON, Loss
from trainer.losses.shaping import alike
from trainer.options import Bool, Fraction, Int, within

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.program import Program

NO_CLASS = -(2**62)
"What torch is told to ignore when nothing is: its own default would let the label -100 pass."


def binary_crossentropy(y_true: Tensor, y_pred: Tensor, from_logits: bool = False, reduction: str = "none") -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) of each value, p kept from 1e-7 to 1 - 1e-7."""
    alike(y_true, y_pred, "binary_crossentropy")
    if from_logits:
        return F.binary_cross_entropy_with_logits(y_pred, y_true, reduction=reduction)
    p = torch.clip(y_pred, EPSILON, 1.0 - EPSILON)
    if p.device.type == "cpu":
        try:
            return F.binary_cross_entropy(p, y_true, reduction=reduction)
        except RuntimeError:
            # torch refuses not-a-number here; a diverged model has a loss that is not a number.
            pass
    values = -(y_true * p.log() + (1.0 - y_true) * (1.0 - p).log())
    return values.mean() if reduction == "mean" else values


def smoothed_flags(y_true: Tensor, smoothing: float) -> Tensor:
    """0/1 flags drawn towards 0.5."""
    return y_true * (1.0 - smoothing) + 0.5 * smoothing if smoothing else y_true


def log_probabilities(y_pred: Tensor, from_logits: bool, axis: int) -> Tensor:
    """Logarithms of probabilities, which are made to sum to 1 and kept from 1e-7 to 1 - 1e-7."""
    if from_logits:
        return F.log_softmax(y_pred, axis)
    made = y_pred / y_pred.sum(axis, keepdim=True)
    if made.requires_grad:
        return made.clip(EPSILON, 1.0 - EPSILON).log()
    # In place: with thousands of classes it is the largest thing there is.
    return made.clip_(EPSILON, 1.0 - EPSILON).log_()


def spread(y_true: Tensor, smoothing: float) -> Tensor:
    """One-hot targets of which a share goes evenly to all classes."""
    return y_true * (1.0 - smoothing) + smoothing / y_true.shape[-1]


def categorical_crossentropy(
    y_true: Tensor, y_pred: Tensor, from_logits: bool = False, label_smoothing: float = 0.0, axis: int = -1
) -> Tensor:
    """-sum(y log p) along the classes' axis."""
    alike(y_true, y_pred, "categorical_crossentropy")
    if label_smoothing:
        y_true = spread(y_true, label_smoothing)
    return -(y_true * log_probabilities(y_pred, from_logits, axis)).sum(axis)


def class_numbers(y_true: Tensor, y_pred: Tensor, axis: int) -> Tensor:
    """Labels as integers, without the axis of length 1 that stands for the classes' axis.

    Raises:
        DataError: the labels' shape is not the output's without the classes' axis.
    """
    if y_true.dim() == y_pred.dim() and y_true.shape[axis] == 1:
        y_true = y_true.squeeze(axis)
    rest = list(y_pred.shape)
    del rest[axis]
    if list(y_true.shape) != rest:
        message = f"expected class numbers of shape {tuple(rest)}, found {tuple(y_true.shape)}"
        raise DataError(message, hint="one-hot targets need categorical_crossentropy", code="shape")
    return y_true.long()


def sparse_categorical_crossentropy(
    y_true: Tensor,
    y_pred: Tensor,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
    reduction: str = "none",
) -> Tensor:
    """-log p of the class that the target names; 0 for the ignored class.

    Raises:
        DataError: a label is no class number (on a CPU; elsewhere `check_classes` must have been asked before).
    """
    labels = class_numbers(y_true, y_pred, axis)
    ignored = NO_CLASS if ignore_class is None else ignore_class
    # Positions side by side: torch's own form with further axes can't always go back.
    rows = y_pred if y_pred.dim() == 2 else y_pred.movedim(axis, -1).reshape(-1, y_pred.shape[axis])
    flat = labels.reshape(-1)
    try:
        if from_logits:
            values = F.cross_entropy(rows, flat, reduction=reduction, ignore_index=ignored)
        else:
            log_p = log_probabilities(rows, False, -1)
            values = F.nll_loss(log_p, flat, reduction=reduction, ignore_index=ignored)
    except IndexError:
        check_classes(labels, rows.shape[1], ignore_class)
        raise
    return values.reshape(labels.shape) if reduction == "none" else values


def check_classes(y_true: Tensor, classes: int, ignore_class: int | None = None) -> None:
    """Refuse labels that are no class numbers.

    Raises:
        DataError: names the first such label, the range, and its row.
    """
    bad = (y_true < 0) | (y_true >= classes)
    if y_true.is_floating_point():
        bad |= y_true != y_true.trunc()
    if ignore_class is not None:
        bad &= y_true != ignore_class
    if not bool(bad.any()):
        return
    row = int(bad.reshape(len(bad), -1).any(1).nonzero()[0])
    label = y_true[row].reshape(-1)[bad[row].reshape(-1)][0].item()
    message = f"expected class numbers from 0 to {classes - 1}, found {label:g} in row {row} of the batch"
    raise DataError(message, hint="labels count from 0; the last layer has one unit for each class", code="label")


class OfFlags(Loss, abstract=True):
    """A cross-entropy of 0/1 flags."""

    targets = "binary"
    fits = ("sigmoid",)

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    label_smoothing: Fraction = 0.0
    "How far flags are drawn towards 0.5: with 0.1, 0 becomes 0.05 and 1 becomes 0.95."
    axis: Int = -1
    "Axis that the mean is taken along."


class OfClasses(Loss, abstract=True):
    """A cross-entropy of one-hot targets."""

    targets = "one_hot"
    fits = ("softmax",)

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    label_smoothing: Fraction = 0.0
    "How much of the target is spread evenly over all classes."
    axis: Int = -1
    "Axis of the classes."


class BinaryCrossentropy(OfFlags):
    """Cross-entropy of 0/1 flags: -mean(y log p + (1 - y) log(1 - p))."""

    aliases = ("bce", "BCE")

    def joins(self, activation: str) -> bool:
        return activation in self.fits and not self.from_logits and self.axis == -1

    def slope(self, y_true: Tensor, p: Tensor, share: float) -> Tensor:
        slope = p - smoothed_flags(y_true, self.label_smoothing)
        share /= p.shape[-1]
        return slope if share == 1.0 else slope.mul_(share)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if not (joined or self.from_logits) or self.label_smoothing or y_true.shape != y_pred.shape or self.axis != -1:
            return None
        slope = p.make(torch.sub, y_pred if joined else p.make(torch.sigmoid, y_pred), y_true)
        p.do(slope.mul_, p.constant(share / y_pred.shape[-1], slope))
        return slope

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        flags = smoothed_flags(y_true, self.label_smoothing)
        return binary_crossentropy(flags, y_pred, self.from_logits).mean(self.axis)

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return binary_crossentropy(smoothed_flags(y_true, self.label_smoothing), y_pred, self.from_logits, "mean")


class CategoricalCrossentropy(OfClasses):
    """Cross-entropy of one-hot targets: -sum(y log p)."""

    def joins(self, activation: str) -> bool:
        return activation in self.fits and not self.from_logits and self.axis == -1

    def slope(self, y_true: Tensor, p: Tensor, share: float) -> Tensor:
        if self.label_smoothing:
            y_true = spread(y_true, self.label_smoothing)
        slope = p * y_true.sum(-1, keepdim=True) - y_true
        return slope if share == 1.0 else slope.mul_(share)

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if not (joined or self.from_logits) or self.axis != -1 or y_true.shape != y_pred.shape:
            return None
        if self.label_smoothing:
            y_true = p.make(torch.mul, y_true, p.constant(1.0 - self.label_smoothing, y_true))
            p.do(y_true.add_, p.constant(self.label_smoothing / y_true.shape[-1], y_true))
        made = y_pred if joined else p.make(torch.softmax, y_pred, -1)
        slope = p.make(torch.mul, made, p.make(torch.sum, y_true, -1, True))
        p.do(slope.sub_, y_true)
        p.do(slope.mul_, p.constant(share, slope))
        return slope

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return categorical_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy of class numbers: -log p of the class that the target names."""

    targets = "integer"
    fits = ("softmax",)
    keras_order = "from_logits ignore_class reduction axis name"

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    ignore_class: Int | None = None
    "Class number whose targets do not count (often -1 or 255, for void)."
    axis: Int = -1
    "Axis of the classes."

    def joins(self, activation: str) -> bool:
        return activation in self.fits and not self.from_logits and self.axis == -1

    def slope(self, y_true: Tensor, p: Tensor, share: float) -> Tensor:
        labels = class_numbers(y_true, p, -1).unsqueeze(-1)
        slope = p * share
        if self.ignore_class is None:
            return slope.scatter_add_(-1, labels, slope.new_full((), -share).expand_as(labels))
        valid = labels != self.ignore_class
        one = slope.new_full((), -share).expand_as(labels)
        return slope.scatter_add_(-1, torch.where(valid, labels, 0), one) * valid

    def by_hand(self, p: Program, y_true: Tensor, y_pred: Tensor, share: float, joined: bool) -> Tensor | None:
        if not (joined or self.from_logits) or self.axis != -1 or self.ignore_class is not None:
            return None
        labels = class_numbers(y_true, y_pred, -1).unsqueeze(-1)
        if labels.dtype != y_true.dtype:
            return None
        slope = p.make(torch.mul, y_pred if joined else p.make(torch.softmax, y_pred, -1), p.constant(share, y_pred))
        p.do(slope.scatter_add_, -1, labels, slope.new_full((), -share).expand_as(labels))
        return slope

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.ignore_class, self.axis)

    def mean(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, None, self.axis, "mean")

    def valid(self, y_true: Tensor) -> Tensor | None:
        return None if self.ignore_class is None else y_true != self.ignore_class

    def counts_all(self) -> bool:
        return self.ignore_class is None

    def check(self, y_true: Tensor, classes: int) -> None:
        check_classes(y_true, classes, self.ignore_class)


class CategoricalGeneralizedCrossEntropy(Loss):
    """(1 - p^q) / q of the class that the target names: between cross-entropy (q near 0) and absolute error (q near 1).

    Robust against wrong labels. Zhang and Sabuncu, 2018, https://arxiv.org/abs/1805.07836.
    """

    targets = "integer"
    fits = ("softmax",)

    q: Annotated[float, within("a number between 0 and 1", above=0, below=1)] = 0.5
    "How little wrong labels may weigh; 0.7 is the paper's."

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        labels = class_numbers(y_true, y_pred, -1)
        if labels.device.type == "cpu":
            check_classes(labels, y_pred.shape[-1])
        p = y_pred.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return (1 - torch.pow(p, self.q)) / self.q

    def check(self, y_true: Tensor, classes: int) -> None:
        check_classes(y_true, classes)
