"""activation(sum over x * kernel + bias): the options of all layers that compute it, and how layers ask for weights."""

from __future__ import annotations

from typing import Any

from trainer.activations.base import Activation
from trainer.activations.elementwise import Linear
from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.initializers.constant import Zeros
from trainer.initializers.variance import GlorotUniform
from trainer.layers.base import Layer
from trainer.layers.plan import Plan
from trainer.options import Bool
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

ORDER = (
    "activation use_bias bias_axes depthwise_initializer pointwise_initializer kernel_initializer bias_initializer "
    "depthwise_regularizer pointwise_regularizer kernel_regularizer bias_regularizer activity_regularizer "
    "depthwise_constraint pointwise_constraint kernel_constraint bias_constraint"
)
"The last options of such a layer, as Keras orders them."


def ask(
    plan: Plan,
    layer: Layer,
    part: str,
    shape: Shape,
    *,
    name: str = "",
    initializer: Initializer | None = None,
    **further: Any,
) -> None:
    """Ask for the weight of a `part`: what acts on it are the layer's options `<part>_initializer` and so on.

    Raises:
        ValueError: a size of the weight is unknown.
    """
    plan.weight(
        name or part,
        shape,
        initializer or getattr(layer, f"{part}_initializer"),
        regularizer=getattr(layer, f"{part}_regularizer"),
        constraint=getattr(layer, f"{part}_constraint"),
        **further,
    )


class Kerneled(Layer, abstract=True):
    """A layer with one kernel."""

    kernel_initializer: Initializer = GlorotUniform()
    "First values of the kernel."
    kernel_regularizer: Regularizer | None = None
    "Penalty on the kernel."
    kernel_constraint: Constraint | None = None
    "Projection of the kernel after each update."


class Summing(Layer, abstract=True):
    """A layer that applies a function to a sum, to which a bias may be added."""

    activation: Activation = Linear()
    "Function applied to the sum."
    bias_initializer: Initializer = Zeros()
    "First values of the bias."
    bias_regularizer: Regularizer | None = None
    "Penalty on the bias."
    activity_regularizer: Regularizer | None = None
    "Penalty on the output."
    bias_constraint: Constraint | None = None
    "Projection of the bias after each update."

    activates_last = True
    keras_order = f"... {ORDER}"


class Biased(Summing, abstract=True):
    """Has a bias or none."""

    use_bias: Bool = True
    "Whether a bias is added."
