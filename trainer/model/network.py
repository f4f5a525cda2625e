"""The PyTorch module that a graph becomes: a generic module per layer, inside one module for the model."""

from __future__ import annotations

import functools
import itertools
import keyword
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import nn

from trainer.activations.base import Activation
from trainer.layers.arrays import as_numpy
from trainer.layers.base import Blend, Layer
from trainer.layers.graph import Graph, row_numbers
from trainer.layers.models import Composite
from trainer.layers.plan import Plan, WeightSpec
from trainer.layers.wiring import Wiring, hears_masks
from trainer.model.cell import Cell, Clock, on_output
from trainer.model.number_types import cast, typed
from trainer.regularizers.base import Regularizer


def last_activation(layer: Layer) -> Activation | None:
    """The activation that a layer ends in; None for a linear one, or when it does not end in one."""
    found = getattr(layer, "activation", None) if layer.activates_last else None
    return None if found is None or found == Activation.parse(None) else found


Front = Sequence[tuple[Layer, Plan, str]]
"Layers, their plans and paths."


class Made(NamedTuple):
    """What a pass through the network made."""

    outputs: tuple[torch.Tensor, ...]
    masks: tuple[torch.Tensor | None, ...] = (None,)
    scores: tuple[torch.Tensor | None, ...] = (None,)
    "What the last activation was given, for each output whose layer ends in one."
    penalties: list[torch.Tensor] = []
    "Penalties on outputs of layers."
    mixings: list[Blend] = []
    "What is to be done to targets and weights of rows, in this order, since layers mixed the rows."

    @property
    def output(self) -> torch.Tensor:
        """The first output."""
        return self.outputs[0]


class Step(NamedTuple):
    """A layer's turn in a pass."""

    cell: Cell
    layer: Any
    reads: tuple[int, ...]
    makes: int
    parts: tuple[tuple[int, int], ...]
    "Tensors that are one of several which the layer makes: number, and which of them."
    penalty: Regularizer | None
    last: Activation | None
    "Applied to what the layer makes, which is kept as scores."
    options: dict[str, Any]
    "What this call says beside its inputs."
    hears: bool
    "Whether the layer is handed the masks of what it reads."


def _pairs(steps: Sequence[Step], ends: Sequence[int]) -> Iterator[tuple[int, Step]]:
    """(a tensor that one step alone reads, that step), where the step reads nothing else."""
    read = Counter(number for step in steps for number in step.reads)
    split = {step.makes for step in steps if step.parts or step.penalty is not None or step.last is not None}
    for step in steps:
        number = step.reads[0]
        if len(step.reads) == 1 == read[number] and number not in ends and number not in split and not step.options:
            yield number, step


def _key(name: str) -> str:
    """A layer's name among torch's modules, which take no dots and no name of their own (`type`, `forward`).

    Nor a word of Python's (`class`): torch.export writes them into source.
    """
    plain = name.replace(".", "·")
    taken = hasattr(nn.ModuleDict, plain) or plain == "training" or keyword.iskeyword(plain)
    return f"{plain}·" if taken else plain


class Network(nn.Module):
    """A model that runs: the graph's calls over its cells."""

    def __init__(
        self, graph: Graph, seed: int = 0, fronts: Mapping[str, Sequence[tuple[Layer, Plan, str]]] | None = None
    ):
        """`fronts`: layers that an input goes through and that are no part of the model: layer, plan and path."""
        super().__init__()
        self.graph, self.clock = graph, Clock(seed)
        found = {n: [Cell(x, plan, path, self.clock, False) for x, plan, path in f] for n, f in (fronts or {}).items()}
        self.fronts = [(list(graph.inputs).index(name), cells) for name, cells in found.items() if cells]
        self._front_cells = nn.ModuleList(cell for cells in found.values() for cell in cells)
        self.cells = nn.ModuleDict(
            {_key(name): Cell(layer, graph.plans[name], name, self.clock) for name, layer in graph.layers.items()}
        )
        self._ends = tuple(graph.outputs.values())
        self.starts = tuple(graph.inputs.values())
        self.steps = list(self._planned())
        self.ends = [n for end in self._ends for n in self._known[end]]
        self._after = dict(_pairs(self.steps, self.ends))
        self._joining = {n: s for n, s in self._after.items() if s.last is None and s.penalty is None}
        lasts = {s.makes: s.last for s in self.steps}
        self.ends_in = tuple("linear" if (a := lasts.get(n)) is None else a.recipe_name() for n in self.ends)
        "Name of the activation that makes each output."
        self.penalized = [(s.regularizer, t) for s, _, t, moves in self.rows() if s.regularizer and moves]
        self.across_rows = any(isinstance(cell, Cell) and cell.layer.across_rows for cell in self.modules())
        self._all = list(self.modules())
        self.masked = self.clock.masked = any(s.cell.layer.starts_mask() for s in self.steps)

    def train(self, mode: bool = True) -> Self:
        """As torch's, which asks every module for those in it and so takes longer than judging a small model."""
        for module in self._all:
            module.__dict__["training"] = mode
        return self

    def cell(self, name: str) -> Cell:
        """The built layer of that name."""
        found = self.cells[_key(name)]
        assert isinstance(found, Cell)
        return found

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The output tensor, or several, for the input tensors, in the graph's order."""
        first, *others = self.run(*inputs).outputs
        return (first, *others) if others else first

    def _planned(self) -> Iterator[Step]:
        """The steps of a pass; those of models inside the model are steps like all others."""
        cells = {name: self.cell(name) for name in self.graph.layers}
        numbers = itertools.count(max(self.graph.shapes) + 1)
        self._known: dict[int, tuple[int, ...]] = {n: (n,) for n in self.graph.shapes}
        yield from self._expanded(self.graph.wiring, cells, self._known, numbers)

    def _expanded(
        self, wiring: Wiring, cells: Mapping[str, Cell], known: dict[int, tuple[int, ...]], numbers: Iterator[int]
    ) -> Iterator[Step]:
        """Steps of a wiring; `known` says what its tensors are called in this pass."""
        parts: dict[int, list[tuple[int, int | str]]] = {}
        for number, (whole, which) in wiring.parts.items():
            parts.setdefault(whole, []).append((number, which))
        for call in wiring.calls:
            cell, layer = cells[call.layer], cells[call.layer].layer
            reads = tuple(number for n in call.inputs for number in known[n])
            split = [(n, layer.part(which)) for n, which in parts.get(call.output, ())]
            if isinstance(layer, Composite):
                inner = layer.wiring()
                inside = {n: (number,) for n, number in enumerate(reads)}
                children = {name: getattr(cell, place) for place, name, _ in layer.parts()}
                yield from self._expanded(inner, children, inside, numbers)
                outputs = [number for n in inner.outputs.values() for number in inside[n]]
                known[call.output] = tuple(outputs)
                known |= {n: (outputs[which],) for n, which in split}
                continue
            for number in (call.output, *(n for n, _ in split)):
                known.setdefault(number, (next(numbers),))
            places = tuple((known[n][0], which) for n, which in split)
            yield self._step(cell, reads, known[call.output][0], places, call.options)

    def _step(
        self,
        cell: Cell,
        reads: tuple[int, ...],
        makes: int,
        parts: tuple[tuple[int, int], ...],
        options: dict[str, Any],
    ) -> Step:
        layer = cell.layer
        last = last_activation(layer) if any(self._known[n] == (makes,) for n in self._ends) else None
        penalty = getattr(layer, "activity_regularizer", None)
        if last is not None:
            layer = layer.model_copy(update={"activation": Activation.parse(None)})
        hears = hears_masks(layer, len(reads))
        return Step(cell, typed(layer), reads, makes, parts, penalty, last, options, hears)

    def after(self, step: Step) -> Step | None:
        """The step that alone reads what a step makes, where it reads nothing else and nobody is given that."""
        return self._after.get(step.makes)

    def through_fronts(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """What the model itself is given: the inputs after the layers in front of it."""
        given = list(inputs)
        for place, cells in self.fronts:
            for cell in cells:
                # Whatever they compute in, the model is given float32, as Keras's input layers give it.
                given[place] = cast(cell(given[place]), torch.float32)
        return tuple(given)

    def run(self, *inputs: torch.Tensor, want: Sequence[int] | None = None) -> Made:
        """What the network makes of its input tensors; `want` asks for other tensors of the graph than the outputs."""
        self.clock.penalties = penalties = []
        self.clock.mixings = mixings = []
        values: dict[int, Any] = dict(zip(self.starts, self.through_fronts(inputs), strict=True))
        masks: dict[int, Any] = {}
        scores: dict[int, torch.Tensor] = {}
        missing = None if want is None else {n for number in want for n in self._known[number]}
        after = self._joining if self.clock.joins and self._may_join(want) else {}
        for cell, layer, reads, makes, parts, penalty, last, options, hears in self.steps:
            if after and makes in values:
                continue
            x = values[reads[0]] if len(reads) == 1 else [values[i] for i in reads]
            mask = None
            if self.masked:
                mask = masks.get(reads[0]) if len(reads) == 1 else [masks.get(i) for i in reads]
            if makes in after and not hears:
                then = after[makes]
                between = layer.compute_mask(x, mask) if self.masked else None
                joined = layer.forward_with(cell, x, then.cell.layer, then.cell, between)
                if joined is not None:
                    values[then.makes] = joined
                    masks[then.makes] = then.cell.layer.compute_mask(x, between) if between is not None else None
                    continue
            if not self.masked:
                out = layer.forward(cell, x, **options)
            else:
                given = {**options, "mask": mask} if hears else options
                out = layer.forward(cell, x, **given)
                masks[makes] = layer.compute_mask(x, mask, **options)
            if last is not None:
                scores[makes], out = out, last(out)
            if penalty is not None:
                penalties.append(on_output(penalty, out))
            values[makes] = out
            for number, which in parts:
                values[number] = out[which]
                masks[number] = None if (found := masks.get(makes)) is None else found[which]
            if missing is not None:
                missing -= {makes, *(number for number, _ in parts)}
                if not missing:
                    break
        self.clock.penalties = self.clock.mixings = None
        found = self.ends if want is None else [n for number in want for n in self._known[number]]
        return Made(
            tuple([values[n] for n in found]),
            tuple([masks.get(n) for n in found]),
            tuple([scores.get(n) for n in found]),
            penalties,
            mixings,
        )

    @functools.cached_property
    def row_numbers(self) -> int | None:
        """Those of the graph; None too where layers hold layers, of which it is not known what comes about inside."""
        nested = any(layer.wires or layer.held() for layer in self.graph.layers.values())
        return None if nested else row_numbers(self.graph.shapes)

    def _may_join(self, want: Sequence[int] | None) -> bool:
        """Whether nobody asks for what lies between two layers, or follows what each of them does."""
        alone = torch.is_grad_enabled() or torch.compiler.is_compiling()
        return want is None and not self.training and not alone

    def rows(self) -> Iterator[tuple[WeightSpec, str, torch.Tensor, bool]]:
        """(spec, path, tensor, trainable) of every weight, layer by layer, in Keras's order."""
        for name in self.graph.layers:
            yield from self.cell(name).rows()

    def penalties(self) -> list[torch.Tensor]:
        """Penalties on weights; Keras counts those of frozen layers out."""
        return [regularizer.penalty(tensor) for regularizer, tensor in self.penalized]

    def forget_draws(self) -> None:
        """Let the next pass of this step draw what the first one drew."""
        for cell in self.modules():
            if isinstance(cell, Cell):
                cell.forget_draws()

    @contextmanager
    def unmoved(self, moving: Sequence[torch.Tensor] = ()) -> Iterator[None]:
        """Put back what passes move, weights, statistics and states; later passes draw the same.

        Of `moving`, which may be large, only what passes write themselves.
        """
        writing = [cell for cell in self.modules() if isinstance(cell, Cell) and cell.layer.rewrites]
        those = {id(tensor) for tensor in moving} - {id(tensor) for cell in writing for _, _, tensor, _ in cell.rows()}
        still = [tensor for _, _, tensor, _ in self.rows() if id(tensor) not in those]
        kept = [(t, t.clone()) for t in (*still, *self.states().values())]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in kept:
                    tensor.copy_(before)
            self.forget_draws()

    @property
    def batch_size(self) -> int | None:
        """Rows of every batch, for stateful layers; None without any."""
        return self.graph.shapes[next(iter(self.graph.inputs.values()))][0]

    def states(self) -> dict[str, torch.Tensor]:
        """What stateful layers keep from batch to batch, by path; Keras never resets it by itself either."""
        return dict(state for name in self.graph.layers for state in self.cell(name).states())

    def reset_states(self) -> None:
        """Let stateful layers begin anew, as Keras's `reset_state`."""
        for state in self.states().values():
            state.zero_()

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all weights, in Keras's order."""
        return [as_numpy(t).copy() for _, _, t, _ in self.rows()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Overwrite all weights in place.

        Raises:
            ValueError: another number of arrays, or another shape.
        """
        rows = list(self.rows())
        if len(rows) != len(weights):
            raise ValueError(f"the model has {len(rows)} weights, given were {len(weights)}")
        with torch.no_grad():
            for (_, path, tensor, _), value in zip(rows, weights, strict=True):
                if tuple(tensor.shape) != value.shape:
                    raise ValueError(f"{path} has shape {tuple(tensor.shape)}, given was {value.shape}")
                tensor.copy_(torch.from_numpy(np.array(value, order="C")))
