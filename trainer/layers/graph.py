"""A model as a graph of layer calls, with every shape inferred; no torch.

A list of layers is a chain in a graph, so there is one kind of model. `wire` finds out who reads what; `grown` gives
every tensor its shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.errors import Path, RecipeError
from trainer.layers.base import DType, Layer
from trainer.layers.misfit import Misfit
from trainer.layers.order import Call
from trainer.layers.plan import Plan
from trainer.layers.wiring import PART, Wiring, wire
from trainer.shapes import Shape, size, text


@dataclass
class Graph:
    """A wiring with the shape of every tensor and the plan of every layer."""

    wiring: Wiring
    name: str = "model"
    dtype: DType = "float32"
    "Number type of layers that say none."
    shapes: dict[int, Any] = field(default_factory=dict)
    "The Shape of each tensor; a list of Shapes where a layer makes several."
    plans: dict[str, Plan] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, int]:
        """Name to tensor of the inputs."""
        return self.wiring.inputs

    @property
    def outputs(self) -> dict[str, int]:
        """Name to tensor of the outputs."""
        return self.wiring.outputs

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by name, in Keras's order."""
        return self.wiring.layers

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls, in an order in which each finds what it reads."""
        return self.wiring.calls

    @property
    def output_shapes(self) -> list[Shape]:
        """Shapes of the outputs, in order."""
        return [self.shapes[number] for number in self.outputs.values()]

    @property
    def output_shape(self) -> Shape:
        """Shape of the only output."""
        (shape,) = self.output_shapes
        return shape

    def tensor(self, name: str) -> int | None:
        """The tensor that is called so: a layer's, that of a later call of it, one of several, or an output's."""
        made = {self.called(n): n for n in (*(call.output for call in self.calls), *self.wiring.parts)}
        return made.get(name, self.outputs.get(name))

    def called(self, number: int) -> str:
        """What a tensor is called: `conv`, or `lstm/1` for one of several."""
        if number not in self.wiring.parts:
            return self.wiring.names[number]
        whole, which = self.wiring.parts[number]
        return f"{self.wiring.names[whole]}{PART}{which}"

    def is_chain(self) -> bool:
        """Whether each layer is called once, on what the one before it made, from the one input to the one output."""
        tensor = next(iter(self.inputs.values()))
        for call in self.calls:
            if call.inputs != (tensor,):
                return False
            tensor = call.output
        once = len(self.calls) == len(self.layers)
        return once and len(self.inputs) == 1 and list(self.outputs.values()) == [tensor]

    def weight_paths(self) -> Iterator[str]:
        """What the weights are called: `dense/kernel`."""
        for name in self.plans:
            yield from (path for path, _ in self._paths(name))

    def weights_of(self, layer: str) -> list[str]:
        """What a layer's weights are called, trainable ones first, as Keras lists them."""
        return [path for path, _ in sorted(self._paths(layer), key=lambda weight: not weight[1])]

    def _paths(self, name: str) -> Iterator[tuple[str, bool]]:
        return _paths(self.layers[name], self.plans[name], name)

    def sizes(self) -> Iterator[tuple[str, Layer, Any, int, int]]:
        """(name, layer, output shape or shapes, trainable parameters, other parameters) for each layer, in order."""
        made = {c.layer: self.shapes[c.output] for c in reversed(self.calls)}
        for name, layer in self.layers.items():
            yield name, layer, made[name], *parameters(layer, self.plans[name])


def _paths(layer: Layer, plan: Plan, path: str, moves: bool = True) -> Iterator[tuple[str, bool]]:
    """(path, whether it is trainable) of a layer's weights and of those that it holds."""
    moves = moves and layer.trainable
    for weight in plan.weights:
        yield "/".join(part for part in (path, weight.group, weight.name) if part), weight.trainable and moves
    for name, (inner, inner_plan) in plan.children.items():
        yield from _paths(inner, inner_plan, f"{path}/{inner.name or name}", moves)


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


def row_numbers(shapes: Mapping[int, Any]) -> int | None:
    """Numbers of a row on its way through a model, after each of its layers; None where some shape is open."""
    each = [one for made in shapes.values() for one in (made if isinstance(made, list) else [made])]
    sizes = [size(shape[1:]) for shape in each]
    return None if None in sizes else sum(n or 0 for n in sizes)


def built(wiring: Wiring, shapes: Mapping[int, Any], plans: dict[str, Plan], at: Path | None = None) -> dict[int, Any]:
    """The shape of every tensor of a wiring, from those of its inputs; each layer's plan goes to `plans`.

    Raises:
        RecipeError: a layer can't take what reaches it (a ValueError, when it has no place `at` which it stands).
    """
    found = dict(shapes)
    for name, said in wiring.said.items():
        found[wiring.inputs[name]] = said.held(found[wiring.inputs[name]], at)
    parts: dict[int, list[int]] = {}
    for number, (whole, _) in wiring.parts.items():
        parts.setdefault(whole, []).append(number)
    for call in wiring.calls:
        layer, number = wiring.layers[call.layer], call.output
        try:
            found[number] = _made(call, layer, [found[n] for n in call.inputs], plans)
            several = found[number]
            for number in parts.get(call.output, ()):
                found[number] = several[_place(call.layer, layer, wiring.parts[number][1], several)]
        except ValueError as error:
            misfit = error if isinstance(error, Misfit) else Misfit("")
            path = (*wiring.lines[number], *(misfit.path if layer.wires else ()))
            message = str(error) if number != call.output else f"{call.layer}: {error}"
            if at is None:
                raise Misfit(message, misfit.hint, path[1:]) from None
            raise RecipeError(message, path=path, hint=misfit.hint, code="shape") from None
    return found


def _made(call: Call, layer: Layer, read: list[Any], plans: dict[str, Plan]) -> Any:
    """The shape, or shapes, that a layer makes of those that it reads.

    Raises:
        ValueError: it can't take them.
    """
    plan = Plan()
    made = layer.build(plan, _given(layer, read), **call.options)
    known = plans.setdefault(call.layer, plan)
    if _weights(known) != _weights(plan):
        shape = text(read[0]) if isinstance(read[0], tuple) else "these inputs"
        raise Misfit(
            f"its weights are those of another shape, so that it can't be called again on {shape}",
            "write a layer of its own",
        )
    return made


def _weights(plan: Plan) -> list[Any]:
    """Names and shapes of all weights."""
    inner = [(name, _weights(held)) for name, (_, held) in plan.children.items()]
    return [(w.name, w.shape) for w in plan.weights] + inner


def _given(layer: Layer, shapes: list[Any]) -> Any:
    """What a layer's `build` is handed: a shape, or a list of them.

    Raises:
        ValueError: the layer takes one tensor and is given several.
    """
    given = shapes[0] if len(shapes) == 1 else shapes
    if isinstance(given, list) and not layer.reads_several:
        why = "" if len(shapes) > 1 else "; return_state and merge_mode null make lists"
        hint = "join them first, in Concatenate or Add" if len(shapes) > 1 else "name one of them, such as `lstm/0`"
        raise Misfit(f"expected one tensor, found a list of {len(given)}{why}", hint)
    if len(shapes) > 1 and any(isinstance(s, list) for s in shapes):
        raise Misfit("one of its inputs is a list of tensors", "name one of them, such as `lstm/0`")
    return given


def _place(name: str, layer: Layer, which: int | str, made: Any) -> int:
    """Which of the tensors that a layer makes is meant by a number or a name.

    Raises:
        ValueError: there is none of that.
    """
    if not isinstance(made, list):
        raise Misfit(f'{name} makes one tensor, so that there is no "{name}{PART}{which}"', f"write {name}")
    names = layer.output_names()
    if which not in (*names, *range(len(made))):
        known = ", ".join(f"{name}{PART}{n}" for n in (*names, *range(len(made))))
        raise Misfit(f'there is no "{name}{PART}{which}" among the {len(made)} tensors of {name}', f"write {known}")
    return layer.part(which)


def grown(
    wiring: Wiring,
    shapes: Mapping[str, Shape],
    name: str = "model",
    batch_size: int | None = None,
    dtype: DType = "float32",
    at: Path = ("model",),
) -> Graph:
    """A wiring with the shape of every tensor, from those of the inputs (which begin with the batch, None).

    `batch_size` is what stateful layers, which need batches of one size, keep states for; `dtype` is the number type of
    layers that say none.

    Raises:
        RecipeError: a layer can't take what reaches it; the path names the layer.
    """
    layers = wiring.layers
    if dtype != "float32" or any(layer.types() != {None} for layer in layers.values()):
        layers = {n: layer.typed(dtype) for n, layer in layers.items()}
        wiring = replace(wiring, layers=layers)
    batch = batch_size if any(getattr(layer, "stateful", False) for layer in layers.values()) else None
    given = {wiring.inputs[n]: (batch or s[0], *s[1:]) for n, s in shapes.items()}
    graph = Graph(wiring, name, dtype)
    graph.shapes = built(wiring, given, graph.plans, at)
    for number in wiring.outputs.values():
        if isinstance(graph.shapes[number], list):
            found = f"expected one tensor as an output of the model, found a list of {len(graph.shapes[number])}"
            hint = "name one of them as an output, such as `lstm/0`; return_state and merge_mode null make lists"
            raise RecipeError(found, path=wiring.lines[number], hint=hint, code="shape")
    return graph


def chain(
    layers: Sequence[Layer],
    inputs: Mapping[str, Shape],
    name: str = "model",
    batch_size: int | None = None,
    dtype: DType = "float32",
) -> Graph:
    """The graph of a list of layers, each reading the one above it.

    Raises:
        RecipeError: a layer can't take what reaches it; the path names the layer.
    """
    return grown(wire(layers, list(inputs)), inputs, name, batch_size, dtype)
