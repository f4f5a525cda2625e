"""Means of what losses compute per sample. https://keras.io/api/metrics/regression_metrics/"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.losses import crossentropy, divergence, hinge, regression
from trainer.losses.shaping import paired
from trainer.metrics.base import Formula, Mean, State
from trainer.options import Bool, Fraction, Int

if TYPE_CHECKING:
    from torch import Tensor


class MeanSquaredError(Formula):
    """Mean of squared errors."""

    aliases = ("mse", "MSE")

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.mean_squared_error(y_true, y_pred)


class RootMeanSquaredError(Mean):
    """Root of the mean of squared errors. As in Keras, masked entries count."""

    heeds_mask = False

    def values(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        y_true, y_pred = paired(y_true, y_pred)
        return (y_pred - y_true).square()

    def result(self, state: State) -> Tensor:
        return super().result(state).sqrt()


class MeanAbsoluteError(Formula):
    """Mean of absolute errors."""

    aliases = ("mae", "MAE")

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.mean_absolute_error(y_true, y_pred)


class MeanAbsolutePercentageError(Formula):
    """Mean of errors as percentages of the target."""

    aliases = ("mape", "MAPE")

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.mean_absolute_percentage_error(y_true, y_pred)


class MeanSquaredLogarithmicError(Formula):
    """Mean of squared differences of logarithms."""

    aliases = ("msle", "MSLE")

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.mean_squared_logarithmic_error(y_true, y_pred)


class CosineSimilarity(Formula):
    """Mean cosine of the angle between target and output: 1 where they point the same way."""

    keras_order = "name axis"

    axis: Int = -1
    "Axis of the vectors."

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.cosine_similarity(y_true, y_pred, self.axis)


class LogCoshError(Formula):
    """Mean of the logarithm of the hyperbolic cosine of the error."""

    logged = "logcosh"

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return regression.log_cosh(y_true, y_pred)


class KLDivergence(Formula):
    """Mean Kullback-Leibler divergence of the output from the target."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return divergence.kl_divergence(y_true, y_pred)


class Poisson(Formula):
    """Mean of y_pred - y_true log(y_pred)."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return divergence.poisson(y_true, y_pred)


class Hinge(Formula):
    """Mean shortfall from a margin of 1 between two classes."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return hinge.hinge(y_true, y_pred)


class SquaredHinge(Formula):
    """Mean square of the shortfall from a margin of 1 between two classes."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return hinge.squared_hinge(y_true, y_pred)


class CategoricalHinge(Formula):
    """Mean shortfall from a margin of 1 between the right class and the best wrong one."""

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return hinge.categorical_hinge(y_true, y_pred)


class BinaryCrossentropy(Formula):
    """Mean cross-entropy of 0/1 flags."""

    aliases = ("bce", "BCE")
    keras_order = "name from_logits"

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    label_smoothing: Fraction = 0.0
    "How far flags are drawn towards 0.5."

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        flags = crossentropy.smoothed_flags(y_true, self.label_smoothing)
        return crossentropy.binary_crossentropy(flags, y_pred, self.from_logits).mean(-1)


class CategoricalCrossentropy(Formula):
    """Mean cross-entropy of one-hot targets."""

    keras_order = "name from_logits"

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    label_smoothing: Fraction = 0.0
    "How much of the target is spread evenly over all classes."
    axis: Int = -1
    "Axis of the classes."

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return crossentropy.categorical_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing, self.axis)


class SparseCategoricalCrossentropy(Formula):
    """Mean cross-entropy of class numbers. As in Keras, an ignored class counts as 0 unless there are weights."""

    integer = True
    keras_order = "name from_logits"

    from_logits: Bool = False
    "Whether the output is raw scores rather than probabilities."
    ignore_class: Int | None = None
    "Class number whose targets cost nothing."
    axis: Int = -1
    "Axis of the classes."

    def formula(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return crossentropy.sparse_categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.ignore_class, self.axis
        )

    def valid(self, y_true: Tensor) -> Tensor | None:
        return None if self.ignore_class is None else y_true != self.ignore_class
