"""A model as a graph of layer calls, with every shape inferred; no torch.

A list of layers is a chain in a graph, so there is one kind of model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.declare import snake_case
from trainer.errors import RecipeError
from trainer.layers.base import DType, Layer, Plan
from trainer.shapes import Shape, size


@dataclass(frozen=True)
class Call:
    """One use of a layer: which tensors it reads and which one it makes (numbers into `Graph.shapes`)."""

    layer: str
    inputs: tuple[int, ...]
    output: int


@dataclass
class Graph:
    """Layers by name in Keras's order, their plans, and the calls in topological order."""

    name: str = "model"
    dtype: DType = "float32"
    "Number type of layers that say none."
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    shapes: list[Any] = field(default_factory=list)
    "The Shape of each tensor; a list of Shapes where a layer makes several."
    layers: dict[str, Layer] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def add_input(self, name: str, shape: Shape) -> int:
        """A new input tensor; `shape` begins with the batch (None)."""
        self.shapes.append(shape)
        self.inputs[name] = len(self.shapes) - 1
        return self.inputs[name]

    def call(self, name: str, layer: Layer, *inputs: int) -> int:
        """Apply a layer (built at its first call) to tensors; the number of the tensor that it makes.

        Raises:
            ValueError: the layer can't take that input.
        """
        shapes = [self.shapes[i] for i in inputs]
        given = shapes[0] if len(shapes) == 1 else shapes
        if isinstance(given, list) and not layer.reads_several:
            raise ValueError(
                f"expected one tensor, found a list of {len(given)}; return_state and merge_mode null make lists"
            )
        plan = Plan()
        out = layer.build(plan, given)
        if name not in self.layers:
            self.layers[name], self.plans[name] = layer, plan
        self.shapes.append(out)
        self.calls.append(Call(name, tuple(inputs), len(self.shapes) - 1))
        return len(self.shapes) - 1

    @property
    def output_shape(self) -> Shape:
        """Shape of the only output."""
        (number,) = self.outputs.values()
        return self.shapes[number]

    def sizes(self) -> Iterator[tuple[str, Layer, Any, int, int]]:
        """(name, layer, output shape or shapes, trainable parameters, other parameters) for each layer, in order."""
        made = {c.layer: self.shapes[c.output] for c in self.calls}
        for name, layer in self.layers.items():
            yield name, layer, made[name], *parameters(layer, self.plans[name])


def parameters(layer: Layer, plan: Plan) -> tuple[int, int]:
    """(trainable, non-trainable) parameters of a layer and what it holds."""
    moving = still = 0
    for weight in plan.weights:
        if weight.trainable and layer.trainable:
            moving += size(weight.shape) or 0
        else:
            still += size(weight.shape) or 0
    for inner, inner_plan in plan.children.values():
        inner_moving, inner_still = parameters(inner, inner_plan)
        if layer.trainable:
            moving += inner_moving
            still += inner_still
        else:
            still += inner_moving + inner_still
    return moving, still


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Keras's names: the class in snake case, with `_1`, `_2`, … from the second of a class on.

    Raises:
        RecipeError: two layers ask for one name.
    """
    names: list[str] = []
    counts: dict[str, int] = {}
    given = {layer.name for layer in layers if layer.name}
    for index, layer in enumerate(layers):
        if layer.name:
            name = layer.name
            if name in names:
                path = ("model", "layers", index, type(layer).__name__, "name")
                raise RecipeError(f'two layers are called "{name}"', path=path, hint="layer names must differ")
        else:
            base = snake_case(type(layer).__name__)
            while True:
                number = counts.get(base, 0)
                counts[base] = number + 1
                name = f"{base}_{number}" if number else base
                if name not in given:
                    break
        names.append(name)
    return names


def chain(
    layers: Sequence[Layer],
    inputs: Mapping[str, Shape],
    output: str | None = None,
    name: str = "model",
    batch_size: int | None = None,
    dtype: DType = "float32",
) -> Graph:
    """The graph of a list of layers, each reading the one above it.

    `batch_size` is what stateful layers, which need batches of one size, keep states for; `dtype` is the number type of
    layers that say none.

    Raises:
        RecipeError: a layer can't take what reaches it; the path names the layer.
    """
    graph = Graph(name=name, dtype=dtype)
    if dtype != "float32" or any(layer.types() != {None} for layer in layers):
        layers = [layer.typed(dtype) for layer in layers]
    batch = batch_size if any(getattr(layer, "stateful", False) for layer in layers) else None
    (tensor,) = [graph.add_input(n, (batch or s[0], *s[1:])) for n, s in inputs.items()]
    for index, (layer_name, layer) in enumerate(zip(layer_names(layers), layers, strict=True)):
        try:
            tensor = graph.call(layer_name, layer, tensor)
        except ValueError as error:
            path = ("model", "layers", index, type(layer).__name__)
            raise RecipeError(f"{layer_name}: {error}", path=path, code="shape") from None
    if isinstance(graph.shapes[tensor], list):
        path = ("model", "layers", len(layers) - 1, type(layers[-1]).__name__)
        found = f"expected one output of the model, found a list of {len(graph.shapes[tensor])}"
        raise RecipeError(found, path=path, hint="return_state and merge_mode null make lists", code="shape")
    graph.outputs[output or list(graph.layers)[-1]] = tensor
    return graph
