"""A model's graph as a diagram: a box for each input, each call of a layer, and each output."""

from __future__ import annotations

from typing import Any

from trainer.layers.base import Layer
from trainer.layers.graph import Graph, built, parameters
from trainer.layers.order import Call
from trainer.layers.plan import Plan
from trainer.report.diagram import Diagram, Edge, Node, Tone
from trainer.shapes import text


def of_graph(graph: Graph, *, expand: bool = False) -> Diagram:
    """The diagram of a graph.

    A layer that is called several times has a box for each call; the later ones are dashed and have no weights of their
    own. A model inside the model is one box, or with `expand` a frame around its own diagram (at its first call).
    """
    return _Drawn(graph, expand, frozen=False).diagram()


class _Drawn:
    """Boxes and arrows so far, and where each tensor comes from."""

    def __init__(self, graph: Graph, expand: bool, frozen: bool):
        self.graph, self.expand, self.frozen = graph, expand, frozen
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.source: dict[int, tuple[str, str]] = {}
        "The box that makes a tensor, and which of its outputs the tensor is."
        self.parts: dict[int, list[int]] = {}
        for number, (whole, _) in graph.wiring.parts.items():
            self.parts.setdefault(whole, []).append(number)
        self.all_calls: dict[str, int] = {}
        for call in graph.calls:
            self.all_calls[call.layer] = self.all_calls.get(call.layer, 0) + 1
        self.calls: dict[str, int] = {}

    def diagram(self) -> Diagram:
        graph = self.graph
        for name, tensor in graph.inputs.items():
            self._add(Node(f"input:{name}", name, "Input", shapes(graph.shapes[tensor]), "data"), (), tensor)
        for call in graph.calls:
            self._add(self._box(call), call.inputs, call.output)
        for name, tensor in graph.outputs.items():
            self._add(Node(f"output:{name}", name, "Output", (), "data"), (tensor,), None)
        return Diagram(graph.name, tuple(self.nodes), tuple(self.edges))

    def _add(self, node: Node, reads: tuple[int, ...], makes: int | None) -> None:
        self.nodes.append(node)
        self.edges += arrows([self.source[tensor] for tensor in reads], node.id)
        if makes is not None:
            self.source[makes] = (node.id, "")
            for part in self.parts.get(makes, ()):
                which = self.graph.wiring.parts[part][1]
                self.source[part] = (node.id, which if isinstance(which, str) else f"output {which}")

    def _box(self, call: Call) -> Node:
        name, layer = call.layer, self.graph.layers[call.layer]
        self.calls[name] = number = self.calls.get(name, 0) + 1
        facts, tone = self._weights(layer, self.graph.plans[name], again=number > 1)
        if self.all_calls[name] > 1:
            facts.append(f"call {number} of {self.all_calls[name]}")
        *rows, last = shapes(self.graph.shapes[call.output])
        lines = (*rows, " · ".join([last, *facts]))
        inside = self._inside(call, layer) if self.expand and layer.wires and number == 1 else None
        return Node(f"{name}:{number}", name, kind_of(layer), lines, tone, number > 1, inside)

    def _inside(self, call: Call, layer: Layer) -> Diagram:
        """The diagram of a model inside the model."""
        wiring, plans = layer.wiring(), dict[str, Plan]()
        made = built(wiring, {n: self.graph.shapes[t] for n, t in enumerate(call.inputs)}, plans)
        graph = Graph(wiring, call.layer, self.graph.dtype, made, plans)
        return _Drawn(graph, expand=True, frozen=self.frozen or not layer.trainable).diagram()

    def _weights(self, layer: Layer, plan: Plan, *, again: bool) -> tuple[list[str], Tone]:
        """(what is to say about a layer's weights, the tone of its box); `again`: an earlier call has named them."""
        moving, still = parameters(layer, plan)
        if not moving + still:
            return [], "plain"
        frozen = self.frozen or not layer.trainable
        tone = "frozen" if frozen or not moving else "weights"
        if again:
            return ["same weights"], tone
        return [f"{moving + still:,} params", *(["frozen"] if frozen else [])], tone


def arrows(sources: list[tuple[str, str]], head: str) -> list[Edge]:
    """An arrow from each box that is read, labelled with all that is read of it."""
    labels: dict[str, list[str]] = {}
    for tail, label in sources:
        labels.setdefault(tail, []).append(label)
    return [
        Edge(tail, head, ", ".join(filter(None, found)) or (f"×{len(found)}" if len(found) > 1 else ""))
        for tail, found in labels.items()
    ]


def shapes(made: Any) -> tuple[str, ...]:
    """A line for each shape."""
    return tuple(map(text, made)) if isinstance(made, list) else (text(made),)


def kind_of(layer: Layer) -> str:
    """The class, with the class that it wraps."""
    held = getattr(layer, "layer", None)
    name = type(layer).__name__
    return f"{name}({kind_of(held)})" if isinstance(held, Layer) else name
