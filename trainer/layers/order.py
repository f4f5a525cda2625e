"""In which order the layers of a graph run, and in which Keras lists them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.block import Block


@dataclass(frozen=True)
class Call:
    """One use of a layer: which tensors it reads and which one it makes (numbers into `Graph.shapes`)."""

    layer: str
    inputs: tuple[int, ...]
    output: int
    says: Block | None = None
    "What this call says beside its inputs."

    @property
    def options(self) -> dict[str, Any]:
        """That as keywords for the layer; nothing that stands at its default."""
        return {} if self.says is None else self.says.model_dump(exclude_defaults=True)


def in_order(lines: Iterable[int], needs: Sequence[Iterable[int]]) -> tuple[list[int], list[list[int]]]:
    """(the lines in an order in which each stands behind all that it needs, otherwise as given; every circle found).

    A circle is gone on from as if it were open.
    """
    order: list[int] = []
    circles: list[list[int]] = []
    seen: set[int] = set()
    for start in lines:
        under_way = {} if start in seen else {start: iter(needs[start])}
        while under_way:
            line = next(reversed(under_way))
            need = next((n for n in under_way[line] if n not in seen), None)
            if need is None:
                del under_way[line]
                seen.add(line)
                order.append(line)
            elif need in under_way:
                steps = list(under_way)
                circles.append(steps[steps.index(need) :])
            else:
                under_way[need] = iter(needs[need])
    return order, circles


def keras_order(calls: Sequence[Call], outputs: Sequence[int], parts: Mapping[int, tuple[int, Any]]) -> list[str]:
    """Names of the layers in the order in which Keras lists those of a functional model.

    Layers farther from the outputs come first; among equals, those that are met first on the way back from them.
    """
    makers = {call.output: call for call in calls}

    def maker(number: int) -> Call | None:
        return makers.get(parts[number][0] if number in parts else number)

    met: dict[str, int] = {}
    finished: dict[int, Call] = {}
    for output in outputs:
        stack: list[tuple[Call, Iterator[int]]] = []
        entered: Call | None = maker(output)
        while entered is not None or stack:
            if entered is not None:
                met.setdefault(entered.layer, len(met))
                stack.append((entered, iter(entered.inputs)))
            call, rest = stack[-1]
            entered = next((c for c in map(maker, rest) if c is not None and c.output not in finished), None)
            if entered is None:
                finished[call.output] = call
                stack.pop()
    depths: dict[int, int] = {}
    of_layer: dict[str, int] = {}
    for number, call in reversed(finished.items()):
        depth = max(depths.get(number, 0), of_layer.get(call.layer, 0))
        depths[number] = of_layer[call.layer] = depth
        for before in filter(None, map(maker, call.inputs)):
            depths[before.output] = max(depth + 1, depths.get(before.output, 0))
    return sorted(of_layer, key=lambda name: (-of_layer[name], met[name]))
