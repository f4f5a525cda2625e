"""The class that a wiring of layers becomes: its modules, its `forward`, and the weights that go with it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import nn

from trainer.keras_files.source_code.parts import names_of_parts
from trainer.keras_files.source_code.piece import Given, NoSource, Piece, Spot, piece_of
from trainer.keras_files.source_code.text import WIDTH, identifier, laid_out
from trainer.layers.order import Call
from trainer.layers.wiring import ONE_INPUT, Wiring, hears_masks
from trainer.shapes import Shape, text

Names = list[str | None]
MODULE_NAMES = frozenset({*dir(nn.Module()), "forward", "prepare"})


@dataclass
class Line:
    """`targets = expression`."""

    targets: list[str]
    expression: str

    def reads(self) -> set[str]:
        """The variables that it reads."""
        return {n.id for n in ast.walk(ast.parse(self.expression, mode="eval")) if isinstance(n, ast.Name)}

    def __str__(self) -> str:
        return f"{', '.join(self.targets)} = {self.expression}"


@dataclass
class Body:
    """A model's class, ready to be written."""

    name: str
    says: str
    init: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    returns: list[str] = field(default_factory=list)
    returned_masks: tuple[bool, ...] = ()
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    buffers: dict[str, torch.Tensor] = field(default_factory=dict)
    places: set[str] = field(default_factory=set)
    "The names of its modules."
    before: list[str] = field(default_factory=list)
    "The text of classes that this one needs."
    notes: list[str] = field(default_factory=list)

    def text(self, methods: Sequence[str] = ()) -> str:
        """The class as Python, with further methods behind `forward`."""
        kind = "Tensor" if len(self.returns) == 1 else f"tuple[{', '.join(['Tensor'] * len(self.returns))}]"
        takes = ", ".join(["self", *(f"{a}: Tensor" for a in self.arguments)])
        lines = [f"class {self.name}(nn.Module):", f'    """{self.says}"""', ""]
        if self.init:
            lines += ["    def __init__(self) -> None:", "        super().__init__()"]
            lines += [laid_out(line, 8) for line in self.init] + [""]
        lines += [laid_out(f"def forward({takes}) -> {kind}:", 4), *statements(self.lines, self.returns)]
        return "\n".join([*lines, *(f"\n{method}" for method in methods)])

    def add(self, place: str, piece: Piece) -> None:
        """Take up a layer's module under a name, with its weights."""
        if not piece.module:
            return
        moves = {name: w.requires_grad for name, w in piece.weights.items()}
        frozen = bool(moves) and not any(moves.values())
        self.places.add(place)
        made, freeze = f"self.{place} = {piece.module}", ".requires_grad_(False)" if frozen else ""
        fits = 8 + len(made + freeze) <= WIDTH
        self.init += [made + freeze] if fits or not frozen else [made, f"self.{place}{freeze}"]
        still = [] if frozen else [name for name, moving in moves.items() if not moving]
        self.init += [f"self.{place}.{_indexed(name)}.requires_grad_(False)" for name in still]
        self.weights |= {f"{place}.{name}": w for name, w in piece.weights.items()}
        self.buffers |= {f"{place}.{name}": w for name, w in piece.buffers.items()}


def _indexed(name: str) -> str:
    """`layer.0.weight` as `layer[0].weight`."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in name.split("."))[1:]


def statements(lines: Iterable[Line], returns: Sequence[str], indent: int = 8) -> list[str]:
    """The statements of a function: what nothing reads is left out, and the last one may be returned at once."""
    kept: list[Line] = []
    live = set(returns)
    for line in reversed(list(lines)):
        if not live & set(line.targets) or [line.expression] == line.targets:
            continue
        targets = [t if t in live else "_" for t in line.targets]
        live = (live - set(line.targets)) | line.reads()
        kept.append(Line(targets, line.expression))
    kept.reverse()
    out = ", ".join(returns)
    if kept and kept[-1].targets == list(returns):
        out = kept.pop().expression
    return [*(laid_out(str(line), indent) for line in kept), laid_out(f"return {out}", indent)]


class Writer:
    """Writes one class; models inside become classes of their own."""

    def __init__(self, name: str, wiring: Wiring, shapes: Mapping[int, Any], cells: Callable[[str], Any]):
        self.name, self.wiring, self.shapes, self.cells = name, wiring, shapes, cells
        self.problems: list[str] = []
        self.attributes: dict[str, str] = {}
        for layer in wiring.layers:
            self.attributes[layer] = identifier(layer, {*self.attributes.values(), *MODULE_NAMES})
        self.spots = {layer: self._spot(layer) for layer in wiring.layers}
        self.is_chain = self._is_chain()

    def _is_chain(self) -> bool:
        tensor = next(iter(self.wiring.inputs.values()))
        for one in self.wiring.calls:
            if one.inputs != (tensor,) or isinstance(self.shapes[one.output], list):
                return False
            tensor = one.output
        return len(self.wiring.inputs) == 1 and list(self.wiring.outputs.values()) == [tensor]

    def _spot(self, layer: str) -> Spot:
        calls = [c for c in self.wiring.calls if c.layer == layer]
        read = [[s for n in c.inputs for s in _each(self.shapes[n])] for c in calls]
        shapes = tuple(reduce(_both, same) for same in zip(*read, strict=False))
        made = reduce(_both, [self.shapes[c.output] for c in calls])
        return Spot(self.cells(layer), shapes, made, (False,) * len(shapes))

    def written(self, masks: Sequence[bool]) -> Body:
        """The class; `masks` says which inputs come with one.

        Raises:
            NoSource: with every layer that can't be written.
        """
        heard = {layer: list(spot.masks) for layer, spot in self.spots.items()}
        self._walk(masks, heard)
        again = {layer: Spot(s.w, s.shapes, s.made, tuple(heard[layer])) for layer, s in self.spots.items()}
        if self.problems:
            raise NoSource("\n".join(self.problems))
        self.spots = again
        body = self._walk(masks, heard)
        if self.problems:
            raise NoSource("\n".join(self.problems))
        return body

    def _pieces(self) -> dict[str, Piece]:
        made = {}
        for layer, spot in self.spots.items():
            try:
                made[layer] = piece_of(spot)
            except NoSource as error:
                inner = str(error).split("\n")
                kind = type(spot.layer).__name__
                self.problems += [f"{layer} ({kind}): {e}" for e in inner]
        return made

    def _walk(self, masks: Sequence[bool], heard: dict[str, list[bool]]) -> Body:
        self.problems = []
        body, pieces = Body(self.name, ""), self._pieces()
        if self.problems:
            return body
        for layer, piece in pieces.items():
            body.add(self.attributes[layer], piece)
            body.before += [text for text in piece.before if text not in body.before]
            body.notes += [f"{layer}: {note}" for note in piece.notes]
        _Forward(self, body, pieces, heard).write(masks)
        takes = [shown(self.shapes[n]) for n in self.wiring.inputs.values()]
        made = [shown(self.shapes[n]) for n in self.wiring.outputs.values()]
        body.says = f"{', '.join(takes)} -> {', '.join(made)}"
        return body


class _Forward:
    """The statements of `forward`."""

    def __init__(self, writer: Writer, body: Body, pieces: Mapping[str, Piece], heard: dict[str, list[bool]]):
        self.writer, self.body, self.pieces, self.heard = writer, body, pieces, heard
        self.values: dict[int, list[str]] = {}
        self.masks: dict[int, Names] = {}
        self.taken: set[str] = set()

    def write(self, masks: Sequence[bool]) -> None:
        wiring, body = self.writer.wiring, self.body
        for (name, number), masked in zip(wiring.inputs.items(), masks, strict=True):
            self.values[number] = [self._new("x" if name == ONE_INPUT else name)]
            self.masks[number] = [f"{self.values[number][0]}_mask" if masked else None]
        body.arguments = [v for n in wiring.inputs.values() for v in self.values[n]]
        body.arguments += [m for n in wiring.inputs.values() for m in self.masks[n] if m]
        self.taken |= set(body.arguments)
        for one in wiring.calls:
            self._call(one)
        outputs = list(wiring.outputs.values())
        found = [self.masks[n][0] for n in outputs]
        body.returned_masks = tuple(m is not None for m in found)
        body.returns = [self.values[n][0] for n in outputs] + [m for m in found if m is not None]

    def _new(self, name: str) -> str:
        made = identifier(name, {*self.taken, *names_of_parts()}, "tensor")
        self.taken.add(made)
        return made

    def _call(self, one: Call) -> None:
        writer, wiring = self.writer, self.writer.wiring
        layer, piece = wiring.layers[one.layer], self.pieces[one.layer]
        xs = tuple(v for n in one.inputs for v in self.values[n])
        masks = tuple(m for n in one.inputs for m in self.masks[n])
        hears = layer.wires or hears_masks(layer, len(one.inputs))
        module = f"self.{writer.attributes[one.layer]}"
        if hears:
            for place, mask in enumerate(masks):
                self.heard[one.layer][place] |= mask is not None
        given = Given(module, xs, masks if hears else (None,) * len(masks), one.options)
        count = len(_each(writer.shapes[one.output]))
        targets = self._targets(wiring.names.get(one.output, one.layer), count)
        if piece.returned:
            made = [self._mask_name(t) if m else None for t, m in zip(targets, piece.returned, strict=True)]
            self.body.lines.append(Line([*targets, *(m for m in made if m)], piece.call(given)))
        else:
            made = self._masks(piece.masks(layer, Given(module, xs, masks, one.options), count), targets)
            self.body.lines.append(Line(targets, piece.call(given)))
        self.values[one.output], self.masks[one.output] = targets, made
        for number, (whole, which) in wiring.parts.items():
            if whole == one.output:
                place = layer.part(which)
                self.values[number], self.masks[number] = [targets[place]], [made[place]]

    def _targets(self, name: str, count: int) -> list[str]:
        if self.writer.is_chain:
            return ["x"]
        return [self._new(name if count == 1 else f"{name}_{i}") for i in range(count)]

    def _mask_name(self, target: str) -> str:
        return "mask" if self.writer.is_chain else self._new(f"{target}_mask")

    def _masks(self, found: Sequence[str | None], targets: Sequence[str]) -> Names:
        """Names of the masks; one that is yet to be computed gets a line, before the tensor's."""
        names: Names = []
        for target, expression in zip(targets, found, strict=False):
            if expression is not None and not expression.isidentifier():
                name = self._mask_name(target)
                self.body.lines.append(Line([name], expression))
                expression = name
            names.append(expression)
        return names


def shown(shape: Shape, first: str = "batch") -> str:
    """A shape for a docstring."""
    return text(shape).replace("None", first, 1).replace("None", "any")


def _each(shape: Any) -> list[Shape]:
    return shape if isinstance(shape, list) else [shape]


def _both(a: Any, b: Any) -> Any:
    """What two shapes have in common; sizes in which they differ are None."""
    if isinstance(a, list):
        return [_both(x, y) for x, y in zip(a, b, strict=True)]
    return tuple(m if m == n else None for m, n in zip(a, b, strict=True)) if len(a) == len(b) else a
