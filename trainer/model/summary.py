"""Keras's table of layers, output shapes and parameters, as data and as text; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.layers.graph import Graph
from trainer.shapes import text


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    name: str
    kind: str
    shape: str
    parameters: int
    connected: tuple[str, ...] = ()
    "What the layer reads, in all of its calls."


@dataclass(frozen=True)
class Summary:
    """The table and its totals."""

    name: str
    lines: tuple[Line, ...]
    trainable: int
    fixed: int
    chain: bool = True
    "Whether each layer reads the one before it."

    @property
    def parameters(self) -> int:
        """All parameters of the model."""
        return self.trainable + self.fixed


def summarize(graph: Graph) -> Summary:
    """The summary of a graph whose shapes are known."""
    chain = graph.is_chain()
    lines = [] if chain else [Line(n, "InputLayer", text(graph.shapes[i]), 0) for n, i in graph.inputs.items()]
    trainable = fixed = 0
    for name, layer, shape, moving, still in graph.sizes():
        made = f"[{', '.join(map(text, shape))}]" if isinstance(shape, list) else text(shape)
        reads = tuple(graph.called(n) for call in graph.calls if call.layer == name for n in call.inputs)
        lines.append(Line(name, type(layer).__name__, made, moving + still, reads))
        trainable += moving
        fixed += still
    return Summary(graph.name, tuple(lines), trainable, fixed, chain)


def bytes_text(parameters: int) -> str:
    """Size of so many float32 numbers, as Keras prints it."""
    amount = float(parameters * 4)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if amount < 1024 or unit == "TB":
            break
        amount /= 1024
    return f"{amount:.2f} {unit}"
