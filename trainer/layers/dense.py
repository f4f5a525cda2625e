"""Dense."""

from __future__ import annotations

from trainer.activations.base import Activation
from trainer.activations.elementwise import Linear
from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Layer, Plan, Weights
from trainer.lazy import torch
from trainer.options import Bool, PositiveInt
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape


class Dense(Layer):
    """Fully connected: activation(x @ kernel + bias) along the last axis.

    Shape: (batch, ..., features) -> (batch, ..., units)
    """

    units: PositiveInt
    "Size of the last axis of the output."
    activation: Activation = Linear()
    "Function applied to the sum."
    use_bias: Bool = True
    "Whether a bias is added."
    kernel_initializer: Initializer = GlorotUniform()
    "First values of the kernel."
    bias_initializer: Initializer = Zeros()
    "First values of the bias."
    kernel_regularizer: Regularizer | None = None
    "Penalty on the kernel."
    bias_regularizer: Regularizer | None = None
    "Penalty on the bias."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."
    kernel_constraint: Constraint | None = None
    "Projection of the kernel after each update."
    bias_constraint: Constraint | None = None
    "Projection of the bias after each update."

    supports_masking = True
    activates_last = True

    def build(self, plan: Plan, shape: Shape) -> Shape:
        if len(shape) < 2:
            raise ValueError("expected input with a features axis, (batch, ..., features), found (batch,)")
        plan.weight(
            "kernel",
            (shape[-1], self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        plan.weight(
            "bias",
            (self.units,),
            self.bias_initializer,
            regularizer=self.bias_regularizer,
            constraint=self.bias_constraint,
            when=self.use_bias,
        )
        return (*shape[:-1], self.units)

    def forward(self, w: Weights, x: torch.Tensor) -> torch.Tensor:
        if w.bias is None:
            return self.activation(x @ w.kernel)
        if x.dim() == 2:
            return self.activation(torch.addmm(w.bias, x, w.kernel))
        return self.activation(x @ w.kernel + w.bias)
