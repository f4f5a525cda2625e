"""What a layer asks for when it is built: weights, inner layers, and what is kept from call to call."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainer.constraints.base import Constraint
from trainer.initializers.base import Initializer
from trainer.regularizers.base import Regularizer
from trainer.shapes import Shape

if TYPE_CHECKING:
    from trainer.layers.base import Layer

MOST_NUMBERS = 2**38
"Numbers in a weight, 1 TiB in float32: more is a slip."


@dataclass(frozen=True)
class WeightSpec:
    """A weight to be made: name, shape in Keras's axis order, and what acts on it."""

    name: str
    shape: tuple[int, ...]
    initializer: Initializer
    regularizer: Regularizer | None = None
    constraint: Constraint | None = None
    trainable: bool = True
    group: str = ""
    "Path between the layer's and the weight's name in Keras files, such as `lstm_cell`."
    dtype: str = "float32"


@dataclass
class Plan:
    """What a layer needs: its weights and inner layers, in Keras's order."""

    weights: list[WeightSpec] = field(default_factory=list)
    children: dict[str, tuple[Layer, Plan]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    "Weights that the options left out; `forward` finds None."
    states: dict[str, Shape] = field(default_factory=dict)
    "What is kept from one call to the next and is no weight: zeros at first."

    def weight(
        self,
        name: str,
        shape: tuple[int | None, ...],
        initializer: Initializer,
        *,
        regularizer: Regularizer | None = None,
        constraint: Constraint | None = None,
        trainable: bool = True,
        when: bool = True,
        group: str = "",
        dtype: str = "float32",
    ) -> None:
        """Ask for a weight, which `forward` finds as `w.<name>` (None when `when` is false).

        Raises:
            ValueError: a size of the weight is unknown.
        """
        if not when:
            self.absent.append(name)
            return
        known = tuple(n for n in shape if n is not None)
        if len(known) < len(shape):
            raise ValueError(f"the last axis of the input must be known to make the weight {name}")
        if math.prod(known) > MOST_NUMBERS:
            sizes = " x ".join(map(str, known))
            raise ValueError(f"the weight {name} would have {sizes} numbers, more than {MOST_NUMBERS:.0e}")
        self.weights.append(WeightSpec(name, known, initializer, regularizer, constraint, trainable, group, dtype))

    def state(self, name: str, shape: Shape) -> None:
        """Ask for a tensor, zeros at first, that `forward` finds as `w.<name>` and may overwrite."""
        self.states[name] = shape

    def child(self, name: str, layer: Layer, shape: Any) -> Any:
        """Build an inner layer, which `forward` calls as `w.<name>(x)`; its own name, if any, stands in paths."""
        plan = Plan()
        out = layer.build(plan, shape)
        self.children[name] = (layer, plan)
        return out
