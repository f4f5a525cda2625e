"""Uses of blocks replaced by the layers of the blocks.

The last layer of a use has the use's name, the others are called `fire2_squeezed`; of a use that is repeated the last
repetition has the use's name, those before it are `fire2_1`, `fire2_2`. All names are made on the way in, so that a
layer of a block never means one outside of it. Every value keeps its place in the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainer.errors import Path, Problem, RecipeError
from trainer.layers.wiring import ONE_INPUT
from trainer.recipe.asked import Asked, Values
from trainer.recipe.blocks import Blocks, Template
from trainer.recipe.filling import filled
from trainer.recipe.nodes import (
    BLOCKS,
    LAYERS,
    MODELS,
    Node,
    Use,
    calls_again,
    flat,
    kind_of,
    names_of,
    node_of,
    option,
    plain,
    size_of,
    with_option,
)
from trainer.recipe.scopes import LayerList, Scope
from trainer.recipe.tree import Spot, Tree

MOST_LINES, MOST_DEPTH, MOST_VALUES = 5_000, 8, 100_000


def expanded(tree: Tree) -> Tree:
    """A recipe whose uses of blocks are replaced by their layers.

    Raises:
        RecipeError: with every mistake of a block or of its use; paths are those of the text.
    """
    model = tree.value.get("model") if isinstance(tree.value, dict) else None
    if not isinstance(model, dict) or model.get("blocks") is None:
        return tree
    replacer, layers = _Replacer(Blocks.read(node_of(tree, BLOCKS))), model.get("layers")
    spots = {p: s for p, s in tree.spots.items() if p[:2] not in (BLOCKS, LAYERS)}
    if isinstance(layers, list):
        layers = replacer.whole(node_of(tree, LAYERS), _begun(tree.value), spots)
    if replacer.problems:
        raise RecipeError(*replacer.problems.values())
    made = {k: layers if k == "layers" else v for k, v in model.items() if k != "blocks"}
    return Tree({**tree.value, "model": made}, spots)


def _begun(recipe: Mapping[Any, Any]) -> LayerList:
    """The model's layer list before its first line, with what the recipe says of its inputs."""
    model, dataset = recipe["model"], recipe.get("dataset")
    base = model.get("base")
    if isinstance(base, dict):
        return LayerList((ONE_INPUT,), str(base.get("until")))
    for part in (model, dataset):
        inputs = part.get("inputs") if isinstance(part, dict) else None
        if isinstance(inputs, dict) and inputs:
            return LayerList(tuple(map(str, inputs)), ONE_INPUT)
    return LayerList((ONE_INPUT,), ONE_INPUT)


class _Enough(Exception):
    """More layers or values than a recipe may have."""


class _Replacer:
    """Replaces uses of blocks by their layers."""

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.problems: dict[Any, Problem] = {(p.message, p.path): p for p in blocks.problems}
        "Each is kept once, however often the block is used."
        self.mistakes = 0
        "How often one was met, kept already or not."
        self.lines = self.values = 0

    def wrong(self, message: str, path: Path, hint: str = "", on_key: bool = False) -> None:
        self._keep(Problem(message, path, hint, "block", None, on_key))

    def _keep(self, problem: Problem) -> None:
        self.mistakes += 1
        self.problems.setdefault((problem.message, problem.path), problem)

    def whole(self, layers: Node, begun: LayerList, spots: dict[Path, Spot]) -> list[Any]:
        """The layer list of the recipe's model as plain values, whose places are noted in `spots`."""
        try:
            made = self.listed(layers.value, begun, Scope())
        except _Enough:
            return []
        return flat(replace(layers, value=made), LAYERS, spots)

    def listed(self, source: Sequence[Node], made: LayerList, around: Scope) -> list[Node]:
        """The lines of a model's layer list."""
        names = names_of(source, self.blocks)
        scope = Scope(self._uses(source, names), around.within, around.use)
        for line, name in zip(source, names, strict=True):
            self._not_a_use(line, scope)
            self._line(line, name, made, scope)
        return made.lines

    def _uses(self, lines: Sequence[Node], names: Sequence[str | None]) -> frozenset[str]:
        return frozenset(n for n, line in zip(names, lines, strict=True) if n and kind_of(line) in self.blocks)

    def _line(self, line: Node, name: str | None, made: LayerList, scope: Scope) -> None:
        """Add a line, in which names are those of the model; `name` is what it is called."""
        self._grow(line, scope.use, lines=1)
        kind = kind_of(line)
        block = self.blocks.sound.get(str(kind))
        if block is not None:
            self._use(Asked(block, line, name or block.name, self.wrong), made, scope)
        elif kind not in self.blocks:
            self._add(self._inside(line, scope), name, made, scope.use)

    def _grow(self, line: Node, use: Use | None, lines: int = 0, values: int = 0) -> None:
        self.lines, self.values = self.lines + lines, self.values + values
        if self.lines > MOST_LINES or self.values > MOST_VALUES:
            most = f"{MOST_LINES:,} layers" if self.lines > MOST_LINES else f"{MOST_VALUES:,} values"
            path = use.path if use is not None else line.path
            self.wrong(f"expected blocks that make at most {most} in all, found more", path)
            raise _Enough

    def _add(self, line: Node, name: str | None, made: LayerList, use: Use | None) -> None:
        other = made.named.get(name) if name is not None else None
        if other is not None and (use is None or other.use != use):
            self._taken(str(name), other, use.path if use is not None else (option(line, "name") or line).path)
        line = replace(line, use=use)
        made.lines.append(line)
        made.last = name
        if name is not None:
            made.named.setdefault(name, line)

    def _taken(self, name: str, other: Node, path: Path) -> None:
        place = other.use.place if other.use is not None else other.spot.value
        message = f'two layers are called "{name}"; the other one comes from line {place.line}'
        # One name is enough: with it all names of a use are those of another.
        if ("name", path) not in self.problems:
            hint = "layer names must differ: give one of the two another name"
            self.problems["name", path] = Problem(message, path, hint, "block")
        self.mistakes += 1

    def _inside(self, node: Node, scope: Scope) -> Node:
        """A layer in which the layer lists of models have their uses replaced."""
        if not isinstance(node.value, dict):
            return node
        return replace(node, value={key: self._entry(key, inner, scope) for key, inner in node.value.items()})

    def _entry(self, key: Any, node: Node, scope: Scope) -> Node:
        layers = node.value.get("layers") if key in MODELS and isinstance(node.value, dict) else None
        if layers is None or not isinstance(layers.value, list):
            return self._inside(node, scope)
        inputs = plain(node.value.get("inputs"))
        names = tuple(map(str, inputs)) if isinstance(inputs, dict) and inputs else (ONE_INPUT,)
        lines = self.listed(layers.value, LayerList(names, ONE_INPUT), scope)
        return node.holds("layers", replace(layers, value=lines))

    def _use(self, asked: Asked, made: LayerList, scope: Scope) -> None:
        """Add the layers of one use, with all its repetitions."""
        known = self.mistakes
        if asked.name in made.named:
            self._taken(asked.name, made.named[asked.name], (option(asked.line, "name") or asked.line).path)
        self._may_stand(asked, scope)
        asked.check()
        rounds, reads = asked.rounds(), asked.reads(made)
        if self.mistakes > known:
            return
        for number, values in enumerate(rounds, 1):
            prefix = asked.name if len(rounds) == 1 else f"{asked.name}_{number}"
            last = asked.name if number == len(rounds) else prefix
            self._once(asked, values, (prefix, last), reads, made, scope)
            # The next repetition reads what this one made; further inputs stay.
            handed = [Node(last, asked.line.spot, asked.line.path), *reads[1:]]
            reads = handed if asked.block.names_its_input else []

    def _may_stand(self, asked: Asked, scope: Scope) -> None:
        if asked.block.name in scope.within:
            steps = " in ".join([asked.block.name, *reversed(scope.within)])
            self.wrong(f"a block can't stand in itself: {steps}", asked.line.path, "repeat a block with `times`")
        elif len(scope.within) >= MOST_DEPTH:
            self.wrong(f"expected blocks in blocks at most {MOST_DEPTH} deep, found more", asked.line.path)

    def _once(
        self,
        asked: Asked,
        values: Values,
        called: tuple[str, str],
        reads: list[Node],
        made: LayerList,
        scope: Scope,
    ) -> None:
        """Add the layers of one repetition; `called` is how their names begin, and the name of the last one."""
        lines = self._filled(asked, values, scope)
        names = names_of(lines, self.blocks)
        self._differ(asked.block, lines, names)
        own = [None if name is None else f"{called[0]}_{name}" for name in names[:-1]] + [called[1]]
        inner = self._scope(asked, lines, list(zip(names, own, strict=True)), reads, scope)
        for index, (line, name) in enumerate(zip(lines, own, strict=True)):
            self._not_a_use(line, inner)
            moved = inner.translated(line, self.blocks.sound)
            if name is not None:
                of = asked.line if index == len(lines) - 1 else line
                given = option(of, "name") or of
                moved = with_option(moved, "name", Node(name, given.spot, given.path))
            if index == 0 and reads and option(line, "inputs") is None:
                moved = with_option(moved, "inputs", reads[0])
            self._line(moved, name, made, inner)
        for problem in () if self.problems else inner.strangers(lines, made, self.blocks.sound):
            self._keep(problem)

    def _scope(
        self,
        asked: Asked,
        lines: Sequence[Node],
        names: Sequence[tuple[str | None, str | None]],
        reads: Sequence[Node],
        around: Scope,
    ) -> Scope:
        """What names mean in the lines of one repetition; `names` are those in the block, with those in the model."""
        root = around.use or Use("", asked.line.spot.value, asked.line.path)
        return Scope(
            self._uses(lines, [name for name, _ in names]),
            (*around.within, asked.block.name),
            replace(root, name=str(names[-1][1])),
            asked.block,
            {name: own for name, own in names if name is not None and own is not None},
            dict(zip(asked.block.inputs, reads, strict=False)),
        )

    def _filled(self, asked: Asked, values: Values, scope: Scope) -> list[Node]:
        """The lines of a block with the values of their parameters, none of them larger than the rest can take."""
        problems: list[Problem] = []
        lines = [filled(line, values, problems) for line in asked.block.lines]
        for problem in problems:
            self._keep(problem)
        for line in lines:
            self._grow(asked.line, scope.use, values=size_of(line, MOST_VALUES))
        return lines

    def _differ(self, block: Template, lines: Sequence[Node], names: Sequence[str | None]) -> None:
        """Refuse two layers of one name in a block, and a layer with the name of an input."""
        seen: set[str | None] = set()
        for line, name in zip(lines, names, strict=True):
            path = (option(line, "name") or line).path
            if name in block.inputs:
                message = f'"{name}" is an input of the block {block.name} already'
                self.wrong(message, path, "give the layer another name")
            elif name is not None and name in seen:
                self.wrong(f'two layers of the block {block.name} are called "{name}"', path, "layer names must differ")
            seen.add(name)

    def _not_a_use(self, line: Node, scope: Scope) -> None:
        again = calls_again(line, self.blocks)
        if again is not None and again in scope.uses:
            hint = "use the block once more; or write a Model, which can be called again with its weights"
            self.wrong(f'"{again}" is a use of a block, which is no layer that could be called again', line.path, hint)
