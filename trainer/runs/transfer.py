"""Weights of one model put into another, as Keras's `load_weights` does it, with a report of what became of each layer.

Everything is looked at before the first weight is written: a file that does not fit leaves the model as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from trainer.errors import Problem, RecipeError
from trainer.lazy import np, torch
from trainer.runs.model_file import ModelFile
from trainer.runs.places import Part, parts
from trainer.runs.weights_file import ByLayer, ByPlace, Saved
from trainer.wording import clean

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from trainer.model.network import Network

Happening = Literal["loaded", "in part", "skipped", "left", "absent"]
"""What became of a layer: all of its weights came from the file; some did; the file's do not fit and were skipped; the
file has none for it; or it stands in the file alone."""
PATH = ("model", "weights")
NAMES = "by_name: true takes the layers whose names are equal"


@dataclass(frozen=True)
class Line:
    """What happened to a layer, and why."""

    layer: str
    happened: Happening
    reason: str


@dataclass(frozen=True)
class Transfer:
    """What was loaded, skipped and why: a line for each layer with weights, here or in the file."""

    lines: tuple[Line, ...]

    def count(self, happened: Happening) -> int:
        """Number of layers to which that happened."""
        return sum(line.happened == happened for line in self.lines)

    def table(self) -> str:
        """The lines in columns."""
        rows = [(clean(line.layer), line.happened, clean(line.reason)) for line in self.lines]
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows)

    def __str__(self) -> str:
        """`3 layers loaded, 1 skipped, 1 left as it was`"""
        words = {"left": "left as they were", "absent": "in the file alone"}
        counts = Counter(line.happened for line in self.lines)
        order: tuple[Happening, ...] = ("loaded", "in part", "skipped", "left", "absent")
        return ", ".join(f"{counts[h]} {words.get(h, h)}" for h in order if counts[h] or h == "loaded")


@dataclass
class _Plan:
    """What is to be written, and what is wrong with it."""

    skip: bool
    writes: list[tuple[Tensor, numpy.ndarray]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def wrong(self, message: str, hint: str) -> None:
        self.problems.append(Problem(message, PATH, hint, "weights"))

    def line(self, layer: str, happened: Happening, reason: str) -> None:
        self.lines.append(Line(layer, happened, reason))


Row = tuple[str, "Tensor"]
"Path and tensor of a weight of the model."


def load_weights_of(
    network: Network, file: ModelFile | ByLayer | ByPlace, *, by_name: bool = False, skip_mismatch: bool = False
) -> Transfer:
    """Overwrite the network's weights with those of a file, as Keras's `load_weights` would.

    Layers with weights are taken in their order, or those of one name with `by_name`. `skip_mismatch` leaves weights
    of another shape as they are, and by name layers of another number of weights too. Where a layer was trained in the
    file and is frozen here (or the other way round), Keras lists its weights in another order, and puts a moving mean
    into gamma; here they go by their names, when the file has them.
    https://keras.io/api/models/model_saving_apis/weights_saving_and_loading/#load_weights-method

    Raises:
        RecipeError: the file does not fit the model; every misfit at once, and nothing is written.
    """
    plan = _Plan(skip_mismatch)
    if isinstance(file, ModelFile):
        file = ByLayer(tuple(Saved(name, (), tuple(arrays)) for name, arrays in file.weights.items()))
    if isinstance(file, ByPlace):
        if by_name:
            found = "expected layers by name, found a .weights.h5 file, which has places by class and no names"
            raise RecipeError(found, path=(*PATH, "by_name"), hint="leave by_name out, or load from a model's .h5")
        _by_place(plan, network, file)
    elif by_name:
        _by_name(plan, network, file)
    else:
        _in_order(plan, network, file)
    if plan.problems:
        raise RecipeError(*plan.problems)
    with torch.no_grad():
        for tensor, values in plan.writes:
            tensor.copy_(torch.from_numpy(np.require(values, requirements=["C", "W"])))
    return Transfer(tuple(plan.lines))


def _rows(network: Network) -> dict[str, list[Row]]:
    """The weights of each layer, those that train first."""
    return {n: [(path, t) for _, path, t, _ in network.cell(n).rows()] for n in network.graph.layers}


def _in_order(plan: _Plan, network: Network, file: ByLayer) -> None:
    """The first layer with weights from the first one of the file, and so on."""
    here = {name: rows for name, rows in _rows(network).items() if rows}
    there = [saved for saved in file.layers if saved.arrays]
    if len(here) != len(there):
        found = f"found {_listed([s.layer for s in there])} in the file and {_listed(list(here))} here"
        plan.wrong(f"expected as many layers with weights, {found}", NAMES)
        return
    for (name, rows), saved in zip(here.items(), there, strict=True):
        called = name if name == saved.layer else f"{name} (from {clean(saved.layer)} in the file)"
        if len(rows) != len(saved.arrays):
            plan.wrong(f"{called}: {_counts(saved, rows)}", NAMES)
        else:
            _layer(plan, name, called, rows, saved)
    _top(plan, file, skip=False)


def _by_name(plan: _Plan, network: Network, file: ByLayer) -> None:
    """Layers of the names that the file has, wherever they stand."""
    here = _rows(network)
    there = {saved.layer: saved for saved in file.layers}
    for name, rows in here.items():
        saved = there.get(name)
        if saved is None:
            if rows:
                plan.line(name, "left", "no layer of that name in the file")
        elif len(rows) == len(saved.arrays):
            _layer(plan, name, name, rows, saved)
        elif plan.skip:
            plan.line(name, "skipped", _counts(saved, rows))
        else:
            plan.wrong(f"{name}: {_counts(saved, rows)}", "skip_mismatch: true leaves such layers as they are")
    for saved in file.layers:
        if saved.arrays and saved.layer not in here:
            plan.line(saved.layer, "absent", "no layer of that name here")
    _top(plan, file, skip=plan.skip)


def _top(plan: _Plan, file: ByLayer, *, skip: bool) -> None:
    """Weights of the model itself, of which ours has none."""
    count = len(file.top.arrays) if file.top is not None else 0
    if not count:
        return
    found = f"{_weights(count)} of the model itself in the file, none here"
    if skip:
        plan.line("the model itself", "skipped", found)
    else:
        plan.wrong(found, "by_name: true with skip_mismatch: true leaves them out")


def _layer(plan: _Plan, name: str, called: str, rows: list[Row], saved: Saved) -> None:
    """A layer whose number of weights is right."""
    order = _order(rows, saved.names)
    arrays = [saved.arrays[i] for i in order]
    fits = [tuple(t.shape) == a.shape for (_, t), a in zip(rows, arrays, strict=True)]
    misfits = [_misfit(row, a) for row, a, fit in zip(rows, arrays, fits, strict=True) if not fit]
    if misfits and not plan.skip:
        for misfit in misfits:
            plan.wrong(f"{called}: {misfit}", "skip_mismatch: true leaves such weights as they are")
        return
    plan.writes += [(t, a) for (_, t), a, fit in zip(rows, arrays, fits, strict=True) if fit]
    if not rows:
        return
    said = _weights(len(rows)) + (f" of {saved.layer}" if saved.layer != name else "")
    said += "" if order == sorted(order) else ", by their names: the file lists them in another order"
    happened: Happening = "skipped" if not any(fits) else "in part" if misfits else "loaded"
    plan.line(name, happened, "; ".join(misfits) if misfits else said)


def _order(rows: list[Row], names: Sequence[str]) -> list[int]:
    """Which of the file's weights each of ours is: that of its name where the order of names differs, else its turn.

    Names are compared by as much of their ends as tells them apart.
    """
    ours = [path.split("/") for path, _ in rows]
    theirs = [name.removesuffix(":0").split("/") for name in names]
    for length in range(max(map(len, ours), default=0), 0, -1):
        mine, found = (["/".join(parts[-length:]) for parts in side] for side in (ours, theirs))
        if Counter(mine) == Counter(found) and (length == 1 or len({*mine}) == len(mine)):
            left = {name: [i for i, n in enumerate(found) if n == name] for name in found}
            return [left[name].pop(0) for name in mine]
    return list(range(len(rows)))


def _by_place(plan: _Plan, network: Network, file: ByPlace) -> None:
    """Each part of the model from its place; as in Keras, what comes after a misfit in a part is left too."""
    lines: dict[str, list[tuple[Part, int, str]]] = {}
    for part in parts(network):
        held = file.at(part.place)
        fitting, misfit = _part(part, held)
        if misfit and not plan.skip:
            plan.wrong(f"{part.layer}: {misfit}", "skip_mismatch: true leaves such weights as they are")
        plan.writes += [(t, held[str(i)]) for i, (_, t) in enumerate(part.weights[:fitting])]
        lines.setdefault(part.layer, []).append((part, fitting, misfit))
    for layer, found in lines.items():
        wanted, loaded = sum(len(p.weights) for p, _, _ in found), sum(n for _, n, _ in found)
        misfits = "; ".join(m for _, _, m in found if m)
        if misfits:
            nothing = not any(file.at(p.place) for p, _, _ in found)
            plan.line(layer, "in part" if loaded else "left" if nothing else "skipped", misfits)
        elif wanted:
            plan.line(layer, "loaded", _weights(wanted))


def _part(part: Part, held: dict[str, numpy.ndarray]) -> tuple[int, str]:
    """How many weights of a part fit, up to the first that does not, and what that is."""
    if len(held) != len(part.weights):
        place = f" at {part.place}" if part.place else " of the model itself"
        return 0, f"{_weights(len(held))}{place} in the file, {len(part.weights) or 'none'} here"
    for i, row in enumerate(part.weights):
        if str(i) not in held:
            return i, f"{row[0]}: no number {i} at {part.place} in the file"
        if tuple(row[1].shape) != held[str(i)].shape:
            rest = len(part.weights) - i - 1
            return i, _misfit(row, held[str(i)]) + (f" ({rest} more after it left too)" if rest else "")
    return len(part.weights), ""


def _misfit(row: Row, values: numpy.ndarray) -> str:
    path, tensor = row
    return f"{path.partition('/')[2]}: shape {values.shape} in the file, {tuple(tensor.shape)} here"


def _counts(saved: Saved, rows: list[Row]) -> str:
    return f"{_weights(len(saved.arrays))} in the file, {len(rows) or 'none'} here"


def _weights(count: int) -> str:
    return f"{count or 'no'} weight{'s' * (count != 1)}"


def _listed(names: Sequence[str], most: int = 12) -> str:
    """`3 (conv, dense, out)`, with an end to long lists."""
    if not names:
        return "none"
    shown: Iterator[str] = map(clean, names[:most])
    return f"{len(names)} ({', '.join(shown)}{', …' * (len(names) > most)})"
