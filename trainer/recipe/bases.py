"""A model on a trained base: the layers of a run up to one of them stand before the recipe's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from trainer.errors import Path, RecipeError, TrainerError, nearest
from trainer.layers.base import DType
from trainer.layers.lines import Again, Line, in_turn, layer_names
from trainer.layers.wiring import ONE_INPUT, PART
from trainer.recipe.compile import PRECISIONS
from trainer.recipe.dataset import Dataset
from trainer.recipe.features import default_features
from trainer.recipe.model import Base, Model
from trainer.recipe.nodes import Moved
from trainer.recipe.tree import Spot, Tree

FindRun = Callable[[str], FilePath]
"From the word for a run (a path, a name, `last`) to its directory."
AT = ("model", "base")
LAYERS = ("model", "layers")


@dataclass(frozen=True)
class Stack:
    """The model of a trained run."""

    model: Model
    inputs: tuple[str, ...]
    "What the run's recipe calls its inputs."
    foreign: Mapping[str, str] = field(default_factory=dict)
    "Classes that plugins of the run declare and those of the recipe do not, with the plugin's file."


def on_base(tree: Tree, read: Callable[[FilePath], Stack], find_run: FindRun | None) -> Tree:
    """A recipe whose `model.base` is written out: layers, and the weights that they begin with.

    `read` gives the model of a run's directory.

    Raises:
        RecipeError: there is no such run or layer; paths are those of the text.
        ValidationError: the block is faulty.
    """
    model = tree.value.get("model") if isinstance(tree.value, dict) else None
    asked = model.get("base") if isinstance(model, dict) else None
    if not isinstance(model, dict) or asked is None or not isinstance(model.get("layers"), list):
        return tree
    base = Base.read(asked)
    if model.get("weights") is not None:
        raise RecipeError("a model with a base begins with the weights of its base", path=("model", "weights"))
    directory = _directory(base.from_, find_run)
    try:
        lines = _Taken(read(directory), base, inputs_of(tree.value), _dtype(tree.value)).lines()
    except TrainerError as error:
        raise RecipeError(*(p.at(*AT) if not p.path else p for p in error.problems)) from None
    return _with_lines(tree, lines, directory, base.trainable)


def _directory(word: str, find_run: FindRun | None) -> FilePath:
    at = (*AT, "from")
    if find_run is None:
        raise RecipeError("a base is a trained run, and no folder of runs is known here", path=at)
    try:
        return find_run(word)
    except TrainerError as error:
        hint = error.problems[0].hint
        if word.endswith((".h5", ".keras")):
            hint = "a base is a run, whose recipe says its layers; model.weights.from takes weights out of a file"
        raise RecipeError(error.problems[0].message, path=at, hint=hint, code="unknown-run") from None


def inputs_of(value: Mapping[str, Any]) -> list[str] | None:
    """Names of the inputs of a recipe that is not checked yet; None where they can't be told."""
    said = value["model"].get("inputs")
    if isinstance(said, dict):
        return [str(name) for name in said]
    try:
        dataset = Dataset.read(value.get("dataset"))
        return list(default_features(dataset, dataset.source.fields())[0])
    except (ValidationError, TrainerError):
        return None


def _dtype(value: dict[str, Any]) -> Any:
    """The number type of a recipe's layers that say none."""
    compiled = value.get("compile")
    asked = compiled.get("precision") if isinstance(compiled, dict) else None
    return PRECISIONS.get(str(asked)) or value["model"].get("dtype", "float32")


def _with_lines(tree: Tree, lines: list[dict[str, Any]], directory: FilePath, trainable: bool) -> Tree:
    """The recipe with the lines of its base, and with their weights; what is frozen of it is named."""
    model, shift = tree.value["model"], len(lines)
    names = [next(iter(line.values()))["name"] for line in lines if "layer" not in line]
    made = {k: v for k, v in model.items() if k != "base"} | {"layers": [*lines, *model["layers"]]}
    made["weights"] = {"from": str(directory.resolve()), "by_name": True, "only": names}
    frozen = model.get("frozen")
    if not trainable and isinstance(frozen, (str, list, type(None))):
        made["frozen"] = [*([frozen] if isinstance(frozen, str) else frozen or []), *names]
    whole = tree.spots[AT]
    spots = dict(_shifted(tree.spots, shift))
    for path in (*((*LAYERS, i) for i in range(shift)), ("model", "weights"), ("model", "frozen")):
        spots.setdefault(path, Moved(whole.value, whole.key, AT))
    return Tree({**tree.value, "model": made}, spots)


def _shifted(spots: Mapping[Path, Spot], shift: int) -> Iterator[tuple[Path, Spot]]:
    """The spots with those of layers moved on, which still know what the text calls them."""
    for path, spot in spots.items():
        index = path[2] if path[:2] == LAYERS and len(path) > 2 else None
        if not isinstance(index, int):
            yield path, spot
            continue
        source, use = (spot.source, spot.use) if isinstance(spot, Moved) else (path, None)
        yield (*LAYERS, index + shift, *path[3:]), Moved(spot.value, spot.key, source, use)


class _Taken:
    """The lines of a model up to a layer, and no others, each under the name that it has."""

    def __init__(self, stack: Stack, base: Base, inputs: Sequence[str] | None, dtype: DType):
        self.stack, self.base, self.mine, self.dtype = stack, base, inputs, dtype
        self.held: Sequence[Line] = stack.model.layers
        self.names = _all_named(self.held)
        self.reads = [self._reads(index) for index in range(len(self.held))]

    def lines(self) -> list[dict[str, Any]]:
        """The lines as a recipe writes them.

        Raises:
            RecipeError: the model has no such layer, or the recipe lacks what the lines need.
        """
        last = self._last()
        needed = self._needed(last)
        order = [*sorted(needed - {last}), last]
        used = dict.fromkeys(n for i in order for n in self.reads[i] if _whole(n) not in self.names)
        called = self._inputs(list(used))
        firsts = self._first_calls(order)
        called |= {self.names[call]: self.names[layer] for layer, call in firsts.items()}
        layers = {call: layer for layer, call in firsts.items()}
        lines = [self._line(layers.get(i, i), i, called) for i in order]
        foreign = next((n for line in lines for n in _words(line) if n in self.stack.foreign), None)
        if foreign is not None:
            file = self.stack.foreign[foreign]
            message = f"the base holds {foreign}, which is declared by {file}, a plugin of its run"
            raise RecipeError(message, path=AT, hint=f"copy {file} beside the recipe, and write plugins: [{file}]")
        return lines

    def _last(self) -> int:
        known = [
            n for n, line in zip(self.names, self.held, strict=True) if isinstance(line, Again) or not line.is_input
        ]
        if self.base.until not in known:
            hint = nearest(self.base.until, known) or f"its layers are {', '.join(known[:12])}"
            message = f'the model of the run has no layer "{self.base.until}"'
            raise RecipeError(message, path=(*AT, "until"), hint=hint)
        return self.names.index(self.base.until)

    def _needed(self, last: int) -> set[int]:
        """The lines that lead to the last one."""
        needed: set[int] = set()
        todo = [last]
        while todo:
            index = todo.pop()
            if index not in needed:
                needed.add(index)
                todo += [self.names.index(_whole(n)) for n in self.reads[index] if _whole(n) in self.names]
        return needed

    def _reads(self, index: int) -> list[str]:
        """The names of what a line reads: of layers, or of inputs as the run calls them."""
        line = self.held[index]
        if line.inputs is None:
            read = [self.names[index - 1] if index else ONE_INPUT]
        else:
            read = in_turn(line.inputs, () if isinstance(line, Again) else line.arguments())
        return [self._meant(name) for name in read]

    def _meant(self, name: str) -> str:
        """A name with that of an input in place of an InputLayer's, or of `input`."""
        found = self.held[self.names.index(name)] if name in self.names else None
        is_input = found is not None and not isinstance(found, Again) and found.is_input
        if len(self.stack.inputs) == 1 and (is_input or name == ONE_INPUT):
            return self.stack.inputs[0]
        return name

    def _inputs(self, used: list[str]) -> dict[str, str]:
        """What the recipe calls the inputs that the base reads."""
        if len(used) == 1 and (self.mine is None or len(self.mine) == 1):
            return {used[0]: ONE_INPUT}
        for name in used:
            if self.mine is not None and name not in self.mine:
                message = f'the base reads an input "{name}"; the inputs of this recipe are {", ".join(self.mine)}'
                raise RecipeError(message, path=AT, hint=f"call the one that it shall read {name}, in dataset.inputs")
        return {}

    def _first_calls(self, order: Sequence[int]) -> dict[int, int]:
        """Layers that are taken without their own line, and the first call of them, which takes its place.

        Raises:
            RecipeError: that call says what only later ones can.
        """
        found: dict[int, int] = {}
        for index in order:
            line = self.held[index]
            layer = self.names.index(line.layer) if isinstance(line, Again) else index
            if layer in order or layer in found:
                continue
            found[layer] = index
            if isinstance(line, Again) and line.call:
                message = (
                    f"{self.names[index]} calls {self.names[layer]} in a way of its own, and no line before it is taken"
                )
                raise RecipeError(message, path=(*AT, "until"), hint=f"name a layer that reads {self.names[layer]} too")
        return found

    def _line(self, index: int, call: int, called: Mapping[str, str]) -> dict[str, Any]:
        """The line of a layer as it is called by a line, its own or another."""
        line, asked, name = self.held[index], self.held[call], self.names[index]
        inputs: Any = [self._called(n, called) for n in self.reads[call]]
        if isinstance(asked.inputs, dict):
            inputs = {k: [self._called(self._meant(n), called) for n in v] for k, v in asked.inputs.items()}
        if isinstance(line, Again):
            return {"layer": line.layer, "inputs": inputs, "name": name, "call": dict(line.call)}
        spec = (line if self.stack.model.dtype == self.dtype else line.typed(self.stack.model.dtype)).spec()
        ((kind, options),) = spec.items() if isinstance(spec, dict) else ((spec, {}),)
        return {kind: {**options, "name": name, "inputs": inputs}}

    def _called(self, name: str, called: Mapping[str, str]) -> str:
        whole, slash, part = name.partition(PART)
        return f"{called.get(whole, whole)}{slash}{part}"


def _all_named(lines: Sequence[Line]) -> list[str]:
    """The names of lines; a later call of a layer without one is `conv_again`."""
    names = layer_names(lines)
    taken = {n for n in names if n is not None}
    for index, line in enumerate(lines):
        if isinstance(line, Again) and names[index] is None:
            name, number = f"{line.layer}_again", 1
            while name in taken:
                name, number = f"{line.layer}_again_{number}", number + 1
            taken.add(name)
            names[index] = name
    return [n for n in names if n is not None]


def _whole(name: str) -> str:
    """The layer of `lstm/1`."""
    return name.partition(PART)[0]


def _words(value: Any) -> Iterator[str]:
    """All texts in a value, keys of mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _words(inner)


def pinned(tree: Tree, folder: FilePath, find_run: FindRun | None) -> Tree:
    """A recipe whose `model.weights.from` says which run is meant, where a name or `last` would soon be another one.

    A word that means no run is left as it is: it may be a file, which is looked for when it is read.
    """
    model = tree.value.get("model") if isinstance(tree.value, dict) else None
    weights = model.get("weights") if isinstance(model, dict) else None
    word = weights.get("from") if isinstance(weights, dict) else None
    if not isinstance(model, dict) or not isinstance(weights, dict) or not isinstance(word, str) or not word:
        return tree
    if find_run is None:
        return tree
    try:
        if (folder / word).is_file():
            return tree
        run = find_run(word).resolve()
    except (TrainerError, OSError, ValueError):
        return tree
    return Tree({**tree.value, "model": {**model, "weights": {**weights, "from": str(run)}}}, tree.spots)
