"""Intersection over union of classes in pictures. https://keras.io/api/metrics/segmentation_metrics/

As in Keras, masked entries count in all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import model_validator

from trainer.errors import DataError
from trainer.lazy import torch
from trainer.losses.base import EPSILON
from trainer.losses.shaping import leading, no_nan
from trainer.metrics.base import Metric, State, zeros
from trainer.options import Bool, Float, Int, PositiveInt, Rule, complaint, integer, raise_all

if TYPE_CHECKING:
    from torch import Tensor


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or not value or min(map(integer, value)) < 0:
        raise ValueError
    return tuple(value)


Ids = Annotated[
    tuple[int, ...],
    Rule(
        "a list of class numbers",
        _ids,
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
    ),
]
Counts = Literal["int", "float32"]


class Confusion(Metric, abstract=True):
    """The mean over classes of TP / (TP + FP + FN); classes that were neither there nor found do not count."""

    keras_order = "num_classes target_class_ids threshold name dtype ignore_class sparse_y_true sparse_y_pred axis"

    dtype: Counts | None = None
    "Number type of the counts. By default they are whole, and weights are cut down to whole numbers (0.9 to 0)."

    def classes(self) -> int:
        """The number of classes."""
        raise NotImplementedError

    def looked_at(self) -> tuple[int, ...]:
        """The classes that the mean is over."""
        return tuple(range(self.classes()))

    def numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        """Target and output as class numbers, of as many entries."""
        raise NotImplementedError

    def counted(self, y_true: Tensor) -> Tensor | None:
        """A mask of the targets that count, when some do not."""
        return None

    def start(self, device: torch.device | str = "cpu") -> State:
        return {"confusion": zeros(device, self.classes(), self.classes())}

    def update(
        self,
        state: State,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> None:
        y_true, y_pred = self.numbers(y_true, y_pred)
        total, number = state["confusion"], self.classes()
        if sample_weight is None:
            weight = torch.ones_like(y_true, dtype=total.dtype)
        else:
            weight = sample_weight.to(total.dtype if self.dtype == "float32" else torch.int64)
            weight = leading(weight, y_true).expand_as(y_true).to(total.dtype)
        label, found = (y.reshape(-1).long() for y in (y_true, y_pred))
        inside = (label >= 0) & (label < number) & (found >= 0) & (found < number)
        counted = self.counted(label)
        if counted is not None:
            inside &= counted
        place = torch.where(inside, label * number + found, 0)
        total.view(-1).index_add_(0, place, weight.reshape(-1) * inside)

    def result(self, state: State) -> Tensor:
        total = state["confusion"]
        right, union = total.diagonal(), total.sum(0) + total.sum(1) - total.diagonal()
        wanted = torch.tensor(self.looked_at(), device=total.device)
        right, union = right[wanted], union[wanted]
        there = union > 1e-9
        return (no_nan(right, union + EPSILON) * there).sum() / (there.sum() + EPSILON)


class Numbered(Confusion, abstract=True):
    """Intersection over union of numbered classes."""

    num_classes: PositiveInt
    "Number of classes."
    ignore_class: Int | None = None
    "Class number whose targets do not count (often -1 or 255, for void)."
    axis: Int = -1
    "Axis of the classes in one-hot targets and in scores."

    def classes(self) -> int:
        return self.num_classes

    @model_validator(mode="after")
    def _known(self) -> Numbered:
        if max(self.looked_at()) >= self.num_classes:
            text = f"expected class numbers below {self.num_classes}, found {max(self.looked_at())}"
            raise_all([(complaint(text, "classes count from 0"), ("target_class_ids",))])
        return self

    def counted(self, y_true: Tensor) -> Tensor | None:
        return None if self.ignore_class is None else y_true != self.ignore_class


def _classes_of(y_pred: Tensor, sparse: bool, axis: int, y_true: Tensor) -> Tensor:
    """The class numbers of outputs, shaped like those of the targets.

    Raises:
        DataError: outputs that should be class numbers are scores, or one where there should be several.
    """
    hint = "sparse_y_pred: false takes the largest of scores" if sparse else "sparse_y_pred: true reads class numbers"
    found = y_pred if sparse else y_pred.argmax(axis)
    if found.numel() != y_true.numel():
        shapes = f"targets {tuple(y_true.shape)} and outputs {tuple(y_pred.shape)}"
        raise DataError(f"expected a class for each target, found {shapes}", hint=hint)
    if sparse and y_pred.is_floating_point() and bool((y_pred != y_pred.trunc()).any()):
        raise DataError(f"expected outputs that are class numbers, found scores such as {_odd(y_pred):g}", hint=hint)
    return found.reshape(y_true.shape)


def _odd(values: Tensor) -> float:
    return float(values[values != values.trunc()].reshape(-1)[0])


class Sparse(Numbered, abstract=True):
    """For targets and outputs that are class numbers, or else one-hot and scores."""

    sparse_y_true: Bool = True
    "Whether the target is class numbers, rather than one-hot along `axis`."
    sparse_y_pred: Bool = True
    "Whether the output is class numbers, rather than scores along `axis`."

    def misfit(self, classes: int) -> tuple[str, str]:
        if not self.sparse_y_true:
            return "reads one-hot targets, but they are class numbers", "sparse_y_true: true"
        if classes > 1 and self.sparse_y_pred:
            return f"reads class numbers, but the model makes {classes} scores a row", "sparse_y_pred: false"
        if classes > 1 and classes != self.num_classes:
            return f"tells {self.num_classes} classes apart, but the model {classes}", f"num_classes: {classes}"
        return "", ""

    def numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        y_true = y_true if self.sparse_y_true else y_true.argmax(self.axis)
        return y_true, _classes_of(y_pred, self.sparse_y_pred, self.axis, y_true)


class OneHot(Numbered, abstract=True):
    """For one-hot targets."""

    sparse_y_pred: Bool = False
    "Whether the output is class numbers, rather than scores along `axis`."

    def misfit(self, classes: int) -> tuple[str, str]:
        why, hint = "reads one-hot targets, but they are class numbers", "MeanIoU and IoU read class numbers"
        return (why, hint) if classes > 1 else ("", "")

    def numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        y_true = y_true.argmax(self.axis)
        return y_true, _classes_of(y_pred, self.sparse_y_pred, self.axis, y_true)


class IoU(Sparse):
    """Mean intersection over union of chosen classes, for targets and outputs that are class numbers or scores."""

    target_class_ids: Ids
    "The classes that the mean is over."

    def looked_at(self) -> tuple[int, ...]:
        return self.target_class_ids


class MeanIoU(Sparse):
    """Mean intersection over union of all classes, for targets and outputs that are class numbers or scores."""


class OneHotIoU(OneHot):
    """Mean intersection over union of chosen classes, for one-hot targets."""

    target_class_ids: Ids
    "The classes that the mean is over."

    def looked_at(self) -> tuple[int, ...]:
        return self.target_class_ids


class OneHotMeanIoU(OneHot):
    """Mean intersection over union of all classes, for one-hot targets."""


class BinaryIoU(Confusion):
    """Mean intersection over union of the classes 0 and 1, for 0/1 targets."""

    target_class_ids: Annotated[
        tuple[int, ...],
        Rule("a list of 0, 1 or both", _ids, {"type": "array", "items": {"enum": [0, 1]}, "minItems": 1}),
    ] = (0, 1)
    "The classes that the mean is over."
    threshold: Float = 0.5
    "Outputs of at least this count as 1."

    @model_validator(mode="after")
    def _known(self) -> BinaryIoU:
        if max(self.target_class_ids) > 1:
            text = f"expected the classes 0 and 1, found {max(self.target_class_ids)}"
            raise_all([(complaint(text, "MeanIoU and IoU take more classes"), ("target_class_ids",))])
        return self

    def classes(self) -> int:
        return 2

    def looked_at(self) -> tuple[int, ...]:
        return self.target_class_ids

    def numbers(self, y_true: Tensor, y_pred: Tensor) -> tuple[Tensor, Tensor]:
        if y_pred.numel() != y_true.numel():
            shapes = f"targets {tuple(y_true.shape)} and outputs {tuple(y_pred.shape)}"
            raise DataError(f"BinaryIoU: expected an output for each target, found {shapes}", code="shape")
        return y_true, (y_pred >= self.threshold).reshape(y_true.shape)
